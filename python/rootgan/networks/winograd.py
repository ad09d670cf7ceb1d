"""The 3x3 convolution of stride 1 by Winograd's minimal filtering F(4x4, 3x3) (Lavin and Gray, arXiv 1509.09308): 36
multiplications for 16 results of one pair of channels instead of 144.

It is the same function with the same derivatives, rounded a little differently: in float32 the results differ by some
1e-6 of their size from those of a direct convolution, whose own rounding is some 1e-7. The points are 0, +-sqrt(1/2),
+-sqrt(2) and infinity, whose error is a fifth of that of the common 0, +-1, +-2 (benches/NOTES.md).

The method is made of matrix products and reorderings alone, so it can be differentiated any number of times. The
image's transform is one banded matrix per axis, which also stands for the zeros around the image.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from .axes import along_both_axes


def conv3x3(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Convolves x [N, in, H, W] with pad 1: weight [out, in, 3, 3], bias [out] -> [N, out, H, W]."""
    if pays(x, weight):
        y = winograd(x, weight)
        if bias is not None:
            y += bias.view(1, -1, 1, 1)
        return y
    return F.conv2d(x, weight, bias, padding=[1, 1])


def pays(x: Tensor, weight: Tensor) -> bool:
    """Whether `winograd` is the faster way: square float32 images of 16x16 to 64x64 on the CPU, and enough channels for
    the products to outweigh the transforms. The number of images does not matter, so that it does not change results.

    It is used in TorchScript only: run from Python, as for an export to ONNX, a convolution stays a convolution."""
    if not torch.jit.is_scripting() or x.device.type != "cpu" or x.dtype != torch.float32:
        return False
    size, channels = x.shape[2], min(weight.shape[0], weight.shape[1])
    return size == x.shape[3] and size % 4 == 0 and 16 <= size <= 64 and channels >= max(128, 4 * size)


def winograd(x: Tensor, weight: Tensor) -> Tensor:
    """Computes `conv3x3` of square images [N, in, 4 T, 4 T] without a bias. It is fastest with x in channels-last
    order, in which the result is too."""
    n, inputs, size, outputs = x.shape[0], x.shape[1], x.shape[2], weight.shape[0]
    tiles = size // 4
    into, filters, out = transforms(tiles, x)
    # [36, in, out]: the filters at every pair of points. Two transposes of large blocks are faster than one of all axes.
    taps = weight.reshape(outputs, inputs * 9).t().contiguous().view(inputs, 9, outputs).transpose(0, 1)
    u = torch.mm(filters, taps.reshape(9, inputs * outputs)).view(36, inputs, outputs)
    # [N, 6 T, 6 T, in] -> [36, N * T * T, in]: the images at every pair of points, tile by tile.
    v = along_both_axes(x, into, into).view(n, 6, tiles, 6, tiles, inputs)
    v = v.permute(1, 3, 0, 2, 4, 5).reshape(36, n * tiles * tiles, inputs)
    y = torch.mm(out, torch.bmm(v, u).view(36, n * tiles * tiles * outputs))
    # [4, 4, N, T, T, out]: the pixels of every tile.
    y = y.view(4, 4, n, tiles, tiles, outputs).permute(2, 3, 0, 4, 1, 5).reshape(n, size, size, outputs)
    return y.permute(0, 3, 1, 2)


def transforms(tiles: int, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Returns three matrices: from pixels to points along one axis [6 T, 4 T], with row i * T + t for point i of tile
    t; from filters to points of both axes [36, 9]; from points of both axes to the pixels of a tile [16, 36]."""
    # The numbers listed are whole or simple binary fractions, which every type holds exactly.
    b = with_root([[1.0, 0.0, -2.5, 0.0, 1.0, 0.0], [0.0, 0.0, -2.0, 0.0, 1.0, 0.0], [0.0, 0.0, -2.0, 0.0, 1.0, 0.0],
                   [0.0, 0.0, -0.5, 0.0, 1.0, 0.0], [0.0, 0.0, -0.5, 0.0, 1.0, 0.0], [0.0, 1.0, 0.0, -2.5, 0.0, 1.0]],
                  [[0.0, 0.0, 0.0, 0.0, 0.0, 0.0], [0.0, -1.0, 0.0, 0.5, 0.0, 0.0], [0.0, 1.0, 0.0, -0.5, 0.0, 0.0],
                   [0.0, -0.5, 0.0, 1.0, 0.0, 0.0], [0.0, 0.5, 0.0, -1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0, 0.0, 0.0]], like)
    g = with_root([[6.0, 0.0, 0.0], [-4.0, 0.0, -2.0], [-4.0, 0.0, -2.0], [1.0, 0.0, 2.0], [1.0, 0.0, 2.0], [0.0, 0.0, 6.0]],
                  [[0.0, 0.0, 0.0], [0.0, -2.0, 0.0], [0.0, 2.0, 0.0], [0.0, 1.0, 0.0], [0.0, -1.0, 0.0], [0.0, 0.0, 0.0]],
                  like) / 6.0
    a = with_root([[1.0, 1.0, 1.0, 1.0, 1.0, 0.0], [0.0, 0.0, 0.0, 0.0, 0.0, 0.0], [0.0, 0.5, 0.5, 2.0, 2.0, 0.0],
                   [0.0, 0.0, 0.0, 0.0, 0.0, 1.0]],
                  [[0.0, 0.0, 0.0, 0.0, 0.0, 0.0], [0.0, 0.5, -0.5, 1.0, -1.0, 0.0], [0.0, 0.0, 0.0, 0.0, 0.0, 0.0],
                   [0.0, 0.25, -0.25, 2.0, -2.0, 0.0]], like)
    # Tile t reads the pixels 4 t - 1 to 4 t + 4: the band of b in [6, T, 1 + 4 T + 1], whose first and last columns
    # are the zeros around the image.
    size = 4 * tiles
    into = torch.zeros([6, tiles, size + 2], dtype=like.dtype, device=like.device)
    into.as_strided([6, tiles, 6], [tiles * (size + 2), size + 6, 1]).copy_(b.unsqueeze(1).expand(6, tiles, 6))
    into = into[:, :, 1:size + 1].reshape(6 * tiles, size)
    return into, torch.kron(g, g), torch.kron(a, a)


def with_root(plain: list[list[float]], factors: list[list[float]], like: Tensor) -> Tensor:
    """Returns plain + sqrt(2) * factors, in the type and on the device of `like`."""
    root = torch.tensor(factors, dtype=like.dtype, device=like.device) * 1.4142135623730951
    return torch.tensor(plain, dtype=like.dtype, device=like.device) + root
