"""The low-pass filter [1, 3, 3, 1] around every change of resolution, in three formulations of the same function.

One is a convolution with a group for every channel, at which cuDNN is slow in the types and the order of memory that GPUs are
fast in. There the filter is a banded matrix along each axis or, for large images, a part of the convolution beside it, whose
kernel is 6x6 then: 2 to 10 times as fast on an H100, slower elsewhere (benches/NOTES.md).
"""

from typing import Optional

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .axes import along_both_axes


def frozen(value: Tensor) -> nn.Parameter:
    """A tensor that is saved and listed with the parameters but never trained."""
    return nn.Parameter(value, requires_grad=False)


def resample_filter() -> nn.Parameter:
    """The [1, 3, 3, 1] low-pass filter as a 4x4 outer product that sums to one."""
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0])
    return frozen(torch.outer(taps, taps) / 64)


def is_filter(name: str, value: Tensor) -> bool:
    """Whether a tensor is a resample filter by its name and shape."""
    return name.endswith("resample_filter") and value.shape == (4, 4)


def is_outer(kernel: Tensor) -> bool:
    """Whether the kernel filters one axis after the other, as the matrices below do."""
    k = kernel.to(torch.float64)
    total = k.sum()
    return bool(total != 0) and torch.allclose(torch.outer(k.sum(dim=1), k.sum(dim=0)) / total, k, atol=1e-6)


def fir(x: Tensor, kernel: Tensor, padding: int, stride: int, gain: float) -> Tensor:
    """Filters every channel with the 4x4 `kernel`, an outer product; only the kept samples are computed when `stride`
    is 2."""
    if banded_pays(x):
        rows = bands(x.shape[2], kernel.sum(dim=1) * (gain / kernel.sum()), padding, stride, x.dtype)
        return banded(x, rows, bands(x.shape[3], kernel.sum(dim=0), padding, stride, x.dtype))
    channels = x.shape[1]
    weight = (kernel * gain).to(x.dtype).expand(channels, 1, 4, 4)
    if stride == 2 and x.dtype != torch.float32 and not x.is_cuda:
        # Computing all samples and keeping every second one along each axis is 5 to 14 times faster on the CPU than the
        # derivative of the strided filter.
        return F.conv2d(x, weight, padding=[padding, padding], groups=channels)[:, :, ::2, ::2]
    return F.conv2d(x, weight, stride=[stride, stride], padding=[padding, padding], groups=channels)


def upsample_image(img: Tensor, kernel: Tensor) -> Tensor:
    """Doubles the size: zeros between samples, pad (2, 1), filter with gain 4."""
    if banded_pays(img):
        # The adjoint of filtering twice the size at every second sample.
        rows = bands(2 * img.shape[2], kernel.sum(dim=1) * (4.0 / kernel.sum()), 1, 2, img.dtype).t()
        return banded(img, rows, bands(2 * img.shape[3], kernel.sum(dim=0), 1, 2, img.dtype).t())
    channels = img.shape[1]
    weight = (kernel * 4.0).to(img.dtype).expand(channels, 1, 4, 4)
    return F.conv_transpose2d(img, weight, stride=[2, 2], padding=[1, 1], groups=channels)


def banded_pays(x: Tensor) -> bool:
    """Whether whole matrices are faster than a convolution of every channel: in 16 bits on a GPU, whose matrix units multiply
    the zeros in less time than the convolution takes."""
    return x.is_cuda and x.dtype != torch.float32


def down3x3(x: Tensor, weight: Tensor, bias: Optional[Tensor], kernel: Tensor) -> Tensor:
    """Filters x [N, in, H, W], then convolves it with weight [out, in, 3, 3] at every second pixel: [N, out, H / 2, W / 2],
    in the type of x."""
    if banded_pays(x) and x.shape[2] >= 512:
        return F.conv2d(x, composed(weight, kernel.flip([0, 1])).to(x.dtype), bias, stride=[2, 2], padding=[2, 2])
    return F.conv2d(fir(x, kernel, 2, 1, 1.0), weight.to(x.dtype), bias, stride=[2, 2])


def up3x3(x: Tensor, weight: Tensor, kernel: Tensor) -> Tensor:
    """Doubles the size of x [N, in, H, W] by the transposed convolution with weight [out, in, 3, 3], then filters it with gain
    4: [N, out, 2 H, 2 W], in the type of x."""
    weight = weight.transpose(0, 1)
    # From this size on, as the odd size between the two steps is slow to multiply.
    if banded_pays(x) and x.shape[2] >= 128:
        return F.conv_transpose2d(x, composed(weight, kernel * 4.0).to(x.dtype), stride=[2, 2], padding=[2, 2])
    return fir(F.conv_transpose2d(x, weight.to(x.dtype), stride=[2, 2]), kernel, 1, 1, 4.0)


def composed(weight: Tensor, kernel: Tensor) -> Tensor:
    """The kernels [A, B, 6, 6] of a transposed convolution with weight [A, B, 3, 3] and a 4x4 filter after it. With the filter
    turned around they are those of a filter and an ordinary convolution after it."""
    a, b = weight.shape[0], weight.shape[1]
    spread = F.conv2d(weight.reshape(a * b, 1, 3, 3), kernel.to(weight.dtype).view(1, 1, 4, 4), padding=[3, 3])
    return spread.view(a, b, 6, 6)


def bands(size: int, taps: Tensor, padding: int, stride: int, dtype: torch.dtype) -> Tensor:
    """The matrix [M, size] of filtering `size` samples, zeros around them, with 4 `taps` at every `stride`-th place. An
    outer product's sums over one axis are its taps along the other, times the sum of all. Rows begin at multiples of 8
    numbers, as matrix units want it."""
    outputs = (size + 2 * padding - 4) // stride + 1
    row = (8 + size + padding + 7) // 8 * 8
    matrix = torch.zeros([outputs, row], dtype=dtype, device=taps.device)
    matrix.as_strided([outputs, 4], [row + stride, 1], 8 - padding).copy_(taps.expand(outputs, 4))
    return matrix[:, 8:8 + size]


def banded(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """x [N, C, H, W] -> rows [M, H] @ x @ columns [K, W]^T: [N, C, M, K], in the type and the order of memory of x."""
    y = along_both_axes(x, rows, columns).permute(0, 3, 1, 2)
    if x.is_contiguous():
        y = y.contiguous()
    return y
