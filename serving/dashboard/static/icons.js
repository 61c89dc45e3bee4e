/** Line icons, 24 × 24, drawn for this page. */

import { s } from "./dom.js";

const PATHS = {
  overview: "M4 6h5v5H4zM15 4h5v5h-5zM15 15h5v5h-5zM9 8.500h3v-2h3M12 8.500v9h3",
  drift: "M4 4h4v4H4zM10 4h4v4h-4zM16 4h4v4h-4zM4 10h4v4H4zM10 10h4v4h-4zM16 16h4v4h-4zM4 16h4v4H4zM10 16h4v4h-4zM16 10h4v4h-4z",
  performance: "M4 19h16M4 15l5-5 4 3 7-8",
  rollout: "M4 18h5v-5h5V8h6M17 5l3 3-3 3",
  experiments: "M10 3h4M11 3v6l-6 10a1.5 1.5 0 0 0 1.3 2h11.400a1.5 1.5 0 0 0 1.3-2l-6-10V3M8 15h8",
  fairness: "M12 4v16M8 20h8M5 7h14M5 7l-2.5 6h5zM19 7l-2.5 6h5z",
  health: "M3 12h4l2.5-7 4.5 14 2.5-7H21",
  alerts: "M6 16V11a6 6 0 0 1 12 0v5l1.5 2h-15zM10 21h4",
  trainings: "M12 3v4M12 17v4M3 12h4M17 12h4M12 8.500a3.5 3.5 0 1 0 .01 0M6 6l2.5 2.500M15.5 15.5 18 18M18 6l-2.5 2.500M8.5 15.5 6 18",
  topics: "M4 6h16M4 12h16M4 18h10M18 16l3 2-3 2z",
  actions: "M5 4v16l14-8z",
  auto: "M12 4a8 8 0 1 0 .01 0M12 4v16M12 8l5-1M12 12h8M12 16l5 1",
  light: "M12 8a4 4 0 1 0 .01 0M12 2v2M12 20v2M2 12h2M20 12h2M5 5l1.5 1.500M17.5 17.5 19 19M19 5l-1.5 1.500M6.5 17.5 5 19",
  dark: "M20 14.500A8.5 8.5 0 0 1 9.5 4 8.5 8.5 0 1 0 20 14.500z",
  lock: "M6 11h12v9H6zM8.5 11V8a3.5 3.5 0 0 1 7 0v3",
  unlocked: "M6 11h12v9H6zM8.5 11V8a3.5 3.5 0 0 1 6.8-1.2",
  critical: "M8 3h8l5 5v8l-5 5H8l-5-5V8zM12 7.500v5.500M12 16.500v.01",
  warning: "M12 4 2.5 20h19zM12 10v4.500M12 17.500v.01",
  info: "M12 3a9 9 0 1 0 .01 0M12 11v5.500M12 7.500v.01",
  resolved: "M12 3a9 9 0 1 0 .01 0M8 12.500l3 3 5.5-6.5",
  suspected: "M12 3a9 9 0 1 0 .01 0M9.5 9.500a2.5 2.5 0 1 1 3.5 2.300c-.7.4-1 .8-1 1.700M12 16.800v.01",
  close: "M6 6l12 12M18 6 6 18",
  empty: "M4 13l3-8h10l3 8v6H4zM4 13h5l1 2.500h4l1-2.500h5",
};

/** @param {string} name @returns {SVGElement} */
export function icon(name) {
  const path = s("path", {
    d: PATHS[name] ?? PATHS.info, fill: "none", stroke: "currentColor", "stroke-width": "1.8",
    "stroke-linecap": "round", "stroke-linejoin": "round",
  });
  return s("svg", { viewBox: "0 0 24 24", "aria-hidden": "true", focusable: "false" }, path);
}
