/** Fairness: every figure of the declared groups with its interval. */

import { picture } from "../charts/figure.js";
import { intervals } from "../charts/intervals.js";
import { legendOf } from "../charts/legend.js";
import { h, refill } from "../dom.js";
import { capital, instant, number, words } from "../format.js";
import { zone } from "../header.js";
import { badge, card, empty, picker } from "../parts.js";
import { held } from "../store.js";

const LOW_IS_BAD = new Set(["selection_ratio", "four_fifths_ratio"]);

export const section = {
  id: "fairness",
  title: "Fairness",
  lead: "Whether the groups that the pipeline declares are treated alike. Bars are 95 % intervals; groups that are too small are left out.",
  needs: ["fairness"],
  mount(place) {
    const chosen = { window: null, field: "" };
    const update = () => draw(place, held("fairness"), chosen, update);
    return { update };
  },
};

const nameOf = (w) => `${w.end_ms}/${w.start_ms}/${w.version}`;

function draw(place, doc, chosen, update) {
  if (!doc.windows.length) {
    refill(place, card({ title: "Groups" }, empty("No groups judged yet.",
      doc.fields.length ? "A window of `Fairness` closes once each group has enough labels." : "Declare groups in the definition, and `Fairness()` among the pipeline's monitors.")));
    return;
  }
  const newest = [...doc.windows].reverse();
  const now = newest.find((w) => nameOf(w) === chosen.window) ?? newest[0];
  const set = (name) => (value) => {
    chosen[name] = value;
    update();
  };
  const fieldOf = (figure) => figure.group.split("=")[0];
  const fits = (figure) => !chosen.field || fieldOf(figure) === chosen.field;
  const tools = h("div", { class: "fields" },
    picker("Window", newest.slice(0, 60).map((w) => [nameOf(w), `until ${instant(w.end_ms, zone())} · model ${w.version || "prior"}`]), nameOf(now), set("window")),
    doc.fields.length > 1 && picker("Field", [["", "all fields"], ...doc.fields.map((f) => [f, f])], chosen.field, set("field")));
  const cards = doc.metrics.map((metric) => {
    const figures = now.figures.filter((f) => f.metric === metric && fits(f));
    return figures.length ? chart(metric, figures) : null;
  });
  refill(place, h("div", { class: "stack" }, tools, h("div", { class: "grid" }, cards)));
}

function beyond(metric, f) {
  if (f.threshold === null) return false;
  return LOW_IS_BAD.has(metric) ? f.value < f.threshold : Math.abs(f.value) > f.threshold;
}

function chart(metric, figures) {
  const limit = figures.find((f) => f.threshold !== null)?.threshold ?? null;
  const out = figures.filter((f) => beyond(metric, f));
  const rows = figures.map((f) => ({ name: f.group, value: f.value, low: f.low, high: f.high, series: beyond(metric, f) ? 1 : 0 }));
  const said = figures.map((f) => `${f.group} ${number(f.value)}`).join(", ");
  return card({
    title: capital(words(metric)), size: "half",
    tools: limit === null ? null : out.length ? badge(`${out.length} beyond the limit`, "warn", "warning") : badge("within the limit", "ok", "resolved"),
  }, picture({
    name: `${words(metric)} by group`,
    legend: limit === null ? null : legendOf([{ text: `limit ${number(limit)}`, sign: "limit" }]),
    draw: (width) => intervals({ width, rows, limit, label: `${capital(words(metric))} by group: ${said}` }),
    columns: [{ name: "Group" }, { name: "Value", numeric: true }, { name: "95 % interval", numeric: true }, { name: "Labels", numeric: true }],
    rows: () => figures.map((f) => [f.group, number(f.value), f.low === null ? "–" : `${number(f.low)} to ${number(f.high)}`, number(f.n, 6)]),
  }));
}
