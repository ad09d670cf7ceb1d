"""A folder of networks, as import, new and export write it: what is in it belongs together, so all of it is replaced, and only when
that is asked for. `src/source/network_folder.rs` does the same in Rust."""

import os
import shutil
import tempfile
from pathlib import Path
from typing import Callable, TypeVar

from rootgan.command_line import Failure

GENERATOR, GENERATOR_RAW, DISCRIMINATOR = "generator.pt", "generator_raw.pt", "discriminator.pt"
IMPORT_RECORD, EXPORT_RECORD = "import.json", "export.json"
# Records come first: where one is, the networks that it is about are whole.
NAMES = (IMPORT_RECORD, EXPORT_RECORD, GENERATOR, DISCRIMINATOR, GENERATOR_RAW)
Result = TypeVar("Result")


def refuse_present(folder: Path, doing: str, force: bool) -> list[Path]:
    """Returns what would be replaced in a folder; refuses it without `force`."""
    if folder.exists() and not folder.is_dir():
        raise Failure(f"cannot {doing} '{folder}': it is no folder; pass another --out")
    present = [folder / name for name in NAMES if (folder / name).exists()]
    if present and not force:
        raise Failure(f"cannot {doing} '{folder}': it has {' and '.join(path.name for path in present)} already; pass another "
                      "--out, or --force to replace the networks there")
    return present


def replace_networks(folder: Path, write: Callable[[Path], Result]) -> Result:
    """Lets `write` fill a scratch folder, then replaces the networks and records of `folder` by what is there; returns what
    `write` does. Nothing is lost where `write` fails, and a folder that was not there is then not left.

    The scratch is inside `folder`, which may be a mount point or a link: files beside it could lie in another file system, and
    would not come over by being renamed."""
    is_new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        scratch = Path(tempfile.mkdtemp(prefix=".networks.partial-", dir=folder))
        try:
            result = write(scratch)
            made = {path.name for path in scratch.iterdir()}
            for name in NAMES:
                (folder / name).unlink(missing_ok=True)
            for name in reversed(NAMES):  # a record comes last
                if name in made:
                    os.replace(scratch / name, folder / name)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    except BaseException:
        if is_new and not any(folder.iterdir()):
            folder.rmdir()
        raise
    return result
