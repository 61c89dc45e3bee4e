/** The newest figures of features as a table. Only cells that changed are touched, and of many features
 * the first ones are shown until one asks for all: an update costs what is seen of it. */

import { h } from "../dom.js";
import { chance, number, words } from "../format.js";
import { newestOf } from "./drift_view.js";

const NAMES = ["Feature", "", "Limit", "Adjusted p", "Events", "Distributions"];
const FIRST = 40;

/** @param {(feature: string) => void} open @returns {{element: HTMLElement, update: (view: any) => void}} */
export function driftTable(open) {
  const heads = NAMES.map((name, i) => h("th", { scope: "col", class: i > 0 && i < 5 ? "num" : null }, name));
  const caption = h("caption", { class: "unseen" });
  const body = h("tbody");
  const scroll = h("div", { class: "scroll drift-table", tabindex: "0", role: "region", "aria-label": "Newest figures of each feature" },
    h("table", {}, caption, h("thead", {}, h("tr", {}, heads)), body));
  const rest = h("button", { class: "button small", type: "button", onclick: () => {
    all = true;
    update(seen);
    scroll.focus();
  } });
  const rows = new Map();
  let all = false;
  let seen = null;

  const update = (view) => {
    seen = view;
    const names = all ? view.rows : view.rows.slice(0, FIRST);
    rest.hidden = names.length === view.rows.length;
    write(rest, `Show all ${view.rows.length} features`);
    write(caption, `Newest ${words(view.metric)} of each feature`);
    write(heads[1], words(view.metric));
    const wanted = new Set(names);
    for (const [name, row] of rows) {
      if (wanted.has(name)) continue;
      row.element.remove();
      rows.delete(name);
    }
    let at = body.firstChild;
    names.forEach((name, row) => {
      if (!rows.has(name)) rows.set(name, rowOf(name, open));
      const { element, cells } = rows.get(name);
      const column = newestOf(view, row);
      const [i, k] = [view.index[row], view.columns[column]];
      const state = view.excess[row][column] >= 1 ? "out" : "";
      if (element.className !== state) element.className = state;
      write(cells[0], number(view.figure.value[i][k]));
      write(cells[1], number(view.figure.thresholds[i]));
      write(cells[2], chance(view.figure.p[i][k]));
      write(cells[3], number(view.figure.n[i][k], 6));
      if (element === at) at = at.nextSibling;
      else body.insertBefore(element, at);
    });
  };
  return { element: h("div", { class: "stack" }, scroll, h("div", {}, rest)), update };
}

function rowOf(name, open) {
  const cells = [0, 1, 2, 3].map(() => h("td", { class: "num" }, ""));
  const button = h("button", { class: "button quiet small", type: "button", "aria-label": `Show the distributions of ${name}`, onclick: () => open(name) }, "Show");
  return { element: h("tr", {}, h("th", { scope: "row" }, name), cells, h("td", {}, button)), cells };
}

function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}
