"""Files that appear whole or not at all."""

import os
from pathlib import Path
from typing import Any, Callable

import torch


def replace_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Lets `write` make a sibling file, syncs it and renames it to `path`."""
    scratch = path.with_name(f".{path.name}.partial")
    try:
        write(scratch)
        with open(scratch, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(scratch, path)
    finally:
        scratch.unlink(missing_ok=True)


def save_torch(content: Any, path: Path) -> None:
    """`content` as torch.save writes it, in the zip layout."""
    replace_atomically(path, lambda scratch: torch.save(content, scratch))
