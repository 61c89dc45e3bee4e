/** What the stream tells of drift and performance is only what is new: put together here. Pure. */

const KEPT_MS = 30 * 86_400_000;
const [AT_LEAST, AT_MOST] = [60, 1000];
const LISTS = ["value", "p", "effect", "n", "excess"];

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
  const ordered = kept([...windows.values()].sort((a, b) => a.end_ms - b.end_ms || a.start_ms - b.start_ms || a.model_version - b.model_version));
  const features = [...new Set([...old.features, ...news.features])];
  const metrics = [...new Set([...old.figures, ...news.figures].map((f) => f.metric))];
  const parts = [news, old].map((of) => {
    const rows = new Map(of.features.map((name, i) => [name, i]));
    const columns = new Map(of.windows.map((w, i) => [key(w), i]));
    return {
      figures: new Map(of.figures.map((f) => [f.metric, f])),
      rows: features.map((name) => rows.get(name) ?? -1),
      columns: ordered.map((w) => columns.get(key(w)) ?? -1),
    };
  });
  // Of each window what is told last counts, whole: -1 in `fresh` are those that only `old` has.
  const [fresh, before] = parts;
  const figures = metrics.map((metric) => {
    const [now, then] = parts.map((part) => part.figures.get(metric));
    const made = { metric };
    for (const list of LISTS) {
      made[list] = features.map((_, i) => {
        const [new_, past] = [now?.[list][fresh.rows[i]], then?.[list][before.rows[i]]];
        return ordered.map((__, k) => (fresh.columns[k] >= 0 ? new_?.[fresh.columns[k]] : past?.[before.columns[k]]) ?? null);
      });
    }
    made.thresholds = features.map((_, i) => now?.thresholds[fresh.rows[i]] ?? then?.thresholds[before.rows[i]] ?? null);
    return made;
  });
  return { ...news, whole: true, features, windows: ordered, figures };
}

/** As many of the ascending windows as the server itself keeps, so that a page may stay open for ever. */
function kept(ordered) {
  if (ordered.length <= AT_LEAST) return ordered;
  const oldest = ordered[ordered.length - 1].end_ms - KEPT_MS;
  const within = ordered.filter((w) => w.end_ms > oldest).length;
  return ordered.slice(-Math.min(AT_MOST, Math.max(AT_LEAST, within)));
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
  const ordered = [...points.values()].sort((a, b) => a[1] - b[1] || a[0] - b[0]).slice(-AT_MOST);
  return { ...after, ...Object.fromEntries(COLUMNS.map((c, i) => [c, ordered.map((point) => point[i])])) };
}
