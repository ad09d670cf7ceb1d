"""Torch files, written whole or not at all."""

import io
from pathlib import Path
from typing import Any

import torch
from whole_files import replace_atomically


def save_torch(content: Any, path: Path) -> None:
    """`content` as torch.save writes it, in the zip layout. torch ends the process where the disk is full, so it writes to
    memory."""
    memory = io.BytesIO()
    torch.save(content, memory)
    replace_atomically(path, lambda scratch: scratch.write_bytes(memory.getbuffer()))
