"""Tests the import of NVIDIA's pickles: the golden one gives the reference's numbers, and pickles made here cover what
it lacks."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from rootgan.checkpoints import detect, safe_pickle
from rootgan.checkpoints.checkpoint import CheckpointError
from checks.nvidia_files import EasyDict, Network, network, write
from rootgan.import_checkpoint import import_checkpoint
from rootgan.networks.pair import Architecture, random_pair
from safetensors.torch import load_file

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests" / "golden"
PICKLE = GOLDEN / "nvidia_like_r32.pkl"
# The sums are float32 in another order. Ours agree to 4e-6 of the largest entry; this leaves room for other machines.
RELATIVE, ABSOLUTE = 1e-4, 2e-5
SIZES = {
    "z_dim": 12,
    "w_dim": 8,
    "mapping_layers": 3,
    "channel_base": 256,
    "channel_max": 10,
    "conv_clamp": 4.0,
    "mbstd_group_size": 2,
}


def sizes(**changes):
    return Architecture(16, **{**SIZES, **changes})


def weights(pair, seed=0):
    """Returns tensors of G and D, all of them random, so that no default can stand in for one."""
    generator = torch.Generator().manual_seed(seed)
    return [{name: value.detach() if name.endswith("resample_filter") else torch.randn(value.shape, generator=generator)
             for name, value in module.state_dict().items()} for module in random_pair(pair, 0)]


def kwargs_of(pair, flat=False):
    """Returns the settings of G and D as a file holds them; `flat` as the stylegan3 repository writes them."""
    both = {
        "channel_base": pair.channel_base,
        "channel_max": pair.channel_max,
        "num_fp16_res": 0,
        "conv_clamp": pair.conv_clamp,
    }
    base = {"c_dim": pair.c_dim, "img_resolution": pair.img_resolution, "img_channels": pair.img_channels}
    g = {"z_dim": pair.z_dim, "w_dim": pair.w_dim, **base, "mapping_kwargs": {"num_layers": pair.mapping_layers}}
    g.update(both if flat else {"synthesis_kwargs": both})
    return g, {**base, **both, "epilogue_kwargs": {"mbstd_group_size": pair.mbstd_group_size}}


def file_of(path, pair, g_ema, d, g=None, kwargs=None, options=None, **content):
    g_kwargs, d_kwargs = kwargs or kwargs_of(pair)
    networks = {"G": network(g or g_ema, "Generator", g_kwargs), "D": d and network(d, "Discriminator", d_kwargs),
                "G_ema": network(g_ema, "Generator", g_kwargs)}
    write(
        {
            "training_set_kwargs": {"path": "/home/somebody/pictures", "xflip": True},
            **networks,
            "augment_pipe": None,
            **content,
        },
        path,
        **(options or {}),
    )
    return path


def assert_equal(found, expected):
    assert found.keys() == expected.keys()
    for name, value in found.items():
        assert value.dtype == torch.float32 and value.is_contiguous() and torch.equal(value, expected[name].float()), (
            name
        )


@pytest.fixture(scope="module")
def golden(tmp_path_factory):
    folder = tmp_path_factory.mktemp("golden")
    import_checkpoint(PICKLE, folder / "pair")
    G, D = (torch.jit.load(folder / "pair" / name) for name in ("generator.pt", "discriminator.pt"))
    return load_file(GOLDEN / "net_uncond_r32.safetensors"), G, D


def test_the_golden_import_gives_the_references_numbers(golden):
    numbers, G, D = golden
    z = numbers["io.z"]
    with torch.no_grad():
        ws = G.mapping(z)
        found = {
            "ws": ws,
            "ws_psi0.7": G.mapping(z, truncation_psi=0.7),
            "ws_psi0.5_cutoff4": G.mapping(z, None, 0.5, 4),
            "img_const": G.synthesis(ws, "const"),
            "img_none": G.synthesis(ws, "none"),
            "d_logits_x": D(numbers["io.x"]),
        }
    names = {name.removeprefix("io.") for name in numbers}
    assert set(found) <= names, sorted(names)
    for name, value in found.items():
        expected = numbers[f"io.{name}"]
        difference = (value - expected).abs().max()
        assert difference <= RELATIVE * expected.abs().max(), name
        assert name == "d_logits_x" or difference <= ABSOLUTE, name


def test_the_golden_import_has_the_same_weights_bit_for_bit(golden):
    numbers, G, D = golden
    for prefix, module in (("G.", G), ("D.", D)):
        assert_equal(
            module.state_dict(), {name[2:]: value for name, value in numbers.items() if name.startswith(prefix)}
        )


def strided(tensors):
    """Makes every tensor a view into a larger storage, in channels-last order where it has four axes."""
    def view(value):
        if value.dim() == 4:
            value = value.to(memory_format=torch.channels_last)
        room = torch.cat(
            [
                torch.full([5], 99.0),
                torch.empty(value.numel()).copy_(value.as_strided([value.numel()], [1])),
                torch.zeros(3),
            ]
        )
        return room.as_strided(value.shape, value.stride(), 5)
    return {name: view(value) for name, value in tensors.items()}


def halved(tensors):
    return {name: value.half() for name, value in tensors.items()}


def doubled(tensors):
    return {name: value.double() for name, value in tensors.items()}


SPELLINGS = {
    "as torch pickles it": ({}, lambda tensors: tensors),
    "protocol 3": ({"protocol": 3}, lambda tensors: tensors),
    "protocol 5": ({"protocol": 5}, lambda tensors: tensors),
    "cuda storages": ({"device": "cuda:0"}, lambda tensors: tensors),
    "half cuda storages": ({"device": "cuda:1"}, halved),
    "double": ({}, doubled),
    "bfloat16": ({}, lambda tensors: {name: value.bfloat16() for name, value in tensors.items()}),
    "channels-last and offsets": ({}, strided),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_spelling_of_the_weights_is_read(tmp_path, spelling):
    options, change = SPELLINGS[spelling]
    pair = sizes()
    g, d = map(change, weights(pair))
    if "channels-last" in spelling:
        assert (
            not g["synthesis.b8.conv0.weight"].is_contiguous() and g["synthesis.b8.conv0.weight"].storage_offset() == 5
        )
    found = detect.read(file_of(tmp_path / "file.pkl", pair, g, d, options=options))
    assert found.architecture == pair and found.notes == [] and found.g is None
    assert_equal(found.g_ema, g)
    assert_equal(found.d, d)
    raw = (tmp_path / "file.pkl").read_bytes()
    assert (b"cuda" in raw) == ("cuda" in spelling) and (b"ctorch._utils\n" in raw) == ("protocol 3" in spelling)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"c_dim": 3},
        {"c_dim": 2, "d_mapping_layers": 2, "img_channels": 1},
        {"mapping_layers": 1},
        {"conv_clamp": None},
        {"d_conv_clamp": 0.0},
        {"conv_clamp": None, "d_conv_clamp": 256.0},
        {"channel_base": 100, "channel_max": 1000},
        {"channel_base": 1000},
        {"d_channel_base": 512, "d_channel_max": 14},
        {"mbstd_group_size": 8},
        {"d_architecture": "orig"},
        {"g_architecture": "orig"},
        {"g_architecture": "resnet"},
        {"g_architecture": "resnet", "d_architecture": "skip"},
    ],
    ids=str,
)
def test_the_architecture_is_that_of_the_file(tmp_path, changes):
    pair = sizes(**changes)
    g, d = weights(pair)
    kwargs = kwargs_of(pair)
    kwargs[1].update(
        conv_clamp=pair.clamp_of_d,
        channel_base=pair.d_channel_base or pair.channel_base,
        channel_max=pair.d_channel_max or pair.channel_max,
    )
    found = detect.read(file_of(tmp_path / "file.pkl", pair, g, d, kwargs=kwargs))
    assert asdict(found.architecture) == asdict(pair)
    assert_equal(found.g_ema, g)
    assert_equal(found.d, d)
    assert found.format == "NVIDIA pickle, stylegan2-ada-pytorch"


def test_without_settings_the_shapes_decide_and_assumptions_are_said(tmp_path):
    pair = sizes()
    found = detect.read(file_of(tmp_path / "file.pkl", pair, *weights(pair), kwargs=({}, {})))
    assert found.architecture == sizes(
        channel_base=160, conv_clamp=None, mbstd_group_size=4
    )  # 160: the least base with these channels
    assert found.notes == [
        "conv_clamp is not in the file: assumed to be None",
        "mbstd_group_size is not in the file: assumed to be 4",
    ]


def test_flat_settings_are_those_of_the_stylegan3_repository(tmp_path):
    pair = sizes()
    g, d = weights(pair)
    found = detect.read(file_of(tmp_path / "file.pkl", pair, g, d, kwargs=kwargs_of(pair, flat=True)))
    assert found.architecture == pair and found.format == "NVIDIA pickle, stylegan2 of the stylegan3 repository"
    kwargs = ({"channel_base": 256, "channel_max": 10}, {"mbstd_group_size": 2})
    found = detect.read(file_of(tmp_path / "file.pkl", pair, g, d, kwargs=kwargs))
    assert found.architecture == sizes(conv_clamp=256.0)
    assert found.notes == ["conv_clamp is not in the file: assumed to be 256.0"]


def test_the_layers_own_attributes_come_before_the_settings(tmp_path):
    pair = sizes()
    g, d = weights(pair)
    kwargs = kwargs_of(pair)
    clamped = {name: {"conv_clamp": 8.0, "activation": "lrelu"} for name in ("b16.conv0", "b16.conv1", "b4.conv")}
    unclamped = {
        "b16.skip": {"conv_clamp": None, "activation": "linear"},
        "b16": {"architecture": "resnet"},
        "b4": {"group_size": 5},
    }
    networks = {
        "G_ema": network(
            g,
            "Generator",
            kwargs[0],
            attributes={"synthesis.b4.conv1": {"conv_clamp": 8}, "synthesis.b8": {"architecture": "skip"}},
        ),
        "D": network(d, "Discriminator", kwargs[1], attributes={**clamped, **unclamped}),
    }
    write(networks, tmp_path / "file.pkl")
    found = detect.read(tmp_path / "file.pkl")
    assert found.architecture == sizes(conv_clamp=8.0, mbstd_group_size=5)


@pytest.mark.parametrize("protocol", [3, 4])
def test_easydicts_and_numbers_of_both_numpys_are_read(tmp_path, protocol):
    pair = sizes(conv_clamp=0.5)
    g, d = weights(pair)
    g_kwargs, d_kwargs = kwargs_of(pair)
    g_kwargs["synthesis_kwargs"] = EasyDict(
        g_kwargs["synthesis_kwargs"], conv_clamp=np.float64(0.5), channel_max=np.int64(10)
    )
    content = {
        "training_set_kwargs": EasyDict(
            class_name="training.dataset.ImageFolderDataset", path="/home/somebody", xflip=True
        )
    }
    path = file_of(
        tmp_path / "file.pkl",
        pair,
        g,
        d,
        kwargs=(EasyDict(g_kwargs), d_kwargs),
        options={"protocol": protocol},
        **content,
    )
    raw = path.read_bytes()
    if protocol == 3:  # a name ends with its line here, so that the older spelling may have another length
        assert b"cnumpy._core.multiarray\n" in raw
        path.write_bytes(raw.replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n"))
    assert b"EasyDict" in raw
    found = detect.read(path)
    assert found.architecture == pair
    assert found.options["training_set"] == {"class_name": "training.dataset.ImageFolderDataset", "xflip": True}
    assert found.options["G_ema_kwargs"]["synthesis_kwargs"]["conv_clamp"] == 0.5
    assert "somebody" not in json.dumps(found.options)


def test_a_generator_in_training_with_another_clamp_is_refused(tmp_path):
    pair = sizes()
    g, d = weights(pair)
    raw = network(g, "Generator", kwargs_of(sizes(conv_clamp=8.0))[0])
    with pytest.raises(CheckpointError, match="its G_ema clamps at 4.0, but its G at 8.0; rootgan has one"):
        detect.read(file_of(tmp_path / "file.pkl", pair, g, d, G=raw))


def test_an_augmentation_pipe_is_read_over_and_said(tmp_path):
    pair = sizes()
    pipe = network(
        {"p": torch.tensor(0.25), "Hz_geom": torch.randn(12)}, "AugmentPipe", {"xflip": 1}, as_buffer=lambda _: True
    )
    found = detect.read(file_of(tmp_path / "file.pkl", pair, *weights(pair), augment_pipe=pipe))
    assert found.notes == ["the augmentation state (augment_pipe) in the file is not taken over"]


def test_a_generator_in_training_that_differs_is_kept_apart(tmp_path):
    pair = sizes()
    (g_ema, d), (g, _) = weights(pair), weights(pair, seed=1)
    found = detect.read(file_of(tmp_path / "file.pkl", pair, g_ema, d, g))
    assert_equal(found.g_ema, g_ema)
    assert_equal(found.g, g)


def test_a_discriminator_with_frozen_layers_is_whole(tmp_path):
    pair = sizes()
    g, d = weights(pair)
    frozen = ("b16.fromrgb.", "b16.conv0.", "b16.conv1.")
    kwargs = kwargs_of(pair)
    content = {"D": network(d, "Discriminator", kwargs[1], as_buffer=lambda name: name.startswith(frozen))}
    assert "weight" in content["D"].state["_modules"]["b16"].state["_modules"]["conv0"].state["_buffers"]
    found = detect.read(file_of(tmp_path / "file.pkl", pair, g, None, **content))
    assert_equal(found.d, d)
    assert found.notes == ["3 layers of the discriminator were frozen in its training (FreezeD: b16.fromrgb, b16.conv0, "
                           "b16.conv1): they can be trained here"]


@pytest.mark.parametrize("make", [
    lambda part, value: part.state["_buffers"].update(weight=value),
    lambda part, value: part.state["_modules"].update({"affine.x\x1b": Network("Part", {"_buffers": {"a": value}}),
                                                       "affine": Network("Part", {"_buffers": {"x\x1b.a": value}})}),
], ids=["parameter and buffer", "dots"])
def test_a_name_that_means_two_tensors_is_refused(tmp_path, make):
    pair = sizes()
    g, d = weights(pair)
    file = network(g, "Generator", kwargs_of(pair)[0])
    layer = file.state["_modules"]["synthesis"].state["_modules"]["b8"].state["_modules"]["conv0"]
    make(layer, torch.ones(10, 10, 3, 3))
    said = r"its G_ema has two tensors with the name 'synthesis.b8.conv0.(weight|affine.x\\x1b.a)'; which of them counts"
    with pytest.raises(CheckpointError, match=said):
        detect.read(file_of(tmp_path / "file.pkl", pair, g, d, G_ema=file))


def test_a_generator_alone_is_imported(tmp_path):
    pair = sizes()
    g, _ = weights(pair)
    found = detect.read(file_of(tmp_path / "file.pkl", pair, g, None))
    assert found.d is None and found.architecture.mbstd_group_size == 4
    assert_equal(found.g_ema, g)


def test_what_has_no_effect_may_be_missing(tmp_path):
    pair = sizes()
    g, d = weights(pair)
    dropped = ("synthesis.b8.conv0.noise_strength", "synthesis.b8.conv0.noise_const", "synthesis.b8.resample_filter")
    kept = {name: value for name, value in g.items() if name not in dropped}
    found = detect.read(file_of(tmp_path / "file.pkl", pair, kept, d))
    assert_equal(found.g_ema, {**g, dropped[0]: torch.zeros([]), dropped[1]: torch.zeros(8, 8)})
    assert found.notes == ["the generator lacks 1 resample filters: the usual [1, 3, 3, 1] is filled in",
                           "1 layers of the generator have no noise input: they get noise of strength 0"]


def test_a_file_of_the_writer_names_nothing_else_than_real_ones_do(tmp_path):
    """The writer stands for NVIDIA's code in these tests: it must not use names that real files do not have."""
    pair = sizes()
    path = file_of(tmp_path / "file.pkl", pair, *weights(pair))
    tree, real = safe_pickle.load_pickle(path), safe_pickle.load_pickle(PICKLE)
    assert isinstance(Network("x", {}).__reduce__()[1][0], dict)
    assert set(tree) == set(real)
    for found in (tree, real):
        conv = found["G_ema"].state["_modules"]["synthesis"].state["_modules"]["b8"].state["_modules"]["conv0"].state
        assert set(conv["_parameters"]) == {"weight", "bias", "noise_strength"}
        assert set(conv["_buffers"]) == {"noise_const", "resample_filter"}
