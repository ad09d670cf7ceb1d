import { Chart, text } from "./charts.js";
// The page of runs. It asks for what is new every two seconds; in a report all data is in the page already.

const PAUSE = 2000;
const byId = (id) => document.getElementById(id);
const report = JSON.parse(byId("report")?.textContent ?? "null");

// What is drawn: title, words, and [statistic, label, dashed] for each curve.
const CHARTS = [
  ["Losses", "Adversarial losses of generator and discriminator", [["Loss/G/loss", "G"], ["Loss/D/loss", "D", true]]],
  ["Scores", "Mean logits of real and generated pictures", [["Loss/scores/real", "real"], ["Loss/scores/fake", "generated", true]]],
  ["Signs of real scores, and p", "Near 1 the discriminator knows the training pictures; p is the augmentation's probability",
    [["Loss/signs/real", "sign"], ["Progress/augment", "p", true]]],
  ["Slopes", "Mean slopes of the losses", [["Loss/G/slope", "G"], ["Loss/D/slope", "D", true]]],
  ["Regularisation", "R1's penalty and that of path length", [["Loss/r1_penalty", "R1"], ["Loss/pl_penalty", "path length", true]]],
  ["Learning rates, times", "1, halved at every rollback", [["Progress/lr_scale", "factor"]]],
  ["Seconds per thousand images", "Without grids and metrics", [["Timing/sec_per_kimg", "s/kimg"]]],
];

const runs = new Map(); // id -> {id, name, view, ticked}
let shown = null, place = null, charts = null;

const duration = (seconds) => {
  const minutes = Math.round(seconds / 60);
  return minutes < 1 ? "under a minute" : minutes < 120 ? `${minutes} min` : `${(minutes / 60).toFixed(1)} h`;
};

const ask = async (address) => {
  const answer = await fetch(address);
  if (!answer.ok) throw new Error((await answer.text()).trim());
  return answer.json();
};

const address = (run, file) => report ? run.view.pictures[file] : `api/runs/${run.id}/pictures/${encodeURIComponent(file)}`;

// Takes a newer view of a run over, whose ticks go on from those that are known.
const take = (run, view) => {
  const before = run.view?.ticks ?? [];
  run.view = { ...view, ticks: report ? view.ticks : [...before, ...view.ticks] };
};

const listRuns = () => {
  const items = [...runs.values()].map((run) => {
    const item = document.createElement("li"), tick = document.createElement("input"), open = document.createElement("button");
    tick.type = "checkbox";
    tick.checked = run.ticked;
    tick.setAttribute("aria-label", `draw ${run.name} in the plots`);
    tick.addEventListener("change", () => { run.ticked = tick.checked; refresh(run).then(draw); });
    open.textContent = run.name;
    open.setAttribute("aria-current", run === shown);
    open.addEventListener("click", () => { shown = run; place = null; refresh(run).then(() => { listRuns(); draw(); }); });
    item.append(tick, open);
    return item;
  });
  byId("runs").replaceChildren(...items);
};

const refresh = async (run) => {
  if (report) return;
  take(run, await ask(`api/runs/${run.id}?after=${run.view?.ticks.length ?? 0}`));
};

const drawn = () => [...runs.values()].filter((run) => run.view && (run === shown || run.ticked));

const drawCharts = () => {
  const all = drawn(), names = new Set(all.flatMap((run) => Object.keys(run.view.metrics)));
  charts ??= new Map();
  const chart = (title, note) => {
    if (!charts.has(title)) {
      charts.set(title, new Chart(title, note));
      byId("charts").append(charts.get(title).figure);
    }
    return charts.get(title);
  };
  for (const name of names) {
    const words = all.map((run) => run.view.measures[name]).find(Boolean);
    chart(name, words).draw(all.map((run, index) => ({
      label: all.length > 1 ? run.name : words ?? name, colour: index % 8,
      points: (run.view.metrics[name] ?? []).map(({ kimg, value }) => [kimg, value]),
    })));
  }
  for (const [title, note, curves] of CHARTS) {
    chart(title, note).draw(all.flatMap((run, index) => curves.map(([statistic, label, dash], number) => ({
      label: all.length > 1 ? `${run.name} ${label}` : label, colour: (all.length > 1 ? index : number) % 8, dash,
      points: run.view.ticks.map((tick) => [tick.kimg, tick.means[statistic] ?? NaN]),
    }))));
  }
  for (const [title, one] of charts) {
    if (!names.has(title) && !CHARTS.some(([known]) => known === title)) one.draw([]);
  }
};

const drawPictures = () => {
  const { grids } = shown.view, slider = byId("kimg");
  byId("pictures").hidden = grids.length === 0;
  if (!grids.length) return;
  slider.max = grids.length - 1;
  const at = Math.min(place ?? grids.length - 1, grids.length - 1);
  slider.value = at;
  const { file, kimg } = grids[at], words = `after ${text(kimg)} thousand images`;
  byId("kimg-text").textContent = at === 0 && file === "fakes_init.png" ? "at the start" : `${text(kimg)} kimg`;
  slider.setAttribute("aria-valuetext", byId("kimg-text").textContent);
  const set = (image, source, alt) => {
    if (image.dataset.source !== source) { image.src = source; image.dataset.source = source; }
    image.alt = alt;
  };
  set(byId("now"), address(shown, file), `Generated pictures of ${shown.name} ${words}`);
  set(byId("before"), address(shown, grids[0].file), `Generated pictures of ${shown.name} at the start`);
  const part = byId("part").value;
  byId("before").style.clipPath = `inset(0 ${100 - part}% 0 0)`;
  byId("part-text").textContent = part === "0" ? "off" : `${part} %`;
};

const draw = () => {
  byId("empty").hidden = Boolean(shown);
  byId("shown").hidden = !shown?.view;
  if (!shown?.view) return;
  const { view } = shown;
  byId("name").textContent = shown.name;
  const state = byId("state");
  state.textContent = view.state;
  state.className = `badge ${view.state}`;
  const left = view.eta_seconds === null ? "" : `, about ${duration(view.eta_seconds)} left`;
  byId("progress-text").textContent = `${text(view.kimg)} of ${text(view.total_kimg)} thousand images${left}`;
  byId("progress").value = view.total_kimg > 0 ? Math.min(view.kimg / view.total_kimg, 1) : 0;
  byId("warnings").replaceChildren(...view.warnings.map((line) => Object.assign(document.createElement("li"), { textContent: line })));
  drawPictures();
  drawCharts();
  byId("options").replaceChildren(...Object.entries(view.options).map(([name, value]) => {
    const row = document.createElement("tr");
    row.append(Object.assign(document.createElement("th"), { textContent: `--${name.replaceAll("_", "-")}`, scope: "row" }),
      Object.assign(document.createElement("td"), { textContent: value }));
    return row;
  }));
  if (byId("log").textContent !== view.log) byId("log").textContent = view.log;
};

const addRuns = (entries) => {
  let changed = false;
  for (const entry of entries) {
    if (!runs.has(entry.id)) { runs.set(entry.id, { ...entry, ticked: false }); changed = true; }
  }
  return changed;
};

const watch = async () => {
  try {
    const { runs: entries } = await ask("api/runs");
    if (addRuns(entries) || !shown) {
      shown ??= [...runs.values()].at(-1) ?? null;
      listRuns();
    }
    for (const run of new Set([shown, ...drawn()])) {
      if (run && run.view?.state !== "done") await refresh(run);
    }
    draw();
  } catch (error) {
    byId("state").textContent = `not reachable: ${error.message}`;
  }
  setTimeout(watch, document.hidden ? 5 * PAUSE : PAUSE);
};

byId("kimg").addEventListener("input", (event) => {
  const last = shown.view.grids.length - 1;
  // At the newest grid the page follows the run.
  place = Number(event.target.value) === last ? null : Number(event.target.value);
  drawPictures();
});
byId("part").addEventListener("input", drawPictures);
// A grid fits the screen whatever its shape.
byId("now").addEventListener("load", ({ target }) => {
  byId("wipe").style.maxWidth = `min(64rem, calc(72vh * ${target.naturalWidth / target.naturalHeight}))`;
});

if (report) {
  document.title = "rootgan: report";
  addRuns(report.runs.map(({ id, name }) => ({ id, name })));
  for (const view of report.runs) take(runs.get(view.id), view);
  const all = [...runs.values()];
  all.forEach((run) => { run.ticked = all.length > 1; });
  shown = all.at(-1);
  listRuns();
  draw();
} else {
  watch();
}
