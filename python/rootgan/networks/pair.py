"""Makes, fills and saves a generator / discriminator pair of the TorchScript contract."""

import io
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Callable, Mapping, Optional

import torch
from torch import Tensor, nn
from rootgan.whole_files import replace_atomically

from .discriminator import Discriminator
from .generator import Generator
from .layers import MAPPING_RATE

G_ARCHITECTURES = ("skip", "orig", "resnet")
D_ARCHITECTURES = ("resnet", "orig", "skip")
# What every description says; NEWER_SIZES are only in those of one network or of newer files.
SIZES = ("img_resolution", "z_dim", "c_dim", "w_dim", "mapping_layers", "channel_base", "channel_max")
MAX_GROUP = 1 << 16  # images in one minibatch-stddev group: beyond any batch, within every integer
LEAST_RATE = 1e-6  # of a mapping network: its stored weights are as many times larger
MAX_WIDTH = 1 << 16  # of z, of w and of any layer
# The largest sizes, those that the program refuses beyond (RANGES in src/model/contract.rs).
LARGEST = {"z_dim": MAX_WIDTH, "c_dim": 1 << 20, "w_dim": MAX_WIDTH, "mapping_layers": 64, "channel_base": 1 << 24,
           "channel_max": MAX_WIDTH, "mbstd_group_size": MAX_GROUP, "d_mapping_layers": 64, "d_channel_base": 1 << 24,
           "d_channel_max": MAX_WIDTH, "d_cmap_dim": MAX_WIDTH}
NEWER_SIZES = ("img_channels", "mbstd_group_size", "d_mapping_layers", "d_cmap_dim")


@dataclass
class Architecture:
    """Everything that fixes the results of a pair. D has the channels and the clamp of G unless it says others."""

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
    g_architecture: str = "skip"
    d_architecture: str = "resnet"
    d_mapping_layers: int = 8
    d_channel_base: Optional[int] = None
    d_channel_max: Optional[int] = None
    d_conv_clamp: Optional[float] = None  # 0: D has no clamp, whatever G has
    d_cmap_dim: Optional[int] = None  # width of D's embedded label; None: that of its last block
    w_avg_beta: float = 0.995  # the share of w_avg that every update keeps
    mapping_rate: float = MAPPING_RATE  # that of G's mapping network, whose stored weights act times this

    @property
    def clamp_of_d(self) -> Optional[float]:
        """The bound on D's convolution outputs, None without one."""
        return self.conv_clamp if self.d_conv_clamp is None else self.d_conv_clamp or None

    @classmethod
    def described(cls, g: Mapping[str, Any], d: Optional[Mapping[str, Any]] = None) -> "Architecture":
        """Returns the architecture that `describe()` of a generator and a discriminator say, or the metadata of a
        safetensors file, in which values are texts. Without a discriminator, its sizes keep their defaults."""
        said = {**(d or {}), **g}
        missing = [name for name in SIZES if name not in said]
        if missing:
            raise ValueError(f"the sizes {', '.join(missing)} are missing")
        clamp = parsed_clamp(said.get("conv_clamp"))
        found = cls(**{name: int(said[name]) for name in SIZES + NEWER_SIZES if name in said},
                    conv_clamp=clamp, **{name: str(said[name]) for name in ("g_architecture", "d_architecture")
                                         if name in said})
        if found.c_dim == 0:
            found.d_mapping_layers = 8  # the default; descriptions without labels say 0
        found.w_avg_beta = float(said.get("w_avg_beta", found.w_avg_beta))
        found.mapping_rate = float(said.get("mapping_rate", found.mapping_rate))
        if d is not None and (int(d["channel_base"]), int(d["channel_max"])) != (found.channel_base, found.channel_max):
            found.d_channel_base, found.d_channel_max = int(d["channel_base"]), int(d["channel_max"])
        if d is not None:
            found.d_conv_clamp = own_clamp(clamp, parsed_clamp(d.get("conv_clamp")))
        found.validate()
        return found

    def validate(self) -> None:
        """Refuses sizes that no pair can have, with what is allowed."""
        r = self.img_resolution
        if r < 16 or r > 1024 or r & (r - 1):
            raise ValueError(f"resolution must be a power of two from 16 to 1024, not {r}")
        if self.img_channels not in (1, 3):
            raise ValueError(f"image channels must be 1 or 3, not {self.img_channels}")
        for name, known in (("g_architecture", G_ARCHITECTURES), ("d_architecture", D_ARCHITECTURES)):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} must be {', '.join(known[:-1])} or {known[-1]}, not "
                                 f"{ascii(getattr(self, name))[1:-1][:80]}")
        for name, least in (("z_dim", 1), ("w_dim", 1), ("mapping_layers", 1), ("d_mapping_layers", 0), ("channel_max", 1),
                            ("mbstd_group_size", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, not {getattr(self, name)}")
        for name, most in LARGEST.items():
            if (getattr(self, name) or 0) > most:
                raise ValueError(f"{name} must be at most {most}, not {getattr(self, name)}")
        if self.c_dim < 0:
            raise ValueError(f"c_dim must be 0 (no labels) or the number of classes, not {self.c_dim}")
        if self.channel_base < r:
            raise ValueError(f"channel_base must be at least the resolution {r}, not {self.channel_base}")
        if self.d_channel_base is not None and self.d_channel_base < r:
            raise ValueError(f"d_channel_base must be at least the resolution {r}, not {self.d_channel_base}")
        if self.d_channel_max is not None and self.d_channel_max < 1:
            raise ValueError(f"d_channel_max must be at least 1, not {self.d_channel_max}")
        if self.d_cmap_dim is not None and self.d_cmap_dim < 1:
            raise ValueError(f"d_cmap_dim must be at least 1, not {self.d_cmap_dim}")
        if not 0 <= self.w_avg_beta <= 1:
            raise ValueError(f"w_avg_beta must be 0 to 1, not {self.w_avg_beta}")
        if not LEAST_RATE <= self.mapping_rate <= 1:
            raise ValueError(f"mapping_rate must be {LEAST_RATE:g} to 1, not {self.mapping_rate}")
        if self.conv_clamp is not None and not 0 < self.conv_clamp < float("inf"):
            raise ValueError(f"conv_clamp must be above 0, not {self.conv_clamp}")
        if self.d_conv_clamp is not None and not 0 <= self.d_conv_clamp < float("inf"):
            raise ValueError(f"d_conv_clamp must be above 0, or 0 for none, not {self.d_conv_clamp}")

    def generator(self, provenance: str = "{}") -> Generator:
        return Generator(self.z_dim, self.c_dim, self.w_dim, self.img_resolution, self.img_channels,
                         self.mapping_layers, self.channel_base, self.channel_max, self.conv_clamp, provenance,
                         self.g_architecture, self.w_avg_beta, self.mapping_rate)

    def discriminator(self, provenance: str = "{}") -> Discriminator:
        base, limit = self.d_channel_base or self.channel_base, self.d_channel_max or self.channel_max
        return Discriminator(self.c_dim, self.img_resolution, self.img_channels, base, limit, self.clamp_of_d,
                             self.mbstd_group_size, provenance, self.d_architecture, self.d_mapping_layers,
                             self.d_cmap_dim)


def parsed_clamp(value: Any) -> Optional[float]:
    """Parses a clamp as a description or metadata say it."""
    if isinstance(value, bool):
        raise ValueError(f"conv_clamp must be a number or None, not {value}")
    return None if value in (None, "None") else float(value)


def own_clamp(g: Optional[float], d: Optional[float]) -> Optional[float]:
    """Returns the `d_conv_clamp` of a pair whose networks clamp at `g` and `d`."""
    return None if g == d else d or 0.0


def random_pair(architecture: Architecture, seed: int) -> tuple[Generator, Discriminator]:
    """Makes a randomly initialised pair; the same architecture and seed give the same weights."""
    architecture.validate()
    torch.manual_seed(seed)
    provenance = json.dumps({"source": "random initialisation", "seed": seed, "architecture": asdict(architecture)})
    return architecture.generator(provenance), architecture.discriminator(provenance)


def check_shapes(make: Callable[[], nn.Module], tensors: Mapping[str, Tensor], source: str) -> None:
    """Refuses tensors that do not fit what `make` makes, before that takes memory: a small file can name any sizes."""
    with torch.device("meta"):
        expected = make().state_dict()
    wrong = sorted(name for name in expected.keys() | tensors.keys()
                   if name not in expected or name not in tensors or expected[name].shape != tensors[name].shape)
    if wrong:
        name = wrong[0]
        found = list(tensors[name].shape) if name in tensors else "missing"
        wanted = list(expected[name].shape) if name in expected else "no such tensor"
        raise ValueError(f"weights of '{source}' do not fit: '{ascii(name)[1:-1][:100]}' is {found}, the sizes ask for {wanted}")


def fill(module: nn.Module, tensors: Mapping[str, Tensor], source: str) -> None:
    """Copies `tensors` into `module`, refusing missing or unknown names and other shapes."""
    try:
        module.load_state_dict(dict(tensors), strict=True)
    except RuntimeError as error:
        said = ascii(" ".join(str(error).split()))[1:-1][:300]  # it has names out of a file, as many as are wrong
        raise ValueError(f"weights of '{source}' do not fit: {said}") from None


def scripted(module: nn.Module) -> io.BytesIO:
    """Returns `module` as a TorchScript file in memory: torch's writers end the process where the disk is full."""
    memory = io.BytesIO()
    torch.jit.save(torch.jit.script(module.eval()), memory)
    return memory


def write(content: io.BytesIO, path: Path) -> None:
    """Writes a file through a sibling, which is synced and then renamed to `path`."""
    replace_atomically(path, lambda scratch: scratch.write_bytes(content.getbuffer()))


def save(module: nn.Module, path: Path) -> None:
    """Scripts `module` and saves it, whole or not at all."""
    write(scripted(module), path)
