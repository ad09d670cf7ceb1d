#!/usr/bin/env python3
"""Imports a full-size network, made here with random weights under NVIDIA's layout: prints seconds and peak memory of
the import, compares the weights bit for bit, and fails beyond 60 s or 4 GiB.

    .venv/bin/python scripts/checks/import_large.py
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "python"), str(ROOT / "scripts")]
from checks.nvidia_files import network, write  # noqa: E402
from rootgan.networks.pair import Architecture, random_pair  # noqa: E402

MAX_SECONDS, MAX_BYTES = 60, 4 << 30


def make_file(pair: Architecture, path: Path) -> tuple[dict[str, torch.Tensor], ...]:
    """Writes G, G_ema and D, three different networks; returns their weights in that order."""
    (g, d), (g_ema, _) = random_pair(pair, 0), random_pair(pair, 1)
    weights = tuple(module.state_dict() for module in (g, g_ema, d))
    g_kwargs = {"mapping_kwargs": {"num_layers": 8}, "synthesis_kwargs": {"num_fp16_res": 4, "conv_clamp": 256}}
    networks = [network(tensors, name, kwargs) for tensors, name, kwargs in
                zip(weights, ("Generator", "Generator", "Discriminator"), (g_kwargs, g_kwargs, {"conv_clamp": 256}))]
    write(
        {"training_set_kwargs": None, "G": networks[0], "D": networks[2], "G_ema": networks[1], "augment_pipe": None},
        path,
    )
    return weights


def check(pair: Architecture, folder: Path) -> bool:
    """Makes, imports and compares a file; returns whether time, memory and weights are as they should be."""
    source, out = folder / "large.pkl", folder / "large"
    weights = make_file(pair, source)
    print(f"file: {source.stat().st_size / 1e6:.0f} MB; G {sum(w.numel() for w in weights[0].values()):,} numbers, "
          f"D {sum(w.numel() for w in weights[2].values()):,}")
    started = time.monotonic()
    subprocess.run([sys.executable, ROOT / "python/rootgan", "import", source, "--outdir", out], check=True)
    seconds = time.monotonic() - started
    peak_bytes = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    print(
        f"import: {seconds:.1f} s, at most {MAX_SECONDS}; "
        f"peak {peak_bytes / (1 << 30):.2f} GiB, at most {MAX_BYTES >> 30}"
    )
    for name, expected in zip(("generator_raw.pt", "generator.pt", "discriminator.pt"), weights):
        found = torch.jit.load(out / name).state_dict()
        if found.keys() != expected.keys() or not all(torch.equal(found[key], expected[key]) for key in found):
            print(f"{name}: other weights than in the file")
            return False
    print("the same weights, bit for bit")
    return seconds <= MAX_SECONDS and peak_bytes <= MAX_BYTES


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--resolution", type=int, default=1024)
    parser.add_argument("--channel-base", type=int, default=32768)
    parser.add_argument("--channel-max", type=int, default=512)
    parser.add_argument(
        "--folder", type=Path, help="where the files go, about 1 GB; a temporary one that is removed by default"
    )
    args = parser.parse_args()
    pair = Architecture(args.resolution, channel_base=args.channel_base, channel_max=args.channel_max, conv_clamp=256.0)
    with tempfile.TemporaryDirectory() as temporary:
        if not check(pair, args.folder or Path(temporary)):
            sys.exit("the check failed")


if __name__ == "__main__":
    main()
