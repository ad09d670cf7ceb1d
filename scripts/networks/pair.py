"""Makes, fills and saves a generator / discriminator pair of the TorchScript contract."""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Mapping, Optional

import torch
from torch import Tensor, nn

from .discriminator import Discriminator
from .generator import Generator


@dataclass
class Architecture:
    """Everything that fixes the shapes of a pair."""

    img_resolution: int
    img_channels: int = 3
    z_dim: int = 512
    c_dim: int = 0
    w_dim: int = 512
    mapping_layers: int = 8
    channel_base: int = 32768
    channel_max: int = 512
    conv_clamp: Optional[float] = None
    mbstd_group_size: int = 4

    def validate(self) -> None:
        r = self.img_resolution
        if r < 16 or r > 1024 or r & (r - 1):
            raise ValueError(f"resolution must be a power of two from 16 to 1024, not {r}")
        if self.img_channels not in (1, 3):
            raise ValueError(f"image channels must be 1 or 3, not {self.img_channels}")
        for name in ("z_dim", "w_dim", "mapping_layers", "channel_max", "mbstd_group_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.c_dim < 0:
            raise ValueError(f"c_dim must be 0 (no labels) or the number of classes, not {self.c_dim}")
        if self.channel_base < r:
            raise ValueError(f"channel_base must be at least the resolution {r}, not {self.channel_base}")
        if self.conv_clamp is not None and self.conv_clamp <= 0:
            raise ValueError(f"conv_clamp must be above 0, not {self.conv_clamp}")

    def generator(self, provenance: str = "{}") -> Generator:
        return Generator(self.z_dim, self.c_dim, self.w_dim, self.img_resolution, self.img_channels,
                         self.mapping_layers, self.channel_base, self.channel_max, self.conv_clamp, provenance)

    def discriminator(self, provenance: str = "{}") -> Discriminator:
        return Discriminator(self.c_dim, self.img_resolution, self.img_channels, self.channel_base, self.channel_max,
                             self.conv_clamp, self.mbstd_group_size, provenance)


def random_pair(architecture: Architecture, seed: int) -> tuple[Generator, Discriminator]:
    """A randomly initialised pair; the same architecture and seed give the same weights."""
    architecture.validate()
    torch.manual_seed(seed)
    provenance = json.dumps({"source": "random initialisation", "seed": seed, "architecture": asdict(architecture)})
    return architecture.generator(provenance), architecture.discriminator(provenance)


def fill(module: nn.Module, tensors: Mapping[str, Tensor], source: str) -> None:
    """Copies `tensors` into `module`, refusing missing or unknown names and other shapes."""
    try:
        module.load_state_dict(dict(tensors), strict=True)
    except RuntimeError as error:
        raise ValueError(f"weights of '{source}' do not fit: {' '.join(str(error).split())}") from None


def save(module: nn.Module, path: Path) -> None:
    """Scripts `module` and saves it: a sibling file first, synced, then renamed."""
    module.eval()
    scratch = path.with_name(f".{path.name}.partial")
    try:
        torch.jit.script(module).save(str(scratch))
        with open(scratch, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(scratch, path)
    finally:
        scratch.unlink(missing_ok=True)
