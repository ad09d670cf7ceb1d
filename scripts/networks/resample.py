"""The low-pass filter [1, 3, 3, 1] around every change of resolution, in two formulations of the same function.

One is a convolution with a group for every channel. libtorch's derivative of that convolution's derivative also computes
the gradient of the kernel, channel by channel, though nothing asks for it: at 64 channels of 32x32 that makes forward,
backward and second backward 22 ms instead of 5. So where results are differentiated twice (`twice`: R1 and path length)
the filter is a banded matrix along each axis; it is slower forward and has no such loop.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def resample_filter() -> nn.Parameter:
    """The [1, 3, 3, 1] low-pass filter as a 4x4 outer product that sums to one. Saved and listed, never trained."""
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0])
    return nn.Parameter(torch.outer(taps, taps) / 64, requires_grad=False)


def fir(x: Tensor, kernel: Tensor, padding: int, stride: int, gain: float, twice: bool = False) -> Tensor:
    """Filters every channel with the 4x4 `kernel`; only the kept samples are computed when `stride` is 2."""
    if twice:
        rows = bands(x.shape[2], kernel.sum(dim=1), padding, stride) * gain
        return along_both_axes(x, rows, bands(x.shape[3], kernel.sum(dim=0), padding, stride))
    channels = x.shape[1]
    weight = (kernel * gain).to(x.dtype).expand(channels, 1, 4, 4)
    if stride == 2 and x.dtype != torch.float32 and not x.is_cuda:
        # All samples, half of them thrown away: 5 to 14 times faster than the strided filter's derivative on the CPU.
        return F.conv2d(x, weight, padding=[padding, padding], groups=channels)[:, :, ::2, ::2]
    return F.conv2d(x, weight, stride=[stride, stride], padding=[padding, padding], groups=channels)


def upsample_image(img: Tensor, kernel: Tensor, twice: bool = False) -> Tensor:
    """Doubles the size: zeros between samples, pad (2, 1), filter with gain 4."""
    if twice:
        # The adjoint of filtering twice the size at every second sample.
        rows = bands(2 * img.shape[2], kernel.sum(dim=1), 1, 2).t() * 4.0
        return along_both_axes(img, rows, bands(2 * img.shape[3], kernel.sum(dim=0), 1, 2).t())
    channels = img.shape[1]
    weight = (kernel * 4.0).to(img.dtype).expand(channels, 1, 4, 4)
    return F.conv_transpose2d(img, weight, stride=[2, 2], padding=[1, 1], groups=channels)


def bands(size: int, taps: Tensor, padding: int, stride: int) -> Tensor:
    """The matrix [M, size] of filtering `size` samples, zeros around them, with 4 `taps` at every `stride`-th place: along
    one axis what a kernel that is an outer product and sums to one does, given its sums over the other axis."""
    padded = size + 2 * padding
    outputs = (padded - 4) // stride + 1
    matrix = torch.zeros([outputs, padded], dtype=taps.dtype, device=taps.device)
    matrix.as_strided([outputs, 4], [padded + stride, 1]).copy_(taps.expand(outputs, 4))
    return matrix[:, padding:padding + size]


def along_both_axes(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """x [N, C, H, W] -> rows [M, H] @ x @ columns [K, W]^T: [N, C, M, K], in the type and the order of memory of x."""
    n, channels, h, w = x.shape[0], x.shape[1], x.shape[2], x.shape[3]
    m, k = rows.shape[0], columns.shape[0]
    # Expanded matrices and `bmm`, as in winograd.py: `matmul` copies where a gradient is needed.
    rows, columns = rows.to(x.dtype), columns.to(x.dtype)
    y = torch.bmm(rows.unsqueeze(0).expand(n, m, h), x.permute(0, 2, 3, 1).reshape(n, h, w * channels))
    y = torch.bmm(columns.unsqueeze(0).expand(n * m, k, w), y.view(n * m, w, channels))
    y = y.view(n, m, k, channels).permute(0, 3, 1, 2)
    if x.is_contiguous():
        y = y.contiguous()
    return y
