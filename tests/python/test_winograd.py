"""Tests the fast 3x3 convolution: it has the values and derivatives of the direct one, and is used where it pays."""

import pytest
import torch
import torch.nn.functional as F
from rootgan.networks.pair import Architecture, random_pair
from rootgan.networks.winograd import conv3x3, pays, winograd
from test_precision import PHASES, phase_gradient, relative


def derivatives(convolve, x, weight, direction):
    """Returns the result, both first derivatives, and both derivatives of a function of these."""
    x, weight = x.clone().requires_grad_(), weight.clone().requires_grad_()
    y = convolve(x, weight)
    first = torch.autograd.grad(y, (x, weight), direction, create_graph=True)
    return [y, *first, *torch.autograd.grad(first[0].sin().sum() + first[1].sin().sum(), (x, weight))]


@pytest.mark.parametrize("size", [4, 16, 32, 64])
def test_function_and_derivatives_of_both_orders(size):
    generator = torch.Generator().manual_seed(size)

    def draw(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    inputs = draw(2, 5, size, size), draw(7, 5, 3, 3), draw(2, 7, size, size)
    expected = derivatives(lambda x, w: F.conv2d(x, w, padding=1), *inputs)
    for found, direct in zip(derivatives(winograd, *inputs), expected):
        torch.testing.assert_close(found, direct, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("channels, size", [(128, 16), (128, 32), (512, 16)])
def test_rounding_in_float32(channels, size):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, channels, size, size, generator=generator)
    weight = torch.randn(channels, channels, 3, 3, generator=generator) / (3 * channels**0.5)
    exact = F.conv2d(x.double(), weight.double(), padding=1)
    error = winograd(x, weight).double() - exact
    assert exact.std().item() == pytest.approx(1, abs=0.1)
    assert error.square().mean().sqrt().item() < 2e-6
    assert error.abs().max().item() < 2e-5


def test_used_in_torchscript_for_wide_float32_images_alone():
    said = torch.jit.script(pays)
    wide = torch.zeros(128, 128, 3, 3)

    def image(size, channels=128, dtype=torch.float32):
        return torch.zeros(1, channels, size, size, dtype=dtype)

    assert said(image(16), wide) and said(image(32), wide)
    assert not pays(image(16), wide), "from Python a convolution stays one"
    assert not said(image(8), wide) and not said(image(64), wide) and not said(image(128), wide)
    assert said(image(64, 256), torch.zeros(256, 256, 3, 3))
    assert not said(image(16, 64), torch.zeros(128, 64, 3, 3)) and not said(image(16), torch.zeros(64, 128, 3, 3))
    for dtype in (torch.bfloat16, torch.float16, torch.float64):
        assert not said(image(16, dtype=dtype), wide)


def test_a_bias_is_added():
    x, weight, bias = torch.randn(1, 128, 16, 16), torch.randn(128, 128, 3, 3), torch.randn(128)
    torch.testing.assert_close(torch.jit.script(conv3x3)(x, weight, bias), F.conv2d(x, weight, bias, padding=1),
                               rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("phase", PHASES)
def test_training_phases_of_scripted_networks(phase):
    """Compares a pair of 32x32 that is wide enough with the same pair run from Python, which convolves directly."""
    modules = random_pair(Architecture(32, z_dim=32, w_dim=32, mapping_layers=2, channel_base=4096, channel_max=128), seed=0)
    for module in modules:
        for name, parameter in module.named_parameters():
            if name.endswith((".bias", ".noise_strength")):
                parameter.data.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    direct = phase_gradient(phase, *modules)
    scripted = [torch.jit.script(module) for module in modules]
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        found = phase_gradient(phase, *scripted)
    assert any(event.key == "aten::bmm" for event in profile.key_averages()), "the fast convolution was not used"
    # An activation within rounding of 0 may take the other slope: weights that differ by 1e-6 change the gradient of the path
    # length by 6e-4.
    assert relative(found, direct) < 3e-4
