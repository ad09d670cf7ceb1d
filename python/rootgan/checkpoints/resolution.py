"""Changes the resolution of a checkpoint: blocks are dropped from, or added to, the top of both networks. Tensors that
both resolutions have stay bit for bit. New ones are drawn from a seed, as in a new network, except where zeros let a
network start as its old self:

- a larger `skip` generator: the new blocks' torgb is zero, so its pictures begin as the old ones, upsampled;
- a larger `skip` discriminator: the last new block's conv1 is zero, so its logits begin as those of the downsampled
  image.

In the other architectures the new layers are in series and begin at random, and so do pictures and logits. A smaller
`skip` network is exactly a part of the old one; the others get a new torgb or fromrgb.
"""

from dataclasses import replace
from typing import Iterable, Optional

import torch
from torch import Tensor, nn

from .checkpoint import Checkpoint, CheckpointError

SEED = 0


def transfer(checkpoint: Checkpoint, resolution: int) -> Checkpoint:
    """Returns `checkpoint` for images of `resolution`; its notes name what was dropped and what is new."""
    old = checkpoint.architecture
    if resolution == old.img_resolution:
        return checkpoint
    pair = replace(old, img_resolution=resolution)
    try:
        pair.validate()
    except ValueError as error:
        raise CheckpointError(f"cannot change the resolution from {old.img_resolution} to {resolution}: "
                              f"{error}") from None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        new_g, new_d = fresh(pair.generator()), fresh(pair.discriminator())
    added = powers(old.img_resolution * 2, resolution)
    if pair.g_architecture == "skip":
        zero(new_g, [f"synthesis.b{r}.torgb.weight" for r in added])
    if pair.d_architecture == "skip" and added:
        zero(new_d, [f"b{added[0]}.conv1.weight"])
    notes = [f"the resolution was changed from {old.img_resolution} to {resolution}"]
    of_d = pair.d_channel_base or pair.channel_base, pair.d_channel_max or pair.channel_max
    for kind, tensors, new, architecture, channels in (
            ("generator", checkpoint.g_ema or checkpoint.g, new_g, pair.g_architecture,
             (pair.channel_base, pair.channel_max)),
            ("discriminator", checkpoint.d, new_d, pair.d_architecture, of_d)):
        if tensors is not None:
            notes += said(kind, tensors, new, added, architecture)
            notes += [f"{kind}: {widths(old.img_resolution, added, *channels)}"] if added else []
    return replace(checkpoint, architecture=pair, notes=[*checkpoint.notes, *notes],
                   g_ema=merged(new_g, checkpoint.g_ema), g=merged(new_g, checkpoint.g), d=merged(new_d, checkpoint.d))


def powers(first: int, last: int) -> list[int]:
    """Lists first, 2 first, 4 first, ... up to last; nothing where `last` is smaller."""
    return [first << i for i in range(20) if first << i <= last]


def widths(old: int, added: list[int], base: int, limit: int) -> str:
    """Says how wide the new blocks are and by which rule, of which the shapes of the old blocks show only a part."""
    text = "the new blocks have " + ", ".join(f"{min(base // r, limit)} channels at {r}x{r}" for r in added)
    text += f" (channel_base {base}, channel_max {limit})"
    if base == old * limit:
        text += f"; the old ones, all of {limit}, would fit a larger channel_base too, with wider new blocks"
    return text


def fresh(module: nn.Module) -> dict[str, Tensor]:
    """The tensors of a network that was just made."""
    return {name: value.detach() for name, value in module.state_dict().items()}


def zero(tensors: dict[str, Tensor], names: Iterable[str]) -> None:
    for name in names:
        tensors[name] = torch.zeros_like(tensors[name])


def merged(new: dict[str, Tensor], old: Optional[dict[str, Tensor]]) -> Optional[dict[str, Tensor]]:
    """Returns the tensors of the new network, each taken from the old one where that has it."""
    return None if old is None else {name: old.get(name, value).clone() for name, value in new.items()}


def parts(names: Iterable[str], wholes: Iterable[str]) -> list[str]:
    """Lists the parts that names belong to: the blocks in `wholes` as b64, other layers one by one as b32.torgb."""
    found, whole = [], set(wholes)
    for name in names:
        words = name.removeprefix("synthesis.").split(".")
        part = words[0] if words[0] in whole else ".".join(words[:2])
        if part not in found:
            found.append(part)
    return found


def said(kind: str, old: dict[str, Tensor], new: dict[str, Tensor], added: list[int], architecture: str) -> list[str]:
    """Says in words what was dropped from one network and what is new in it."""
    lost, made = [name for name in old if name not in new], [name for name in new if name not in old]
    blocks = {name.removeprefix("synthesis.").split(".")[0] for name in lost + made if ".conv1.weight" in name}
    notes = [f"{kind}: dropped {', '.join(parts(lost, blocks))}"] if lost else []
    if made:
        start = f"drawn as in a new network (seed {SEED})"
        if added and architecture == "skip":
            start += {"generator": ", but torgb is zero: pictures begin as the old ones, upsampled",
                      "discriminator": f", but b{added[0]}.conv1.weight is zero: logits begin as those of the "
                                       "downsampled image"}[kind]
        notes.append(f"{kind}: new {', '.join(parts(made, blocks))}: {start}")
    return notes
