"""The StyleGAN2 generator: mapping network, synthesis network, and the module of the TorchScript contract
(weights/README.md) that holds both. Shapes: z [N, z_dim], c [N, c_dim], ws [N, num_ws, w_dim], images [N, C, R, R].

Synthesis has the three architectures of the paper's figure 7: `skip` (RGB of all blocks is summed), `orig` and `resnet`
(RGB from the last block only). Only `skip` is tested against numbers from another implementation (the golden files);
`orig` and `resnet` are written from the paper and were compared once (weights/README.md). The linear branch of `resnet`
is not clamped, as the discriminator's is not.
"""

import json
from math import log2, sqrt
from typing import Optional

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .layers import (MAPPING_RATE, FullyConnected, activate_in_place, check_labels, clamp_in, demodulation,
                     enter_block, inf_norm, normalize_second_moment, precision, scale_channels)
from .resample import frozen, resample_filter, up3x3, upsample_image
from .winograd import conv3x3


class Mapping(nn.Module):
    """z (and label) -> ws, all rows equal before truncation; keeps w_avg, the running mean of w."""

    def __init__(self, z_dim: int, c_dim: int, w_dim: int, num_ws: int, layers: int, w_avg_beta: float = 0.995,
                 rate: float = MAPPING_RATE):
        super().__init__()
        self.z_dim = z_dim
        self.c_dim = c_dim
        self.w_dim = w_dim
        self.num_ws = num_ws
        self.w_avg_beta = w_avg_beta
        width = z_dim
        if c_dim > 0:
            self.embed = FullyConnected(c_dim, w_dim)
            width += w_dim
        for i in range(layers):
            setattr(self, f"fc{i}", FullyConnected(width if i == 0 else w_dim, w_dim, lrelu=True, lr_mul=rate))
        self.w_avg = frozen(torch.zeros(w_dim))

    def forward(self, z: Tensor, c: Optional[Tensor] = None, truncation_psi: float = 1.0,
                truncation_cutoff: Optional[int] = None, update_w_avg: bool = False) -> Tensor:
        if z.dim() != 2 or z.shape[1] != self.z_dim:
            raise ValueError(f"z has shape {z.shape}, expected [N, {self.z_dim}]")
        if truncation_cutoff is not None and truncation_cutoff < 0:
            raise ValueError(f"truncation_cutoff is {truncation_cutoff}, expected 0 to {self.num_ws} rows of ws")
        check_labels(c, z.shape[0], self.c_dim)
        x = normalize_second_moment(z.to(torch.float32))
        for name, layer in self.named_children():
            if name == "embed":
                assert c is not None  # checked above; this tells TorchScript
                x = torch.cat([x, normalize_second_moment(layer(c.to(torch.float32)))], dim=1)
            else:
                x = layer(x)
        if update_w_avg:
            with torch.no_grad():
                self.w_avg.copy_(torch.lerp(x.mean(dim=0), self.w_avg, self.w_avg_beta))
        ws = x.unsqueeze(1).repeat(1, self.num_ws, 1)
        if truncation_psi != 1.0:
            cutoff = self.num_ws
            if truncation_cutoff is not None:
                cutoff = min(truncation_cutoff, self.num_ws)
            truncated = torch.lerp(self.w_avg, ws[:, :cutoff], truncation_psi)
            ws = torch.cat([truncated, ws[:, cutoff:]], dim=1)
        return ws


class SynthesisConv(nn.Module):
    """Modulated 3x3 convolution, noise, bias, leaky ReLU, * gain: [N, in, H, W] -> [N, out, H * up, W * up].

    The activations are scaled before (styles) and after (demodulation) one ordinary convolution: the same function as
    a convolution with per-sample weights, at a fraction of its cost.
    """

    up: torch.jit.Final[int]
    gain: torch.jit.Final[float]
    clamp: torch.jit.Final[Optional[float]]

    def __init__(self, inputs: int, outputs: int, w_dim: int, resolution: int, up: int, clamp: Optional[float],
                 gain: float = 1.0):
        super().__init__()
        self.affine = FullyConnected(w_dim, inputs, bias_init=1.0)
        self.weight = nn.Parameter(torch.randn(outputs, inputs, 3, 3))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.noise_strength = nn.Parameter(torch.zeros([]))
        self.noise_const = frozen(torch.randn(resolution, resolution))
        self.resample_filter = resample_filter()
        self.resolution = resolution
        self.up = up
        self.gain = gain
        self.clamp = clamp

    def forward(self, x: Tensor, w: Tensor, noise: Optional[Tensor]) -> Tensor:
        styles = self.affine(w)
        demod = demodulation(self.weight, styles)
        weight = self.weight
        if x.dtype == torch.float16:
            # Demodulation divides these norms out again; with them the sums in between stay far from the type's limit.
            w_norm = inf_norm(weight, [1, 2, 3]) * sqrt(9 * weight.shape[1])
            s_norm = inf_norm(styles, [1])
            weight, styles, demod = weight / w_norm, styles / s_norm, demod * s_norm * w_norm.flatten()
        x = scale_channels(x, styles)
        if self.up == 2:
            x = up3x3(x, weight, self.resample_filter)
        else:
            x = conv3x3(x, weight.to(x.dtype))
        gain = 1.4142135623730951 * self.gain
        bias = (self.bias * gain).to(x.dtype).view(1, -1, 1, 1)
        x = torch.addcmul(bias, x, (demod * gain).to(x.dtype).unsqueeze(-1).unsqueeze(-1))
        if noise is not None:
            x += (noise * (self.noise_strength * gain)).to(x.dtype)
        return activate_in_place(x, self.gain, self.clamp)


class ToRGB(nn.Module):
    """1x1 modulated convolution without demodulation or activation: [N, in, H, W] -> [N, img_channels, H, W] in fp32."""

    weight_gain: torch.jit.Final[float]
    clamp: torch.jit.Final[Optional[float]]

    def __init__(self, inputs: int, outputs: int, w_dim: int, clamp: Optional[float]):
        super().__init__()
        self.affine = FullyConnected(w_dim, inputs, bias_init=1.0)
        self.weight = nn.Parameter(torch.randn(outputs, inputs, 1, 1))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.weight_gain = 1 / sqrt(inputs)
        self.clamp = clamp

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        styles = self.affine(w) * self.weight_gain
        limit = clamp_in(x.dtype, self.clamp)
        weight = self.weight.to(x.dtype)
        if x.dtype == torch.float16:
            s_norm = inf_norm(styles, [1])
            x = scale_channels(F.conv2d(scale_channels(x, styles / s_norm), weight).to(torch.float32), s_norm)
        else:
            x = F.conv2d(scale_channels(x, styles), weight).to(torch.float32)
        x = x + self.bias.view(1, -1, 1, 1)
        if limit is not None:
            x = F.hardtanh(x, -limit, limit)  # as in activate_in_place
        return x


class LinearUp(nn.Module):
    """The linear branch of a residual block doubles the size, times sqrt(1/2): [N, in, H, W] -> [N, out, 2H, 2W].
    The 1x1 convolution comes before the filter: the two commute, and this way it has a quarter of the pixels."""

    weight_gain: torch.jit.Final[float]

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, 1, 1))
        self.resample_filter = resample_filter()
        self.weight_gain = sqrt(0.5 / inputs)

    def forward(self, x: Tensor) -> Tensor:
        return upsample_image(F.conv2d(x, (self.weight * self.weight_gain).to(x.dtype)), self.resample_filter)


class ConstBlock(nn.Module):
    """The 4x4 block: the learned constant, one convolution, and in `skip` a first RGB image."""

    def __init__(self, outputs: int, w_dim: int, img_channels: int, clamp: Optional[float], architecture: str):
        super().__init__()
        self.const = nn.Parameter(torch.randn(outputs, 4, 4))
        self.conv1 = SynthesisConv(outputs, outputs, w_dim, 4, 1, clamp)
        self.torgb = ToRGB(outputs, img_channels, w_dim, clamp) if architecture == "skip" else None
        self.resample_filter = resample_filter()
        self.num_conv = 1

    def forward(self, x: Tensor, img: Tensor, ws: Tensor, first: int, mode: str, noise: Optional[Tensor],
                taken: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
        x = self.const.unsqueeze(0).repeat(ws.shape[0], 1, 1, 1)
        x = self.conv1(x, ws[:, first], layer_noise(self.conv1.noise_const, ws.shape[0], mode, noise, taken))
        if self.torgb is not None:
            img = self.torgb(x, ws[:, first + 1])
        return x, img


class UpBlock(nn.Module):
    """Doubles the resolution with two convolutions. `skip` adds the RGB of this block to the upsampled RGB so far;
    `resnet` adds the upsampled input to the activations; `orig` and `resnet` make RGB in the last block."""

    sums_rgb: torch.jit.Final[bool]

    def __init__(self, inputs: int, outputs: int, w_dim: int, resolution: int, img_channels: int,
                 clamp: Optional[float], architecture: str, last: bool):
        super().__init__()
        gain = sqrt(0.5) if architecture == "resnet" else 1.0
        self.conv0 = SynthesisConv(inputs, outputs, w_dim, resolution, 2, clamp)
        self.conv1 = SynthesisConv(outputs, outputs, w_dim, resolution, 1, clamp, gain)
        self.torgb = ToRGB(outputs, img_channels, w_dim, clamp) if last or architecture == "skip" else None
        self.skip = LinearUp(inputs, outputs) if architecture == "resnet" else None
        self.resample_filter = resample_filter()
        self.sums_rgb = architecture == "skip"
        self.num_conv = 2

    def forward(self, x: Tensor, img: Tensor, ws: Tensor, first: int, mode: str, noise: Optional[Tensor],
                taken: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
        x = enter_block(x, dtype)
        n, before = ws.shape[0], x
        x = self.conv0(x, ws[:, first], layer_noise(self.conv0.noise_const, n, mode, noise, taken))
        taken += self.conv0.noise_const.numel()
        x = self.conv1(x, ws[:, first + 1], layer_noise(self.conv1.noise_const, n, mode, noise, taken))
        if self.skip is not None:
            x = self.skip(before) + x
        if self.torgb is not None:
            if self.sums_rgb:
                img = upsample_image(img, self.resample_filter) + self.torgb(x, ws[:, first + 2])
            else:
                img = self.torgb(x, ws[:, first + 2])
        return x, img


def layer_noise(noise_const: Tensor, n: int, mode: str, noise: Optional[Tensor], taken: int) -> Optional[Tensor]:
    """Returns a layer's noise: None, the stored [H, W], fresh [N, 1, H, W], or a part of the given [N, noise_numel]."""
    if mode == "none":
        return None
    if mode == "const":
        return noise_const
    h, w = noise_const.shape[0], noise_const.shape[1]
    if noise is not None:
        return noise[:, taken:taken + h * w].reshape(n, 1, h, w)
    return torch.randn([n, 1, h, w], device=noise_const.device, dtype=torch.float32)


class Synthesis(nn.Module):
    """ws -> image. `noise_mode` is const, random or none; `noise` [N, noise_numel] replaces the random draws, the
    layers taking their pixels in order (so that a picture can be the same whatever batch it is in)."""

    def __init__(self, w_dim: int, img_resolution: int, img_channels: int, channel_base: int, channel_max: int,
                 clamp: Optional[float], architecture: str = "skip"):
        super().__init__()
        self.w_dim = w_dim
        self.img_resolution = img_resolution
        # The type that the highest resolutions compute in, and the lowest of these: set by set_precision.
        self.dtype, self.lowest = precision("fp32", 0, img_resolution)
        self.num_ws = 2 * int(log2(img_resolution)) - 2
        width = min(channel_base // 4, channel_max)
        self.b4 = ConstBlock(width, w_dim, img_channels, clamp, architecture)
        resolution, self.noise_numel = 8, 16
        while resolution <= img_resolution:
            outputs = min(channel_base // resolution, channel_max)
            setattr(self, f"b{resolution}", UpBlock(width, outputs, w_dim, resolution, img_channels, clamp,
                                                    architecture, resolution == img_resolution))
            width, self.noise_numel = outputs, self.noise_numel + 2 * resolution**2
            resolution *= 2

    def forward(self, ws: Tensor, noise_mode: str = "random", noise: Optional[Tensor] = None) -> Tensor:
        if noise_mode != "const" and noise_mode != "random" and noise_mode != "none":
            raise ValueError(f"noise_mode is '{noise_mode}', expected const, random or none")
        if ws.dim() != 3 or ws.shape[1] != self.num_ws or ws.shape[2] != self.w_dim:
            raise ValueError(f"ws has shape {ws.shape}, expected [N, {self.num_ws}, {self.w_dim}]")
        if noise is not None:
            if noise.dim() != 2 or noise.shape[0] != ws.shape[0] or noise.shape[1] != self.noise_numel:
                raise ValueError(f"noise has shape {noise.shape}, expected [{ws.shape[0]}, {self.noise_numel}]")
        ws = ws.to(torch.float32)
        x, img = ws, ws
        first, taken = 0, 0
        for block in self.children():
            dtype = self.dtype if block.conv1.resolution >= self.lowest else torch.float32
            x, img = block(x, img, ws, first, noise_mode, noise, taken, dtype)
            first += block.num_conv
            taken += block.num_conv * block.conv1.noise_const.numel()
        return img.contiguous()

    def set_precision(self, kind: str, num_res: int) -> None:
        self.dtype, self.lowest = precision(kind, num_res, self.img_resolution)


class Generator(nn.Module):
    """The generator of the TorchScript contract: see weights/README.md."""

    def __init__(self, z_dim: int, c_dim: int, w_dim: int, img_resolution: int, img_channels: int, mapping_layers: int,
                 channel_base: int, channel_max: int, conv_clamp: Optional[float], provenance: str = "{}",
                 architecture: str = "skip", w_avg_beta: float = 0.995, mapping_rate: float = MAPPING_RATE):
        super().__init__()
        self.z_dim = z_dim
        self.c_dim = c_dim
        self.w_dim = w_dim
        self.img_resolution = img_resolution
        self.img_channels = img_channels
        self.synthesis = Synthesis(w_dim, img_resolution, img_channels, channel_base, channel_max, conv_clamp,
                                   architecture)
        self.num_ws = self.synthesis.num_ws
        self.mapping = Mapping(z_dim, c_dim, w_dim, self.num_ws, mapping_layers, w_avg_beta, mapping_rate)
        self.provenance = provenance
        self.description = json.dumps({
            "contract": 1, "kind": "generator", "z_dim": z_dim, "c_dim": c_dim, "w_dim": w_dim, "num_ws": self.num_ws,
            "img_resolution": img_resolution, "img_channels": img_channels, "mapping_layers": mapping_layers,
            "channel_base": channel_base, "channel_max": channel_max, "conv_clamp": conv_clamp,
            "noise_numel": self.synthesis.noise_numel, "g_architecture": architecture,
            **({} if w_avg_beta == 0.995 else {"w_avg_beta": w_avg_beta}),
            **({} if mapping_rate == MAPPING_RATE else {"mapping_rate": mapping_rate})})

    def forward(self, z: Tensor, c: Optional[Tensor] = None, truncation_psi: float = 1.0,
                truncation_cutoff: Optional[int] = None, noise_mode: str = "random") -> Tensor:
        return self.synthesis(self.mapping(z, c, truncation_psi, truncation_cutoff, False), noise_mode, None)

    @torch.jit.export
    def run_mapping(self, z: Tensor, c: Optional[Tensor], truncation_psi: float, truncation_cutoff: Optional[int],
                    update_w_avg: bool) -> Tensor:
        return self.mapping(z, c, truncation_psi, truncation_cutoff, update_w_avg)

    @torch.jit.export
    def run_synthesis(self, ws: Tensor, noise_mode: str, noise: Optional[Tensor]) -> Tensor:
        return self.synthesis(ws, noise_mode, noise)

    @torch.jit.export
    def set_precision(self, kind: str, num_res: int) -> None:
        self.synthesis.set_precision(kind, num_res)

    @torch.jit.export
    def describe(self) -> str:
        return self.description

    @torch.jit.export
    def get_provenance(self) -> str:
        return self.provenance

    @torch.jit.export
    def set_provenance(self, text: str) -> None:
        self.provenance = text
