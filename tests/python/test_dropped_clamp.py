"""Tests rootgan export --drop-clamp: what it says of a clamp is what the networks with it and without it do."""

import re

import pytest
import torch
from rootgan.checkpoints import detect, dropped_clamp
from rootgan.checkpoints.checkpoint import Checkpoint
from rootgan.networks.pair import Architecture, fill
from test_export_checkpoint import TINY, Files, assert_same, run, shaken


def export(monkeypatch, files, *more):
    run(monkeypatch, *files.arguments, "--format", "rosinality", "--out", files.folder / "out.pt", *more)


def test_a_clamp_that_never_acts_is_dropped_without_a_change(monkeypatch, tmp_path, capsys):
    files = Files(tmp_path, conv_clamp=256.0)
    with pytest.raises(SystemExit, match="conv_clamp is 256.0, that layout has only None; pass --drop-clamp to measure what it "
                       "does and leave it out, or use another format"):
        export(monkeypatch, files)
    export(monkeypatch, files, "--drop-clamp", "--images", 10)
    assert "note: the clamp of 256 never acted on 10 pictures: nothing changes" in capsys.readouterr().out
    found = detect.read(tmp_path / "out.pt")
    assert_same(found.g_ema, files.G_ema)
    assert_same(found.g, files.G)
    assert_same(found.d, files.D)
    assert found.architecture.conv_clamp is None and found.architecture.clamp_of_d is None


@pytest.mark.parametrize("sizes, said", [
    ({"conv_clamp": 0.1}, r"the clamp of 0.1 acted on 6 of 6 pictures; the largest value was [0-9.]+: there, the results of"),
    ({"conv_clamp": 0.1, "d_conv_clamp": 0.0}, "the clamp of 0.1 in G acted on 6 of 6 pictures"),
    ({"d_conv_clamp": 1e9}, r"the clamp of 1e\+09 in D never acted on 6 pictures"),
    ({"conv_clamp": 1e9, "d_conv_clamp": 0.1}, r"the clamp of 1e\+09 in G never acted.*\n.*clamp of 0.1 in D acted on 6 of 6"),
    ({}, "there is no clamp to leave out"),
], ids=str)
def test_what_every_clamp_does_is_said(sizes, said, monkeypatch, tmp_path, capsys):
    export(monkeypatch, Files(tmp_path, **sizes), "--drop-clamp", "--images", 6)
    assert re.search(said, capsys.readouterr().out)
    assert detect.read(tmp_path / "out.pt").architecture.conv_clamp is None


def results(checkpoint, pair, images):
    """Pictures and logits of the networks with the clamp in `pair`, of the same noise as the measurement takes."""
    G, D = pair.generator().eval(), pair.discriminator().eval()
    fill(G, checkpoint.g_ema, "G")
    fill(D, checkpoint.d, "D")
    generator, found = torch.Generator().manual_seed(dropped_clamp.SEED), []
    with torch.no_grad():
        for start in range(0, images, dropped_clamp.BATCH):
            n = min(dropped_clamp.BATCH, images - start)
            z = torch.randn(n, G.z_dim, generator=generator)
            noise = torch.randn(n, G.synthesis.noise_numel, generator=generator)
            pictures = G.synthesis(G.mapping(z), "random", noise)
            found.append((pictures, D(pictures)))
    return [torch.cat(values) for values in zip(*found)]


def test_the_pictures_that_differ_are_those_that_are_counted():
    """Without D a picture depends on no other, so that the counted ones are exactly those with another result."""
    images, pair = 30, Architecture(16, **TINY)
    G, D = shaken(1)
    checkpoint = Checkpoint("random", pair, dict(G.state_dict()), None, dict(D.state_dict()))
    free = results(checkpoint, pair, images)[0]
    for clamp in (3.0, 4.0, 5.0, 8.0, 1000.0):
        clamped = Architecture(16, **TINY, conv_clamp=clamp)
        differ = (results(checkpoint, clamped, images)[0] != free).flatten(1).any(dim=1)
        networks = {"G": dropped_clamp.watched(Checkpoint("x", clamped, checkpoint.g_ema), "G", "x")}
        dropped_clamp.run(networks, images)
        over = networks["G"].largest > clamp
        assert torch.equal(over | differ, over), "a picture that differs is counted"
        assert int(over.sum()) - int(differ.sum()) <= images // 10, "and few that do not: a later layer may hide it"
    assert not over.any() and not differ.any()


@pytest.mark.parametrize("kind", ["G", "D"])
def test_every_layer_that_clamps_is_watched(kind):
    for sizes in ({}, {"g_architecture": "resnet", "d_architecture": "skip"}):
        pair = Architecture(16, **TINY, conv_clamp=4.0, **sizes)
        G, D = pair.generator(), pair.discriminator()
        found = dropped_clamp.watched(Checkpoint("x", pair, dict(G.state_dict()), None, dict(D.state_dict())), kind, "x")
        hooked = {name for name, layer in found.module.named_modules() if layer._forward_hooks}
        assert hooked == {name for name, layer in (G if kind == "G" else D).named_modules()
                          if getattr(layer, "clamp", None) is not None}
        assert len(hooked) >= 5 and all(getattr(layer, "clamp", None) is None for layer in found.module.modules())


def test_what_the_layout_cannot_hold_is_refused_before_pictures_are_made(monkeypatch, tmp_path):
    files = Files(tmp_path, conv_clamp=4.0, g_architecture="resnet")
    monkeypatch.setattr(dropped_clamp, "run", lambda *_: pytest.fail("pictures are made"))
    with pytest.raises(SystemExit, match="g_architecture is resnet"):
        export(monkeypatch, files, "--drop-clamp")
    with pytest.raises(SystemExit, match="with --drop-clamp as onnx: the option belongs to --format rosinality; leave it out"):
        run(monkeypatch, *files.arguments, "--format", "onnx", "--out", tmp_path / "out", "--drop-clamp")
    (tmp_path / "other").mkdir()
    with pytest.raises(SystemExit, match="cannot measure the clamp on 0 pictures; pass --images 1 or more"):
        export(monkeypatch, Files(tmp_path / "other", conv_clamp=4.0), "--drop-clamp", "--images", 0)
