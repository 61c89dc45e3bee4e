/** The pieces that sections are put together from: cards, figures in a row, badges, tables. */

import { h, prose } from "./dom.js";
import { icon } from "./icons.js";

/**
 * A titled card.
 * @param {{title: string, note?: string, tools?: any, size?: string, id?: string}} about
 * @param {...any} content
 */
export function card({ title, note = "", tools = null, size = "", id = null }, ...content) {
  return h("section", { class: `card ${size}`, "aria-label": title, id },
    h("div", { class: "card-head" },
      h("h3", {}, title),
      note && h("span", { class: "muted" }, note),
      tools && h("div", { class: "card-tools" }, tools)),
    content);
}

/** Figures in a row. @param {Array<{name: string, value: string, unit?: string, under?: string, tone?: string}>} list */
export function stats(list) {
  return h("dl", { class: "stats" }, list.map(({ name, value, unit, under, tone }) =>
    h("div", { class: "stat", "data-tone": tone },
      h("dt", {}, name),
      h("dd", {}, h("span", { class: "num" }, value), unit && h("span", { class: "unit" }, unit),
        under && h("div", { class: "under num" }, under)))));
}

/** A word on a coloured ground; its icon says the same without the colour. */
export function badge(text, tone = "", iconName = null) {
  return h("span", { class: "badge", "data-tone": tone }, iconName && icon(iconName), text);
}

/**
 * A table. Cells are text or nodes.
 * @param {{caption: string, columns: Array<{name: string, numeric?: boolean}>, rows: Array<Array<any>>, hideCaption?: boolean}} about
 */
export function table({ caption, columns, rows, hideCaption = true }) {
  const cell = (content, i) => (i === 0
    ? h("th", { scope: "row" }, content)
    : h("td", { class: columns[i].numeric ? "num" : null }, content));
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption, "data-scroll": caption, "data-key": `table ${caption}` },
    h("table", {},
      h("caption", { class: hideCaption ? "unseen" : null }, caption),
      h("thead", {}, h("tr", {}, columns.map((c) => h("th", { scope: "col", class: c.numeric ? "num" : null }, c.name)))),
      h("tbody", {}, rows.map((row) => h("tr", {}, row.map(cell))))));
}

/** What stands where there is nothing yet: what is missing, and what to do. */
export function empty(what, todo) {
  return h("div", { class: "empty" }, icon("empty"), h("strong", {}, what), h("p", {}, prose(todo)));
}

/** A message in a box. @param {string} text @param {string} [tone] */
export function note(text, tone = "") {
  return h("p", { class: "note", "data-tone": tone }, prose(text));
}

/** A row of exclusive choices. @param {string} label @param {Array<[string, string]>} options value, text */
export function choice(label, options, chosen, pick) {
  return h("div", { class: "choice", role: "group", "aria-label": label }, options.map(([value, text]) =>
    h("button", {
      type: "button", "aria-pressed": String(value === chosen), "data-key": `choice ${label} ${value}`,
      onclick: () => pick(value),
    }, text)));
}

/** A select with its label. */
export function picker(label, options, chosen, pick) {
  const select = h("select", { "aria-label": label, "data-key": `picker ${label}`, onchange: () => pick(select.value) },
    options.map(([value, text]) => h("option", { value, selected: value === chosen }, text)));
  return h("label", { class: "field" }, h("span", {}, label), select);
}

/** Names and values. @param {Array<[string, any]>} pairs those without a value are left out */
export function facts(pairs) {
  return h("dl", { class: "facts" }, pairs.filter(([, value]) => value !== null && value !== undefined && value !== "")
    .map(([name, value]) => [h("dt", {}, name), h("dd", { class: "num" }, value)]));
}
