"""Finds out by its content which format a file has and calls that format's reader. What files of other kinds are is told by the
program (src/model/file_kind.rs), before this is called."""

import re
from pathlib import Path

from . import nvidia, plain, rosinality, safe_pickle, script_file, torchscript
from .checkpoint import Checkpoint, CheckpointError
from .safe_pickle import ZIP_START
from .torch_files import LEGACY_START

ROSINALITY = ("g_ema", "g", "d")
SUPPORTED = "pass an NVIDIA .pkl, a rosinality .pt, or safetensors or a state dict under NVIDIA's names"


def read(path: Path) -> Checkpoint:
    """Reads the checkpoint in `path`, whatever program wrote it."""
    with open(path, "rb") as file:
        start = file.read(64)
    if script_file.is_script(path):
        return torchscript.import_from(path)
    if start.startswith(ZIP_START) or start.startswith(LEGACY_START):
        return read_torch(path)
    if len(start) > 8 and start[8:9] == b"{" and int.from_bytes(start[:8], "little") < 100_000_000:
        return plain.read_safetensors(path)
    if start[:1] == b"\x80" and start[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return nvidia.read(path)
    raise CheckpointError(f"cannot import '{path}': it is of no known format; {SUPPORTED}")


def read_torch(path: Path) -> Checkpoint:
    """Reads a file of torch.save: rosinality's or a plain state dict; refuses another program's."""
    tree = safe_pickle.load_torch(path)
    keys = tree if isinstance(tree, dict) else {}
    if "GAN" in keys and isinstance(keys["GAN"], dict):
        raise CheckpointError(f"cannot import '{path}': it is a checkpoint of lucidrains' stylegan2-pytorch, another "
                              "architecture (bilinear, no equalised learning rate) that cannot be mapped; "
                              f"{SUPPORTED}")
    if any(isinstance(keys.get(key), dict) and not under_nvidia_names(keys[key]) for key in ROSINALITY):
        return rosinality.read(tree, path)
    return plain.read(tree, path)


def under_nvidia_names(weights: dict) -> bool:
    """Whether a dict holds tensors under NVIDIA's names, so that a key such as `d` is not rosinality's."""
    return any(re.match(r"(mapping|synthesis|b\d+)\.", str(name)) for name in weights)
