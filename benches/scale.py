#!/usr/bin/env python3
"""Training speed of several processes against one, on the same cores: one process with one thread and with two, and two
processes with one thread each, in turn.

    .venv/bin/python benches/scale.py [--rounds 5] [--configurations S,P]

Prints the median images per second of each way and its ratio to one process with two threads, round by round.
"""

import argparse
import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from busy import bench, build, make_pair, without_openmp  # noqa: E402

WAYS = {"1 process x 1 thread": (1, 1), "1 process x 2 threads": (1, 2), "2 processes x 1 thread": (2, 1)}
BASE = "1 process x 2 threads"


def measure(name: str, processes: int, threads: int) -> dict:
    options = ["--processes", str(processes)] if processes > 1 else []
    return bench(name, *options, environment=without_openmp(OMP_NUM_THREADS=str(threads)))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--configurations", default="S,P")
    args = parser.parse_args()
    build()
    print("| configuration | way | images/s | of one process x 2 threads | MB summed an iteration | time in sums |")
    print("|---|---|---|---|---|---|")
    for name in args.configurations.split(","):
        make_pair(name)
        rounds = [{way: measure(name, *numbers) for way, numbers in WAYS.items()} for _ in range(args.rounds)]
        for way in WAYS:
            of_way = [one[way] for one in rounds]
            speed = statistics.median(one["images_per_second"] for one in of_way)
            ratio = statistics.median(one[way]["images_per_second"] / one[BASE]["images_per_second"] for one in rounds)
            summed, share = of_way[0]["summed_bytes_per_iteration"], of_way[0]["share_of_time_in_sums"]
            share = statistics.median(one["share_of_time_in_sums"] for one in of_way) if share is not None else None
            print(f"| {name} | {way} | {speed:.2f} | {ratio:.2f} | {'-' if summed is None else f'{summed / 1e6:.1f}'} "
                  f"| {'-' if share is None else f'{100 * share:.0f} %'} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
