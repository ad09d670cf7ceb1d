#!/usr/bin/env python3
"""Packs the program and the pictures of .gpu for the way to a machine without a network, and unpacks them there. Of pictures the
parts go along, of which the same pictures are composed there, pixel for pixel those of `rootgan pictures SET --size 64 --seed 0`.

    scripts/gpu/packed.py pack .gpu
    scripts/gpu/packed.py unpack .gpu             # rootgan, cats, cats-200 and labelled, where they are missing
    scripts/gpu/packed.py people .gpu COUNT FOLDER
"""

import gzip
import json
import shutil
import sys
import zipfile
from contextlib import contextmanager
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "python"))
from rootgan.pictures import PACKAGES, SETS, as_part, compose, draw_parts, fetch, ground_of, layers_by_style, load_pixels  # noqa: E402
from rootgan.whole_files import replace_atomically  # noqa: E402

SIZE, SEED = 64, 0
PACKED = ("people", "cats")
CATS, FEW_CATS, LABELLED, CLASSES = 2000, 200, 60, 3


def pack(gpu: Path) -> None:
    for which in PACKED:
        with zipfile.ZipFile(fetch(PACKAGES[SETS[which].package])) as wheel:
            parts = {name: load_pixels(wheel, name, SIZE)
                     for layers in layers_by_style(wheel.namelist(), which) for layer in layers for name in layer}
        np.savez_compressed(gpu / f"{which}.npz", **parts)
    (gpu / "rootgan.gz").write_bytes(gzip.compress((gpu / "rootgan").read_bytes()))
    (gpu / "rootgan").unlink()


@contextmanager
def named_once_whole(out: Path):
    """A folder that gets its name at the end, so that what an interruption left is not taken for the whole."""
    unfinished = out.with_name(f"{out.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    yield unfinished
    unfinished.rename(out)


def make(which: str, gpu: Path, count: int, out: Path) -> None:
    """Composes pictures."""
    with np.load(gpu / f"{which}.npz") as file:
        parts = {name: as_part(file[name]) for name in file.files}
    styles = layers_by_style(list(parts), which)
    with named_once_whole(out) as folder:
        for number, names in zip(range(count), draw_parts(styles, f"{which}/{SEED}")):
            compose((parts[name] for name in names), ground_of(which)).save(folder / f"{number:06d}.png")


def take(source: Path, count: int, out: Path, classes: int = 0) -> None:
    """Copies the first pictures of a folder, with labels where there are classes."""
    files = sorted(source.glob("*.png"))[:count]
    with named_once_whole(out) as folder:
        for file in files:
            shutil.copy(file, folder)
        if classes:
            labels = [[file.name, index % classes] for index, file in enumerate(files)]
            (folder / "dataset.json").write_text(json.dumps({"labels": labels}))


def unpack(gpu: Path) -> None:
    if not (gpu / "rootgan").exists():
        def write(program: Path) -> None:
            program.write_bytes(gzip.decompress((gpu / "rootgan.gz").read_bytes()))
            program.chmod(0o755)
        replace_atomically(gpu / "rootgan", write)
    if not (gpu / "cats").exists():
        make("cats", gpu, CATS, gpu / "cats")
    if not (gpu / "cats-200").exists():
        take(gpu / "cats", FEW_CATS, gpu / "cats-200")
    if not (gpu / "labelled").exists():
        take(gpu / "cats", LABELLED, gpu / "labelled", CLASSES)


def main() -> None:
    action, gpu = sys.argv[1], Path(sys.argv[2])
    if action == "pack":
        pack(gpu)
    elif action == "unpack":
        unpack(gpu)
    else:
        make(action, gpu, int(sys.argv[3]), Path(sys.argv[4]))


if __name__ == "__main__":
    main()
