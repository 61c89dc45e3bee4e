/** How long updates take, among the browser's own measures: "take SECTION" is an event's text to the
 * merged document, "draw SECTION" the document to the finished layout. benchmarks/dashboard.py reads them. */

const MOST = 200;
const counts = new Map();

/** @param {string} name @param {number} began what performance.now() was */
export function measured(name, began) {
  const n = (counts.get(name) ?? 0) + 1;
  if (n > MOST) performance.clearMeasures(name); // a page may stay open for days
  counts.set(name, n > MOST ? 1 : n);
  performance.measure(name, { start: began });
}
