"""A grown generator draws the same pictures, and its new weights can learn."""

import json
import sys

import pytest
import torch

import grow_generator
from rootgan import export_checkpoint, import_checkpoint
from rootgan.checkpoints.ancestry import flattened
from rootgan.checkpoints.torchscript import Network
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
    grow_generator.main()
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


def test_a_rate_that_is_not_the_usual_goes_through_every_format(small, tmp_path, monkeypatch, capsys):
    fast = grow(monkeypatch, small, tmp_path / "fast.pt", "--mapping-rate", "0.1")
    assert json.loads(fast.describe())["mapping_rate"] == 0.1
    for kind in ("state-dict", "safetensors"):
        export(monkeypatch, tmp_path / "fast.pt", kind, tmp_path / kind)
        assert "learning rate of 0.1 (NVIDIA's lr_multiplier), not the usual 0.01" in capsys.readouterr().out
    for name in ("state-dict", "safetensors", "fast.pt"):
        import_checkpoint.import_checkpoint(tmp_path / name, tmp_path / f"again-{name}")
        again = torch.jit.load(str(tmp_path / f"again-{name}" / "generator.pt")).eval()
        assert torch.equal(images(again), images(fast)) and json.loads(again.describe())["mapping_rate"] == 0.1
    with pytest.raises(SystemExit, match="mapping_rate is 0.1, that layout has only 0.01|z_dim"):
        export(monkeypatch, tmp_path / "fast.pt", "rosinality", tmp_path / "r.pt")


def test_a_rate_that_only_the_provenance_says_counts(small, tmp_path, monkeypatch):
    """Generators of the time before the description had it."""
    fast = grow(monkeypatch, small, tmp_path / "fast.pt", "--mapping-rate", "0.1")
    module = Network(tmp_path / "fast.pt", "generator").module(Architecture.described(json.loads(fast.describe())))
    said = json.loads(module.description)
    del said["mapping_rate"]
    module.description = json.dumps(said)
    module.provenance = json.dumps(flattened({"dataset": "pictures", "parents": {"generator": json.loads(fast.get_provenance())}}))
    save(module, tmp_path / "trained.pt")
    assert Network(tmp_path / "trained.pt", "generator").said["mapping_rate"] == 0.1
    slow = grow(monkeypatch, tmp_path / "trained.pt", tmp_path / "slow.pt")
    torch.testing.assert_close(images(slow), images(fast), rtol=1e-4, atol=1e-4)
    assert Network(tmp_path / "slow.pt", "generator").said.get("mapping_rate", 0.01) == 0.01


def export(monkeypatch, source, kind, out):
    monkeypatch.setattr(sys, "argv", ["export_checkpoint.py", "--generator", str(source), "--format", kind, "--out", str(out)])
    export_checkpoint.main()


def refused(monkeypatch, source, out, *options):
    monkeypatch.setattr(sys, "argv", ["grow_generator.py", str(source), str(out), *options])
    with pytest.raises(SystemExit) as caught:
        grow_generator.main()
    assert "\n" not in str(caught.value) and not out.exists()
    return str(caught.value)


@pytest.mark.parametrize("options, said", [
    (["--channel-base", "64"], "channel_base cannot shrink from 128 to 64"), (["--mapping-layers", "0"], "shrink from 2 to 0"),
    (["--mapping-rate", "0"], "mapping_rate must be 1e-06 to 1, not 0"), (["--mapping-rate", "nan"], "mapping_rate must be"),
    (["--mapping-layers", "65"], "mapping_layers must be at most 64"), (["--channel-max", "100000"], "must be at most 65536")])
def test_sizes_that_cannot_be_are_refused(small, tmp_path, monkeypatch, options, said):
    assert f"cannot grow '{small}': " in refused(monkeypatch, small, tmp_path / "o.pt", *options)
    assert said in refused(monkeypatch, small, tmp_path / "o.pt", *options)


def test_what_is_no_generator_is_refused_and_an_old_description_is_read(small, tmp_path, monkeypatch):
    (tmp_path / "text.pt").write_text("hello")
    torch.jit.script(torch.nn.Linear(3, 4)).save(str(tmp_path / "other.pt"))
    for name, said in (("none.pt", "there is no such file"), ("text.pt", "no TorchScript file"), ("other.pt", "not describe")):
        assert f"cannot grow '{tmp_path / name}': " in refused(monkeypatch, tmp_path / name, tmp_path / "o.pt")
        assert said in refused(monkeypatch, tmp_path / name, tmp_path / "o.pt")
    module = Network(small, "generator").module(Architecture.described(Network(small, "generator").said))
    said = json.loads(module.description)
    del said["g_architecture"]
    module.description = json.dumps(said)
    save(module, tmp_path / "old.pt")
    grow(monkeypatch, tmp_path / "old.pt", tmp_path / "larger.pt", "--channel-base", "256")
