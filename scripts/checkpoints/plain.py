"""Weights under NVIDIA's names without their makers' classes: safetensors (what `rootgan export` writes), and state
dicts in a file of torch.save, one per network or one for a single network."""

import json
from pathlib import Path
from typing import Any, Mapping, Optional

from safetensors import SafetensorError, safe_open
from torch import Tensor

from . import architecture
from .checkpoint import Checkpoint, CheckpointError

# The names that a network has in files, and what it is to us.
ROLES = {"G_ema": "g_ema", "g_ema": "g_ema", "G": "g", "D": "d"}


def read_safetensors(path: Path) -> Checkpoint:
    """Tensors `G.*` and `D.*` (and `G_ema.*`), or a generator's alone without prefix; sizes in the metadata, if any."""
    try:
        with safe_open(path, framework="pt") as file:
            said = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except SafetensorError as error:
        raise CheckpointError(f"cannot read '{path}': it is a damaged safetensors file ({error}); copy or download it "
                              "again") from None
    return assemble(tensors, said, "safetensors", path)


def read(tree: Any, path: Path) -> Checkpoint:
    """State dicts out of a torch file: {"G_ema": {...}, "D": {...}}, {"G.mapping...": ...}, or one generator's."""
    if not isinstance(tree, dict):
        raise CheckpointError(f"cannot import '{path}': it holds a {type(tree).__name__}, expected a dict of weights")
    tensors: dict[str, Tensor] = {}
    said: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Tensor):
            tensors[str(key)] = value
        elif key in ROLES and isinstance(value, dict):
            tensors.update({f"{key}.{name}": item for name, item in value.items() if isinstance(item, Tensor)})
        elif key == "architecture" and isinstance(value, dict):
            said = value
    return assemble(tensors, said, "state dict under NVIDIA's names", path)


def split(tensors: Mapping[str, Tensor], path: Path) -> dict[str, dict[str, Tensor]]:
    """The tensors by role (g_ema, g, d), their names without the network's."""
    networks: dict[str, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        first, _, rest = name.partition(".")
        if first in ROLES:
            networks.setdefault(ROLES[first], {})[rest] = value
        elif first in ("synthesis", "mapping"):
            networks.setdefault("g_ema", {})[name] = value
    if "g_ema" not in networks and "g" in networks:
        networks["g_ema"] = networks.pop("g")  # the one generator of an export
    if "g_ema" not in networks:
        if any(name.startswith("b4.out.") for name in tensors):
            raise CheckpointError(
                f"cannot import '{path}': it holds a discriminator alone; pass a file that has its generator too"
            )
        shown = ", ".join(ascii(name[:60])[1:-1] for name in list(tensors)[:3]) or "none"
        raise CheckpointError(
            f"cannot import '{path}': no StyleGAN2 weights were found in it (its tensors: {shown}); pass an NVIDIA "
            ".pkl, a rosinality .pt, or safetensors or a state dict under NVIDIA's names"
        )
    return networks


def number(said: Mapping[str, Any], name: str, kind: type, default: Any, path: Path, notes: list[str]) -> Any:
    """A size that shapes do not show, as the file says it; else `default`, noted."""
    if name not in said:
        notes.append(f"{name} is not in the file: assumed to be {default}")
        return default
    try:
        return None if said[name] in (None, "None") else kind(said[name])
    except (TypeError, ValueError, OverflowError):
        raise CheckpointError(f"cannot import '{path}': its {name} is not a number") from None


def parent(said: Mapping[str, Any], name: str) -> Optional[Any]:
    """The provenance record of one network, as JSON where it is JSON."""
    text = said.get(f"{name}.provenance")
    try:
        return json.loads(text) if isinstance(text, str) else None
    except (ValueError, RecursionError):
        return text


def integer(said: Mapping[str, Any], name: str) -> Optional[int]:
    value = said.get(name)
    return int(value) if isinstance(value, (int, str)) and str(value).isdecimal() and len(str(value)) < 10 else None


def assemble(tensors: Mapping[str, Tensor], said: Mapping[str, Any], title: str, path: Path) -> Checkpoint:
    """The checkpoint of named tensors and of what the file says beside them."""
    source, size, notes = str(path), path.stat().st_size, []
    architecture.refuse_stylegan3(tensors, source)
    networks = split(tensors, path)
    g_ema, d = networks["g_ema"], networks.get("d")
    clamp = number(said, "conv_clamp", float, None, path, notes)
    group = number(said, "mbstd_group_size", int, 4, path, notes) if d is not None else 4
    hint = integer(said, "channel_base"), integer(said, "channel_max")
    pair = architecture.from_tensors(g_ema, d, source, clamp, group or 4, hint, hint)
    found = Checkpoint(title, pair, architecture.take(g_ema, pair, "generator", source, size, notes), notes=notes)
    if "g" in networks:
        found.g = architecture.take(networks["g"], pair, "generator", source, size, [])
    if d is not None:
        found.d = architecture.take(d, pair, "discriminator", source, size, notes)
    found.parents = {name: record for name in ("G", "D") if (record := parent(said, name))}
    return found
