/** The two distributions of a cell: what the training had, and what the window has. */

import { get } from "../api.js";
import { distributions } from "../charts/bars.js";
import { picture } from "../charts/figure.js";
import { legendOf } from "../charts/legend.js";
import { h, refill } from "../dom.js";
import { chance, instant, number, percent, words } from "../format.js";
import { zone } from "../header.js";
import { note, table } from "../parts.js";

/**
 * @param {HTMLElement} place @param {string} feature @param {any} window_ of the drift document
 * @param {boolean} wanted whether the reader asked for it: then it gets the focus
 */
export async function showCell(place, feature, window_, wanted = true) {
  const title = h("h3", { tabindex: "-1" }, `${feature}: two distributions`);
  const when = `${instant(window_.start_ms, zone())} to ${instant(window_.end_ms, zone())}`;
  const frame = (content) => h("section", { class: "card", "aria-label": `Distributions of ${feature}` },
    h("div", { class: "card-head" }, title, h("span", { class: "muted num" }, when),
      h("div", { class: "card-tools" }, h("button", { class: "button quiet small", type: "button", onclick: () => close(place) }, "Close"))), content);
  const asked = `${feature}/${window_.end_ms}/${window_.start_ms}/${window_.model_version}`;
  place.dataset.asked = asked;
  place.onkeydown = (event) => event.key === "Escape" && close(place);
  const read = () => wanted && title.focus({ preventScroll: true });
  refill(place, frame(h("p", { class: "muted" }, "Reading the window…")));
  read(); // so that Escape closes it while it is read, too
  let content;
  try {
    content = drawn(await get("drift/cell", { feature, start_ms: window_.start_ms, end_ms: window_.end_ms, version: window_.model_version }));
  } catch (fault) {
    content = note(fault.message, "bad");
  }
  if (place.dataset.asked !== asked) return; // another one was chosen meanwhile, or it was closed
  refill(place, frame(content));
  read();
  if (wanted) place.scrollIntoView({ block: "nearest" });
}

function close(place) {
  place.dataset.asked = "";
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
