/** The stream of changes, and whether it is there. */

import { measured } from "./measuring.js";
import { put } from "./store.js";

const SECTIONS = ["overview", "drift", "performance", "fairness", "rollout", "experiments", "health", "alerts", "trainings", "topics", "actions"];
const SILENT_MS = 40_000;

/**
 * Follow the server's events for as long as the page is open; EventSource comes back by itself,
 * and goes on after the last event that it saw.
 * @param {(state: "live"|"away") => void} told
 */
export function follow(told) {
  let source = null;
  let heard = 0;
  const alive = () => {
    heard = Date.now();
    told("live");
  };
  const open = () => {
    source?.close();
    heard = Date.now();
    source = new EventSource("/api/stream");
    source.addEventListener("open", alive);
    source.addEventListener("ping", alive);
    source.addEventListener("error", () => {
      told("away");
      // After an answer that is no stream a browser gives up; this page does not.
      if (source.readyState === EventSource.CLOSED) setTimeout(open, 3000);
    });
    for (const name of SECTIONS) {
      source.addEventListener(name, (event) => {
        alive();
        const began = performance.now();
        put(name, JSON.parse(event.data));
        measured(`take ${name}`, began);
      });
    }
  };
  open();
  setInterval(() => {
    if (Date.now() - heard > SILENT_MS) {
      told("away");
      open();
    }
  }, 5000);
  addEventListener("pagehide", () => source?.close());
  addEventListener("pageshow", (event) => event.persisted && open());
}
