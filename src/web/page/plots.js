// Plots over thousands of images, drawn by uPlot: the cursor is common to all, a drag zooms, a double click shows all again.

import { make, number, kimg } from "./format.js";

/** Colours for lines, which differ in lightness too; the style sheet has a set for light and one for dark. */
export function colour(index) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--line-${index % 8}`).trim();
}

const themed = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function axis(extra) {
  const grid = { stroke: themed("--grid"), width: 1 };
  return { stroke: themed("--quiet"), grid, ticks: { ...grid, size: 4 }, font: "12px system-ui, sans-serif", gap: 4, ...extra };
}

/** A mean over `width` values around each one, numbers that are missing left out. */
export function smooth(values, width) {
  if (width <= 1) return values;
  const reach = Math.floor(width / 2);
  return values.map((value, index) => {
    if (value === null || value === undefined) return null;
    const near = values.slice(Math.max(0, index - reach), index + reach + 1).filter((other) => other !== null);
    return near.reduce((sum, other) => sum + other, 0) / near.length;
  });
}

/** One plot in a card. `lines` are `{ label, colour, width?, dash? }`; `show` gives it the numbers. */
export class Plot {
  constructor(title, lines, { logarithmic = false, note = null, range = null, height = 190 } = {}) {
    this.lines = lines;
    this.logarithmic = logarithmic;
    this.title = title;
    this.range = range;
    this.height = height;
    this.zoomed = false;
    this.place = make("div", { class: "plot", role: "img" });
    this.element = make("section", { class: "card" }, make("h3", {}, title, note && make("span", { class: "note" }, note)), this.place);
    this.data = null;
    this.observer = new ResizeObserver(() => this.fit());
    this.observer.observe(this.place);
    this.theme = matchMedia("(prefers-color-scheme: dark)");
    this.redraw = () => this.rebuild();
    this.theme.addEventListener("change", this.redraw);
  }

  /** Draws columns: the first is x. */
  show(data) {
    const usable = this.logarithmic
      ? [data[0], ...data.slice(1).map((values) => values.map((value) => (value > 0 ? value : null)))]
      : data;
    this.data = usable;
    this.place.setAttribute("aria-label", this.words());
    if (!this.drawing) return this.fit();
    this.drawing.setData(usable, !this.zoomed);
    if (this.zoomed) this.drawing.redraw();
    this.rest();
  }

  /** The plot in words, for whoever does not see it. */
  words() {
    const [xs, ...columns] = this.data;
    if (!xs.length) return `${this.title}: no values yet`;
    const line = ({ label }, index) => {
      const there = columns[index].filter((value) => value !== null && value !== undefined);
      return there.length ? `${label} from ${number(there[0])} to ${number(there.at(-1))}` : `${label} has no values`;
    };
    return `${this.title}, from ${kimg(xs[0])} to ${kimg(xs.at(-1))} thousand images: ${this.lines.map(line).join("; ")}`;
  }

  fit() {
    const width = Math.floor(this.place.clientWidth);
    if (!this.data || width < 40) return;
    if (!this.drawing) this.build(width);
    else if (this.drawing.width !== width) this.drawing.setSize({ width, height: this.height });
  }

  build(width) {
    const series = this.lines.map((line) => ({
      label: line.label,
      stroke: colour(line.colour),
      width: line.width ?? 1.75,
      dash: line.dash,
      spanGaps: true,
      points: { show: this.data[0].length < 40, size: 5 },
      value: (_, value) => number(value),
    }));
    const scales = { x: { time: false }, y: this.logarithmic ? { distr: 3 } : this.range ? { range: (_, least, most) => this.range(least ?? 0, most ?? 0) } : {} };
    const options = {
      width,
      height: this.height,
      scales,
      series: [{ label: "kimg", value: (_, value) => (value === null || value === undefined ? "-" : kimg(value)) }, ...series],
      axes: [axis({ size: 30, values: (_, ticks) => ticks.map((tick) => number(tick)) }), axis({ size: 54, values: (_, ticks) => ticks.map((tick) => (tick === null ? "" : number(tick))) })],
      cursor: { sync: { key: "kimg" }, points: { size: 7 }, drag: { x: true, y: false } },
      legend: { live: true, markers: { width: 0, fill: (_, index) => series[index - 1].stroke } },
      hooks: {
        setCursor: [() => this.rest()],
        setSelect: [(drawing) => (this.zoomed ||= drawing.select.width > 0)],
        ready: [() => queueMicrotask(() => this.rest())],
      },
    };
    this.drawing = new uPlot(options, this.data, this.place);
    this.drawing.over.addEventListener("dblclick", () => (this.zoomed = false));
  }

  /** Shows the last values where no cursor asks for others. */
  rest() {
    const drawing = this.drawing;
    if (!drawing || drawing.cursor.idx !== null && drawing.cursor.idx !== undefined) return;
    const last = this.lines.map((_, index) => lastIndex(this.data[index + 1]));
    if (this.data[0].length) drawing.setLegend({ idxs: [this.data[0].length - 1, ...last] }, false);
  }

  rebuild() {
    this.drawing?.destroy();
    this.drawing = null;
    this.fit();
  }

  close() {
    this.observer.disconnect();
    this.theme.removeEventListener("change", this.redraw);
    this.drawing?.destroy();
  }
}

function lastIndex(values) {
  for (let index = values.length - 1; index > 0; index--) if (values[index] !== null && values[index] !== undefined) return index;
  return 0;
}
