"""What does an open page of `rootgan serve` cost the training that it shows? Trains the default pair on all cores, and compares
stretches of time with an open page with those without, in turn.

    cargo build --release
    .venv/bin/python scripts/checks/page_cost.py

The page is played by a client that asks as the page does; a browser on the same machine would need cores of its own. Wants a
quiet machine. Exit code 1 if training is slower by 3 % or more (median over the rounds).
"""

import argparse
import json
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from serve_load import ROOT, open_page, serving  # noqa: E402

MOST_SLOWER = 0.03


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rootgan", type=Path, default=ROOT / "target/release/rootgan")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=20, help="length of a stretch")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        return measure(args, Path(scratch))


def measure(args: argparse.Namespace, scratch: Path) -> int:
    pictures, runs = scratch / "pictures", scratch / "runs"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.run([args.rootgan, "pictures", "cats", "--count", "200", "--size", "64", "--out", pictures], check=True, **quiet)
    options = "--batch 4 --kimg 1000 --tick-kimg 0.004 --image-ticks 500 --snapshot-ticks 0 --grid 8x4 --aug noaug".split()
    with open(scratch / "training.txt", "w") as said:
        training = subprocess.Popen([args.rootgan, "finetune", "--generator", ROOT / "weights/generator.pt", "--discriminator",
                                     ROOT / "weights/discriminator.pt", "--data", pictures, "--outdir", runs, *options],
                                    stdout=said, stderr=said)
    try:
        while not list(runs.glob("*/stats.jsonl")):
            if training.poll() is not None:
                raise SystemExit(f"the training ended before its first statistics, with exit code {training.returncode}: "
                                 f"{(scratch / 'training.txt').read_text()[-2000:]}")
            time.sleep(1)
        with serving(args.rootgan, runs) as server:
            return compare(args, next(runs.glob("*/stats.jsonl")), *server)
    finally:
        training.send_signal(signal.SIGINT)
        training.wait(120)


def compare(args: argparse.Namespace, stats: Path, server: int, address: str, token: str) -> int:
    ways = {"without a page": lambda: time.sleep(args.seconds), "with a page": lambda: open_page(args, server, address, token)}
    time.sleep(args.seconds)  # until the first steps and caches are over
    slower = []
    for number in range(args.rounds):
        speeds = {}
        # Each way comes first as often as the other.
        for name in sorted(ways, reverse=number % 2 == 1):
            begun = time.time()
            ways[name]()
            speeds[name] = speed_since(stats, begun)
        slower.append(1 - speeds["with a page"] / speeds["without a page"])
        print(f"{speeds['without a page']:.2f} images/s without a page, {speeds['with a page']:.2f} with one: "
              f"{100 * slower[-1]:+.1f} % slower", flush=True)
    median = statistics.median(slower)
    print("ok  " if median < MOST_SLOWER else "FAIL", f"median over {args.rounds} rounds: {100 * median:+.2f} % slower")
    return int(median >= MOST_SLOWER)


def speed_since(stats: Path, begun: float) -> float:
    """Images per second of the ticks that ended since then."""
    lines = [json.loads(line) for line in stats.read_text().splitlines()[1:-1]]
    ticks = [(line["timestamp"], line["Progress/kimg"]["mean"]) for line in lines if line["timestamp"] >= begun]
    return 1000 * (ticks[-1][1] - ticks[0][1]) / (ticks[-1][0] - ticks[0][0])


if __name__ == "__main__":
    sys.exit(main())
