#!/usr/bin/env python3
"""Cost of the paired form of the loss (`--pairing relativistic`, with R2) against the unpaired one (with R1 alone), in turn.

    .venv/bin/python benches/pairing.py [--rounds 5] [--configurations S,P]

Prints the time of an iteration and the peak memory of the process, medians, and the ratios round by round. Exit code 1 if S is
slower by more than 1.35 or takes more than 1.6 times the memory.
"""

import argparse
import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from busy import bench, build, make_pair  # noqa: E402

MOST = {"seconds_per_image": 1.35, "peak_host_memory_mib": 1.6}
FORMS = ["none", "relativistic"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--configurations", default="S,P")
    args = parser.parse_args()
    build()
    print("| configuration | s per kimg: unpaired, paired | ratio | MiB: unpaired, paired | ratio |")
    print("|---|---|---|---|---|")
    too_much = False
    for name in args.configurations.split(","):
        make_pair(name)
        rounds = [{form: bench(name, "--pairing", form) for form in FORMS} for _ in range(args.rounds)]
        cells = []
        for key, most in MOST.items():
            scale = 1000.0 if key == "seconds_per_image" else 1.0
            median = {form: scale * statistics.median(one[form][key] for one in rounds) for form in FORMS}
            ratios = [one["relativistic"][key] / one["none"][key] for one in rounds]
            ratio = statistics.median(ratios)
            too_much |= name == "S" and ratio > most
            cells += [f"{median['none']:.1f}, {median['relativistic']:.1f}",
                      f"{ratio:.2f} ({min(ratios):.2f} to {max(ratios):.2f})"]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)
    return int(too_much)


if __name__ == "__main__":
    sys.exit(main())
