// The page of runs: shows what the address names, and asks again for what may have changed.

import { source } from "./source.js";
import { List } from "./list.js";
import { RunView } from "./run.js";
import { ComparisonView } from "./comparison.js";

const TRAINING_MS = 2000;
const RESTING_MS = 10000;

const place = document.getElementById("view");
const trouble = document.getElementById("trouble");
let view = null;
let timer = null;
let turn = 0;

function viewOf(address) {
  const [, kind, name] = address.match(/^#\/(run|compare)\/(.+)$/) ?? [];
  if (kind === "run") return new RunView(name);
  if (kind === "compare") {
    const group = decodeURIComponent(name);
    return new ComparisonView(group, (run) => run.group === group);
  }
  if (source.report?.kind === "run") return new RunView(source.report.runs[0].id);
  if (source.report) return ofSets(source.report);
  return new List();
}

/** The comparison of a report, or those of several data sets below each other. */
function ofSets(report) {
  const groups = [...new Set(report.runs.map((run) => run.summary.group))];
  if (groups.length < 2) return new ComparisonView(report.title, () => true);
  const views = groups.map((group) => new ComparisonView(group || report.title, (run) => run.group === group));
  const element = document.createElement("div");
  element.append(...views.map((view) => view.element));
  return { element, refresh: () => Promise.all(views.map((view) => view.refresh())), close: () => views.forEach((view) => view.close()) };
}

async function refresh() {
  clearTimeout(timer);
  const [current, mine] = [view, ++turn];
  try {
    await current.refresh();
    trouble.hidden = true;
  } catch (error) {
    trouble.textContent = error instanceof TypeError ? "The server does not answer. Is rootgan serve still running?" : `Not everything can be shown: ${error.message}`;
    trouble.hidden = false;
  }
  // The view may have changed meanwhile, and a hidden page asks for nothing.
  if (!source.isLive || mine !== turn || document.hidden) return;
  timer = setTimeout(refresh, current.rests ? RESTING_MS : TRAINING_MS);
}

function show() {
  view?.close();
  view = viewOf(location.hash);
  if (view instanceof List) document.title = "Runs - rootgan";
  place.replaceChildren(view.element);
  scrollTo(0, 0);
  refresh();
}

if (source.report) {
  const { made, version } = source.report;
  document.getElementById("made").textContent = `Made by rootgan ${version} on ${new Date(made * 1000).toISOString().slice(0, 10)}. This file holds everything that it shows.`;
}
addEventListener("hashchange", show);
document.addEventListener("visibilitychange", () => document.hidden || refresh());
show();
