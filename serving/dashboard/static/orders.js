/** What can be done from here: each with its fields, and what will happen, said before it is. */

import { known, logIn } from "./access.js";
import { say, toast } from "./announcing.js";
import { post } from "./api.js";
import { ask } from "./dialog.js";
import { h } from "./dom.js";
import { words } from "./format.js";
import { held } from "./store.js";

const live = () => held("overview")?.live ?? 0;
const liveName = () => (live() ? `model ${live()}` : "the prior");
const standing = () => (held("rollout")?.definitions ?? []).find((d) => d.answering);
const versions = () => (held("trainings")?.trainings ?? []).filter((t) => t.version).map((t) => [String(t.version), `model ${t.version}${t.stage ? ` (${words(t.stage)})` : ""}`]);
const deadTopics = () => (held("topics")?.topics ?? []).filter((t) => t.kind === "dead_letters").map((t) => [t.topic, `${t.topic} (${t.records})`]);
const number = (text) => (text === null || text === "" ? null : Number(text));
const time = (text) => (text ? Date.parse(`${text}Z`) : null);

/**
 * @typedef {{name: string, title: string, lead: string, confirm: string, danger?: boolean,
 *   fields: () => Array<any>, will: (given: Object<string, string>) => string[], body: (given: Object<string, string>) => any}} Order
 */

/** @type {Order[]} */
export const ORDERS = [
  {
    name: "retrain", title: "Retrain", lead: "A training on what has arrived by now.", confirm: "Retrain",
    fields: () => [
      { name: "start", label: "Start", options: [["", "as the pipeline declares"], ["full", "from nothing"], ["warm", "from the live model"]] },
      { name: "window", label: "Window of data", placeholder: "as declared; 30d, all" },
    ],
    will: () => [
      "A retrain command is written to the log; the trainer takes it up once it is free.",
      `If the new version passes the gate against ${liveName()}, it goes on as the rollout policy says.`,
      "Nothing that is answered now changes until then.",
    ],
    body: (g) => ({ reason: g.reason, start: g.start || null, window: g.window || null }),
  },
  {
    name: "promote", title: "Promote", lead: "A version into shadow, canary or live.", confirm: "Promote",
    fields: () => [
      { name: "version", label: "Version", options: versions(), required: true },
      { name: "to", label: "To", options: [["live", "live"], ["canary", "canary"], ["shadow", "shadow"]] },
      { name: "share", label: "Share of the entities (canary)", type: "number", min: 0.001, max: 1, step: 0.001, placeholder: "0.05" },
    ],
    will: (g) => [
      g.to === "live" ? `Model ${g.version || "…"} answers every entity in place of ${liveName()}.`
        : g.to === "canary" ? `Model ${g.version || "…"} answers ${g.share ? `${(Number(g.share) * 100).toFixed(1)} %` : "a share"} of the entities beside ${liveName()}.`
          : `Model ${g.version || "…"} answers every event in shadow: nobody sees its answers.`,
      "The workers switch at a record that the log names; no event is answered twice or left out.",
      "The policy's verdict is not waited for.",
    ],
    body: (g) => ({ version: Number(g.version), reason: g.reason, to: g.to, share: g.to === "canary" ? number(g.share) : null }),
  },
  {
    name: "rollback", title: "Roll back", lead: "Take a version out of service.", confirm: "Roll back", danger: true,
    fields: () => [
      { name: "version", label: "Version", options: [["", `the live one (${liveName()})`], ...versions()] },
      { name: "to", label: "What answers then", options: [["", "the version before"], ["0", "the prior"], ...versions()] },
    ],
    will: (g) => [
      `${g.version ? `Model ${g.version}` : capitalLive()} answers no more, from the next batch on.`,
      `${g.to === "" || g.to === undefined ? "The version that was live before it" : g.to === "0" ? "The prior" : `Model ${g.to}`} answers instead.`,
      "The version is marked as rolled back; it comes back by a promotion alone.",
    ],
    body: (g) => ({ reason: g.reason, version: number(g.version), to: number(g.to) }),
  },
  {
    name: "pin", title: "Pin", lead: "Hold what is live, or let go of it.", confirm: "Do it",
    fields: () => [{ name: "version", label: "Pin to", options: [["", "nothing: let go"], ...versions()] }],
    will: (g) => (g.version
      ? [`Model ${g.version} is live and stays live.`, "The trainer and the policy change nothing until it is let go; trainings go on."]
      : [`${standing()?.pinned ? `Model ${standing().pinned} is not held any more.` : "Nothing is pinned now: this changes nothing."}`, "The trainer and the policy may change what is live again."]),
    body: (g) => ({ reason: g.reason, version: number(g.version) }),
  },
  {
    name: "replay", title: "Replay", lead: "Compute features again from the log and compare byte for byte.", confirm: "Replay",
    fields: () => [
      { name: "since", label: "Event time from, UTC", type: "datetime-local", step: 1 },
      { name: "until", label: "until, UTC", type: "datetime-local", step: 1 },
    ],
    will: (g) => [
      `Features of ${g.since || g.until ? "this span" : "the whole log"} are computed again and compared with the topic.`,
      "It only reads: no topic and no answer changes. It uses a processor core for a while.",
      "The result comes into the list of what was done.",
    ],
    body: (g) => ({ reason: g.reason, since_ms: time(g.since), until_ms: time(g.until) }),
  },
  {
    name: "retry", title: "Retry dead letters", lead: "Send what could not be read back to its topic.", confirm: "Send them back",
    fields: () => [
      { name: "topic", label: "Dead-letter topic", options: deadTopics(), required: true },
      { name: "offsets", label: "Offsets", placeholder: "all; or 3, 17, 18" },
      { name: "again", label: "Also those sent back before", type: "checkbox" },
    ],
    will: (g) => [
      `The original bytes of ${g.offsets ? `offsets ${g.offsets}` : "all dead letters"} of ${g.topic || "…"} are appended to their source topic again.`,
      g.again ? "Also those that were sent back before: readers may see them twice." : "Each is sent back at most once.",
      "What still can't be read becomes a dead letter again.",
    ],
    body: (g) => ({
      topic: g.topic, reason: g.reason, again: g.again === "on",
      offsets: g.offsets ? g.offsets.split(/[\s,]+/).filter(Boolean).map(Number) : null,
    }),
  },
];

function capitalLive() {
  return live() ? `Model ${live()}` : "The prior";
}

/**
 * Ask for an order's details, say what it will do, and do it.
 * @param {string} name @param {Object<string, string>} [given] what is filled in already
 * @returns {Promise<any>} what was done, or null
 */
export async function order(name, given = {}) {
  if (!(await logIn())) return null;
  const about = ORDERS.find((each) => each.name === name);
  const will = h("ul", { class: "will" });
  const fields = about.fields().map((f) => field(f, given[f.name] ?? ""));
  const reason = h("input", { name: "reason", required: true, maxlength: 300, value: given.reason ?? "", autocomplete: "off" });
  const body = h("div", { class: "stack" }, fields,
    h("label", { class: "field" }, h("span", {}, "Why (it is kept in the log)"), reason),
    h("div", { class: "note", "data-tone": about.danger ? "bad" : "" }, h("strong", {}, "What will happen"), will));
  const show = () => will.replaceChildren(...about.will(filledIn(body)).map((line) => h("li", {}, line)));
  body.addEventListener("input", show);
  show();
  const done = await ask({
    title: about.title, body, confirm: about.confirm, danger: about.danger,
    send: () => post(`actions/${name}`, about.body(filledIn(body)), known().csrf),
  });
  if (done) {
    say(done.text);
    toast(done.text, done.state === "failed" ? "bad" : "ok", "#actions", done.state === "failed" ? "critical" : "resolved", "the list");
  }
  return done;
}

function filledIn(body) {
  const given = {};
  for (const input of body.querySelectorAll("input, select")) given[input.name] = input.type === "checkbox" ? (input.checked ? "on" : "") : input.value;
  return given;
}

function field({ name, label, options = null, type = "text", ...more }, value) {
  if (options) {
    const list = options.some(([v]) => v === value) || value === "" ? options : [[value, value], ...options];
    return h("label", { class: "field" }, h("span", {}, label), h("select", { name, required: more.required },
      list.length ? list.map(([v, text]) => h("option", { value: v, selected: v === value }, text)) : h("option", { value: "" }, "there is none")));
  }
  if (type === "checkbox") return h("label", { class: "row" }, h("input", { name, type }), h("span", {}, label));
  return h("label", { class: "field" }, h("span", {}, label), h("input", { name, type, value, autocomplete: "off", ...more }));
}
