/** Making elements. Data only ever becomes text nodes and attributes: nothing is parsed as HTML. */

const SVG = "http://www.w3.org/2000/svg";

/**
 * Make an HTML element.
 * @param {string} tag
 * @param {Object<string, any>} [attributes] `on...` are listeners, null and false are left out
 * @param {...(Node|string|number|null|undefined|false|Array)} children
 * @returns {any}
 */
export function h(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

/**
 * Make an SVG element; see {@link h}.
 * @returns {any}
 */
export function s(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

/** A sentence in which what stands between backquotes is code. @param {string} text */
export function prose(text) {
  return text.split("`").map((part, i) => (i % 2 ? h("code", {}, part) : part));
}

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  append(element, children);
  return element;
}

function append(element, children) {
  for (const child of children) {
    if (child === null || child === undefined || child === false) continue;
    if (Array.isArray(child)) append(element, child);
    else element.append(child instanceof Node ? child : String(child));
  }
}

/**
 * Put new content into a place, and the focus, opened details, scroll positions and what was typed
 * back to the elements of the same `data-key`.
 * @param {HTMLElement} place
 * @param {...any} children
 */
export function refill(place, ...children) {
  const active = document.activeElement;
  const focused = active && place.contains(active) ? active.getAttribute("data-key") : null;
  const opened = keys(place, "details[open][data-key]");
  const scrolled = [...place.querySelectorAll("[data-scroll]")].map((each) => [
    each.getAttribute("data-scroll"), each.scrollTop, each.scrollLeft,
  ]);
  place.replaceChildren();
  append(place, children);
  for (const each of place.querySelectorAll("details[data-key]")) {
    if (opened.has(each.getAttribute("data-key"))) each.open = true;
  }
  for (const [name, top, left] of scrolled) {
    const found = [...place.querySelectorAll("[data-scroll]")].find((e) => e.getAttribute("data-scroll") === name);
    if (found) [found.scrollTop, found.scrollLeft] = [top, left];
  }
  if (focused !== null) {
    const again = [...place.querySelectorAll("[data-key]")].find((e) => e.getAttribute("data-key") === focused);
    if (again) again.focus({ preventScroll: true });
  }
}

function keys(place, selector) {
  return new Set([...place.querySelectorAll(selector)].map((each) => each.getAttribute("data-key")));
}
