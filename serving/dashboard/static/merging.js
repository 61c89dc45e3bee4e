/** What the stream tells of drift and performance is only what is new: put together here. Pure. */

/**
 * @param {any} old the Drift document so far, or undefined
 * @param {any} news a Drift document; where `whole` is false only new or changed windows
 * @returns {any}
 */
export function mergedDrift(old, news) {
  if (news.whole || !old) return news;
  const key = (w) => `${w.start_ms}/${w.end_ms}/${w.model_version}`;
  const windows = new Map(old.windows.map((w) => [key(w), w]));
  for (const w of news.windows) windows.set(key(w), w);
  const ordered = [...windows.values()].sort((a, b) => a.end_ms - b.end_ms || a.start_ms - b.start_ms || a.model_version - b.model_version);
  const features = [...new Set([...old.features, ...news.features])];
  const metrics = [...new Set([...old.figures, ...news.figures].map((f) => f.metric))];
  const places = [news, old].map((from) => ({
    figures: new Map(from.figures.map((f) => [f.metric, f])),
    rows: new Map(from.features.map((name, i) => [name, i])),
    columns: new Map(from.windows.map((w, i) => [key(w), i])),
  }));
  const figures = metrics.map((metric) => {
    const at = (list, feature, w) => {
      for (const { figures: of, rows, columns } of places) {
        const [figure, row, column] = [of.get(metric), rows.get(feature), columns.get(key(w))];
        if (column !== undefined) return figure && row !== undefined ? figure[list][row]?.[column] ?? null : null;
      }
      return null;
    };
    const made = { metric };
    for (const list of ["value", "p", "effect", "n", "excess"]) {
      made[list] = features.map((feature) => ordered.map((w) => at(list, feature, w)));
    }
    made.thresholds = features.map((feature) => {
      for (const { figures: of, rows } of places) {
        const found = of.get(metric)?.thresholds[rows.get(feature) ?? -1];
        if (found !== null && found !== undefined) return found;
      }
      return null;
    });
    return made;
  });
  return { ...news, whole: true, features, windows: ordered, figures };
}

const COLUMNS = ["start_ms", "end_ms", "value", "low", "high", "threshold", "n", "restated"];

/**
 * @param {any} old the Performance document so far, or undefined
 * @param {any} news a Performance document; where `whole` is false only new or restated points
 * @returns {any}
 */
export function mergedPerformance(old, news) {
  if (news.whole || !old) return news;
  const key = (one) => [one.metric, one.version, one.group, one.by, one.estimated].join("/");
  const series = new Map(old.series.map((one) => [key(one), one]));
  for (const one of news.series) {
    const before = series.get(key(one));
    series.set(key(one), before ? mergedSeries(before, one) : one);
  }
  return { ...news, whole: true, series: [...series.values()] };
}

function mergedSeries(before, after) {
  const points = new Map();
  for (const from of [before, after]) {
    from.end_ms.forEach((end, i) => points.set(`${from.start_ms[i]}/${end}`, COLUMNS.map((c) => from[c][i])));
  }
  const ordered = [...points.values()].sort((a, b) => a[1] - b[1] || a[0] - b[0]);
  return { ...after, ...Object.fromEntries(COLUMNS.map((c, i) => [c, ordered.map((point) => point[i])])) };
}
