"""Exports networks of the TorchScript contract to what other programs read (weights/README.md): a rosinality
checkpoint, a state dict or safetensors under NVIDIA's names, NVIDIA's own pickle, or ONNX. What a format cannot hold is
refused. Nothing in the files is executed.

    rootgan export --from runs/00000-pictures --format rosinality --out finetuned.pt
    rootgan export --from runs/00000-pictures --format nvidia --source ffhq.pkl --out finetuned.pkl
    rootgan export --generator generator.pt --format onnx --out folder

What --from means is found by the program (src/source/mod.rs); the files of the networks come here.
"""

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Callable, Optional

from safetensors.torch import save_file

from rootgan.checkpoints import dropped_clamp, nvidia_export, onnx_export, rosinality, torchscript
from rootgan.checkpoints.checkpoint import Checkpoint, CheckpointError
from rootgan.checkpoints.records import as_json, writable
from rootgan.checkpoints.torchscript import Network
from rootgan.checkpoints.writing import save_torch
from rootgan.command_line import Parser, told_in_one_line
from rootgan.networks.layers import MAPPING_RATE
from rootgan.networks.pair import fill
from rootgan.whole_files import replace_atomically, sha256_of

Networks = dict[str, Network]


@dataclass
class Wanted:
    """Where an export goes, and what single formats are asked for."""

    out: Path
    source: Optional[Path] = None  # nvidia: the pickle whose numbers are replaced
    any_source: bool = False  # nvidia: even if the weights do not come from it
    drop_clamp: bool = False  # rosinality: write networks without their clamp
    images: int = dropped_clamp.IMAGES  # rosinality: on how many pictures the clamp is measured


def to_rosinality(checkpoint: Checkpoint, networks: Networks, wanted: Wanted) -> list[str]:
    """Writes a checkpoint in rosinality's layout; returns what a user has to know of it, as the others here do."""
    source, remarks = str(networks["G_ema"].path), []
    if wanted.drop_clamp:
        unclamped = dropped_clamp.without(checkpoint)
        rosinality.refuse(unclamped, source)  # before the pictures are made
        remarks, checkpoint = dropped_clamp.measured(checkpoint, wanted.images, source), unclamped
    return remarks + rosinality.write(checkpoint, wanted.out, source)


def to_nvidia(checkpoint: Checkpoint, networks: Networks, wanted: Wanted) -> list[str]:
    """Writes an NVIDIA pickle: the one that the weights come from, with other numbers."""
    return nvidia_export.write(checkpoint, networks, wanted.source, wanted.any_source, wanted.out)


def to_state_dict(checkpoint: Checkpoint, networks: Networks, wanted: Wanted) -> list[str]:
    """Writes {"G_ema", "G", "D"} with the tensors of each, and under "architecture" what shapes do not show."""
    tensors = {"G_ema": checkpoint.g_ema, "G": checkpoint.g, "D": checkpoint.d}
    present = {name: value for name, value in tensors.items() if value is not None}
    save_torch({**present, "architecture": asdict(checkpoint.architecture)}, wanted.out)
    return [f"it holds {', '.join(present)}, and 'architecture' with what the shapes do not show", *of_mapping_rate(checkpoint)]


def to_safetensors(checkpoint: Checkpoint, networks: Networks, wanted: Wanted) -> list[str]:
    """Writes `G.*` and `D.*` with sizes and provenance in the metadata, as `rootgan export` does, and a JSON file."""
    out, tensors, metadata = wanted.out, {}, {"format": "rootgan"}
    for prefix, name, values in (("G", "G_ema", checkpoint.g_ema), ("D", "D", checkpoint.d)):
        if values is not None:
            said = networks[name].said
            tensors.update({f"{prefix}.{key}": value for key, value in values.items()})
            sizes = {key: str(value) for key, value in said.items() if key not in ("kind", "contract")}
            metadata = {**sizes, **metadata, f"{prefix}.description": as_json(writable(said)),
                        f"{prefix}.provenance": networks[name].provenance()}
    record = out.with_suffix(".json")

    def save(scratch: Path) -> None:
        save_file(tensors, scratch, metadata=metadata)
        record.unlink(missing_ok=True)  # before the weights that it is about go

    replace_atomically(out, save)
    described = {"file": out.name, "sha256": sha256_of(out), "bytes": out.stat().st_size,
                 "metadata": metadata}
    replace_atomically(record, lambda scratch: scratch.write_text(as_json(writable(described), indent=2) + "\n"))
    remarks = [f"'{record}' says its sizes, origin and sha256", *of_mapping_rate(checkpoint)]
    return remarks + (["G is not in it: 'G.*' are those of the averaged generator"] if checkpoint.g is not None else [])


def of_mapping_rate(checkpoint: Checkpoint) -> list[str]:
    """Warns of a mapping network that other programs compute wrongly unless they are told."""
    rate = checkpoint.architecture.mapping_rate
    return [] if rate == MAPPING_RATE else [f"its mapping network is stored for a learning rate of {rate:g} (NVIDIA's "
                                            f"lr_multiplier), not the usual {MAPPING_RATE:g}: give that to what loads it"]


def to_onnx(checkpoint: Checkpoint, networks: Networks, wanted: Wanted) -> list[str]:
    """Writes a folder with g_mapping.onnx and g_synthesis.onnx."""
    source, pair = str(networks["G_ema"].path), checkpoint.architecture
    if pair.c_dim > 0:
        raise CheckpointError(f"cannot export '{source}' to ONNX: c_dim is {pair.c_dim} (labels), g_mapping.onnx takes "
                              "only z and psi; use another format")
    generator = pair.generator()
    fill(generator, checkpoint.g_ema or {}, source)
    wanted.out.mkdir(parents=True, exist_ok=True)
    remarks = onnx_export.write(generator, wanted.out, source)
    return [*remarks, "only the averaged generator is in it: ONNX files are for making pictures"]


RECORD_KEYS = {"file", "sha256", "bytes", "metadata"}  # the keys of the JSON file beside safetensors
FORMATS: dict[str, Callable[[Checkpoint, Networks, Wanted], list[str]]] = {
    "nvidia": to_nvidia, "rosinality": to_rosinality, "state-dict": to_state_dict, "safetensors": to_safetensors,
    "onnx": to_onnx}
# The options that single formats take, each with what it is where it is not given.
OPTIONS: dict[str, tuple[str, Any]] = {"source": ("nvidia", None), "any_source": ("nvidia", False),
                                       "drop_clamp": ("rosinality", False)}


def outputs(kind: str, out: Path) -> list[Path]:
    """The files that an export makes."""
    if kind == "onnx":
        return [out / name for name in onnx_export.FILES]
    return [out, out.with_suffix(".json")] if kind == "safetensors" else [out]


def check_outputs(files: list[Path], inputs: list[Path], force: bool) -> None:
    """Refuses to replace what is there without --force; and, even with it, an input, or a JSON file that does not
    belong to an export."""
    for path in files:
        if not path.exists():
            continue
        if not force:
            raise CheckpointError(f"cannot export to '{path}': it is there already; pass another --out, or --force to "
                                  "replace it")
        if any(path.samefile(other) for other in inputs if other.exists()):
            raise CheckpointError(f"cannot export to '{path}': it is one of the files to export; pass another --out")
        if path.suffix != ".json" and not looks_like_weights(path):
            raise CheckpointError(f"cannot export to '{path}': what is there is no earlier export, and would be lost; pass "
                                  "another --out")
        if path.suffix == ".json" and not (path.is_file() and is_record(path)):
            raise CheckpointError(f"cannot export to '{path}': it is no record of an export, and would be lost; pass "
                                  "another --out")


def looks_like_weights(path: Path) -> bool:
    """Whether a file begins as a pickle, a zip of torch.save, a safetensors or an ONNX file does."""
    if not path.is_file():
        return False
    with open(path, "rb") as file:
        head = file.read(9)
    return head[:1] == b"\x80" or head[:2] == b"PK" or head[8:] == b"{" or head[:1] == b"\x08"


def is_record(path: Path) -> bool:
    """Whether a JSON file is one that `to_safetensors` wrote."""
    try:
        found = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return False
    return isinstance(found, dict) and set(found) == RECORD_KEYS


def sources(args: argparse.Namespace) -> dict[str, Path]:
    """The network files that the arguments mean."""
    given: dict[str, Optional[Path]] = {"G_ema": args.generator, "G": args.generator_raw, "D": args.discriminator}
    return {name: path for name, path in given.items() if path is not None}


def wanted_of(args: argparse.Namespace) -> Wanted:
    """What the arguments ask of the format; refuses an option that the format does not take."""
    for name, (kind, absent) in OPTIONS.items():
        if args.format != kind and getattr(args, name) != absent:
            raise CheckpointError(f"cannot export with --{name.replace('_', '-')} as {args.format}: the option belongs to "
                                  f"--format {kind}; leave it out")
    if args.any_source and args.source is None:
        raise CheckpointError("cannot export with --any-source: no --source is given; pass the NVIDIA .pkl whose numbers "
                              "are to be replaced")
    return Wanted(args.out, args.source, args.any_source, args.drop_clamp, args.images)


def export(args: argparse.Namespace) -> None:
    wanted = wanted_of(args)
    files = outputs(args.format, args.out)
    if args.format == "safetensors" and args.out.suffix == ".json":
        raise CheckpointError(f"cannot export to '{args.out}': a JSON file of that name goes beside the weights; pass "
                              "--out NAME.safetensors")
    if args.format != "onnx" and args.out.is_dir():
        raise CheckpointError(f"cannot export to '{args.out}': it is a folder; pass the name of a file")
    given = sources(args)
    check_outputs(files, [*given.values(), *([] if args.source is None else [args.source])], args.force)
    checkpoint, networks = torchscript.read(given)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    remarks = FORMATS[args.format](checkpoint, networks, wanted)
    for path in files:
        print(f"wrote '{path}': {path.stat().st_size / 1e6:.1f} MB")
    for remark in remarks:
        print(f"note: {remark}")


def main() -> None:
    parser = Parser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--generator", type=Path, required=True, metavar="FILE", help="TorchScript generator")
    parser.add_argument("--generator-raw", type=Path, metavar="FILE", help="generator as trained, beside its average")
    parser.add_argument("--discriminator", type=Path, metavar="FILE", help="TorchScript discriminator")
    parser.add_argument("--format", required=True, choices=list(FORMATS))
    parser.add_argument("--out", type=Path, required=True, metavar="PATH", help="file to write; for onnx a folder")
    parser.add_argument("--force", action="store_true", help="replace what is there")
    parser.add_argument("--source", type=Path, metavar="PKL", help="nvidia: the pickle that the weights were imported "
                        "from, of which the new file is a copy with other numbers")
    parser.add_argument("--any-source", action="store_true", help="nvidia: take --source although the weights do not come "
                        "from it; it has to have the same architecture, and the code in the new file is the one in it")
    parser.add_argument("--drop-clamp", action="store_true", help="rosinality: leave out a clamp, which that layout cannot "
                        f"hold, and say on how many of {dropped_clamp.IMAGES:,} pictures it acts")
    parser.add_argument("--images", type=int, default=dropped_clamp.IMAGES, help=argparse.SUPPRESS)
    args = parser.parse_args()
    with told_in_one_line(f"cannot export to '{args.out}'", "check the rights and the free space there, or pass another --out"):
        export(args)
