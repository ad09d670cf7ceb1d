"""Finds the architecture of a pair by the names (NVIDIA's) and shapes of its tensors, and takes the tensors that this
architecture wants, checked and in float32."""

import re
from dataclasses import replace
from typing import Any, Mapping, Optional

import torch
from rootgan.networks.pair import LARGEST, Architecture
from rootgan.networks.resample import is_filter, is_outer, resample_filter
from torch import Tensor, nn

from .checkpoint import CheckpointError
from .wording import some_of

Tensors = Mapping[str, Tensor]
STYLEGAN3 = re.compile(r"(^|\.)synthesis\.(input\.|L\d+_)|(^|\.)magnitude_ema$")
FILTER = resample_filter().detach()
MEGABYTE = 1 << 20
KINDS = {"G_ema": "generator", "G": "generator in training (G)", "D": "discriminator"}


def refuse_stylegan3(names: Any, source: str) -> None:
    """Refuses a StyleGAN3 generator, which the names of its tensors show: it is another network."""
    if any(STYLEGAN3.search(name) for name in names):
        raise CheckpointError(
            f"cannot import '{source}': its generator is a StyleGAN3 (stylegan3-t or stylegan3-r), another network that "
            "rootgan does not have; finetune it with NVIDIA's stylegan3 code, or pass a checkpoint trained with "
            "--cfg=stylegan2"
        )


def shape(tensors: Tensors, name: str, dimensions: int, source: str) -> list[int]:
    """Returns the shape of a tensor that has to be there with so many dimensions."""
    if name not in tensors:
        raise CheckpointError(
            f"cannot import '{source}': '{name}' is missing; it is not a whole StyleGAN2 under NVIDIA's names"
        )
    found = list(tensors[name].shape)
    if len(found) != dimensions or min(found, default=1) < 1:
        raise CheckpointError(f"cannot import '{source}': '{name}' has shape {found}, expected {dimensions} "
                              "dimensions as in every StyleGAN2")
    return found


def resolutions(tensors: Tensors, prefix: str, source: str) -> list[int]:
    """Returns the resolutions of the blocks, which have to be 4, 8, ... without a gap."""
    pattern = re.compile(re.escape(prefix) + r"b(\d{1,5})\.")
    found = sorted({int(match[1]) for name in tensors if (match := pattern.match(name))})
    if not found or found != [4 << i for i in range(len(found))]:
        raise CheckpointError(
            f"cannot import '{source}': it has blocks of the resolutions {str(found[:12])[:-1]}"
            f"{', ...]' if len(found) > 12 else ']'}, expected 4, 8, 16 and so on; pass a whole network"
        )
    return found


def count_layers(tensors: Tensors) -> int:
    """The number of fully connected layers fc0, fc1, ... of a mapping network."""
    count = 0
    while f"mapping.fc{count}.weight" in tensors:
        count += 1
    return count


def channel_rule(widths: Mapping[int, int], source: str, hint: tuple[Any, Any] = (None, None)) -> tuple[int, int]:
    """Finds channel_base and channel_max with min(base // r, max) channels at every resolution r: `hint` if it fits."""
    most = max(widths.values())
    lowest = max(r * w for r, w in widths.items())
    for base, limit in (hint, (lowest, most)):
        if is_size(base, LARGEST["channel_base"]) and is_size(limit, LARGEST["channel_max"]) and fits(widths, base, limit):
            return base, limit
    raise CheckpointError(
        f"cannot import '{source}': its channels by resolution {dict(widths)} are not min(base / resolution, "
        "max) for any base and max, so it is no StyleGAN2 of a usual size"
    )


def is_size(value: Any, most: int) -> bool:
    """Whether a value out of a file can be a size; a truth value is none."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= most


def fits(widths: Mapping[int, int], base: int, limit: int) -> bool:
    """Whether the channels at all resolutions follow the rule of `channel_rule`."""
    return all(min(base // r, limit) == w for r, w in widths.items())


def generator_sizes(g: Tensors, source: str, hint: tuple[Any, Any]) -> Architecture:
    """Returns what the shapes of the generator's tensors say of the pair."""
    blocks = resolutions(g, "synthesis.", source)
    widths = {r: shape(g, f"synthesis.b{r}.conv1.weight", 4, source)[0] for r in blocks}
    base, limit = channel_rule(widths, source, hint)
    w_dim = shape(g, "synthesis.b4.conv1.affine.weight", 2, source)[1]
    z_width = shape(g, "mapping.fc0.weight", 2, source)[1]
    c_dim = shape(g, "mapping.embed.weight", 2, source)[1] if "mapping.embed.weight" in g else 0
    kind = "skip" if "synthesis.b4.torgb.weight" in g else "resnet" if "synthesis.b8.skip.weight" in g else "orig"
    return Architecture(
        blocks[-1],
        shape(g, f"synthesis.b{blocks[-1]}.torgb.weight", 4, source)[0],
        z_width - (w_dim if c_dim else 0),
        c_dim,
        w_dim,
        count_layers(g),
        base,
        limit,
        g_architecture=kind,
    )


def with_discriminator(pair: Architecture, d: Tensors, source: str, hint: tuple[Any, Any]) -> Architecture:
    """Returns `pair` with what the discriminator's shapes add; refuses networks that do not fit together."""
    blocks = resolutions(d, "", source)
    top = blocks[-1]
    img_channels = shape(d, f"b{top}.fromrgb.weight", 4, source)[1]
    c_dim = shape(d, "mapping.embed.weight", 2, source)[1] if "mapping.embed.weight" in d else 0
    for what, ours, theirs in (
        ("makes images of", pair.img_resolution, top),
        ("makes channels:", pair.img_channels, img_channels),
        ("takes labels of width", pair.c_dim, c_dim),
    ):
        if ours != theirs:
            raise CheckpointError(
                f"cannot import '{source}': its generator {what} {ours}, but its discriminator expects "
                f"{theirs}; they are not a pair"
            )
    widths = {r: shape(d, f"b{r}.conv0.weight" if r > 4 else "b4.conv.weight", 4, source)[0] for r in blocks}
    kind = "resnet" if f"b{top}.skip.weight" in d else "skip" if "b4.fromrgb.weight" in d else "orig"
    pair = replace(pair, d_architecture=kind)
    if c_dim:
        cmap_dim = shape(d, "mapping.embed.weight", 2, source)[0]
        pair = replace(pair, d_mapping_layers=count_layers(d), d_cmap_dim=None if cmap_dim == widths[4] else cmap_dim)
    if fits(widths, pair.channel_base, pair.channel_max):
        return pair
    base, limit = channel_rule(widths, source, hint)
    return replace(pair, d_channel_base=base, d_channel_max=limit)


def from_tensors(g: Tensors, d: Optional[Tensors], source: str, conv_clamp: Optional[float] = None,
                 d_conv_clamp: Optional[float] = None, mbstd_group_size: int = 4,
                 g_channels: tuple[Any, Any] = (None, None),
                 d_channels: tuple[Any, Any] = (None, None)) -> Architecture:
    """Returns the architecture that the shapes of `g` and `d` (under NVIDIA's names) show. Clamps and minibatch-stddev
    group are not in the shapes, so they are arguments. `g_channels` and `d_channels` are channel_base and channel_max
    as the file says them, used if they fit."""
    refuse_stylegan3(g, source)
    pair = generator_sizes(g, source, g_channels)
    if d is not None:
        pair = with_discriminator(pair, d, source, d_channels)
    pair = replace(pair, conv_clamp=conv_clamp, d_conv_clamp=d_conv_clamp, mbstd_group_size=mbstd_group_size)
    try:
        pair.validate()
    except ValueError as error:
        raise CheckpointError(f"cannot import '{source}': {error}") from None
    return pair


def take(
    tensors: Tensors, pair: Architecture, network: str, source: str, file_bytes: int, notes: list[str]
) -> dict[str, Tensor]:
    """Returns the tensors that the `network` (a key of `KINDS`) of `pair` wants, as float32. A tensor that a file may
    lack without changing a result is filled in and noted. Any other tensor that is missing, unknown, of another shape
    or not finite is refused."""
    kind = KINDS[network]
    with torch.device("meta"):
        module: nn.Module = pair.discriminator() if network == "D" else pair.generator()
    wanted = {name: list(value.shape) for name, value in module.state_dict().items()}
    elements = sum(value.numel() for value in module.state_dict().values())
    if 4 * elements > 4 * file_bytes + 16 * MEGABYTE:
        raise CheckpointError(
            f"cannot import '{source}': a {kind} of this shape has {elements} numbers, but the file only "
            f"{file_bytes} bytes; it is damaged or made to exhaust memory"
        )
    constants = fill_constants(tensors, wanted, kind, notes)
    for what, names in misfits(tensors, wanted, constants).items():
        if names:
            raise CheckpointError(
                f"cannot import '{source}': its {kind} has {len(names)} {what} ({some_of(names)}), so it "
                "is not the StyleGAN2 that rootgan computes"
            )
    found = {name: constants[name] if name in constants else tensors[name].detach().to(torch.float32).contiguous()
             for name in wanted}
    refuse_infinite(found, kind, source)
    return found


def misfits(tensors: Tensors, wanted: Mapping[str, Any], constants: Tensors) -> dict[str, list[str]]:
    """The tensors that do not fit, by what is wrong with them."""
    common = [(name, tensors[name]) for name in wanted if name in tensors]
    return {
        "unknown tensors": [name for name, value in tensors.items()
                            if name not in wanted and not is_plain_filter(name, value)],
        "missing tensors": [name for name in wanted if name not in tensors and name not in constants],
        "tensors of another shape": [f"{name} {list(value.shape)} for {wanted[name]}" for name, value in common
                                     if list(value.shape) != wanted[name]],
        "tensors that are not floating point": [f"{name} {str(value.dtype).removeprefix('torch.')}"
                                                for name, value in common if not value.is_floating_point()],
        "resample filters that are no outer product": [name for name, value in common
                                                       if is_filter(name, value) and not is_outer(value)],
    }


def refuse_infinite(tensors: Tensors, kind: str, source: str) -> None:
    """Refuses tensors with NaN or infinity, which spread from one weight to every picture."""
    bad = {name: value.numel() - int(value.isfinite().sum()) for name, value in tensors.items()
           if not value.isfinite().all()}
    if bad:
        name, count = next(iter(bad.items()))
        others = f" and {len(bad) - 1} more tensors" if len(bad) > 1 else ""
        raise CheckpointError(
            f"cannot import '{source}': {count} of the {tensors[name].numel()} numbers of '{name}'{others} of its "
            f"{kind} are not finite in float32; its training went wrong, take an earlier checkpoint"
        )


def same(a: Tensors, b: Tensors) -> bool:
    """Whether two networks have the same tensors, bit for bit."""
    return a.keys() == b.keys() and all(a[name].dtype == b[name].dtype and torch.equal(a[name], b[name]) for name in a)


def is_plain_filter(name: str, value: Tensor) -> bool:
    """Whether a tensor is the usual resample filter, which files also hold where nothing uses it and ours keep none."""
    return is_filter(name, value) and torch.allclose(value.float(), FILTER)


def fill_constants(tensors: Tensors, wanted: Mapping[str, Any], kind: str, notes: list[str]) -> dict[str, Tensor]:
    """Makes, and notes, the tensors that a network without noise inputs or without stored filters lacks."""
    lacking = [name for name in wanted if name not in tensors]
    filters = [name for name in lacking if name.endswith("resample_filter")]
    quiet = {name.rsplit(".", 1)[0] for name in lacking if name.endswith("noise_strength")}
    silent = [name for name in lacking if name.rsplit(".", 1)[0] in quiet and ".noise_" in name]
    if filters:
        notes.append(f"the {kind} lacks {len(filters)} resample filters: the usual [1, 3, 3, 1] is filled in")
    if silent:
        notes.append(f"{len(quiet)} layers of the generator have no noise input: they get noise of strength 0")
    return {**{name: FILTER.clone() for name in filters}, **{name: torch.zeros(wanted[name]) for name in silent}}
