"""Tests what rootgan export never replaces, even with --force, and what it says of files that are no
network."""

import os
from pathlib import Path

from rootgan import export_checkpoint
import pytest
from test_export_checkpoint import Files, run


def test_force_does_not_replace_what_is_exported(monkeypatch, tmp_path):
    files = Files(tmp_path)
    link = tmp_path / "link.pt"
    link.symlink_to(tmp_path / "D.pt")
    for out in (tmp_path / "G_ema.pt", link):
        with pytest.raises(SystemExit, match=f"to '{out}': it is one of the files to export; pass another --out"):
            run(monkeypatch, *files.arguments, "--format", "state-dict", "--out", out, "--force")
    assert files.contents["D"] == link.read_bytes()


@pytest.mark.parametrize("content", ['{"source": "a.pkl", "format": "NVIDIA pickle"}', "[1]", "no JSON", "[" * 100_000])
def test_force_does_not_replace_a_record_of_something_else(monkeypatch, tmp_path, content):
    files = Files(tmp_path)
    (tmp_path / "import.json").write_text(content)
    with pytest.raises(SystemExit, match="import.json': it is no record of an export, and would be lost; pass another"):
        run(monkeypatch, *files.arguments, "--format", "safetensors", "--out", tmp_path / "import.safetensors",
            "--force")
    assert (tmp_path / "import.json").read_text() == content and not (tmp_path / "import.safetensors").exists()


def test_force_replaces_an_earlier_export_with_its_record(monkeypatch, tmp_path):
    files, out = Files(tmp_path), tmp_path / "weights.safetensors"
    run(monkeypatch, *files.arguments[:2], "--format", "safetensors", "--out", out)
    before = (tmp_path / "weights.json").read_text()
    run(monkeypatch, *files.arguments, "--format", "safetensors", "--out", out, "--force")
    assert (tmp_path / "weights.json").read_text() != before


@pytest.mark.parametrize("failing, kept", [("save_file", True), ("sha256_of", False)])
def test_a_record_never_lies_beside_weights_that_it_is_not_about(monkeypatch, tmp_path, failing, kept):
    files, out = Files(tmp_path), tmp_path / "weights.safetensors"
    run(monkeypatch, *files.arguments[:2], "--format", "safetensors", "--out", out)
    before = out.read_bytes()

    def fail(*_, **__):
        raise OSError("disk full")

    monkeypatch.setattr(export_checkpoint, failing, fail)
    with pytest.raises(SystemExit, match="disk full"):
        run(monkeypatch, *files.arguments, "--format", "safetensors", "--out", out, "--force")
    assert (out.read_bytes() == before) == kept == (tmp_path / "weights.json").exists()


def test_what_is_no_file_or_no_network_is_said_in_one_short_line(monkeypatch, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "text").write_text("hello" * 1000)
    for path, said in ((tmp_path, "it is a folder"), (tmp_path / "pipe", "it is a pipe or a device, not a file"),
                       (Path("/dev/zero"), "it is a pipe or a device"), (tmp_path / "text", "it is no TorchScript")):
        with pytest.raises(SystemExit, match=f"cannot export '{path}': {said}") as caught:
            run(monkeypatch, "--generator", path, "--format", "state-dict", "--out", tmp_path / "out.pt")
        assert "\n" not in str(caught.value) and len(str(caught.value).replace(str(path), "")) < 180


def test_what_the_system_refuses_is_said_with_a_remedy(monkeypatch, tmp_path):
    files = Files(tmp_path)
    with pytest.raises(SystemExit, match="cannot export to '.*x.pt': .*; check the rights and the free space there"):
        run(monkeypatch, *files.arguments, "--format", "state-dict", "--out", tmp_path / "D.pt" / "inside" / "x.pt")

    def full(*_):
        raise OSError(28, "No space left on device", "x.pt")

    monkeypatch.setitem(export_checkpoint.FORMATS, "state-dict", full)
    with pytest.raises(SystemExit, match=r"'.*y.pt': no space left on device \('x.pt'\); check the rights"):
        run(monkeypatch, *files.arguments, "--format", "state-dict", "--out", tmp_path / "y.pt")
