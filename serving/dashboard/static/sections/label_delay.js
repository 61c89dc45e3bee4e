/** How labels come: how long after their events, and how many are overdue. It says nothing of a model,
 * so it stands with the pipeline's health, though it comes with the figures of performance. */

import { picture } from "../charts/figure.js";
import { legendOf } from "../charts/legend.js";
import { lines } from "../charts/lines.js";
import { h } from "../dom.js";
import { instant, number, percent, span } from "../format.js";
import { zone } from "../header.js";
import { card } from "../parts.js";

const [MEDIAN, P90, OVERDUE] = ["label_delay_median_s", "label_delay_p90_s", "label_overdue_share"];

/** @param {string} metric @returns {boolean} whether a figure of performance is about labels alone */
export const ofLabels = (metric) => [MEDIAN, P90, OVERDUE].includes(metric);

/** @param {any} doc the performance document, or undefined @returns {HTMLElement|null} */
export function labelDelay(doc) {
  const of = (metric) => pointsOf((doc?.series ?? []).filter((one) => one.metric === metric));
  const [median, p90, overdue] = [MEDIAN, P90, OVERDUE].map(of);
  if (!median.length && !overdue.length) return null;
  const newest = [
    median.length && `half within ${span(median.at(-1).value * 1000)}`,
    p90.length && `90 % within ${span(p90.at(-1).value * 1000)}`,
    overdue.length && `${percent(overdue.at(-1).value)} overdue`,
  ].filter(Boolean).join(", ");
  const most = Math.max(...[...median, ...p90].map((p) => p.value), 1);
  const [unit, size] = most > 172_800 ? ["d", 86_400] : most > 7200 ? ["h", 3600] : most > 120 ? ["min", 60] : ["s", 1];
  const told = h("p", { class: "readout hover", "aria-hidden": "true" });
  const line = (name, series, points) => ({ name, series, points: points.map((p) => ({ at: p.at, value: p.value / size, text: span(p.value * 1000) })) });
  const drawn = [line("median", 0, median), line("90 %", 1, p90)].filter((l) => l.points.length);
  const share = new Map(overdue.map((p) => [p.at, p.value]));
  const late = new Map(p90.map((p) => [p.at, p.value]));
  return card({ title: "How labels come", note: newest }, picture({
    name: "Delay of labels",
    legend: legendOf(drawn.map((l) => ({ text: `${l.name}, ${unit}`, sign: "curve", series: l.series }))),
    draw: (width) => lines({ width, height: 170, zone: zone(), zero: true, lines: drawn, label: `Delay of labels over event time: ${newest}`, told: (text) => (told.textContent = text) }),
    columns: [{ name: "Window's end" }, { name: "Median", numeric: true }, { name: "90 %", numeric: true }, { name: "Overdue", numeric: true }, { name: "Labels", numeric: true }],
    rows: () => median.map((p) => [instant(p.at, zone()), span(p.value * 1000), span((late.get(p.at) ?? null) === null ? null : late.get(p.at) * 1000), percent(share.get(p.at)), number(p.n, 6)]),
  }), told);
}

/** The points of all versions as one line: which one answered makes no difference to labels. */
function pointsOf(series) {
  const found = new Map();
  for (const one of series) one.end_ms.forEach((at, i) => one.value[i] !== null && found.set(at, { at, value: one.value[i], n: one.n[i] }));
  return [...found.values()].sort((a, b) => a.at - b.at);
}
