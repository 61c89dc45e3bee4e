/** Health: latency of each hop, lag of each role, processes, the broker. */

import { histogram } from "../charts/bars.js";
import { picture } from "../charts/figure.js";
import { h, refill, s } from "../dom.js";
import { ago, bytes, capital, count, NONE, number, percent, rate, second, span, words } from "../format.js";
import { zone } from "../header.js";
import { badge, card, empty, note, stats, table } from "../parts.js";
import { extent, linear } from "../scales.js";
import { held } from "../store.js";
import { labelDelay } from "./label_delay.js";

const SHOWN_FIGURES = 12;

export const section = {
  id: "health",
  title: "Latency and health",
  short: "Health",
  lead: "How long records take from hop to hop, how far each role is behind, and how the processes are.",
  needs: ["health", "performance"],
  mount: (place) => ({ update: () => draw(place, held("health")) }),
};

function draw(place, doc) {
  const behind = doc.lag.reduce((sum, each) => sum + each.lag, 0);
  const silent = doc.processes.filter((p) => p.state === "silent");
  refill(place,
    doc.broker.state === "away" && note(`The broker at ${doc.broker.address} does not answer since ${second(doc.broker.since_ms, zone())}: ${doc.broker.why ?? ""} Start it; this page goes on by itself.`, "bad"),
    stats([
      { name: "Broker", value: doc.broker.state === "up" ? "up" : "away", under: doc.broker.answer_ms === null ? doc.broker.address : `answers in ${doc.broker.answer_ms < 1 ? "< 1" : number(doc.broker.answer_ms, 2)} ms`, tone: doc.broker.state === "up" ? "" : "bad" },
      { name: "Processes", value: String(doc.processes.length - silent.length), under: silent.length ? `silent: ${silent.map((p) => p.role).join(", ")}` : doc.processes.length ? "all tell of themselves" : "none has told of itself", tone: silent.length ? "bad" : "" },
      { name: "Behind", value: count(behind), unit: "records", under: "not committed yet" },
      { name: "Memory", value: bytes(doc.processes.reduce((sum, p) => sum + p.memory_bytes, 0)), under: "of all processes" },
    ]),
    h("div", { class: "tiles hops" },
      doc.hops.length ? doc.hops.map((hop) => latency(hop, doc.edges_ms))
        : card({ title: "Latency by hop" }, empty("No record has passed of late.", "Play events (`kappa produce`), and the hops tell how long each took."))),
    h("div", { class: "grid" },
      lag(doc.lag), processes(doc), labelDelay(held("performance"))));
}

function latency(hop, edges) {
  const bins = [...edges.map((e) => `≤${short(e)}`), `>${short(edges[edges.length - 1])}`];
  const lines = [["p50", hop.p50_ms], ["p99", hop.p99_ms]]
    .filter(([, ms]) => ms !== null)
    .map(([name, ms]) => ({ bin: Math.max(0, edges.findIndex((e) => e >= ms)), text: `${name} ≤ ${short(ms)}` }));
  if (lines.length === 2 && lines[0].bin === lines[1].bin) lines.splice(0, 2, { bin: lines[0].bin, text: `p50, p99 ≤ ${short(hop.p99_ms)}` });
  return card({ title: capital(hop.name.replaceAll("_", " ")), note: `${hop.role} · ${rate(hop.rate)}` },
    hop.records ? picture({
      name: `Latency of ${words(hop.name)} (${hop.role})`,
      draw: (width) => histogram({ width, bins, counts: hop.counts, series: 0, lines, label: `${count(hop.records)} records; half within ${span(hop.p50_ms)}, 99 % within ${span(hop.p99_ms)}` }),
      columns: [{ name: "Took" }, { name: "Records", numeric: true }],
      rows: () => bins.map((bin, k) => [bin, count(hop.counts[k])]),
    }) : empty("Nothing passed.", "of late"));
}

function short(ms) {
  return ms < 1000 ? `${ms} ms` : ms < 60_000 ? `${ms / 1000} s` : `${ms / 60_000} min`;
}

/** Per role and topic; the partitions behind are folded away. */
function lag(list) {
  if (!list.length) return card({ title: "Lag", size: "half" }, empty("Nobody has committed yet.", "Start the workers with `kappa up`."));
  const readers = new Map();
  for (const p of list) {
    const key = `${p.role} ${p.topic}`;
    if (!readers.has(key)) readers.set(key, { role: p.role, topic: p.topic, parts: [], lag: 0, next: 0 });
    const reader = readers.get(key);
    reader.parts.push(p);
    reader.lag += p.lag;
    reader.next += p.committed ?? 0;
  }
  const order = [...readers.values()].sort((a, b) => b.lag - a.lag);
  return card({ title: "Lag", note: order[0].lag ? "largest first" : "nobody is behind", size: "half" }, table({
    caption: "Lag by role and topic",
    columns: [{ name: "Role" }, { name: "Topic" }, { name: "Read", numeric: true }, { name: "Behind", numeric: true }, { name: "Worst partition" }],
    rows: order.map((r) => [r.role, r.topic, count(r.next), r.lag ? h("strong", {}, count(r.lag)) : "0", parts(r)]),
  }));
}

function parts({ role, topic, parts: list }) {
  const order = [...list].sort((a, b) => b.lag - a.lag || a.partition - b.partition);
  const says = order[0].lag ? `${order[0].partition}: ${count(order[0].lag)}` : `${list.length} level`;
  const key = `lag ${role} ${topic}`;
  return h("details", { "data-key": key }, h("summary", { "data-key": `${key} summary`, "aria-label": `Partitions of ${topic} for ${role}: ${says}` }, says),
    h("ul", { class: "num" }, order.map((p) => h("li", {}, `${p.partition}: ${count(p.committed)} of ${count(p.end)}${p.lag ? `, ${count(p.lag)} behind` : ""}`))));
}

function processes(doc) {
  if (!doc.processes.length) return card({ title: "Processes", size: "half" }, empty("No process has told of itself.", "Start the workers with `kappa up`; each tells every few seconds."));
  return card({ title: "Processes", note: "each tells of itself every few seconds", size: "half" }, table({
    caption: "Processes",
    columns: [{ name: "Role" }, { name: "State" }, { name: "CPU", numeric: true }, { name: "Of late" }, { name: "Memory", numeric: true }, { name: "GPU", numeric: true }, { name: "Up", numeric: true }, { name: "Figures" }],
    rows: doc.processes.map((p) => [
      p.role, p.state === "running" ? badge("Running", "ok", "resolved") : badge(`Silent for ${span(p.silent_s * 1000)}`, "bad", "critical"),
      percent(p.cpu, 0), spark(p.history), bytes(p.memory_bytes), p.gpu_busy === null ? NONE : percent(p.gpu_busy, 0), ago(p.began_ms, doc.now_ms).replace(" ago", ""), figures(p),
    ]),
  }));
}

function spark(history) {
  if (history.length < 2) return NONE;
  const x = linear([history[0].at_ms, history[history.length - 1].at_ms], [2, 108]);
  const y = linear(extent([0, ...history.map((v) => v.cpu)]), [24, 2]);
  const way = history.map((v) => `${x(v.at_ms).toFixed(1)} ${y(v.cpu).toFixed(1)}`).join("L");
  return h("span", { class: "chart" }, s("svg", { class: "spark s0", viewBox: "0 0 110 26", role: "img", "aria-label": `CPU of late, now ${percent(history[history.length - 1].cpu, 0)}` }, s("path", { class: "curve", d: `M${way}` })));
}

function figures(p) {
  const all = Object.entries(p.figures);
  if (!all.length) return NONE;
  return h("details", { "data-key": `figures ${p.worker}` }, h("summary", { "data-key": `figures-summary ${p.worker}`, "aria-label": `${all.length} figures of ${p.role}` }, String(all.length)),
    h("ul", {}, all.slice(0, SHOWN_FIGURES).map(([name, value]) => h("li", { class: "num" }, `${name} ${number(value)}`)),
      all.length > SHOWN_FIGURES ? h("li", { class: "muted" }, `and ${all.length - SHOWN_FIGURES} more`) : null));
}
