#!/usr/bin/env python3
"""Makes training pictures offline: aligned, centred avatars on a plain ground, from the parts in one PyPI wheel.

For trying out a training without a data set of one's own. The wheel robohash==2.0 (44 MB) is fetched once with pip,
checked against its sha256 and read as a zip; nothing in it is imported. One part per folder is drawn at random, resized
once and pasted, 2,000 pictures of 64x64 in 3 to 13 s. Picture i depends on the set, seed and size only, not on
--count. Weak where a set has few parts: pictures share them, so this is far less varied than photographs.

    .venv/bin/python scripts/pictures.py robots --count 2000 --size 64 --seed 0 --out .cache/pictures/robots

The artwork is not ours: `pictures.json` beside the pictures holds the credit that has to go with them.
"""

import argparse
import io
import json
import math
import os
import random
import re
import sys
import time
import zipfile
from pathlib import Path

try:
    import numpy as np
    from PIL import Image
except ImportError as missing:
    sys.exit(f"error: {missing}; run `{sys.executable} -m pip install numpy pillow`")

sys.path.insert(0, str(Path(__file__).resolve().parent))
from wheels import Failure, fetch_wheel  # noqa: E402

PACKAGE, MEGABYTES = "robohash==2.0", 44
WHEEL = "robohash-2.0-py3-none-any.whl"
WHEEL_SHA256 = "fbb51f1e30924200a3c055360eddc09d722018a47ff28f4a73d523889b3d6ba4"
RECIPE = 1  # raise it when the same request would give other pictures
WHITE = (255, 255, 255)
PALE = (208, 220, 228)  # behind people: their flat white hats and shirts have no outline and would vanish on white

# name -> folder under robohash/sets, who made it, licence; the licences are those in the wheel's METADATA
SETS = {
    "robots": ("set1", "robots by Zikri Kader", "CC-BY-3.0 or CC-BY-4.0"),
    "monsters": ("set2", "monsters by Hrvoje Novakovic", "CC-BY-3.0"),
    "heads": ("set3", "robot heads by Julian Peter Arias", "CC-BY-3.0"),
    "cats": ("set4", "cats by David Revoy, https://www.peppercarrot.com/extras/html/2016_cat-generator/", "CC-BY-4.0"),
    "people": ("set5", "people by Pablo Stanley, https://avataaars.com/", "free for personal and commercial use"),
}
RECORD = "pictures.json"
UNFINISHED = "pictures.json.unfinished"  # there while pictures are written; renamed to RECORD as the last step


def layers_by_style(names: list[str], which: str) -> list[list[list[str]]]:
    """Styles (robots: one per colour, else one), each a list of layers from back to front, each a list of parts.

    Folders are called NUMBER#LABEL. The labels sort from back to front (01Body, 02Face, Accessory, Eyes, ...), save for
    people, whose glasses (`Accessories`) would go behind the face: theirs go by number.
    """
    prefix = f"robohash/sets/{SETS[which][0]}/"
    styles: dict[str, dict[str, list[str]]] = {}
    for name in sorted(names):
        if name.startswith(prefix) and name.endswith(".png"):
            *style, folder, _ = name[len(prefix):].split("/")
            styles.setdefault("/".join(style), {}).setdefault(folder, []).append(name)

    def depth(folder: str) -> str:
        number, _, label = folder.partition("#")
        return number if which == "people" else label

    return [[folders[folder] for folder in sorted(folders, key=depth)] for _, folders in sorted(styles.items())]


def draw_parts(styles: list[list[list[str]]], seed_text: str):
    """Yields lists of parts without end or repeats; the text alone decides them."""
    rng, seen = random.Random(seed_text), set()
    while True:
        parts = tuple(rng.choice(layer) for layer in rng.choice(styles))
        if parts not in seen:
            seen.add(parts)
            yield parts


def load_part(wheel: zipfile.ZipFile, name: str, size: int) -> tuple[np.ndarray, np.ndarray]:
    """A part resized with premultiplied alpha, so clear pixels do not bleed in: colour [H, W, 3], alpha [H, W, 1]."""
    with Image.open(io.BytesIO(wheel.read(name))) as image:
        small = image.convert("RGBA").convert("RGBa").resize((size, size), Image.Resampling.LANCZOS, reducing_gap=4.0)
    pixels = np.asarray(small, dtype=np.float32)
    return pixels[..., :3], pixels[..., 3:] / 255.0


def compose(parts, background: tuple[int, int, int]) -> Image.Image:
    """Pastes (premultiplied colour, alpha) pairs over a plain background, back to front."""
    canvas = np.asarray(background, dtype=np.float32)
    for colour, alpha in parts:
        canvas = canvas * (1.0 - alpha) + colour
    return Image.fromarray(np.clip(np.rint(canvas), 0, 255).astype(np.uint8))


def visible(out: Path) -> set[str]:
    return {entry.name for entry in os.scandir(out) if not entry.name.startswith(".")} if out.is_dir() else set()


def is_done(out: Path, request: dict) -> bool:
    """Whether `out` holds this request, all of it and nothing else."""
    try:
        same = json.loads((out / RECORD).read_text(encoding="utf-8")) == request
    except (OSError, ValueError):
        return False
    return same and visible(out) == {RECORD} | {f"{i:06d}.png" for i in range(request["count"])}


def clear(out: Path) -> None:
    """Removes what an earlier run of this script left; refuses a folder that holds anything else."""
    found = visible(out)
    foreign = sorted(name for name in found - {RECORD, UNFINISHED} if not re.fullmatch(r"\d{6}\.png", name))
    if found and (foreign or not found & {RECORD, UNFINISHED}):
        raise Failure(f"cannot write to '{out}': it holds '{(foreign or sorted(found))[0]}', not made by this script; "
                      "pass an empty or new folder as --out")
    if found:
        print(f"'{out}' holds another or an unfinished request: making it anew", flush=True)
    if RECORD in found:
        os.replace(out / RECORD, out / UNFINISHED)
    for name in found - {RECORD, UNFINISHED}:
        (out / name).unlink()


def make(request: dict, wheel_path: Path, out: Path) -> None:
    which, size, count = request["set"], request["size"], request["count"]
    background = PALE if which == "people" else WHITE
    with zipfile.ZipFile(wheel_path) as wheel:
        styles = layers_by_style(wheel.namelist(), which)
        possible = sum(math.prod(len(layer) for layer in layers) for layers in styles)
        if count > possible // 2:
            raise Failure(f"cannot make {count} different {which}: at most {possible // 2}; pass a smaller --count")
        if out.exists() and not out.is_dir():
            raise Failure(f"cannot write to '{out}': it is a file; pass an empty or new folder as --out")
        out.mkdir(parents=True, exist_ok=True)
        clear(out)
        (out / UNFINISHED).write_text(json.dumps(request, indent=2) + "\n", encoding="utf-8")
        loaded: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        started = told = time.monotonic()
        for i, names in zip(range(count), draw_parts(styles, f"{which}/{request['seed']}")):
            for name in names:
                if name not in loaded:
                    loaded[name] = load_part(wheel, name, size)
            compose((loaded[name] for name in names), background).save(out / f"{i:06d}.png")
            if time.monotonic() - told > 2:
                told = time.monotonic()
                print(f"{which}: {i + 1} of {count} pictures, {len(loaded)} parts read", flush=True)
    os.replace(out / UNFINISHED, out / RECORD)
    print(f"{which}: {count} pictures of {size}x{size} in '{out}', {time.monotonic() - started:.1f} s")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("set", choices=list(SETS))
    parser.add_argument("--count", type=int, default=2000, help="pictures to make, 1 to 1000000 (default: %(default)s)")
    parser.add_argument("--size", type=int, default=64, help="side in pixels, 8 to 1024 (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="another seed, other pictures (default: %(default)s)")
    parser.add_argument("--out", type=Path, required=True, help="folder for 000000.png, ... and pictures.json")
    parser.add_argument("--cache", type=Path, default=Path(__file__).resolve().parent.parent / ".cache" / "wheels",
                        help="folder of the downloaded wheel (default: %(default)s)")
    args = parser.parse_args()
    _, credit, licence = SETS[args.set]
    request = {"recipe": RECIPE, "set": args.set, "size": args.size, "seed": args.seed, "count": args.count,
               "package": PACKAGE, "wheel_sha256": WHEEL_SHA256, "credit": credit, "licence": licence,
               "notice": f"{credit}; licence: {licence}; composited and resized from parts in the PyPI wheel {PACKAGE}"}
    try:
        for name, value, low, high in (("count", args.count, 1, 1_000_000), ("size", args.size, 8, 1024)):
            if not low <= value <= high:
                raise Failure(f"cannot make pictures with --{name} {value}: pass {low} to {high}")
        if is_done(args.out, request):
            print(f"'{args.out}' already holds these {args.count} {args.set}: nothing to do")
        else:
            make(request, fetch_wheel(args.cache, PACKAGE, WHEEL, WHEEL_SHA256, MEGABYTES), args.out)
        print(f"artwork: {request['notice']}")
    except (Failure, OSError, zipfile.BadZipFile) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("error: interrupted; run again to make the pictures anew", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
