"""Tests checkpoints/script_file.py: TorchScript files are read as data, and the code in them never runs."""

import io
import json
import sys
import zipfile
from pathlib import Path
from typing import Dict, List, Optional

from rootgan import export_checkpoint
from rootgan import import_checkpoint
import pytest
import torch
from rootgan.checkpoints import detect, script_file
from rootgan.checkpoints.checkpoint import CheckpointError
from rootgan.networks.pair import Architecture, random_pair, save
from pickle_parts import call, name, storage_id, stream, tensor, text
from test_safe_pickle import FOUR, refusal

WEIGHTS = Path(__file__).resolve().parents[2] / "weights"
TINY = {"z_dim": 8, "w_dim": 8, "mapping_layers": 2, "channel_base": 256, "channel_max": 6}


def export(monkeypatch, out, generator, *arguments, kind="state-dict"):
    monkeypatch.setattr(sys, "argv", ["export_checkpoint.py", "--generator", str(generator), "--format", kind, "--out",
                                      str(out), *map(str, arguments)])
    export_checkpoint.main()


def altered(source, target, change):
    """Copies a file of torch; `change`, (name, bytes) -> bytes, gives the new content of every entry."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for info in old.infolist():
            new.writestr(info.filename, change(info.filename, old.read(info)), info.compress_type)
    return target


def with_a_saving_describe(target, marker):
    """Makes a copy of the default generator whose code writes `marker` when it is asked to describe itself."""
    def change(entry, content):
        before = b"def describe("
        if not entry.endswith(".py") or before not in content:
            return content
        start, _, rest = content.partition(before)
        head, _, body = rest.partition("-> str:\n".encode())
        return start + before + head + f'-> str:\n    _9 = torch.save(self.z_dim, "{marker}")\n'.encode() + body
    return altered(WEIGHTS / "generator.pt", target, change)


def script(body, entries=()):
    """Makes a file laid out as TorchScript, whose object is `body`."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for entry, data in {"data.pkl": stream(body), "constants.pkl": stream(b")"), **dict(entries)}.items():
            archive.writestr(f"net/{entry}", data)
    return file.getvalue()


def module(attributes=b""):
    return name("__torch__.Net") + b")\x81}(" + attributes + b"ub"


def assert_same(found, expected):
    assert found.keys() == expected.keys() and all(torch.equal(found[key], expected[key]) for key in expected)


@pytest.mark.parametrize("network", ["generator", "discriminator"])
def test_the_tensors_are_those_that_torch_loads(network):
    path = WEIGHTS / f"{network}.pt"
    loaded, root = torch.jit.load(path), script_file.read(path)
    assert_same(script_file.tensors(root), loaded.state_dict())
    assert root.text("description") == loaded.describe() and root.text("provenance") == loaded.get_provenance()


class Kinds(torch.nn.Module):
    """A module with attributes of all kinds that torch.jit.save can write for modules like ours."""

    ints: List[int]
    names: Dict[str, Optional[int]]
    parts: List[torch.Tensor]

    def __init__(self):
        super().__init__()
        self.ints, self.numbers, self.flags, self.empty = [1, 2], [0.5], [True], torch.jit.Attribute([], List[str])
        self.names, self.device, self.pair = {"a": 1, "b": None}, torch.device("cpu"), (1, "two")
        self.parts, self.shared = [torch.ones(2)], torch.nn.Linear(2, 3)
        self.again = self.shared
        self.register_buffer("rows", torch.arange(6, dtype=torch.float16).view(2, 3).t())
        self.layers = torch.nn.ModuleList([torch.nn.Linear(3, 1)])

    def forward(self, x):
        return self.again(x) + self.shared(x) * self.numbers[0]


def test_attributes_of_every_kind_are_read(tmp_path):
    torch.jit.script(Kinds()).save(tmp_path / "kinds.pt")
    root = script_file.read(tmp_path / "kinds.pt")
    assert_same(script_file.tensors(root), torch.jit.load(tmp_path / "kinds.pt").state_dict())
    assert root["ints"] == [1, 2] and root["names"] == {"a": 1, "b": None} and root["pair"] == (1, "two")
    assert root["empty"] == [] and torch.equal(root["parts"][0], torch.ones(2))


def test_code_that_would_write_a_file_does_not_run(monkeypatch, tmp_path):
    marker = tmp_path / "marker"
    path = with_a_saving_describe(tmp_path / "hostile.pt", marker)
    torch.jit.load(path).describe()
    assert marker.exists(), "the file does nothing, so this test shows nothing"
    marker.unlink()
    for kind in ("state-dict", "safetensors", "rosinality"):
        export(monkeypatch, tmp_path / f"out.{kind}", path, kind=kind)
    assert not marker.exists()
    pytest.importorskip("onnxruntime")
    export(monkeypatch, tmp_path / "onnx", path, kind="onnx")
    assert not marker.exists()


def test_an_import_takes_the_tensors_and_leaves_the_code(tmp_path):
    marker = tmp_path / "marker"
    path = with_a_saving_describe(tmp_path / "hostile.pt", marker)
    import_checkpoint.import_checkpoint(path, tmp_path / "out")
    new, old = torch.jit.load(tmp_path / "out" / "generator.pt"), torch.jit.load(WEIGHTS / "generator.pt")
    assert_same(new.state_dict(), old.state_dict())
    z = torch.randn(2, new.z_dim)
    assert torch.equal(new(z, noise_mode="const"), old(z, noise_mode="const"))
    assert json.loads(new.describe()) == json.loads(old.describe()) and not marker.exists()
    with zipfile.ZipFile(tmp_path / "out" / "generator.pt") as archive:
        assert not any(b"torch.save" in archive.read(entry) for entry in archive.namelist())
    record = json.loads(new.get_provenance())
    assert record["format"] == "TorchScript" and record["parents"]["G"]["record"] in record["ancestors"]


@pytest.mark.parametrize("sizes", [{"c_dim": 3, "conv_clamp": 256.0, "w_avg_beta": 0.9, "img_channels": 1},
                                   {"g_architecture": "resnet", "channel_base": 4096}], ids=str)
def test_an_import_keeps_what_shapes_do_not_show(sizes, tmp_path):
    G, _ = random_pair(Architecture(16, **{**TINY, **sizes}), 1)
    save(G, tmp_path / "G.pt")
    found = detect.read(tmp_path / "G.pt")
    assert found.architecture == Architecture(16, **{**TINY, **sizes}) and found.notes == []
    assert_same(found.g_ema, G.state_dict())


def test_a_pair_is_imported_by_way_of_safetensors(monkeypatch, tmp_path):
    with pytest.raises(CheckpointError, match="it is a discriminator alone; .*rootgan export --generator FILE"):
        detect.read(WEIGHTS / "discriminator.pt")
    export(monkeypatch, tmp_path / "pair.safetensors", WEIGHTS / "generator.pt", "--discriminator",
           WEIGHTS / "discriminator.pt", kind="safetensors")
    import_checkpoint.import_checkpoint(tmp_path / "pair.safetensors", tmp_path / "out")
    for network in ("generator.pt", "discriminator.pt"):
        assert_same(torch.jit.load(tmp_path / "out" / network).state_dict(),
                    torch.jit.load(WEIGHTS / network).state_dict())


FLOATS = {"data/0": FOUR}
HOSTILE = {
    "os.system": (script(call("os.system", text("touch marker"))), "it refers to 'os.system'"),
    "os.system in a module": (script(module(text("a") + call("os.system", text("true")))), "it refers to 'os.system'"),
    "custom class": (script(name("__torch__.torch.classes.quantized.LinearPackedParamsBase") + b")\x81"), "it refers to"),
    "class called": (script(call("__torch__.Net", text("x"))), "arguments of unexpected kinds"),
    "state that is no dict": (script(name("__torch__.Net") + b")\x81" + text("x") + b"b"), "no dict of attributes"),
    "longer claim": (script(module(text("a") + tensor(storage_id(elements=5), size=(5,))), FLOATS), "its storage has 16"),
    "missing storage": (script(module(text("a") + tensor(storage_id(key="1"))), FLOATS), "its storage is missing"),
    "view beyond": (script(module(text("a") + tensor(storage_id(), size=(5,))), FLOATS), "its storage has 4 elements"),
    "no module": (script(b"]"), "its pickle holds a list, expected a module"),
    "itself": (script(name("__torch__.Net") + b")\x81q\x00}(" + text("a") + b"h\x00ub"), "contains itself"),
    "case": (script(module(), {"Data.pkl": b""}), "differ in case alone"),
    "two folders": (script(module(), {"a/b": b""}).replace(b"net/a/b", b"other/b"), "several folders"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_files_are_refused_in_one_line(kind, monkeypatch, tmp_path):
    content, said = HOSTILE[kind]
    assert said in refusal(tmp_path / "hostile.pt", content)
    with pytest.raises(SystemExit, match="hostile.pt") as caught:
        export(monkeypatch, tmp_path / "out", tmp_path / "hostile.pt")
    assert said in str(caught.value) and not (tmp_path / "out").exists()


def test_two_entries_of_one_name_are_refused(tmp_path):
    file = io.BytesIO(script(module(text("a") + tensor(storage_id())), FLOATS))
    with zipfile.ZipFile(file, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("net/data.pkl", stream(module()))
    assert "two entries of one name" in refusal(tmp_path / "hostile.pt", file.getvalue())


def test_compressed_tensors_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "net.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        for entry, data in {"data.pkl": stream(module()), "constants.pkl": stream(b")"), "data/0": bytes(1 << 20)}.items():
            archive.writestr(f"net/{entry}", data)
    with pytest.raises(CheckpointError, match="its zip entries are compressed"):
        detect.read(tmp_path / "net.pt")


def described(tmp_path, **said):
    """Writes a generator whose description says something else than its tensors."""
    G, _ = random_pair(Architecture(16, **TINY), 1)
    G.description = json.dumps({**json.loads(G.description), **said})
    save(G, tmp_path / "G.pt")
    return tmp_path / "G.pt"


@pytest.mark.parametrize("said, imported, exported", [
    ({"z_dim": 10**4}, "z_dim is 10000 in its description and 8 in its tensors", "do not fit"),
    ({"z_dim": 10**30}, "its description is damaged .z_dim must be at most 65536", "z_dim must be at most 65536, not 1000"),
    ({"mapping_layers": 10**12}, "its description is damaged .mapping_layers must be at most", "must be at most"),
    ({"mapping_layers": 3}, "mapping_layers is 3 in its description and 2", "do not fit"),
    ({"z_dim": "many"}, "its description is damaged", "invalid literal for int"),
    ({"z_dim": float("inf")}, "its description is damaged", "cannot convert float infinity"),
    ({"kind": "detector"}, "it is a detector of contract 1, expected a generator", "it is a detector of contract 1"),
    ({"contract": 2}, "it is a generator of contract 2, expected", "it is a generator of contract 2"),
])
def test_a_description_is_compared_with_the_tensors(said, imported, exported, monkeypatch, tmp_path):
    path = described(tmp_path, **said)
    with pytest.raises(CheckpointError, match=imported) as caught:
        detect.read(path)
    assert "\n" not in str(caught.value)
    with pytest.raises(SystemExit, match=exported) as caught:
        export(monkeypatch, tmp_path / "out", path)
    assert "\n" not in str(caught.value)


def test_tensors_that_share_a_storage_take_little_more_than_the_file(monkeypatch, tmp_path):
    G, _ = random_pair(Architecture(16, **{**TINY, "w_dim": 300, "mapping_layers": 64}), 1)
    for i in range(2, 64):
        getattr(G.mapping, f"fc{i}").weight = G.mapping.fc1.weight
    save(G, tmp_path / "G.pt")
    with pytest.raises(SystemExit, match="its tensors are larger than the file, because many of them share one storage"):
        export(monkeypatch, tmp_path / "out", tmp_path / "G.pt")


def test_a_damaged_file_is_said_to_be_damaged(monkeypatch, tmp_path):
    content = (WEIGHTS / "generator.pt").read_bytes()
    (tmp_path / "cut.pt").write_bytes(content[:-1000])
    with pytest.raises(SystemExit, match="it is no TorchScript file, or a damaged one; other checkpoints are first"):
        export(monkeypatch, tmp_path / "out", tmp_path / "cut.pt")
    with pytest.raises(CheckpointError, match="cannot read .*cut.pt': it begins as a zip file but has no end record"):
        detect.read(tmp_path / "cut.pt")
    (tmp_path / "flipped.pt").write_bytes(content[:1000] + bytes([content[1000] ^ 1]) + content[1001:])
    with pytest.raises(SystemExit, match="it is a damaged zip file .Bad CRC-32.*; copy or download it again"):
        export(monkeypatch, tmp_path / "out", tmp_path / "flipped.pt")
