"""Tests set_precision: which resolutions it reduces, how close results are to float32 in all four training phases, and
the way back to float32."""

import io

import pytest
import torch
import torch.nn.functional as F
from rootgan.networks.layers import activate_in_place, precision
from rootgan.networks.pair import Architecture, random_pair

KINDS = {"bf16": torch.bfloat16, "fp16": torch.float16}
PHASES = ("Gmain", "path length", "Dmain", "R1")


def through_a_file(module):
    file = io.BytesIO()
    torch.jit.save(module, file)
    file.seek(0)
    return torch.jit.load(file)


def pair(**sizes):
    """Makes a scripted pair of 32x32 whose biases and noise strengths are not zero, as they are at the start."""
    defaults = {"z_dim": 32, "w_dim": 32, "mapping_layers": 2, "channel_base": 1024, "channel_max": 32}
    modules = random_pair(Architecture(32, **{**defaults, **sizes}), seed=0)
    for module in modules:
        for name, parameter in module.named_parameters():
            if name.endswith((".bias", ".noise_strength")):
                parameter.data.add_(0.1 * torch.randn(parameter.shape))
    return [torch.jit.script(module.eval()) for module in modules]


def set_both(G, D, kind, num_res):
    G.set_precision(kind, num_res)
    D.set_precision(kind, num_res)


def draws():
    generator = torch.Generator().manual_seed(5)
    return torch.randn(8, 32, generator=generator), torch.randn(8, 3, 32, 32, generator=generator)


def phase_gradient(phase, G, D):
    """Returns the gradient of one training phase for all parameters of its network, in one float32 vector."""
    z, x = draws()
    if phase == "path length":
        ws = G.mapping(z)
        images = G.synthesis(ws, noise_mode="const")
        (gradient,) = torch.autograd.grad((images * x).sum() / 32, ws, create_graph=True)
        lengths = gradient.square().sum(dim=2).mean(dim=1).sqrt()
        module, loss = G, 2 * (lengths - 0.01 * lengths.mean()).square().mean()
    elif phase == "R1":
        x.requires_grad_()
        (gradient,) = torch.autograd.grad(D(x).sum(), x, create_graph=True)
        module, loss = D, gradient.square().sum(dim=[1, 2, 3]).mean()
    else:
        module = G if phase == "Gmain" else D
        with torch.set_grad_enabled(module is G):
            images = G(z, noise_mode="const")
        loss = F.softplus(-D(images)).mean() if module is G else (F.softplus(D(images)) + F.softplus(-D(x))).mean()
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    gradients = torch.autograd.grad(loss, trained, allow_unused=True)
    assert all(g is None or g.dtype == torch.float32 for g in gradients)
    return torch.cat([torch.zeros(p.numel()) if g is None else g.flatten() for p, g in zip(trained, gradients)])


def relative(found, expected):
    return ((found - expected).norm() / expected.norm()).item()


@pytest.mark.parametrize("num_res, resolution, lowest", [
    (0, 64, 128), (1, 64, 64), (2, 64, 32), (4, 64, 8), (5, 64, 8), (99, 64, 8), (4, 256, 32), (4, 16, 8), (4, 1024, 128)])
def test_the_highest_resolutions_are_reduced_and_4x4_never(num_res, resolution, lowest):
    for kind, dtype in KINDS.items():
        assert precision(kind, num_res, resolution) == (dtype, lowest)
    assert precision("fp32", num_res, resolution) == (torch.float32, 2 * resolution)


@pytest.mark.parametrize("num_res, reduced", [(0, []), (1, [32]), (2, [16, 32]), (4, [8, 16, 32])])
def test_the_blocks_compute_in_the_type_of_their_resolution(num_res, reduced):
    G, D = random_pair(Architecture(32, z_dim=8, w_dim=8, mapping_layers=1, channel_base=128, channel_max=8), seed=0)
    set_both(G, D, "bf16", num_res)
    seen = {}
    for parent, name in ((G.synthesis, "synthesis."), (D, "")):
        for r in (4, 8, 16, 32):
            block = getattr(parent, f"b{r}")
            layer = block.conv if name == "" and r == 4 else block.conv1
            layer.register_forward_hook(lambda _, __, y, key=name + str(r): seen.update({key: y.dtype}))
    images = G(torch.randn(2, 8))
    assert images.dtype == D(images).dtype == torch.float32
    for key, dtype in seen.items():
        assert dtype == (torch.bfloat16 if int(key.split(".")[-1]) in reduced else torch.float32), key
    assert len(seen) == 8


def test_back_in_fp32_every_number_is_what_it_was():
    G, D = pair()
    z, x = draws()
    before, gradients = (G(z, noise_mode="const"), D(x)), [phase_gradient(phase, G, D) for phase in PHASES]
    set_both(G, D, "bf16", 4)
    assert not torch.equal(G(z, noise_mode="const"), before[0]) and not torch.equal(D(x), before[1])
    set_both(G, D, "fp32", 4)
    assert torch.equal(G(z, noise_mode="const"), before[0]) and torch.equal(D(x), before[1])
    # Gradients differ in their last bits from one call to the next in fp32 too: TorchScript optimises as it goes.
    for phase, gradient in zip(PHASES, gradients):
        assert relative(phase_gradient(phase, G, D), gradient) < 1e-6, phase


def test_a_file_saved_back_in_fp32_is_the_original():
    originals = pair()
    z, x = draws()
    images, logits = originals[0](z, noise_mode="const"), originals[1](x)
    set_both(*originals, "bf16", 4)
    set_both(*originals, "fp32", 0)
    G, D = (through_a_file(module) for module in originals)
    for module, original in zip((G, D), originals):
        state, expected = module.state_dict(), original.state_dict()
        assert list(state) == list(expected) and all(torch.equal(state[name], expected[name]) for name in state)
        assert module.describe() == original.describe()
    assert torch.equal(G(z, noise_mode="const"), images) and torch.equal(D(x), logits)


# Norm of the difference / norm, measured: bf16 0.0072 to 0.0107 (images), 0.0014 to 0.0050 (logits); fp16 0.0009 to 0.0014
# and 0.0003 to 0.0006. That is rounding to 8 and 11 bits in some ten layers; the tolerance leaves room for other machines.
@pytest.mark.parametrize("kind, tolerance", [("bf16", 0.03), ("fp16", 0.004)])
@pytest.mark.parametrize("architectures", [("skip", "resnet"), ("orig", "orig"), ("resnet", "skip")], ids="-".join)
def test_images_and_logits_are_close_to_fp32(kind, tolerance, architectures):
    G, D = pair(g_architecture=architectures[0], d_architecture=architectures[1])
    z, x = draws()
    with torch.no_grad():
        images, logits = G(z, noise_mode="const"), D(x)
        set_both(G, D, kind, 4)
        assert relative(G(z, noise_mode="const"), images) < tolerance
        assert relative(D(x), logits) < tolerance


# Measured in the order of PHASES: 1 - cosine 4e-4, 6e-4, 1.1e-3, 1e-4 and norms off by at most 0.010 in bf16; 1.6e-5, 3e-5,
# 1.5e-4, 2e-6 and 0.0045 in fp16. The cosine's bound is 5e-3 and 4.5e-4.
@pytest.mark.parametrize("kind, tolerance", [("bf16", 0.1), ("fp16", 0.03)])
@pytest.mark.parametrize("phase", PHASES)
def test_gradients_of_every_phase_are_close_to_fp32(phase, kind, tolerance, own_derivatives):
    G, D = pair()
    expected = phase_gradient(phase, G, D)
    set_both(G, D, kind, 4)
    found = phase_gradient(phase, G, D)
    assert found.isfinite().all()
    assert F.cosine_similarity(found, expected, dim=0) > 1 - tolerance**2 / 2
    assert abs(found.norm() / expected.norm() - 1) < tolerance


def test_fp16_does_not_overflow_where_styles_and_weights_are_large():
    G = pair()[0]
    z = draws()[0]
    with torch.no_grad():
        for name, parameter in G.named_parameters():
            if name.endswith(("conv0.weight", "conv1.weight")):
                parameter.mul_(1e3)
            elif name.endswith(("conv0.affine.bias", "conv1.affine.bias")):
                parameter.mul_(1e5)  # beyond float16's 65504 already
        images = G(z, noise_mode="const")
        G.set_precision("fp16", 4)
        assert relative(G(z, noise_mode="const"), images) < 0.004
        # torgb has no demodulation: the styles are multiplied in again in float32, and the clamp bounds the result.
        for name, parameter in G.named_parameters():
            if name.endswith("torgb.affine.bias"):
                parameter.mul_(1e5)
        assert G(z, noise_mode="const").isfinite().all()


def test_a_clamped_activation_has_no_gradient_at_and_beyond_the_bound():
    x = torch.tensor([-11.0, -10.0, -5.0, 1.0, 2.0, 3.0], requires_grad=True)
    (gradient,) = torch.autograd.grad(activate_in_place(1.0 * x, 1.0, 2.0).sum(), x)
    assert gradient.tolist() == pytest.approx([0, 0, 0.2, 1, 0, 0])


def test_16_bit_layers_are_clamped_at_256_or_at_the_files_own_bound():
    for clamp, bound in ((None, 256.0), (2.0, 2.0)):
        D = random_pair(Architecture(16, channel_base=128, channel_max=8, conv_clamp=clamp), seed=0)[1]
        layer = D.b16.conv1
        x = 1e5 * torch.ones(1, 8, 16, 16, dtype=torch.bfloat16)
        assert layer(x).abs().max() == torch.tensor(bound * layer.gain).bfloat16()
        assert (layer(x.float()).abs().max() > 256) == (clamp is None)


@pytest.mark.parametrize("arguments, message", [
    (("int8", 4), "kind is 'int8', expected fp32, bf16 or fp16"),
    (("bf16", -1), "num_res is -1, expected 0 or more resolutions")])
def test_a_wrong_precision_is_refused_and_changes_nothing(arguments, message):
    z, x = draws()
    for module, given in zip(pair(), (z, x)):
        module.set_precision("bf16", 1)
        torch.manual_seed(0)
        before = module(given)
        with pytest.raises(Exception, match=message):
            module.set_precision(*arguments)
        torch.manual_seed(0)
        assert torch.equal(module(given), before)
