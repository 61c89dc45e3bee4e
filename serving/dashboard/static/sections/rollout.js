/** The rollout: who answers whom, the confidence sequence of what is on trial, who changed what. */

import { picture } from "../charts/figure.js";
import { legendOf } from "../charts/legend.js";
import { lines } from "../charts/lines.js";
import { h, refill } from "../dom.js";
import { capital, count, number, percent, second } from "../format.js";
import { zone } from "../header.js";
import { badge, card, empty, facts, table } from "../parts.js";
import { held } from "../store.js";

const VERDICTS = { promote: ["ok", "resolved"], hold: ["info", "info"], roll_back: ["bad", "critical"] };
const SAID = { promote: "promote", hold: "hold", roll_back: "roll back" };

export const section = {
  id: "rollout",
  title: "Rollout",
  lead: "Which version answers whom, what stands on trial, and how sure the policy is. The intervals hold at all times at once, so one may look whenever one likes.",
  needs: ["rollout", "overview"],
  mount: (place) => ({ update: () => draw(place, held("rollout")) }),
};

function draw(place, doc) {
  const trials = new Map();
  for (const j of doc.judgements) {
    const key = `${j.version}/${j.against}/${j.stage}`;
    if (!trials.has(key)) trials.set(key, []);
    trials.get(key).push(j);
  }
  const newest = [...trials.values()].reverse();
  refill(place, h("div", { class: "grid" },
    doc.definitions.map((d) => standing(d, doc.definitions.length > 1)),
    newest.length ? newest.slice(0, 6).map((list, i) => trial(list, doc.guardrails, i === 0))
      : card({ title: "Trials" }, empty("Nothing was judged yet.", doc.policy ? "The policy speaks once a version in shadow or canary has enough labels." : "Versions go live at once here: declare `rollout=RolloutPolicy(...)` to try them in shadow and canary first.")),
    history(doc.changes)));
}

function standing(d, several) {
  const arms = d.arms.map((arm) => [arm.version, arm.stage, arm.share]);
  const taken = arms.reduce((sum, [, , share]) => sum + (share ?? 0), 0);
  const all = [[d.live, "live", 1 - taken], ...arms];
  const bar = h("ul", { class: "shares", "aria-label": "Shares of the entities" }, all.filter(([, , share]) => share).map(([version, stage, share], i) => {
    const piece = h("li", { class: `s${i % 6}` }, h("span", {}, `${version ? `model ${version}` : "prior"} · ${stage} · ${percent(share)}`));
    piece.style.setProperty("--share", share);
    return piece;
  }));
  return card({
    title: several ? `Definition v${d.definition}` : "Who answers",
    note: d.answering ? "" : "does not answer now",
    tools: h("div", { class: "row" },
      d.pinned !== null && badge(`pinned to ${d.pinned}`, "warn", "lock"),
      d.obeyed ? badge("all partitions obey", "ok", "resolved") : badge(`partitions ${d.partitions_left.join(", ")} not yet`, "warn", "suspected")),
  }, bar, facts([
    ["In shadow", arms.filter(([, stage]) => stage === "shadow").map(([v]) => `model ${v}`).join(", ") || "none"],
    ["Experiment", d.experiment ? h("a", { href: "#experiments" }, d.experiment) : null],
  ]));
}

function trial(list, guardrails, first) {
  const last = list[list.length - 1];
  const points = list.filter((j) => j.mean !== null).map((j) => ({
    at: j.n ?? j.at_ms, value: j.mean, low: j.low, high: j.high,
    text: `${number(j.mean)} (${number(j.low)} to ${number(j.high)})`,
  }));
  const byCount = points.length > 0 && list.every((j) => j.mean === null || j.n !== null);
  const mine = guardrails.filter((g) => g.version === last.version);
  const told = h("p", { class: "readout hover", "aria-hidden": "true" });
  const title = `Model ${last.version} against ${last.against ? `model ${last.against}` : "the prior"}`;
  const chart = points.length ? picture({
    name: `Confidence sequence of ${title}, ${last.stage}`,
    legend: legendOf([{ text: `loss of the challenger less that of the live one, by ${byCount ? "number of outcomes" : "time"}`, sign: "line", series: 0 }, ...(last.margin === null ? [] : [{ text: `may be worse by ${number(last.margin)}`, sign: "limit" }])]),
    draw: (width) => lines({
      width, height: 220, zero: true, limit: last.margin, zone: zone(), lines: [{ name: "difference", series: 0, points }],
      axis: byCount ? (n) => count(Math.round(n)) : undefined,
      label: `${title}: the difference of losses is ${number(last.mean)}, between ${number(last.low)} and ${number(last.high)}; below zero the challenger is better.`,
      told: (text) => (told.textContent = text),
    }),
    columns: [{ name: "Written" }, { name: "Outcomes", numeric: true }, { name: "Difference", numeric: true }, { name: "Interval", numeric: true }, { name: "Verdict" }],
    rows: () => list.map((j) => [second(j.at_ms, zone()), number(j.n, 6), number(j.mean), `${number(j.low)} to ${number(j.high)}`, SAID[j.verdict]]),
  }) : null;
  return card({
    title, note: `${last.stage}${last.share ? ` for ${percent(last.share)} of the entities` : ""}${last.source === "pairs" ? ", both answered the same events" : last.source === "arms" ? ", side by side" : ""}`,
    size: first ? "" : "half", tools: badge(`${capital(SAID[last.verdict])}${last.dry_run ? " (dry run)" : ""}`, ...VERDICTS[last.verdict]),
  }, h("p", {}, last.reason), chart, chart && told,
  mine.length && first ? table({
    caption: "Guardrails", hideCaption: false,
    columns: [{ name: "Guardrail" }, { name: "Value", numeric: true }, { name: "Limit", numeric: true }, { name: "State" }],
    rows: mine.map((g) => [g.name, number(g.value), number(g.limit), g.tripped ? badge("tripped", "bad", "critical") : badge("holds", "ok", "resolved")]),
  }) : null);
}

function history(changes) {
  if (!changes.length) return card({ title: "Changes" }, empty("No change yet.", "The first model that passes goes live by itself."));
  return card({ title: "Changes", note: "newest first" }, table({
    caption: "Changes of the rollout",
    columns: [{ name: "What" }, { name: "By" }, { name: "Why" }, { name: "When" }, { name: "No.", numeric: true }],
    rows: [...changes].reverse().slice(0, 100).map((c) => [c.what, c.by, c.reason, h("span", { class: "num" }, second(c.at_ms, zone())), c.change || "–"]),
  }));
}
