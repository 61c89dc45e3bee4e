/** New alarms, said to screen readers and shown in a corner while one looks at something else. */

import { h } from "./dom.js";
import { capital, words } from "./format.js";
import { icon } from "./icons.js";
import { whole } from "./sections/alert_item.js";
import { held, onChange } from "./store.js";

const SHOWN_MS = 12_000;
const MOST = 3;

/** Announce alerts that are confirmed or resolved from now on; those that stood before are not news. */
export function setUpAnnouncer() {
  let known = null;
  onChange((name) => {
    if (name !== "alerts") return;
    const entries = held("alerts").alerts;
    const now = new Map(entries.map((entry) => [entry.key, `${entry.newest.alert_id}/${entry.newest.state ?? ""}`]));
    const news = known === null ? [] : entries.filter((entry) => known.get(entry.key) !== now.get(entry.key));
    known = now;
    for (const entry of news.slice(0, MOST)) tell(entry);
    if (news.length > MOST) say(`and ${news.length - MOST} more alerts`);
  });
}

function tell({ key, newest: record }) {
  const newest = whole(record);
  const text = `${capital(newest.state)}: ${newest.cause}`;
  say(text);
  toast(text, newest.state === "resolved" ? "ok" : "bad", `#alerts/${encodeURIComponent(key)}`,
    newest.state === "resolved" ? "resolved" : newest.severity, words(newest.kind));
}

/** Say something to screen readers, politely. */
export function say(text) {
  document.getElementById("announcer").textContent = text;
}

/**
 * Show a message in the corner for a while; it stays while the pointer or the focus is on it.
 * @param {string} text @param {"ok"|"bad"|""} kind @param {string|null} link @param {string} iconName @param {string} linkText
 */
export function toast(text, kind = "", link = null, iconName = "info", linkText = "Open") {
  const close = h("button", { class: "button quiet icon-only small", type: "button", "aria-label": "Close the message" }, icon("close"));
  const element = h("div", { class: "toast", "data-kind": kind }, icon(iconName),
    h("div", {}, text, " ", link && h("a", { href: link }, `Open ${linkText}`)), close);
  const end = () => element.remove();
  close.addEventListener("click", end);
  const place = document.getElementById("toasts");
  place.append(element);
  while (place.children.length > MOST) place.firstChild.remove();
  const leave = () => (element.matches(":hover, :focus-within") ? setTimeout(leave, 2000) : end());
  setTimeout(leave, SHOWN_MS);
}
