#!/usr/bin/env python3
"""Makes a trained generator larger without changing its images, so that training can go on with more capacity (Net2Net, Chen et
al., arXiv 1511.05641).

    .venv/bin/python scripts/grow_generator.py G.pt larger.pt --channel-base 4096 --mapping-layers 4 --mapping-rate 0.1
    .venv/bin/python scripts/grow_generator.py trained.pt out.pt --mapping-rate 0.01

- New channels have random weights into them and zeros out of them.
- More mapping layers make w twice as wide: it then holds leaky_relu(b) and leaky_relu(-b) of every value b, from which a new layer can
  restore b, so that it can start as the identity.
- The mapping network has a hundredth of the learning rate: its weights are stored a hundred times as large as they act.
  `--mapping-rate` changes this factor, which the file then says of itself (`mapping_rate`). The layouts of rosinality and NVIDIA
  know only 0.01, the default: a generator that was trained with another one goes back by the second command.
"""

import argparse
import sys
from dataclasses import dataclass, replace
from math import sqrt
from pathlib import Path

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "python"))
from rootgan.checkpoints.ancestry import flattened, parsed  # noqa: E402
from rootgan.checkpoints.checkpoint import CheckpointError  # noqa: E402
from rootgan.checkpoints.records import as_json, writable  # noqa: E402
from rootgan.checkpoints.torchscript import Network  # noqa: E402
from rootgan.command_line import Failure, Parser, told_in_one_line  # noqa: E402
from rootgan.networks.generator import Generator  # noqa: E402
from rootgan.networks.layers import MAPPING_RATE, FullyConnected  # noqa: E402
from rootgan.networks.pair import Architecture, save  # noqa: E402
from rootgan.whole_files import sha256_of  # noqa: E402

SIZES = ("mapping_layers", "channel_base", "channel_max")
LEAKY_GAIN = (1 + 0.2) * sqrt(2)  # leaky_relu(b) - leaky_relu(-b) is this times b, with the layers' gain of sqrt(2)


@dataclass
class Layer:
    """A fully connected layer as it acts: weight [out, in] and bias [out], without the factors of storage."""

    weight: Tensor
    bias: Tensor


def grown(old: Generator, before: Architecture, sizes: dict[str, int], rate: float) -> Generator:
    """Returns a generator of these sizes with the function of `old`. Sizes must not shrink, and there must be no labels."""
    if before.c_dim > 0:
        raise Failure(f"it has {before.c_dim} classes, and a generator with labels cannot be grown; take one without")
    if before.g_architecture != "skip":
        raise Failure(f"its architecture is {before.g_architecture}, and only skip can be grown; take a generator of skip")
    for name, size in sizes.items():
        if size < getattr(before, name):
            raise Failure(f"{name} cannot shrink from {getattr(before, name)} to {size}; pass that or more")
    after = replace(before, **sizes, mapping_rate=rate)
    if after.mapping_layers > before.mapping_layers:
        after.w_dim *= 2
    after.validate()
    new = after.generator()
    with torch.no_grad():
        grow_mapping(old, new, before.mapping_layers, after.mapping_layers)
        grow_synthesis(old.state_dict(), new.state_dict())  # the values of a state dict are the weights themselves
    return new.eval()


def grow_mapping(old: Generator, new: Generator, old_layers: int, count: int) -> None:
    """Fills the `count` layers of the mapping network of `new`."""
    layers = [acting(getattr(old.mapping, f"fc{i}")) for i in range(old_layers)]
    w_avg = old.mapping.w_avg.detach()
    width = w_avg.shape[0]
    if count > old_layers:
        layers = [mirrored(layer, is_first=i == 0) for i, layer in enumerate(layers)]
        layers += [identity(width) for _ in range(count - old_layers)]
    for i, layer in enumerate(layers):
        stored = getattr(new.mapping, f"fc{i}")
        stored.weight.copy_(layer.weight / stored.weight_gain)
        stored.bias.copy_(layer.bias / stored.bias_gain)
    if count > old_layers:
        z = torch.randn(20_000, new.z_dim, generator=torch.Generator().manual_seed(0))
        new.mapping.w_avg.copy_(new.mapping(z)[:, 0].mean(dim=0))
    new.mapping.w_avg[:width] = w_avg


def acting(layer: FullyConnected) -> Layer:
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


def main() -> None:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("generator", type=Path, help="TorchScript of the contract (weights/README.md)")
    parser.add_argument("out", type=Path, help="file to write")
    parser.add_argument("--mapping-layers", type=int, help="layers of the mapping network; more of them double w_dim")
    parser.add_argument("--channel-base", type=int, help="channels at resolution r: base / r, at most max")
    parser.add_argument("--channel-max", type=int)
    parser.add_argument("--mapping-rate", type=float, default=MAPPING_RATE,
                        help="learning rate of the mapping network, a share of the others' [default: %(default)s]")
    parser.add_argument("--seed", type=int, default=0, help="seed of the new weights [default: %(default)s]")
    args = parser.parse_args()
    with told_in_one_line(f"cannot grow '{args.generator}'", "check the rights and the free space there, or pass another file"):
        grow(args)


def grow(args: argparse.Namespace) -> None:
    """Reads the generator as data, grows it, and writes it with how far its pictures moved."""
    network = Network(args.generator, "generator", "grow")
    torch.manual_seed(args.seed)
    try:
        before = Architecture.described(network.said)
        old = network.module(before)
        sizes = {name: getattr(before, name) if getattr(args, name) is None else getattr(args, name) for name in SIZES}
        new = grown(old, before, sizes, args.mapping_rate)
    except CheckpointError:
        raise
    except (ValueError, TypeError, OverflowError) as error:
        raise Failure(f"cannot grow '{args.generator}': {error}") from None
    z = torch.randn(16, before.z_dim)
    with torch.no_grad():
        difference = (new(z, noise_mode="const") - old(z, noise_mode="const")).abs().max().item()
    record = {"source": writable(args.generator.name), "source_sha256": sha256_of(args.generator),
              "grown": {**sizes, "mapping_rate": args.mapping_rate}, "parent": parsed(network.provenance())}
    new.set_provenance(as_json(flattened(record)))
    save(new, args.out)
    print(f"{args.out}: {sum(p.numel() for p in new.parameters()):,} parameters; images differ by {difference:.1g} at most")


if __name__ == "__main__":
    main()
