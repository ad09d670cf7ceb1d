"""Tests what the import says of files that hold the wrong thing or are no files, and that it never replaces its own
source."""

import os
from dataclasses import replace
from pathlib import Path

from rootgan import import_checkpoint as command
import pytest
import torch
from rootgan.checkpoints import detect
from rootgan.checkpoints.checkpoint import CheckpointError
from checks.nvidia_files import network, write
from rootgan.networks.pair import random_pair
from safetensors.torch import save_file
from test_import_command import KWARGS, PAIR, run, weights

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
ODD = "odd\x1b[31m\n" * 2000  # a name that would colour the terminal and fill it


def refused(path, said):
    with pytest.raises(CheckpointError, match=said) as caught:
        command.import_checkpoint(path, path.parent / "out")
    message = str(caught.value).replace(str(path), "")
    assert message.isprintable() and message.isascii() and len(message) < 700
    assert not (path.parent / "out").exists()


def pickle_of(path, g=None, raw=None, g_class="Generator", attributes=None):
    both = weights()
    networks = {"G_ema": network({**both[0], **(g or {})}, g_class, KWARGS[0], attributes=attributes),
                "D": network(both[1], "Discriminator", KWARGS[1])}
    if raw is not None:
        networks["G"] = network(raw, "Generator", KWARGS[0])
    write(networks, path)
    return path


def torch_file(path, content):
    torch.save(content, path)
    return path


def odd_files(folder):
    """Makes files with odd names in all places that messages quote, each with what the message has to say."""
    golden = torch.load(GOLDEN / "rosinality_like_r32.pt", weights_only=True)
    golden["g_ema"][ODD] = torch.ones(1)
    split = {"synthesis.b8.conv0": {"conv_clamp": 1.0}, "synthesis.b8.conv1": {"conv_clamp": 2.0}}
    many = {f"synthesis.b{r}.x": torch.ones(1) for r in range(5000)}
    return {
        "unknown": (pickle_of(folder / "a.pkl", {f"synthesis.{ODD}": torch.ones(1)}), "1 unknown tensors"),
        "class": (pickle_of(folder / "b.pkl", g_class=ODD, attributes=split), "all layers of its odd"),
        "plain": (torch_file(folder / "c.pt", {ODD: torch.ones(1)}), "no StyleGAN2 weights were found"),
        "rosinality": (torch_file(folder / "d.pt", golden), "'g_ema' has 1 unknown tensors"),
        "resolutions": (torch_file(folder / "e.pt", many), r"resolutions \[0, 1, .*11, ...\], expected 4, 8, 16"),
    }


@pytest.mark.parametrize("name", ["unknown", "class", "plain", "rosinality", "resolutions"])
def test_names_out_of_a_file_are_escaped_and_cut(tmp_path, name):
    refused(*odd_files(tmp_path)[name])


def changed(tensors, name, value):
    """Returns a tensor under its name, with the first of its numbers replaced."""
    new = tensors[name].clone()
    new.view(-1)[0] = value
    return {name: new}


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused_with_their_number(tmp_path, value):
    g, d = weights()
    bad = changed(g, "synthesis.b8.conv0.weight", value)
    refused(pickle_of(tmp_path / "a.pkl", bad), "1 of the 900 numbers of 'synthesis.b8.conv0.weight' of its generator ")
    refused(pickle_of(tmp_path / "b.pkl", raw={**g, **bad}), r"conv0.weight' of its generator in training \(G\) are not")
    everything = {name: torch.full_like(tensor, value) for name, tensor in d.items() if "filter" not in name}
    refused(torch_file(tmp_path / "c.pt", {"G_ema": g, "D": {**d, **everything}}), "and .* more tensors of its discrim")


def test_doubles_beyond_single_precision_are_refused(tmp_path):
    g, d = weights()
    large = {"mapping.fc0.bias": torch.full([8], 1e300, dtype=torch.float64)}
    refused(torch_file(tmp_path / "a.pt", {"G_ema": {**g, **large}}), "8 of the 8 numbers of 'mapping.fc0.bias'")


def test_a_mean_of_rosinality_that_is_not_finite_is_refused(tmp_path):
    content = torch.load(GOLDEN / "rosinality_like_r32.pt", weights_only=True)
    content["latent_avg"][3] = float("nan")
    refused(torch_file(tmp_path / "a.pt", content), "1 of the 24 numbers of 'latent_avg'")


def test_equal_generators_in_a_state_dict_are_one(tmp_path):
    g, d = weights()
    found = detect.read(torch_file(tmp_path / "a.pt", {"G_ema": g, "G": dict(g), "D": d}))
    assert found.g is None and found.g_ema is not None


def test_a_discriminator_alone_is_named_whatever_it_holds(tmp_path):
    content = {"D": {"b16.fromrgb.weight": torch.ones(1)}}
    refused(torch_file(tmp_path / "a.pt", content), "it holds a discriminator alone; pass a file that has its generator")


@pytest.mark.parametrize("prefix", ["", "D."])
@pytest.mark.parametrize("sizes", [{"c_dim": 3}, {"c_dim": 0}, {"c_dim": 2, "d_mapping_layers": 0}, {"d_architecture": "skip", "c_dim": 1}])
def test_a_discriminator_of_any_kind_is_no_generator(tmp_path, sizes, prefix):
    d = random_pair(replace(PAIR, **sizes), 0)[1].state_dict()
    named = {prefix + name: value for name, value in d.items()}
    refused(torch_file(tmp_path / "a.pt", named), "it holds a discriminator alone; pass a file that has its generator")
    save_file(named, tmp_path / "a.safetensors")
    refused(tmp_path / "a.safetensors", "it holds a discriminator alone")


def test_what_is_missing_in_the_raw_generator_is_said_of_it(tmp_path):
    g, d = weights()
    raw = {name: value + 1 for name, value in g.items() if name != "mapping.w_avg"}
    said = r"its generator in training \(G\) has 1 missing tensors \(mapping.w_avg\)"
    refused(pickle_of(tmp_path / "a.pkl", raw=raw), said)
    refused(torch_file(tmp_path / "b.pt", {"G_ema": g, "G": raw, "D": d}), said)


def test_what_is_no_file_is_called_what_it_is(tmp_path):
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for path, said in ((tmp_path / "folder", "it is a folder"), (tmp_path / "pipe", "it is a pipe or a device"),
                       (Path("/dev/zero"), "it is a pipe or a device"), (tmp_path / "none", "there is no such file")):
        with pytest.raises(CheckpointError, match=f"cannot import '{path}': {said}.*; pass a checkpoint"):
            command.import_checkpoint(path, tmp_path / "out")


@pytest.mark.parametrize("link", [None, os.link, os.symlink])
def test_force_does_not_replace_the_source_itself(tmp_path, link):
    out = tmp_path / "out"
    out.mkdir()
    source = torch_file((out if link is None else tmp_path) / "generator.pt", {"G_ema": weights()[0]})
    if link is not None:
        link(source, out / "generator.pt")
    before = source.read_bytes()
    with pytest.raises(CheckpointError, match="out/generator.pt', which would be replaced, is the same file"):
        command.import_checkpoint(source, out, force=True)
    assert source.read_bytes() == before


def test_what_the_system_refuses_is_said_with_a_remedy(tmp_path):
    source = torch_file(tmp_path / "a.pt", {"G_ema": weights()[0]})
    done = run(source, "--outdir", source / "inside")
    assert done.returncode == 1 and done.stderr.count("\n") == 1, done.stderr
    assert "not a directory" in done.stderr and "or pass another --out" in done.stderr
    done = run(source, "--outdir", source)
    assert f"cannot import into '{source}': it is no folder; pass another --out" in done.stderr


def test_an_argument_that_is_a_device_ends_at_once(tmp_path):
    done = run("/dev/zero", "--out", tmp_path / "out")
    assert done.returncode == 1 and "it is a pipe or a device, not a file; pass a checkpoint" in done.stderr
