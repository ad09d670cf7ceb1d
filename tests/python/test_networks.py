"""Tests the scripted networks: golden numbers through the saved and reloaded module, and the TorchScript contract."""

import io
import json
import os
import re
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from rootgan.make_pair import from_safetensors
from rootgan.networks.discriminator import minibatch_stddev
from rootgan.networks.pair import Architecture, random_pair
from safetensors.torch import load_file

ROOT = Path(__file__).resolve().parents[2]
GOLDEN_DIR = Path(os.environ.get("GOLDEN_DIR", ROOT / "tests" / "golden"))
GOLDEN = sorted(GOLDEN_DIR.glob("net_*.safetensors"))
# The sums are float32 in another order. Ours agree to 2e-6 of the largest entry; this leaves room for other machines.
RELATIVE = 1e-4
ABSOLUTE = 2e-5  # of ws and images, whose entries are of order one


def through_a_file(module):
    """Returns the module as another program sees it: scripted, saved and loaded."""
    file = io.BytesIO()
    torch.jit.save(torch.jit.script(module.eval()), file)
    file.seek(0)
    return torch.jit.load(file)


def tiny(resolution=16, **sizes):
    defaults = {"z_dim": 8, "w_dim": 12, "mapping_layers": 2, "channel_base": 1024, "channel_max": 6}
    return Architecture(resolution, **{**defaults, **sizes})


class Case:
    """One golden file with its pair."""

    def __init__(self, path):
        self.tensors = load_file(path)
        self.G, self.D = (through_a_file(module) for module in from_safetensors(path))
        self.z, self.c, self.x = self.io("z"), self.tensors.get("io.c"), self.io("x")

    def io(self, name):
        return self.tensors[f"io.{name}"]

    def agrees(self, name, found, absolute=None):
        expected = self.tensors[name]
        assert found.shape == expected.shape, name
        difference = (found.detach() - expected).abs().max().item()
        largest = expected.abs().max().item()
        assert difference <= RELATIVE * largest, f"{name}: off by {difference} where the largest entry is {largest}"
        if absolute is not None:
            assert difference <= absolute, f"{name}: off by {difference}"

    def gradient_agrees(self, prefix, loss, module):
        """Asserts that every stored gradient is met, and that parameters without a stored one have no gradient."""
        self.agrees(f"io.loss_{prefix.removeprefix('grad_')}", loss)
        trained = {name: p for name, p in module.named_parameters() if p.requires_grad}
        gradients = torch.autograd.grad(loss, list(trained.values()), allow_unused=True)
        stored = {name.removeprefix(f"{prefix}.") for name in self.tensors if name.startswith(f"{prefix}.")}
        assert stored and stored <= set(trained)
        for name, gradient in zip(trained, gradients):
            if name in stored:
                assert gradient is not None, f"{prefix}.{name}: no gradient arrives"
                self.agrees(f"{prefix}.{name}", gradient)
            else:
                assert gradient is None or not gradient.any(), f"{prefix}.{name}: a gradient where none belongs"

    def fakes(self):
        return self.G.synthesis(self.G.mapping(self.z, self.c), noise_mode="const")


@pytest.fixture(params=GOLDEN, ids=lambda path: path.stem)
def golden(request):
    return Case(request.param)


def test_there_are_golden_files():
    assert GOLDEN, f"no net_*.safetensors in '{GOLDEN_DIR}'; unset GOLDEN_DIR or point it at such files"


def test_mapping_and_truncation_agree_with_golden(golden):
    golden.agrees("io.ws", golden.G.mapping(golden.z, golden.c), ABSOLUTE)
    golden.agrees("io.ws_psi0.7", golden.G.mapping(golden.z, golden.c, truncation_psi=0.7), ABSOLUTE)
    cut = golden.G.mapping(golden.z, golden.c, truncation_psi=0.5, truncation_cutoff=4)
    golden.agrees("io.ws_psi0.5_cutoff4", cut, ABSOLUTE)


def test_images_agree_with_golden(golden):
    golden.agrees("io.img_const", golden.G.synthesis(golden.io("ws"), noise_mode="const"), ABSOLUTE)
    golden.agrees("io.img_none", golden.G.synthesis(golden.io("ws"), noise_mode="none"), ABSOLUTE)
    golden.agrees("io.img_const", golden.G(golden.z, golden.c, noise_mode="const"), ABSOLUTE)


def test_logits_agree_with_golden(golden):
    golden.agrees("io.d_logits_x", golden.D(golden.x, golden.c))
    golden.agrees("io.d_logits_fake", golden.D(golden.io("img_const"), golden.c))


def test_w_avg_after_one_update_agrees_with_golden(golden):
    golden.G.mapping(golden.z, golden.c, update_w_avg=True)
    golden.agrees("io.w_avg_after_one_update", golden.G.mapping.w_avg)


def test_generator_gradient_agrees_with_golden(golden):
    loss = F.softplus(-golden.D(golden.fakes(), golden.c)).mean()
    golden.gradient_agrees("grad_Gmain", loss, golden.G)


def test_rooted_generator_gradient_agrees_with_golden(golden):
    loss = (2 * torch.exp(F.softplus(-golden.D(golden.fakes(), golden.c)) / 2)).mean()
    golden.gradient_agrees("grad_Gmain_rooted_k2", loss, golden.G)


def test_r1_differentiated_twice_agrees_with_golden(golden):
    x = golden.x.clone().requires_grad_()
    logits = golden.D(x, golden.c)
    (gradient,) = torch.autograd.grad(logits.sum(), x, create_graph=True)
    r1 = gradient.square().sum(dim=[1, 2, 3])
    golden.agrees("io.r1_image_grad", gradient)
    golden.agrees("io.r1_penalty", r1)
    golden.gradient_agrees("grad_Dr1", (F.softplus(-logits).squeeze(1) + 5 * r1).mean(), golden.D)


def test_path_length_differentiated_twice_agrees_with_golden(golden):
    ws = golden.G.mapping(golden.z, golden.c)
    images = golden.G.synthesis(ws, noise_mode="const")
    noise = golden.io("pl_noise_unit") / images.shape[2]
    (gradient,) = torch.autograd.grad((images * noise).sum(), ws, create_graph=True)
    lengths = gradient.square().sum(dim=2).mean(dim=1).sqrt()
    mean = torch.lerp(torch.zeros([]), lengths.mean(), 0.01)
    golden.agrees("io.pl_lengths", lengths)
    golden.agrees("io.pl_mean_after", mean)
    golden.gradient_agrees("grad_Gpl", 2 * (lengths - mean).square().mean(), golden.G)


@pytest.mark.parametrize("resolution", [16, 32, 64, 128, 256, 512, 1024])
def test_every_power_of_two_from_16_to_1024_works(resolution):
    generator, discriminator = random_pair(tiny(resolution, channel_max=3), seed=0)
    G, D = torch.jit.script(generator), torch.jit.script(discriminator)
    with torch.no_grad():
        images = G(torch.randn(1, 8))
        assert images.shape == (1, 3, resolution, resolution) and images.isfinite().all()
        assert D(images).shape == (1, 1)
    assert G.num_ws == 2 * (resolution.bit_length() - 1) - 2


@pytest.mark.parametrize("sizes", [{}, {"c_dim": 3}, {"img_channels": 1}, {"c_dim": 1, "img_channels": 1},
                                   {"conv_clamp": 256.0}, {"z_dim": 5, "w_dim": 7}], ids=str)
def test_a_reloaded_pair_gives_the_same_numbers_for_batch_1_and_5(sizes):
    architecture = tiny(mbstd_group_size=5, **sizes)
    pair = random_pair(architecture, seed=1)
    G, D = (through_a_file(module) for module in pair)
    z = torch.randn(5, architecture.z_dim)
    c = torch.eye(architecture.c_dim)[torch.arange(5) % architecture.c_dim] if architecture.c_dim else None
    with torch.no_grad():
        images = G(z, c, noise_mode="const")
        for n in (1, 5, 1):
            label = None if c is None else c[:n]
            # Another batch size may choose another convolution kernel, so images are equal only up to float32 rounding.
            torch.testing.assert_close(G(z[:n], label, noise_mode="const"), images[:n], rtol=0, atol=1e-5)
            assert torch.equal(G(z[:n], label, noise_mode="const"), pair[0](z[:n], label, noise_mode="const"))
            assert torch.equal(D(images[:n], label), pair[1](images[:n], label))


def test_python_users_find_their_attributes_on_a_loaded_generator():
    G = through_a_file(random_pair(tiny(c_dim=2, img_channels=1), seed=0)[0])
    assert (G.z_dim, G.c_dim, G.w_dim, G.num_ws, G.img_resolution, G.img_channels) == (8, 2, 12, 6, 16, 1)
    assert G.mapping.w_avg.shape == (12,) and "mapping.w_avg" in G.state_dict()
    images = G(torch.zeros(2, 8), torch.eye(2), truncation_psi=0.7, noise_mode="const")
    assert images.shape == (2, 1, 16, 16)


def test_describe_says_the_sizes_and_the_version():
    G, D = (through_a_file(module) for module in random_pair(tiny(c_dim=2), seed=0))
    g, d = json.loads(G.describe()), json.loads(D.describe())
    assert g == {"contract": 1, "kind": "generator", "z_dim": 8, "c_dim": 2, "w_dim": 12, "num_ws": 6,
                 "img_resolution": 16, "img_channels": 3, "mapping_layers": 2, "channel_base": 1024, "channel_max": 6,
                 "conv_clamp": None, "noise_numel": 16 + 2 * 64 + 2 * 256, "g_architecture": "skip"}
    assert d == {"contract": 1, "kind": "discriminator", "c_dim": 2, "img_resolution": 16, "img_channels": 3,
                 "channel_base": 1024, "channel_max": 6, "conv_clamp": None, "mbstd_group_size": 4,
                 "d_architecture": "resnet", "d_mapping_layers": 8}


def test_the_methods_for_programs_without_python_are_the_submodules():
    G = through_a_file(random_pair(tiny(), seed=0)[0])
    z = torch.randn(2, 8)
    assert torch.equal(G.run_mapping(z, None, 0.7, 3, False), G.mapping(z, truncation_psi=0.7, truncation_cutoff=3))
    ws = G.mapping(z)
    assert torch.equal(G.run_synthesis(ws, "const", None), G.synthesis(ws, noise_mode="const"))


def test_truncation_pulls_the_first_rows_towards_w_avg():
    generator = random_pair(tiny(), seed=0)[0]
    torch.nn.init.normal_(generator.mapping.w_avg)
    G = through_a_file(generator)
    z = torch.randn(2, 8)
    ws, cut = G.mapping(z), G.mapping(z, truncation_psi=0.0, truncation_cutoff=2)
    assert torch.allclose(cut[:, :2], G.mapping.w_avg.expand(2, 2, 12)) and torch.equal(cut[:, 2:], ws[:, 2:])
    assert torch.equal(G.mapping(z, truncation_psi=0.5, truncation_cutoff=0), ws)
    assert torch.equal(G.mapping(z, truncation_psi=0.5, truncation_cutoff=99), G.mapping(z, truncation_psi=0.5))


def test_w_avg_moves_only_when_asked_and_is_saved():
    G = through_a_file(random_pair(tiny(), seed=0)[0])
    z = torch.randn(4, 8)
    G(z), G.mapping(z)
    assert not G.mapping.w_avg.any()
    ws = G.mapping(z, update_w_avg=True)
    expected = 0.005 * ws[:, 0].mean(dim=0)
    torch.testing.assert_close(G.mapping.w_avg.detach(), expected)
    file = io.BytesIO()
    torch.jit.save(G, file)
    file.seek(0)
    torch.testing.assert_close(torch.jit.load(file).mapping.w_avg.detach(), expected)


def test_provenance_can_be_replaced_and_is_saved():
    G = through_a_file(random_pair(tiny(), seed=3)[0])
    assert json.loads(G.get_provenance())["seed"] == 3
    G.set_provenance('{"source": "elsewhere"}')
    file = io.BytesIO()
    torch.jit.save(G, file)
    file.seek(0)
    assert torch.jit.load(file).get_provenance() == '{"source": "elsewhere"}'


def test_given_noise_replaces_the_random_draws():
    generator = random_pair(tiny(), seed=0)[0]
    stored = [p.reshape(-1) for name, p in generator.named_parameters() if name.endswith("noise_const")]
    for name, p in generator.named_parameters():
        if name.endswith("noise_strength"):
            torch.nn.init.constant_(p, 0.5)
    G = through_a_file(generator)
    ws = G.mapping(torch.randn(2, 8))
    noise = torch.cat(stored).expand(2, -1)
    with torch.no_grad():
        # The stored noise, given from outside, makes the picture that `const` makes.
        torch.testing.assert_close(G.synthesis(ws, "random", noise), G.synthesis(ws, "const"), rtol=0, atol=1e-6)
        assert not torch.allclose(G.synthesis(ws, "random"), G.synthesis(ws, "random"))
        other = torch.randn(2, noise.shape[1])
        both = G.synthesis(ws, "random", other)
        torch.testing.assert_close(G.synthesis(ws[1:], "random", other[1:]), both[1:], rtol=0, atol=1e-5)


def test_trained_and_frozen_parameters_are_told_apart():
    G, D = (through_a_file(module) for module in random_pair(tiny(c_dim=2), seed=0))
    frozen = re.compile(r"(^|\.)(resample_filter|noise_const|w_avg)$")
    for module in (G, D):
        assert not list(module.named_buffers())
        for name, parameter in module.named_parameters():
            assert parameter.requires_grad == (frozen.search(name) is None), name


def test_minibatch_stddev_of_a_known_batch():
    # The groups are {0, 2} and {1, 3}, whose biased deviations are 1 and 3.
    x = torch.tensor([0.0, 10.0, 2.0, 16.0]).view(4, 1, 1, 1).expand(4, 2, 4, 4)
    added = minibatch_stddev(x, 2)[:, 2]
    torch.testing.assert_close(added, torch.tensor([1.0, 3.0, 1.0, 3.0]).view(4, 1, 1).expand(4, 4, 4))


def test_a_batch_that_the_groups_do_not_divide_is_refused():
    D = through_a_file(random_pair(tiny(), seed=0)[1])
    with pytest.raises(Exception, match="batch of 6 images .* groups of 4; pass at most 4 images or a multiple of 4"):
        D(torch.zeros(6, 3, 16, 16))


@pytest.mark.parametrize("call, message", [
    (lambda G, D: G(torch.zeros(2, 5)), r"z has shape \[2, 5\], expected \[N, 8\]"),
    (lambda G, D: G(torch.zeros(2, 8), torch.eye(2)), r"c has shape \[2, 2\], but this network has no labels"),
    (lambda G, D: G(torch.zeros(2, 8), noise_mode="some"), "noise_mode is 'some', expected const, random or none"),
    (lambda G, D: G.mapping(torch.zeros(2, 8), None, 0.5, -1), "truncation_cutoff is -1, expected 0 to 6"),
    (lambda G, D: G.synthesis(torch.zeros(2, 12)), r"ws has shape \[2, 12\], expected \[N, 6, 12\]"),
    (lambda G, D: G.synthesis(torch.zeros(2, 6, 12), "random", torch.zeros(1, 656)),
     r"noise has shape \[1, 656\], expected \[2, 656\]"),
    (lambda G, D: D(torch.zeros(2, 3, 32, 32)), r"img has shape \[2, 3, 32, 32\], expected \[N, 3, 16, 16\]"),
])
def test_a_wrong_argument_is_named_with_what_was_expected(call, message):
    with pytest.raises(Exception, match=message):
        call(*(torch.jit.script(module) for module in random_pair(tiny(), seed=0)))


@pytest.mark.parametrize("c, message", [
    (None, r"pass labels c of shape \[2, 3\]"),
    (torch.zeros(2, 4), r"c has shape \[2, 4\], expected \[2, 3\]"),
    (torch.zeros(1, 3), r"c has shape \[1, 3\], expected \[2, 3\]"),
])
def test_wrong_labels_are_refused_by_both_networks(c, message):
    G, D = (torch.jit.script(module) for module in random_pair(tiny(c_dim=3), seed=0))
    with pytest.raises(Exception, match=message):
        G(torch.zeros(2, 8), c)
    with pytest.raises(Exception, match=message):
        D(torch.zeros(2, 3, 16, 16), c)


def test_labels_change_image_and_logit():
    G, D = (through_a_file(module) for module in random_pair(tiny(c_dim=2), seed=0))
    z, c = torch.randn(1, 8), torch.eye(2)
    with torch.no_grad():
        image = G(z, c[:1], noise_mode="const")
        assert not torch.allclose(image, G(z, c[1:], noise_mode="const"))
        assert not torch.allclose(D(image, c[:1]), D(image, c[1:]))


def test_nothing_in_the_scripts_needs_python():
    for module in random_pair(tiny(c_dim=2), seed=0):
        assert "prim::PythonOp" not in str(torch.jit.script(module).inlined_graph)
    sources = list((ROOT / "python" / "rootgan" / "networks").glob("*.py"))
    assert sources and not any("autograd.Function" in source.read_text() for source in sources)
