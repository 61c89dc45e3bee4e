/** What is shown of the drift document: one figure, windows of one length, rows in an order. Pure. */

import { chance, instant, number, words } from "../format.js";

export const SHOWN = 30;
const OF_LATE = 7;

/**
 * @param {any} drift the document
 * @param {{metric: string|null, length: number|null, all: boolean, order: string}} chosen
 */
export function viewOf(drift, chosen) {
  const lengths = [...new Set(drift.windows.map((w) => w.end_ms - w.start_ms))].sort((a, b) => a - b);
  const metrics = drift.figures.map((f) => f.metric);
  const metric = metrics.includes(chosen.metric) ? chosen.metric : metrics.includes("psi") ? "psi" : metrics[0];
  const length = lengths.includes(chosen.length) ? chosen.length : lengths[0];
  const figure = drift.figures.find((f) => f.metric === metric);
  let columns = drift.windows.map((_, i) => i).filter((i) => drift.windows[i].end_ms - drift.windows[i].start_ms === length);
  const more = columns.length > SHOWN;
  if (!chosen.all) columns = columns.slice(-SHOWN);
  const strength = strengthOf(figure);
  const rows = drift.features.map((name, i) => {
    const cells = columns.map((k) => strength(i, k));
    let worst = -1;
    cells.slice(-OF_LATE).forEach((v) => (worst = Math.max(worst, v ?? -1)));
    return { name, i, cells, worst };
  }).filter((row) => row.cells.some((v) => v !== null));
  rows.sort((a, b) => (chosen.order === "worst" ? b.worst - a.worst : 0) || a.name.localeCompare(b.name));
  return {
    metric, metrics, length, lengths, figure, columns, windows: columns.map((k) => drift.windows[k]),
    rows: rows.map((r) => r.name), index: rows.map((r) => r.i), excess: rows.map((r) => r.cells), more,
  };
}

/** How strong the colour of a cell is: in units of its limit, or of the largest where nothing has a limit. */
function strengthOf(figure) {
  if (figure.thresholds.some((t) => t !== null)) return (i, k) => figure.excess[i]?.[k] ?? null;
  let most = 1e-12;
  for (const row of figure.value) for (const value of row) most = Math.max(most, value ?? 0);
  return (i, k) => {
    const value = figure.value[i]?.[k] ?? null;
    return value === null ? null : (0.999 * value) / most; // never out of bounds: there are none
  };
}

/** The newest column of a row that was judged. */
export function newestOf(view, row) {
  let column = view.windows.length - 1;
  while (column > 0 && view.excess[row][column] === null) column -= 1;
  return column;
}

/** A cell in words. */
export function said(view, row, column, zone) {
  const [i, k, w] = [view.index[row], view.columns[column], view.windows[column]];
  const value = view.figure.value[i][k];
  const about = `${view.rows[row]}, ${instant(w.start_ms, zone)} to ${instant(w.end_ms, zone)}`;
  if (value === null) return `${about}: not judged`;
  const limit = view.figure.thresholds[i];
  const out = view.excess[row][column] >= 1 ? ", out of bounds" : "";
  return `${about}: ${words(view.metric)} ${number(value)}${limit === null ? "" : ` (limit ${number(limit)})`}${out}, p ${chance(view.figure.p[i][k])}, ${number(view.figure.n[i][k], 6)} events`;
}
