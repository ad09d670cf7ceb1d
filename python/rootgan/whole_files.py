"""Files that appear whole or not at all, and the checksum by which damage is noticed later."""

import hashlib
import io
import os
from pathlib import Path
from typing import Callable


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


def replace_all_atomically(contents: dict[Path, bytes]) -> None:
    """Files that belong together: none of them is replaced before all are written and synced."""
    scratches = {path: path.with_name(f".{path.name}.partial") for path in contents}
    try:
        for path, scratch in scratches.items():
            with open(scratch, "wb") as file:
                file.write(contents[path])
                file.flush()
                os.fsync(file.fileno())
        for path, scratch in scratches.items():
            os.replace(scratch, path)
    finally:
        for scratch in scratches.values():
            scratch.unlink(missing_ok=True)


def replace_through_memory(path: Path, write: Callable[[io.BytesIO], object]) -> None:
    """Like `replace_atomically`, but `write` fills memory: torch's writers end the process where the disk is full."""
    memory = io.BytesIO()
    write(memory)
    replace_atomically(path, lambda scratch: scratch.write_bytes(memory.getbuffer()))


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file in hexadecimal, read piece by piece."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while part := file.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()
