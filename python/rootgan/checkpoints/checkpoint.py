"""The form that a checkpoint of any format is read into: tensors under NVIDIA's names, the architecture, and what was
assumed; and the error that all readers and writers of checkpoints raise."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

from rootgan.command_line import Failure
from rootgan.networks.pair import Architecture
from torch import Tensor


class CheckpointError(Failure):
    """Says in one line what was being done, to which file, what was found and expected, and the remedy."""


def require_file(path: Path, doing: str, wanted: str) -> None:
    """Refuses what is no ordinary file: reading a pipe or a device may never end."""
    if not path.is_file():
        found = ("it is a folder" if path.is_dir() else "it is a pipe or a device, not a file" if path.exists() else
                 "there is no such file")
        raise CheckpointError(f"cannot {doing} '{path}': {found}; pass {wanted}")


@dataclass
class Checkpoint:
    """One file's networks. Tensors are float32 and contiguous, under the names of `Architecture.generator()` and
    `.discriminator()`."""

    format: str  # "NVIDIA pickle", "rosinality", "safetensors", ...
    architecture: Architecture
    g_ema: Optional[dict[str, Tensor]] = None
    g: Optional[dict[str, Tensor]] = None  # the generator in training; None where it is missing or equal to g_ema
    d: Optional[dict[str, Tensor]] = None
    notes: list[str] = field(default_factory=list)  # every assumption, one sentence each
    options: dict[str, Any] = field(default_factory=dict)  # what the file says of how it was made; JSON values
    parents: dict[str, Any] = field(default_factory=dict)  # provenance records found in the file, by network
