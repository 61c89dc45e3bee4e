/** The page: which section is shown, when it is drawn again, and the header. */

import { setUpAccess } from "./access.js";
import { setUpAnnouncer } from "./announcing.js";
import { h, refill } from "./dom.js";
import { setUpHeader } from "./header.js";
import { icon } from "./icons.js";
import { follow } from "./live.js";
import { measured } from "./measuring.js";
import { empty } from "./parts.js";
import { ask, faultOf, held, onChange, want } from "./store.js";
import { section as actions } from "./sections/actions.js";
import { section as alerts } from "./sections/alerts.js";
import { section as drift } from "./sections/drift.js";
import { section as experiments } from "./sections/experiments.js";
import { section as fairness } from "./sections/fairness.js";
import { section as health } from "./sections/health.js";
import { section as overview } from "./sections/overview.js";
import { section as performanceSection } from "./sections/performance.js";
import { section as rollout } from "./sections/rollout.js";
import { section as topics } from "./sections/topics.js";
import { section as trainings } from "./sections/trainings.js";

/**
 * @typedef {{id: string, title: string, short?: string, lead: string, needs: string[],
 *   mount: (place: HTMLElement) => {update: () => void, go?: (rest: string) => void}}} Section
 * `needs`: the documents that it shows, the first one before anything can be shown.
 */

/** @type {Section[]} */
const SECTIONS = [overview, alerts, drift, performanceSection, fairness, rollout, experiments, trainings, health, topics, actions];
const APART = new Set(["drift", "rollout", "health"]);

let shown = null;
let due = false;

function navigation() {
  const links = SECTIONS.map(({ id, title, short }) =>
    h("li", { class: APART.has(id) ? "apart" : null },
      h("a", { href: `#${id}`, id: `nav-${id}` }, icon(id), h("span", {}, short ?? title))));
  document.getElementById("nav").append(h("ul", {}, links));
}

function route() {
  const [id, ...rest] = location.hash.slice(1).split("/");
  const section = SECTIONS.find((each) => each.id === id) ?? SECTIONS[0];
  if (shown?.section !== section) show(section);
  shown.parts?.go?.(decoded(rest));
}

/** What follows the section in the hash; nothing where it can't be read. */
function decoded(rest) {
  try {
    return decodeURIComponent(rest.join("/"));
  } catch {
    return "";
  }
}

function show(section) {
  const first = shown === null;
  const body = h("div", { class: "section-body" });
  const heading = h("h2", { tabindex: "-1", id: "section-title" }, section.title);
  const element = h("section", { class: "section", "aria-labelledby": "section-title" },
    h("div", { class: "section-head" }, heading, h("p", {}, section.lead)), body);
  shown = { section, body, parts: null };
  document.getElementById("main").replaceChildren(element);
  for (const each of SECTIONS) {
    const link = document.getElementById(`nav-${each.id}`);
    if (each === section) {
      link.setAttribute("aria-current", "page");
      link.scrollIntoView?.({ block: "nearest", inline: "center" });
    } else link.removeAttribute("aria-current");
  }
  scrollTo(0, 0);
  if (!first) heading.focus({ preventScroll: true });
  for (const name of section.needs) want(name);
  draw();
}

/** Draw what is shown from what is held; the time it takes is left in the page's measures. */
function draw() {
  due = false;
  const { section, body } = shown;
  const began = performance.now();
  if (held(section.needs[0]) === undefined) {
    shown.parts = null;
    refill(body, waiting(section.needs[0]));
    return;
  }
  try {
    if (shown.parts === null) {
      body.replaceChildren();
      shown.parts = section.mount(body);
      shown.parts.update();
      const rest = decoded(location.hash.split("/").slice(1));
      if (rest) shown.parts.go?.(rest);
    } else shown.parts.update();
    void body.offsetHeight; // the layout is a part of what an update costs
    measured(`draw ${section.id}`, began);
  } catch (fault) {
    console.error(fault);
    shown.parts = null;
    refill(body, empty("This section could not be drawn.", "Load the page again; if it stays, the browser's console says why."));
  }
}

function waiting(name) {
  const fault = faultOf(name);
  if (!fault) return empty("Waiting for the first figures…", "They come as soon as the server has read the log.");
  const again = h("button", { class: "button", type: "button", onclick: () => ask(name) }, "Try again");
  return h("div", {}, empty("Nothing came.", fault.message), h("div", { class: "empty" }, again));
}

function later(name) {
  if (shown === null || due || !shown.section.needs.includes(name)) return;
  due = true;
  if (document.hidden) setTimeout(draw, 200); // a hidden page gets no frames
  else requestAnimationFrame(draw);
}

navigation();
const connection = setUpHeader();
setUpAccess();
setUpAnnouncer();
onChange(later);
addEventListener("hashchange", route);
addEventListener("kappa:session", () => shown?.section.id === "actions" && draw());
addEventListener("kappa:theme", () => shown && draw()); // canvases hold the colours they were drawn in
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault(); // the hash is the section's
  document.getElementById("main").focus();
});
want("overview");
route();
follow(connection);
