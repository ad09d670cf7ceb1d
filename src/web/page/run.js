// One run: where it is, what is wrong, grids, curves, options and log.

import { source } from "./source.js";
import { make, number, kimg, duration, clock } from "./format.js";
import { Plot, smooth } from "./plots.js";
import { Grids } from "./grids.js";
import { progress, state } from "./list.js";

/** The plots of every run, with the columns of their lines. */
const PLOTS = [
  { title: "Losses", lines: [["Loss/G/loss", "generator"], ["Loss/D/loss", "discriminator"]] },
  { title: "Scores of the discriminator", lines: [["Loss/scores/real", "real"], ["Loss/scores/fake", "generated"]] },
  { title: "Signs of the scores", note: "real near 1 and generated near -1: overfitting", range: () => [-1.05, 1.05], lines: [["Loss/signs/real", "real"], ["Loss/signs/fake", "generated"]] },
  { title: "Augmentation p", note: "above 0.85 it leaks", range: (_, most) => [0, Math.min(1, Math.max(0.1, most * 1.1))], lines: [["Progress/augment", "p"]] },
  { title: "Learning rates", range: (_, most) => [0, most * 1.25 || 1], lines: [["rate of G", "generator"], ["rate of D", "discriminator", [7, 5]]] },
  { title: "Largest slope of the loss", logarithmic: true, lines: [["Loss/G/slope", "generator"], ["Loss/D/slope", "discriminator"]] },
  { title: "Regularisers", logarithmic: true, lines: [["Loss/r1_penalty", "R1 penalty"], ["Loss/r2_penalty", "R2 penalty"], ["Loss/pl_penalty", "path length"]] },
  { title: "Seconds for a thousand images", range: (_, most) => [0, most * 1.1 || 1], lines: [["Timing/sec_per_kimg", "seconds"]] },
  { title: "Memory, GiB", lines: [["Resources/cpu_mem_gb", "process"], ["Resources/peak_gpu_mem_gb", "GPU"]] },
];

/** The learning rates in effect: those of the options, less after a divergence and during the warm-up. */
function withRates(columns, options) {
  const warmup = options.lr_warmup_kimg || 0;
  const scale = (row) => (columns["Progress/lr_scale"]?.[row] ?? 1) * (warmup ? Math.min(1, columns["Progress/kimg"][row] / warmup) : 1);
  const rates = (rate) => columns["Progress/kimg"].map((_, row) => (rate === undefined ? null : rate * scale(row)));
  return { ...columns, "rate of G": rates(options.g_lr), "rate of D": rates(options.d_lr) };
}

export class RunView {
  constructor(id) {
    this.id = id;
    this.had = { generation: 0, rows: 0 };
    this.columns = {};
    this.logAt = null;
    this.plots = new Map();
    this.head = make("div", { class: "head" });
    this.warnings = make("div", { class: "warnings", role: "status" });
    this.grids = new Grids(id);
    this.smoothing = make("select", { id: "smoothing", onchange: () => this.draw() }, ...[["1", "none"], ["5", "5 ticks"], ["25", "25 ticks"]].map(([value, text]) => make("option", { value }, text)));
    this.area = make("div", { class: "plots" });
    this.curves = make("section", { "aria-label": "Curves" }, make("div", { class: "title" }, make("h2", {}, "Curves"), make("label", { for: "smoothing" }, "Smoothing"), this.smoothing), this.area);
    this.options = make("table");
    this.log = make("pre", { class: "log", tabindex: 0, "aria-label": "Log" });
    this.element = make(
      "div",
      { class: "run" },
      source.isLive ? make("p", { class: "back" }, make("a", { href: "#/" }, "← all runs")) : null,
      this.head,
      this.warnings,
      this.grids.element,
      this.curves,
      make("section", { class: "card" }, make("h2", {}, "Log"), this.log),
      make("details", { class: "card" }, make("summary", {}, "Options in effect"), this.options),
    );
    this.grids.element.hidden = true;
  }

  async refresh() {
    const summary = await source.summary(this.id);
    if (summary !== this.summary) {
      this.summary = summary;
      this.rests = summary.state !== "training";
      this.showWarnings(summary.warnings);
      this.grids.show(summary.grids, summary.grid_note);
      this.showOptions(summary.options);
      if (summary.generation !== this.had.generation || summary.rows !== this.had.rows) this.take(await source.curves(this.id, this.had));
      this.draw();
    }
    this.showHead(summary);
    if (summary.log_bytes > (this.logAt ?? -1)) await this.follow();
  }

  /** Adds the new rows, or takes all where the old ones have changed. */
  take({ generation, first, rows, columns }) {
    const old = first === 0 ? {} : this.columns;
    const fill = (name) => old[name] ?? Array(first).fill(null);
    this.columns = Object.fromEntries(Object.entries(columns).map(([name, values]) => [name, [...fill(name), ...values]]));
    this.had = { generation, rows };
  }

  draw() {
    const columns = this.columns;
    const xs = columns["Progress/kimg"] ?? [];
    this.curves.hidden = xs.length === 0;
    const width = Number(this.smoothing.value);
    const all = xs.length ? withRates(columns, this.summary.options) : {};
    for (const { title, lines, ...options } of PLOTS) {
      const there = lines.filter(([name]) => all[name]?.some((value) => value !== null && value !== 0));
      if (!there.length) continue;
      const plot = this.plot(title, there.map(([name, label, dash]) => ({ label, dash, colour: lines.findIndex((line) => line[0] === name) })), options);
      plot.show([xs, ...there.map(([name]) => smooth(all[name], width))]);
    }
    for (const series of this.summary.metrics) {
      if (!series.points.length) continue;
      const note = `${series.measure}${series.lower_is_better ? ", less is better" : ", more is better"}`;
      const plot = this.plot(series.metric, series.names.map((label, index) => ({ label, colour: index })), { note });
      plot.show([series.points.map((point) => point.kimg), ...series.names.map((_, index) => series.points.map((point) => point.values[index] ?? null))]);
    }
  }

  plot(title, lines, options) {
    const key = `${title} ${lines.map((line) => line.label)}`;
    if (!this.plots.has(key)) {
      const plot = new Plot(title, lines, options);
      // Metrics come first: they are what training is for.
      const isMetric = this.summary.metrics.some((series) => series.metric === title);
      const former = [...this.plots.entries()].find(([, other]) => other.title === title);
      if (former) {
        former[1].element.replaceWith(plot.element);
        former[1].close();
        this.plots.delete(former[0]);
      } else if (isMetric) this.area.prepend(plot.element);
      else this.area.append(plot.element);
      this.plots.set(key, plot);
    }
    return this.plots.get(key);
  }

  showHead(run) {
    const now = Date.now() / 1000;
    const facts = [["Images", `${kimg(run.kimg)}${run.total_kimg ? ` of ${kimg(run.total_kimg)}` : ""} thousand`]];
    if (run.end_time) facts.push(["Time left", run.end_time > now ? `${duration(run.end_time - now)}, until ${clock(run.end_time)}` : "under a tick"]);
    if (run.sec_per_kimg) facts.push(["Speed", `${number(run.sec_per_kimg)} s for a thousand images`]);
    if (run.last_time) facts.push([run.state === "training" ? "Last tick" : "Ended", run.state === "training" && source.isLive ? `${duration(now - run.last_time)} ago` : clock(run.last_time)]);
    const [series] = run.metrics;
    if (series?.points.length) {
      const values = series.points.map((point) => point.values[0]).filter((value) => value !== null);
      const best = values.length ? (series.lower_is_better ? Math.min : Math.max)(...values) : null;
      facts.push([series.metric, `${number(series.points.at(-1).values[0])}, best ${number(best)}`]);
    }
    const title = `${run.arm ?? run.name}`;
    document.title = `${run.state === "training" && run.total_kimg ? `${Math.floor((100 * run.kimg) / run.total_kimg)} % · ` : ""}${title} - rootgan`;
    const text = JSON.stringify([title, run.state, facts, run.last_words]);
    if (text === this.headText) return;
    this.headText = text;
    this.head.replaceChildren(
      make("h1", {}, title, " ", state(run.state)),
      progress(run) ?? "",
      make("dl", {}, ...facts.map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, value)))),
      run.last_words ? make("p", { class: "words" }, run.last_words) : "",
    );
  }

  showWarnings(warnings) {
    const one = ({ rule, text, remedy }) => make("div", { class: "warning", "data-rule": rule }, make("p", {}, text), make("p", { class: "remedy" }, remedy));
    this.warnings.replaceChildren(...warnings.map(one));
  }

  showOptions(options) {
    const row = ([name, value]) => make("tr", {}, make("th", { scope: "row" }, name), make("td", {}, typeof value === "string" ? value : JSON.stringify(value)));
    this.options.replaceChildren(make("tbody", {}, ...Object.entries(options).map(row)));
  }

  /** Adds what is new in the log; whoever reads above its end is left there. */
  async follow() {
    const part = await source.log(this.id, this.logAt).catch(() => null);
    if (!part) return;
    const atEnd = this.log.scrollHeight - this.log.scrollTop - this.log.clientHeight < 40;
    const joins = part.from === this.logAt;
    const lines = part.text.split("\n").filter((line) => line);
    const shown = lines.map((line) => make("span", { class: /^(warning|error):/.test(line) ? "bad" : null }, `${line}\n`));
    if (joins) this.log.append(...shown);
    else this.log.replaceChildren(...shown);
    while (this.log.childElementCount > 2000) this.log.firstElementChild.remove();
    this.logAt = part.next;
    if (atEnd || !joins) this.log.scrollTop = this.log.scrollHeight;
  }

  close() {
    this.grids.close();
    for (const plot of this.plots.values()) plot.close();
  }
}
