// The grids of a run: a slider over the images seen, and a wipe between two of them.

import { source } from "./source.js";
import { make, kimg } from "./format.js";

function words(grid) {
  if (grid.kimg === null) return "real pictures";
  if (grid.name === "fakes_init") return "before training";
  return `${kimg(grid.kimg)} kimg`;
}

const alternative = (grid) =>
  grid.kimg === null ? "Grid of real pictures" : `Grid of generated pictures, ${grid.name === "fakes_init" ? "before training" : `after ${kimg(grid.kimg)} thousand images`}`;

export class Grids {
  constructor(id) {
    this.id = id;
    this.all = [];
    this.made = [];
    this.index = 0;
    this.follows = true;
    this.share = 100;
    this.pictures = new Map();
    this.before = make("img", { class: "before", alt: "" });
    this.after = make("img", { class: "after", alt: "" });
    this.edge = make("div", { class: "edge", "aria-hidden": "true" });
    this.tags = [make("span", { class: "tag left", "aria-hidden": "true" }), make("span", { class: "tag right", "aria-hidden": "true" })];
    this.stage = make("div", { class: "stage" }, this.before, this.after, this.edge, ...this.tags);
    this.note = make("p", { class: "quiet" });
    this.frame = make("div", { class: "frame" }, this.stage);
    this.slider = make("input", { type: "range", id: "grid-slider", min: 0, max: 0, step: 1, value: 0 });
    this.shown = make("output", { for: "grid-slider" });
    this.play = make("button", { type: "button", onclick: () => this.toggle() }, "Play");
    this.other = make("select", { id: "grid-other" });
    this.wipe = make("input", { type: "range", id: "grid-wipe", min: 0, max: 100, step: 1, value: 50 });
    this.size = make("button", { type: "button", "aria-pressed": "false", onclick: () => this.resize() }, "Actual size");
    this.element = make(
      "section",
      { class: "card grids" },
      make("h2", {}, "Grids"),
      make("div", { class: "controls" }, make("span", { class: "field long" }, make("label", { for: "grid-slider" }, "Images seen"), this.slider), this.shown, this.play),
      this.frame,
      make(
        "div",
        { class: "controls" },
        make("span", { class: "field" }, make("label", { for: "grid-other" }, "Compare with"), this.other),
        make("span", { class: "field long" }, make("label", { for: "grid-wipe" }, "Wipe"), this.wipe),
        this.size,
      ),
      this.note,
    );
    this.slider.addEventListener("input", () => this.choose(Number(this.slider.value)));
    this.other.addEventListener("change", () => {
      this.touched = true;
      this.compare();
    });
    this.wipe.addEventListener("input", () => this.cut(Number(this.wipe.value)));
    this.drag();
  }

  /** Takes the list of grids, which may have grown. */
  show(grids, note = null) {
    this.note.textContent = note ?? "";
    this.note.hidden = !note;
    if (grids.length === this.all.length && grids.every((grid, index) => grid.name === this.all[index].name)) return;
    const chosen = this.other.value;
    this.all = grids;
    this.made = grids.filter((grid) => grid.kimg !== null);
    this.element.hidden = this.made.length === 0;
    if (!this.made.length) return;
    const choice = (grid) => make("option", { value: grid.name }, words(grid));
    this.other.replaceChildren(make("option", { value: "" }, "nothing"), ...grids.map(choice));
    const first = this.made.length > 1 ? this.made[0].name : "";
    this.other.value = this.touched && (chosen === "" || grids.some((grid) => grid.name === chosen)) ? chosen : first;
    this.slider.max = this.made.length - 1;
    // Whoever looks at the newest grid goes on to the next one.
    this.choose(this.follows ? this.made.length - 1 : Math.min(this.index, this.made.length - 1));
    this.compare();
  }

  choose(index) {
    this.index = index;
    this.follows = index === this.made.length - 1;
    const grid = this.made[index];
    this.slider.value = index;
    this.slider.setAttribute("aria-valuetext", words(grid));
    this.shown.value = words(grid);
    this.tags[1].textContent = words(grid);
    this.put(this.after, grid);
    for (const near of [index - 1, index + 1]) if (this.made[near]) this.load(this.made[near]);
  }

  compare() {
    const grid = this.all.find((candidate) => candidate.name === this.other.value);
    this.before.hidden = this.edge.hidden = !grid;
    this.wipe.disabled = !grid;
    this.tags.forEach((tag) => (tag.hidden = !grid));
    this.tags[0].textContent = grid ? words(grid) : "";
    if (grid) this.put(this.before, grid);
    this.cut(grid ? Number(this.wipe.value) : 0);
  }

  /** Shows the compared grid left of `percent`, the chosen one right of it. */
  cut(percent) {
    this.wipe.value = percent;
    this.after.style.clipPath = this.before.hidden ? "none" : `inset(0 0 0 ${percent}%)`;
    this.edge.style.left = `${percent}%`;
    this.wipe.setAttribute("aria-valuetext", `${percent} % of the width shows ${this.other.selectedOptions[0]?.textContent ?? ""}`);
  }

  /** Loads a picture once; a few stay in memory. */
  load(grid) {
    const address = source.grid(this.id, grid);
    if (!this.pictures.has(address)) {
      const picture = new Image();
      picture.src = address;
      this.pictures.set(address, picture);
      if (this.pictures.size > 16) this.pictures.delete(this.pictures.keys().next().value);
    }
    return this.pictures.get(address);
  }

  async put(place, grid) {
    const picture = this.load(grid);
    place.wanted = picture.src;
    await picture.decode().catch(() => {});
    if (place.wanted !== picture.src) return;
    place.src = picture.src;
    place.alt = alternative(grid);
    place.classList.toggle("coarse", picture.naturalWidth < 640);
    this.stage.style.maxWidth = picture.naturalWidth < 640 ? `${Math.max(picture.naturalWidth * 3, 320)}px` : `${picture.naturalWidth * 1.5}px`;
  }

  drag() {
    const move = (event) => {
      const box = this.stage.getBoundingClientRect();
      this.cut(Math.round(Math.min(100, Math.max(0, (100 * (event.clientX - box.left)) / box.width))));
    };
    this.stage.addEventListener("pointerdown", (event) => {
      if (this.before.hidden || event.button !== 0) return;
      event.preventDefault();
      this.stage.setPointerCapture(event.pointerId);
      move(event);
      this.stage.onpointermove = move;
    });
    const end = () => (this.stage.onpointermove = null);
    this.stage.addEventListener("pointerup", end);
    this.stage.addEventListener("pointercancel", end);
  }

  toggle() {
    if (this.timer) return this.stop();
    this.play.textContent = "Stop";
    if (this.index === this.made.length - 1) this.choose(0);
    this.timer = setInterval(() => (this.index < this.made.length - 1 ? this.choose(this.index + 1) : this.stop()), 500);
  }

  stop() {
    clearInterval(this.timer);
    this.timer = null;
    this.play.textContent = "Play";
  }

  resize() {
    const whole = this.frame.classList.toggle("actual");
    this.size.setAttribute("aria-pressed", String(whole));
  }

  close() {
    this.stop();
  }
}
