#!/usr/bin/env python3
"""Makes a trained generator larger without changing its images, so that training can go on with more capacity (Net2Net, Chen et
al., arXiv 1511.05641).

    .venv/bin/python scripts/grow_generator.py G.pt larger.pt --channel-base 4096 --mapping-layers 4 --mapping-rate 0.1
    .venv/bin/python scripts/grow_generator.py trained.pt out.pt --mapping-rate 0.01

- New channels have random weights into them and zeros out of them.
- More mapping layers make w twice as wide: it then holds leaky_relu(b) and leaky_relu(-b) of every value b, from which a new layer can
  restore b, so that it can start as the identity.
- The mapping network of every file that rootgan reads or writes has a hundredth of the learning rate: its weights are stored a hundred
  times as large as they act. `--mapping-rate` changes this factor. Only 0.01, the default, can be exported: so a generator that was
  trained with another one goes back by the second command.
"""

import argparse
import json
import sys
from dataclasses import dataclass
from math import sqrt
from pathlib import Path

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "python"))
from rootgan.checkpoints.ancestry import flattened, parsed  # noqa: E402
from rootgan.networks.generator import Generator  # noqa: E402
from rootgan.networks.pair import Architecture, save  # noqa: E402
from rootgan.whole_files import sha256_of  # noqa: E402

STANDARD_RATE = 0.01
LEAKY_GAIN = (1 + 0.2) * sqrt(2)  # leaky_relu(b) - leaky_relu(-b) is this times b, with the layers' gain of sqrt(2)


@dataclass
class Layer:
    """A fully connected layer as it acts: weight [out, in] and bias [out], without the factors of storage."""

    weight: Tensor
    bias: Tensor


def grown(old: torch.jit.ScriptModule, mapping_layers: int, channel_base: int, channel_max: int, rate: float) -> Generator:
    """Returns a generator of these sizes with the function of `old`. Sizes must not shrink, and there must be no labels."""
    said = json.loads(old.describe())
    if said["c_dim"] > 0:
        raise ValueError("a generator with labels cannot be grown")
    if said["g_architecture"] != "skip":
        raise ValueError(f"a generator of the architecture {said['g_architecture']} cannot be grown, only of skip")
    for name, size in (("mapping_layers", mapping_layers), ("channel_base", channel_base), ("channel_max", channel_max)):
        if size < said[name]:
            raise ValueError(f"{name} cannot shrink from {said[name]} to {size}")
    architecture = Architecture.described({**said, "mapping_layers": mapping_layers, "channel_base": channel_base,
                                           "channel_max": channel_max})
    if mapping_layers > said["mapping_layers"]:
        architecture.w_dim *= 2
    new = architecture.generator()
    with torch.no_grad():
        grow_mapping(old, new, said["mapping_layers"], mapping_layers, rate)
        grow_synthesis(old.state_dict(), new.state_dict())  # the values of a state dict are the weights themselves
    return new.eval()


def grow_mapping(old: torch.jit.ScriptModule, new: Generator, old_layers: int, count: int, rate: float) -> None:
    """Fills the mapping network of `new`, whose `count` layers get this share of the learning rate."""
    layers = [acting(getattr(old.mapping, f"fc{i}")) for i in range(old_layers)]
    w_avg = old.mapping.w_avg.detach()
    width = w_avg.shape[0]
    if count > old_layers:
        layers = [mirrored(layer, is_first=i == 0) for i, layer in enumerate(layers)]
        layers += [identity(width) for _ in range(count - old_layers)]
    for i, layer in enumerate(layers):
        stored = getattr(new.mapping, f"fc{i}")
        stored.weight_gain, stored.bias_gain = rate / sqrt(layer.weight.shape[1]), rate
        stored.weight.copy_(layer.weight / stored.weight_gain)
        stored.bias.copy_(layer.bias / stored.bias_gain)
    if count > old_layers:
        z = torch.randn(20_000, new.z_dim, generator=torch.Generator().manual_seed(0))
        new.mapping.w_avg.copy_(new.mapping(z)[:, 0].mean(dim=0))
    new.mapping.w_avg[:width] = w_avg


def acting(layer: torch.jit.ScriptModule) -> Layer:
    return Layer(layer.weight.detach() * layer.weight_gain, layer.bias.detach() * layer.bias_gain)


def mirrored(layer: Layer, is_first: bool) -> Layer:
    """Returns the layer that has -b beside every value b that it computed, and reads the first half of its inputs."""
    weight = layer.weight if is_first else torch.cat([layer.weight, torch.zeros_like(layer.weight)], 1)
    return Layer(torch.cat([weight, -weight]), torch.cat([layer.bias, -layer.bias]))


def identity(width: int) -> Layer:
    """Returns the layer that gives back leaky_relu(b) and leaky_relu(-b) of `width` values b."""
    half = torch.eye(width) / LEAKY_GAIN
    return Layer(torch.cat([torch.cat([half, -half], 1), torch.cat([-half, half], 1)]), torch.zeros(2 * width))


def grow_synthesis(old: dict[str, Tensor], new: dict[str, Tensor]) -> None:
    """Fills the synthesis network: the old weights in the first rows and columns, random ones of their size in new rows, zeros
    where a row that was there meets a column that was not."""
    for name, weight in new.items():
        before = old.get(name)
        if before is None or not name.startswith("synthesis."):
            continue  # a filter that is a constant, or the mapping network
        rows = before.shape[0] if before.dim() > 0 else 0
        if weight.shape == before.shape:
            weight.copy_(before)
        elif name.endswith(".bias"):
            weight[:rows] = before  # new ones keep their initial value, 0, or 1 for styles
        elif name.endswith(".const"):
            weight.mul_(before.std())
            weight[:rows] = before
        else:
            columns = before.shape[1]
            # Linear layers and RGB divide by the root of their inputs; other convolutions are demodulated instead.
            is_scaled = name.endswith((".affine.weight", ".torgb.weight"))
            scale = sqrt(weight.shape[1] / columns) if is_scaled else 1.0
            weight.mul_(before.std() * scale)
            weight[:, columns:] = 0
            weight[:rows] = 0
            weight[:rows, :columns] = before * scale


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("generator", type=Path, help="TorchScript of the contract (weights/README.md)")
    parser.add_argument("out", type=Path, help="file to write")
    parser.add_argument("--mapping-layers", type=int, help="layers of the mapping network; more of them double w_dim")
    parser.add_argument("--channel-base", type=int, help="channels at resolution r: base / r, at most max")
    parser.add_argument("--channel-max", type=int)
    parser.add_argument("--mapping-rate", type=float, default=STANDARD_RATE,
                        help="learning rate of the mapping network, a share of the others' [default: %(default)s]")
    parser.add_argument("--seed", type=int, default=0, help="seed of the new weights [default: %(default)s]")
    args = parser.parse_args()
    old = torch.jit.load(str(args.generator), map_location="cpu").eval()
    said = json.loads(old.describe())
    torch.manual_seed(args.seed)
    try:
        sizes = {name: getattr(args, name) or said[name] for name in ("mapping_layers", "channel_base", "channel_max")}
        new = grown(old, **sizes, rate=args.mapping_rate)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    z = torch.randn(16, said["z_dim"])
    with torch.no_grad():
        difference = (new(z, noise_mode="const") - old(z, noise_mode="const")).abs().max().item()
    record = {"source": args.generator.name, "source_sha256": sha256_of(args.generator),
              "grown": {**sizes, "mapping_rate": args.mapping_rate}, "parent": parsed(old.get_provenance())}
    new.set_provenance(json.dumps(flattened(record)))
    save(new, args.out)
    print(f"{args.out}: {sum(p.numel() for p in new.parameters()):,} parameters; images differ by {difference:.1g} at most")
    return 0


if __name__ == "__main__":
    sys.exit(main())
