#!/usr/bin/env python3
"""Two strips of a generator's pictures: truncation (each row a seed, psi from 0 to 1) and interpolation in w between seeds.

    .venv/bin/python scripts/strips.py --generator weights/generator.pt --truncation t.png --interpolation i.png
"""

import argparse
import sys
from pathlib import Path

import numpy
import torch
from PIL import Image


def latents(seeds: range, z_dim: int) -> torch.Tensor:
    """The z of seeds as `rootgan generate` draws it, [N, z_dim]."""
    drawn = [numpy.random.RandomState(seed).randn(z_dim) for seed in seeds]
    return torch.from_numpy(numpy.stack(drawn)).float()


def picture(rows: list[torch.Tensor]) -> Image.Image:
    """Rows of images [N, C, R, R] in [-1, 1] as one picture."""
    pixels = torch.cat([torch.cat(list(row), 2) for row in rows], 1)
    return Image.fromarray(((pixels.clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 0).numpy())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--generator", type=Path, required=True, help="TorchScript of the contract (weights/README.md)")
    parser.add_argument("--truncation", type=Path, required=True, help="PNG to write")
    parser.add_argument("--interpolation", type=Path, required=True, help="PNG to write")
    parser.add_argument("--seeds", type=int, default=4, help="rows of each strip [default: 4]")
    parser.add_argument("--steps", type=int, default=12, help="pictures in a row [default: 12]")
    parser.add_argument("--z-dim", type=int, default=128, help="width of z [default: 128, that of the default pair]")
    args = parser.parse_args()
    g = torch.jit.load(str(args.generator), map_location="cpu").eval()
    with torch.no_grad():
        rows = []
        for seed in range(args.seeds):
            z = latents(range(seed, seed + 1), args.z_dim)
            psis = torch.linspace(0, 1, args.steps)
            ws = torch.cat([g.run_mapping(z, None, float(psi), None, False) for psi in psis])
            rows.append(g.run_synthesis(ws, "const", None))
        picture(rows).save(args.truncation)
        rows = []
        for seed in range(args.seeds):
            first, last = g.run_mapping(latents(range(2 * seed, 2 * seed + 2), args.z_dim), None, 1.0, None, False)
            steps = torch.linspace(0, 1, args.steps).view(-1, 1, 1)
            rows.append(g.run_synthesis(torch.lerp(first, last, steps), "const", None))
        picture(rows).save(args.interpolation)
    return 0


if __name__ == "__main__":
    sys.exit(main())
