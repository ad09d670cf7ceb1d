"""The formulations of the low-pass filter: one function, and the same derivatives of both orders. Which one is used depends on
the device, so each is called by itself here."""

import pytest
import torch
import torch.nn.functional as F
from rootgan.networks.pair import Architecture, random_pair
from rootgan.networks.resample import banded, bands, composed, down3x3, fir, resample_filter, up3x3, upsample_image
from test_precision import phase_gradient

# Lopsided and not of sum one, as a filter of an imported network may be.
LOPSIDED = torch.outer(torch.tensor([1.0, 3.0, 4.0, 2.0]), torch.tensor([2.0, 5.0, 1.0, -1.0])).double()


def derivatives(function, inputs, direction, second):
    """The result, its gradients, and the gradient of a function of those."""
    inputs = [value.clone().requires_grad_() for value in inputs]
    direction = direction.clone().requires_grad_()
    y = function(*inputs)
    first = torch.autograd.grad(y, inputs, direction, create_graph=True)
    return y, *first, *torch.autograd.grad((first[0] * second).sum(), direction)


def assert_same(function, other, inputs, draw):
    direction, second = draw(*function(*inputs).shape), draw(*inputs[0].shape)
    for value, usual in zip(derivatives(other, inputs, direction, second), derivatives(function, inputs, direction, second)):
        torch.testing.assert_close(value, usual, rtol=1e-11, atol=1e-11)


def drawing(seed, order=torch.contiguous_format):
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64).contiguous(memory_format=order)

    return draw


@pytest.mark.parametrize("order", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("padding, stride", [(2, 1), (1, 1), (1, 2)])
@pytest.mark.parametrize("h, w", [(4, 4), (16, 16), (32, 8), (9, 9), (65, 65)])
def test_banded_matrices_filter_as_a_convolution_does(h, w, padding, stride, order):
    draw, kernel = drawing(h, order), LOPSIDED

    def by_matrices(x):
        rows = bands(h, kernel.sum(dim=1) * (4.0 / kernel.sum()), padding, stride, x.dtype)
        return banded(x, rows, bands(w, kernel.sum(dim=0), padding, stride, x.dtype))

    x = draw(2, 5, h, w)
    assert_same(lambda x: fir(x, kernel, padding, stride, 4.0), by_matrices, [x], draw)
    assert by_matrices(x).is_contiguous(memory_format=order)


@pytest.mark.parametrize("h, w", [(4, 4), (16, 8), (5, 7)])
def test_banded_matrices_double_an_image_as_a_transposed_convolution_does(h, w):
    draw, kernel = drawing(h), resample_filter().double()

    def by_matrices(x):
        rows = bands(2 * h, kernel.sum(dim=1) * (4.0 / kernel.sum()), 1, 2, x.dtype).t()
        return banded(x, rows, bands(2 * w, kernel.sum(dim=0), 1, 2, x.dtype).t())

    assert_same(lambda x: upsample_image(x, kernel), by_matrices, [draw(2, 3, h, w)], draw)


@pytest.mark.parametrize("h, w", [(4, 4), (16, 8), (6, 10)])
def test_a_filter_can_be_a_part_of_the_kernel(h, w):
    draw = drawing(h)

    def down(x, weight):
        return F.conv2d(x, composed(weight, LOPSIDED.flip([0, 1])), stride=[2, 2], padding=[2, 2])

    def up(x, weight):
        return F.conv_transpose2d(x, composed(weight.transpose(0, 1), LOPSIDED * 4.0), stride=[2, 2], padding=[2, 2])

    inputs = [draw(2, 5, h, w), draw(7, 5, 3, 3)]
    assert_same(lambda x, weight: down3x3(x, weight, None, LOPSIDED), down, inputs, draw)
    assert_same(lambda x, weight: up3x3(x, weight, LOPSIDED), up, inputs, draw)


def test_rows_of_the_matrices_begin_where_matrix_units_want_them():
    for size, padding, stride in [(257, 1, 1), (256, 2, 1), (255, 1, 2), (4, 1, 1)]:
        matrix = bands(size, resample_filter().sum(dim=0), padding, stride, torch.float16)
        assert matrix.stride(0) % 8 == 0 and matrix.data_ptr() % 16 == 0


@pytest.mark.parametrize("phase", ["path length", "R1"])
@pytest.mark.parametrize("architectures", [("skip", "resnet"), ("resnet", "skip"), ("orig", "orig")], ids="-".join)
def test_the_number_of_convolutions_does_not_grow_with_the_channels(architectures, phase, own_derivatives):
    def convolutions(channels):
        g, d = architectures
        modules = random_pair(Architecture(32, z_dim=32, w_dim=32, mapping_layers=2, channel_base=32 * channels,
                                           channel_max=channels, g_architecture=g, d_architecture=d), seed=0)
        with torch.profiler.profile() as profile:
            phase_gradient(phase, *modules)
        return sum(event.count for event in profile.key_averages() if event.key == "aten::_convolution")

    assert convolutions(16) == convolutions(8)
