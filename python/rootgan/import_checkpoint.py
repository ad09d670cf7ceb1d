"""Makes a TorchScript pair (weights/README.md) from a checkpoint of another program: NVIDIA's .pkl, rosinality's .pt,
safetensors and state dicts under NVIDIA's names, and the tensors alone of a TorchScript generator. Nothing in the file
is executed.

    rootgan import network-snapshot-025000.pkl --outdir weights/mine
"""

import argparse
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any, Optional

from torch import Tensor

from rootgan.checkpoints import detect
from rootgan.checkpoints.ancestry import flattened
from rootgan.checkpoints.checkpoint import Checkpoint, CheckpointError, require_file
from rootgan.checkpoints.records import as_json, writable
from rootgan.checkpoints.resolution import transfer
from rootgan.command_line import Parser, told_in_one_line
from rootgan.network_folder import DISCRIMINATOR, GENERATOR, GENERATOR_RAW as RAW, IMPORT_RECORD as RECORD
from rootgan.network_folder import refuse_present, replace_networks
from rootgan.networks.pair import MAX_GROUP, fill, save
from rootgan.whole_files import sha256_of


def describe(checkpoint: Checkpoint, path: Path) -> dict[str, Any]:
    """The provenance record of an import. It holds no path, only the source's name."""
    record = {"source": writable(path.name), "source_sha256": sha256_of(path), "format": checkpoint.format,
              "architecture": asdict(checkpoint.architecture), "options": checkpoint.options, "notes": checkpoint.notes}
    return flattened({**record, "parents": checkpoint.parents} if checkpoint.parents else record)


def networks_of(checkpoint: Checkpoint, path: Path) -> dict[str, tuple[str, dict[str, Tensor]]]:
    """The files to write by name, each as the kind of its network and the tensors. Adds notes on what is missing."""
    if checkpoint.g_ema is None:
        if checkpoint.g is None:
            raise CheckpointError(f"cannot import '{path}': it has no generator; pass a file that has one")
        checkpoint.notes.append("the file has no averaged generator: the one in training takes its place")
        checkpoint.g_ema, checkpoint.g = checkpoint.g, None
    found = {GENERATOR: ("generator", checkpoint.g_ema)}
    if checkpoint.d is not None:
        found[DISCRIMINATOR] = ("discriminator", checkpoint.d)
    else:
        checkpoint.notes.append(
            "no discriminator is written: pictures can be made, but finetuning needs --discriminator; take one from another "
            "checkpoint of the same resolution, channels and labels, or make an untrained one with rootgan new"
        )
    if checkpoint.g is not None:
        found[RAW] = ("generator", checkpoint.g)
    return found


def write(networks: dict[str, tuple[str, dict[str, Tensor]]], checkpoint: Checkpoint, record: dict[str, Any],
          folder: Path, source: Path) -> dict[str, int]:
    """Writes everything into a folder without networks, the record last; returns parameters by file name."""
    counts = {}
    for name, (kind, tensors) in networks.items():
        pair = checkpoint.architecture
        module = pair.generator() if kind == "generator" else pair.discriminator()
        fill(module, tensors, str(source))
        module.set_provenance(as_json(record))
        save(module, folder / name)
        counts[name] = sum(p.numel() for p in module.parameters())
    with open(folder / RECORD, "w") as file:
        file.write(as_json(record, indent=2) + "\n")
        file.flush()
        os.fsync(file.fileno())
    return counts


def group_of(text: str) -> int:
    """Parses the argument of --mbstd-group, a number of images or `all`."""
    number = MAX_GROUP if text == "all" else int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else 0
    if not 0 < number <= MAX_GROUP:
        raise argparse.ArgumentTypeError(f"'{text}': pass 1 to {MAX_GROUP} images, or all for the whole batch")
    return number


def set_group(checkpoint: Checkpoint, size: int, path: Path) -> None:
    """Replaces the minibatch-stddev group that the file says."""
    if checkpoint.d is None:
        raise CheckpointError(f"cannot import '{path}' with --mbstd-group: no discriminator is imported from it; leave the "
                              "option out")
    checkpoint.architecture.mbstd_group_size = size
    checkpoint.notes = [note for note in checkpoint.notes if not note.startswith("mbstd_group_size")]
    checkpoint.notes.append(f"mbstd_group_size is {'the whole batch' if size == MAX_GROUP else size}, as --mbstd-group asks")


def import_checkpoint(path: Path, outdir: Path, resolution: Optional[int] = None, force: bool = False,
                      mbstd_group: Optional[int] = None, in_place: bool = False) -> None:
    """Imports a checkpoint into a folder; `in_place` says that the folder is empty and its maker's to move or remove."""
    present = refuse_present(outdir, "import into", force)
    require_file(path, "import", "a checkpoint")
    for replaced in present:
        if replaced.samefile(path):
            raise CheckpointError(f"cannot import '{path}': '{replaced}', which would be replaced, is the same file; pass "
                                  "another --out")
    checkpoint = detect.read(path)
    if mbstd_group is not None:
        set_group(checkpoint, mbstd_group, path)
    if resolution is not None:
        checkpoint = transfer(checkpoint, resolution)
    networks = networks_of(checkpoint, path)
    record = describe(checkpoint, path)

    def work(folder: Path) -> dict[str, int]:
        return write(networks, checkpoint, record, folder, path)

    counts = work(outdir) if in_place else replace_networks(outdir, work)
    sizes = checkpoint.architecture
    print(f"'{path}': {checkpoint.format}, {sizes.img_resolution}x{sizes.img_resolution}, "
          f"{'no labels' if sizes.c_dim == 0 else f'{sizes.c_dim} classes'}")
    for note in checkpoint.notes:
        print(f"note: {note}")
    for name, count in counts.items():
        print(f"wrote '{outdir / name}': {count:,} parameters")
    print(f"wrote '{outdir / RECORD}': where these come from")


def main() -> None:
    parser = Parser(description=__doc__.split("\n\n")[0])
    parser.add_argument("file", type=Path, metavar="FILE", help="the checkpoint; its format is detected")
    parser.add_argument(
        "--out",
        "--outdir",
        dest="outdir",
        type=Path,
        required=True,
        metavar="DIR",
        help=f"folder for {GENERATOR}, {DISCRIMINATOR}, {RECORD}, and {RAW} where the generator in training differs",
    )
    parser.add_argument(
        "--resolution", type=int, metavar="R", help="drop or add blocks until the pair makes RxR images"
    )
    parser.add_argument("--mbstd-group", type=group_of, metavar="N", help="images that the discriminator compares with one "
                        "another (minibatch standard deviation), or all [default: as the file says, else 4]")
    parser.add_argument("--force", action="store_true", help="replace the networks in DIR")
    parser.add_argument("--in-place", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    with told_in_one_line(f"cannot import '{args.file}' into '{args.outdir}'",
                          "check the rights to both and the free space, or pass another --out"):
        import_checkpoint(args.file, args.outdir, args.resolution, args.force, args.mbstd_group, args.in_place)
