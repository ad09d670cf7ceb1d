"""Training on a GPU at 64, 256 and 1024 pixels: seconds per kimg, the share of the time in which kernels run, and memory, as
a table in Markdown under the GPU's name.

    cargo build --release && .venv/bin/python benches/gpu.py [--sizes 64:32,256:16,1024:4] [arguments of rootgan bench]

Random pairs with channel_base 16384 (32768 above 256), channel_max 512, z and w of 512 and 2 mapping layers, `--precision`
as bench chooses it. Seconds are of training as a run does it without augmentation (`rootgan bench --free-seconds`); the share
is the driver's, of the whole GPU, so nothing else may use it; the memory is what the driver counts for the process afterwards.
"""

import argparse
import json
import subprocess
from pathlib import Path

from growth import ROOT, ROOTGAN, pair, say


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="64:32,256:16,1024:4", help="images to measure, each with its batch")
    parser.add_argument("--folder", type=Path, default=ROOT / ".cache/bench/growth")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--free-seconds", type=float, default=10.0)
    args, others = parser.parse_known_args()
    if args.free_seconds <= 0:
        parser.error("--free-seconds must be above 0")
    for number, size in enumerate(args.sizes.split(",")):
        resolution, batch = (int(word) for word in size.split(":"))
        bench = [ROOTGAN, "bench", *pair(args.folder, resolution), "--batch", str(batch), "--device", args.device, "--json",
                 "--free-seconds", str(args.free_seconds), *others]
        done = subprocess.run(bench, stdout=subprocess.PIPE, text=True)
        if done.returncode != 0:
            raise SystemExit(f"error: no result at {resolution}x{resolution}, batch {batch}")
        report = json.loads(done.stdout)
        if number == 0:
            print(f"{report['device']}:\n")
            say("images", "batch", "s per kimg", "in kernels", "MiB on the GPU", "of the convolution peak")
            say(*["---"] * 6)
        seconds, share = report["free"]["seconds_per_image"], report["free"]["share_of_time_in_kernels"]
        memory = report["gpu_memory_mib"]
        peak = report["convolution_gflop_per_image"] / seconds / report["convolution_peak_gflop_per_second"]
        say(f"{resolution}x{resolution}", batch, f"{seconds * 1000:.3g}", "unknown" if share is None else f"{share * 100:.0f} %",
            "unknown" if memory is None else f"{memory:.0f}", f"{peak * 100:.0f} %")


if __name__ == "__main__":
    main()
