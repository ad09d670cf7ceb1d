"""Tests the architectures `orig`, `skip` and `resnet` of both networks: names of tensors, first and second derivatives,
the way through a file, batches of different sizes."""

import io
import json

import pytest
import torch
import torch.nn.functional as F
from rootgan.networks.generator import LinearUp
from rootgan.networks.pair import D_ARCHITECTURES, G_ARCHITECTURES, Architecture, random_pair
from rootgan.networks.resample import resample_filter

VARIANTS = [*(("g", name) for name in G_ARCHITECTURES), *(("d", name) for name in D_ARCHITECTURES)]


def tiny(g="skip", d="resnet", **sizes):
    defaults = {"z_dim": 6, "w_dim": 7, "mapping_layers": 2, "channel_base": 128, "channel_max": 9,
                "mbstd_group_size": 5}
    return Architecture(32, g_architecture=g, d_architecture=d, **{**defaults, **sizes})


def shaken(architecture, seed=3):
    """Makes a random pair whose biases and noise strengths are not zero, as they are at the start."""
    pair = random_pair(architecture, seed)
    for module in pair:
        for name, parameter in module.named_parameters():
            if name.endswith((".bias", ".noise_strength")):
                parameter.data.add_(0.3 * torch.randn(parameter.shape))
    return pair


def through_a_file(module):
    file = io.BytesIO()
    torch.jit.save(torch.jit.script(module.eval()), file)
    file.seek(0)
    return torch.jit.load(file)


@pytest.mark.parametrize("architecture", G_ARCHITECTURES)
def test_a_generator_has_the_names_of_its_architecture(architecture):
    state = random_pair(tiny(g=architecture), seed=0)[0].state_dict()
    rgb = {name.split(".")[1] for name in state if ".torgb." in name}
    assert rgb == ({"b4", "b8", "b16", "b32"} if architecture == "skip" else {"b32"})
    skips = {f"synthesis.b{r}.skip.{part}" for r in (8, 16, 32) for part in ("weight", "resample_filter")}
    assert {name for name in state if ".skip." in name} == (skips if architecture == "resnet" else set())
    if architecture == "resnet":
        assert state["synthesis.b32.skip.weight"].shape == (4, 8, 1, 1)
    assert {f"synthesis.b{r}.resample_filter" for r in (4, 8, 16, 32)} <= set(state)


@pytest.mark.parametrize("architecture", D_ARCHITECTURES)
def test_a_discriminator_has_the_names_of_its_architecture(architecture):
    state = random_pair(tiny(d=architecture), seed=0)[1].state_dict()
    rgb = {name.split(".")[0] for name in state if ".fromrgb." in name}
    assert rgb == ({"b4", "b8", "b16", "b32"} if architecture == "skip" else {"b32"})
    skips = {f"b{r}.skip.{part}" for r in (8, 16, 32) for part in ("weight", "resample_filter")}
    assert {name for name in state if ".skip." in name} == (skips if architecture == "resnet" else set())
    if architecture == "skip":
        assert {"b4.fromrgb.weight", "b4.fromrgb.bias", "b4.fromrgb.resample_filter"} <= set(state)


@pytest.mark.parametrize("which, name", VARIANTS)
def test_a_reloaded_network_gives_the_same_numbers_for_batch_1_and_5(which, name):
    architecture = tiny(**{which: name}, c_dim=2, conv_clamp=1.5)
    pair = shaken(architecture)
    G, D = (through_a_file(module) for module in pair)
    z, c = torch.randn(5, 6), torch.eye(2)[[0, 1, 1, 0, 1]]
    with torch.no_grad():
        images = G(z, c, noise_mode="const")
        assert images.shape == (5, 3, 32, 32) and D(images, c).shape == (5, 1)
        for n in (1, 5, 1):
            torch.testing.assert_close(G(z[:n], c[:n], noise_mode="const"), images[:n], rtol=0, atol=1e-5)
            assert torch.equal(G(z[:n], c[:n], noise_mode="const"), pair[0](z[:n], c[:n], noise_mode="const"))
            assert torch.equal(D(images[:n], c[:n]), pair[1](images[:n], c[:n]))
    said = json.loads((G if which == "g" else D).describe())
    assert said[f"{which}_architecture"] == name


@pytest.mark.parametrize("which, name", VARIANTS)
def test_r1_and_path_length_reach_every_trained_parameter(which, name):
    generator, discriminator = (through_a_file(module) for module in shaken(tiny(**{which: name})))
    if which == "d":
        module, x = discriminator, torch.randn(2, 3, 32, 32, requires_grad=True)
        output = module(x).sum()
    else:
        module, x = generator, torch.randn(2, generator.num_ws, 7, requires_grad=True)
        images = module.synthesis(x, noise_mode="const")
        output = (images * torch.randn_like(images)).sum()
    (gradient,) = torch.autograd.grad(output, x, create_graph=True)
    trained = {key: value for key, value in module.named_parameters() if value.requires_grad and "mapping" not in key}
    twice = torch.autograd.grad(gradient.square().sum(), list(trained.values()), allow_unused=True)
    for key, value in zip(trained, twice):
        if key.endswith(".weight"):
            assert value is not None and value.isfinite().all() and value.any(), f"{key}: nothing arrives"


@pytest.mark.parametrize("which, name", VARIANTS)
def test_gradients_agree_with_finite_differences_twice(which, name, monkeypatch):
    # The networks compute in float32; in float64 finite differences are exact enough to tell a wrong factor.
    monkeypatch.setattr(torch, "float32", torch.float64)
    generator, discriminator = (module.double() for module in shaken(tiny(**{which: name}, channel_max=4)))
    torch.manual_seed(0)
    if which == "d":
        call, x = discriminator, torch.randn(2, 3, 32, 32, dtype=torch.float64, requires_grad=True)
    else:
        def call(ws):
            return generator.synthesis(ws, noise_mode="const")
        x = torch.randn(2, generator.num_ws, 7, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(call, (x,), fast_mode=True)
    assert torch.autograd.gradgradcheck(call, (x,), fast_mode=True)


def zeros_between(x):
    """Puts the samples of [N, C, H, W] at even places of [N, C, 2H, 2W]."""
    spread = torch.zeros(*x.shape[:2], 2 * x.shape[2], 2 * x.shape[3])
    spread[:, :, ::2, ::2] = x
    return spread


def filtered(x, pad, gain):
    kernel = (resample_filter().detach() * gain).expand(x.shape[1], 1, 4, 4)
    return F.conv2d(F.pad(x, pad), kernel, groups=x.shape[1])


def test_the_linear_branch_of_the_generator_filters_before_it_mixes_channels():
    branch, x = LinearUp(5, 3), torch.randn(2, 5, 8, 8)
    expected = F.conv2d(filtered(zeros_between(x), (2, 1, 2, 1), 4.0), branch.weight / 5**0.5) * 0.5**0.5
    torch.testing.assert_close(branch(x), expected, rtol=1e-5, atol=1e-5)


def test_a_residual_generator_sums_both_branches_with_variance_kept():
    generator = shaken(tiny(g="resnet", conv_clamp=0.7))[0]
    ws, block = torch.randn(2, generator.num_ws, 7), generator.synthesis.b8
    x = torch.randn(2, 9, 4, 4)
    found, _ = block(x, ws, ws, 1, "none", None, 0)
    inner = block.conv0(x, ws[:, 1], None)
    plain = type(block.conv1)(9, 9, 7, 8, 1, 0.7)  # conv1 with gain 1: the clamp follows the gain
    plain.load_state_dict(block.conv1.state_dict())
    torch.testing.assert_close(found, block.skip(x) + plain(inner, ws[:, 2], None) * 0.5**0.5, rtol=1e-5, atol=1e-5)


def test_an_orig_generator_makes_rgb_of_its_last_activations_only():
    generator = shaken(tiny(g="orig"))[0]
    synthesis, ws = generator.synthesis, torch.randn(2, generator.num_ws, 7)
    x = synthesis.b4.conv1(synthesis.b4.const.expand(2, -1, -1, -1), ws[:, 0], None)
    for first, block in zip((1, 3, 5), (synthesis.b8, synthesis.b16, synthesis.b32)):
        x = block.conv1(block.conv0(x, ws[:, first], None), ws[:, first + 1], None)
    torch.testing.assert_close(synthesis(ws, "none"), synthesis.b32.torgb(x, ws[:, 7]))


@pytest.mark.parametrize("architecture", ["orig", "skip"])
def test_a_discriminator_without_residuals_is_the_chain_of_its_layers(architecture):
    D, img = shaken(tiny(d=architecture))[1], torch.randn(2, 3, 32, 32)
    expected = D(img)
    x, small = D.b32.fromrgb(img), img
    for block in (D.b32, D.b16, D.b8):
        if architecture == "skip" and block is not D.b32:
            x = x + block.fromrgb(small)
        x = block.conv1(block.conv0(x))
        assert block.conv1.gain == 1.0
        small = filtered(small, (1, 1, 1, 1), 1.0)[:, :, ::2, ::2]
    if architecture == "skip":
        x = x + D.b4.fromrgb(small)
        D.b4.fromrgb = None
    torch.testing.assert_close(D.b4(x, small, None)[0], expected, rtol=1e-5, atol=1e-5)


def test_the_discriminators_own_mapping_depth_and_channels_are_kept():
    architecture = tiny(c_dim=3, d_mapping_layers=2, d_channel_base=256, d_channel_max=5)
    G, D = random_pair(architecture, seed=0)
    assert "mapping.fc1.weight" in D.state_dict() and "mapping.fc2.weight" not in D.state_dict()
    assert D.b32.fromrgb.weight.shape[0] == 5 and G.synthesis.b8.conv1.weight.shape[0] == 9
    again = Architecture.described(json.loads(G.describe()), json.loads(D.describe()))
    assert again == architecture


@pytest.mark.parametrize("g, d", [("orig", "skip"), ("resnet", "orig"), ("skip", "resnet")])
def test_a_description_gives_the_architecture_back(g, d):
    architecture = tiny(g, d, img_channels=1, conv_clamp=256.0)
    G, D = random_pair(architecture, seed=0)
    assert Architecture.described(json.loads(G.describe()), json.loads(D.describe())) == architecture
    as_texts = {name: str(value) for name, value in {**json.loads(D.describe()), **json.loads(G.describe())}.items()}
    assert Architecture.described(as_texts) == architecture


def test_an_unknown_architecture_is_refused_with_what_there_is():
    with pytest.raises(ValueError, match="g_architecture must be skip, orig or resnet, not stylegan3"):
        tiny(g="stylegan3").validate()
    with pytest.raises(ValueError, match="d_architecture must be resnet, orig or skip, not unet"):
        tiny(d="unet").validate()
