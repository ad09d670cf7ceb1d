"""The layers that generator and discriminator share. Everything is plain torch that can be scripted and differentiated
twice (R1 and path length need it). Image tensors are [N, C, H, W] in [-1, 1].

`noise_const`, `w_avg` and `resample_filter` are parameters that need no gradient rather than buffers: libtorch's C++
interface lists parameters, so a program without Python sees them, and `state_dict` names them all the same.
"""

from math import prod, sqrt
from typing import Optional

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .resample import down3x3, fir, resample_filter
from .winograd import conv3x3


def precision(kind: str, num_res: int, img_resolution: int) -> tuple[torch.dtype, int]:
    """Returns the type `kind` (fp32, bf16 or fp16) and the lowest resolution computed in it. This is the lowest of the
    `num_res` highest ones and never below 8; in fp32 and for num_res 0 it is above the image's own resolution."""
    dtype = torch.float32
    if kind == "bf16":
        dtype = torch.bfloat16
    elif kind == "fp16":
        dtype = torch.float16
    elif kind != "fp32":
        raise ValueError(f"kind is '{kind}', expected fp32, bf16 or fp16")
    if num_res < 0:
        raise ValueError(f"num_res is {num_res}, expected 0 or more resolutions")
    lowest = 2 * img_resolution
    if kind != "fp32":
        while num_res > 0 and lowest > 8:
            lowest = lowest // 2
            num_res -= 1
    return dtype, lowest


def enter_block(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Converts x [N, C, H, W] to the type that a block computes in, and to the order of memory that is faster in it:
    channels-last, except for float32 at 4x4 or on a device other than the CPU."""
    if dtype == torch.float32 and (x.device.type != "cpu" or x.shape[2] <= 4):
        return x.to(dtype, memory_format=torch.contiguous_format)
    return x.to(dtype, memory_format=torch.channels_last)


def scale_channels(x: Tensor, factors: Tensor) -> Tensor:
    """Multiplies x [N, C, H, W] by factors [N, C], in the type of x."""
    return x * factors.to(x.dtype).unsqueeze(-1).unsqueeze(-1)


def clamp_in(dtype: torch.dtype, clamp: Optional[float]) -> Optional[float]:
    """Returns the bound on convolution outputs: the network's own, else none in fp32 and 256 in 16-bit types."""
    if clamp is None and dtype != torch.float32:
        return 256.0
    return clamp


def inf_norm(x: Tensor, dim: list[int]) -> Tensor:
    """Returns max |x| over `dim`, kept as axes of length one, without a gradient: callers divide by it and multiply by
    it later, so that the function, and with it the derivative, does not depend on it."""
    return x.detach().abs().amax(dim=dim, keepdim=True).clamp_min(1e-20)


def activate_in_place(x: Tensor, gain: float, clamp: Optional[float]) -> Tensor:
    """Applies leaky ReLU (0.2), clamped to +-clamp * gain, and overwrites x, which nothing else may need. The gain of
    the activation, sqrt(2) * gain, is in x already: a leaky ReLU commutes with it, and weights and biases are fewer
    numbers to multiply."""
    x = F.leaky_relu_(x, 0.2)
    bound = clamp_in(x.dtype, clamp)
    if bound is not None:
        limit = bound * gain
        # `clamp` has the same values, but its derivative takes five passes over the activations and is 1 at the limit.
        x = F.hardtanh(x, -limit, limit)
    return x


def check_labels(c: Optional[Tensor], n: int, c_dim: int) -> None:
    """Refuses labels that do not fit: c must be [n, c_dim]; without classes, None or [n, 0]."""
    if c is None:
        if c_dim > 0:
            raise ValueError(f"c is missing: this network is conditional, pass labels c of shape [{n}, {c_dim}]")
    elif c_dim == 0:
        if c.numel() > 0:
            raise ValueError(f"c has shape {c.shape}, but this network has no labels; leave c out")
    elif c.dim() != 2 or c.shape[0] != n or c.shape[1] != c_dim:
        raise ValueError(f"c has shape {c.shape}, expected [{n}, {c_dim}]: one one-hot row per sample")


def normalize_second_moment(x: Tensor) -> Tensor:
    """Returns x / sqrt(mean(x^2) + 1e-8), the mean over the last axis of x [N, width]."""
    return x * (x.square().mean(dim=1, keepdim=True) + 1e-8).rsqrt()


# The share of the learning rate that layers of mapping networks have, by being stored so many times as large as they act.
MAPPING_RATE = 0.01


class FullyConnected(nn.Module):
    """Equalised linear layer, [N, in] -> [N, out]; `lrelu` adds leaky ReLU * sqrt(2)."""

    lrelu: torch.jit.Final[bool]
    weight_gain: torch.jit.Final[float]
    bias_gain: torch.jit.Final[float]

    def __init__(self, inputs: int, outputs: int, lrelu: bool = False, lr_mul: float = 1.0, bias_init: float = 0.0):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / lr_mul)
        self.bias = nn.Parameter(torch.full([outputs], float(bias_init)))
        self.lrelu = lrelu
        self.weight_gain = lr_mul / sqrt(inputs)
        self.bias_gain = lr_mul

    def forward(self, x: Tensor) -> Tensor:
        x = torch.addmm(self.bias * self.bias_gain, x, (self.weight * self.weight_gain).t())
        if self.lrelu:
            x = F.leaky_relu(x, 0.2) * 1.4142135623730951
        return x


class EqualizedConv(nn.Module):
    """Discriminator convolution with equalised learning rate: [N, in, H, W] -> [N, out, H / down, W / down].

    `down` = 2 filters first and then strides. With `activate`, bias and leaky ReLU follow, times
    `gain`, clamped.
    """

    activate: torch.jit.Final[bool]
    down: torch.jit.Final[int]
    kernel: torch.jit.Final[int]
    weight_gain: torch.jit.Final[float]
    gain: torch.jit.Final[float]
    clamp: torch.jit.Final[Optional[float]]

    def __init__(self, inputs: int, outputs: int, kernel: int, activate: bool = True, down: int = 1,
                 gain: float = 1.0, clamp: Optional[float] = None):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel))
        if activate:
            self.bias = nn.Parameter(torch.zeros(outputs))
        self.resample_filter = resample_filter()
        self.activate = activate
        self.down = down
        self.kernel = kernel
        self.weight_gain = 1 / sqrt(prod([inputs, kernel, kernel]))
        self.gain = gain
        self.clamp = clamp

    def forward(self, x: Tensor) -> Tensor:
        # Gains are in weight and bias: passes over the activations less.
        bias: Optional[Tensor] = None
        gain = self.gain
        if self.activate:
            gain = 1.4142135623730951 * self.gain
            bias = (self.bias * gain).to(x.dtype)
        weight = self.weight * (self.weight_gain * gain)
        if self.down == 2 and self.kernel == 3:
            x = down3x3(x, weight, bias, self.resample_filter)
        elif self.down == 2:
            x = F.conv2d(fir(x, self.resample_filter, 1, 2, 1.0), weight.to(x.dtype), bias)
        elif self.kernel == 3:
            x = conv3x3(x, weight.to(x.dtype), bias)
        else:
            x = F.conv2d(x, weight.to(x.dtype), bias)
        if self.activate:
            x = activate_in_place(x, self.gain, self.clamp)
        return x


def demodulation(weight: Tensor, styles: Tensor) -> Tensor:
    """Returns factors rsqrt(sum (w * s)^2 + 1e-8), [N, out], without making per-sample weights [N, out, in, k, k]."""
    energy = weight.square().sum(dim=[2, 3])
    return (torch.mm(styles.square(), energy.t()) + 1e-8).rsqrt()
