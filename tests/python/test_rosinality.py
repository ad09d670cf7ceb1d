"""Tests checkpoints/rosinality.py: golden numbers, names in both directions, and what a file may lack."""

import argparse
import os
from pathlib import Path

import pytest
import torch
from rootgan.checkpoints import rosinality, safe_pickle
from rootgan.checkpoints.checkpoint import CheckpointError
from rootgan.checkpoints.rosinality_names import discriminator_table, generator_table
from rootgan.networks.pair import Architecture, fill, random_pair
from safetensors.torch import load_file

GOLDEN_DIR = Path(os.environ.get("GOLDEN_DIR", Path(__file__).resolve().parents[1] / "golden"))
FILE = GOLDEN_DIR / "rosinality_like_r32.pt"
RELATIVE = 1e-4


def tree():
    return safe_pickle.load_torch(FILE)


def read(content, folder):
    """Saves `content` to a file and reads that."""
    path = folder / "checkpoint.pt"
    torch.save(content, path)
    return rosinality.read(safe_pickle.load_torch(path), path)


def networks(checkpoint):
    G, D = checkpoint.architecture.generator().eval(), checkpoint.architecture.discriminator().eval()
    fill(G, checkpoint.g_ema, "G_ema")
    if checkpoint.d is not None:
        fill(D, checkpoint.d, "D")
    return G, D


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].shape == value.shape and torch.equal(found[name], value), name


def test_w_images_and_logits_agree_with_golden():
    io, checkpoint = load_file(GOLDEN_DIR / "rosinality_like_r32_io.safetensors"), rosinality.read(tree(), FILE)
    G, D = networks(checkpoint)
    with torch.no_grad():
        for name, found in (("w", G.mapping(io["z"])[:, 0]), ("latent_avg", G.mapping.w_avg),
                            ("img_fixed_noise", G(io["z"], noise_mode="const")),
                            ("img_fixed_noise_psi0.7", G(io["z"], truncation_psi=0.7, noise_mode="const")),
                            ("d_logits_x", D(io["x"]))):
            difference, largest = (found - io[name]).abs().max().item(), io[name].abs().max().item()
            assert difference <= RELATIVE * largest, f"{name}: off by {difference} where the largest entry is {largest}"
    assert checkpoint.notes == [] and checkpoint.options == {"ada_aug_p": 0.1} and checkpoint.g is None


def test_writing_gives_the_same_tensors_under_the_same_names(tmp_path):
    remarks = rosinality.write(rosinality.read(tree(), FILE), tmp_path / "again.pt")
    before, after = tree(), safe_pickle.load_torch(tmp_path / "again.pt")
    for name in ("g_ema", "g", "d"):
        assert_same(after[name], before[name])
    assert torch.equal(after["latent_avg"], before["latent_avg"])
    assert set(after) == {"g_ema", "g", "d", "latent_avg", "g_optim", "d_optim"}
    assert "no setting for these channels" in remarks[0] and "size 32, style_dim 24, n_mlp 3" in remarks[0]


@pytest.mark.parametrize("layers", [1, 20, 21, 64])
def test_as_many_mapping_layers_as_there_can_be_come_back(layers, tmp_path):
    architecture = Architecture(16, z_dim=4, w_dim=4, mapping_layers=layers, channel_base=64, channel_max=4)
    G, D = random_pair(architecture, 1)
    made = rosinality.Checkpoint("random", architecture, G.state_dict(), None, D.state_dict())
    rosinality.write(made, tmp_path / "file.pt")
    found = rosinality.read(safe_pickle.load_torch(tmp_path / "file.pt"), tmp_path / "file.pt")
    assert found.architecture.mapping_layers == layers
    assert_same(found.g_ema, made.g_ema)


@pytest.mark.parametrize("resolution", [16, 64, 128])
def test_a_random_pair_comes_back_bit_for_bit(resolution, tmp_path):
    architecture = Architecture(resolution, z_dim=7, w_dim=7, mapping_layers=2, channel_base=512, channel_max=9)
    (G, D), (raw, _) = (random_pair(architecture, seed) for seed in (1, 2))
    torch.nn.init.normal_(G.mapping.w_avg)
    raw.mapping.w_avg.data.copy_(G.mapping.w_avg)
    made = rosinality.Checkpoint("random", architecture, G.state_dict(), raw.state_dict(), D.state_dict())
    path = tmp_path / "file.pt"
    rosinality.write(made, path)
    found = rosinality.read(safe_pickle.load_torch(path), path)
    for name in ("g_ema", "g", "d"):
        assert_same(getattr(found, name), getattr(made, name))
    assert found.notes == []


@pytest.mark.parametrize("resolution", [16, 64])
def test_its_optimizers_are_those_of_a_training_that_begins(resolution, tmp_path):
    architecture = Architecture(resolution, z_dim=6, w_dim=6, mapping_layers=3, channel_base=256, channel_max=5)
    G, D = random_pair(architecture, 0)
    remarks = rosinality.write(rosinality.Checkpoint("random", architecture, G.state_dict(), None, D.state_dict()),
                               tmp_path / "file.pt")
    content = torch.load(tmp_path / "file.pt", weights_only=True)  # as torch loads it unless it is told otherwise
    for name, ours, interval in (("g", G, 4), ("d", D, 16)):
        # Its trained parameters, which are as many as ours: noises, filters and the mean of w are buffers there.
        parameters = [torch.nn.Parameter(value.clone()) for key, value in content[name].items()
                      if not key.startswith("noises.") and not key.endswith(".kernel")]
        assert len(parameters) == sum(parameter.requires_grad for parameter in ours.parameters())
        optimizer = torch.optim.Adam(parameters, lr=1.0)
        optimizer.load_state_dict(content[f"{name}_optim"])
        (group,) = optimizer.param_groups
        share = interval / (interval + 1)
        assert group["lr"] == pytest.approx(0.002 * share) and group["betas"] == pytest.approx((0, 0.99**share))
        before = [parameter.detach().clone() for parameter in parameters]
        sum(parameter.sum() for parameter in parameters).backward()
        optimizer.step()
        assert all(torch.allclose(old - new, torch.full_like(new, group["lr"]), rtol=1e-2, atol=1e-6)
                   for old, new in zip(before, parameters)), "Adam's first step is the rate"
        with pytest.raises(ValueError, match="doesn't match the size"):
            torch.optim.Adam(parameters[1:]).load_state_dict(content[f"{name}_optim"])
    assert any("its optimizers have not stepped yet" in remark for remark in remarks)


def test_without_a_discriminator_there_is_no_optimizer_of_it():
    checkpoint = rosinality.read(tree(), FILE)
    checkpoint.d = None
    assert set(rosinality.content(checkpoint, "x")) == {"g_ema", "g", "latent_avg", "g_optim"}


def test_both_tables_are_one_to_one():
    for table in (generator_table(1024, 8), discriminator_table(1024)):
        assert len({entry.name for entry in table.values()}) == len(table)


@pytest.mark.parametrize("multiplier, base", [(1, 16384), (2, 32768)])
def test_the_channel_multiplier_is_told(multiplier, base):
    said = rosinality.constructor(Architecture(256, channel_base=base))
    assert said.endswith(f"size 256, style_dim 512, n_mlp 8, channel_multiplier {multiplier}")


def test_a_training_checkpoint_without_mean_gets_an_estimate_that_is_said(tmp_path):
    content = tree()
    stored = content.pop("latent_avg")
    content["args"] = argparse.Namespace(size=32, path="somewhere/private", lr=0.002, r1=10, ckpt=None)
    content["g_optim"] = {"state": {}, "param_groups": []}
    found = read(content, tmp_path)
    assert "estimated from 10,000 mappings" in found.notes[0]
    G, _ = networks(found)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        expected = G.mapping(torch.randn(20_000, 24, generator=generator))[:, 0].mean(dim=0)
    spread = 5 / 10_000**0.5  # five standard errors of a w of about unit size
    assert (found.g_ema["mapping.w_avg"] - expected).abs().max() < spread and stored.shape == expected.shape
    assert torch.equal(read(content, tmp_path).g_ema["mapping.w_avg"], found.g_ema["mapping.w_avg"])
    assert found.options == {"size": 32, "lr": 0.002, "r1": 10, "ada_aug_p": 0.1}


def test_options_that_are_no_ordinary_numbers_are_left_out(tmp_path):
    content = tree()
    content["args"] = argparse.Namespace(lr=float("inf"), seed=10**300, size=32)
    content["ada_aug_p"] = float("nan")
    assert read(content, tmp_path).options == {"size": 32}


def test_missing_noises_are_drawn_from_a_seed_and_said(tmp_path):
    content = tree()
    for network in ("g", "g_ema"):
        content[network] = {name: value for name, value in content[network].items() if not name.startswith("noises.")}
    found, again = read(content, tmp_path), read(content, tmp_path)
    assert any("'g_ema' lacks 7 noise images" in note for note in found.notes)
    assert_same(again.g_ema, found.g_ema)
    assert found.g_ema["synthesis.b32.conv1.noise_const"].std() > 0.9
    some = tree()
    del some["g_ema"]["noises.noise_3"], some["g"]
    one = read(some, tmp_path).g_ema
    name = "synthesis.b16.conv0.noise_const"
    assert torch.equal(one[name], found.g_ema[name]), "an image is the same whichever others are missing"


def test_files_with_fewer_networks_and_without_kernels_are_read(tmp_path):
    content = tree()
    converted = {name: content[name] for name in ("g_ema", "latent_avg")}
    found = read(converted, tmp_path)
    assert found.d is None and found.g is None and found.g_ema is not None
    alone = read({"g": content["g"], "latent_avg": content["latent_avg"]}, tmp_path)
    assert alone.g_ema is None and alone.g is not None
    bare = {name: value for name, value in content["g_ema"].items() if not name.endswith("kernel")}
    without = read({"g_ema": bare, "latent_avg": content["latent_avg"]}, tmp_path)
    assert_same(without.g_ema, found.g_ema)
    assert "lacks 6 blur kernels" in without.notes[0]


def test_a_raw_generator_that_differs_is_kept_and_half_precision_is_widened(tmp_path):
    content = tree()
    content["g"]["style.1.bias"] = content["g"]["style.1.bias"] + 1
    content["d"] = {name: value.half() for name, value in content["d"].items()}
    found = read(content, tmp_path)
    assert torch.equal(found.g["mapping.fc0.bias"], content["g"]["style.1.bias"])
    assert all(value.dtype == torch.float32 for value in found.d.values())


def drop(name, network="g_ema"):
    def change(content):
        del content[network][name]
    return change


def put(name, value, network="g_ema"):
    def change(content):
        content[network][name] = value
    return change


@pytest.mark.parametrize("change, message", [
    (drop("style.2.weight"), r"'g_ema' has 3 unknown tensors"),
    (drop("convs.3.activate.bias"), r"'g_ema' has 1 missing tensors \(convs.3.activate.bias\)"),
    (put("to_rgbs.0.iwt.ll", torch.zeros(2)), r"'g_ema' has 1 unknown tensors \(to_rgbs.0.iwt.ll\)"),
    (put("conv1.noise.weight", torch.zeros(2)), r"'conv1.noise.weight' has shape \[2\], expected 1 leading axes"),
    (put("to_rgb1.bias", torch.zeros(1, 3, 2, 1)), "'to_rgb1.bias' has shape .* 1 leading and 2 trailing axes"),
    (put("input.input", torch.zeros(1, 24, 4, 4, dtype=torch.long)), "'input.input' is of type torch.int64"),
    (put("style.1.bias", torch.zeros(25)), "mapping.fc0.bias"),
    (lambda content: content.update(latent_avg=torch.zeros(8, 24)), r"'latent_avg' is \[8, 24\], expected \[24\]"),
    (lambda content: content.update(g_ema=None, g=None), "it has neither 'g_ema' nor 'g'"),
    (lambda content: content.update(g_ema={"a": 3}), "'g_ema' is not a state dict of tensors"),
    (drop("final_linear.1.bias", "d"), r"'d' has 1 missing tensors"),
])
def test_what_does_not_fit_is_named(change, message, tmp_path):
    content = tree()
    change(content)
    with pytest.raises(CheckpointError, match=f"cannot import '.*checkpoint.pt': .*({message})") as refused:
        read(content, tmp_path)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("sizes, message", [
    ({"c_dim": 2}, r"c_dim \(labels\) is 2, that layout has only 0"),
    ({"img_channels": 1}, "img_channels is 1, that layout has only 3"),
    ({"g_architecture": "resnet"}, "g_architecture is resnet"),
    ({"d_architecture": "orig"}, "d_architecture is orig"),
    ({"conv_clamp": 256.0}, "conv_clamp is 256.0, that layout has only None"),
    ({"mbstd_group_size": 8}, "mbstd_group_size is 8, that layout has only 4"),
    ({"z_dim": 5}, "z_dim, which is w_dim there, is 5"),
    ({"d_channel_max": 3}, "d_channel_max is 3, that layout has only those of the generator"),
    ({"d_conv_clamp": 8.0}, "conv_clamp of D is 8.0, that layout has only None; pass --drop-clamp to measure what it does and"),
    ({"conv_clamp": 256.0, "d_architecture": "orig"}, "d_architecture is orig"),
    ({"mapping_rate": 0.1}, "mapping_rate is 0.1, that layout has only 0.01; .*scripts/grow_generator.py .*, or "),
])
def test_what_the_layout_cannot_hold_is_refused_by_name(sizes, message, tmp_path):
    architecture = Architecture(16, **{"z_dim": 6, "w_dim": 6, "channel_base": 64, "channel_max": 4, **sizes})
    G, D = random_pair(architecture, 0)
    made = rosinality.Checkpoint("random", architecture, G.state_dict(), None, D.state_dict())
    expected = f"cannot export 'pair.pt' to rosinality's layout: {message}.*use another format"
    with pytest.raises(CheckpointError, match=expected):
        rosinality.write(made, tmp_path / "out.pt", "pair.pt")
    assert not list(tmp_path.iterdir())


def test_other_filters_and_two_means_are_refused():
    checkpoint = rosinality.read(tree(), FILE)
    checkpoint.d["b8.skip.resample_filter"] = torch.ones(4, 4)
    with pytest.raises(CheckpointError, match=r"'b8.skip.resample_filter' of D is not the \[1, 3, 3, 1\] filter"):
        rosinality.content(checkpoint, "x")
    checkpoint = rosinality.read(tree(), FILE)
    checkpoint.g = {**checkpoint.g_ema, "mapping.w_avg": torch.ones(24)}
    with pytest.raises(CheckpointError, match="different w_avg.*leave the raw generator out"):
        rosinality.content(checkpoint, "x")
