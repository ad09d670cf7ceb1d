"""Tests rootgan new: random pairs, pairs from safetensors, and what it says when it cannot make one."""

import json
import os
import re
import resource
import subprocess
import sys
from pathlib import Path

from rootgan import make_pair
import pytest
import torch
from rootgan.networks.pair import LARGEST, Architecture, random_pair, save
from safetensors.torch import save_file
from rootgan.whole_files import replace_all_atomically

TINY = ["--z-dim", "8", "--w-dim", "8", "--mapping-layers", "2", "--channel-base", "256", "--channel-max", "8"]


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["make_pair.py", *map(str, arguments)])
    make_pair.main()


def load(folder):
    return (torch.jit.load(folder / name) for name in ("generator.pt", "discriminator.pt"))


def weights_file(path, metadata=(), dropped=(), changed=()):
    """Writes a random grey pair of 16x16 with 2 classes as safetensors, some sizes replaced or dropped, some tensors
    changed."""
    sizes = {"img_resolution": 16, "z_dim": 8, "c_dim": 2, "w_dim": 8, "mapping_layers": 2, "channel_base": 256,
             "channel_max": 8, "mbstd_group_size": 2}
    pair = random_pair(Architecture(**sizes, img_channels=1), seed=5)
    tensors = {f"{prefix}.{name}": value.contiguous()
               for prefix, module in zip("GD", pair) for name, value in module.state_dict().items()}
    texts = {name: str(value) for name, value in {**sizes, **dict(metadata)}.items() if name not in dropped}
    save_file({**tensors, **dict(changed)}, path, metadata=texts)
    return pair


def test_a_random_pair_fits_together_and_is_described(monkeypatch, tmp_path, capsys):
    folder = tmp_path / "new" / "pair"
    run(monkeypatch, "--resolution", 16, "--c-dim", 3, "--img-channels", 1, *TINY, "--outdir", folder)
    G, D = load(folder)
    assert D(G(torch.randn(4, 8), torch.eye(3)[:1].expand(4, 3)), torch.eye(3)[:1].expand(4, 3)).shape == (4, 1)
    assert json.loads(G.describe())["img_channels"] == 1 and json.loads(D.describe())["c_dim"] == 3
    assert json.loads(G.get_provenance())["source"] == "random initialisation"
    printed = capsys.readouterr().out
    assert f"{sum(p.numel() for p in G.parameters()):,} parameters" in printed
    assert sorted(path.name for path in folder.iterdir()) == ["discriminator.pt", "generator.pt"]


def test_the_seed_decides_the_weights(monkeypatch, tmp_path):
    for name, seed in (("a", 1), ("again", 1), ("b", 2)):
        run(monkeypatch, "--resolution", 16, *TINY, "--seed", seed, "--outdir", tmp_path / name)
    (a, _), (again, _), (b, _) = (load(tmp_path / name) for name in ("a", "again", "b"))
    assert all(torch.equal(x, y) for x, y in zip(a.parameters(), again.parameters()))
    assert not torch.equal(a.synthesis.b4.const, b.synthesis.b4.const)


def test_weights_from_safetensors_make_the_same_pictures(monkeypatch, tmp_path):
    credit = {"G.provenance": '{"credit": "somebody"}'}
    generator, discriminator = weights_file(tmp_path / "weights.safetensors", metadata=credit)
    run(monkeypatch, "--from-safetensors", tmp_path / "weights.safetensors", "--outdir", tmp_path)
    G, D = load(tmp_path)
    z, c = torch.randn(2, 8), torch.eye(2)
    images = G(z, c, noise_mode="const")
    assert torch.equal(images, generator(z, c, noise_mode="const"))
    assert torch.equal(D(images, c), discriminator(images, c))
    record = json.loads(G.get_provenance())
    assert record["source"] == "weights.safetensors" and len(record["source_sha256"]) == 64
    assert record["ancestors"] == {record["parent"]["record"]: {"credit": "somebody"}}
    assert json.loads(D.get_provenance())["parent"] == {}


@pytest.mark.parametrize("arguments, message", [
    (["--resolution", 48], "resolution must be a power of two from 16 to 1024, not 48"),
    (["--resolution", 2048], "resolution must be a power of two from 16 to 1024, not 2048"),
    (["--resolution", 8], "resolution must be a power of two from 16 to 1024, not 8"),
    (["--img-channels", 4], "image channels must be 1 or 3, not 4"),
    (["--z-dim", 0], "z_dim must be at least 1, not 0"),
    (["--z-dim", 4294967295], "z_dim must be at most 65536, not 4294967295"),
    (["--channel-base", 33554432, "--channel-max", 4], "channel_base must be at most 16777216, not 33554432"),
    (["--c-dim", -1], "c_dim must be 0 .* not -1"),
    (["--resolution", 64, "--channel-base", 32], "channel_base must be at least the resolution 64, not 32"),
    (["--conv-clamp", 0], "conv_clamp must be above 0, not 0"),
])
def test_a_size_that_cannot_be_is_refused_with_what_is_allowed(monkeypatch, tmp_path, arguments, message):
    with pytest.raises(SystemExit, match=message):
        run(monkeypatch, *arguments, "--outdir", tmp_path / "pair")
    assert not (tmp_path / "pair").exists()


def test_a_file_that_is_no_safetensors_is_named(monkeypatch, tmp_path):
    (tmp_path / "junk").write_bytes(b"this is not it")
    with pytest.raises(SystemExit, match="cannot read '.*junk': it is a damaged safetensors file, or none"):
        run(monkeypatch, "--from-safetensors", tmp_path / "junk", "--outdir", tmp_path)
    with pytest.raises(SystemExit, match="missing': there is no such file; pass a safetensors file"):
        run(monkeypatch, "--from-safetensors", tmp_path / "missing", "--outdir", tmp_path)


def test_sizes_come_from_the_shapes_and_what_these_do_not_show_is_assumed_and_said(monkeypatch, tmp_path, capsys):
    pair = weights_file(tmp_path / "weights.safetensors", metadata={"c_dim": 7}, dropped=["w_dim", "mbstd_group_size"])
    run(monkeypatch, "--from-safetensors", tmp_path / "weights.safetensors", "--outdir", tmp_path)
    said = {**json.loads(pair[1].describe()), "mbstd_group_size": 4}
    for module, expected in zip(load(tmp_path), (json.loads(pair[0].describe()), said)):
        assert json.loads(module.describe()) == expected
    assert "note: mbstd_group_size is not in the file: assumed to be 4\n" in capsys.readouterr().out


@pytest.mark.parametrize("changed, said", [
    ({"D.b8.skip.resample_filter": torch.eye(4) / 4}, "resample filters that are no outer product .b8.skip.resample_filter"),
    ({"G.synthesis.b4.const": torch.full([8, 4, 4], float("nan"))}, "128 of the 128 numbers of 'synthesis.b4.const'"),
    ({"D.b4.out.bias": torch.full([8], float("inf"))}, "8 of the 8 numbers of 'b4.out.bias' of its discriminator"),
    ({"G.synthesis.b8.conv1.bias": torch.zeros(8, dtype=torch.int64)}, "not floating point .synthesis.b8.conv1.bias int64"),
    ({"D.b16.fromrgb.weight": torch.tensor(1.0)}, r"'b16.fromrgb.weight' has shape \[\], expected 4 dimensions"),
    ({"G.mapping.fc0.weight": torch.tensor(1.0)}, r"'mapping.fc0.weight' has shape \[\], expected 2 dimensions"),
])
def test_tensors_that_an_import_refuses_are_refused(monkeypatch, tmp_path, changed, said):
    weights_file(tmp_path / "weights.safetensors", changed=changed)
    with pytest.raises(SystemExit, match=f"cannot import '.*weights.safetensors': .*{said}"):
        run(monkeypatch, "--from-safetensors", tmp_path / "weights.safetensors", "--outdir", tmp_path / "pair")
    assert not (tmp_path / "pair").exists()


def test_a_generator_alone_is_no_pair(monkeypatch, tmp_path):
    save_file(random_pair(Architecture(16, channel_base=64, channel_max=4, z_dim=4, w_dim=4), 0)[0].state_dict(), tmp_path / "g")
    with pytest.raises(SystemExit, match="/g': it has no discriminator; pass a file that has D.* too, .*rootgan import"):
        run(monkeypatch, "--from-safetensors", tmp_path / "g", "--outdir", tmp_path / "pair")


def test_networks_that_are_there_are_kept_unless_forced_and_then_all_of_them_go(monkeypatch, tmp_path):
    run(monkeypatch, "--resolution", 16, *TINY, "--outdir", tmp_path)
    before = (tmp_path / "generator.pt").read_bytes()
    for name in ("generator_raw.pt", "import.json", "export.json", "notes.txt"):
        (tmp_path / name).write_text("of another pair")
    with pytest.raises(SystemExit, match="it has import.json and .* already; pass another --out, or --force to replace"):
        run(monkeypatch, "--resolution", 16, *TINY, "--seed", 1, "--outdir", tmp_path)
    with pytest.raises(SystemExit, match="must be a power of two"):
        run(monkeypatch, "--resolution", 17, "--force", "--outdir", tmp_path)
    assert (tmp_path / "generator.pt").read_bytes() == before
    run(monkeypatch, "--resolution", 16, *TINY, "--seed", 1, "--outdir", tmp_path, "--force")
    assert (tmp_path / "generator.pt").read_bytes() != before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["discriminator.pt", "generator.pt", "notes.txt"]


def test_the_largest_sizes_are_those_that_the_program_takes():
    source = (Path(__file__).resolve().parents[2] / "src/model/contract.rs").read_text()
    ranges = {name: int(base) << int(shift) if shift else int(base)
              for name, base, shift in re.findall(r'\("(\w+)", \d+, (\d+)(?: << (\d+))?\)', source)}
    assert len(ranges) == 11
    for name, most in LARGEST.items():
        assert most == ranges.get(name.removeprefix("d_"), ranges["channel_max"]), name


def test_a_failed_save_leaves_the_old_file_and_no_scratch_file(monkeypatch, tmp_path):
    generator, _ = random_pair(Architecture(16, channel_base=256, channel_max=4, z_dim=4, w_dim=4), seed=0)
    save(generator, tmp_path / "generator.pt")
    before = (tmp_path / "generator.pt").read_bytes()

    def full(*_):
        raise OSError("disk full")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OSError, match="disk full"):
        save(generator, tmp_path / "generator.pt")
    assert (tmp_path / "generator.pt").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["generator.pt"]


def test_a_small_file_that_names_large_sizes_takes_no_memory(monkeypatch, tmp_path):
    sizes = {"img_resolution": "1024", "z_dim": "65536", "c_dim": "0", "w_dim": "65536", "mapping_layers": "8",
             "channel_base": "16777216", "channel_max": "65536", "mbstd_group_size": "4"}
    save_file({"G.mapping.fc0.bias": torch.zeros(4)}, tmp_path / "weights.safetensors", metadata=sizes)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(SystemExit, match="blocks of the resolutions"):
        run(monkeypatch, "--from-safetensors", tmp_path / "weights.safetensors", "--outdir", tmp_path / "pair")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # KiB


def test_a_pipe_is_refused_at_once_and_a_size_that_is_no_number_with_the_files_name(monkeypatch, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(SystemExit, match="pipe': it is a pipe or a device"):
        run(monkeypatch, "--from-safetensors", tmp_path / "pipe", "--outdir", tmp_path / "pair")
    weights_file(tmp_path / "weights.safetensors", metadata={"mbstd_group_size": "eight"})
    with pytest.raises(SystemExit, match="'.*weights.safetensors': its mbstd_group_size is 'eight', expected 1 to 65536"):
        run(monkeypatch, "--from-safetensors", tmp_path / "weights.safetensors", "--outdir", tmp_path / "pair")


def test_a_folder_that_gets_nothing_is_not_left(monkeypatch, tmp_path):
    def full(*_):
        raise OSError("disk full")

    monkeypatch.setattr(make_pair, "write", full)
    with pytest.raises(SystemExit, match="disk full"):
        run(monkeypatch, "--resolution", 16, *TINY, "--outdir", tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_disk_that_is_full_at_the_second_network_leaves_the_old_pair(monkeypatch, tmp_path):
    run(monkeypatch, "--resolution", 16, *TINY, "--outdir", tmp_path)
    (tmp_path / "export.json").write_text("{}")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    real, written = make_pair.write, []

    def full(content, path):
        written.append(path)
        if len(written) == 2:
            raise OSError("disk full")
        real(content, path)

    monkeypatch.setattr(make_pair, "write", full)
    with pytest.raises(SystemExit, match="disk full"):
        run(monkeypatch, "--resolution", 16, *TINY, "--seed", 1, "--outdir", tmp_path, "--force")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("name, encoding, shown", [
    ("p\u00e4rchen", "ascii", r"p\xe4rchen"), (b"\xff".decode(errors="surrogateescape"), "utf-8", r"\udcff")])
def test_a_name_that_cannot_be_printed_as_it_is_is_spelled_out(tmp_path, name, encoding, shown):
    words = ["new", "--resolution", "16", *TINY, "--out", tmp_path / name]
    done = subprocess.run([sys.executable, Path(make_pair.__file__).parent, *words], capture_output=True,
                          env={**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "1"})
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in (tmp_path / name).iterdir()) == ["discriminator.pt", "generator.pt"]
    assert f"/{shown}/generator.pt: " in done.stdout.decode()


def test_a_closed_output_is_no_error(tmp_path):
    words = " ".join(map(str, ["new", "--resolution", 16, *TINY, "--out", tmp_path / "pair"]))
    done = subprocess.run(["sh", "-c", f"exec {sys.executable} {Path(make_pair.__file__).parent} {words} >&-"], capture_output=True)
    assert done.returncode == 0 and (tmp_path / "pair" / "discriminator.pt").exists(), done.stderr


@pytest.mark.parametrize("command", ["new", "import", "export", "detector"])
def test_a_working_directory_that_is_gone_is_told(tmp_path, command):
    gone = tmp_path / "gone"
    gone.mkdir()
    line = f"cd {gone} && rmdir {gone} && exec {sys.executable} {Path(make_pair.__file__).parent} {command} --help"
    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.strip().splitlines()[-1].startswith("error: cannot work in this folder")


def test_files_that_belong_together_are_replaced_together(monkeypatch, tmp_path):
    paths = [tmp_path / "a", tmp_path / "b"]
    replace_all_atomically({path: b"old" for path in paths})
    sync, calls = os.fsync, []

    def full(descriptor):
        calls.append(descriptor)
        if len(calls) == 2:
            raise OSError("disk full")
        sync(descriptor)

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="disk full"):
        replace_all_atomically({path: b"new" for path in paths})
    assert [path.read_bytes() for path in paths] == [b"old", b"old"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]
