"""Tests rootgan export: every format is read back bit for bit, and what cannot be exported is refused."""

import functools
import hashlib
import json
import os
import sys
import tempfile
from pathlib import Path

from rootgan import export_checkpoint
import numpy
import pytest
import torch
from rootgan.checkpoints import detect, onnx_export, safe_pickle
from rootgan.make_pair import from_safetensors
from rootgan.networks.pair import Architecture, random_pair, save
from safetensors.torch import load_file

GOLDEN_DIR = Path(os.environ.get("GOLDEN_DIR", Path(__file__).resolve().parents[1] / "golden"))
TINY = {"z_dim": 8, "w_dim": 8, "mapping_layers": 2, "channel_base": 256, "channel_max": 6}


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["export_checkpoint.py", *map(str, arguments)])
    export_checkpoint.main()


def shaken(seed, **sizes):
    """Makes a random pair of 16x16 whose biases, noise strengths and w_avg are not zero, as they are at the start."""
    pair = random_pair(Architecture(16, **{**TINY, **sizes}), seed)
    for module in pair:
        for name, parameter in module.named_parameters():
            if name.endswith((".bias", ".noise_strength", "w_avg")):
                parameter.data.copy_(torch.randn(parameter.shape))
    return pair


def as_bytes(module):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "module.pt"
        save(module, path)
        return path.read_bytes()


@functools.cache
def networks(sizes):
    """Makes a pair and a raw generator with the same w_avg, each as a module and as the bytes of a TorchScript file."""
    (G_ema, D), (G, _) = shaken(1, **dict(sizes)), shaken(2, **dict(sizes))
    G.mapping.w_avg.data.copy_(G_ema.mapping.w_avg)
    return {name: (module, as_bytes(module)) for name, module in (("G_ema", G_ema), ("G", G), ("D", D))}


class Files:
    """Networks as TorchScript files: those of `networks`, or a given pair."""

    def __init__(self, folder, pair=None, **sizes):
        self.folder, self.arguments, self.contents = folder, [], {}
        found = networks(tuple(sizes.items())) if pair is None else {
            name: (module, as_bytes(module)) for name, module in zip(("G_ema", "D"), pair)}
        for flag, name in (("--generator", "G_ema"), ("--generator-raw", "G"), ("--discriminator", "D")):
            module, self.contents[name] = found.get(name, (None, b""))
            setattr(self, name, module)
            if module is not None:
                (folder / f"{name}.pt").write_bytes(self.contents[name])
                self.arguments += [flag, folder / f"{name}.pt"]


def assert_same(found, module):
    expected = module.state_dict()
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].shape == value.shape and torch.equal(found[name], value), name


def golden_pair(name):
    return from_safetensors(GOLDEN_DIR / f"{name}.safetensors")


def test_a_pair_goes_to_rosinality_and_back(monkeypatch, tmp_path, capsys):
    files = Files(tmp_path)
    run(monkeypatch, *files.arguments, "--format", "rosinality", "--out", tmp_path / "new" / "out.pt")
    found = detect.read(tmp_path / "new" / "out.pt")
    assert_same(found.g_ema, files.G_ema)
    assert_same(found.g, files.G)
    assert_same(found.d, files.D)
    assert found.notes == [] and found.format == "rosinality"
    printed = capsys.readouterr().out
    assert "size 16, style_dim 8, n_mlp 2" in printed and "'g' is the averaged" not in printed
    assert set(torch.load(tmp_path / "new" / "out.pt", weights_only=True)) == {"g_ema", "g", "d", "latent_avg", "g_optim",
                                                                                 "d_optim"}


@pytest.mark.parametrize("sizes", [{}, {"c_dim": 3, "conv_clamp": 256.0, "img_channels": 1, "mbstd_group_size": 2},
                                   {"g_architecture": "resnet", "d_architecture": "skip"},
                                   {"g_architecture": "orig", "d_architecture": "orig", "d_mapping_layers": 3,
                                    "c_dim": 2},
                                   {"conv_clamp": 256.0, "d_conv_clamp": 0.0}, {"d_conv_clamp": 4.0},
                                   {"d_channel_base": 512, "d_channel_max": 100}, {"w_avg_beta": 0.998},
                                   {"w_avg_beta": 0.0, "c_dim": 2}, {"mapping_rate": 0.1},
                                   {"mapping_rate": 1.0, "c_dim": 2}], ids=str)
@pytest.mark.parametrize("kind", ["state-dict", "safetensors"])
def test_nvidias_names_hold_every_architecture(kind, sizes, monkeypatch, tmp_path):
    files, out = Files(tmp_path, **sizes), tmp_path / "out.weights"
    run(monkeypatch, *files.arguments, "--format", kind, "--out", out)
    found = detect.read(out)
    assert_same(found.g_ema, files.G_ema)
    assert_same(found.d, files.D)
    if kind == "state-dict":
        assert_same(found.g, files.G)
    for name, value in {**TINY, **sizes}.items():
        if name not in ("channel_base", "channel_max"):
            assert getattr(found.architecture, name) == value, name
    # Not only the numbers, but also how they act, which no tensor shows.
    G, z = found.architecture.generator().eval(), torch.randn(3, 8)
    G.load_state_dict(found.g_ema)
    assert torch.equal(G.mapping(z, torch.eye(3)[:, :G.c_dim]), files.G_ema.mapping(z, torch.eye(3)[:, :G.c_dim]))
    if kind == "safetensors":
        for made, module in zip(from_safetensors(out), (files.G_ema, files.D)):
            assert made.describe() == module.describe()


@pytest.mark.parametrize("name", ["net_uncond_r32", "net_cond_r16_clamp"])
def test_the_golden_networks_keep_exactly_the_names_in_circulation(name, monkeypatch, tmp_path):
    files = Files(tmp_path, golden_pair(name))
    run(monkeypatch, *files.arguments, "--format", "state-dict", "--out", tmp_path / "out.pt")
    found, stored = safe_pickle.load_torch(tmp_path / "out.pt"), load_file(GOLDEN_DIR / f"{name}.safetensors")
    for network, prefix in (("G_ema", "G."), ("D", "D.")):
        expected = {key.removeprefix(prefix): value for key, value in stored.items() if key.startswith(prefix)}
        assert found[network].keys() == expected.keys()
        assert all(torch.equal(found[network][key], value) for key, value in expected.items())


def test_safetensors_make_the_same_pair_again_with_its_origin(monkeypatch, tmp_path):
    files, out = Files(tmp_path, d_architecture="skip"), tmp_path / "weights.safetensors"
    run(monkeypatch, *files.arguments, "--format", "safetensors", "--out", out)
    G, D = from_safetensors(out)
    assert_same(G.state_dict(), files.G_ema)
    assert_same(D.state_dict(), files.D)
    record = json.loads(G.get_provenance())
    assert record["ancestors"][record["parent"]["record"]]["seed"] == 1
    record = json.loads((tmp_path / "weights.json").read_text())
    assert record["sha256"] == hashlib.sha256(out.read_bytes()).hexdigest()


def test_onnx_files_make_the_same_pictures_at_any_batch(monkeypatch, tmp_path, capsys):
    onnxruntime = pytest.importorskip("onnxruntime")
    files = Files(tmp_path, golden_pair("net_uncond_r32"))
    run(monkeypatch, *files.arguments, "--format", "onnx", "--out", tmp_path / "onnx")
    mapping, synthesis = (onnxruntime.InferenceSession(str(tmp_path / "onnx" / name)) for name in onnx_export.FILES)
    assert [value.name for value in mapping.get_inputs()] == ["z", "psi"]
    io = load_file(GOLDEN_DIR / "net_uncond_r32.safetensors")
    (w,) = mapping.run(None, {"z": io["io.z"].numpy(), "psi": numpy.array(0.7, numpy.float32)})
    torch.testing.assert_close(torch.from_numpy(w), io["io.ws_psi0.7"], rtol=0, atol=2e-5)
    for n in (1, len(io["io.ws"])):
        (img,) = synthesis.run(None, {"w": io["io.ws"][:n].numpy()})
        torch.testing.assert_close(torch.from_numpy(img), io["io.img_const"][:n], rtol=0, atol=2e-5)
    printed = capsys.readouterr().out
    assert "onnxruntime agrees" in printed and "only the averaged generator is in it" in printed
    content = b"".join((tmp_path / "onnx" / name).read_bytes() for name in onnx_export.FILES)
    assert str(Path.cwd()).encode() not in content and b".py" not in content, "where it was made is nobody's business"
    # The comparison can fail: another generator's module does not pass it.
    other = torch.jit.script(random_pair(Architecture(32, z_dim=32, w_dim=32, mapping_layers=2, channel_base=512,
                                                      channel_max=32), 5)[0].eval())
    parts = [tmp_path / "onnx" / name for name in onnx_export.FILES]
    with pytest.raises(ValueError, match="w at psi 1.0 of batch 1 differs from the TorchScript module by .* nothing"):
        onnx_export.compare(*parts, other, 32, "generator.pt")


@pytest.mark.parametrize("sizes, kind, message", [
    ({"c_dim": 2}, "rosinality", r"to rosinality's layout: c_dim \(labels\) is 2"),
    ({"img_channels": 1}, "rosinality", "img_channels is 1"),
    ({"conv_clamp": 256.0}, "rosinality", "conv_clamp is 256.0"),
    ({"d_conv_clamp": 256.0}, "rosinality", "conv_clamp of D is 256.0"),
    ({"g_architecture": "orig"}, "rosinality", "g_architecture is orig"),
    ({"d_architecture": "skip"}, "rosinality", "d_architecture is skip"),
    ({"c_dim": 2}, "onnx", r"to ONNX: c_dim is 2 \(labels\), g_mapping.onnx takes only z and psi"),
])
def test_what_a_format_cannot_hold_is_refused_by_name(sizes, kind, message, monkeypatch, tmp_path):
    files = Files(tmp_path, **sizes)
    with pytest.raises(SystemExit, match=f"cannot export '.*G_ema.pt' {message}|{message}.*use another format"):
        run(monkeypatch, *files.arguments, "--format", kind, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_networks_that_do_not_belong_together_are_named_with_both_values(monkeypatch, tmp_path):
    files = Files(tmp_path)
    (tmp_path / "other").mkdir()
    other = Files(tmp_path / "other", img_channels=1)
    with pytest.raises(SystemExit, match="G_ema.pt' with '.*other/D.pt': img_channels is 3 in the first and 1 in the"):
        run(monkeypatch, *files.arguments[:2], "--discriminator", other.folder / "D.pt", "--format", "state-dict",
            "--out", tmp_path / "out.pt")
    with pytest.raises(SystemExit, match="D.pt': it is a discriminator of contract 1, expected a generator"):
        run(monkeypatch, "--generator", tmp_path / "D.pt", "--format", "state-dict", "--out", tmp_path / "out.pt")


@pytest.mark.parametrize("first, second", [("G_ema", "G"), ("G", "G_ema")])
def test_what_only_one_of_two_generators_says_is_compared_too(first, second, monkeypatch, tmp_path):
    files = Files(tmp_path)
    (tmp_path / f"{first}.pt").write_bytes(as_bytes(shaken(3, w_avg_beta=0.9)[0]))
    with pytest.raises(SystemExit, match="w_avg_beta is (0.9|None) in the first and (0.9|None) in the second"):
        run(monkeypatch, *files.arguments[:4], "--format", "state-dict", "--out", tmp_path / "out.pt")


def z_only(folder):
    torch.jit.script(torch.nn.Linear(3, 4)).save(str(folder / "z.pt"))
    return ["--generator", folder / "z.pt"]


@pytest.mark.parametrize("arguments, message", [
    (lambda folder: ["--generator", GOLDEN_DIR / "rosinality_like_r32.pt"], "no TorchScript file, .*rootgan import"),
    (lambda folder: ["--generator", folder / "missing.pt"], "missing.pt': there is no such file; pass a "),
    (z_only, "z.pt': it does not describe itself"),
])
def test_a_source_that_is_none_is_refused_with_the_remedy(arguments, message, monkeypatch, tmp_path):
    with pytest.raises(SystemExit, match=f"cannot export.*{message}"):
        run(monkeypatch, *arguments(tmp_path), "--format", "state-dict", "--out", tmp_path / "out.pt")


def test_files_that_are_there_are_kept_unless_forced(monkeypatch, tmp_path):
    files, out = Files(tmp_path), tmp_path / "out.pt"
    out.write_text("precious")
    with pytest.raises(SystemExit, match="it is there already; pass another --out, or --force"):
        run(monkeypatch, *files.arguments, "--format", "state-dict", "--out", out)
    with pytest.raises(SystemExit, match="what is there is no earlier export, and would be lost"):
        run(monkeypatch, *files.arguments, "--format", "state-dict", "--out", out, "--force")
    assert out.read_text() == "precious"
    out.unlink()
    for more in ((), ("--force",)):
        run(monkeypatch, *files.arguments, "--format", "state-dict", "--out", out, *more)
    assert_same(detect.read(out).g_ema, files.G_ema)


def test_a_generator_alone_is_exported_and_the_lack_is_said(monkeypatch, tmp_path, capsys):
    files = Files(tmp_path)
    run(monkeypatch, *files.arguments[:2], "--format", "rosinality", "--out", tmp_path / "out.pt")
    printed = capsys.readouterr().out
    assert "there is no 'd'" in printed and "'g' is the averaged generator too" in printed
    found = detect.read(tmp_path / "out.pt")
    assert_same(found.g_ema, files.G_ema)
    assert found.g is None and found.d is None
