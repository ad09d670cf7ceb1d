"""How time and memory grow with resolution, batch and the number of pictures: three tables in Markdown.

    .venv/bin/python benches/growth.py [--max-pictures 1000000] [--folder .cache/bench/growth]

Training: `rootgan bench` on random pairs with channel_base 16384, channel_max 512, z and w of 512 and 2 mapping layers.
Pictures: `rootgan finetune --dry-run`, which lists and decodes every picture once, on folders of PNG files of 64x64 (all
names different, 1,000 different contents, hard links), and a run of 1 kimg from each.

Takes half an hour.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent))
from busy import build, make_random_pair, output_of  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
ROOTGAN = ROOT / "target/release/rootgan"
CONTENTS = 1000


def say(*cells) -> None:
    print("| " + " | ".join(str(cell) for cell in cells) + " |", flush=True)


def pair(folder: Path, resolution: int) -> list[str]:
    """The arguments for a random pair."""
    place = folder / f"pair{resolution}"
    make_random_pair(place, f"--resolution {resolution} --channel-base 16384 --channel-max 512 --z-dim 512 --w-dim 512")
    return ["--generator", place / "generator.pt", "--discriminator", place / "discriminator.pt"]


def training(folder: Path) -> None:
    """Prints the tables of training by resolution and by batch."""
    def row(resolution: int, batch: int) -> None:
        bench = [ROOTGAN, "bench", *pair(folder, resolution), "--batch", str(batch), "--iterations", "2", "--json"]
        report = json.loads(output_of(bench))
        say(f"{resolution}x{resolution}", batch, f"{report['seconds_per_image']:.3g}",
            f"{report['share_of_convolution_peak'] * 100:.0f} %", f"{report['peak_host_memory_mib']:.0f}")

    say("images", "batch", "s per image", "of the convolution peak", "MiB at peak")
    say(*["---"] * 5)
    for resolution, batch in [(16, 8), (32, 8), (64, 8), (128, 4), (256, 2)]:
        row(resolution, batch)
    for batch in (1, 2, 4, 16):
        row(64, batch)


def pictures(folder: Path, count: int) -> Path:
    """Makes `count` PNG files in folders of 1,000, each folder with hard links to the same 1,000 contents."""
    place = folder / f"pictures{count}"
    originals = folder / "contents"
    originals.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for i in range(CONTENTS):
        path = originals / f"{i:04}.png"
        if not path.exists():
            coarse = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(coarse).resize((64, 64), Image.Resampling.BICUBIC).save(path)
    for first in range(0, count, CONTENTS):
        sub = place / f"{first // CONTENTS:04}"
        sub.mkdir(parents=True, exist_ok=True)
        there = {entry.name for entry in os.scandir(sub)}
        for name in (f"{i:04}.png" for i in range(CONTENTS)):
            if name not in there:
                os.link(originals / name, sub / name)
    return place


def timed(command: list) -> tuple[float, float, str]:
    """Runs a command; returns its seconds, its peak memory in MiB, and its output."""
    with tempfile.TemporaryFile("w+") as said:
        begun = time.perf_counter()
        child = subprocess.Popen([str(word) for word in command], stdout=said, stderr=said)
        _, status, usage = os.wait4(child.pid, 0)
        seconds = time.perf_counter() - begun
        said.seek(0)
        text = said.read()
    if os.waitstatus_to_exitcode(status) != 0:
        raise SystemExit(text)
    return seconds, usage.ru_maxrss / 1024, text


def data(folder: Path, most: int) -> None:
    """Prints the table of sets of up to `most` pictures."""
    say("pictures of 64x64", "listed and decoded once", "pictures/s", "MiB at peak", "of that decoded pictures",
        "s per kimg of training from them")
    say(*["---"] * 6)
    networks = ["--generator", ROOT / "weights/generator.pt", "--discriminator", ROOT / "weights/discriminator.pt"]
    for count in (1000, 10_000, 100_000, 1_000_000):
        if count > most:
            break
        place = pictures(folder, count)
        options = [ROOTGAN, "finetune", *networks, "--data", place, "--outdir", folder / "runs", "--aug", "noaug"]
        seconds, memory, said = timed([*options, "--dry-run"])
        kept = re.search(r"all kept in memory \((\d+ \w+)\)", said)
        _, _, log = timed([*options, "--kimg", "1", "--tick-kimg", "0.5", "--pl-weight", "0", "--snapshot-ticks", "0",
                           "--image-ticks", "0", "--grid", "2x2"])
        speed = re.findall(r"sec/kimg (\S+)", log)[-1]
        say(f"{count:,}", f"{seconds:.1f} s", f"{count / seconds:,.0f}", f"{memory:,.0f}", kept.group(1) if kept else "in part",
            speed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=ROOT / ".cache/bench/growth")
    parser.add_argument("--max-pictures", type=int, default=1_000_000)
    parser.add_argument("--only", choices=["training", "pictures"])
    args = parser.parse_args()
    build()
    if args.only != "pictures":
        training(args.folder)
        print()
    if args.only != "training":
        data(args.folder, args.max_pictures)


if __name__ == "__main__":
    main()
