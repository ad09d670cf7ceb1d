"""The strips of samples/: their ends are the pictures that they should be."""

import sys

import numpy
import pytest
import torch
from PIL import Image

import strips
from conftest import ROOT
from rootgan.networks.pair import Architecture, random_pair, save

TINY = {"z_dim": 5, "w_dim": 6, "mapping_layers": 1, "channel_base": 64, "channel_max": 4}


def test_truncation_begins_with_the_average_and_interpolation_ends_at_the_seeds(tmp_path, monkeypatch):
    generator = ROOT / "weights" / "generator.pt"
    paths = [tmp_path / "t.png", tmp_path / "i.png"]
    arguments = ["--generator", str(generator), "--truncation", str(paths[0]), "--interpolation", str(paths[1]), "--seeds", "2",
                 "--steps", "3"]
    monkeypatch.setattr(sys, "argv", ["strips.py", *arguments])
    strips.main()
    truncation, interpolation = [numpy.asarray(Image.open(path)).astype(int) for path in paths]
    assert truncation.shape == interpolation.shape == (2 * 64, 3 * 64, 3)
    # psi 0 is the average picture whatever the seed.
    assert abs(truncation[:64, :64] - truncation[64:, :64]).max() <= 1
    g = torch.jit.load(str(generator)).eval()
    with torch.no_grad():
        ws = g.run_mapping(strips.latents(range(0, 2), 128), None, 1.0, None, False)
        images = g.run_synthesis(ws, "const", None)
    for index, found in enumerate([truncation[:64, -64:], truncation[64:, -64:]]):
        assert abs(numpy.asarray(strips.picture([images[index : index + 1]])).astype(int) - found).max() <= 1
    assert abs(interpolation[:64, :64] - truncation[:64, -64:]).max() <= 1


def draw(monkeypatch, folder, *options, **sizes):
    save(random_pair(Architecture(16, **{**TINY, **sizes}), 0)[0], folder / "g.pt")
    arguments = ["--generator", folder / "g.pt", "--seeds", "2", "--steps", "3", *options]
    monkeypatch.setattr(sys, "argv", ["strips.py", *map(str, arguments)])
    strips.main()


@pytest.mark.parametrize("channels", [1, 3])
def test_grey_generators_of_any_z_are_drawn(tmp_path, monkeypatch, channels):
    paths = {flag: tmp_path / f"{flag}.png" for flag in ("--truncation", "--interpolation", "--before-after")}
    options = [word for pair in paths.items() for word in pair]
    draw(monkeypatch, tmp_path, *options, "--finetuned", tmp_path / "g.pt", img_channels=channels)
    sizes = [Image.open(path).size for path in paths.values()]
    assert sizes == [(48, 32), (48, 32), (12 * 16, 2 * 4 * 16 + 8)]


@pytest.mark.parametrize("name, said", [
    ("missing.pt", "cannot draw '.*missing.pt': there is no such file"), ("other.pt", "it does not describe itself"),
    ("text.pt", "it is no TorchScript file"), ("g.pt", "it has 2 classes")])
def test_what_cannot_be_drawn_is_told_in_one_line(tmp_path, monkeypatch, name, said):
    torch.jit.script(torch.nn.Linear(3, 4)).save(str(tmp_path / "other.pt"))
    (tmp_path / "text.pt").write_text("hello")
    with pytest.raises(SystemExit, match=said) as caught:
        draw(monkeypatch, tmp_path, "--generator", tmp_path / name, "--truncation", tmp_path / "t.png", c_dim=2)
    assert "\n" not in str(caught.value) and not (tmp_path / "t.png").exists()
