"""Reads and writes checkpoints in rosinality's layout, which has the same tensors under other names
(rosinality_names.py)."""

from pathlib import Path
from typing import Any, Mapping, Optional

import torch
from rootgan.networks.generator import Mapping as MappingNetwork
from rootgan.networks.layers import MAPPING_RATE
from rootgan.networks.pair import LARGEST, Architecture
from torch import Tensor

from . import architecture
from .architecture import FILTER, Tensors
from .checkpoint import Checkpoint, CheckpointError
from .records import plain
from .rosinality_names import Entry, above_4, discriminator_table, generator_table
from .wording import some_of
from .writing import save_torch

FORMAT = "rosinality"
# What training there takes by default: Adam's rate and betas, and after how many steps each network is regularised.
RATE, BETAS, G_INTERVAL, D_INTERVAL = 0.002, (0.0, 0.99), 4, 16
MAPPINGS = 10_000  # how many mappings an absent mean of w is estimated from
SEED = 0
MOST_BLOCKS = 20  # far beyond the largest pictures
# rosinality's channels at these resolutions, to be multiplied by channel_multiplier; below 64 there are always 512.
WIDTHS = {64: 256, 128: 128, 256: 64, 512: 32, 1024: 16}


# ---- reading

def read(tree: Any, path: Path) -> Checkpoint:
    """Makes a checkpoint of `tree`, the content of the file at `path` as the safe reader gives it."""
    found = {name: network(tree, name, path) for name in ("g_ema", "g", "d")}
    of_g = found["g_ema"] or found["g"]
    if of_g is None:
        raise CheckpointError(f"cannot import '{path}': it has neither 'g_ema' nor 'g', so it is no rosinality "
                              "checkpoint with a generator; pass the file that the training or the conversion wrote")
    notes: list[str] = []
    table = generator_table(4 << count(of_g, "to_rgbs.{}.bias"), count(of_g, "style.{}.weight", 1, LARGEST["mapping_layers"]))
    generators = {name: renamed(tensors, table, name, path, notes)
                  for name, tensors in found.items() if name != "d" and tensors is not None}
    d = found["d"]
    if d is not None:
        d = renamed(d, discriminator_table(4 << count(d, "convs.{}.conv1.0.weight", 1)), "d", path, notes)
    pair = architecture.from_tensors(next(iter(generators.values())), d, str(path))
    size = path.stat().st_size
    result = Checkpoint(FORMAT, pair, notes=notes, options=options(tree))
    for name, tensors in generators.items():
        completed = with_noises(with_filters(tensors, pair, "generator"), pair, name, notes)
        completed["mapping.w_avg"] = torch.zeros(pair.w_dim)
        role = "G" if name == "g" else "G_ema"
        whole = architecture.take(completed, pair, role, str(path), size + filled(pair), notes)
        setattr(result, name, whole)
    set_mean([tensors for tensors in (result.g_ema, result.g) if tensors is not None], pair, tree, path, notes)
    if result.g is not None and result.g_ema is not None and architecture.same(result.g, result.g_ema):
        result.g = None
    if d is not None:
        d = with_filters(d, pair, "discriminator")
        result.d = architecture.take(d, pair, "D", str(path), size, notes)
    return result


def network(tree: Any, name: str, path: Path) -> Optional[dict[str, Tensor]]:
    """Returns one of the state dicts, None where it is not there."""
    value = tree.get(name) if isinstance(tree, dict) else None
    if value is None:
        return None
    if not isinstance(value, dict) or \
            not all(isinstance(key, str) and isinstance(item, Tensor) for key, item in value.items()):
        raise CheckpointError(f"cannot import '{path}': '{name}' is not a state dict of tensors; pass an unmodified "
                              "checkpoint")
    return value


def count(tensors: Tensors, pattern: str, first: int = 0, most: int = MOST_BLOCKS) -> int:
    """Counts the names that `pattern` makes of `first`, `first` + 1, ... up to the first gap, or to `most`."""
    number = 0
    while number < most and pattern.format(first + number) in tensors:
        number += 1
    return number


def renamed(tensors: Tensors, table: Mapping[str, Entry], network_name: str, path: Path,
            notes: list[str]) -> dict[str, Tensor]:
    """Returns `tensors` under NVIDIA's names; refuses unknown and missing ones; noises and filters may be missing."""
    where = f"cannot import '{path}': '{network_name}'"
    unknown = [name for name in tensors if name not in table]
    missing = [name for name, entry in table.items() if name not in tensors and not may_lack(name, entry)]
    for what, names in (("unknown tensors", unknown), ("missing tensors", missing)):
        if names:
            raise CheckpointError(f"{where} has {len(names)} {what} ({some_of(names)}), so it is not StyleGAN2 as "
                                  "rosinality publishes it; only unmodified networks can be imported")
    lacking = [name for name, entry in table.items() if entry.factor and name not in tensors]
    if lacking:
        notes.append(f"'{network_name}' lacks {len(lacking)} blur kernels: the usual [1, 3, 3, 1] is filled in")
    return {table[name].name: converted(value, table[name], f"{where}: '{name}'") for name, value in tensors.items()}


def may_lack(name: str, entry: Entry) -> bool:
    """Whether a file may lack a tensor: noises are drawn instead, and filters are the usual ones."""
    return name.startswith("noises.") or entry.factor > 0


def converted(value: Tensor, entry: Entry, where: str) -> Tensor:
    """Returns a tensor as it is kept here: without the axes of length 1, float32, a filter divided by its factor."""
    shape, end = list(value.shape), value.dim() - entry.after
    if end < entry.before or any(size != 1 for size in shape[:entry.before] + shape[end:]):
        axes = [f"{entry.before} leading" if entry.before else "", f"{entry.after} trailing" if entry.after else ""]
        wanted = " and ".join(filter(None, axes))
        raise CheckpointError(f"{where} has shape {shape}, expected {wanted} axes of length 1")
    if not value.is_floating_point():
        raise CheckpointError(f"{where} is of type {value.dtype}, expected floating point")
    value = value.detach().to(torch.float32).reshape(shape[entry.before:end])
    return value / entry.factor if entry.factor else value


def set_mean(generators: list[dict[str, Tensor]], pair: Architecture, tree: Mapping[str, Any], path: Path,
             notes: list[str]) -> None:
    """Sets the mean of w in all generators: the stored mean, else an estimate made with the first generator."""
    w_avg = stored_mean(tree, pair, path)
    if w_avg is None:
        w_avg = estimated_mean(generators[0], pair)
        notes.append(f"the file has no latent_avg: the mean of w (w_avg) is estimated from {MAPPINGS:,} mappings (seed "
                     f"{SEED})")
    for tensors in generators:
        tensors["mapping.w_avg"] = w_avg.clone()


def stored_mean(tree: Mapping[str, Any], pair: Architecture, path: Path) -> Optional[Tensor]:
    """Returns the mean of w that the file stores as `latent_avg`, [w_dim]; None where it stores none."""
    value = tree.get("latent_avg")
    if value is None:
        return None
    shape = list(value.shape) if isinstance(value, Tensor) else type(value).__name__
    if shape not in ([pair.w_dim], [1, pair.w_dim]):
        raise CheckpointError(f"cannot import '{path}': 'latent_avg' is {shape}, expected [{pair.w_dim}], the mean "
                              "of w")
    mean = value.detach().to(torch.float32).reshape(pair.w_dim)
    architecture.refuse_infinite({"latent_avg": mean}, "generator", str(path))
    return mean


def estimated_mean(tensors: Tensors, pair: Architecture) -> Tensor:
    """Returns the mean of w over `MAPPINGS` draws of z; the sum is kept in float64."""
    mapping = MappingNetwork(pair.z_dim, 0, pair.w_dim, 1, pair.mapping_layers)
    layers = {name.removeprefix("mapping."): value for name, value in tensors.items() if name.startswith("mapping.fc")}
    mapping.load_state_dict({**layers, "w_avg": torch.zeros(pair.w_dim)})
    generator, total = torch.Generator().manual_seed(SEED), torch.zeros(pair.w_dim, dtype=torch.float64)
    with torch.no_grad():
        for _ in range(10):
            z = torch.randn(MAPPINGS // 10, pair.z_dim, generator=generator)
            total += mapping(z)[:, 0].double().sum(dim=0)
    return (total / MAPPINGS).float()


def with_noises(tensors: Tensors, pair: Architecture, network_name: str, notes: list[str]) -> dict[str, Tensor]:
    """Adds a noise image for every layer that lacks one; each is the same whichever others are missing."""
    generator = torch.Generator().manual_seed(SEED)
    drawn: dict[str, Tensor] = {}
    for r in (4, *above_4(pair.img_resolution)):
        for layer in ("conv0", "conv1") if r > 4 else ("conv1",):
            image, name = torch.randn(r, r, generator=generator), f"synthesis.b{r}.{layer}.noise_const"
            if name not in tensors:
                drawn[name] = image
    if drawn:
        notes.append(f"'{network_name}' lacks {len(drawn)} noise images: they are drawn (seed {SEED}), so pictures "
                     "with constant noise differ in detail from those of the source")
    return {**tensors, **drawn}


def with_filters(tensors: Tensors, pair: Architecture, kind: str) -> dict[str, Tensor]:
    """Adds the filters that the layout does not store because they are always the same."""
    with torch.device("meta"):
        module = pair.generator() if kind == "generator" else pair.discriminator()
    return {**{name: FILTER.clone() for name in module.state_dict() if name.endswith("resample_filter")}, **tensors}


def filled(pair: Architecture) -> int:
    """How many bytes of noise a file may lack: its size cannot be expected to cover them."""
    return 4 * sum(2 * r * r for r in (4, *above_4(pair.img_resolution)))


def options(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the numbers that the training was asked for; texts are left out because most of them are paths."""
    args = tree.get("args")
    said = {**(args if isinstance(args, dict) else {}), "ada_aug_p": tree.get("ada_aug_p")}
    return {name: value for name, value in plain(said).items() if isinstance(value, (int, float))}


# ---- writing

def obstacle(checkpoint: Checkpoint) -> Optional[str]:
    """Says what the layout cannot hold of this checkpoint; None where all of it fits."""
    pair = checkpoint.architecture
    if checkpoint.g_ema is None:
        return "there is no averaged generator"
    for found, wanted, what in ((pair.c_dim, 0, "c_dim (labels)"), (pair.img_channels, 3, "img_channels"),
                                (pair.g_architecture, "skip", "g_architecture"),
                                (pair.z_dim, pair.w_dim, "z_dim, which is w_dim there,")):
        if found != wanted:
            return f"{what} is {found}, that layout has only {wanted}"
    if pair.mapping_rate != MAPPING_RATE:
        return (f"mapping_rate is {pair.mapping_rate:g}, that layout has only {MAPPING_RATE:g}; in a clone of rootgan, "
                "scripts/grow_generator.py GENERATOR OUT makes the same generator with it")
    if checkpoint.d is not None:
        for found, wanted, what in ((pair.d_architecture, "resnet", "d_architecture"),
                                    (pair.mbstd_group_size, 4, "mbstd_group_size"),
                                    (pair.d_channel_base, None, "d_channel_base"),
                                    (pair.d_channel_max, None, "d_channel_max")):
            if found != wanted:
                return f"{what} is {found}, that layout has only {wanted or 'those of the generator'}"
    for kind, tensors in (("G_ema", checkpoint.g_ema), ("G", checkpoint.g or {}), ("D", checkpoint.d or {})):
        for name, value in tensors.items():
            if name.endswith("resample_filter") and not torch.equal(value.cpu(), FILTER):
                return f"'{name}' of {kind} is not the [1, 3, 3, 1] filter, which that layout takes for granted"
    if checkpoint.g is not None and not torch.equal(checkpoint.g["mapping.w_avg"], checkpoint.g_ema["mapping.w_avg"]):
        return "G and G_ema have different w_avg, that layout has one latent_avg; leave the raw generator out"
    for found, what in ((pair.conv_clamp, "conv_clamp"), (pair.clamp_of_d, "conv_clamp of D")):
        if found is not None:  # the last obstacle, because there is a way around it
            return (f"{what} is {found}, that layout has only None; pass --drop-clamp to measure what it does and leave it "
                    "out")
    return None


def refuse(checkpoint: Checkpoint, source: str) -> None:
    """Refuses a checkpoint that does not fit into the layout."""
    reason = obstacle(checkpoint)
    if reason is not None:
        raise CheckpointError(f"cannot export '{source}' to rosinality's layout: {reason}"
                              f"{', or' if ';' in reason else ';'} use another format")


def written(tensors: Tensors, table: Mapping[str, Entry]) -> dict[str, Tensor]:
    """Returns `tensors` under rosinality's names, with its axes of length 1 and its filters' factors."""
    result = {}
    for name, entry in table.items():
        value = tensors[entry.name].detach().cpu()
        value = value * entry.factor if entry.factor else value
        result[name] = value.reshape([1] * entry.before + list(value.shape) + [1] * entry.after).clone().contiguous()
    return result


def content(checkpoint: Checkpoint, source: str) -> dict[str, Any]:
    """Returns what a rosinality file of this checkpoint holds: g_ema, g, latent_avg, and where there is one d; and
    beside g and d the optimizers with which the training there begins."""
    refuse(checkpoint, source)
    assert checkpoint.g_ema is not None  # `obstacle` has checked that
    pair = checkpoint.architecture
    table = generator_table(pair.img_resolution, pair.mapping_layers)
    result: dict[str, Any] = {"g_ema": written(checkpoint.g_ema, table)}
    result["g"], result["g_optim"] = written(checkpoint.g or checkpoint.g_ema, table), new_optimizer(table, G_INTERVAL)
    if checkpoint.d is not None:
        table = discriminator_table(pair.img_resolution)
        result["d"], result["d_optim"] = written(checkpoint.d, table), new_optimizer(table, D_INTERVAL)
    result["latent_avg"] = checkpoint.g_ema["mapping.w_avg"].detach().cpu().clone()
    return result


def new_optimizer(table: Mapping[str, Entry], interval: int) -> dict[str, Any]:
    """Returns the state of an Adam that has not stepped yet, over as many parameters as rosinality's network of these
    names has: its noises and filters are buffers. A network that is regularised every `interval` steps takes k =
    interval / (interval + 1) of the rate and betas to the power of k, so that both kinds of steps together are those of
    one ordinary step (StyleGAN2, appendix B)."""
    count, share = sum(not may_lack(name, entry) for name, entry in table.items()), interval / (interval + 1)
    betas = tuple(beta**share for beta in BETAS)
    return torch.optim.Adam([torch.zeros(1, requires_grad=True) for _ in range(count)], RATE * share, betas).state_dict()


def write(checkpoint: Checkpoint, path: Path, source: str = "the checkpoint") -> list[str]:
    """Writes the file at `path`; returns what a user of it has to know, one sentence each."""
    save_torch(content(checkpoint, source), path)
    remarks = [constructor(checkpoint.architecture),
               f"its optimizers have not stepped yet: Adam, lr {RATE}, for a regularisation every {G_INTERVAL} (G) and "
               f"{D_INTERVAL} (D) steps"]
    if checkpoint.g is None:
        remarks.append("'g' is the averaged generator too: there is no other generator in the source")
    if checkpoint.d is None:
        remarks.append("there is no 'd': there is no discriminator in the source, and rosinality's training needs one")
    return remarks


def constructor(pair: Architecture) -> str:
    """Says with which arguments rosinality's networks have to be made for these tensors."""
    sizes = f"size {pair.img_resolution}, style_dim {pair.w_dim}, n_mlp {pair.mapping_layers}"
    widths = {r: min(pair.channel_base // r, pair.channel_max) for r in (4, *above_4(pair.img_resolution))}
    for multiplier in (2, 1):
        if all(width == (512 if r < 64 else WIDTHS[r] * multiplier) for r, width in widths.items()):
            return f"rosinality's networks are made with {sizes}, channel_multiplier {multiplier}"
    return (f"rosinality's networks as published have no setting for these channels ({widths}): change its table of "
            f"channels, then {sizes}")
