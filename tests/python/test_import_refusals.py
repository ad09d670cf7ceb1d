"""Tests that files which look like an NVIDIA pickle but are no published StyleGAN2, and files of other programs, are
refused by name."""

import re

import pytest
import torch
from rootgan.checkpoints import detect
from rootgan.checkpoints.checkpoint import CheckpointError
from checks.nvidia_files import Network, network, write
from test_import_nvidia import kwargs_of, sizes, weights


def change(g=None, d=None, kwargs=None, attributes=None, content=None):
    """Returns a function that writes a pair: some tensors replaced (None: dropped), settings or attributes changed."""
    def make(path):
        pair = sizes(c_dim=2)
        both = weights(pair)
        for tensors, new in zip(both, (g or {}, d or {})):
            tensors.update(new)
        both = [{name: value for name, value in tensors.items() if value is not None} for tensors in both]
        settings = kwargs_of(pair)
        for mine, new in zip(settings, kwargs or ({}, {})):
            mine.update(new)
        networks = {
            "G_ema": network(both[0], "Generator", settings[0], attributes=attributes),
            "D": network(both[1], "Discriminator", settings[1]),
        }
        write({**networks, **(content or {})}, path)
    return make


@pytest.mark.parametrize(
    "make, said",
    [
        (change(g={"mapping.w_avg": None}), r"generator has 1 missing tensors \(mapping.w_avg\)"),
        (
            change(g={"synthesis.b8.attention.weight": torch.ones(1)}),
            r"generator has 1 unknown tensors \(synthesis.b8.attention.weight\)",
        ),
        (
            change(g={"synthesis.b8.conv1.bias": torch.ones(3)}),
            r"another shape \(synthesis.b8.conv1.bias \[3\] for \[10\]\)",
        ),
        (change(g={"synthesis.b8.conv1.bias": torch.ones(10, dtype=torch.int64)}),
         r"1 tensors that are not floating point \(synthesis.b8.conv1.bias int64\)"),
        (
            change(g={"synthesis.b8.conv1.noise_const": torch.ones(8, 8, dtype=torch.int32)}),
            r"not floating point \(synthesis.b8.conv1.noise_const int32\)",
        ),
        (change(g={"synthesis.b8.conv0.resample_filter": torch.ones(3, 3)}), "another shape"),
        (change(g={"synthesis.b4.const": None}), "missing tensors"),
        (change(g={"mapping.fc0.weight": None}), "'mapping.fc0.weight' is missing"),
        (change(g={"synthesis.b16.conv1.weight": torch.ones(5)}), r"has shape \[5\], expected 4 dimensions"),
        (
            change(g={"synthesis.b16.conv1.weight": torch.ones(30, 10, 3, 3)}),
            r"channels by resolution \{4: 10, 8: 10, 16: 30\}",
        ),
        (change(g={"synthesis.b64.conv1.weight": torch.ones(1)}), r"resolutions \[4, 8, 16, 64\]"),
        (change(g={"synthesis.input.weight": torch.ones(1)}), "its generator is a StyleGAN3"),
        (change(g={"synthesis.L0_36_512.weight": torch.ones(1)}), "its generator is a StyleGAN3"),
        (change(kwargs=({"synthesis_kwargs": {"conv_clamp": "much"}}, {})), "conv_clamp is not one positive number"),
        (
            change(attributes={"synthesis.b8.conv0": {"conv_clamp": 1.0}, "synthesis.b8.conv1": {"conv_clamp": 2.0}}),
            "conv_clamp is not one",
        ),
        (change(kwargs=({"synthesis_kwargs": {"conv_clamp": 10**400}}, {})), "conv_clamp is not one positive number"),
        (change(kwargs=({"synthesis_kwargs": {"conv_clamp": True}}, {})), "conv_clamp is not one positive number"),
        (
            change(attributes={"synthesis.b8.conv0": {"activation": "sin\x1b"}}),
            r"activation in its G_ema.synthesis.b8.conv0 is 'sin\\x1b', expected 'lrelu'",
        ),
        (
            change(attributes={"synthesis.b8": {"architecture": "orig"}}),
            "architecture in its G_ema.synthesis.b8 is 'orig', expected 'skip'",
        ),
        (change(content={"G_ema": None, "D": None}), "expected a generator or a dict with the network G_ema"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_published_stylegan2_is_refused(tmp_path, make, said):
    make(tmp_path / "file.pkl")
    with pytest.raises(CheckpointError, match=said) as caught:
        detect.read(tmp_path / "file.pkl")
    assert "\n" not in str(caught.value) and str(tmp_path / "file.pkl") in str(caught.value)


@pytest.mark.parametrize("make, said", [
    (change(d={"b8.skip.resample_filter": torch.eye(4)}), r"1 resample filters that are no outer product \(b8.skip"),
    (change(d={"mapping.embed.weight": torch.ones(10, 5)}), "takes labels of width 2, but its discriminator expects 5"),
    (change(d={"b16.fromrgb.weight": torch.ones(10, 1, 1, 1)}), "makes channels: 3, but its discriminator expects 1"),
    (change(d={"b32.fromrgb.weight": torch.ones(10, 3, 1, 1)}), "makes images of 16, but its discriminator expects 32"),
    (change(kwargs=({}, {"epilogue_kwargs": {"mbstd_group_size": 1 << 63}})), "group is 9223372036854775808"),
], ids=lambda value: value if isinstance(value, str) else "")
def test_a_discriminator_that_cannot_be_read_is_left_out_with_the_reason(tmp_path, make, said):
    make(tmp_path / "file.pkl")
    found = detect.read(tmp_path / "file.pkl")
    assert found.d is None and found.g_ema is not None
    (note,) = [note for note in found.notes if note.startswith("the discriminator in the file is left out: ")]
    assert re.search(said, note) and str(tmp_path) not in note and "\n" not in note


def test_one_small_tensor_cannot_pose_as_a_large_network(tmp_path):
    """The file has one matrix as the weight of 60 layers, so the network would be far larger than the file."""
    pair = sizes(w_dim=300)
    g, _ = weights(pair)
    matrix, bias = torch.nn.Parameter(torch.zeros(300, 300).half()), torch.nn.Parameter(torch.zeros(300))
    file = network(g, "Generator", {})
    for i in range(3, 63):
        file.state["_modules"]["mapping"].state["_modules"][f"fc{i}"] = Network(
            "Part", {"_parameters": {"weight": matrix, "bias": bias}}
        )
    write({"G_ema": file}, tmp_path / "file.pkl")
    with pytest.raises(CheckpointError, match="made to exhaust memory"):
        detect.read(tmp_path / "file.pkl")


def test_other_programs_pickles_are_named(tmp_path):
    (tmp_path / "tf.pkl").write_bytes(b"\x80\x03cdnnlib.tflib.network\nNetwork\nq\x00)\x81q\x01.")
    with pytest.raises(CheckpointError, match="TensorFlow pickle .*; convert it with legacy.py"):
        detect.read(tmp_path / "tf.pkl")
    write([1, 2], tmp_path / "list.pkl")
    with pytest.raises(CheckpointError, match="it is a pickle of a list, expected a generator or a dict with the network G_ema"):
        detect.read(tmp_path / "list.pkl")
    torch.save({"GAN": {"S.net.0.weight": torch.ones(2)}, "version": "1.5.1"}, tmp_path / "model_5.pt")
    with pytest.raises(CheckpointError, match="lucidrains' stylegan2-pytorch, another architecture"):
        detect.read(tmp_path / "model_5.pt")
