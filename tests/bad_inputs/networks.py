"""Writes TorchScript files that are wrong in one way each: networks.py FOLDER G.pt D.pt."""

import json
import sys
from pathlib import Path
from typing import Optional, Tuple

import torch
from torch import Tensor

folder = Path(sys.argv[1])


class Generator(torch.nn.Module):
    """Takes z of width 8; subclasses break it."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))

    def pictures(self, z: Tensor) -> Tensor:
        return (z[:, :3] * self.weight).reshape(-1, 3, 1, 1).repeat(1, 1, 16, 16)

    def forward(self, z: Tensor) -> Tensor:
        return self.pictures(z)


class TwoArguments(Generator):
    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        return self.pictures(z) + c


class Pair(Generator):
    def forward(self, z: Tensor) -> Tuple[Tensor, Tensor]:
        return self.pictures(z), z


class NotSquare(Generator):
    def forward(self, z: Tensor) -> Tensor:
        return self.pictures(z)[:, :, :, :8]


class Double(Generator):
    def forward(self, z: Tensor) -> Tensor:
        return self.pictures(z).to(torch.float64)


class Bytes(Generator):
    def forward(self, z: Tensor) -> Tensor:
        return self.pictures(z).to(torch.uint8)


class AtMostTwo(Generator):
    def forward(self, z: Tensor) -> Tensor:
        return self.pictures(z)[:2]


class Nan(Generator):
    def forward(self, z: Tensor) -> Tensor:
        return self.pictures(z) / 0.0 * 0.0


class Raises(Generator):
    def forward(self, z: Tensor) -> Tensor:
        if z.shape[0] > 0:
            raise ValueError("not today\nnor tomorrow")
        return self.pictures(z)


class Detached(Generator):
    def forward(self, z: Tensor) -> Tensor:
        return self.pictures(z).detach()


class Frozen(torch.nn.Module):
    def forward(self, z: Tensor) -> Tensor:
        return z[:, :3].reshape(-1, 3, 1, 1).repeat(1, 1, 16, 16)


class Critic(torch.nn.Module):
    """Says one number for each picture; subclasses break it."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))

    def logits(self, images: Tensor) -> Tensor:
        return images.mean([1, 2, 3]).reshape(-1, 1) * self.weight

    def forward(self, images: Tensor) -> Tensor:
        return self.logits(images)


class CriticOfTwo(Critic):
    def forward(self, images: Tensor, others: Tensor) -> Tensor:
        return self.logits(images + others)


class CriticPair(Critic):
    def forward(self, images: Tensor) -> Tuple[Tensor, Tensor]:
        return self.logits(images), images


class CriticOfPixels(Critic):
    def forward(self, images: Tensor) -> Tensor:
        return images[:, 0] * self.weight


class CriticNan(Critic):
    def forward(self, images: Tensor) -> Tensor:
        return self.logits(images) / 0.0 * 0.0


class CriticInt(Critic):
    def forward(self, images: Tensor) -> Tensor:
        return self.logits(images).to(torch.int32)


class CriticDetached(Critic):
    def forward(self, images: Tensor) -> Tensor:
        return self.logits(images).detach()


class CriticOnce(Critic):
    """libtorch has no second derivative of its sampler."""

    def forward(self, images: Tensor) -> Tensor:
        grid = torch.zeros(images.shape[0], 4, 4, 2)
        return self.logits(torch.nn.functional.grid_sample(images * self.weight, grid, align_corners=False))


class CriticRaises(Critic):
    def forward(self, images: Tensor) -> Tensor:
        if images.shape[2] != 64:
            raise ValueError("images must be 64x64")
        return self.logits(images)


class Liar(Generator):
    """Of the contract, with 8 numbers of z and 16x16 pixels, whatever it says."""

    def __init__(self, text: str):
        super().__init__()
        self.text: str = text

    @torch.jit.export
    def describe(self) -> str:
        return self.text

    @torch.jit.export
    def run_mapping(self, z: Tensor, c: Optional[Tensor], psi: float, cutoff: Optional[int], update: bool) -> Tensor:
        if z.shape[1] != 8:
            raise ValueError("z must be [N, 8]")
        return z.unsqueeze(1).repeat(1, 6, 1)

    @torch.jit.export
    def run_synthesis(self, ws: Tensor, noise_mode: str, noise: Optional[Tensor]) -> Tensor:
        return self.pictures(ws[:, 0])


class GeneratorOnce(Liar):
    """libtorch has no second derivative of its sampler."""

    @torch.jit.export
    def run_synthesis(self, ws: Tensor, noise_mode: str, noise: Optional[Tensor]) -> Tensor:
        grid = torch.zeros(ws.shape[0], 16, 16, 2)
        return torch.nn.functional.grid_sample(self.pictures(ws[:, 0]), grid, align_corners=False)


class DescribeRaises(Generator):
    @torch.jit.export
    def describe(self) -> str:
        if len("text") > 0:
            raise ValueError("no sizes yet")
        return "text"


class DescribeNumber(Generator):
    @torch.jit.export
    def describe(self) -> int:
        return 7


class LiarWithoutMapping(Generator):
    def __init__(self, text: str):
        super().__init__()
        self.text: str = text

    @torch.jit.export
    def describe(self) -> str:
        return self.text


TRUTH = {
    "kind": "generator", "contract": 1, "z_dim": 8, "c_dim": 0, "w_dim": 8, "num_ws": 6, "img_resolution": 16,
    "img_channels": 3, "mapping_layers": 2, "channel_base": 256, "channel_max": 32, "conv_clamp": None,
    "noise_numel": 0,
}


def save(name: str, module: torch.nn.Module) -> None:
    torch.jit.script(module).save(str(folder / f"{name}.pt"))


def liar(name: str, **changes) -> None:
    said = {key: value for key, value in {**TRUTH, **changes}.items() if value != "left out"}
    save(name, Liar(json.dumps(said)))


generators = [Generator, TwoArguments, Pair, NotSquare, Double, Bytes, AtMostTwo, Nan, Raises, Detached, Frozen,
              DescribeRaises, DescribeNumber]
critics = [Critic, CriticOfTwo, CriticPair, CriticOfPixels, CriticNan, CriticInt, CriticDetached, CriticOnce, CriticRaises]
for kind in generators + critics:
    save(kind.__name__, kind())
save("DoubleWeights", Generator().double())
liar("LiarZ", z_dim=16)
liar("LiarResolution", img_resolution=32)
liar("LiarHuge", z_dim=10**15)
liar("LiarNegative", img_resolution=-16)
liar("LiarVersion", contract=2)
liar("LiarSizes", w_dim="left out")
liar("LiarType", z_dim="eight")
liar("LiarKind", kind="encoder")
save("GeneratorOnce", GeneratorOnce(json.dumps(TRUTH)))
save("LiarText", Liar("{not json"))
save("LiarWithoutMapping", LiarWithoutMapping(json.dumps(TRUTH)))

generator = torch.jit.load(sys.argv[2])
with torch.no_grad():
    next(generator.parameters()).fill_(float("nan"))
generator.save(str(folder / "NanWeights.pt"))
