/** The heat map: rows × windows on one canvas. 200 × 30 cells are drawn in a few milliseconds. */

import { h } from "../dom.js";
import { heatColours, heatIndex, inkOn } from "../scales.js";
import { watchWidth } from "./sizes.js";

const HEAD_PX = 22;
const [LOWEST, HIGHEST, TALL] = [17, 32, 460]; // rows are as high as there is room for
const WRITTEN = [30, 22]; // a cell of that size holds its figure
const MOST_LABEL = 210;

/**
 * @typedef {{rows: string[], columns: string[], heads: string[], excess: Array<Array<number|null>>,
 *   text: (row: number, column: number) => string, say: (row: number, column: number) => string,
 *   open: (row: number, column: number) => void}} Map `text` is written into cells that are out of bounds
 */

/** @returns {{element: HTMLElement, update: (map: Map) => void, select: (row: number, column: number) => void}} */
export function heatmap(label) {
  const canvas = h("canvas", { "aria-hidden": "true" });
  const told = h("p", { class: "readout", role: "status", "aria-live": "polite", id: "heat-readout" });
  const scroll = h("div", {
    class: "heat-scroll", tabindex: "0", role: "application", "aria-roledescription": "heat map", "aria-label": label,
    "aria-describedby": "heat-readout", "data-scroll": "heat",
  }, canvas);
  const element = h("div", { class: "heat" }, scroll, told);
  const state = { map: null, width: 0, row: -1, column: -1, labels: 0, cell: 0, high: LOWEST };

  const draw = () => state.map && state.width > 0 && paint(canvas, state);
  const pick = (row, column) => {
    const { rows, columns } = state.map;
    if (!rows.length || !columns.length) return;
    state.row = Math.max(0, Math.min(rows.length - 1, row));
    state.column = Math.max(0, Math.min(columns.length - 1, column));
    told.textContent = state.map.say(state.row, state.column);
    draw();
  };
  const at = (event) => {
    const box = canvas.getBoundingClientRect();
    const row = Math.floor((event.clientY - box.top - HEAD_PX) / state.high);
    const column = Math.floor((event.clientX - box.left - state.labels) / state.cell);
    const inside = row >= 0 && row < state.map.rows.length && column >= 0 && column < state.map.columns.length;
    return inside ? [row, column] : null;
  };
  canvas.addEventListener("pointermove", (event) => {
    const place = at(event);
    if (place) told.textContent = state.map.say(...place);
  });
  canvas.addEventListener("click", (event) => {
    const place = at(event);
    if (!place) return;
    pick(...place);
    state.map.open(...place);
  });
  scroll.addEventListener("keydown", (event) => {
    const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1], PageUp: [-10, 0], PageDown: [10, 0] }[event.key];
    if (step) {
      event.preventDefault();
      const fresh = state.row < 0;
      pick(fresh ? 0 : state.row + step[0], fresh ? state.map.columns.length - 1 : state.column + step[1]);
      into(scroll, HEAD_PX + state.row * state.high, state.high);
    } else if (event.key === "Home" || event.key === "End") {
      event.preventDefault();
      pick(Math.max(0, state.row), event.key === "Home" ? 0 : state.map.columns.length - 1);
    } else if (event.key === "Enter" && state.row >= 0) {
      event.preventDefault();
      state.map.open(state.row, state.column);
    }
  });
  watchWidth(scroll, (width) => {
    if (Math.abs(width - state.width) < 1) return;
    state.width = width;
    draw();
  });

  return {
    element,
    update(map) {
      state.map = map;
      state.width ||= scroll.clientWidth;
      state.row = Math.min(state.row, map.rows.length - 1);
      state.column = Math.min(state.column, map.columns.length - 1);
      draw();
    },
    select: pick,
  };
}

/**
 * The same picture to look at alone, for a row of a few features.
 * @param {number} width @param {Map} map @param {string} label
 */
export function stillMap(width, map, label) {
  const canvas = h("canvas", { role: "img", "aria-label": label });
  paint(canvas, { map, width, row: -1, column: -1, labels: 0, cell: 0, high: LOWEST });
  return h("div", { class: "heat still" }, canvas);
}

function into(scroll, y, high) {
  if (y - high < scroll.scrollTop) scroll.scrollTop = Math.max(0, y - HEAD_PX - high);
  else if (y + high > scroll.scrollTop + scroll.clientHeight) scroll.scrollTop = y + 2 * high - scroll.clientHeight;
}

/** @returns {{none: string, calm: string, near: string, over: string, far: string}} */
export function heatStops() {
  const of = getComputedStyle(document.documentElement);
  return Object.fromEntries(["none", "calm", "near", "over", "far"].map((name) => [name, of.getPropertyValue(`--heat-${name}`).trim()]));
}

function paint(canvas, state) {
  const { rows, heads, excess } = state.map;
  const context = canvas.getContext("2d");
  const of = getComputedStyle(document.documentElement);
  const stops = heatStops();
  const colours = heatColours(stops);
  const font = `12px ${of.getPropertyValue("--sans")}`;
  context.font = font;
  const widest = Math.max(40, ...rows.map((name) => context.measureText(name).width));
  state.labels = Math.ceil(Math.min(widest + 12, MOST_LABEL, state.width * 0.42));
  state.cell = Math.max(5, (state.width - state.labels) / Math.max(1, heads.length));
  const width = Math.max(state.width, state.labels + state.cell * heads.length);
  state.high = Math.max(LOWEST, Math.min(HIGHEST, Math.floor(TALL / Math.max(1, rows.length))));
  const { high } = state;
  const height = HEAD_PX + rows.length * high;
  const scale = devicePixelRatio || 1;
  if (canvas.width !== Math.round(width * scale)) canvas.width = Math.round(width * scale);
  if (canvas.height !== Math.round(height * scale)) canvas.height = Math.round(height * scale);
  canvas.style.width = `${width}px`;
  canvas.style.height = `${height}px`;
  context.setTransform(scale, 0, 0, scale, 0, 0);
  context.clearRect(0, 0, width, height);
  context.font = font;
  context.textBaseline = "middle";
  context.fillStyle = of.getPropertyValue("--text");
  rows.forEach((name, i) => context.fillText(fitted(context, name, state.labels - 10), 0, HEAD_PX + (i + 0.5) * high));
  context.fillStyle = of.getPropertyValue("--muted");
  heading(context, state, heads);
  const gap = state.cell > 9 ? 1.5 : 0.5;
  const byColour = new Map();
  excess.forEach((row, i) => row.forEach((value, k) => {
    const colour = value === null || value === undefined ? stops.none : colours[heatIndex(value)];
    if (!byColour.has(colour)) byColour.set(colour, []);
    byColour.get(colour).push([k, i]);
  }));
  for (const [colour, cells] of byColour) {
    context.fillStyle = colour;
    for (const [k, i] of cells) context.fillRect(state.labels + k * state.cell, HEAD_PX + i * high, state.cell - gap, high - gap);
  }
  if (state.cell >= WRITTEN[0] && high >= WRITTEN[1]) written(context, state, colours);
  if (state.row >= 0) {
    context.strokeStyle = of.getPropertyValue("--text");
    context.lineWidth = 2;
    context.strokeRect(state.labels + state.column * state.cell - 1, HEAD_PX + state.row * high - 1, state.cell + 2 - gap, high + 2 - gap);
  }
}

/** The figures of the cells that are out of bounds, in a colour that can be read on theirs. */
function written(context, state, colours) {
  context.save();
  context.textAlign = "center";
  state.map.excess.forEach((row, i) => row.forEach((value, k) => {
    if (value === null || value === undefined || value < 1) return;
    context.fillStyle = inkOn(colours[heatIndex(value)]);
    context.fillText(state.map.text(i, k), state.labels + (k + 0.5) * state.cell - 0.5, HEAD_PX + (i + 0.5) * state.high);
  }));
  context.restore();
}

function heading(context, state, heads) {
  let free = state.labels;
  heads.forEach((text, i) => {
    const at = state.labels + i * state.cell;
    const width = context.measureText(text).width;
    if (text && at >= free && at + width <= state.labels + state.cell * heads.length) {
      context.fillText(text, at, HEAD_PX / 2 - 1);
      free = at + width + 14;
    }
  });
}

const fits = new Map();

/** A name cut to a width; remembered, as measuring text is what costs. */
function fitted(context, name, width) {
  if (fits.size > 2000) fits.clear();
  const key = `${name}/${width}`;
  if (!fits.has(key)) {
    let cut = name;
    while (cut.length > 3 && context.measureText(cut === name ? cut : `${cut}…`).width > width) cut = cut.slice(0, -1);
    fits.set(key, cut === name ? name : `${cut}…`);
  }
  return fits.get(key);
}
