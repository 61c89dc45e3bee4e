/** Performance of each version over event time, with intervals, alarms and trainings marked. */

import { picture } from "../charts/figure.js";
import { legendOf } from "../charts/legend.js";
import { lines } from "../charts/lines.js";
import { h, refill } from "../dom.js";
import { capital, instant, number, words } from "../format.js";
import { zone } from "../header.js";
import { card, choice, empty, picker, table } from "../parts.js";
import { held } from "../store.js";
import { ofLabels } from "./label_delay.js";

const NAMES = { alert: "alarm", training: "training", live: "goes live", rolled_back: "rolled back" };

export const section = {
  id: "performance",
  title: "Performance",
  lead: "What each version's answers were worth once their labels had come. Bands are 95 % intervals; figures by event time are told again as late labels arrive.",
  needs: ["performance"],
  mount(place) {
    const chosen = { by: "event", group: "" };
    const update = () => draw(place, held("performance"), chosen, update);
    return { update };
  },
};

function draw(place, doc, chosen, update) {
  if (!doc.series.length) {
    refill(place, card({ title: "Performance" }, empty("No figures yet.", "They come once a window of `Performance` has enough answers with labels.")));
    return;
  }
  const ways = [...new Set(doc.series.map((one) => one.by))];
  const by = ways.includes(chosen.by) ? chosen.by : ways[0];
  const set = (name) => (value) => {
    chosen[name] = value;
    update();
  };
  const tools = (ways.length > 1 || doc.groups.length > 0) && h("div", { class: "row" },
    ways.length > 1 && choice("Windows by", [["event", "By event time"], ["label", "By the labels' arrival"]], by, set("by")),
    doc.groups.length > 0 && picker("Group", [["", "all events"], ...doc.groups.map((g) => [g, g])], chosen.group, set("group")));
  const charts = doc.metrics.filter((metric) => !ofLabels(metric)).map((metric, i) => {
    const series = doc.series.filter((one) => one.metric === metric && (one.group ?? "") === chosen.group && (one.by === by || one.estimated));
    return series.length ? chart(doc, metric, series, i === 0 ? { size: "", height: 280 } : { size: "half", height: 200 }) : null;
  }).filter(Boolean);
  refill(place, h("div", { class: "stack" }, tools,
    h("div", { class: "grid" }, charts.length ? charts : card({ title: "Performance" }, empty("Nothing of this group.", "Choose another one above.")),
      markTable(doc.marks))));
}

/** The headline figure alone, for the overview. @param {any} doc the performance document, or undefined */
export function headline(doc) {
  const tools = h("a", { href: "#performance" }, "All figures");
  const metric = doc?.metrics.find((name) => !ofLabels(name) && doc.series.some((one) => one.metric === name && !one.group && !one.estimated));
  if (!metric) return card({ title: "Performance", size: "half", tools }, empty("No figures yet.", "They come once a window of `Performance` has enough answers with labels."));
  const of = doc.series.filter((one) => one.metric === metric && !one.group && !one.estimated);
  const by = of.some((one) => one.by === "event") ? "event" : of[0].by;
  return chart(doc, metric, of.filter((one) => one.by === by), { size: "half", height: 190, tools });
}

function chart(doc, metric, series, { size, height, tools = null }) {
  const told = h("p", { class: "readout hover", "aria-hidden": "true" });
  const drawnLines = series.map((one) => ({
    name: `model ${one.version || "prior"}${one.estimated ? " (estimated)" : ""}`,
    series: doc.versions.indexOf(one.version), estimated: one.estimated,
    points: one.end_ms.map((at, i) => ({
      at, value: one.value[i], low: one.low[i], high: one.high[i],
      text: `${number(one.value[i])}${one.low[i] === null ? "" : ` (${number(one.low[i])} to ${number(one.high[i])})`}, n ${number(one.n[i], 6)}`,
    })),
  }));
  const limits = series.flatMap((one) => one.threshold.slice(-1)).filter((t) => t !== null && t !== undefined);
  const limit = limits.length ? limits[limits.length - 1] : null;
  const marks = doc.marks.map((m) => ({ at: m.at_ms, kind: m.kind, text: `${m.label}, ${instant(m.at_ms, zone())}` }));
  const kinds = [...new Set(doc.marks.map((m) => m.kind))];
  const legend = legendOf([
    ...drawnLines.map((l) => ({ text: l.name, sign: l.estimated ? "estimated" : "line", series: l.series })),
    ...(limit === null ? [] : [{ text: `limit ${number(limit)}`, sign: "limit" }]),
    ...kinds.map((kind) => ({ text: NAMES[kind], sign: kind })),
  ]);
  const better = doc.higher_is_better.includes(metric) ? "higher is better" : "lower is better";
  return card({ title: capital(words(metric)), note: `${better}${series[0].by === "event" ? ", by event time" : ", by the labels' arrival"}`, size, tools },
    picture({
      name: `${words(metric)} over event time`, legend,
      draw: (width) => lines({
        width, height, label: summary(metric, drawnLines, doc.marks), lines: drawnLines, marks, limit, zone: zone(),
        told: (text) => (told.textContent = text),
      }),
      columns: [{ name: "Window's end" }, { name: "Version", numeric: true }, { name: "Value", numeric: true }, { name: "95 % interval", numeric: true }, { name: "Labels", numeric: true }, { name: "Told again", numeric: true }],
      rows: () => series.flatMap((one) => one.end_ms.map((at, i) => [
        instant(at, zone()), one.version, number(one.value[i]), one.low[i] === null ? "–" : `${number(one.low[i])} to ${number(one.high[i])}`, number(one.n[i], 6), one.restated[i],
      ])),
    }), told);
}

function summary(metric, drawnLines, marks) {
  const ends = drawnLines.filter((l) => l.points.length).map((l) => `${l.name} ${number(l.points[l.points.length - 1].value)}`);
  const alarms = marks.filter((m) => m.kind === "alert").length;
  return `${capital(words(metric))} over event time. Newest: ${ends.join(", ")}. ${alarms} alarms marked.`;
}

function markTable(marks) {
  if (!marks.length) return null;
  const rows = [...marks].sort((a, b) => b.at_ms - a.at_ms).slice(0, 60).map((m) => [
    instant(m.at_ms, zone()), NAMES[m.kind],
    m.alert_key ? h("a", { href: `#alerts/${encodeURIComponent(m.alert_key)}` }, m.label) : m.label,
  ]);
  return card({ title: "Marks", note: "newest first" }, table({ caption: "Alarms, trainings and changes", columns: [{ name: "Event time" }, { name: "What" }, { name: "About" }], rows }));
}
