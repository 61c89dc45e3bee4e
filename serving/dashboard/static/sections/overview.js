/** The whole pipeline at a glance: figures, the flow picture, what stands. */

import { flow } from "../charts/flow.js";
import { h, refill } from "../dom.js";
import { ago, capital, count, instant, number, rate, words } from "../format.js";
import { picture } from "../charts/figure.js";
import { stillMap } from "../charts/heatmap.js";
import { zone } from "../header.js";
import { card, empty, note, stats } from "../parts.js";
import { held } from "../store.js";
import { item, whole } from "./alert_item.js";
import { mapOf } from "./drift.js";
import { newestOf, viewOf } from "./drift_view.js";
import { headline } from "./performance.js";

const [ALERTS, FEATURES] = [4, 7];
const COLUMNS = [{ name: "Node" }, { name: "Kind" }, { name: "State" }, { name: "Rate", numeric: true }, { name: "Records", numeric: true }, { name: "Behind", numeric: true }];

export const section = {
  id: "overview",
  title: "Overview",
  lead: "Topics and processes with what flows through them now, and what needs a look.",
  needs: ["overview", "alerts", "performance", "drift"],
  mount(place) {
    const parts = keeper();
    return { update: () => draw(place, held("overview"), parts) };
  },
};

/** Keeps what was made of a document until there is another one: rates change every second, these don't. */
function keeper() {
  const kept = new Map();
  return (name, make) => {
    const of = [held(name), zone(), document.documentElement.dataset.theme];
    const before = kept.get(name);
    if (before?.of.every((each, i) => each === of[i])) return before.made;
    const made = make(of[0]);
    kept.set(name, { of, made });
    return made;
  };
}

function draw(place, now, parts) {
  const live = now.live ? `model ${now.live}` : "prior";
  const figures = [
    { name: "Events", value: rate(now.events.rate), under: `${count(now.events.total)} in the log` },
    { name: "Predictions", value: rate(now.predictions.rate), under: `${count(now.predictions.total)} in the log` },
    { name: "Labels", value: rate(now.labels.rate), under: `${count(now.labels.total)} in the log` },
    { name: "Live", value: live, under: now.live_since_ms ? `since ${ago(now.live_since_ms, now.now_ms)}` : "from the start" },
    { name: "Dead letters", value: number(now.dead_letters.total, 6), under: now.dead_letters.total ? "to be looked at" : "none", tone: now.dead_letters.total ? "bad" : "" },
    { name: "Standing alerts", value: String(now.standing.length), under: standingText(now.standing), tone: now.standing.length ? "bad" : "" },
  ];
  const running = now.nodes.filter((n) => n.kind === "process" && n.state === "running").length;
  const silent = now.nodes.filter((n) => n.state === "silent").map((n) => n.label);
  const label = `Flow of the data: ${now.nodes.length} topics and processes, ${running} processes running${silent.length ? `, silent: ${silent.join(", ")}` : ""}`;
  const rows = () => now.nodes.map((n) => [n.label, n.kind, n.state, rate(n.rate), count(n.records), count(n.lag)]);
  const drawn = picture({
    name: "Flow", columns: COLUMNS, rows,
    draw: (width) => h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Flow picture", "data-scroll": "flow", "data-key": "flow" }, flow({ width, nodes: now.nodes, edges: now.edges, label })),
  });
  refill(place,
    now.broker === "away" && note("The broker does not answer: the figures below are the last ones known. Start it, or look at KAFKA_BOOTSTRAP_SERVERS; this page goes on by itself.", "bad"),
    stats(figures),
    h("div", { class: "grid" },
      card({ title: "Flow", note: "round: topics, square: processes; the wider a pipe the more records/s" },
        now.nodes.length ? drawn : empty("No topics yet.", "Start the pipeline with `kappa up`.")),
      parts("performance", headline), parts("drift", worst), alarms(now.standing)));
}

function standingText(standing) {
  if (!standing.length) return "all calm";
  const confirmed = standing.filter((a) => whole(a).state === "confirmed").length;
  return [confirmed && `${confirmed} confirmed`, standing.length - confirmed && `${standing.length - confirmed} suspected`].filter(Boolean).join(", ");
}

/** What stands; where nothing does, what was last. */
function alarms(standing) {
  const tools = h("a", { href: "#alerts" }, "All alerts");
  if (standing.length) {
    const note_ = standing.length > ALERTS ? `${ALERTS} of ${standing.length}` : "";
    return card({ title: "Standing alerts", note: note_, tools }, h("ul", { class: "alerts" }, standing.slice(0, ALERTS).map(
      (alert) => item({ key: alert.key, newest: alert, states: [], since_ms: alert.window.end_ms }, zone(), true))));
  }
  const before = (held("alerts")?.alerts ?? []).slice(0, 3);
  if (!before.length) return card({ title: "Standing alerts", tools }, empty("Nothing stands.", "Alerts that are suspected or confirmed come here by themselves."));
  return card({ title: "Alerts", note: "nothing stands; the newest that are over", tools },
    h("ul", { class: "alerts" }, before.map((entry) => item(entry, zone(), true))));
}

/** The features that are furthest out, as a small heat map. */
function worst(drift) {
  const tools = h("a", { href: "#drift" }, "All features");
  if (!drift?.windows.length || !drift.features.length) {
    return card({ title: "Drift", size: "half", tools }, empty("No window has closed yet.", "Features are compared once a model is live and a window of `DataDrift` has closed."));
  }
  const view = viewOf(drift, { metric: null, length: null, all: false, order: "worst" });
  const shown = { ...mapOf(view), rows: view.rows.slice(0, FEATURES), excess: view.excess.slice(0, FEATURES) };
  const newest = (row) => {
    const [i, k] = [view.index[row], view.columns[newestOf(view, row)]];
    return [view.figure.value[i][k], view.figure.thresholds[i]];
  };
  const out = view.rows.filter((_, row) => view.excess[row][newestOf(view, row)] >= 1);
  const label = `Drift of the ${shown.rows.length} features that are furthest out; out of bounds now: ${out.slice(0, FEATURES).join(", ") || "none"}`;
  return card({
    title: "Drift", size: "half", tools,
    note: `${capital(words(view.metric))} by ${view.rows.length > FEATURES ? `the worst ${FEATURES} of ${view.rows.length} features` : "feature"}, until ${instant(view.windows.at(-1).end_ms, zone())}`,
  }, picture({
    name: "Drift of late",
    draw: (width) => stillMap(width, shown, label),
    columns: [{ name: "Feature" }, { name: words(view.metric), numeric: true }, { name: "Limit", numeric: true }],
    rows: () => shown.rows.map((name, row) => [h("a", { href: `#drift/${encodeURIComponent(name)}` }, name), ...newest(row).map((v) => number(v))]),
  }), h("p", { class: "readout" }, out.length ? ["Out of bounds: ", out.slice(0, FEATURES).map((name, i) => [i ? ", " : "", h("a", { href: `#drift/${encodeURIComponent(name)}` }, name)])] : "Every feature is within its bounds."));
}
