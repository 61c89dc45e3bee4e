/** The drift heat map, and the two distributions of the cell that is chosen. */

import { heatmap, heatStops } from "../charts/heatmap.js";
import { h, refill } from "../dom.js";
import { number, span, tick, words } from "../format.js";
import { zone } from "../header.js";
import { card, choice, empty, picker } from "../parts.js";
import { heatColours } from "../scales.js";
import { held } from "../store.js";
import { showCell } from "./drift_cell.js";
import { driftTable } from "./drift_table.js";
import { newestOf, said, SHOWN, viewOf } from "./drift_view.js";

export const section = {
  id: "drift",
  title: "Drift",
  lead: "Each feature's distribution in closed windows of event time against that in the live model's training. Choose a cell to see both.",
  needs: ["drift"],
  mount,
};

/** What the heat map is given of a view. */
export function mapOf(view, open = () => {}) {
  return {
    rows: view.rows, columns: view.windows.map((w) => w.end_ms), heads: view.windows.map((w) => tick(w.end_ms, 3e9, zone())),
    excess: view.excess, open,
    text: (row, column) => number(view.figure.value[view.index[row]][view.columns[column]], 2),
    say: (row, column) => said(view, row, column, zone()),
  };
}

function mount(place) {
  const chosen = { metric: null, length: null, all: false, order: "worst" };
  const map = heatmap("Drift by feature and window. Arrow keys move, Enter shows the distributions.");
  const tools = h("div", { class: "card-tools" });
  const legend = h("div", { class: "heat-legend" });
  const detail = h("div", { id: "drift-cell" });
  let view = null;
  const open = (row, column) => showCell(detail, view.rows[row], view.windows[column]);
  const list = driftTable((feature) => openNewest(feature, true));
  const folded = h("details", {}, h("summary", {}, "The newest figures as a table"), list.element);
  const frame = card({ title: "Features × windows", tools }, map.element, legend, folded);
  const nothing = h("div");
  place.append(nothing, h("div", { class: "grid" }, frame, detail));

  const openNewest = (feature, wanted) => {
    const row = view ? view.rows.indexOf(feature) : -1;
    if (row < 0) return;
    const column = newestOf(view, row);
    map.select(row, column);
    showCell(detail, feature, view.windows[column], wanted);
  };
  const update = () => {
    const drift = held("drift");
    const first = view === null;
    const missing = drift.features.length === 0 || drift.windows.length === 0;
    frame.hidden = missing;
    refill(nothing, missing && card({ title: "Features × windows" }, empty("No window has closed yet.",
      "The monitor compares features once a model is live and a window of `DataDrift` has closed with enough events.")));
    if (missing) return;
    view = viewOf(drift, chosen);
    controls(tools, view, chosen, update);
    key(legend, view);
    map.update(mapOf(view, open));
    if (folded.open) list.update(view);
    // What is worst is what one comes for.
    if (first && !location.hash.includes("/") && view.rows.length) openNewest(view.rows[0], false);
  };
  folded.addEventListener("toggle", () => folded.open && view && list.update(view));
  return { update, go: (feature) => feature && openNewest(feature, true) };
}

function controls(place, view, chosen, update) {
  const set = (name) => (value) => {
    chosen[name] = name === "length" ? Number(value) : name === "all" ? value === "all" : value;
    update();
  };
  refill(place,
    view.metrics.length > 1 && picker("Figure", view.metrics.map((m) => [m, words(m)]), view.metric, set("metric")),
    view.lengths.length > 1 && picker("Window", view.lengths.map((l) => [String(l), span(l)]), String(view.length), set("length")),
    choice("Order", [["worst", "Worst first"], ["name", "By name"]], chosen.order, set("order")),
    view.more && choice("Windows", [["last", `Last ${SHOWN}`], ["all", "All"]], chosen.all ? "all" : "last", set("all")));
}

/** The scale: drawn again where the colours have changed. */
function key(place, view) {
  const stops = heatStops();
  const limited = view.figure.thresholds.some((t) => t !== null);
  const now = `${JSON.stringify(stops)} ${limited}`;
  if (place.dataset.drawn === now) return;
  place.dataset.drawn = now;
  const all = heatColours(stops);
  const colours = limited ? all : all.slice(0, 32);
  const canvas = h("canvas", { width: colours.length * 3, height: 12, "aria-hidden": "true" });
  const context = canvas.getContext("2d");
  colours.forEach((colour, i) => {
    context.fillStyle = colour;
    context.fillRect(i * 3, 0, 3, 12);
  });
  refill(place, h("span", {}, "0"), canvas, limited
    ? [h("span", {}, "4 × its limit and more"), h("span", {}, "· the break in the middle is the limit; an empty ground was not judged")]
    : [h("span", {}, "the largest here"), h("span", {}, "· this figure has no limit; an empty ground was not judged")]);
}
