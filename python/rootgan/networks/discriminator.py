"""The StyleGAN2 discriminator, with the projection head for labels: images [N, C, R, R] -> logits [N, 1].

It has the three architectures of the paper's figure 7: `resnet`, `orig` (no second branch) and `skip` (the downsampled
image enters every block). `resnet` and `skip` agree with numbers that another implementation computed (the golden files).
"""

import json
from math import sqrt
from typing import Optional

import torch
from torch import Tensor, nn

from .layers import (MAPPING_RATE, EqualizedConv, FullyConnected, check_labels, enter_block, normalize_second_moment,
                     precision)
from .resample import fir, resample_filter


class LabelMapping(nn.Module):
    """Label c [N, c_dim] -> cmap [N, cmap_dim]: embed, normalise, fully connected layers."""

    def __init__(self, c_dim: int, cmap_dim: int, layers: int = 8):
        super().__init__()
        self.embed = FullyConnected(c_dim, cmap_dim)
        for i in range(layers):
            setattr(self, f"fc{i}", FullyConnected(cmap_dim, cmap_dim, lrelu=True, lr_mul=MAPPING_RATE))

    def forward(self, c: Tensor, img: Tensor, cmap: Optional[Tensor],
                dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
        x = c.to(torch.float32)
        for name, layer in self.named_children():
            x = layer(x)
            if name == "embed":
                x = normalize_second_moment(x)
        return x, img


class DownBlock(nn.Module):
    """Halves the resolution with two convolutions: [N, in, H, W] -> [N, out, H/2, W/2]. The first block takes RGB;
    `skip` adds RGB to the activations in every block; `resnet` adds the downsampled input to the output."""

    first: torch.jit.Final[bool]
    halves_img: torch.jit.Final[bool]

    def __init__(self, img_channels: int, inputs: int, outputs: int, clamp: Optional[float], architecture: str,
                 first: bool):
        super().__init__()
        residual = architecture == "resnet"
        self.fromrgb = EqualizedConv(img_channels, inputs, 1, clamp=clamp) if first or architecture == "skip" else None
        self.conv0 = EqualizedConv(inputs, inputs, 3, clamp=clamp)
        self.conv1 = EqualizedConv(inputs, outputs, 3, down=2, gain=sqrt(0.5) if residual else 1.0, clamp=clamp)
        self.skip = EqualizedConv(inputs, outputs, 1, activate=False, down=2, gain=sqrt(0.5)) if residual else None
        self.resample_filter = resample_filter()
        self.first = first
        self.halves_img = architecture == "skip"

    def forward(self, x: Tensor, img: Tensor, cmap: Optional[Tensor],
                dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
        x = enter_block(x, dtype)
        if self.fromrgb is not None:
            rgb = self.fromrgb(enter_block(img, dtype))
            x = rgb if self.first else x + rgb
        if self.halves_img:
            img = fir(img, self.resample_filter, 1, 2, 1.0)
        if self.skip is not None:
            return self.skip(x) + self.conv1(self.conv0(x)), img
        return self.conv1(self.conv0(x)), img


def minibatch_stddev(x: Tensor, group_size: int) -> Tensor:
    """Appends one channel: the mean standard deviation over groups {i, i + n, i + 2n, ...} of the batch, n = N / group."""
    n, h, w = x.shape[0], x.shape[2], x.shape[3]
    group = min(group_size, n)
    if n % group != 0:
        raise ValueError(f"batch of {n} images cannot be split into minibatch-stddev groups of {group}; pass at most "
                         f"{group} images or a multiple of {group}")
    y = x.reshape(group, n // group, x.shape[1], h, w)
    y = y - y.mean(dim=0, keepdim=True)
    y = (y.square().mean(dim=0) + 1e-8).sqrt().mean(dim=[1, 2, 3])
    y = y.reshape(1, n // group).repeat(group, 1).reshape(n, 1, 1, 1)
    return torch.cat([x, y.expand(n, 1, h, w)], dim=1)


class Epilogue(nn.Module):
    """The 4x4 block: RGB is added in `skip`; then minibatch stddev, convolution, two linear layers, and the projection
    on the label."""

    group_size: torch.jit.Final[int]
    cmap_dim: torch.jit.Final[int]

    def __init__(self, img_channels: int, channels: int, cmap_dim: int, group_size: int, clamp: Optional[float],
                 architecture: str):
        super().__init__()
        # Never clamped, unlike the fromrgb of the blocks above: networks that were trained elsewhere expect it so.
        self.fromrgb = EqualizedConv(img_channels, channels, 1) if architecture == "skip" else None
        self.conv = EqualizedConv(channels + 1, channels, 3, clamp=clamp)
        self.fc = FullyConnected(channels * 16, channels, lrelu=True)
        self.out = FullyConnected(channels, max(cmap_dim, 1))
        self.group_size = group_size
        self.cmap_dim = cmap_dim

    def forward(self, x: Tensor, img: Tensor, cmap: Optional[Tensor],
                dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
        x = enter_block(x, torch.float32)
        if self.fromrgb is not None:
            x = x + self.fromrgb(img)
        x = self.conv(minibatch_stddev(x, self.group_size))
        x = self.out(self.fc(x.flatten(1)))
        if cmap is not None:
            x = (x * cmap).sum(dim=1, keepdim=True) / float(self.cmap_dim) ** 0.5
        return x, img


class Discriminator(nn.Module):
    """The discriminator of the TorchScript contract: see weights/README.md."""

    def __init__(self, c_dim: int, img_resolution: int, img_channels: int, channel_base: int, channel_max: int,
                 conv_clamp: Optional[float], mbstd_group_size: int, provenance: str = "{}",
                 architecture: str = "resnet", mapping_layers: int = 8, cmap_dim: Optional[int] = None):
        super().__init__()
        self.c_dim = c_dim
        self.img_resolution = img_resolution
        self.img_channels = img_channels
        # The type that the highest resolutions compute in, and the lowest of these: set by set_precision.
        self.dtype, self.lowest = precision("fp32", 0, img_resolution)

        def channels(resolution: int) -> int:
            return min(channel_base // resolution, channel_max)

        width = (cmap_dim or channels(4)) if c_dim > 0 else 0
        if c_dim > 0:
            self.mapping = LabelMapping(c_dim, width, mapping_layers)
        resolution = img_resolution
        while resolution > 4:
            setattr(self, f"b{resolution}", DownBlock(img_channels, channels(resolution), channels(resolution // 2),
                                                      conv_clamp, architecture, resolution == img_resolution))
            resolution //= 2
        self.b4 = Epilogue(img_channels, channels(4), width, mbstd_group_size, conv_clamp,
                           architecture)
        self.provenance = provenance
        self.description = json.dumps({
            "contract": 1, "kind": "discriminator", "c_dim": c_dim, "img_resolution": img_resolution,
            "img_channels": img_channels, "channel_base": channel_base, "channel_max": channel_max,
            "conv_clamp": conv_clamp, "mbstd_group_size": mbstd_group_size, "d_architecture": architecture,
            "d_mapping_layers": mapping_layers if c_dim > 0 else 0,
            **({} if width in (0, channels(4)) else {"d_cmap_dim": width})})

    def forward(self, img: Tensor, c: Optional[Tensor] = None) -> Tensor:
        if img.dim() != 4 or img.shape[1] != self.img_channels or img.shape[2] != self.img_resolution \
                or img.shape[3] != self.img_resolution:
            raise ValueError(f"img has shape {img.shape}, expected [N, {self.img_channels}, {self.img_resolution}, "
                             f"{self.img_resolution}]")
        check_labels(c, img.shape[0], self.c_dim)
        img = img.to(torch.float32)
        x = img
        cmap: Optional[Tensor] = None
        # All children are called alike so that the loop scripts: the label mapping, where there is one, comes first.
        for name, block in self.named_children():
            if name == "mapping":
                assert c is not None  # checked above; this tells TorchScript
                cmap, _ = block(c, img, None)
            else:
                dtype = self.dtype if x.shape[2] >= self.lowest else torch.float32
                x, img = block(x, img, cmap, dtype)
        return x

    @torch.jit.export
    def set_precision(self, kind: str, num_res: int) -> None:
        self.dtype, self.lowest = precision(kind, num_res, self.img_resolution)

    @torch.jit.export
    def describe(self) -> str:
        return self.description

    @torch.jit.export
    def get_provenance(self) -> str:
        return self.provenance

    @torch.jit.export
    def set_provenance(self, text: str) -> None:
        self.provenance = text
