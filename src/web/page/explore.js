// The page explore: each change asks for a picture, and gives up the one that was asked for before.

const byId = (id) => document.getElementById(id);
const DIRECTIONS = 8, THUMBS = 16;
const LIST = "rootgan-kept";
let generators = [], page = 0, pending = null, plane = { x: 0, y: 0 };

const directions = Array.from({ length: DIRECTIONS }, (_, index) => {
  const label = document.createElement("label"), name = document.createElement("span");
  const input = document.createElement("input"), output = document.createElement("output");
  label.className = "slider";
  name.textContent = `Direction ${index}`;
  Object.assign(input, { type: "range", min: -5, max: 5, step: 0.1, value: 0, id: `direction${index}` });
  output.textContent = "0";
  input.addEventListener("input", () => {
    output.textContent = input.value;
    if (index === 0) { plane.y = Number(input.value) / 5; drawDot(); }
    show();
  });
  label.append(name, input, output);
  byId("directions").append(label);
  return { input, output };
});

const query = (view) => new URLSearchParams(Object.entries(view).filter(([, value]) => value !== null && value !== "")).toString();

const view = () => {
  const moves = directions.map(({ input }, index) => [index, Number(input.value)]).filter(([, strength]) => strength !== 0);
  return {
    generator: byId("generator").value,
    seed: byId("seed").value || "0",
    psi: byId("psi").value,
    noise: byId("noise").value,
    class: byId("class").value,
    to: plane.x > 0 ? byId("to").value || "0" : null,
    at: plane.x > 0 ? plane.x.toFixed(3) : null,
    mix: byId("mixing").checked ? byId("mix").value || "0" : null,
    layers: byId("mixing").checked ? byId("layers").value : null,
    moves: moves.map(([index, strength]) => `${index}:${strength}`).join(","),
  };
};

const drawDot = () => {
  byId("dot").style.left = `${plane.x * 100}%`;
  byId("dot").style.top = `${50 - plane.y * 50}%`;
};

const words = ({ seed, psi, mix, layers, to, at, moves }) =>
  `Seed ${seed}${to === null ? "" : `, ${at} of the way to seed ${to}`}, psi ${psi}`
  + (mix === null ? "" : `, ${layers} layers of seed ${mix}`) + (moves ? `, directions ${moves}` : "");

const show = async () => {
  byId("psi-text").textContent = byId("psi").value;
  const now = view(), asked = query(now);
  if (!now.generator) return;
  pending?.abort();
  pending = new AbortController();
  const { signal } = pending;
  try {
    const answer = await fetch(`/api/explore/picture?${asked}`, { signal });
    if (!answer.ok) throw new Error((await answer.json()).error);
    const address = URL.createObjectURL(await answer.blob());
    const picture = byId("picture"), old = picture.src;
    picture.src = address;
    picture.alt = words(now);
    picture.dataset.query = asked;
    if (old.startsWith("blob:")) URL.revokeObjectURL(old);
    byId("message").textContent = words(now);
    byId("save").href = `/api/explore/picture?${asked}`;
    byId("save-ws").href = `/api/explore/ws?${asked}`;
    const command = await fetch(`/api/explore/command?${asked}`, { signal });
    byId("command").textContent = await command.text();
  } catch (error) {
    if (error.name !== "AbortError") byId("message").textContent = error.message;
  }
};

const thumb = (now, label, press) => {
  const button = document.createElement("button"), image = document.createElement("img");
  button.type = "button";
  image.loading = "lazy";
  image.alt = label;
  image.src = `/api/explore/picture?${query(now)}`;
  button.title = label;
  button.addEventListener("click", press);
  button.append(image);
  return button;
};

const drawSeeds = () => {
  const plain = { ...view(), to: null, at: null, mix: null, layers: null, moves: "" };
  byId("seeds").replaceChildren(...Array.from({ length: THUMBS }, (_, index) => {
    const seed = String(page * THUMBS + index);
    const button = thumb({ ...plain, seed }, `seed ${seed}`, () => {
      byId("seed").value = seed;
      markSeed();
      show();
    });
    button.dataset.seed = seed;
    return button;
  }));
  markSeed();
};

const markSeed = () => {
  for (const button of byId("seeds").children) button.setAttribute("aria-pressed", button.dataset.seed === byId("seed").value);
};

const kept = () => {
  try { return JSON.parse(localStorage.getItem(LIST)) ?? []; } catch { return []; }
};

const restore = (now) => {
  byId("generator").value = now.generator;
  for (const name of ["seed", "psi", "noise"]) byId(name).value = now[name];
  byId("class").value = now.class ?? "";
  byId("mixing").checked = now.mix !== null;
  if (now.mix !== null) { byId("mix").value = now.mix; byId("layers").value = now.layers; }
  if (now.to !== null) byId("to").value = now.to;
  const moves = new Map(now.moves.split(",").filter(Boolean).map((part) => part.split(":")));
  directions.forEach(({ input, output }, index) => { input.value = moves.get(String(index)) ?? 0; output.textContent = input.value; });
  plane = { x: Number(now.at ?? 0), y: Number(directions[0].input.value) / 5 };
  drawDot();
  drawSnapshots();
  markSeed();
  show();
};

const drawKept = () => {
  const known = new Set(generators.map(({ id }) => id));
  byId("kept").replaceChildren(...kept().filter((now) => known.has(now.generator)).map((now) => {
    const button = thumb(now, words(now), () => restore(now));
    button.addEventListener("keydown", (event) => {
      if (event.key !== "Delete") return;
      localStorage.setItem(LIST, JSON.stringify(kept().filter((other) => query(other) !== query(now))));
      drawKept();
    });
    button.title += " (Delete forgets it)";
    return button;
  }));
};

// The snapshots of the run that the chosen generator belongs to.
const snapshots = () => {
  const run = generators.find(({ id }) => id === byId("generator").value)?.run;
  return run ? generators.filter((one) => one.run === run) : [];
};

const drawSnapshots = () => {
  const all = snapshots(), at = all.findIndex(({ id }) => id === byId("generator").value);
  byId("snapshots").hidden = all.length < 2;
  byId("snapshot").max = Math.max(all.length - 1, 0);
  byId("snapshot").value = at;
  byId("snapshot-text").textContent = all[at] ? `${all[at].kimg} kimg` : "";
};

const move = (x, y) => {
  plane = { x: Math.min(Math.max(x, 0), 1), y: Math.min(Math.max(y, -1), 1) };
  directions[0].input.value = (plane.y * 5).toFixed(1);
  directions[0].output.textContent = directions[0].input.value;
  drawDot();
  show();
};

const drag = (event) => {
  const box = byId("plane").getBoundingClientRect();
  move((event.clientX - box.left) / box.width, 1 - 2 * (event.clientY - box.top) / box.height);
};
byId("plane").addEventListener("pointerdown", (event) => { byId("plane").setPointerCapture(event.pointerId); drag(event); });
byId("plane").addEventListener("pointermove", (event) => { if (event.buttons) drag(event); });
byId("plane").addEventListener("keydown", (event) => {
  const step = { ArrowLeft: [-0.05, 0], ArrowRight: [0.05, 0], ArrowUp: [0, 0.1], ArrowDown: [0, -0.1] }[event.key];
  if (!step) return;
  event.preventDefault();
  move(plane.x + step[0], plane.y + step[1]);
});

for (const id of ["seed", "class", "noise", "psi", "to", "mixing", "mix", "layers"]) {
  byId(id).addEventListener("input", () => { if (id === "seed") markSeed(); show(); });
}
for (const id of ["class", "noise", "psi"]) byId(id).addEventListener("change", drawSeeds);
byId("generator").addEventListener("change", () => { drawSnapshots(); drawSeeds(); show(); });
byId("snapshot").addEventListener("input", () => {
  byId("generator").value = snapshots()[byId("snapshot").value].id;
  drawSnapshots();
  show();
});
byId("snapshot").addEventListener("change", drawSeeds);
byId("earlier").addEventListener("click", () => { page = Math.max(page - 1, 0); drawSeeds(); });
byId("later").addEventListener("click", () => { page += 1; drawSeeds(); });
byId("reset").addEventListener("click", () => {
  byId("mixing").checked = false;
  directions.forEach(({ input, output }) => { input.value = 0; output.textContent = "0"; });
  move(0, 0);
});
byId("keep").addEventListener("click", () => {
  const now = view(), others = kept().filter((other) => query(other) !== query(now));
  localStorage.setItem(LIST, JSON.stringify([...others, now].slice(-60)));
  drawKept();
});

const start = async () => {
  const answer = await fetch("/api/explore");
  generators = (await answer.json()).generators;
  byId("generator").replaceChildren(...generators.map(({ id, name }) => new Option(name, id)));
  if (!generators.length) {
    byId("message").textContent = "There is nothing to explore: start rootgan serve with --from, or with runs that have snapshots.";
    return;
  }
  drawDot();
  drawSnapshots();
  drawSeeds();
  drawKept();
  show();
};
start();
