"""Writes torch files whole or not at all."""

from pathlib import Path
from typing import Any

import torch
from rootgan.whole_files import replace_through_memory


def save_torch(content: Any, path: Path) -> None:
    """Writes `content` as torch.save does, in the zip layout."""
    replace_through_memory(path, lambda memory: torch.save(content, memory))
