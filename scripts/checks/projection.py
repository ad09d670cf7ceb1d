"""Does a projection find its picture? Projects pictures that the default generator made, and people that it never saw.

    cargo build --release
    .venv/bin/python scripts/checks/projection.py

A generated picture (psi 0.7) has to come back at less than a tenth of the distance between two random pictures, for 9 of 10
seeds. The projection of a held-out picture has to be nearer than the best of 1,000 random seeds, for 10 of 10. Distances
are squared distances of AlexNet's features, of pictures as the files have them: `projected.png`, with the noise that was
optimised, and what `generate --ws` makes of the saved ws with the generator's own noise. Exit code 1 if it falls short.
"""

import argparse
import itertools
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
GENERATOR = ROOT / "weights/generator.pt"
#: Seeds whose pictures are projected, and those that they are compared with.
PROJECTED, RANDOM = range(1000, 1010), range(2000, 3000)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rootgan", type=Path, default=ROOT / "target/release/rootgan")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--space", default="w", choices=["w", "w+"])
    parser.add_argument("--keep", type=Path, help="folder to keep the pictures in; what it has whole of the same steps and space is not made again")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        return 0 if check(args, args.keep or Path(scratch)) else 1


def check(args: argparse.Namespace, folder: Path) -> bool:
    folder.mkdir(parents=True, exist_ok=True)
    detector = folder / "alexnet.pt"
    if not detector.exists():
        run(args, "detector", "alexnet", "--out", detector)
    # The program goes on with a folder that it has not finished, and leaves one that it has.
    run(args, "pictures", "people", "--count", "10", "--size", "64", "--seed", "1", "--out", folder / "people")
    generate(args, folder / "generated", PROJECTED, 0.7)
    generate(args, folder / "random", RANDOM, 0.7)
    generate(args, folder / "random-psi1", RANDOM, 1.0)
    measure = torch.jit.load(str(detector))
    truncated, untruncated = rows(measure, folder / "random"), rows(measure, folder / "random-psi1")
    pairs = [square(a, b) for a, b in itertools.combinations(truncated[:100], 2)]
    limit = statistics.fmean(pairs) / 10
    print(f"random pairs (psi 0.7): mean {10 * limit:.4f}, least {min(pairs):.4f}; a tenth of the mean is {limit:.4f}")
    print("| target | projected.png | generate --ws | compared with | seconds |\n|---|---|---|---|---|")
    near = {"generated": 0, "people": 0}
    for kind in near:
        for target in sorted((folder / kind).glob("*.png")):
            place, begun = folder / f"projected-{kind}-{target.stem}-{args.space}-{args.steps}", time.monotonic()
            if not place.exists():
                run_whole(args, place, "project", "--generator", GENERATOR, "--target", target, "--detector", detector, "--steps",
                          args.steps, "--space", args.space, "--out")
            seconds = time.monotonic() - begun
            run(args, "generate", "--generator", GENERATOR, "--ws", place / "projected_w.npz", "--outdir", place / "again")
            wanted = row(measure, target)
            found = [square(row(measure, path), wanted) for path in (place / "projected.png", place / "again/ws0000.png")]
            if kind == "generated":
                bound, words = limit, f"{limit:.4f}"
            else:
                bound = min(square(one, wanted) for one in truncated + untruncated)
                words = f"best of 1,000 seeds: {bound:.4f}"
            near[kind] += max(found) < bound
            print(f"| {target.stem} | {found[0]:.4f} | {found[1]:.4f} | {words} | {seconds:.0f} |", flush=True)
    print(f"near enough: {near['generated']} of 10 generated (9 needed), {near['people']} of 10 held-out pictures (10 needed)")
    return near["generated"] >= 9 and near["people"] == 10


def run(args: argparse.Namespace, *words: object) -> None:
    subprocess.run([args.rootgan, *map(str, words)], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def run_whole(args: argparse.Namespace, folder: Path, *words: object) -> None:
    """Runs a command that makes a folder, its last word, which has its name only when the command has ended well."""
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    run(args, *words, partial)
    partial.rename(folder)


def generate(args: argparse.Namespace, folder: Path, seeds: range, psi: float) -> None:
    if not folder.exists():
        run_whole(args, folder, "generate", "--generator", GENERATOR, "--seeds", f"{seeds[0]}-{seeds[-1]}", "--psi", psi, "--outdir")


def rows(measure: torch.jit.ScriptModule, folder: Path) -> list[torch.Tensor]:
    return [row(measure, path) for path in sorted(folder.glob("*.png"))]


def row(measure: torch.jit.ScriptModule, path: Path) -> torch.Tensor:
    """Returns the features [F] of a picture."""
    pixels = torch.from_numpy(np.asarray(Image.open(path).convert("RGB")).transpose(2, 0, 1)[None].copy())
    with torch.no_grad():
        return measure(pixels, return_features=True)[0]


def square(a: torch.Tensor, b: torch.Tensor) -> float:
    return (a - b).square().sum().item()


if __name__ == "__main__":
    sys.exit(main())
