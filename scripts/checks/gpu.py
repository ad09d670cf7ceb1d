#!/usr/bin/env python3
"""Compares a GPU with the CPU: pictures of the default pair seed by seed, and the losses of short runs through all phases
and transforms, in float32 and in 16 bits; then kills and resumes a run on the GPU.

    cargo build --release && .venv/bin/python scripts/checks/gpu.py

Exit code 1 if something does not hold. That a resumed run ends bit-identical is proven for the CPU and only told here:
some of CUDA's kernels add in an order of their own.
"""

import argparse
import json
import math
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
ROOTGAN = ROOT / "target/release/rootgan"
PAIR = ["--generator", ROOT / "weights/generator.pt", "--discriminator", ROOT / "weights/discriminator.pt"]
SEEDS = 16
LEVELS, MEAN_LEVELS = 3, 0.1  # of 255, between pictures
LOSSES = ["Loss/G/loss", "Loss/D/loss", "Loss/r1_penalty", "Loss/pl_penalty"]
RELATIVE = 0.5  # between mean losses: the random numbers of the devices are different ones


def run(*command) -> None:
    done = subprocess.run([str(part) for part in command], cwd=ROOT, stdout=subprocess.DEVNULL)
    if done.returncode != 0:
        sys.exit(f"error: {' '.join(map(str, command))} failed")


def pictures(device: str, folder: Path) -> np.ndarray:
    """[N, H, W, C] of the seeds."""
    run(ROOTGAN, "generate", *PAIR[:2], "--seeds", f"0-{SEEDS - 1}", "--noise-mode", "const", "--device", device, "--outdir",
        folder)
    files = sorted(folder.glob("*.png"))
    assert len(files) == SEEDS, files
    return np.stack([np.asarray(Image.open(file)) for file in files]).astype(np.int64)


def losses(device: str, precision: str, data: Path, folder: Path) -> dict[str, float]:
    """Their means over a run of one tick."""
    run(ROOTGAN, "finetune", *PAIR, "--data", data, "--outdir", folder, "--device", device, "--precision", precision, "--batch",
        "8", "--kimg", "0.512", "--tick-kimg", "0.512", "--aug", "fixed", "--p", "0.5", "--augpipe", "bgcfnc", "--loss",
        "logistic", "--snapshot-ticks", "0", "--image-ticks", "0", "--grid", "2x2")
    lines = (next(folder.iterdir()) / "stats.jsonl").read_text().splitlines()
    found = {name: value for line in lines for name, value in json.loads(line).items()}
    skipped = [name for name in found if name.startswith("Progress/skipped")]
    if skipped:
        print(f"FAILED  {device} {precision}: steps were left out: {', '.join(skipped)}")
    return {name: math.nan if skipped else found[name]["mean"] for name in LOSSES}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--precisions", default="fp32,bf16,fp16")
    args = parser.parse_args()
    run(ROOTGAN, "devices")
    good = []
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        difference = np.abs(pictures(args.device, place / "there") - pictures("cpu", place / "here"))
        good.append(difference.max() <= LEVELS and difference.mean() <= MEAN_LEVELS)
        print(f"{'ok' if good[-1] else 'FAILED'}  {SEEDS} pictures differ by {difference.max()} levels at most, "
              f"{difference.mean():.4f} in the mean", flush=True)

        data = place / "cats"
        run(sys.executable, ROOT / "scripts/pictures.py", "cats", "--count", "200", "--size", "64", "--out", data)
        expected = losses("cpu", "fp32", data, place / "run-cpu")
        for precision in args.precisions.split(","):
            found = losses(args.device, precision, data, place / f"run-{precision}")
            for name, value in found.items():
                good.append(abs(value / expected[name] - 1) <= RELATIVE)
                print(f"{'ok' if good[-1] else 'FAILED'}  {precision} {name}: {value:.4g}, on the CPU {expected[name]:.4g}",
                      flush=True)
    kills = [sys.executable, ROOT / "scripts/checks/kill_resume.py", "--device", args.device, "--kills", "5", "--kimg", "4"]
    subprocess.run([str(part) for part in kills])
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
