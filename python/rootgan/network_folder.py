"""A folder of networks, as import, new and export write it: what is in it belongs together, so all of it is replaced, and only when
that is asked for. `src/source/network_folder.rs` does the same in Rust."""

from pathlib import Path

from rootgan.command_line import Failure

GENERATOR, GENERATOR_RAW, DISCRIMINATOR = "generator.pt", "generator_raw.pt", "discriminator.pt"
IMPORT_RECORD, EXPORT_RECORD = "import.json", "export.json"
# Records come first: where one is, the networks that it is about are whole.
NAMES = (IMPORT_RECORD, EXPORT_RECORD, GENERATOR, DISCRIMINATOR, GENERATOR_RAW)


def refuse_present(folder: Path, doing: str, force: bool) -> list[Path]:
    """Returns what would be replaced in a folder; refuses it without `force`."""
    if folder.exists() and not folder.is_dir():
        raise Failure(f"cannot {doing} '{folder}': it is no folder; pass another --out")
    present = [folder / name for name in NAMES if (folder / name).exists()]
    if present and not force:
        raise Failure(f"cannot {doing} '{folder}': it has {' and '.join(path.name for path in present)} already; pass another "
                      "--out, or --force to replace the networks there")
    return present


def remove_networks(folder: Path) -> None:
    """Removes the networks of a folder and the records of where they come from."""
    for name in NAMES:
        (folder / name).unlink(missing_ok=True)
