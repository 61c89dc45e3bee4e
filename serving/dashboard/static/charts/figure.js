/** The frame of every picture: drawn to its width, with a table of the same figures beside it. */

import { h, refill } from "../dom.js";
import { table } from "../parts.js";
import { watchWidth } from "./sizes.js";

const asTable = new Set();
const widths = new Map();

/**
 * A picture with a button that shows its figures as a table instead.
 * @param {{name: string, draw: (width: number) => Node, columns: Array, rows: () => Array<Array<any>>, legend?: any}} about
 *   `name` is the same for the same picture of later documents
 */
export function picture({ name, draw, columns, rows, legend = null }) {
  const place = h("div", { class: "chart" });
  const button = h("button", { class: "button quiet small", type: "button", "data-key": `table of ${name}` });
  let width = widths.get(name) ?? 0; // as before: nothing jumps when a new one takes an old one's place
  const show = () => {
    const wantsTable = asTable.has(name);
    button.textContent = wantsTable ? "Show the picture" : "Show as a table";
    if (wantsTable) refill(place, table({ caption: name, columns, rows: rows() }));
    else if (width > 0) refill(place, draw(width));
  };
  button.addEventListener("click", () => {
    if (!asTable.delete(name)) asTable.add(name);
    show();
  });
  watchWidth(place, (now) => {
    if (Math.abs(now - width) < 1) return;
    width = now;
    widths.set(name, now);
    if (!asTable.has(name)) show();
  });
  show();
  return h("figure", {}, place, h("div", { class: "legend-row" }, legend, button));
}
