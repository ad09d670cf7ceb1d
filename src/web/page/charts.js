// Line charts as SVG: curves over thousands of images, with a cursor that reads all of them at one place.

const WIDTH = 360, HEIGHT = 190, LEFT = 44, RIGHT = 8, TOP = 8, BOTTOM = 22;

const element = (name, attributes = {}) => {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
};

export const text = (value) => {
  if (!Number.isFinite(value)) return "-";
  const size = Math.abs(value);
  if (size !== 0 && (size < 0.001 || size >= 1e5)) return value.toExponential(1);
  return value.toLocaleString("en", { maximumSignificantDigits: 4, useGrouping: false });
};

// Round steps that cut a range into four or so.
const steps = (low, high) => {
  const rough = (high - low) / 4 || 1, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= rough);
  const all = [];
  for (let at = Math.ceil(low / step) * step; at <= high + step * 1e-9; at += step) all.push(at);
  return all;
};

// A chart of `curves`: [{label, colour, dash, points: [[x, y], ...]}]. Drawing again with others keeps the cursor.
export class Chart {
  constructor(title, note) {
    this.figure = document.createElement("figure");
    this.figure.className = "chart";
    const caption = document.createElement("figcaption");
    caption.textContent = title;
    if (note) caption.title = note;
    this.svg = element("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", tabindex: "0" });
    this.legend = document.createElement("div");
    this.legend.className = "legend";
    this.figure.append(caption, this.svg, this.legend);
    this.title = title;
    this.at = null;
    this.svg.addEventListener("pointermove", (event) => this.point(event));
    this.svg.addEventListener("pointerleave", () => { this.at = null; this.draw(this.curves); });
    this.svg.addEventListener("keydown", (event) => this.key(event));
  }

  point(event) {
    const box = this.svg.getBoundingClientRect();
    this.at = this.low + ((event.clientX - box.left) / box.width * WIDTH - LEFT) / (WIDTH - LEFT - RIGHT) * (this.high - this.low);
    this.draw(this.curves);
  }

  key(event) {
    const way = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!way) return;
    event.preventDefault();
    const places = [...new Set(this.curves.flatMap((curve) => curve.points.map(([x]) => x)))].sort((a, b) => a - b);
    const now = this.at === null ? (way > 0 ? -1 : places.length) : places.findIndex((x) => x >= this.at);
    this.at = places[Math.min(Math.max(now + way, 0), places.length - 1)] ?? null;
    this.draw(this.curves);
  }

  draw(curves) {
    this.curves = curves.map((curve) => ({ ...curve, points: curve.points.filter((point) => point.every(Number.isFinite)) }))
      .filter((curve) => curve.points.length > 0);
    this.figure.hidden = this.curves.length === 0;
    if (this.figure.hidden) return;
    const xs = this.curves.flatMap((curve) => curve.points.map(([x]) => x));
    const ys = this.curves.flatMap((curve) => curve.points.map(([, y]) => y));
    [this.low, this.high] = [Math.min(...xs), Math.max(...xs)];
    if (this.low === this.high) this.high = this.low + 1;
    let [bottom, top] = [Math.min(...ys), Math.max(...ys)];
    if (bottom === top) { bottom -= Math.abs(bottom) * 0.1 || 0.5; top += Math.abs(top) * 0.1 || 0.5; }
    const x = (value) => LEFT + (value - this.low) / (this.high - this.low) * (WIDTH - LEFT - RIGHT);
    const y = (value) => HEIGHT - BOTTOM - (value - bottom) / (top - bottom) * (HEIGHT - TOP - BOTTOM);
    const parts = [];
    for (const at of steps(bottom, top)) {
      parts.push(element("path", { class: "axis", d: `M${LEFT} ${y(at)}H${WIDTH - RIGHT}` }));
      const label = element("text", { x: LEFT - 5, y: y(at) + 4, "text-anchor": "end" });
      label.textContent = text(at);
      parts.push(label);
    }
    for (const at of steps(this.low, this.high)) {
      const label = element("text", { x: x(at), y: HEIGHT - 6, "text-anchor": "middle" });
      label.textContent = text(at);
      parts.push(label);
    }
    for (const { colour, dash, points } of this.curves) {
      const path = points.map(([a, b], index) => `${index ? "L" : "M"}${x(a).toFixed(1)} ${y(b).toFixed(1)}`).join("");
      const curve = element("path", { class: "curve", d: path, stroke: `var(--c${colour})` });
      if (dash) curve.setAttribute("stroke-dasharray", "5 3");
      parts.push(curve);
      if (points.length < 40) {
        for (const [a, b] of points) parts.push(element("circle", { cx: x(a), cy: y(b), r: 2.2, fill: `var(--c${colour})` }));
      }
    }
    const inside = this.at !== null && this.at >= this.low && this.at <= this.high;
    if (inside) parts.push(element("path", { class: "cursor", d: `M${x(this.at)} ${TOP}V${HEIGHT - BOTTOM}` }));
    this.svg.replaceChildren(...parts);
    const read = ({ points }) => inside
      ? points.reduce((best, point) => Math.abs(point[0] - this.at) < Math.abs(best[0] - this.at) ? point : best)
      : points.at(-1);
    this.legend.replaceChildren(...this.curves.map((curve) => {
      const item = document.createElement("span"), swatch = document.createElement("i"), value = document.createElement("b");
      swatch.className = "swatch";
      swatch.style.background = `var(--c${curve.colour})`;
      const [place, number] = read(curve);
      value.textContent = text(number);
      item.append(swatch, `${curve.label} `, value, inside ? ` at ${text(place)}` : "");
      return item;
    }));
    const words = this.curves.map((curve) => `${curve.label}: ${text(curve.points.at(-1)[1])}`).join(", ");
    this.svg.setAttribute("aria-label", `${this.title} over thousands of images, at the end ${words}`);
  }
}
