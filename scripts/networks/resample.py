"""The low-pass filter [1, 3, 3, 1] around every change of resolution, in two formulations of the same function.

One is a convolution with a group for every channel. libtorch's derivative of that convolution's derivative also computes
the gradient of the kernel, channel by channel, though nothing asks for it. So where results are differentiated twice
(`twice`: R1 and path length) the filter of a small image is a banded matrix along each axis. Forward, backward and second
backward of 16 images of 64 channels and 32x32 take 4.6 ms instead of 22, forward alone 1.2 instead of 0.2 (two threads;
more in benches/NOTES.md).
"""

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
    """Whether it is a resample filter by its name and shape."""
    return name.endswith("resample_filter") and value.shape == (4, 4)


def is_outer(kernel: Tensor) -> bool:
    """Whether the kernel filters one axis after the other, as the matrices below do."""
    k = kernel.to(torch.float64)
    total = k.sum()
    return bool(total != 0) and torch.allclose(torch.outer(k.sum(dim=1), k.sum(dim=0)) / total, k, atol=1e-6)


def fir(x: Tensor, kernel: Tensor, padding: int, stride: int, gain: float, twice: bool = False) -> Tensor:
    """Filters every channel with the 4x4 `kernel`, an outer product; only the kept samples are computed when `stride`
    is 2."""
    if twice and banded_pays(x.shape[2], x.shape[3]):
        rows = bands(x.shape[2], kernel.sum(dim=1), padding, stride) * (gain / kernel.sum())
        return banded(x, rows, bands(x.shape[3], kernel.sum(dim=0), padding, stride))
    channels = x.shape[1]
    weight = (kernel * gain).to(x.dtype).expand(channels, 1, 4, 4)
    if stride == 2 and x.dtype != torch.float32 and not x.is_cuda:
        # All samples, half of them thrown away: 5 to 14 times faster than the strided filter's derivative on the CPU.
        return F.conv2d(x, weight, padding=[padding, padding], groups=channels)[:, :, ::2, ::2]
    return F.conv2d(x, weight, stride=[stride, stride], padding=[padding, padding], groups=channels)


def upsample_image(img: Tensor, kernel: Tensor, twice: bool = False) -> Tensor:
    """Doubles the size: zeros between samples, pad (2, 1), filter with gain 4."""
    if twice and banded_pays(2 * img.shape[2], 2 * img.shape[3]):
        # The adjoint of filtering twice the size at every second sample.
        rows = bands(2 * img.shape[2], kernel.sum(dim=1), 1, 2).t() * (4.0 / kernel.sum())
        return banded(img, rows, bands(2 * img.shape[3], kernel.sum(dim=0), 1, 2).t())
    channels = img.shape[1]
    weight = (kernel * 4.0).to(img.dtype).expand(channels, 1, 4, 4)
    return F.conv_transpose2d(img, weight, stride=[2, 2], padding=[1, 1], groups=channels)


def banded_pays(h: int, w: int) -> bool:
    """Whether the whole matrices cost less than the channels' loop: their products grow with the third power of the size.
    Up to the 65x65 between a convolution that doubles 32x32 and its filter."""
    return h <= 65 and w <= 65


def bands(size: int, taps: Tensor, padding: int, stride: int) -> Tensor:
    """The matrix [M, size] of filtering `size` samples, zeros around them, with 4 `taps` at every `stride`-th place. An
    outer product's sums over one axis are its taps along the other, times the sum of all."""
    padded = size + 2 * padding
    outputs = (padded - 4) // stride + 1
    matrix = torch.zeros([outputs, padded], dtype=taps.dtype, device=taps.device)
    matrix.as_strided([outputs, 4], [padded + stride, 1]).copy_(taps.expand(outputs, 4))
    return matrix[:, padding:padding + size]


def banded(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """x [N, C, H, W] -> rows [M, H] @ x @ columns [K, W]^T: [N, C, M, K], in the type and the order of memory of x."""
    y = along_both_axes(x, rows.to(x.dtype), columns.to(x.dtype)).permute(0, 3, 1, 2)
    if x.is_contiguous():
        y = y.contiguous()
    return y
