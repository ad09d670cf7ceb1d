"""Reads weights under NVIDIA's names that come without their makers' classes: safetensors (as `rootgan export` writes
them), and state dicts in a file of torch.save, one per network or one for a single network."""

import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any, Mapping, Optional

from rootgan.networks.pair import LEAST_RATE, MAX_GROUP, own_clamp
from torch import Tensor

from . import ancestry, architecture
from .checkpoint import Checkpoint, CheckpointError
from .records import writable
from .wording import shown, shown_value, some_of

BLOCK = re.compile(r"b\d{1,5}")  # a block of a discriminator by its resolution
# The names that networks have in files, and the field of `Checkpoint` that each belongs to.
ROLES = {"G_ema": "g_ema", "g_ema": "g_ema", "G": "g", "D": "d"}


def read_safetensors(path: Path) -> Checkpoint:
    """Reads tensors `G.*` and `D.*` (and `G_ema.*`), or a generator's alone without prefix; sizes are metadata."""
    # Machines that train with scripts/gpu have torch alone, and need the other readers.
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            said = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except SafetensorError as error:
        raise CheckpointError(f"cannot read '{path}': it is a damaged safetensors file, or none ({shown(str(error), 200)}); "
                              "copy or download it again") from None
    return assemble(tensors, said, "safetensors", path)


def read(tree: Any, path: Path) -> Checkpoint:
    """Reads state dicts of a torch file: {"G_ema": {...}, "D": {...}}, {"G.mapping...": ...}, or one generator's."""
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
    """Sorts the tensors by role (g_ema, g, d); their names lose the name of the network."""
    networks: dict[str, dict[str, Tensor]] = {}
    parts = {name.partition(".")[0] for name in tensors}
    # A discriminator with labels has a mapping network too, but blocks instead of a synthesis network.
    is_d = any(BLOCK.fullmatch(part) for part in parts) and not parts & {"synthesis", *ROLES}
    for name, value in () if is_d else tensors.items():
        first, _, rest = name.partition(".")
        if first in ROLES:
            networks.setdefault(ROLES[first], {})[rest] = value
        elif first in ("synthesis", "mapping"):
            networks.setdefault("g_ema", {})[name] = value
    if "g_ema" not in networks and "g" in networks:
        networks["g_ema"] = networks.pop("g")  # an export holds one generator, as G
    if "g_ema" not in networks:
        if is_d or "d" in networks:
            raise CheckpointError(
                f"cannot import '{path}': it holds a discriminator alone; pass a file that has its generator too"
            )
        raise CheckpointError(
            f"cannot import '{path}': no StyleGAN2 weights were found in it (its tensors: "
            f"{some_of(tensors) or 'none'}); pass an NVIDIA .pkl, a rosinality .pt, or safetensors or a "
            "state dict under NVIDIA's names"
        )
    return networks


def number(value: Any) -> float:
    """Returns a number out of a file, NaN for anything else. A truth value is none, though Python takes it for one."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return math.nan
    try:
        return float(value)
    except (ValueError, OverflowError):
        return math.nan


def clamp(said: Mapping[str, Any], name: str, path: Path) -> Optional[float]:
    """Returns a clamp as the file says it."""
    value = said[name]
    found = None if value is None or value == "None" else number(value)
    if found is not None and not math.isfinite(found):
        raise refused(path, name, value, "a number or None")
    return found


def share(said: Mapping[str, Any], name: str, usual: float, path: Path, least: float = 0.0) -> float:
    """Returns a share that no shape shows, as the file says it; the usual one where it says none."""
    value = said.get(name)
    found = usual if value is None or value == "None" else number(value)
    if not least <= found <= 1:
        raise refused(path, name, value, f"{least:g} to 1")
    return found


def refused(path: Path, name: str, value: Any, expected: str) -> CheckpointError:
    return CheckpointError(f"cannot import '{path}': its {name} is {shown_value(value)}, expected {expected}; correct it in the "
                           "program that wrote the file")


def clamps(said: Mapping[str, Any], of_d: Mapping[str, Any], path: Path,
           notes: list[str]) -> tuple[Optional[float], Optional[float]]:
    """Returns conv_clamp and d_conv_clamp of the pair; an assumption goes into `notes`."""
    if "conv_clamp" not in said:
        notes.append("conv_clamp is not in the file: assumed to be None")
    of_g = clamp(said, "conv_clamp", path) if "conv_clamp" in said else None
    if "conv_clamp" in of_d:
        return of_g, own_clamp(of_g, clamp(of_d, "conv_clamp", path))
    return of_g, clamp(said, "d_conv_clamp", path) if "d_conv_clamp" in said else None


def group_size(said: Mapping[str, Any], path: Path, notes: list[str]) -> int:
    """Returns the minibatch-stddev group, which shapes do not show; an assumption goes into `notes`."""
    if "mbstd_group_size" not in said:
        notes.append("mbstd_group_size is not in the file: assumed to be 4")
        return 4
    found = integer(said, "mbstd_group_size")
    if not found or found > MAX_GROUP:
        raise refused(path, "mbstd_group_size", said["mbstd_group_size"], f"1 to {MAX_GROUP}")
    return found


def parent(said: Mapping[str, Any], name: str) -> Optional[Any]:
    """Returns the provenance record of one network, parsed where it is JSON; None where there is none."""
    text = said.get(f"{name}.provenance")
    return writable(ancestry.parsed(text)) if isinstance(text, str) else None


def integer(said: Mapping[str, Any], name: str) -> Optional[int]:
    """Returns a size of at most nine digits; None for anything else."""
    value = said.get(name)
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        return None
    text = str(value)
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else None


def description_of_d(said: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the discriminator's description, which `rootgan export` adds because its sizes may be its own."""
    try:
        found = json.loads(said["D.description"])
    except (KeyError, TypeError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def assemble(tensors: Mapping[str, Tensor], said: Mapping[str, Any], title: str, path: Path) -> Checkpoint:
    """Makes a checkpoint of named tensors and of what the file says beside them: sizes, clamps, provenance."""
    source, size, notes = str(path), path.stat().st_size, []
    architecture.refuse_stylegan3(tensors, source)
    networks = split(tensors, path)
    g_ema, d = networks["g_ema"], networks.get("d")
    of_d = description_of_d(said) if d is not None else {}
    of_g_clamp, of_d_clamp = clamps(said, of_d, path, notes)
    hint = integer(said, "channel_base"), integer(said, "channel_max")
    d_hint = [integer(of_d, name) or integer(said, f"d_{name}") for name in ("channel_base", "channel_max")]
    pair = architecture.from_tensors(g_ema, d, source, of_g_clamp, None if d is None else of_d_clamp,
                                     4 if d is None else group_size(said, path, notes), hint,
                                     (d_hint[0] or hint[0], d_hint[1] or hint[1]))
    pair = replace(pair, w_avg_beta=share(said, "w_avg_beta", pair.w_avg_beta, path),
                   mapping_rate=share(said, "mapping_rate", pair.mapping_rate, path, LEAST_RATE))
    found = Checkpoint(title, pair, architecture.take(g_ema, pair, "G_ema", source, size, notes), notes=notes)
    if "g" in networks and not architecture.same(networks["g"], g_ema):
        found.g = architecture.take(networks["g"], pair, "G", source, size, [])
    if d is not None:
        found.d = architecture.take(d, pair, "D", source, size, notes)
    found.parents = {name: record for name in ("G", "D") if (record := parent(said, name))}
    return found
