#!/usr/bin/env python3
"""Pictures for samples/: truncation (each row a seed, psi from 0 to 1), interpolation in w between seeds, and the same seeds of a
generator above and of its finetuning below.

    .venv/bin/python scripts/strips.py --generator weights/generator.pt --truncation t.png --interpolation i.png
    .venv/bin/python scripts/strips.py --generator weights/generator.pt --finetuned G_ema.pt --before-after b.png
"""

import argparse
import sys
from pathlib import Path

import numpy
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "python"))
from rootgan.checkpoints.torchscript import Network  # noqa: E402
from rootgan.command_line import Failure, Parser, told_in_one_line  # noqa: E402
from rootgan.networks.generator import Generator  # noqa: E402
from rootgan.networks.pair import Architecture  # noqa: E402


def latents(seeds: range, z_dim: int) -> torch.Tensor:
    """The z of seeds as `rootgan generate` draws it, [N, z_dim]."""
    drawn = [numpy.random.RandomState(seed).randn(z_dim) for seed in seeds]
    return torch.from_numpy(numpy.stack(drawn)).float()


def picture(rows: list[torch.Tensor]) -> Image.Image:
    """Rows of images [N, 1 or 3, R, R] in [-1, 1] as one picture in colour."""
    pixels = torch.cat([torch.cat(list(row), 2) for row in rows], 1)
    pixels = ((pixels.clamp(-1, 1) + 1) * 127.5).round().byte().expand(3, -1, -1)
    return Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())


def main() -> None:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--generator", type=Path, required=True, help="TorchScript of the contract (weights/README.md)")
    parser.add_argument("--finetuned", type=Path, help="the generator after finetuning, for --before-after")
    parser.add_argument("--truncation", type=Path, help="PNG to write")
    parser.add_argument("--interpolation", type=Path, help="PNG to write")
    parser.add_argument("--before-after", type=Path, help="PNG to write: 4 rows of 12 seeds each, psi 0.7")
    parser.add_argument("--seeds", type=int, default=4, help="rows of each strip [default: 4]")
    parser.add_argument("--steps", type=int, default=12, help="pictures in a row [default: 12]")
    args = parser.parse_args()
    if bool(args.finetuned) != bool(args.before_after):
        parser.error("--finetuned and --before-after belong together")
    if not (args.truncation or args.interpolation or args.before_after):
        parser.error("nothing to write: pass --truncation, --interpolation or --before-after")
    with told_in_one_line(f"cannot draw '{args.generator}'", "check the rights and the free space there, or pass another file"):
        draw(args)


def draw(args: argparse.Namespace) -> None:
    g = load(args.generator)
    with torch.no_grad():
        if args.truncation:
            picture(truncation(g, args)).save(args.truncation)
        if args.interpolation:
            picture(interpolation(g, args)).save(args.interpolation)
        if args.before_after:
            before_after(g, load(args.finetuned)).save(args.before_after)


def load(path: Path) -> Generator:
    """Reads a generator as data: none of the code in the file runs."""
    network = Network(path, "generator", "draw")
    try:
        pair = Architecture.described(network.said)
    except (ValueError, TypeError, OverflowError) as error:
        raise Failure(f"cannot draw '{path}': {error}; only a StyleGAN2 of the contract in weights/README.md can be drawn") from None
    if pair.c_dim > 0:
        raise Failure(f"cannot draw '{path}': it has {pair.c_dim} classes, and strips have none; take a generator without labels")
    return network.module(pair)


def truncation(g: Generator, args: argparse.Namespace) -> list[torch.Tensor]:
    rows = []
    for seed in range(args.seeds):
        z = latents(range(seed, seed + 1), g.z_dim)
        psis = torch.linspace(0, 1, args.steps)
        ws = torch.cat([g.run_mapping(z, None, float(psi), None, False) for psi in psis])
        rows.append(g.run_synthesis(ws, "const", None))
    return rows


def interpolation(g: Generator, args: argparse.Namespace) -> list[torch.Tensor]:
    rows = []
    for seed in range(args.seeds):
        first, last = g.run_mapping(latents(range(2 * seed, 2 * seed + 2), g.z_dim), None, 1.0, None, False)
        steps = torch.linspace(0, 1, args.steps).view(-1, 1, 1)
        rows.append(g.run_synthesis(torch.lerp(first, last, steps), "const", None))
    return rows


def before_after(before: Generator, after: Generator) -> Image.Image:
    rows, columns, gap, psi = 4, 12, 8, 0.7
    halves = []
    for g in (before, after):
        z = latents(range(rows * columns), g.z_dim)
        halves.append(picture(list(g(z, None, psi, None, "const").split(columns))))
    both = Image.new("RGB", (halves[0].width, 2 * halves[0].height + gap), "white")
    both.paste(halves[0], (0, 0))
    both.paste(halves[1], (0, halves[0].height + gap))
    return both


if __name__ == "__main__":
    main()
