/** One alert, as the lists show it. */

import { h } from "../dom.js";
import { capital, chance, instant, NONE, number, percent, span, words } from "../format.js";
import { badge, facts, table } from "../parts.js";

const TONES = { critical: "bad", warning: "warn", info: "info" };
const STATE_TONES = { confirmed: "bad", suspected: "warn", resolved: "ok" };
const STATE_ICONS = { confirmed: "critical", suspected: "suspected", resolved: "resolved" };
const [MOST_BINS, MOST_RELATED] = [2, 3];

/** Alert records leave out what has its default: put it back. */
export const whole = (alert) => ({ state: "confirmed", severity: "warning", bins: [], related: [], ...alert });

/**
 * @param {any} entry an AlertEntry
 * @param {string} zone
 * @param {boolean} [brief] without what is folded away
 */
export function item(entry, zone, brief = false) {
  const now = whole(entry.newest);
  const a = entry.was ? whole(entry.was) : now; // of what is over one wants to know what it was
  const about = [a.feature, a.group && `[${a.group}]`].filter(Boolean).join(" ");
  return h("li", { id: brief ? null : `alert-${entry.key}`, tabindex: brief ? null : "-1", "data-key": brief ? null : `alert ${entry.key}`, "data-state": now.state, "data-severity": a.severity },
    h("div", { class: "alert-line" },
      badge(capital(now.state), STATE_TONES[now.state], STATE_ICONS[now.state]),
      badge(capital(a.severity), now.state === "resolved" ? "" : TONES[a.severity], a.severity),
      h("strong", {}, `${capital(words(a.kind))}${about ? `: ${about}` : ""}`),
      h("time", { datetime: new Date(now.window.end_ms).toISOString(), class: "num" }, instant(now.window.end_ms, zone))),
    h("p", { class: "alert-cause" }, a.cause),
    now === a ? null : h("p", { class: "alert-after muted" }, `Over since ${instant(now.window.end_ms, zone)}: ${now.cause}.`),
    h("div", { class: "alert-facts num" },
      fact(words(a.metric), `${number(a.value)} (limit ${number(a.threshold)})`),
      fact("effect", given(a.effect) ? number(a.effect) : null),
      fact("adjusted p", given(a.p_value) ? chance(a.p_value) : null),
      fact("events", a.n.toLocaleString("en-US")),
      fact("began", a.onset ? instant(a.onset.time_ms, zone) : null),
      fact("loss", given(a.impact) ? `${a.impact >= 0 ? "+" : ""}${number(a.impact)}` : null),
      fact("action", a.action)),
    !brief && evidence(a),
    !brief && more(entry, a, zone));
}

const given = (value) => value !== null && value !== undefined;

function fact(name, value) {
  return value === null ? null : h("span", {}, `${name} `, h("b", {}, value));
}

const nameOf = (r) => [words(r.metric), r.feature, r.group].filter(Boolean).join(" · ");

/** What shifted, and what shifted with it, at a glance. */
function evidence(a) {
  const bins = a.bins.slice(0, MOST_BINS).map((b) => h("span", { class: "shift" }, h("code", {}, b.bin), `: ${percent(b.expected, 0)} → `, h("b", {}, percent(b.observed, 0))));
  const related = a.related.slice(0, MOST_RELATED).map((r) => `${nameOf(r)} ${number(r.value)}`);
  const left = a.related.length - related.length;
  if (!bins.length && !related.length) return null;
  return h("div", { class: "alert-facts num" },
    bins.length ? h("span", {}, "most shifted ", bins) : null,
    related.length ? h("span", {}, "with it ", h("b", {}, related.join(", ")), left > 0 ? ` and ${left} more` : "") : null);
}

function more({ key, states, since_ms }, a, zone) {
  const onset = !given(a.onset?.offset) ? null
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
        ["Page", isWeb(a.link) ? h("a", { href: a.link }, a.link) : a.link],
      ]),
      a.bins.length ? table({
        caption: "Most shifted bins", hideCaption: false,
        columns: [{ name: "Bin" }, { name: "Expected", numeric: true }, { name: "Observed", numeric: true }],
        rows: a.bins.map((b) => [b.bin, percent(b.expected), percent(b.observed)]),
      }) : null,
      a.related.length ? table({
        caption: "Related, told with it", hideCaption: false,
        columns: [{ name: "Figure" }, { name: "Value", numeric: true }, { name: "Effect", numeric: true }, { name: "Adjusted p", numeric: true }],
        rows: a.related.map((r) => [nameOf(r), number(r.value), number(r.effect), chance(r.p_value)]),
      }) : null,
      states.length ? table({
        caption: "States", hideCaption: false,
        columns: [{ name: "State" }, { name: "Window's end" }, { name: "Value", numeric: true }, { name: "Action" }],
        rows: states.map((step) => [capital(step.state), instant(step.at_ms, zone), number(step.value), step.action || NONE]),
      }) : null,
      a.feature && a.kind === "data_drift" ? h("p", {}, h("a", { href: `#drift/${encodeURIComponent(a.group ? `${a.feature}[${a.group}]` : a.feature)}` }, "See its distributions")) : null));
}

/** A link comes from the log: nothing but a web address becomes one. */
function isWeb(link) {
  return /^https?:\/\//i.test(link ?? "");
}
