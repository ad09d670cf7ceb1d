"""Networks of the TorchScript contract as a `Checkpoint`: the snapshot of a run, or files given one by one."""

import json
import re
from pathlib import Path
from typing import Any, Optional

import torch
from networks.pair import Architecture, fill
from torch import Tensor
from whole_files import sha256_of

from .checkpoint import Checkpoint, CheckpointError

SNAPSHOT = re.compile(r"network-snapshot-(\d{6,})\.(?:G_ema\.pt|G\.pt|D\.pt|json)")
AGREEING = ("img_resolution", "img_channels", "c_dim")  # what both networks of a pair say
KINDS = {"G_ema": "generator", "G": "generator", "D": "discriminator"}


def of_snapshot(path: Path) -> dict[str, Path]:
    """G_ema, G and D of the snapshot that `path` means (the newest of a run directory, or the one that a file belongs
    to), compared with the checksums of its manifest."""
    manifest = find_manifest(path)
    try:
        files = json.loads(manifest.read_text())["files"]
        listed = {name: (str(files[name]["file"]), str(files[name]["sha256"])) for name in KINDS}
    except (ValueError, KeyError, TypeError):
        raise CheckpointError(f"cannot export '{manifest}': it is not the manifest of a snapshot with G_ema, G and D; "
                              "pass a run directory") from None
    networks = {}
    for name, (file, sha256) in listed.items():
        networks[name] = manifest.with_name(Path(file).name)
        if networks[name].name != file:
            raise CheckpointError(f"cannot export '{manifest}': it names '{file}', expected a file in the same folder")
        found = sha256_of(networks[name])
        if found != sha256:
            raise CheckpointError(f"cannot export '{networks[name]}': its sha256 is {found}, '{manifest.name}' expects "
                                  f"{sha256}; it is damaged or was replaced; take another snapshot or a copy of this "
                                  "one")
    return networks


def find_manifest(path: Path) -> Path:
    """The manifest of the snapshot that `path` means."""
    if path.is_dir():
        names = (file.name for file in path.glob("network-snapshot-*.json"))
        numbers = [int(match[1]) for name in names if (match := SNAPSHOT.fullmatch(name))]
        if not numbers:
            raise CheckpointError(f"cannot export '{path}': there is no complete snapshot "
                                  "(network-snapshot-NNNNNN.json) in it; pass a run directory that has come as far as "
                                  "its first snapshot")
        return path / f"network-snapshot-{max(numbers):06}.json"
    match = SNAPSHOT.fullmatch(path.name)
    if match is None:
        raise CheckpointError(f"cannot export '{path}': it is no run directory or file of a snapshot; a TorchScript "
                              "file goes to --generator")
    return path.with_name(f"network-snapshot-{match[1]}.json")


class Network:
    """One TorchScript file: the module, what it says of itself, its tensors."""

    def __init__(self, path: Path, kind: str):
        self.path = path
        if not path.is_file():
            raise CheckpointError(f"cannot export '{path}': no such file; pass a TorchScript {kind}")
        try:
            self.module = torch.jit.load(str(path), map_location="cpu")
        except RuntimeError as error:
            said = (str(error).strip() or "no reason given").splitlines()[0]
            raise CheckpointError(f"cannot export '{path}': it is not TorchScript ({said}); other checkpoints are "
                                  "first imported with scripts/import_checkpoint.py") from None
        try:
            self.said: dict[str, Any] = json.loads(self.module.describe())
            found = (self.said["kind"], self.said["contract"])
        except (AttributeError, RuntimeError, ValueError, KeyError, TypeError):
            raise CheckpointError(f"cannot export '{path}': it does not describe itself, so its layout is unknown; "
                                  "only networks of the contract in weights/README.md can be exported") from None
        if found != (kind, 1):
            raise CheckpointError(f"cannot export '{path}': it is a {found[0]} of contract {found[1]}, expected a "
                                  f"{kind} of contract 1; are the files swapped?")

    def provenance(self) -> str:
        """Where the weights come from, as the file says it."""
        return str(self.module.get_provenance()) if hasattr(self.module, "get_provenance") else "{}"

    def tensors(self) -> dict[str, Tensor]:
        """All tensors, which have to be float32: anything else would not come back as it is."""
        state = self.module.state_dict()
        for name, value in state.items():
            if value.dtype != torch.float32:
                raise CheckpointError(f"cannot export '{self.path}': '{name}' is {value.dtype}, expected float32")
        return {name: value.detach().clone().contiguous() for name, value in state.items()}


def read(paths: dict[str, Path]) -> tuple[Checkpoint, dict[str, Network]]:
    """The checkpoint of G_ema and, where given, G and D."""
    networks = {name: Network(path, KINDS[name]) for name, path in paths.items()}
    first, d = networks["G_ema"], networks.get("D")
    for name, other in networks.items():
        sizes = AGREEING if name == "D" else [size for size in first.said if size != "contract"]
        for size in sizes:
            if other.said.get(size) != first.said.get(size):
                raise CheckpointError(f"cannot export '{first.path}' with '{other.path}': {size} is "
                                      f"{first.said.get(size)} in the first and {other.said.get(size)} in the second; "
                                      "pass networks that belong together")
    try:
        pair = Architecture.described(first.said, None if d is None else d.said)
    except (ValueError, TypeError, KeyError) as error:
        raise CheckpointError(f"cannot export '{first.path}': {error}; only networks of the contract in "
                              "weights/README.md with all sizes of StyleGAN2 can be exported") from None
    result = Checkpoint("TorchScript", pair)
    for name, network in networks.items():
        tensors = network.tensors()
        fill(pair.discriminator() if name == "D" else pair.generator(), tensors, str(network.path))
        setattr(result, name.lower(), tensors)
    return result, networks
