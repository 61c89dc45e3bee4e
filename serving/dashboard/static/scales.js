/** From data to places and colours. Pure. */

/** @returns {(value: number) => number} */
export function linear([low, high], [from, to]) {
  const size = high - low || 1;
  return (value) => from + ((value - low) / size) * (to - from);
}

/** Round values that cover [low, high], about `wanted` of them. @returns {number[]} */
export function ticks(low, high, wanted = 4) {
  if (!(high > low)) return [low];
  const rough = (high - low) / wanted;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((m) => m * power).find((each) => each >= rough) ?? 10 * power;
  const found = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + step * 1e-9; k += 1) {
    found.push(Number((k * step).toPrecision(12)));
  }
  return found;
}

const HOUR = 3_600_000;
const STEPS = [HOUR / 60, HOUR / 12, HOUR / 4, HOUR, 3 * HOUR, 6 * HOUR, 12 * HOUR, 24 * HOUR, 48 * HOUR, 168 * HOUR, 336 * HOUR, 720 * HOUR, 2160 * HOUR, 8760 * HOUR];

/** Times between two, on round steps. @returns {number[]} */
export function timeTicks(low, high, wanted = 6) {
  const rough = (high - low) / wanted;
  const step = STEPS.find((each) => each >= rough) ?? STEPS[STEPS.length - 1];
  const found = [];
  for (let at = Math.ceil(low / step) * step; at <= high; at += step) found.push(at);
  return found.length ? found : [low];
}

/** The range of values with some air; null and undefined count nothing. */
export function extent(values, air = 0.08) {
  let low = Infinity;
  let high = -Infinity;
  for (const value of values) {
    if (value === null || value === undefined || !Number.isFinite(value)) continue;
    if (value < low) low = value;
    if (value > high) high = value;
  }
  if (low > high) return [0, 1];
  const space = (high - low || Math.abs(high) || 1) * air;
  return [low - space, high + space];
}

/** @param {string} hex "#rrggbb" @returns {[number, number, number]} */
function rgb(hex) {
  const value = Number.parseInt(hex.trim().slice(1), 16);
  return [(value >> 16) & 255, (value >> 8) & 255, value & 255];
}

function between(a, b, t) {
  return [0, 1, 2].map((i) => Math.round(a[i] + (b[i] - a[i]) * t));
}

/**
 * Colours for a figure in units of its threshold: below 1 calm to near, from 1 on over to far (at 4).
 * The step at 1 is on purpose: what matters must be told from what nearly does, by lightness too.
 * @param {{calm: string, near: string, over: string, far: string}} stops
 * @returns {string[]} 65 colours; index = {@link heatIndex}
 */
export function heatColours(stops) {
  const [calm, near, over, far] = [stops.calm, stops.near, stops.over, stops.far].map(rgb);
  const made = [];
  for (let i = 0; i < 32; i += 1) made.push(between(calm, near, i / 31));
  for (let i = 0; i <= 32; i += 1) made.push(between(over, far, i / 32));
  return made.map(([r, g, b]) => `rgb(${r},${g},${b})`);
}

/** Black or white, whichever can be read on a colour. @param {string} colour "rgb(r,g,b)" */
export function inkOn(colour) {
  const [r, g, b] = colour.slice(4, -1).split(",").map((part) => (Number(part) / 255) ** 2.2);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b > 0.18 ? "#101418" : "#ffffff";
}

/** @param {number} excess @returns {number} 0..64 */
export function heatIndex(excess) {
  if (excess < 1) return Math.max(0, Math.min(31, Math.floor(excess * 32)));
  return 32 + Math.min(32, Math.floor((Math.log(excess) / Math.log(4)) * 32));
}
