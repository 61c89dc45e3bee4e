/** Lines over time with their intervals, a limit, and marks: performance, confidence sequences. */

import { s } from "../dom.js";
import { number, tick } from "../format.js";
import { extent, linear, ticks, timeTicks } from "../scales.js";
import { glyph } from "./legend.js";

const LEFT = 52;
const RIGHT = 10;
const BOTTOM = 24;
const TOP = 22;
const GLYPH = 12;

/**
 * @typedef {{at: number, value: number|null, low?: number|null, high?: number|null, text?: string}} Point
 * @typedef {{name: string, series: number, estimated?: boolean, points: Point[]}} Line
 * @typedef {{at: number, kind: string, text: string}} Mark
 */

/**
 * @param {{width: number, height?: number, label: string, lines: Line[], marks?: Mark[], limit?: number|null,
 *   zero?: boolean, zone?: string, axis?: (at: number, span: number) => string, told?: (text: string) => void,
 *   whiskers?: boolean}} about
 * @returns {SVGElement}
 */
export function lines(about) {
  const { width, height = 240, label, marks = [], limit = null, zone = "UTC", told = null } = about;
  const all = about.lines.flatMap((line) => line.points);
  const times = all.map((p) => p.at);
  const [from, to] = times.length > 1 || marks.length ? rangeOf(times, marks) : extent(times);
  const spread = extent([...all.flatMap((p) => [p.value, p.low, p.high]), limit, about.zero ? 0 : null]);
  const x = linear([from, to], [LEFT, width - RIGHT]);
  const y = linear(spread, [height - BOTTOM, TOP]);
  const svg = s("svg", { viewBox: `0 0 ${width} ${height}`, height, role: "img", "aria-label": label });
  axes(svg, { x, y, from, to, spread, width, height, zone, axis: about.axis });
  let free = -Infinity;
  for (const mark of marks.filter((m) => m.at >= from && m.at <= to).sort((a, b) => a.at - b.at)) {
    const at = Math.max(x(mark.at), free); // signs of the same time stand side by side
    free = at + GLYPH;
    svg.append(s("g", {},
      s("line", { class: `mark-line mark-${mark.kind}`, x1: x(mark.at), x2: x(mark.at), y1: TOP - 4, y2: height - BOTTOM }),
      glyph(mark.kind, at, 9), s("title", {}, mark.text)));
  }
  if (about.zero) svg.append(s("line", { class: "zero", x1: LEFT, x2: width - RIGHT, y1: y(0), y2: y(0) }));
  if (limit !== null) {
    svg.append(s("line", { class: "limit", x1: LEFT, x2: width - RIGHT, y1: y(limit), y2: y(limit) }));
  }
  for (const line of about.lines) svg.append(drawn(line, x, y, about.whiskers));
  if (told) follow(svg, { ...about, x, height, width, from, to });
  return svg;
}

function rangeOf(times, marks) {
  const [low, high] = extent(times, 0);
  const width = high - low || 1;
  const near = marks.map((m) => m.at).filter((at) => at > low - width * 0.15 && at < high + width * 0.15);
  return extent([low, high, ...near], 0.02);
}

function axes(svg, { x, y, from, to, spread, width, height, zone, axis }) {
  for (const value of ticks(spread[0], spread[1], Math.max(2, Math.round(height / 60)))) {
    svg.append(
      s("line", { class: "axis", x1: LEFT, x2: width - RIGHT, y1: y(value), y2: y(value) }),
      s("text", { x: LEFT - 8, y: y(value) + 4, "text-anchor": "end" }, number(value)));
  }
  const wanted = Math.max(3, Math.floor(width / 62));
  const named = axis ?? ((at, span) => tick(at, span, zone));
  const places = axis ? ticks(from, to, wanted) : timeTicks(from, to, wanted);
  let free = -Infinity;
  for (const at of places) {
    const text = named(at, to - from);
    const half = text.length * 3.2;
    const middle = Math.min(Math.max(x(at), LEFT - 14 + half), width - half);
    if (x(at) < LEFT - 1 || x(at) > width - RIGHT + 1 || middle - half < free) continue;
    free = middle + half + 10;
    svg.append(s("text", { x: middle, y: height - 6, "text-anchor": "middle" }, text));
  }
  svg.append(s("line", { class: "axis base", x1: LEFT, x2: width - RIGHT, y1: height - BOTTOM, y2: height - BOTTOM }));
}

function drawn(line, x, y, whiskers) {
  const group = s("g", { class: `s${line.series % 6}` });
  const pieces = piecesOf(line.points);
  for (const piece of pieces) {
    const bounded = piece.filter((p) => p.low !== null && p.low !== undefined && p.high !== null && p.high !== undefined);
    if (whiskers) {
      for (const p of bounded) group.append(s("line", { class: "whisker", x1: x(p.at), x2: x(p.at), y1: y(p.low), y2: y(p.high) }));
    } else if (bounded.length > 1 && !line.estimated) {
      const upper = bounded.map((p) => `${x(p.at).toFixed(1)} ${y(p.high).toFixed(1)}`);
      const lower = bounded.map((p) => `${x(p.at).toFixed(1)} ${y(p.low).toFixed(1)}`).reverse();
      group.append(s("path", { class: "band", d: `M${[...upper, ...lower].join("L")}Z` }));
    }
    const way = piece.map((p) => `${x(p.at).toFixed(1)} ${y(p.value).toFixed(1)}`).join("L");
    if (piece.length > 1) group.append(s("path", { class: line.estimated ? "curve estimated" : "curve", d: `M${way}` }));
    if (piece.length < 40 && !line.estimated) {
      for (const p of piece) group.append(s("circle", { class: "point", cx: x(p.at), cy: y(p.value), r: piece.length > 20 ? 2 : 3 }));
    }
  }
  return group;
}

function piecesOf(points) {
  const pieces = [[]];
  for (const point of points) {
    if (point.value === null || point.value === undefined) pieces.push([]);
    else pieces[pieces.length - 1].push(point);
  }
  return pieces.filter((piece) => piece.length);
}

/** Tell the figures at the pointer's time in words. */
function follow(svg, { x, height, width, from, to, lines: all, told, zone = "UTC", axis }) {
  const cross = s("line", { class: "cross", y1: TOP, y2: height - BOTTOM, visibility: "hidden" });
  svg.append(cross);
  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect();
    const at = from + ((event.clientX - box.left) * (width / box.width) - LEFT) / (width - RIGHT - LEFT) * (to - from);
    const nearest = all.map((line) => [line, closest(line.points, at)]).filter(([, point]) => point);
    if (!nearest.length) return;
    const here = nearest.reduce((a, b) => (Math.abs(a[1].at - at) <= Math.abs(b[1].at - at) ? a : b))[1].at;
    cross.setAttribute("x1", x(here));
    cross.setAttribute("x2", x(here));
    cross.setAttribute("visibility", "visible");
    const shown = nearest.filter(([, p]) => p.at === here).map(([line, p]) => `${line.name} ${p.text ?? number(p.value)}`);
    told(`${axis ? axis(here, to - from) : tick(here, 3e8, zone)}: ${shown.join(" · ")}`);
  });
  svg.addEventListener("pointerleave", () => {
    cross.setAttribute("visibility", "hidden");
    told("");
  });
}

function closest(points, at) {
  let best = null;
  for (const point of points) {
    if (point.value === null) continue;
    if (best === null || Math.abs(point.at - at) < Math.abs(best.at - at)) best = point;
  }
  return best;
}
