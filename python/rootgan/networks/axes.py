"""Multiplies images by a matrix along each axis: the filters (resample.py) and the fast convolution (winograd.py) are
made of this."""

import torch
from torch import Tensor


def along_both_axes(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """x [N, C, H, W] -> rows [M, H] @ x @ columns [K, W]^T, channels last: [N, M, K, C]. An x in channels-last order
    is not copied."""
    n, channels, h, w = x.shape[0], x.shape[1], x.shape[2], x.shape[3]
    m, k = rows.shape[0], columns.shape[0]
    # `bmm` with an expanded matrix and not `matmul`, which copies for the sake of one large product where a gradient is
    # needed.
    y = torch.bmm(rows.unsqueeze(0).expand(n, m, h), x.permute(0, 2, 3, 1).reshape(n, h, w * channels))
    y = torch.bmm(columns.unsqueeze(0).expand(n * m, k, w), y.view(n * m, w, channels))
    return y.view(n, m, k, channels)
