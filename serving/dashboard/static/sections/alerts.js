/** Alerts: what stands, what was, filtered by state and kind. */

import { h, refill } from "../dom.js";
import { capital, words } from "../format.js";
import { zone } from "../header.js";
import { card, choice, empty, picker } from "../parts.js";
import { held } from "../store.js";
import { item, whole } from "./alert_item.js";

const SHOWN = 100;

export const section = {
  id: "alerts",
  title: "Alerts",
  lead: "Few, early and explained: what differs, since when, how sure that is, and what the pipeline did about it.",
  needs: ["alerts"],
  mount(place) {
    const chosen = { state: "all", kind: "all" };
    const update = () => draw(place, held("alerts"), chosen, update);
    return { update, go: (key) => key && reveal(key, chosen, update) };
  },
};

function draw(place, document_, chosen, update) {
  const kinds = [...new Set(document_.alerts.map((e) => e.newest.kind))].sort();
  const fits = (entry) => (chosen.state === "all" || (chosen.state === "standing") === (whole(entry.newest).state !== "resolved"))
    && (chosen.kind === "all" || entry.newest.kind === chosen.kind);
  const found = document_.alerts.filter(fits);
  const tools = [
    choice("State", [["all", "All"], ["standing", `Standing (${document_.standing})`], ["resolved", "Resolved"]], chosen.state, (value) => {
      chosen.state = value;
      update();
    }),
    picker("Kind", [["all", "every kind"], ...kinds.map((k) => [k, capital(words(k))])], chosen.kind, (value) => {
      chosen.kind = value;
      update();
    }),
  ];
  const list = found.length
    ? h("ul", { class: "alerts" }, found.slice(0, SHOWN).map((entry) => item(entry, zone())))
    : document_.alerts.length
      ? empty("No alert of this kind.", "Choose another state or kind above.")
      : empty("No alert yet.", "Monitors speak once a window has closed: the pipeline's `monitors` say which. How often they may be wrong is `Alerting(false_alarms_per_week)`.");
  refill(place, card({ title: found.length > SHOWN ? `The newest ${SHOWN} of ${found.length}` : `${found.length} ${found.length === 1 ? "alert" : "alerts"}`, note: `${document_.total} records in the log`, tools }, list));
}

function reveal(key, chosen, update) {
  chosen.state = "all";
  chosen.kind = "all";
  update();
  const found = document.getElementById(`alert-${key}`);
  if (!found) return;
  found.querySelector("details").open = true;
  found.scrollIntoView({ block: "center" });
  found.focus({ preventScroll: true });
}
