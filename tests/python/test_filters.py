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
@pytest.mark.parametrize("h, w", [(4, 4), (16, 16), (32, 8), (9, 9), (65, 65), (66, 66)])
def test_both_filters_are_one_function_with_one_derivative(h, w, padding, stride, order):
    generator = torch.Generator().manual_seed(h)

    def draw(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64).contiguous(memory_format=order)

    kernel = resample_filter().double()
    if padding is not None:  # lopsided and not of sum one: doubling an image is for the usual filter
        kernel = torch.outer(torch.tensor([1.0, 3.0, 4.0, 2.0]), torch.tensor([2.0, 5.0, 1.0, -1.0])).double()

    def filtered(x, twice):
        return upsample_image(x, kernel, twice) if padding is None else fir(x, kernel, padding, stride, 4.0, twice)

    x = draw(2, 5, h, w)
    expected = filtered(x, False)
    direction, second = draw(*expected.shape), draw(*x.shape)
    found = derivatives(lambda x: filtered(x, True), x, direction, second)
    for value, usual in zip(found, derivatives(lambda x: filtered(x, False), x, direction, second)):
        torch.testing.assert_close(value, usual, rtol=1e-11, atol=1e-11)
    assert found[0].is_contiguous(memory_format=order) or h == 66, "beyond 65 it is the usual filter"


ARCHITECTURES = [("skip", "resnet"), ("resnet", "skip"), ("orig", "orig")]


def pair(architectures, channels=16):
    g, d = architectures
    return random_pair(Architecture(32, z_dim=32, w_dim=32, mapping_layers=2, channel_base=32 * channels,
                                    channel_max=channels, g_architecture=g, d_architecture=d), seed=0)


@pytest.mark.parametrize("phase", ["path length", "R1"])
@pytest.mark.parametrize("architectures", ARCHITECTURES)
def test_regularisers_do_not_depend_on_the_order_that_is_set(architectures, phase):
    modules = [torch.jit.script(module) for module in pair(architectures)]
    usual = phase_gradient(phase, *modules)
    for order in (2, 1):
        for module in modules:
            module.set_derivatives(order)
        assert modules[0].synthesis.twice == modules[1].twice == (order == 2)
        assert relative(phase_gradient(phase, *modules), usual) < 2e-5


@pytest.mark.parametrize("phase", ["path length", "R1"])
@pytest.mark.parametrize("architectures", ARCHITECTURES)
def test_the_number_of_convolutions_does_not_grow_with_the_channels(architectures, phase):
    def convolutions(channels, order):
        modules = pair(architectures, channels)
        for module in modules:
            module.set_derivatives(order)
        with torch.profiler.profile() as profile:
            phase_gradient(phase, *modules)
        return sum(event.count for event in profile.key_averages() if event.key == "aten::_convolution")

    assert convolutions(16, 2) == convolutions(8, 2)
    assert convolutions(16, 1) > convolutions(8, 1) > convolutions(8, 2)


@pytest.mark.parametrize("order", [0, 3])
def test_another_order_is_refused(order):
    for module in random_pair(Architecture(16, channel_base=64, channel_max=8), seed=0):
        with pytest.raises(ValueError, match=f"order is {order}, expected 1 or 2 derivatives"):
            module.set_derivatives(order)
