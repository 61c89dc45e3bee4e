/** Values with their intervals, one row each: groups, arms, metrics. */

import { s } from "../dom.js";
import { number } from "../format.js";
import { extent, linear, ticks } from "../scales.js";

const ROW = 30;
const TOP = 8;
const BOTTOM = 24;

/**
 * @param {{width: number, label: string, rows: Array<{name: string, value: number|null, low: number|null, high: number|null, series?: number, text?: string}>,
 *   limit?: number|null, zero?: boolean, format?: (value: number) => string}} about
 */
export function intervals({ width, label, rows, limit = null, zero = false, format = number }) {
  const left = Math.min(width * 0.36, 26 + 7 * Math.max(...rows.map((r) => r.name.length), 4));
  const right = 62;
  const height = TOP + rows.length * ROW + BOTTOM;
  const spread = extent([...rows.flatMap((r) => [r.value, r.low, r.high]), limit, zero ? 0 : null]);
  const x = linear(spread, [left, width - right]);
  const svg = s("svg", { viewBox: `0 0 ${width} ${height}`, height, role: "img", "aria-label": label });
  for (const value of ticks(spread[0], spread[1], Math.max(2, Math.floor((width - left) / 90)))) {
    svg.append(
      s("line", { class: "axis", x1: x(value), x2: x(value), y1: TOP, y2: height - BOTTOM }),
      s("text", { x: x(value), y: height - 7, "text-anchor": "middle" }, format(value)));
  }
  if (zero) svg.append(s("line", { class: "zero", x1: x(0), x2: x(0), y1: TOP, y2: height - BOTTOM }));
  if (limit !== null) svg.append(s("line", { class: "limit", x1: x(limit), x2: x(limit), y1: TOP, y2: height - BOTTOM }));
  rows.forEach((row, i) => {
    const y = TOP + (i + 0.5) * ROW;
    const group = s("g", { class: `s${(row.series ?? 0) % 6}` },
      s("text", { class: "strong", x: left - 12, y: y + 4, "text-anchor": "end" }, shortened(row.name, left)));
    if (row.value !== null && row.value !== undefined) {
      if (row.low !== null && row.low !== undefined) {
        group.append(
          s("line", { class: "whisker", x1: x(row.low), x2: x(row.high), y1: y, y2: y }),
          s("line", { class: "whisker", x1: x(row.low), x2: x(row.low), y1: y - 4, y2: y + 4 }),
          s("line", { class: "whisker", x1: x(row.high), x2: x(row.high), y1: y - 4, y2: y + 4 }));
      }
      group.append(
        s("circle", { class: "point", cx: x(row.value), cy: y, r: 5 }),
        s("text", { class: "strong", x: width, y: y + 4, "text-anchor": "end" }, row.text ?? format(row.value)));
    }
    svg.append(group);
  });
  return svg;
}

function shortened(name, left) {
  const most = Math.max(6, Math.floor((left - 14) / 6.6));
  return name.length > most ? `${name.slice(0, most - 1)}…` : name;
}
