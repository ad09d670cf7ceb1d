"""Tests checkpoints/torch_files.py: zips that different readers would read differently, and views of storages."""

import io
import zipfile

import pytest
import torch
from rootgan.checkpoints import detect, safe_pickle
from rootgan.networks.pair import Architecture, random_pair
from pickle_parts import legacy, storage_id, tensor, zipped
from test_safe_pickle import FOUR, refusal


@pytest.mark.parametrize("twice", ["data.pkl", "data/0", "version"])
def test_a_zip_with_two_entries_of_one_name_is_refused(tmp_path, twice):
    file = io.BytesIO(zipped(tensor(storage_id()), {"data/0": FOUR, "version": b"3\n"}))
    with zipfile.ZipFile(file, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr(f"archive/{twice}", archive.read(f"archive/{twice}"))
    assert "two entries of one name" in refusal(tmp_path / "hostile.pt", file.getvalue())


@pytest.mark.parametrize("container", ["zip", "legacy"])
def test_negative_strides_sizes_and_offsets_are_refused(tmp_path, container):
    for claim in ({"stride": (-1,)}, {"size": (-4,)}, {"offset": -1}, {"stride": (-1,), "offset": 3}):
        body = tensor(storage_id(), **claim)
        data = zipped(body, {"data/0": FOUR}) if container == "zip" else legacy(body, FOUR, ["0"])
        assert "are not counts" in refusal(tmp_path / "hostile.pt", data), claim


@pytest.mark.parametrize("size, stride, offset", [((4,), (0,), 2), ((2, 2), (1, 1), 1), ((1, 4), (9, 1), 0),
                                                  ((2, 2), (1, 2), 0), ((3,), (1,), 1)])
def test_views_that_share_elements_are_what_torch_makes_of_them(tmp_path, size, stride, offset):
    (tmp_path / "file.pt").write_bytes(zipped(tensor(storage_id(), size, stride, offset), {"data/0": FOUR}))
    found = safe_pickle.load_torch(tmp_path / "file.pt")
    assert torch.equal(found, torch.tensor([1.0, 2, 3, 4]).as_strided(size, stride, offset))


def test_shared_elements_are_apart_after_import(tmp_path):
    """A weight that repeats elements of its storage is trained like any other."""
    g, d = (module.state_dict() for module in random_pair(
        Architecture(16, z_dim=8, w_dim=8, mapping_layers=1, channel_base=128, channel_max=8), 0))
    row = torch.randn(64)
    g["mapping.fc0.weight"] = row.as_strided((8, 8), (1, 1))
    torch.save({"G_ema": g, "D": d}, tmp_path / "file.pt")
    found = detect.read(tmp_path / "file.pt").g_ema["mapping.fc0.weight"]
    assert torch.equal(found, row.as_strided((8, 8), (1, 1))) and found.is_contiguous()
    assert found.untyped_storage().nbytes() == 4 * 64
