/** One alert, as the lists show it. */

import { h } from "../dom.js";
import { capital, chance, instant, number, percent, span, words } from "../format.js";
import { badge, facts, table } from "../parts.js";

const TONES = { critical: "bad", warning: "warn", info: "info" };
const STATE_TONES = { confirmed: "bad", suspected: "warn", resolved: "ok" };
const STATE_ICONS = { confirmed: "critical", suspected: "suspected", resolved: "resolved" };

/** Alert records leave out what has its default: put it back. */
export const whole = (alert) => ({ state: "confirmed", severity: "warning", bins: [], related: [], ...alert });

/**
 * @param {any} entry an AlertEntry
 * @param {string} zone
 * @param {boolean} [brief] without what is folded away
 */
export function item(entry, zone, brief = false) {
  const a = whole(entry.newest);
  const about = [a.feature, a.group && `[${a.group}]`].filter(Boolean).join(" ");
  return h("li", { id: brief ? null : `alert-${entry.key}`, tabindex: brief ? null : "-1", "data-key": brief ? null : `alert ${entry.key}` },
    h("div", { class: "alert-line" },
      badge(capital(a.state), STATE_TONES[a.state], STATE_ICONS[a.state]),
      badge(capital(a.severity), TONES[a.severity], a.severity),
      h("strong", {}, `${capital(words(a.kind))}${about ? `: ${about}` : ""}`),
      h("time", { datetime: new Date(a.window.end_ms).toISOString(), class: "num" }, instant(a.window.end_ms, zone))),
    h("p", { class: "alert-cause" }, a.cause),
    h("div", { class: "alert-facts num" },
      fact(words(a.metric), `${number(a.value)} (limit ${number(a.threshold)})`),
      fact("effect", a.effect === null || a.effect === undefined ? null : number(a.effect)),
      fact("adjusted p", a.p_value === null || a.p_value === undefined ? null : chance(a.p_value)),
      fact("events", a.n.toLocaleString("en-US")),
      fact("began", a.onset ? instant(a.onset.time_ms, zone) : null),
      fact("loss", a.impact === null || a.impact === undefined ? null : `${a.impact >= 0 ? "+" : ""}${number(a.impact)}`),
      fact("action", a.action)),
    !brief && more(entry, zone));
}

function fact(name, value) {
  return value === null ? null : h("span", {}, `${name} `, h("b", {}, value));
}

function more({ key, newest, states, since_ms }, zone) {
  const a = whole(newest);
  const onset = a.onset?.offset === undefined || a.onset.offset === null ? null
    : `partition ${a.onset.partition}, offset ${a.onset.offset}${a.onset.topic ? ` of ${a.onset.topic}` : ""}`;
  return h("details", { "data-key": `more ${key}` }, h("summary", { "data-key": `summary ${key}` }, "Everything about it"),
    h("div", { class: "stack" },
      facts([
        ["Window", `${instant(a.window.start_ms, zone)} to ${instant(a.window.end_ms, zone)} (${span(a.window.end_ms - a.window.start_ms)})`],
        ["Model", a.model_version ? `version ${a.model_version}` : "the prior"],
        ["Compared with", a.reference],
        ["Standing since", instant(since_ms, zone)],
        ["Onset", onset],
        ["Key", h("code", {}, key)],
        ["Page", a.link ? h("a", { href: a.link }, a.link) : null],
      ]),
      a.bins?.length ? table({
        caption: "Most shifted bins", hideCaption: false,
        columns: [{ name: "Bin" }, { name: "Expected", numeric: true }, { name: "Observed", numeric: true }],
        rows: a.bins.map((b) => [b.bin, percent(b.expected), percent(b.observed)]),
      }) : null,
      a.related?.length ? table({
        caption: "Related, told with it", hideCaption: false,
        columns: [{ name: "Figure" }, { name: "Value", numeric: true }, { name: "Effect", numeric: true }, { name: "Adjusted p", numeric: true }],
        rows: a.related.map((r) => [[words(r.metric), r.feature, r.group].filter(Boolean).join(" · "), number(r.value), number(r.effect), chance(r.p_value)]),
      }) : null,
      states.length ? table({
        caption: "States", hideCaption: false,
        columns: [{ name: "State" }, { name: "Window's end" }, { name: "Value", numeric: true }, { name: "Action" }],
        rows: states.map((step) => [capital(step.state), instant(step.at_ms, zone), number(step.value), step.action]),
      }) : null,
      a.feature && a.kind === "data_drift" ? h("p", {}, h("a", { href: `#drift/${encodeURIComponent(a.group ? `${a.feature}[${a.group}]` : a.feature)}` }, "See its distributions")) : null));
}
