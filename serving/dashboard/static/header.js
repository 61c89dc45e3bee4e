/** The header: name, event-time clock, connection, colours. */

import { refill } from "./dom.js";
import { instant, span, zoneName } from "./format.js";
import { icon } from "./icons.js";
import { held, onChange } from "./store.js";

const CHOICES = ["auto", "light", "dark"];
const SAID = { auto: "as the system", light: "light", dark: "dark" };

/** @returns {string} the pipeline's time zone, UTC until it is known */
export const zone = () => held("overview")?.timezone ?? "UTC";

/** @returns {(state: "live"|"away") => void} what is to be told of the connection */
export function setUpHeader() {
  let state = "waiting";
  const at = (id) => document.getElementById(id);

  const connection = () => {
    const broker = held("overview")?.broker;
    const text = state === "away" ? "Dashboard away" : broker === "away" ? "Broker away" : state === "live" ? "Live" : "Connecting";
    const shown = state === "live" && broker === "away" ? "away" : state;
    if (at("connection").dataset.state !== shown) at("connection").dataset.state = shown;
    if (at("connection-text").textContent !== text) at("connection-text").textContent = text;
  };

  const show = () => {
    const overview = held("overview");
    if (!overview) return;
    document.title = overview.standing.length ? `(${overview.standing.length}) ${overview.pipeline} · kappa` : `${overview.pipeline} · kappa`;
    at("pipeline").textContent = overview.pipeline;
    at("versions").textContent = `features v${overview.definition} · ${overview.live ? `model ${overview.live}` : "prior"} live`;
    const newest = overview.newest_event_ms;
    at("clock").textContent = newest === null ? "no event yet" : `${instant(newest, overview.timezone)} ${zoneName(newest, overview.timezone)}`;
    at("clock").title = newest === null ? "" : `Newest event time, ${overview.timezone}; ${span(Math.max(0, overview.now_ms - newest))} before the clock on the wall`;
    count(at("nav-alerts"), overview.standing.length);
    connection();
  };

  onChange((name) => name === "overview" && show());
  theme(at("theme"));
  return (now) => {
    state = now;
    connection();
  };
}

function count(link, standing) {
  link.querySelector(".count")?.remove();
  if (!standing) return;
  const badge = document.createElement("span");
  badge.className = "count";
  badge.textContent = String(standing);
  badge.setAttribute("aria-label", `${standing} standing`);
  badge.setAttribute("role", "img");
  link.append(badge);
}

function theme(button) {
  const show = () => {
    const choice = document.documentElement.dataset.choice;
    refill(button, icon(choice));
    button.setAttribute("aria-label", `Colours: ${SAID[choice]}`);
    button.title = `Colours: ${SAID[choice]}`;
  };
  button.addEventListener("click", () => {
    const now = CHOICES.indexOf(document.documentElement.dataset.choice);
    window.kappaTheme.choose(CHOICES[(now + 1) % CHOICES.length]);
    show();
  });
  show();
}
