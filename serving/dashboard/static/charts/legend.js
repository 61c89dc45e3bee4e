/** The keys under a picture: each shows the sign as it is drawn. */

import { h, s } from "../dom.js";

const SIGNS = {
  line: () => [s("rect", { class: "band", x: 0, y: 1, width: 20, height: 10 }), s("line", { class: "curve", x1: 0, x2: 20, y1: 6, y2: 6 })],
  curve: () => [s("line", { class: "curve", x1: 0, x2: 20, y1: 6, y2: 6 })],
  estimated: () => [s("line", { class: "curve estimated", x1: 0, x2: 20, y1: 6, y2: 6 })],
  limit: () => [s("line", { class: "limit", x1: 0, x2: 20, y1: 6, y2: 6 })],
  solid: () => [s("rect", { class: "solid", x: 2, y: 1, width: 16, height: 10, rx: 2 })],
  hatched: () => [s("rect", { class: "hatched", x: 2, y: 1, width: 16, height: 10, rx: 2 })],
  whisker: () => [s("line", { class: "whisker", x1: 1, x2: 19, y1: 6, y2: 6 }), s("circle", { class: "point", cx: 10, cy: 6, r: 3.5 })],
};

/** The shape of a mark at the top of a picture; each kind has its own. */
export function glyph(kind, x, y) {
  const shapes = {
    alert: `M${x} ${y + 6}l-5.500 -9h11z`,
    training: `M${x - 4} ${y - 3}h8v8h-8z`,
    live: `M${x} ${y - 4}l5 5-5 5-5-5z`,
    rolled_back: `M${x - 5} ${y - 3}h10l-5 9z`,
  };
  return s("path", { class: `mark-${kind} mark-glyph`, d: (shapes[kind] ?? shapes.training).replace("5.500", "5.5") });
}

/**
 * @param {Array<{text: string, sign: string, series?: number}>} list `sign` of SIGNS, or the kind of a mark
 */
export function legendOf(list) {
  return h("ul", { class: "legend chart" }, list.map(({ text, sign, series = 0 }) =>
    h("li", {}, s("svg", { class: `s${series % 6}`, viewBox: "0 0 20 12", "aria-hidden": "true" },
      SIGNS[sign] ? SIGNS[sign]() : glyph(sign, 10, 5)), text)));
}
