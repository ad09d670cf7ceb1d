#!/usr/bin/env python3
"""Training beside busy programs: seconds per image quiet, and beside one and more processes that never rest, in turn.

`rootgan` is the program as it comes, `passive` the same with OMP_WAIT_POLICY=PASSIVE (threads never spin), `spinning` with
GOMP_SPINCOUNT=300000, which is what libgomp does by itself. The machine has to be quiet otherwise.

    .venv/bin/python benches/busy.py [--rounds 3] [--configurations default,S,P] [--loads 0,1,2] [--ways rootgan,passive]
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CONFIGURATIONS = {"default": (ROOT / "weights", 8, 5), "S": (ROOT / ".cache/bench/S", 16, 5),
                  "P": (ROOT / ".cache/bench/P", 8, 1)}
SIZES = {"S": "--resolution 32 --channel-base 2048 --channel-max 128 --z-dim 128 --w-dim 128",
         "P": "--resolution 64 --channel-base 16384 --channel-max 512 --z-dim 512 --w-dim 512"}
WAYS = {"rootgan": {}, "passive": {"OMP_WAIT_POLICY": "PASSIVE"}, "spinning": {"GOMP_SPINCOUNT": "300000"}}
LONGEST = 400  # seconds for one measurement; the table only says that it took longer


def build() -> None:
    """Builds the program, so that what is measured is what the sources say. Another target folder, set for all of a user's
    projects, would put it elsewhere."""
    environment = {**os.environ, "CARGO_TARGET_DIR": "target"}
    if subprocess.run(["cargo", "build", "--release"], cwd=ROOT, env=environment).returncode != 0:
        raise SystemExit("error: cannot measure what cannot be built; the lines above say why")


def output_of(command: list, **options) -> str:
    """Runs a command that measures; returns what it prints, and ends with its own words where it fails."""
    words = [str(word) for word in command]
    done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)
    if done.returncode != 0:
        raise SystemExit(f"error: {' '.join(words)} ended with {done.returncode}:\n{done.stderr[-3000:]}")
    return done.stdout


def make_pair(name: str) -> None:
    """Makes the random pair of a configuration where it needs one."""
    if name in SIZES:
        make_random_pair(CONFIGURATIONS[name][0], SIZES[name])


def make_random_pair(folder: Path, sizes: str) -> None:
    """Makes a random pair, unless there is one that is newer than the networks' code, which is a part of its files."""
    made, code = folder / "discriminator.pt", max(path.stat().st_mtime for path in (ROOT / "python/rootgan/networks").glob("*.py"))
    if not made.exists() or made.stat().st_mtime < code:
        subprocess.run([sys.executable, ROOT / "python/rootgan", "new", "--force", "--outdir", folder, "--mapping-layers", "2",
                        *sizes.split()], check=True, stdout=subprocess.DEVNULL)


def without_openmp(**more: str) -> dict[str, str]:
    """This environment without OpenMP's settings, and with these."""
    return {**{key: value for key, value in os.environ.items() if not key.startswith(("OMP_", "GOMP_"))}, **more}


def bench(name: str, *options: str, environment: dict[str, str] | None = None, timeout: float | None = None) -> dict:
    """Measures one configuration with `rootgan bench`: its JSON."""
    folder, batch, iterations = CONFIGURATIONS[name]
    command = [ROOT / "target/release/rootgan", "bench", "--generator", folder / "generator.pt", "--discriminator",
               folder / "discriminator.pt", "--batch", str(batch), "--iterations", str(iterations), "--json", *options]
    return json.loads(output_of(command, env=environment, timeout=timeout))


def seconds_per_image(name: str, way: str) -> float:
    """Measures one configuration; infinity where it takes longer than LONGEST."""
    try:
        return bench(name, environment=without_openmp(**WAYS[way]), timeout=LONGEST)["seconds_per_image"]
    except subprocess.TimeoutExpired:
        return float("inf")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--configurations", default="default,S,P")
    parser.add_argument("--loads", default="0,1,2", help="numbers of busy processes")
    parser.add_argument("--ways", default="rootgan,passive,spinning")
    args = parser.parse_args()
    ways = args.ways.split(",")
    build()
    print("| configuration | busy processes | " + " | ".join(ways) + " | rootgan / passive |")
    print("|---" * (len(ways) + 3) + "|")
    for name in args.configurations.split(","):
        make_pair(name)
        for load in map(int, args.loads.split(",")):
            busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(load)]
            try:
                rounds = [{way: seconds_per_image(name, way) for way in ways} for _ in range(args.rounds)]
            finally:
                for process in busy:
                    process.kill()
            medians = [statistics.median(found[way] for found in rounds) for way in ways]
            said = [f"over {LONGEST} s in all" if median == float("inf") else f"{median:.4g}" for median in medians]
            ratio = ""
            if {"rootgan", "passive"} <= set(ways):
                ratio = f"{statistics.median(found['rootgan'] / found['passive'] for found in rounds):.2f}"
            print(f"| {name} | {load} | " + " | ".join(said) + f" | {ratio} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
