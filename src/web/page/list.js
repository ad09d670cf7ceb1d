// The list of runs.

import { source } from "./source.js";
import { make, number, kimg, clock, duration, lastOf } from "./format.js";

export const STATES = { training: "training", finished: "finished", stopped: "stopped", failed: "failed", interrupted: "interrupted" };
const RULES = { overfitting: "overfitting", leak: "leaking augmentation", collapse: "collapse", slope: "steep loss", skipped: "skipped steps" };

export const state = (name) => make("span", { class: `state ${name}` }, STATES[name]);

export function progress(run) {
  if (!run.total_kimg) return null;
  const label = `${kimg(run.kimg)} of ${kimg(run.total_kimg)} thousand images`;
  return make("progress", { max: run.total_kimg, value: Math.min(run.kimg, run.total_kimg), "aria-label": label });
}

export class List {
  constructor() {
    this.element = make("div", { class: "list" });
    this.text = "";
  }

  async refresh() {
    const runs = await source.list();
    // Cards that stay the same keep the focus of whoever uses the keyboard.
    const text = JSON.stringify(runs);
    if (text === this.text) return;
    this.text = text;
    this.rests = !runs.some((run) => run.state === "training");
    const focused = document.activeElement?.getAttribute("href");
    const groups = Map.groupBy ? Map.groupBy(runs, (run) => run.group) : grouped(runs);
    const parts = [make("h1", {}, "Runs")];
    if (!runs.length) parts.push(make("p", { class: "quiet" }, "There are no runs in the served folders yet. They appear here when one begins."));
    for (const [group, members] of groups) {
      if (group) {
        const compare = members.length > 1 && make("a", { class: "compare", href: `#/compare/${encodeURIComponent(group)}` }, "compare these");
        parts.push(make("h2", {}, group, " ", compare || ""));
      }
      // Runs count up, and the newest is what most come for; the arms of a comparison have an order of their own.
      const ordered = group ? members : members.toReversed();
      parts.push(make("ul", { class: "runs" }, ...ordered.map(card)));
    }
    this.element.replaceChildren(...parts);
    if (focused) this.element.querySelector(`[href="${CSS.escape(focused)}"]`)?.focus();
  }

  close() {}
}

/** A large grid shows its first pictures as they are, a small one fills the place. */
function fill({ target }) {
  target.classList.toggle("small", Math.min(target.naturalWidth, target.naturalHeight) < 160);
}

function grouped(runs) {
  const groups = new Map();
  for (const run of runs) groups.set(run.group, [...(groups.get(run.group) ?? []), run]);
  return groups;
}

function card(run) {
  const { about, metric } = run;
  const facts = [];
  if (about.data) facts.push(lastOf(about.data));
  if (about.loss) facts.push(about.root_k ? `${about.loss}, k = ${about.root_k}` : about.loss);
  if (about.r1_gamma !== undefined) facts.push(`R1 gamma ${number(about.r1_gamma)}`);
  if (about.batch) facts.push(`batch ${about.batch}`);
  const numbers = [`${kimg(run.kimg)}${run.total_kimg ? ` of ${kimg(run.total_kimg)}` : ""} kimg`];
  if (metric?.last !== null && metric) numbers.push(`${metric.metric} ${number(metric.last)}${metric.best !== metric.last ? `, best ${number(metric.best)}` : ""}`);
  if (run.end_time) numbers.push(`${duration(run.end_time - Date.now() / 1000)} left`);
  else if (run.last_time) numbers.push(`last tick ${clock(run.last_time)}`);
  const picture = run.grid
    ? make("img", { src: source.grid(run.id, run.grid), alt: "", loading: "lazy", decoding: "async", onload: fill })
    : make("div", { class: "none" });
  return make(
    "li",
    {},
    make(
      "a",
      { href: `#/run/${run.id}` },
      picture,
      make(
        "span",
        { class: "text" },
        make("span", { class: "name" }, run.arm ?? run.name),
        make("span", { class: "line" }, state(run.state), ...run.warnings.map((rule) => make("span", { class: "flag" }, RULES[rule] ?? rule))),
        make("span", { class: "line quiet" }, facts.join(" · ")),
        progress(run),
        make("span", { class: "line" }, numbers.join(" · ")),
      ),
    ),
  );
}
