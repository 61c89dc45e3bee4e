/** Numbers, times and sizes as people read them. Pure: time zones are given. */

export const NONE = "–";

/** Four significant digits, without needless zeros. @param {number|null|undefined} value */
export function number(value, digits = 3) {
  if (value === null || value === undefined || !Number.isFinite(value)) return NONE;
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 1e5 || size < 1e-4) return value.toExponential(1).replace("e+", "e");
  return Number(value.toPrecision(digits)).toLocaleString("en-US", { maximumSignificantDigits: digits });
}

/** A count in full below 10,000, then 12.3 k, 4.56 M. */
export function count(value) {
  if (value === null || value === undefined) return NONE;
  const size = Math.abs(value);
  if (size < 10_000) return value.toLocaleString("en-US", { maximumFractionDigits: 0 });
  for (const [from, unit] of [[1e9, "G"], [1e6, "M"], [1e3, "k"]]) {
    if (size >= from) return `${Number((value / from).toPrecision(3))} ${unit}`;
  }
  return NONE;
}

/** Records per second. */
export function rate(value) {
  if (value === null || value === undefined) return NONE;
  if (value > 0 && value < 0.1) return "<0.1/s";
  return value < 100 ? `${Number(value.toPrecision(2))}/s` : `${count(Math.round(value))}/s`;
}

/** A share of 1. */
export function percent(value, digits = 1) {
  if (value === null || value === undefined) return NONE;
  return `${(value * 100).toFixed(value !== 0 && Math.abs(value) < 0.001 ? 2 : digits)} %`;
}

/** A p-value. */
export function chance(value) {
  if (value === null || value === undefined) return NONE;
  return value < 0.0001 ? "< 0.0001" : number(value, 2);
}

/** Bytes. */
export function bytes(value) {
  if (value === null || value === undefined) return NONE;
  let size = value;
  for (const unit of ["B", "kB", "MB", "GB", "TB"]) {
    if (size < 1000 || unit === "TB") return `${Number(size.toPrecision(3))} ${unit}`;
    size /= 1000;
  }
  return NONE;
}

/** A length of time in milliseconds, in its two largest units. */
export function span(ms) {
  if (ms === null || ms === undefined) return NONE;
  if (ms < 1000) return `${Math.round(ms)} ms`;
  const units = [["d", 86_400_000], ["h", 3_600_000], ["min", 60_000], ["s", 1000]];
  const first = units.findIndex(([, size]) => ms >= size);
  const [unit, size] = units[first];
  const whole = Math.floor(ms / size);
  const next = units[first + 1];
  const rest = next ? Math.floor((ms - whole * size) / next[1]) : 0;
  return rest && whole < 10 ? `${whole} ${unit} ${rest} ${next[0]}` : `${whole} ${unit}`;
}

const MAKERS = new Map();

function maker(zone, options) {
  const key = zone + JSON.stringify(options);
  if (!MAKERS.has(key)) MAKERS.set(key, new Intl.DateTimeFormat("en-GB", { timeZone: zone, hourCycle: "h23", ...options }));
  return MAKERS.get(key);
}

/** "12 Mar 2020, 08:00". @param {number|null} ms @param {string} zone */
export function instant(ms, zone = "UTC") {
  if (ms === null || ms === undefined) return NONE;
  return maker(zone, { day: "numeric", month: "short", year: "numeric", hour: "2-digit", minute: "2-digit" }).format(ms);
}

/** "12 Mar 2020, 08:00:05". */
export function second(ms, zone = "UTC") {
  if (ms === null || ms === undefined) return NONE;
  return maker(zone, { day: "numeric", month: "short", year: "numeric", hour: "2-digit", minute: "2-digit", second: "2-digit" }).format(ms);
}

/** The zone's name at a time, short: "EDT", "GMT+1". */
export function zoneName(ms, zone = "UTC") {
  const parts = new Intl.DateTimeFormat("en-US", { timeZone: zone, timeZoneName: "short" }).formatToParts(ms);
  return parts.find((part) => part.type === "timeZoneName").value;
}

/** "12 Mar", or "08:00" where the axis spans days or less. */
export function tick(ms, spanMs, zone = "UTC") {
  if (spanMs <= 2 * 86_400_000) return maker(zone, { hour: "2-digit", minute: "2-digit" }).format(ms);
  if (spanMs <= 400 * 86_400_000) return maker(zone, { day: "numeric", month: "short" }).format(ms);
  return maker(zone, { month: "short", year: "numeric" }).format(ms);
}

/** "5 min ago". */
export function ago(ms, nowMs) {
  if (ms === null || ms === undefined) return NONE;
  return nowMs - ms < 1500 ? "now" : `${span(nowMs - ms)} ago`;
}

/** A metric's or state's name as words. */
export function words(name) {
  const known = { psi: "PSI", ks: "KS", auc: "AUC", brier: "Brier score", log_loss: "log loss", chi_squared: "chi-squared" };
  return known[name] ?? String(name).replaceAll("_", " ");
}

/** With a capital at the start. */
export function capital(text) {
  return text.charAt(0).toUpperCase() + text.slice(1);
}
