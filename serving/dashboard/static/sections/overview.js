/** The whole pipeline at a glance: figures, the flow picture, what stands. */

import { flow } from "../charts/flow.js";
import { h, refill } from "../dom.js";
import { ago, count, number, rate } from "../format.js";
import { picture } from "../charts/figure.js";
import { zone } from "../header.js";
import { card, empty, note, stats } from "../parts.js";
import { held } from "../store.js";
import { item } from "./alert_item.js";

const COLUMNS = [{ name: "Node" }, { name: "Kind" }, { name: "State" }, { name: "Rate", numeric: true }, { name: "Records", numeric: true }, { name: "Behind", numeric: true }];

export const section = {
  id: "overview",
  title: "Overview",
  lead: "Topics and processes with what flows through them now, and what needs a look.",
  needs: ["overview", "alerts"],
  mount(place) {
    return { update: () => draw(place, held("overview")) };
  },
};

function draw(place, now) {
  const live = now.live ? `model ${now.live}` : "prior";
  const figures = [
    { name: "Events", value: rate(now.events.rate), under: `${count(now.events.total)} in the log` },
    { name: "Predictions", value: rate(now.predictions.rate), under: `${count(now.predictions.total)} answers` },
    { name: "Labels", value: rate(now.labels.rate), under: `${count(now.labels.total)} arrived` },
    { name: "Live", value: live, under: now.live_since_ms ? `since ${ago(now.live_since_ms, now.now_ms)}` : "from the start" },
    { name: "Dead letters", value: number(now.dead_letters.total, 6), under: now.dead_letters.total ? "to be looked at" : "none", tone: now.dead_letters.total ? "bad" : "" },
    { name: "Standing alerts", value: String(now.standing.length), under: now.standing.length ? "suspected or confirmed" : "all calm", tone: now.standing.length ? "bad" : "" },
  ];
  const running = now.nodes.filter((n) => n.kind === "process" && n.state === "running").length;
  const silent = now.nodes.filter((n) => n.state === "silent").map((n) => n.label);
  const label = `Flow of the data: ${now.nodes.length} topics and processes, ${running} processes running${silent.length ? `, silent: ${silent.join(", ")}` : ""}`;
  const rows = () => now.nodes.map((n) => [n.label, n.kind, n.state, rate(n.rate), count(n.records), count(n.lag)]);
  const drawn = picture({
    name: "Flow", columns: COLUMNS, rows,
    draw: (width) => h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Flow picture", "data-scroll": "flow", "data-key": "flow" }, flow({ width, nodes: now.nodes, edges: now.edges, label })),
  });
  const standing = now.standing.length
    ? h("ul", { class: "alerts" }, now.standing.slice(0, 5).map((alert) => item({ key: alert.key, newest: alert, states: [], since_ms: alert.window.end_ms }, zone(), true)))
    : empty("Nothing stands.", "Alerts that are suspected or confirmed come here by themselves.");
  refill(place,
    now.broker === "away" && note("The broker does not answer: the figures below are the last ones known. Start it, or look at KAFKA_BOOTSTRAP_SERVERS; this page goes on by itself.", "bad"),
    stats(figures),
    h("div", { class: "grid" },
      card({ title: "Flow", note: "round: topics, square: processes; the wider a pipe the more records/s" },
        now.nodes.length ? drawn : empty("No topics yet.", "Start the pipeline with `kappa up`.")),
      card({ title: "Standing alerts", note: now.standing.length > 5 ? `5 of ${now.standing.length}` : "", tools: h("a", { href: "#alerts" }, "All alerts") }, standing)));
}
