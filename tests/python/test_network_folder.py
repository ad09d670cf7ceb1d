"""A folder of networks is replaced as a whole, wherever it lies."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch
from conftest import ROOT
from rootgan.network_folder import replace_networks
from rootgan.networks.pair import Architecture, random_pair

TINY = Architecture(16, z_dim=4, w_dim=4, mapping_layers=1, channel_base=64, channel_max=4)


@pytest.fixture
def elsewhere(tmp_path):
    """A folder in another file system than the tests' own."""
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK) or memory.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no second file system to write to")
    folder = Path(tempfile.mkdtemp(dir=memory))
    yield folder
    shutil.rmtree(folder)


@pytest.mark.parametrize("command", ["import", "new"])
def test_a_link_to_another_file_system_is_written_through(tmp_path, elsewhere, command):
    torch.save({"G_ema": random_pair(TINY, 0)[0].state_dict()}, tmp_path / "weights.pt")
    (tmp_path / "out").symlink_to(elsewhere)
    (elsewhere / "generator.pt").write_text("an earlier one")
    words = {"import": ["import", tmp_path / "weights.pt"],
             "new": ["new", "--resolution", "16", "--channel-base", "64", "--z-dim", "4", "--w-dim", "4"]}[command]
    done = subprocess.run([sys.executable, ROOT / "python/rootgan", *words, "--force", "--out", tmp_path / "out"],
                          capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    second = {"import": "import.json", "new": "discriminator.pt"}[command]
    assert {path.name for path in elsewhere.iterdir()} == {"generator.pt", second}
    torch.jit.load(elsewhere / "generator.pt")


def test_what_fails_leaves_the_old_networks_and_no_new_folder(tmp_path):
    def fail(folder):
        (folder / "generator.pt").write_text("half of it")
        raise OSError("disk full")

    for name in ("old", "new"):
        if name == "old":
            (tmp_path / name).mkdir()
            (tmp_path / name / "generator.pt").write_text("whole")
        with pytest.raises(OSError, match="disk full"):
            replace_networks(tmp_path / name, fail)
    assert [path.name for path in tmp_path.rglob("*")] == ["old", "generator.pt"]
    assert (tmp_path / "old" / "generator.pt").read_text() == "whole"


def test_records_of_other_networks_go_and_other_files_stay(tmp_path):
    for name in ("export.json", "generator_raw.pt", "notes.txt"):
        (tmp_path / name).write_text("of another pair")
    assert replace_networks(tmp_path, lambda folder: (folder / "generator.pt").write_text("new")) == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["generator.pt", "notes.txt"]
