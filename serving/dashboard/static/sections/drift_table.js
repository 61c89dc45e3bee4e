/** The newest figure of every feature as a table. Only cells that changed are touched: an update of
 * hundreds of rows costs what changed in it. */

import { h } from "../dom.js";
import { chance, number, words } from "../format.js";
import { newestOf } from "./drift_view.js";

const NAMES = ["Feature", "", "Limit", "Adjusted p", "Events", "Distributions"];

/** @param {(feature: string) => void} open @returns {{element: HTMLElement, update: (view: any) => void}} */
export function driftTable(open) {
  const heads = NAMES.map((name, i) => h("th", { scope: "col", class: i > 0 && i < 5 ? "num" : null }, name));
  const caption = h("caption", { class: "unseen" });
  const body = h("tbody");
  const element = h("div", { class: "scroll drift-table", tabindex: "0", role: "region", "aria-label": "Newest figures of each feature" },
    h("table", {}, caption, h("thead", {}, h("tr", {}, heads)), body));
  const rows = new Map();
  return {
    element,
    update(view) {
      write(caption, `Newest ${words(view.metric)} of each feature`);
      write(heads[1], words(view.metric));
      const seen = new Set(view.rows);
      for (const [name, row] of rows) {
        if (seen.has(name)) continue;
        row.element.remove();
        rows.delete(name);
      }
      let at = body.firstChild;
      view.rows.forEach((name, row) => {
        if (!rows.has(name)) rows.set(name, rowOf(name, open));
        const { element: tr, cells } = rows.get(name);
        const [i, k] = [view.index[row], view.columns[newestOf(view, row)]];
        const out = view.excess[row][newestOf(view, row)] >= 1 ? "out" : "";
        if (tr.className !== out) tr.className = out;
        write(cells[0], number(view.figure.value[i][k]));
        write(cells[1], number(view.figure.thresholds[i]));
        write(cells[2], chance(view.figure.p[i][k]));
        write(cells[3], number(view.figure.n[i][k], 6));
        if (tr === at) at = at.nextSibling;
        else body.insertBefore(tr, at);
      });
    },
  };
}

function rowOf(name, open) {
  const cells = [0, 1, 2, 3].map(() => h("td", { class: "num" }, ""));
  const button = h("button", { class: "button quiet small", type: "button", "aria-label": `Show the distributions of ${name}`, onclick: () => open(name) }, "Show");
  return { element: h("tr", {}, h("th", { scope: "row" }, name), cells, h("td", {}, button)), cells };
}

function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}
