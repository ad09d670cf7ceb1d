"""Tests checkpoints/unmodified.py: what layers of an NVIDIA pickle say of themselves has to be what ours compute."""

import re
from math import sqrt

import pytest
from rootgan.checkpoints import detect, nvidia_modules, safe_pickle, unmodified
from rootgan.checkpoints.checkpoint import CheckpointError
from checks.nvidia_files import Network, empty_state, network, write
from rootgan.networks.pair import Architecture
from test_import_nvidia import PICKLE, kwargs_of, sizes, weights

BLOCK = "synthesis.b8"


def file_of(path, g_attributes=None, d_attributes=None, raw_attributes=None, g_kwargs=None, d_kwargs=None, add=None,
            **changes):
    """Writes a file of three networks, some of whose layers have attributes."""
    pair = sizes(**{"c_dim": 2, **changes})
    g, d = weights(pair)
    kwargs = kwargs_of(pair)
    for mine, new in zip(kwargs, (g_kwargs or {}, d_kwargs or {})):
        mine.update(new)
    networks = {"G_ema": network(g, "Generator", kwargs[0], attributes=g_attributes),
                "G": network(g, "Generator", kwargs[0], attributes=raw_attributes),
                "D": network(d, "Discriminator", kwargs[1], attributes=d_attributes)}
    if add is not None:
        networks["G_ema"].state["_modules"]["synthesis"].state["_modules"]["b8"].state["_modules"].update(add)
    write(networks, path)
    return path


def test_the_golden_file_says_of_every_layer_what_ours_computes():
    """The attributes in this file come from the reference, so the expected values are not only ours."""
    tree = safe_pickle.load_pickle(PICKLE)
    pair = Architecture(32, z_dim=32, w_dim=32, mapping_layers=2, channel_base=512, channel_max=32)
    compared = 0
    for name, ours in (("G_ema", pair.generator()), ("D", pair.discriminator())):
        layers = dict(ours.named_modules())
        for prefix, part in nvidia_modules.submodules(tree[name]):
            wanted = unmodified.computed(layers[prefix.removesuffix(".")]) if prefix != "b4.mbstd." else {}
            for attribute in wanted.keys() & part.state.keys():
                assert unmodified.agree(part.state[attribute], wanted[attribute]), (prefix, attribute)
                compared += 1
    assert compared > 100


@pytest.mark.parametrize("changes, said", [
    ({"g_attributes": {"mapping.fc1": {"weight_gain": 1.0}}}, "weight_gain in its G_ema.mapping.fc1 is 1.0, exp"),
    ({"g_attributes": {"mapping.fc1": {"bias_gain": 1}}}, "bias_gain in its G_ema.mapping.fc1 is 1, expected 0.01"),
    ({"g_attributes": {"mapping.fc1": {"lr_multiplier": 0.02}}}, "lr_multiplier in its G_ema.mapping.fc1 is 0.02"),
    ({"g_attributes": {"mapping": {"lr_multiplier": 1}}}, "lr_multiplier in its G_ema.mapping is 1, expected 0.01"),
    ({"g_attributes": {"mapping.embed": {"bias_gain": 0.01}}}, "bias_gain in its G_ema.mapping.embed is 0.01"),
    ({"g_attributes": {f"{BLOCK}.conv0": {"act_gain": 1.0}}}, f"act_gain in its G_ema.{BLOCK}.conv0 is 1.0"),
    ({"g_attributes": {f"{BLOCK}.conv0": {"activation": "linear"}}}, "activation in its .* is 'linear', expected 'lr"),
    ({"g_attributes": {f"{BLOCK}.conv0.affine": {"weight_gain": True}}}, "weight_gain in its .*affine is True"),
    ({"g_attributes": {f"{BLOCK}.conv0.affine": {"weight_gain": float("nan")}}}, "weight_gain in its .*affine is nan"),
    ({"g_attributes": {f"{BLOCK}.torgb": {"weight_gain": {"a": 1}}}}, "weight_gain in its .*torgb is a dict"),
    ({"g_attributes": {f"{BLOCK}.conv1": {"use_noise": False}}}, "use_noise in its .*conv1 is False, expected True"),
    ({"g_attributes": {f"{BLOCK}.conv0": {"up": 1}}}, "up in its .*conv0 is 1, expected 2"),
    ({"raw_attributes": {f"{BLOCK}.conv0": {"act_gain": 1.0}}}, f"act_gain in its G.{BLOCK}.conv0 is 1.0"),
    ({"d_attributes": {"b16.conv0": {"weight_gain": 1}}}, "weight_gain in its D.b16.conv0 is 1, expected 0.1"),
    ({"d_attributes": {"b16.skip": {"act_gain": sqrt(2)}}}, "act_gain in its D.b16.skip is 1.41.*, expected 1"),
    ({"d_attributes": {"b4.fc": {"bias_gain": 10 ** 400}}}, "bias_gain in its D.b4.fc is 1000.*, expected 1"),
    ({"d_attributes": {"b4.out": {"activation": "lrelu"}}}, "activation in its D.b4.out is 'lrelu', expected 'linear'"),
    ({"d_attributes": {"mapping.fc0": {"bias_gain": 1}}}, "bias_gain in its D.mapping.fc0 is 1, expected 0.01"),
    ({"g_kwargs": {"mapping_kwargs": {"num_layers": 3, "lr_multiplier": 0.1}}}, "lr_multiplier .*kwargs.* is 0.1, exp"),
    ({"d_kwargs": {"mapping_kwargs": {"lr_multiplier": 1}}}, r"lr_multiplier in its D \(_init_kwargs\) is 1, expected "),
    ({"d_kwargs": {"block_kwargs": {"activation": "relu"}}}, "activation in its D .* is 'relu', expected 'lrelu'"),
    ({"d_kwargs": {"architecture": "skip"}}, "architecture in its D .* is 'skip', expected 'resnet'"),
    ({"add": {"dropout\x1b": Network("Dropout", empty_state())}}, r"has a part 'synthesis.b8.dropout\\x1b', which no"),
], ids=lambda value: value if isinstance(value, str) else "")
def test_a_layer_that_computes_something_else_is_refused(tmp_path, changes, said):
    path = file_of(tmp_path / "file.pkl", **changes)
    if any(key.startswith("d_") for key in changes):
        found = detect.read(path)  # imports the generator alone
        assert found.d is None
        message = found.notes[-1]
    else:
        with pytest.raises(CheckpointError) as caught:
            detect.read(path)
        message = str(caught.value)
    assert re.search(said, message) and "\n" not in message and "rootgan computes" in message


def test_settings_of_a_mapping_network_that_is_not_there_are_read_over(tmp_path):
    """Files that were converted from TensorFlow have such settings for a discriminator without labels."""
    kwargs = {"mapping_kwargs": {"num_layers": 0, "lr_multiplier": 0.1}}
    assert detect.read(file_of(tmp_path / "file.pkl", d_kwargs=kwargs, c_dim=0)).d is not None


def test_layers_come_before_settings(tmp_path):
    attributes = {"mapping.fc0": {"bias_gain": 0.01, "activation": "lrelu"}, "b16": {"architecture": "resnet"}}
    kwargs = {"lr_multiplier": 0.1, "activation": "relu", "architecture": "orig"}
    assert detect.read(file_of(tmp_path / "file.pkl", d_attributes=attributes, d_kwargs=kwargs)).d is not None


@pytest.mark.parametrize("architecture", ["skip", "orig", "resnet"])
def test_the_attributes_of_published_networks_are_taken(tmp_path, architecture):
    """The attributes are those of published networks, with gains rounded to single precision."""
    attributes = {"mapping.fc1": {"weight_gain": 0.0035355339847505093, "bias_gain": 0.01, "activation": "lrelu"},
                  f"{BLOCK}.conv1": {"act_gain": 1.4142135381698608, "use_noise": True, "up": 1},
                  BLOCK: {"architecture": architecture}}
    if architecture == "resnet":
        attributes[f"{BLOCK}.skip"] = {"weight_gain": 1 / sqrt(10), "act_gain": 1, "activation": "linear", "up": 2}
    kwargs = {"mapping_kwargs": {"num_layers": 3, "lr_multiplier": 0.01, "activation": "lrelu", "w_avg_beta": 0.998}}
    path = file_of(tmp_path / "file.pkl", g_attributes=attributes, g_kwargs=kwargs, g_architecture=architecture)
    assert detect.read(path).architecture.g_architecture == architecture
