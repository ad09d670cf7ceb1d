"""Torch files, written whole or not at all."""

from pathlib import Path
from typing import Any

import torch
from whole_files import replace_atomically


def save_torch(content: Any, path: Path) -> None:
    """`content` as torch.save writes it, in the zip layout."""
    replace_atomically(path, lambda scratch: torch.save(content, scratch))
