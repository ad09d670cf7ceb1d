"""A grown generator draws the same pictures, and its new weights can learn."""

import json
import sys

import pytest
import torch

import grow_generator
from rootgan.networks.pair import Architecture, save


@pytest.fixture
def small(tmp_path):
    """A small generator whose w_avg and biases are not zero, as those of a trained one."""
    torch.manual_seed(3)
    g = Architecture(16, z_dim=6, w_dim=8, mapping_layers=2, channel_base=128, channel_max=12).generator("{}")
    with torch.no_grad():
        for name, weight in g.named_parameters():
            if name.endswith(("bias", "noise_strength", "w_avg")):
                weight.add_(torch.randn_like(weight) * (30 if "mapping.fc" in name else 0.3))
    save(g, tmp_path / "g.pt")
    return tmp_path / "g.pt"


def grow(monkeypatch, source, out, *options):
    monkeypatch.setattr(sys, "argv", ["grow_generator.py", str(source), str(out), *options])
    assert grow_generator.main() == 0
    return torch.jit.load(str(out)).eval()


def images(g, psi=1.0):
    z = torch.randn(8, 6, generator=torch.Generator().manual_seed(1))
    return g(z, truncation_psi=psi, noise_mode="const")


GROWTHS = [("--channel-base", "256"), ("--channel-base", "512", "--channel-max", "40"), ("--mapping-layers", "5"),
           ("--mapping-rate", "1"), ("--channel-base", "256", "--mapping-layers", "3", "--mapping-rate", "0.1")]


@pytest.mark.parametrize("options", GROWTHS)
def test_the_pictures_stay(small, tmp_path, monkeypatch, options):
    before = torch.jit.load(str(small)).eval()
    after = grow(monkeypatch, small, tmp_path / "larger.pt", *options)
    for psi in (1.0, 0.4):
        torch.testing.assert_close(images(after, psi), images(before, psi), rtol=1e-4, atol=1e-4)
    record = json.loads(after.get_provenance())
    assert record["source"] == "g.pt" and "grown" in record


def test_new_weights_learn(small, tmp_path, monkeypatch):
    g = grow(monkeypatch, small, tmp_path / "larger.pt", "--channel-base", "256", "--mapping-layers", "3")
    optimizer = torch.optim.Adam(g.parameters(), 0.01)
    start = {name: weight.clone() for name, weight in g.named_parameters()}
    for _ in range(2):  # zeros leave the weights before them without a gradient in the first step
        optimizer.zero_grad()
        images(g).square().mean().backward()
        optimizer.step()
    for name, rows in (("synthesis.b16.conv0.weight", 8), ("synthesis.b16.conv1.weight", 8), ("synthesis.b16.torgb.affine.weight", 8)):
        moved = (dict(g.named_parameters())[name] != start[name]).flatten(1).any(1)
        assert moved[rows:].all(), name
    moved = (dict(g.named_parameters())["synthesis.b4.conv1.affine.weight"] != start["synthesis.b4.conv1.affine.weight"])
    assert moved[:, 8:].any(0).all()  # the second half of w is used
    assert (dict(g.named_parameters())["mapping.fc2.weight"] != start["mapping.fc2.weight"]).any(1).all()


def test_the_rate_of_the_mapping_network_goes_back(small, tmp_path, monkeypatch):
    fast = grow(monkeypatch, small, tmp_path / "fast.pt", "--mapping-rate", "0.1")
    slow = grow(monkeypatch, tmp_path / "fast.pt", tmp_path / "slow.pt")
    assert fast.mapping.fc0.bias_gain == 0.1 and slow.mapping.fc0.bias_gain == 0.01
    for name, weight in torch.jit.load(str(small)).state_dict().items():
        torch.testing.assert_close(slow.state_dict()[name], weight)


def test_it_does_not_shrink(small, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["grow_generator.py", str(small), str(tmp_path / "o.pt"), "--channel-base", "64"])
    assert grow_generator.main() == 1
    assert "channel_base cannot shrink from 128 to 64" in capsys.readouterr().err
