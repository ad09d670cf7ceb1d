// Where the data come from: the server, asked again and again, or what a report holds in itself.

const embedded = document.getElementById("report");

/** Answers of the server by address, to be used again where it says that nothing has changed. */
const known = new Map();

async function ask(path) {
  const had = known.get(path);
  const headers = had ? { "If-None-Match": had.tag } : {};
  const answer = await fetch(`/api/runs${path}`, { headers, cache: "no-store" });
  if (answer.status === 304) return had.value;
  if (!answer.ok) {
    const words = await answer.json().catch(() => ({}));
    throw new Error(words.error ?? `the server answered ${answer.status}`);
  }
  const value = await answer.json();
  known.set(path, { tag: answer.headers.get("ETag"), value });
  // The oldest answers go; a page looks at few things at a time.
  while (known.size > 64) known.delete(known.keys().next().value);
  return value;
}

const live = {
  isLive: true,
  report: null,
  list: async () => (await ask("")).runs,
  summary: (id) => ask(`/${id}`),
  curves: (id, had) => ask(`/${id}/curves?generation=${had.generation}&rows=${had.rows}`),
  log: (id, from) => ask(`/${id}/log${from === null ? "" : `?from=${from}`}`),
  grid: (id, grid) => `/api/runs/${id}/grids/${grid.name}.png`,
};

function ofReport(report) {
  const run = (id) => report.runs.find((candidate) => candidate.id === id);
  return {
    isLive: false,
    report,
    list: async () => report.runs.map(({ id, summary }) => ({ id, ...summary })),
    summary: async (id) => run(id).summary,
    curves: async (id) => run(id).curves,
    log: async (id, from) => (from === null ? run(id).log : { from, next: from, text: "" }),
    grid: (id, grid) => run(id).pictures[grid.name],
  };
}

export const source = embedded ? ofReport(JSON.parse(embedded.textContent)) : live;
