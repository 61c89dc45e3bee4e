/** Actions: what can be done, and what was. */

import { howTo, known } from "../access.js";
import { h, refill } from "../dom.js";
import { capital, second } from "../format.js";
import { zone } from "../header.js";
import { ORDERS, order } from "../orders.js";
import { badge, card, empty, note, table } from "../parts.js";
import { held, want } from "../store.js";

const STATES = { started: ["info", "suspected"], done: ["ok", "resolved"], failed: ["bad", "critical"] };

export const section = {
  id: "actions",
  title: "Actions",
  lead: "Each says what will happen before it does, asks why, and writes it to the log, where everyone can read it.",
  needs: ["actions", "overview", "rollout", "trainings", "topics"],
  mount(place) {
    for (const name of ["rollout", "trainings", "topics"]) want(name);
    return { update: () => draw(place, held("actions").done) };
  },
};

function draw(place, done) {
  const session = known();
  const may = session?.may_act === true;
  const offered = session ? ORDERS.filter((o) => session.actions.includes(o.name)) : ORDERS;
  refill(place,
    !may && note(`This browser may look, not act. ${howTo(session)}, or enter the token under “Unlock actions”.`),
    session && !session.actions.length && note("This dashboard was started for reading only.", "warn"),
    h("div", { class: "stack" },
      h("div", { class: "tiles" }, offered.map((o) =>
        h("section", { class: "card tile", "aria-label": o.title }, h("h3", {}, o.title), h("p", { class: "muted" }, o.lead),
          h("button", { class: `button ${o.danger ? "" : "main-action"}`, type: "button", "data-key": `order ${o.name}`, onclick: () => order(o.name) }, `${o.title}…`)))),
      card({ title: "Done from here", note: "since the dashboard started, newest first" }, done.length ? table({
        caption: "What was done",
        columns: [{ name: "Action" }, { name: "State" }, { name: "What happened" }, { name: "Why" }, { name: "By" }, { name: "When" }],
        rows: done.map((d) => [capital(d.action), badge(capital(d.state), ...STATES[d.state]), d.text, d.reason, d.by, h("span", { class: "num" }, second(d.at_ms, zone()))]),
      }) : empty("Nothing was done from here yet.", "What other tools did stands under Rollout and Training runs."))));
}
