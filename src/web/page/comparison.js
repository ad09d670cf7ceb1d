// Several runs beside each other: a metric or statistic of all over the images seen, and their last grids.

import { source } from "./source.js";
import { make, number, kimg, prose } from "./format.js";
import { Plot } from "./plots.js";
import { state } from "./list.js";

const MOST = 60;
const FIRST_STATISTICS = ["Loss/D/loss", "Loss/G/loss", "Loss/signs/real", "Progress/augment", "Loss/D/slope", "Loss/G/slope"];

export class ComparisonView {
  constructor(title, belongs) {
    this.title = title;
    this.belongs = belongs;
    this.choice = make("select", { id: "statistic", onchange: () => this.drawStatistic() });
    this.distance = make("div", { class: "plots wide" });
    this.table = make("div", { class: "card scroll" });
    this.statistic = make("div", { class: "plots wide" });
    this.pictures = make("div", { class: "finals" });
    const lines = (source.report?.lines ?? []).map((line) => make("p", { class: "quiet" }, ...prose(line)));
    this.element = make(
      "div",
      { class: "comparison" },
      source.isLive ? make("p", { class: "back" }, make("a", { href: "#/" }, "← all runs")) : null,
      make("h1", {}, title),
      ...lines,
      (this.leftOut = make("p", { class: "quiet" })),
      this.distance,
      this.table,
      (this.statistics = make("section", { "aria-label": "Statistics" }, make("div", { class: "title" }, make("h2", {}, "Statistics"), make("label", { for: "statistic" }, "Statistic"), this.choice), this.statistic)),
      (this.finals = make("section", { "aria-label": "Last grids" }, make("h2", {}, "Last grids"), this.pictures)),
    );
    this.plots = {};
    document.title = `${title} - rootgan`;
  }

  async refresh() {
    const all = (await source.list()).filter(this.belongs), listed = all.slice(0, MOST);
    this.leftOut.textContent = all.length > MOST ? `Of ${all.length} runs the first ${MOST} are shown.` : "";
    const runs = await Promise.all(listed.map(async (run) => ({ id: run.id, ...(await source.summary(run.id)) })));
    const text = JSON.stringify(runs.map((run) => [run.id, run.rows, run.generation, run.grids.length, run.state, run.metrics.map((series) => series.points.length)]));
    if (text === this.text) return;
    this.text = text;
    for (const run of runs) {
      run.label = run.arm ?? run.name;
      run.armName = run.label.replace(/,? ?-?seed ?\d+$/, "");
      run.columns = (await source.curves(run.id, { generation: 0, rows: 0 })).columns;
    }
    const arms = [...new Set(runs.map((run) => run.armName))];
    runs.forEach((run) => {
      run.colour = arms.indexOf(run.armName);
      run.dash = [undefined, [6, 3], [2, 3]][runs.filter((other) => other.armName === run.armName).indexOf(run) % 3];
    });
    this.runs = runs;
    this.rests = !runs.some((run) => run.state === "training");
    this.statistics.hidden = runs.every((run) => !run.rows);
    this.finals.hidden = runs.every((run) => !run.grids.length);
    this.drawDistance(arms);
    this.showStatistics();
    this.showPictures();
  }

  drawDistance(arms) {
    const [first] = this.runs.flatMap((run) => run.metrics.filter((series) => series.points.length));
    if (!first) return;
    const measured = this.runs.flatMap((run) => run.metrics.filter((series) => series.metric === first.metric && series.points.length).map((series) => ({ run, points: series.points })));
    const note = `${first.measure}${first.lower_is_better ? ", less is better" : ""}; detector ${first.detector}`;
    this.overlay("distance", this.distance, first.metric, note, measured.map(({ run, points }) => ({ run, xs: points.map((point) => point.kimg), ys: points.map((point) => point.values[0]) })));
    const better = first.lower_is_better ? Math.min : Math.max;
    const row = (arm) => {
      const of = measured.filter(({ run }) => run.armName === arm);
      const valuesOf = ({ points }) => points.map((point) => point.values[0]).filter((value) => value !== null);
      // A run that was ended early has no value at the end.
      const ends = of.filter(({ run, points }) => !run.arm_ended && points.at(-1).values[0] !== null).map(({ points }) => points.at(-1).values[0]);
      const share = ends.length < of.length ? ` (${ends.length} of ${of.length})` : "";
      const bests = of.map(valuesOf).filter((values) => values.length).map((values) => better(...values));
      const cells = [spread(ends) + share, spread(bests)];
      return make("tr", {}, make("th", { scope: "row" }, arm), ...cells.map((cell) => make("td", {}, cell)), make("td", {}, String(of.length)));
    };
    const head = make("tr", {}, ...["arm", `${first.metric} at the end`, "best", "seeds"].map((text) => make("th", { scope: "col" }, text)));
    this.table.replaceChildren(make("table", {}, make("thead", {}, head), make("tbody", {}, ...arms.map(row))));
  }

  showStatistics() {
    const names = [...new Set(this.runs.flatMap((run) => Object.keys(run.columns)))].filter((name) => name !== "Progress/kimg");
    const known = FIRST_STATISTICS.filter((name) => names.includes(name));
    const sorted = [...known, ...names.filter((name) => !known.includes(name)).sort()];
    const chosen = this.choice.value || sorted[0];
    this.choice.replaceChildren(...sorted.map((value) => make("option", { value }, value)));
    this.choice.value = chosen;
    this.drawStatistic();
  }

  drawStatistic() {
    const name = this.choice.value;
    const lines = this.runs.filter((run) => run.columns[name]).map((run) => ({ run, xs: run.columns["Progress/kimg"], ys: run.columns[name] }));
    if (lines.length) this.overlay("statistic", this.statistic, name, null, lines);
  }

  /** Draws lines with places of their own on one axis. */
  overlay(key, place, title, note, lines) {
    const xs = [...new Set(lines.flatMap((line) => line.xs))].sort((a, b) => a - b);
    const column = ({ xs: own, ys }) => {
      const by = new Map(own.map((x, index) => [x, ys[index]]));
      return xs.map((x) => by.get(x) ?? null);
    };
    this.plots[key]?.close();
    const plot = new Plot(title, lines.map(({ run }) => ({ label: run.label, colour: run.colour, dash: run.dash })), { note, height: 300 });
    this.plots[key] = plot;
    place.replaceChildren(plot.element);
    plot.show([xs, ...lines.map(column)]);
  }

  showPictures() {
    const one = (run) => {
      const grid = run.grids.findLast((candidate) => candidate.kimg !== null);
      const picture = grid
        ? make("img", { src: source.grid(run.id, grid), loading: "lazy", alt: `Generated pictures of ${run.label} after ${kimg(grid.kimg)} thousand images` })
        : make("p", { class: "quiet" }, "no grid yet");
      const caption = source.isLive ? make("a", { href: `#/run/${run.id}` }, run.label) : run.label;
      return make("figure", { class: "card" }, picture, make("figcaption", {}, caption, " ", state(run.state)));
    };
    this.pictures.replaceChildren(...this.runs.map(one));
  }

  close() {
    Object.values(this.plots).forEach((plot) => plot.close());
  }
}

/** Mean and standard deviation. */
function spread(values) {
  if (!values.length) return "-";
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  if (values.length < 2) return number(mean);
  const variance = values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / (values.length - 1);
  return `${number(mean)} ± ${number(Math.sqrt(variance), 3)}`;
}
