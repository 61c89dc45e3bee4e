/** Bars: two distributions over the same bins, and a histogram. */

import { s } from "../dom.js";
import { percent } from "../format.js";
import { linear, ticks } from "../scales.js";

const LEFT = 46;
const TOP = 10;

/**
 * Shares per bin, side by side.
 * @param {{width: number, height?: number, label: string, bins: string[], groups: Array<{name: string, series: number, sign: string, shares: number[]}>}} about
 */
export function distributions({ width, height = 250, label, bins, groups }) {
  const bottom = bins.some((b) => b.length > 6) ? 78 : 26;
  const most = Math.max(0.0001, ...groups.flatMap((g) => g.shares));
  const y = linear([0, most * 1.06], [height - bottom, TOP]);
  const svg = s("svg", { viewBox: `0 0 ${width} ${height}`, height, role: "img", "aria-label": label });
  for (const value of ticks(0, most, 4)) {
    svg.append(
      s("line", { class: "axis", x1: LEFT, x2: width, y1: y(value), y2: y(value) }),
      s("text", { x: LEFT - 7, y: y(value) + 4, "text-anchor": "end" }, percent(value, most < 0.05 ? 1 : 0)));
  }
  const slot = (width - LEFT) / bins.length;
  const bar = Math.min(26, (slot * 0.76) / groups.length);
  bins.forEach((name, i) => {
    const middle = LEFT + slot * (i + 0.5);
    groups.forEach((group, k) => {
      const share = group.shares[i] ?? 0;
      const at = middle + (k - groups.length / 2) * bar;
      svg.append(s("rect", {
        class: `${group.sign} s${group.series}`, x: at + 0.5, y: y(share), width: Math.max(1, bar - 1),
        height: Math.max(0, y(0) - y(share)), rx: Math.min(2.5, bar / 4),
      }, s("title", {}, `${name}: ${group.name} ${percent(share)}`)));
    });
    if (bottom > 30) {
      svg.append(s("text", { x: middle, y: height - bottom + 14, "text-anchor": "end", transform: `rotate(-38 ${middle} ${height - bottom + 14})` }, shortened(name)));
    } else {
      svg.append(s("text", { x: middle, y: height - 8, "text-anchor": "middle" }, name));
    }
  });
  svg.append(s("line", { class: "axis base", x1: LEFT, x2: width, y1: y(0), y2: y(0) }));
  return svg;
}

/** A name that fits under its bar. */
function shortened(name) {
  return name.length > 15 ? `${name.slice(0, 14)}…` : name;
}

/**
 * A histogram of counts, with lines at quantiles.
 * @param {{width: number, height?: number, label: string, bins: string[], counts: number[], series?: number, lines?: Array<{bin: number, text: string}>}} about
 */
export function histogram({ width, height = 130, label, bins, counts, series = 0, lines = [] }) {
  const bottom = 22;
  const total = counts.reduce((a, b) => a + b, 0) || 1;
  const most = Math.max(1, ...counts);
  const y = linear([0, most * 1.05], [height - bottom, 20]);
  const slot = width / counts.length;
  const svg = s("svg", { viewBox: `0 0 ${width} ${height}`, height, role: "img", "aria-label": label });
  const step = Math.ceil((Math.max(...bins.map((b) => b.length)) * 6.4 + 8) / slot); // labels do not touch
  counts.forEach((n, i) => {
    svg.append(s("rect", {
      class: `solid s${series}`, x: i * slot + 1, y: y(n), width: Math.max(1, slot - 2), height: Math.max(0, y(0) - y(n)), rx: 2,
    }, s("title", {}, `${bins[i]}: ${percent(n / total)}`)));
    if (i % step === 0) {
      const half = bins[i].length * 3.2;
      const middle = Math.min(Math.max((i + 0.5) * slot, half), width - half);
      svg.append(s("text", { x: middle, y: height - 6, "text-anchor": "middle" }, bins[i]));
    }
  });
  lines.forEach(({ bin, text }, i) => {
    const at = (bin + 0.5) * slot;
    const anchor = at > width - 72 ? "end" : at < 40 ? "start" : lines.length < 2 ? "middle" : i === 0 ? "end" : "start";
    svg.append(
      s("line", { class: "limit", x1: at, x2: at, y1: 16, y2: height - bottom }),
      s("text", { class: "strong", x: at + (anchor === "end" ? 4 : anchor === "start" ? -4 : 0), y: 11, "text-anchor": anchor }, text));
  });
  svg.append(s("line", { class: "axis base", x1: 0, x2: width, y1: y(0), y2: y(0) }));
  return svg;
}
