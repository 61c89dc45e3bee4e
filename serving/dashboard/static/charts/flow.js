/** The flow picture: topics and processes on the server's grid, with rates and lag on the pipes. */

import { s } from "../dom.js";
import { count, rate } from "../format.js";

const BOX_W = 118;
const BOX_H = 46;
const GAP_X = [14, 84];
const GAP_Y = 24;
const NARROW = 640;
const SMALLEST = 0.85; // below it the text can't be read

/**
 * @param {{width: number, nodes: any[], edges: any[], label: string}} about nodes and edges of the overview document
 * @returns {SVGElement}
 */
export function flow({ width, nodes, edges, label }) {
  const upright = width < NARROW;
  const columns = Math.max(...nodes.map((n) => n.column), 0) + 1;
  const rows = Math.max(...nodes.map((n) => n.row), 0) + 1;
  const [across, down] = upright ? [rows, columns] : [columns, rows];
  const gap = upright ? 16 : Math.max(GAP_X[0], Math.min(GAP_X[1], (width - 4 - across * BOX_W) / Math.max(1, across - 1)));
  const stepX = BOX_W + gap;
  const stepY = BOX_H + (upright ? 40 : GAP_Y);
  const fullW = across * stepX - (stepX - BOX_W) + 4;
  const fullH = down * stepY - (stepY - BOX_H) + 4;
  const place = new Map(nodes.map((n) => {
    const [i, k] = upright ? [n.row, n.column] : [n.column, n.row];
    return [n.id, { x: 2 + i * stepX, y: 2 + k * stepY }];
  }));
  const scale = Math.max(SMALLEST, Math.min(1, width / fullW));
  const svg = s("svg", {
    class: "flow", viewBox: `0 0 ${Math.max(fullW, width)} ${fullH}`, role: "group", "aria-label": label,
    height: Math.round(fullH * scale),
  });
  if (fullW * scale > width) svg.style.width = `${Math.round(fullW * scale)}px`; // its frame scrolls
  const most = Math.max(1, ...edges.map((e) => e.rate ?? 0));
  const idle = new Set(nodes.filter((n) => n.state === "unknown").map((n) => n.id));
  for (const edge of edges) {
    const [a, b] = [place.get(edge.source), place.get(edge.target)];
    if (a && b) pipe(svg, idle.has(edge.target) ? { ...edge, lag: null } : edge, a, b, upright, most);
  }
  for (const node of nodes) svg.append(box(node, place.get(node.id)));
  return svg;
}

function pipe(svg, edge, a, b, upright, most) {
  const back = upright ? b.y <= a.y : b.x <= a.x;
  let way;
  if (upright) {
    const [x1, y1, x2, y2] = back
      ? [a.x + BOX_W / 2, a.y, b.x + BOX_W / 2, b.y + BOX_H]
      : [a.x + BOX_W / 2, a.y + BOX_H, b.x + BOX_W / 2, b.y];
    const bend = Math.max(18, Math.abs(y2 - y1) / 2) * (back ? -1 : 1);
    way = `M${x1} ${y1}C${x1} ${y1 + bend} ${x2} ${y2 - bend} ${x2} ${y2}`;
  } else {
    const [x1, x2] = back ? [a.x, b.x + BOX_W] : [a.x + BOX_W, b.x];
    const [y1, y2] = [a.y + BOX_H / 2, b.y + BOX_H / 2];
    const bend = Math.max(24, Math.abs(x2 - x1) / 2) * (back ? -1 : 1);
    way = `M${x1} ${y1}C${x1 + bend} ${y1} ${x2 - bend} ${y2} ${x2} ${y2}`;
  }
  const width = edge.rate ? 2 + 4 * Math.sqrt(edge.rate / most) : 1.4;
  const late = isLate(edge) ? " late" : "";
  const told = edge.lag ? s("title", {}, `${count(edge.lag)} behind`) : null;
  svg.append(s("path", { class: `pipe${late}`, d: way, "stroke-width": width.toFixed(1) }, told));
  if (edge.rate) svg.append(s("path", { class: `stream${late}`, d: way }));
}

/** Whether a reader is so far behind that one should look: a thousand records, and ten seconds of what flows. */
function isLate({ lag, rate: flows }) {
  return Boolean(lag) && lag > 1000 && lag > 10 * (flows ?? 0);
}

const STATES = { running: "running", silent: "silent", unknown: "not run", present: "", missing: "missing" };

function box(node, { x, y }) {
  const topic = node.kind === "topic";
  const idle = node.state === "unknown"; // nobody who reads could be behind
  const late = !topic && !idle && isLate(node) ? " late" : "";
  const figures = idle ? [] : [node.rate === null ? null : rate(node.rate), topic && node.records !== null ? count(node.records) : null,
    !topic && node.lag ? `${count(node.lag)} behind` : null].filter(Boolean);
  const under = (late ? figures.slice(-1) : figures.slice(0, topic ? 2 : 1)).join(" · ") || STATES[node.state] || (topic ? "empty" : "");
  const name = [node.label, topic ? "topic" : "process", STATES[node.state], ...figures].filter(Boolean).join(", ");
  const target = topic ? `#topics/${encodeURIComponent(node.id.slice("topic:".length))}` : "#health";
  return s("a", { href: target, class: `${node.kind} ${node.state}${late}`, "aria-label": name, "data-key": node.id },
    s("rect", { class: "box", x, y, width: BOX_W, height: BOX_H, rx: topic ? BOX_H / 2 : 9 }),
    topic ? null : s("circle", { class: `state-${node.state}`, cx: x + 15, cy: y + 17, r: 4.2 }),
    s("text", { class: "title", x: topic ? x + BOX_W / 2 : x + 26, y: y + 21, "text-anchor": topic ? "middle" : "start" }, shortened(node.label)),
    s("text", { x: topic ? x + BOX_W / 2 : x + 26, y: y + 36, "text-anchor": topic ? "middle" : "start" }, under));
}

function shortened(name) {
  return name.length > 17 ? `${name.slice(0, 16)}…` : name;
}
