"""Reads networks of the TorchScript contract into a `Checkpoint`, from files given one by one."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, Optional

import torch
from rootgan.networks.layers import MAPPING_RATE
from rootgan.networks.pair import Architecture, check_shapes, fill
from torch import Tensor, nn

from . import plain, script_file
from .ancestry import flattened_text, records
from .checkpoint import Checkpoint, CheckpointError, require_file
from .script_file import ScriptObject
from .wording import shown, shown_value

AGREEING = ("img_resolution", "img_channels", "c_dim")  # in which both networks of a pair have to agree
SHARED_BYTES = 16 << 20  # how much larger than its file tensors may be, where some share a storage
KINDS = {"G_ema": "generator", "G": "generator", "D": "discriminator"}


class Network:
    """One TorchScript file, read as data: what it says of itself, and its tensors. None of its code is run."""

    def __init__(self, path: Path, kind: str, doing: str = "export"):
        self.path, self.doing = path, f"cannot {doing} '{path}'"
        require_file(path, doing, f"a TorchScript {kind}")
        if not script_file.is_script(path):
            raise CheckpointError(f"{self.doing}: it is no TorchScript file, or a damaged one; other "
                                  "checkpoints are first imported with rootgan import")
        self.root = script_file.read(path)
        said = description(self.root)
        if said is None:
            raise CheckpointError(f"{self.doing}: it does not describe itself, so its layout is unknown; "
                                  "only networks of the contract in weights/README.md can be taken")
        self.said = said
        found = (said["kind"], said["contract"])
        if found != (kind, 1):
            raise CheckpointError(f"{self.doing}: it is a {shown(str(found[0]))} of contract "
                                  f"{shown(str(found[1]))}, expected a {kind} of contract 1; are the files swapped?")

    def provenance(self) -> str:
        """Where the weights come from, as the file says it."""
        return flattened_text(self.root.text("provenance") or "{}")

    def tensors(self) -> dict[str, Tensor]:
        """All tensors of the file. They have to be float32: others would not come back as they are."""
        state = script_file.tensors(self.root)
        for name, value in state.items():
            if value.dtype != torch.float32:
                raise CheckpointError(f"{self.doing}: '{shown(name)}' is {value.dtype}, expected "
                                      "float32; convert it in the program that made it")
        return state

    def module(self, pair: Architecture) -> nn.Module:
        """Makes a network of our own code with the tensors of the file."""
        tensors, source = self.tensors(), str(self.path)
        make = pair.discriminator if self.said["kind"] == "discriminator" else pair.generator
        try:
            check_shapes(make, tensors, source)
        except (RuntimeError, OverflowError, TypeError):  # from torch, of sizes beyond 64 bits
            raise CheckpointError(f"{self.doing}: it describes a larger network than there can be; take a "
                                  "copy as it was written") from None
        if sum(value.nbytes for value in tensors.values()) > self.path.stat().st_size + SHARED_BYTES:
            raise CheckpointError(f"{self.doing}: its tensors are larger than the file, because many of them "
                                  "share one storage; take a copy as it was written")
        module = make()
        fill(module, tensors, source)
        return module.eval()


def description(root: ScriptObject) -> Optional[dict[str, Any]]:
    """Returns what a network of the contract says of itself, at least kind and contract; None where it says nothing. Generators
    of which only the provenance says mapping_rate, as scripts/grow_generator.py once made them, get it from there."""
    try:
        said = json.loads(root.text("description") or "")
    except (ValueError, RecursionError):
        return None
    if not isinstance(said, dict) or not {"kind", "contract"} <= said.keys():
        return None
    rate = grown_rate(root.text("provenance") or "") if said["kind"] == "generator" else None
    return said if rate in (None, MAPPING_RATE) else {"mapping_rate": rate, **said}


def grown_rate(provenance: str) -> Any:
    """Returns the mapping_rate of the last growth in a provenance record; None where there was none."""
    grown = (record["grown"] for record in records(provenance) if isinstance(record.get("grown"), dict))
    return next(grown, {}).get("mapping_rate")


def import_from(path: Path) -> Checkpoint:
    """Reads the generator in a TorchScript file into a checkpoint: its tensors and description, not its code."""
    root = script_file.read(path)
    said = description(root)
    if said is None:
        raise CheckpointError(f"cannot import '{path}': it is TorchScript that does not describe itself as the contract "
                              "in weights/README.md asks, so its layout is unknown; save its weights as a plain state "
                              "dict under NVIDIA's names and import that")
    if said["kind"] == "discriminator":
        raise CheckpointError(f"cannot import '{path}': it is a discriminator alone; write both networks into one file "
                              "(rootgan export --generator FILE --discriminator FILE --format safetensors "
                              "--out FILE) and import that")
    if (said["kind"], said["contract"]) != ("generator", 1):
        raise CheckpointError(f"cannot import '{path}': it is a {shown(str(said['kind']))} of contract "
                              f"{shown(str(said['contract']))}, expected a generator of contract 1; pass a generator, or "
                              "save its weights as a plain state dict under NVIDIA's names and import that")
    tensors = {f"G.{name}": value for name, value in script_file.tensors(root).items()}
    found = plain.assemble(tensors, {**said, "G.provenance": root.text("provenance")}, "TorchScript", path)
    try:
        described = Architecture.described(said)
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        raise CheckpointError(f"cannot import '{path}': its description is damaged ({shown(str(error), 200)}); take a "
                              "copy as it was written") from None
    for size, value in asdict(described).items():
        if value != getattr(found.architecture, size):
            raise CheckpointError(f"cannot import '{path}': {size} is {shown_value(value)} in its description and "
                                  f"{getattr(found.architecture, size)} in its tensors; take a copy as it was written")
    found.architecture = described
    return found


def read(paths: dict[str, Path]) -> tuple[Checkpoint, dict[str, Network]]:
    """Reads the files of G_ema and, where given, G and D; returns them as a checkpoint, and each as a `Network`."""
    networks = {name: Network(path, KINDS[name]) for name, path in paths.items()}
    first, d = networks["G_ema"], networks.get("D")
    for name, other in networks.items():
        # What only one of two generators says is not the usual in it alone.
        sizes = AGREEING if name == "D" else [size for size in {**first.said, **other.said} if size != "contract"]
        for size in sizes:
            if other.said.get(size) != first.said.get(size):
                raise CheckpointError(f"cannot export '{first.path}' with '{other.path}': {shown(size)} is "
                                      f"{shown(str(first.said.get(size)))} in the first and "
                                      f"{shown(str(other.said.get(size)))} in the second; pass networks that belong "
                                      "together")
    try:
        pair = Architecture.described(first.said, None if d is None else d.said)
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        raise CheckpointError(f"cannot export '{first.path}': {shown(str(error), 200)}; only networks of the contract "
                              "in weights/README.md with all sizes of StyleGAN2 can be exported") from None
    result = Checkpoint("TorchScript", pair)
    for name, network in networks.items():
        setattr(result, name.lower(), dict(network.module(pair).state_dict()))
    return result, networks
