/** Training runs: asked for, made, refused. */

import { h, refill } from "../dom.js";
import { capital, instant, number, second, words } from "../format.js";
import { zone } from "../header.js";
import { badge, card, empty, facts, stats, table } from "../parts.js";
import { held } from "../store.js";

const STATES = { asked: ["info", "suspected"], registered: ["ok", "resolved"], refused: ["warn", "warning"] };
const STAGES = { live: "ok", canary: "info", shadow: "info", experiment: "info", rolled_back: "bad" };

export const section = {
  id: "trainings",
  title: "Training runs",
  short: "Training",
  lead: "What was asked for and what came of it: versions with their figures in validation, or why there is none.",
  needs: ["trainings"],
  mount: (place) => ({ update: () => draw(place, held("trainings").trainings) }),
};

function draw(place, runs) {
  if (!runs.length) {
    refill(place, card({ title: "Training runs" }, empty("No training yet.", "The first one comes when enough labels have arrived; “Retrain” under Actions asks for one now.")));
    return;
  }
  const made = runs.filter((r) => r.state === "registered");
  const names = [...new Set(made.flatMap((r) => Object.keys(r.metrics)))].slice(0, 4);
  const newest = made[0];
  refill(place,
    stats([
      { name: "Versions", value: String(made.length) },
      { name: "Refused", value: String(runs.filter((r) => r.state === "refused").length), under: "by the gate or for want of labels" },
      { name: "Under way", value: String(runs.filter((r) => r.state === "asked").length), under: "asked for, not answered yet" },
      newest ? { name: "Newest version", value: String(newest.version), under: newest.cutoff_ms ? `data until ${instant(newest.cutoff_ms, zone())}` : "" } : { name: "Newest version", value: "–" },
    ]),
    card({ title: "Runs", note: "newest first" }, table({
      caption: "Training runs",
      columns: [{ name: "Version" }, { name: "State" }, { name: "Stage" }, { name: "Why" }, { name: "Cut-off" }, { name: "Rows", numeric: true }, ...names.map((n) => ({ name: capital(words(n)), numeric: true })), { name: "" }],
      rows: runs.slice(0, 100).map((r) => [
        r.version ? `model ${r.version}` : "–", badge(capital(r.state), ...STATES[r.state]),
        r.stage ? badge(words(r.stage), STAGES[r.stage] ?? "") : "–", r.refusal ? `${r.reason} — ${r.refusal}` : r.reason,
        h("span", { class: "num" }, instant(r.cutoff_ms, zone())), number(r.rows, 8), ...names.map((n) => number(r.metrics[n], 4)), more(r),
      ]),
    })));
}

function more(r) {
  return h("details", { "data-key": `run ${r.command_id}` }, h("summary", { "data-key": `run-summary ${r.command_id}`, "aria-label": `More about ${r.version ? `model ${r.version}` : "the run"}` }, "More"), facts([
    ["Command", h("code", {}, r.command_id)],
    ["Asked", r.asked_ms ? second(r.asked_ms, zone()) : null],
    ["Answered", r.at_ms ? second(r.at_ms, zone()) : null],
    ["Definition", r.definition ? `v${r.definition}` : null],
    ["Warm start from", r.parent ? `model ${r.parent}` : null],
    ["MLflow run", r.run_id ? h("code", {}, r.run_id) : null],
    ...Object.entries(r.metrics).map(([name, value]) => [capital(words(name)), number(value, 5)]),
    ...Object.entries(r.comparison ?? {}).filter(([, v]) => typeof v !== "object").map(([name, v]) => [`Against the live one: ${words(name)}`, typeof v === "number" ? number(v, 4) : String(v)]),
  ]));
}
