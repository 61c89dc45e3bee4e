/** A/B experiments: what was planned, what they show now, how they ended. */

import { get } from "../api.js";
import { picture } from "../charts/figure.js";
import { intervals } from "../charts/intervals.js";
import { legendOf } from "../charts/legend.js";
import { lines } from "../charts/lines.js";
import { h, refill } from "../dom.js";
import { capital, chance, number, percent, second } from "../format.js";
import { zone } from "../header.js";
import { badge, card, empty, facts, note } from "../parts.js";
import { held } from "../store.js";

const VERDICTS = { ship: ["ok", "resolved"], keep: ["info", "info"], undecided: ["warn", "suspected"], invalid: ["bad", "critical"] };

export const section = {
  id: "experiments",
  title: "Experiments",
  lead: "Treatments against the control on entities drawn by a hash; the unit of analysis is the entity.",
  needs: ["experiments"],
  mount(place) {
    const findings = new Map();
    const update = () => draw(place, held("experiments"), findings, update);
    return { update };
  },
};

function draw(place, doc, findings, update) {
  if (!doc.experiments.length) {
    refill(place, card({ title: "Experiments" }, empty("No experiment yet.", "`kappa experiment plan` says how many entities one needs, `kappa experiment start` begins it.")));
    return;
  }
  refill(place, h("div", { class: "stack" }, doc.experiments.map((e) => one(e, findings, update))));
}

function one(e, findings, update) {
  const found = findings.get(e.name);
  const running = e.stopped_ms === null;
  const look = async () => {
    findings.set(e.name, { waiting: true });
    update();
    try {
      findings.set(e.name, { of: await get("experiments/findings", { name: e.name }) });
    } catch (fault) {
      findings.set(e.name, { fault });
    }
    update();
  };
  const button = h("button", { class: "button small", type: "button", "data-key": `look ${e.name}`, disabled: found?.waiting, onclick: look },
    found?.waiting ? "Reading the outcomes…" : found?.of ? "Read again" : "What does it show?");
  const arms = e.arms.map((a) => `model ${a.version} (${percent(a.share)})`).join(", ");
  return card({ title: e.name, note: e.reason, tools: h("div", { class: "row" }, running ? badge("Running", "info", "actions") : badge("Ended"), button) },
    h("div", { class: "grid" },
      h("div", { class: "third" }, facts([
        ["Control", e.control ? `model ${e.control}` : "the prior"],
        ["Treatments", arms],
        ["Metric", [e.plan.metrics ?? e.plan.metric].flat().filter(Boolean).map(named).join(", ") || null],
        ["Effect looked for", e.plan.effect === undefined ? null : number(e.plan.effect)],
        ["Power, level", e.plan.power === undefined ? null : `${percent(e.plan.power, 0)}, ${number(e.plan.alpha)}`],
        ["Entities wanted", e.plan.control === undefined ? null : `${number(e.plan.control, 6)} + ${number(e.plan.treatment, 6)} each`],
        ["Began", second(e.started_ms, zone())],
        ["Ended", running ? null : `${second(e.stopped_ms, zone())}: ${e.stop_reason}`],
      ])),
      h("div", { class: "two-thirds" }, result(found, e))));
}

const named = (metric) => (typeof metric === "string" ? metric : metric.text ?? metric.name ?? JSON.stringify(metric));

function result(found, e) {
  if (found?.fault) return note(found.fault.message, "bad");
  if (found?.of) return shown(found.of);
  const kept = e.evidence;
  if (kept?.effects) return [verdict(kept.verdict?.kind, kept.verdict?.reason), effects(e.name, kept.effects)];
  return empty(e.stopped_ms === null ? "It is running." : "It ended without figures.", "“What does it show?” reads all of its outcomes now, which takes some seconds.");
}

function verdict(kind, reason) {
  return kind ? h("p", { class: "row" }, badge(capital(kind), ...(VERDICTS[kind] ?? [""])), reason) : null;
}

function shown(f) {
  const versions = [...new Set(f.course.map((p) => p.version))];
  const told = h("p", { class: "readout hover", "aria-hidden": "true" });
  const drawnLines = versions.map((version, i) => ({
    name: `model ${version}`, series: i,
    points: f.course.filter((p) => p.version === version).map((p) => ({ at: p.at_ms, value: p.difference, low: p.low, high: p.high })),
  }));
  return h("div", { class: "stack" }, verdict(f.verdict, f.reason),
    h("p", { class: "muted num" }, `${number(f.outcomes, 8)} outcomes of ${number(f.entities.reduce((a, b) => a + b, 0), 8)} entities over ${number(f.days)} days; the planned size is ${f.reached ? "reached" : "not reached yet"}.`),
    f.course.length ? h("div", {}, picture({
      name: `Effect over time in ${f.name}`,
      legend: legendOf(drawnLines.map((l) => ({ text: `${l.name} less control`, sign: "line", series: l.series }))),
      draw: (width) => lines({ width, height: 210, zero: true, zone: zone(), lines: drawnLines, label: `The effect over time: ${f.reason}`, told: (text) => (told.textContent = text) }),
      columns: [{ name: "Up to" }, { name: "Version", numeric: true }, { name: "Difference", numeric: true }, { name: "Interval", numeric: true }],
      rows: () => f.course.map((p) => [second(p.at_ms, zone()), p.version, number(p.difference), `${number(p.low)} to ${number(p.high)}`]),
    }), told) : null,
    effects(f.name, f.effects));
}

function effects(name, list) {
  const rows = list.map((each) => ({ each, of: each.cuped ?? each.plain })).filter(({ of }) => of);
  if (!rows.length) return null;
  const bounds = (of) => of.sequential ?? of.fixed ?? {};
  const low = (b) => (Array.isArray(b) ? b[0] : b.low);
  const high = (b) => (Array.isArray(b) ? b[1] : b.high);
  const mean = (of) => (typeof of.difference === "object" ? of.difference.mean : of.difference);
  return picture({
    name: `Effects of ${name}`,
    draw: (width) => intervals({
      width, zero: true, label: `Effects with intervals that hold at all times: ${rows.map(({ each, of }) => `${each.metric} ${number(mean(of))}`).join(", ")}`,
      rows: rows.map(({ each, of }, i) => ({ name: `${each.metric} · ${each.version}`, value: mean(of), low: low(bounds(of)), high: high(bounds(of)), series: i })),
    }),
    columns: [{ name: "Metric" }, { name: "Version", numeric: true }, { name: "Difference", numeric: true }, { name: "Interval", numeric: true }, { name: "p (Holm)", numeric: true }],
    rows: () => rows.map(({ each, of }) => [each.metric, each.version, number(mean(of)), `${number(low(bounds(of)))} to ${number(high(bounds(of)))}`, chance(of.holm ?? of.p)]),
  });
}
