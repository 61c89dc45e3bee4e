/** Topics, dead letters, and the record browser. */

import { get } from "../api.js";
import { h, refill } from "../dom.js";
import { bytes, count, rate, second } from "../format.js";
import { zone } from "../header.js";
import { badge, card, empty, note, picker, table } from "../parts.js";
import { held } from "../store.js";
import { order } from "../orders.js";

const LIMIT = 25;
const KINDS = { source: "source", features: "features", answers: "answers", control: "control", figures: "figures", dead_letters: "dead letters", other: "other" };

export const section = {
  id: "topics",
  title: "Topics and records",
  short: "Topics",
  lead: "The log itself: what every topic holds, any record by offset, time or text, and what could not be read.",
  needs: ["topics"],
  mount(place) {
    const list = h("div");
    const browser = h("div");
    place.append(h("div", { class: "grid" }, list, browser));
    const chosen = { topic: "", partition: "", from: "newest", offset: "", time: "", filter: "" };
    const state = { answer: null, fault: null, busy: false, records: [] };
    const redraw = () => browse(browser, chosen, state, read);
    const read = async (next = null) => {
      state.busy = true;
      redraw();
      try {
        const answer = await get("records", query(chosen, next));
        state.records = next ? [...state.records, ...answer.records] : answer.records;
        Object.assign(state, { answer, fault: null });
      } catch (fault) {
        Object.assign(state, { fault, answer: null });
      }
      state.busy = false;
      redraw();
    };
    const open = (topic) => {
      Object.assign(chosen, { topic, partition: "", from: "newest", filter: "" });
      read();
      browser.scrollIntoView({ block: "start" });
    };
    return {
      update() {
        topics(list, held("topics").topics, open);
        if (!browser.firstChild) redraw();
      },
      go: (topic) => topic && open(topic),
    };
  },
};

function query(chosen, next) {
  const at = { topic: chosen.topic, partition: chosen.partition, filter: chosen.filter, limit: LIMIT };
  if (next) {
    const [partition, offset] = next;
    return { ...at, partition, offset };
  }
  if (chosen.from === "offset") return { ...at, partition: chosen.partition || 0, offset: chosen.offset || 0 };
  if (chosen.from === "time") return { ...at, time_ms: Date.parse(`${chosen.time}Z`) || 0 };
  return { ...at, newest: true };
}

function topics(place, all, open) {
  if (!all.length) {
    refill(place, card({ title: "Topics" }, empty("No topics yet.", "`kappa up` makes them.")));
    return;
  }
  const button = (t) => h("button", { class: "button quiet small", type: "button", "data-key": `browse ${t.topic}`, "aria-label": `Browse ${t.topic}`, disabled: !t.present || !t.records, onclick: () => open(t.topic) }, "Browse");
  const retry = (t) => t.kind === "dead_letters" && t.records
    ? h("button", { class: "button quiet small", type: "button", "data-key": `retry ${t.topic}`, "aria-label": `Retry the dead letters of ${t.topic}`, onclick: () => order("retry", { topic: t.topic }) }, "Retry") : null;
  refill(place, card({ title: "Topics", note: "in the order of the data" }, table({
    caption: "Topics",
    columns: [{ name: "Topic" }, { name: "Kind" }, { name: "Records", numeric: true }, { name: "Rate", numeric: true }, { name: "Size", numeric: true }, { name: "Partitions", numeric: true }, { name: "" }],
    rows: all.map((t) => [
      h("span", { class: "mono" }, t.topic),
      !t.present ? badge("missing", "warn", "warning") : t.kind === "dead_letters" && t.records ? badge("dead letters", "bad", "warning") : KINDS[t.kind],
      count(t.records), rate(t.rate), bytes(t.size_bytes), t.partitions.length, h("div", { class: "row" }, button(t), retry(t)),
    ]),
  })));
}

function browse(place, chosen, state, read) {
  const all = held("topics").topics.filter((t) => t.present);
  const topic = all.find((t) => t.topic === chosen.topic);
  const redraw = () => browse(place, chosen, state, read);
  const input = (name, label, attributes) => {
    const field = h("input", { ...attributes, value: chosen[name], "data-key": `records ${name}`, oninput: () => (chosen[name] = field.value) });
    return h("label", { class: "field" }, h("span", {}, label), field);
  };
  const form = h("form", { class: "fields", onsubmit: (event) => {
    event.preventDefault();
    if (chosen.topic) read();
  } },
  picker("Topic", [["", "choose one"], ...all.map((t) => [t.topic, t.topic])], chosen.topic, (value) => {
    chosen.topic = value;
    chosen.partition = "";
    redraw();
  }),
  picker("Partition", [["", chosen.from === "offset" ? "0" : "all"], ...(topic?.partitions ?? []).map((p) => [String(p.partition), String(p.partition)])], chosen.partition, (value) => (chosen.partition = value)),
  picker("From", [["newest", "the newest"], ["time", "a time"], ["offset", "an offset"]], chosen.from, (value) => {
    chosen.from = value;
    redraw();
  }),
  chosen.from === "offset" && input("offset", "Offset", { type: "number", min: 0, step: 1 }),
  chosen.from === "time" && input("time", "Record time, UTC", { type: "datetime-local", step: 1 }),
  input("filter", "That hold the text", { type: "search", placeholder: "key, header or value" }),
  h("button", { class: "button main-action", type: "submit", disabled: state.busy || !chosen.topic, "data-key": "read records" }, state.busy ? "Reading…" : "Read"));
  refill(place, card({ title: "Record browser", note: chosen.topic, id: "records" }, h("div", { class: "stack" }, form, h("div", { "aria-live": "polite" }, found(state, read)))));
}

function found(state, read) {
  if (state.fault) return note(state.fault.message, "bad");
  if (!state.answer) return state.busy ? h("p", { class: "muted" }, "Reading…") : empty("No record shown.", "Choose a topic, and from where to read.");
  const next = Object.entries(state.answer.next);
  return [
    h("p", { class: "muted num" }, `${state.records.length} records${state.answer.scanned > state.records.length ? ` of ${count(state.answer.scanned)} looked at` : ""}${state.answer.complete ? "" : "; there may be more further on"}; times in ${zone()}.`),
    state.records.length ? h("ol", { "aria-label": "Records" }, state.records.map(record)) : empty("No record fits.", "Another text, an earlier time or another partition may have some."),
    h("div", { class: "row" }, next.map(([partition, offset]) => h("button", { class: "button small", type: "button", disabled: state.busy, onclick: () => read([partition, offset]) }, `Go on: partition ${partition} from ${offset}`))),
  ];
}

function record(r) {
  const value = r.format === "empty" ? "(no value: a deletion)" : r.format === "json" && !r.cut ? JSON.stringify(r.value, null, 2) : String(r.value);
  const headers = Object.entries(r.headers);
  return h("li", { class: "record" },
    h("div", { class: "record-line num" }, h("strong", {}, `${r.partition} / ${r.offset}`), h("span", {}, second(r.timestamp_ms, zone())),
      h("span", { class: "muted" }, `key ${r.key ?? "none"}`), h("span", { class: "muted" }, bytes(r.size_bytes)), r.retried ? badge(`sent back ${r.retried} ×`, "info") : null,
      r.format === "binary" ? badge("base64") : null, r.cut ? badge("cut") : null),
    headers.length ? h("details", { "data-key": `headers ${r.partition}/${r.offset}` }, h("summary", {}, `${headers.length} headers`), h("pre", {}, headers.map(([k, v]) => `${k}: ${v}`).join("\n"))) : null,
    h("pre", {}, value));
}
