"""Tests scripts/digits.py on a tiny wheel made here: nothing is downloaded."""

import gzip
import hashlib
import sys
import zipfile

import digits
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file

PER_CLASS = 6


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A folder with a wheel of 60 digits; all pixels of a digit are its index modulo 17."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    rows = [",".join([f"{i % 17:.0f}"] * 64 + [str(i % 10)]) for i in range(10 * PER_CLASS)]
    wheel = folder / digits.WHEEL
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(digits.MEMBER, gzip.compress("\n".join(rows).encode()))
    monkeypatch.setattr(digits, "WHEEL_SHA256", hashlib.sha256(wheel.read_bytes()).hexdigest())
    return folder


def run(monkeypatch, cache, out, *options):
    monkeypatch.setattr(sys, "argv", ["digits.py", "--out", str(out), "--cache", str(cache), *map(str, options)])
    return digits.main()


def test_every_digit_is_in_one_part_and_every_class_in_both(cache, tmp_path, monkeypatch):
    out = tmp_path / "digits.safetensors"
    assert run(monkeypatch, cache, out, "--test-share", 1 / 3) == 0
    found = load_file(out)
    assert np.bincount(found["train_labels"]).tolist() == [4] * 10
    assert np.bincount(found["test_labels"]).tolist() == [2] * 10
    together = np.concatenate([found["train_images"], found["test_images"]])
    assert together.shape == (60, 64) and together.dtype == np.float32 and found["test_labels"].dtype == np.int64
    expected = sorted(i % 17 / 16 for i in range(60))
    assert np.allclose(np.sort(together[:, 0]), expected)
    with safe_open(out, "np") as file:
        assert "Alpaydin" in file.metadata()["credit"] and "BSD" in file.metadata()["credit"]


def test_the_seed_alone_decides_the_split(cache, tmp_path, monkeypatch):
    outs = [tmp_path / name for name in ("a", "b", "c")]
    for out, seed in zip(outs, (0, 0, 1)):
        assert run(monkeypatch, cache, out, "--seed", seed) == 0
    a, b, c = map(load_file, outs)
    assert np.array_equal(a["test_images"], b["test_images"]) and not np.array_equal(a["test_images"], c["test_images"])


def test_a_share_out_of_range_and_another_wheel_are_refused(cache, tmp_path, monkeypatch, capsys):
    assert run(monkeypatch, cache, tmp_path / "out", "--test-share", 1.5) == 1
    assert "pass a number between 0 and 1" in capsys.readouterr().err
    (cache / digits.WHEEL).write_bytes(b"not a wheel")
    assert run(monkeypatch, cache, tmp_path / "out") == 1
    assert "sha256" in capsys.readouterr().err and not (tmp_path / "out").exists()
