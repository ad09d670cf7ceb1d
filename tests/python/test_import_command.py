"""Tests rootgan import from end to end: what it writes, says and refuses."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

from rootgan import import_checkpoint as command
import pytest
import torch
from rootgan.checkpoints.checkpoint import CheckpointError
from rootgan.command_line import Failure
from checks.nvidia_files import network, write
from rootgan.networks.pair import Architecture, random_pair
from safetensors.torch import save_file

ROOT = Path(__file__).resolve().parents[2]
PICKLE = ROOT / "tests" / "golden" / "nvidia_like_r32.pkl"
PAIR = Architecture(
    16, z_dim=12, w_dim=8, mapping_layers=2, channel_base=256, channel_max=10, conv_clamp=4.0, mbstd_group_size=2
)
KWARGS = ({"mapping_kwargs": {}, "synthesis_kwargs": {"conv_clamp": 4.0, "channel_base": 256, "channel_max": 10}},
          {"conv_clamp": 4.0, "epilogue_kwargs": {"mbstd_group_size": 2}})


def run(*arguments):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, ROOT / "python" / "rootgan", "import", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        env=environment,
    )


def weights(seed=0, pair=PAIR):
    return [module.state_dict() for module in random_pair(pair, seed)]


def pickle_of(path, *, raw=True, with_d=True):
    (g_ema, d), (g, _) = weights(0), weights(1)
    write({"G": network(g if raw else g_ema, "Generator", KWARGS[0]), "G_ema": network(g_ema, "Generator", KWARGS[0]),
           "D": network(d, "Discriminator", KWARGS[1]) if with_d else None}, path)
    return g_ema, g, d


def assert_holds(path, tensors):
    module = torch.jit.load(path)
    found = module.state_dict()
    assert found.keys() == tensors.keys() and all(torch.equal(found[name], tensors[name]) for name in found)
    return module


def files(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_pickle_becomes_a_pair_with_its_record(tmp_path):
    out = tmp_path / "new" / "pair"
    done = run(PICKLE, "--outdir", out)
    assert done.returncode == 0 and done.stderr == ""
    assert files(out) == ["discriminator.pt", "generator.pt", "import.json"] and files(out.parent) == ["pair"]
    record = json.loads((out / "import.json").read_text())
    assert record["source"] == "nvidia_like_r32.pkl"
    assert record["source_sha256"] == hashlib.sha256(PICKLE.read_bytes()).hexdigest()
    assert record["format"] == "NVIDIA pickle, stylegan2-ada-pytorch" and record["notes"] == []
    assert record["architecture"]["img_resolution"] == 32 and record["architecture"]["channel_base"] == 512
    assert record["options"]["G_ema_kwargs"]["synthesis_kwargs"]["num_fp16_res"] == 0
    for name in ("generator.pt", "discriminator.pt"):
        assert json.loads(torch.jit.load(out / name).get_provenance()) == record
    assert "stylegan2-ada-pytorch, 32x32, no labels\n" in done.stdout
    assert f"wrote '{out / 'generator.pt'}': 69,635 parameters\n" in done.stdout


def test_the_generator_in_training_is_written_where_it_differs(tmp_path):
    g_ema, g, d = pickle_of(tmp_path / "file.pkl")
    command.import_checkpoint(tmp_path / "file.pkl", tmp_path / "out")
    for name, tensors in (("generator.pt", g_ema), ("generator_raw.pt", g), ("discriminator.pt", d)):
        assert_holds(tmp_path / "out" / name, tensors)


def test_force_replaces_an_import_and_leaves_nothing_of_it(tmp_path):
    pickle_of(tmp_path / "file.pkl")
    command.import_checkpoint(tmp_path / "file.pkl", tmp_path / "out")
    (tmp_path / "out" / "mine.txt").write_text("mine")
    (tmp_path / "out" / "export.json").write_text("{}")
    g_ema, _, _ = pickle_of(tmp_path / "other.pkl", raw=False, with_d=False)
    with pytest.raises(Failure, match="it has import.json and export.json and generator.pt and discriminator.pt and generator_raw.pt already; pass "
                                      "another --out, or --force"):
        command.import_checkpoint(tmp_path / "other.pkl", tmp_path / "out")
    assert "generator_raw.pt" in files(tmp_path / "out")
    command.import_checkpoint(tmp_path / "other.pkl", tmp_path / "out", force=True)
    assert files(tmp_path / "out") == ["generator.pt", "import.json", "mine.txt"]
    assert_holds(tmp_path / "out" / "generator.pt", g_ema)


def test_an_import_in_place_writes_into_the_folder_itself(tmp_path, monkeypatch):
    pickle_of(tmp_path / "file.pkl")
    (tmp_path / "out").mkdir()
    monkeypatch.setattr("tempfile.mkdtemp", lambda **_: pytest.fail("a scratch folder is made"))
    command.import_checkpoint(tmp_path / "file.pkl", tmp_path / "out", in_place=True)
    assert files(tmp_path / "out") == ["discriminator.pt", "generator.pt", "generator_raw.pt", "import.json"]


def test_an_import_that_is_terminated_leaves_nothing(tmp_path):
    pickle_of(tmp_path / "file.pkl")
    # The import stops where it writes the first network, until it is terminated.
    code = ("import os, signal, sys; sys.argv[1:] = ['import', *sys.argv[1:]]; import runpy\n"
            f"sys.path.insert(0, {os.fspath(ROOT / 'python')!r})\n"
            "from rootgan import import_checkpoint\n"
            "import_checkpoint.save = lambda *_: os.kill(os.getpid(), signal.SIGTERM)\n"
            "from rootgan.__main__ import main\nmain()")
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "file.pkl", "--out", tmp_path / "out"], capture_output=True,
                          text=True, timeout=60)
    assert (done.returncode, done.stderr) == (143, "stopped by SIGTERM\n")
    assert files(tmp_path) == ["file.pkl"]


def test_arguments_that_cannot_be_are_told_in_one_line(tmp_path):
    done = run(PICKLE, "--out", tmp_path / "out", "--mbstd-group", "foo")
    assert done.returncode == 1
    assert done.stderr == "error: argument --mbstd-group: 'foo': pass 1 to 65536 images, or all for the whole batch\n"


def test_a_failed_import_leaves_the_old_one_and_no_scratch_files(tmp_path, monkeypatch):
    pickle_of(tmp_path / "file.pkl")
    command.import_checkpoint(tmp_path / "file.pkl", tmp_path / "out")
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}

    def full(*_):
        raise OSError("disk full")

    monkeypatch.setattr(command, "save", full)
    with pytest.raises(OSError, match="disk full"):
        command.import_checkpoint(tmp_path / "file.pkl", tmp_path / "out", force=True)
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before
    assert files(tmp_path) == ["file.pkl", "out"]


def test_without_a_discriminator_it_says_what_finetuning_needs(tmp_path, capsys):
    g_ema, g, _ = pickle_of(tmp_path / "file.pkl", with_d=False)
    command.import_checkpoint(tmp_path / "file.pkl", tmp_path / "out")
    assert files(tmp_path / "out") == ["generator.pt", "generator_raw.pt", "import.json"]
    printed = capsys.readouterr().out
    assert "note: no discriminator is written: pictures can be made, but finetuning needs --discriminator" in printed
    assert "no discriminator" in json.loads((tmp_path / "out" / "import.json").read_text())["notes"][0]


def parents(record):
    """Returns the records of the parents by network."""
    return {name: record["ancestors"][parent["record"]] for name, parent in record["parents"].items()}


def plain_files(g_ema, g, d):
    """Returns every way to write the same three networks without their classes: functions that write, by file name."""
    def prefixed(**networks):
        return {f"{name}.{key}": value for name, tensors in networks.items() for key, value in tensors.items()}

    sizes = {
        "conv_clamp": "4.0",
        "mbstd_group_size": "2",
        "channel_base": "256",
        "channel_max": "10",
        "G.provenance": '{"credit": "somebody"}',
    }
    said = {"conv_clamp": 4.0, "mbstd_group_size": 2, "channel_base": 256, "channel_max": 10}
    return {
        "export.safetensors": lambda path: save_file(prefixed(G=g_ema, D=d), path, metadata=sizes),
        "three.safetensors": lambda path: save_file(prefixed(G=g, G_ema=g_ema, D=d), path, metadata=sizes),
        "bare.safetensors": lambda path: save_file(g_ema, path, metadata=sizes),
        "nested.pt": lambda path: torch.save({"G_ema": g_ema, "D": d, "architecture": said}, path),
        "lower.pt": lambda path: torch.save({"g_ema": g_ema, "g": g, "D": d, "architecture": said}, path),
        "prefixed.pt": lambda path: torch.save({**prefixed(G_ema=g_ema, D=d), "architecture": said}, path),
        "legacy.pt": lambda path: torch.save(
            {"G": g_ema, "D": d, "architecture": said}, path, _use_new_zipfile_serialization=False
        ),
    }


@pytest.mark.parametrize("name", plain_files({}, {}, {}))
def test_plain_weights_are_read_in_every_arrangement(tmp_path, name, capsys):
    (g_ema, d), (g, _) = weights(0), weights(1)
    plain_files(g_ema, g, d)[name](tmp_path / name)
    if name == "lower.pt":
        g = None  # the lower-case key is rosinality's and not read here
    command.import_checkpoint(tmp_path / name, tmp_path / "out")
    G = assert_holds(tmp_path / "out" / "generator.pt", g_ema)
    assert json.loads(G.describe())["conv_clamp"] == 4.0 and json.loads(G.describe())["channel_base"] == 256
    if not name.startswith("bare"):
        D = assert_holds(tmp_path / "out" / "discriminator.pt", d)
        assert json.loads(D.describe())["mbstd_group_size"] == 2
        assert "note" not in capsys.readouterr().out
    if name.startswith("three"):
        assert_holds(tmp_path / "out" / "generator_raw.pt", g)
    if name.endswith(".safetensors"):
        assert parents(json.loads(G.get_provenance())) == {"G": {"credit": "somebody"}}


def test_a_state_dict_without_sizes_says_what_was_assumed(tmp_path, capsys):
    pair = Architecture(16, z_dim=8, w_dim=8, mapping_layers=1, channel_base=128, channel_max=8)
    g, d = weights(pair=pair)
    torch.save({"G_ema": g, "D": d}, tmp_path / "weights.pt")
    command.import_checkpoint(tmp_path / "weights.pt", tmp_path / "out")
    printed = capsys.readouterr().out
    assert (
        "note: conv_clamp is not in the file: assumed to be None\n"
        "note: mbstd_group_size is not in the file: assumed to be 4\n"
        in printed
    )


def test_another_resolution_is_made_on_request_and_said(tmp_path):
    g_ema, g, d = pickle_of(tmp_path / "file.pkl")
    done = run(tmp_path / "file.pkl", "--outdir", tmp_path / "out", "--resolution", 32)
    assert done.returncode == 0, done.stderr
    assert "32x32" in done.stdout and "note: the resolution was changed from 16 to 32\n" in done.stdout
    for name, old in (("generator.pt", g_ema), ("generator_raw.pt", g), ("discriminator.pt", d)):
        new = torch.jit.load(tmp_path / "out" / name).state_dict()
        assert torch.equal(new["b8.conv0.weight" if name[0] == "d" else "synthesis.b16.conv0.weight"],
                           old["b8.conv0.weight" if name[0] == "d" else "synthesis.b16.conv0.weight"])
    refused = run(tmp_path / "file.pkl", "--outdir", tmp_path / "other", "--resolution", 24)
    assert refused.returncode == 1 and "resolution must be a power of two" in refused.stderr


def content(name):
    """Returns the content of a file that is no checkpoint."""
    return {
        "text.txt": b"hello, world",
        "cut.safetensors": b'\xff\x00\x00\x00\x00\x00\x00\x00{"a"',
    }[name]


@pytest.mark.parametrize(
    "name, said",
    [
        ("text.txt", "of no known format"),
        ("cut.safetensors", "damaged safetensors file"),
    ],
)
def test_what_is_no_checkpoint_is_named(tmp_path, name, said):
    (tmp_path / name).write_bytes(content(name))
    with pytest.raises(CheckpointError, match=said) as caught:
        command.import_checkpoint(tmp_path / name, tmp_path / "out")
    assert str(tmp_path / name) in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("tree, said", [
    ([1, 2], "it holds a list, expected a dict of weights"),
    ({"epoch": 3, "weights": {"conv.weight": torch.ones(1)}}, "no StyleGAN2 weights were found"),
    ({"conv\x1b.weight": torch.ones(1)}, r"its tensors: conv\\x1b.weight"),
    ({"b4.out.weight": torch.ones(1, 4)}, "it holds a discriminator alone"),
    ({"G_ema": {"synthesis.input.freqs": torch.ones(2)}}, "StyleGAN3"),
    *(({"G_ema": weights()[0], "architecture": {"conv_clamp": value}}, f"its conv_clamp is {said}, expected a number")
      for value, said in (("high", "'high'"), (True, "True"), (float("nan"), "nan"), ([4.0], "a list"))),
    *(({"G_ema": weights()[0], "architecture": {"w_avg_beta": value}}, f"its w_avg_beta is {said}, expected 0 to 1")
      for value, said in (("much", "'much'"), (True, "True"), (float("nan"), "nan"), (1.5, "1.5"), (-1, "-1"), ([0.5], "a list"))),
    *(({"G_ema": weights()[0], "D": weights()[1], "architecture": {"mbstd_group_size": value}},
       f"its mbstd_group_size is {said}, expected 1 to 65536")
      for value, said in ((0, "0"), ("None", "'None'"), (None, "None"), (True, "True"), (4.7, "4.7"),
                          ("x\x1b", r"'x\\x1b'"), (10 ** 300, "10000.*"))),
], ids=lambda value: value if isinstance(value, str) else "")
def test_a_torch_file_of_something_else_is_named(tmp_path, tree, said):
    torch.save(tree, tmp_path / "file.pt")
    with pytest.raises(CheckpointError, match=said):
        command.import_checkpoint(tmp_path / "file.pt", tmp_path / "out")


def strict(text):
    """Parses JSON as other readers do: without NaN and Infinity."""
    def refuse(name):
        raise AssertionError(f"{name} is no JSON")
    return json.loads(text, parse_constant=refuse)


def test_records_are_json_whatever_the_file_says(tmp_path):
    g, d = weights()
    odd = {"lr": float("nan"), "big": 10**300, "path\x1b" * 40: [float("-inf"), (1, b"raw")]}
    write({"G_ema": network(g, "Generator", {**KWARGS[0], "odd": odd}), "D": network(d, "Discriminator", KWARGS[1])},
          tmp_path / "file.pkl")
    command.import_checkpoint(tmp_path / "file.pkl", tmp_path / "out")
    record = strict((tmp_path / "out" / "import.json").read_text())
    found = record["options"]["G_ema_kwargs"]["odd"]
    assert found["lr"] == "nan" and found["big"].startswith("1000") and len(found["big"]) < 100
    assert list(found)[2].startswith(r"path\x1bpath") and list(found.values())[2] == ["-inf", [1, "memoryview"]]
    for name in ("generator.pt", "discriminator.pt"):
        assert strict(torch.jit.load(tmp_path / "out" / name).get_provenance()) == record


def test_a_provenance_record_that_is_no_strict_json_is_spelled_out(tmp_path):
    said = {"G.provenance": '{"lr": NaN, "worse": 1e999, "half": "\\ud800"}', "conv_clamp": "4.0"}
    save_file(weights()[0], tmp_path / "bare.safetensors", metadata=said)
    command.import_checkpoint(tmp_path / "bare.safetensors", tmp_path / "out")
    text = (tmp_path / "out" / "import.json").read_text()
    assert parents(strict(text)) == {"G": {"lr": "nan", "worse": "inf", "half": "\\ud800"}}
    assert r"\ud800" not in text.replace(r"\\ud800", "")


def test_refusals_are_one_line_and_leave_nothing(tmp_path):
    for name in ("missing.pkl", "text.txt"):
        (tmp_path / "text.txt").write_bytes(b"hello, world")
        done = run(tmp_path / name, "--outdir", tmp_path / "out")
        assert done.returncode == 1 and done.stdout == ""
        assert done.stderr.count("\n") == 1 and f"cannot import '{tmp_path / name}': " in done.stderr
    assert files(tmp_path) == ["text.txt"]


def test_a_medium_sized_network_is_imported_within_its_means(tmp_path):
    """Runs scripts/checks/import_large.py, which imports 1024x1024 by default, at 128x128."""
    done = subprocess.run(
        [
            sys.executable,
            ROOT / "scripts" / "checks" / "import_large.py",
            "--resolution",
            "128",
            "--channel-base",
            "8192",
            "--channel-max",
            "256",
            "--folder",
            tmp_path,
        ],
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "import: " in done.stdout and "the same weights" in done.stdout
