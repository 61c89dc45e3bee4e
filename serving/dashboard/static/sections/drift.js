/** The drift heat map, and the two distributions of the cell that is chosen. */

import { get } from "../api.js";
import { distributions } from "../charts/bars.js";
import { picture } from "../charts/figure.js";
import { heatmap, heatStops } from "../charts/heatmap.js";
import { legendOf } from "../charts/legend.js";
import { h, refill } from "../dom.js";
import { chance, instant, number, percent, span, tick, words } from "../format.js";
import { zone } from "../header.js";
import { card, choice, empty, note, picker, table } from "../parts.js";
import { heatColours } from "../scales.js";
import { held } from "../store.js";

const SHOWN = 30;

export const section = {
  id: "drift",
  title: "Drift",
  lead: "Each feature's distribution in closed windows of event time against that in the live model's training. Choose a cell to see both.",
  needs: ["drift"],
  mount,
};

function mount(place) {
  const chosen = { metric: null, length: null, all: false, order: "worst" };
  const map = heatmap("Drift by feature and window. Arrow keys move, Enter shows the distributions.");
  const tools = h("div", { class: "card-tools" });
  const legend = h("div", { class: "heat-legend" });
  const detail = h("div", { id: "drift-cell" });
  const list = h("details", { "data-key": "drift table" });
  const body = h("div", {}, map.element, legend, list);
  const frame = card({ title: "Features × windows", tools }, body);
  const nothing = h("div");
  place.append(nothing, h("div", { class: "grid" }, frame, detail));
  let view = null;

  const open = (row, column) => showCell(detail, view.rows[row], view.windows[column]);
  const update = () => {
    const drift = held("drift");
    const missing = drift.features.length === 0 || drift.windows.length === 0;
    frame.hidden = missing;
    refill(nothing, missing && card({ title: "Features × windows" }, empty("No window has closed yet.",
      "The monitor compares features once a model is live and a window of `DataDrift` has closed with enough events.")));
    if (missing) return;
    view = viewOf(drift, chosen);
    controls(tools, drift, view, chosen, update);
    key(legend);
    map.update({
      rows: view.rows, columns: view.windows.map((w) => w.end_ms), heads: view.windows.map((w) => tick(w.end_ms, 3e9, zone())),
      excess: view.excess, say: (i, k) => said(view, i, k), open,
    });
    if (list.open || !list.firstChild) latest(list, view, open);
  };
  list.addEventListener("toggle", () => list.open && view && latest(list, view, open));
  return {
    update,
    go(feature) {
      if (!feature || !view) return;
      const row = view.rows.indexOf(feature);
      if (row < 0) return;
      let column = view.windows.length - 1;
      while (column > 0 && view.excess[row][column] === null) column -= 1;
      map.select(row, column);
      open(row, column);
    },
  };
}

/** What is shown of the document: a metric, windows of one length, rows by how far they are out. */
function viewOf(drift, chosen) {
  const lengths = [...new Set(drift.windows.map((w) => w.end_ms - w.start_ms))].sort((a, b) => a - b);
  const metrics = drift.figures.map((f) => f.metric);
  const metric = metrics.includes(chosen.metric) ? chosen.metric : metrics.includes("psi") ? "psi" : metrics[0];
  const length = lengths.includes(chosen.length) ? chosen.length : lengths[0];
  const figure = drift.figures.find((f) => f.metric === metric);
  let columns = drift.windows.map((_, i) => i).filter((i) => drift.windows[i].end_ms - drift.windows[i].start_ms === length);
  if (!chosen.all) columns = columns.slice(-SHOWN);
  const scale = figure.thresholds.some((t) => t !== null) ? null : Math.max(1e-12, ...figure.value.flat().map((v) => v ?? 0));
  const strength = (i, k) => figure.excess[i]?.[k] ?? (scale === null || figure.value[i]?.[k] === null ? null : figure.value[i][k] / scale);
  const rows = drift.features.map((name, i) => {
    const cells = columns.map((k) => strength(i, k));
    let worst = -1;
    cells.slice(-7).forEach((v) => (worst = Math.max(worst, v ?? -1)));
    return { name, i, cells, worst };
  }).filter((row) => row.cells.some((v) => v !== null));
  rows.sort((a, b) => (chosen.order === "worst" ? b.worst - a.worst : 0) || a.name.localeCompare(b.name));
  return {
    metric, metrics, length, lengths, figure, columns, windows: columns.map((k) => drift.windows[k]),
    rows: rows.map((r) => r.name), index: rows.map((r) => r.i), excess: rows.map((r) => r.cells), more: drift.windows.length > columns.length,
  };
}

function said(view, row, column) {
  const [i, k, w] = [view.index[row], view.columns[column], view.windows[column]];
  const value = view.figure.value[i][k];
  const about = `${view.rows[row]}, ${instant(w.start_ms, zone())} to ${instant(w.end_ms, zone())}`;
  if (value === null) return `${about}: not judged`;
  const limit = view.figure.thresholds[i];
  const out = view.excess[row][column] >= 1 ? ", out of bounds" : "";
  return `${about}: ${words(view.metric)} ${number(value)}${limit === null ? "" : ` (limit ${number(limit)})`}${out}, p ${chance(view.figure.p[i][k])}, ${number(view.figure.n[i][k], 6)} events`;
}

function controls(place, drift, view, chosen, update) {
  const set = (name) => (value) => {
    chosen[name] = name === "length" ? Number(value) : name === "all" ? value === "all" : value;
    update();
  };
  refill(place,
    view.metrics.length > 1 && picker("Figure", view.metrics.map((m) => [m, words(m)]), view.metric, set("metric")),
    view.lengths.length > 1 && picker("Window", view.lengths.map((l) => [String(l), span(l)]), String(view.length), set("length")),
    choice("Order", [["worst", "Worst first"], ["name", "By name"]], chosen.order, set("order")),
    (view.more || chosen.all) && choice("Windows", [["last", `Last ${SHOWN}`], ["all", "All"]], chosen.all ? "all" : "last", set("all")));
}

let keyed = "";

/** The scale: drawn again where the colours have changed. */
function key(place) {
  const stops = heatStops();
  if (place.firstChild && keyed === JSON.stringify(stops)) return;
  keyed = JSON.stringify(stops);
  const colours = heatColours(stops);
  const canvas = h("canvas", { width: colours.length * 3, height: 12, "aria-hidden": "true" });
  const context = canvas.getContext("2d");
  colours.forEach((colour, i) => {
    context.fillStyle = colour;
    context.fillRect(i * 3, 0, 3, 12);
  });
  refill(place, h("span", {}, "0"), canvas, h("span", {}, "4 × its limit and more"), h("span", {}, "· the break in the middle is the limit; an empty ground was not judged"));
}

function latest(place, view, open) {
  const last = view.windows.length - 1;
  const rows = view.rows.map((name, row) => {
    let column = last;
    while (column > 0 && view.excess[row][column] === null) column -= 1;
    const [i, k] = [view.index[row], view.columns[column]];
    const button = h("button", { class: "button quiet small", type: "button", "data-key": `open ${name}`, "aria-label": `Show the distributions of ${name}`, onclick: () => open(row, column) }, "Show");
    return [name, number(view.figure.value[i][k]), number(view.figure.thresholds[i]), chance(view.figure.p[i][k]), number(view.figure.n[i][k], 6), button];
  });
  refill(place, h("summary", { "data-key": "drift table" }, "The newest figures as a table"), place.open && table({
    caption: `Newest ${words(view.metric)} of each feature`,
    columns: [{ name: "Feature" }, { name: words(view.metric), numeric: true }, { name: "Limit", numeric: true }, { name: "Adjusted p", numeric: true }, { name: "Events", numeric: true }, { name: "Distributions" }],
    rows,
  }));
}

async function showCell(place, feature, window_) {
  const title = h("h3", { tabindex: "-1" }, `${feature}: two distributions`);
  const when = `${instant(window_.start_ms, zone())} to ${instant(window_.end_ms, zone())}`;
  const frame = (content) => h("section", { class: "card", "aria-label": `Distributions of ${feature}` },
    h("div", { class: "card-head" }, title, h("span", { class: "muted num" }, when),
      h("div", { class: "card-tools" }, h("button", { class: "button quiet small", type: "button", onclick: () => close(place) }, "Close"))), content);
  place.onkeydown = (event) => event.key === "Escape" && close(place);
  refill(place, frame(h("p", { class: "muted" }, "Reading the window…")));
  try {
    const cell = await get("drift/cell", { feature, start_ms: window_.start_ms, end_ms: window_.end_ms, version: window_.model_version });
    refill(place, frame(drawn(cell)));
  } catch (fault) {
    refill(place, frame(note(fault.message, "bad")));
  }
  title.focus({ preventScroll: true });
  place.scrollIntoView({ block: "nearest" });
}

function close(place) {
  refill(place);
  document.querySelector(".heat-scroll")?.focus();
}

function drawn(cell) {
  const groups = [
    cell.expected && { name: "expected", series: 5, sign: "hatched", shares: cell.expected },
    cell.observed && { name: "observed", series: 0, sign: "solid", shares: cell.observed },
  ].filter(Boolean);
  const legend = legendOf([
    cell.expected && { text: `expected: ${cell.reference ?? "the reference"}${cell.expected_n ? `, ${number(cell.expected_n, 6)} rows` : ""}`, sign: "hatched", series: 5 },
    cell.observed && { text: `observed in the window${cell.n ? `, ${number(cell.n, 6)} events` : ""}`, sign: "solid", series: 0 },
  ].filter(Boolean));
  return [
    cell.why && note(cell.why, "warn"),
    groups.length && cell.bins.length ? picture({
      name: "Distributions", legend,
      draw: (width) => distributions({ width, bins: cell.bins, groups, label: summary(cell) }),
      columns: [{ name: "Bin" }, { name: "Expected", numeric: true }, { name: "Observed", numeric: true }],
      rows: () => cell.bins.map((bin, i) => [bin, percent(cell.expected?.[i]), percent(cell.observed?.[i])]),
    }) : null,
    table({
      caption: "Figures of this window",
      columns: [{ name: "Figure" }, { name: "Value", numeric: true }, { name: "Limit", numeric: true }, { name: "Adjusted p", numeric: true }, { name: "Effect", numeric: true }],
      rows: cell.figures.map((f) => [words(f.metric), number(f.value), number(f.threshold), chance(f.p), number(f.effect)]),
    }),
  ];
}

function summary(cell) {
  if (!cell.expected || !cell.observed) return `Distribution of ${cell.feature}`;
  let most = 0;
  cell.bins.forEach((_, i) => {
    if (Math.abs(cell.observed[i] - cell.expected[i]) > Math.abs(cell.observed[most] - cell.expected[most])) most = i;
  });
  return `Distributions of ${cell.feature}; the bin ${cell.bins[most]} changed most, from ${percent(cell.expected[most])} to ${percent(cell.observed[most])}`;
}
