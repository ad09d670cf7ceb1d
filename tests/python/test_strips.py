"""The strips of samples/: their ends are the pictures that they should be."""

import sys

import numpy
import torch
from PIL import Image

import strips
from conftest import ROOT


def test_truncation_begins_with_the_average_and_interpolation_ends_at_the_seeds(tmp_path, monkeypatch):
    generator = ROOT / "weights" / "generator.pt"
    paths = [tmp_path / "t.png", tmp_path / "i.png"]
    arguments = ["--generator", str(generator), "--truncation", str(paths[0]), "--interpolation", str(paths[1]), "--seeds", "2",
                 "--steps", "3"]
    monkeypatch.setattr(sys, "argv", ["strips.py", *arguments])
    assert strips.main() == 0
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
