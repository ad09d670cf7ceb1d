"""The filters for second derivatives: the function and the derivatives of the usual ones, and what switches them on."""

import pytest
import torch
from networks.pair import Architecture, random_pair
from networks.resample import fir, resample_filter, upsample_image
from test_precision import phase_gradient, relative


def derivatives(function, x, direction, second):
    """The result, its gradient, and the gradient of a function of that one."""
    x, direction = x.clone().requires_grad_(), direction.clone().requires_grad_()
    y = function(x)
    (first,) = torch.autograd.grad(y, x, direction, create_graph=True)
    return y, first, *torch.autograd.grad((first * second).sum(), direction)


@pytest.mark.parametrize("order", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("padding, stride", [(2, 1), (1, 1), (1, 2), (None, None)])
@pytest.mark.parametrize("h, w", [(4, 4), (16, 16), (32, 8), (9, 9)])
def test_function_and_derivatives(h, w, padding, stride, order):
    generator = torch.Generator().manual_seed(h)

    def draw(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64).contiguous(memory_format=order)

    def filtered(x, twice):
        kernel = resample_filter().double()
        return upsample_image(x, kernel, twice) if padding is None else fir(x, kernel, padding, stride, 4.0, twice)

    x = draw(2, 5, h, w)
    expected = filtered(x, False)
    direction, second = draw(*expected.shape), draw(*x.shape)
    found = derivatives(lambda x: filtered(x, True), x, direction, second)
    for value, usual in zip(found, derivatives(lambda x: filtered(x, False), x, direction, second)):
        torch.testing.assert_close(value, usual, rtol=1e-12, atol=1e-12)
    assert found[0].is_contiguous(memory_format=order)


@pytest.mark.parametrize("architectures", [("skip", "resnet"), ("resnet", "skip"), ("orig", "orig")])
def test_regularisers_of_scripted_networks(architectures):
    g, d = architectures
    pair = [torch.jit.script(module) for module in random_pair(
        Architecture(32, z_dim=32, w_dim=32, mapping_layers=2, channel_base=256, channel_max=16, g_architecture=g,
                     d_architecture=d), seed=0)]
    for phase in ("path length", "R1"):
        usual = phase_gradient(phase, *pair)
        for module in pair:
            module.set_derivatives(2)
        assert pair[0].synthesis.twice and pair[1].twice
        assert relative(phase_gradient(phase, *pair), usual) < 2e-5
        for module in pair:
            module.set_derivatives(1)
        assert not pair[0].synthesis.twice and not pair[1].twice


def test_no_loop_over_channels():
    """What it is for: the number of convolutions in R1 does not grow with the channels."""
    def convolutions(channels, order):
        D = random_pair(Architecture(16, channel_base=16 * channels, channel_max=channels), seed=0)[1]
        D.set_derivatives(order)
        x = torch.randn(4, 3, 16, 16, requires_grad=True)
        with torch.profiler.profile() as profile:
            (gradient,) = torch.autograd.grad(D(x).sum(), x, create_graph=True)
            torch.autograd.grad(gradient.square().sum(), [p for p in D.parameters() if p.requires_grad], allow_unused=True)
        return sum(event.count for event in profile.key_averages() if event.key == "aten::_convolution")

    assert convolutions(16, 2) == convolutions(8, 2)
    assert convolutions(16, 1) > convolutions(8, 1) > convolutions(8, 2)


@pytest.mark.parametrize("order", [0, 3])
def test_another_order_is_refused(order):
    for module in random_pair(Architecture(16, channel_base=64, channel_max=8), seed=0):
        with pytest.raises(ValueError, match=f"order is {order}, expected 1 or 2 derivatives"):
            module.set_derivatives(order)
