"""Makes a generator / discriminator pair of the TorchScript contract (weights/README.md): randomly initialised, or from
a safetensors file that holds `G.*` and `D.*` under NVIDIA's names.

    rootgan new --resolution 64 --out weights/random
    rootgan new --from-safetensors tests/golden/net_uncond_r32.safetensors --out /tmp/pair
"""

import argparse
from pathlib import Path

from torch import nn

from rootgan.checkpoints import plain
from rootgan.checkpoints.ancestry import flattened
from rootgan.checkpoints.checkpoint import CheckpointError, require_file
from rootgan.checkpoints.records import as_json, writable
from rootgan.command_line import Parser, told_in_one_line
from rootgan.network_folder import DISCRIMINATOR, GENERATOR, refuse_present, replace_networks
from rootgan.networks.pair import Architecture, fill, random_pair, scripted, write
from rootgan.whole_files import sha256_of


def from_safetensors(path: Path) -> tuple[nn.Module, nn.Module]:
    """The pair in a safetensors file, which is refused where an import would refuse it."""
    require_file(path, "make a pair of", "a safetensors file")
    found = plain.read_safetensors(path)
    if found.g_ema is None or found.d is None:
        raise CheckpointError(f"cannot make a pair of '{path}': it has no discriminator; pass a file that has D.* too, or make "
                              "a generator of it with rootgan import")
    for note in found.notes:
        print(f"note: {note}")
    pair, sha256 = (found.architecture.generator(), found.architecture.discriminator()), sha256_of(path)
    for module, network, tensors in zip(pair, "GD", (found.g_ema, found.d)):
        # What `rootgan export` wrote of the weights' origin and credits goes on with them.
        record = {"source": writable(path.name), "source_sha256": sha256, "parent": found.parents.get(network, {}),
                  **({"notes": found.notes} if found.notes else {})}
        module.set_provenance(as_json(flattened(record)))
        fill(module, tensors, str(path))
    return pair


def made(args: argparse.Namespace) -> tuple[nn.Module, nn.Module]:
    """The pair that the arguments ask for."""
    if args.from_safetensors is not None:
        return from_safetensors(args.from_safetensors)
    return random_pair(Architecture(args.resolution, args.img_channels, args.z_dim, args.c_dim, args.w_dim, args.mapping_layers,
                                    args.channel_base, args.channel_max, args.conv_clamp, args.mbstd_group_size), args.seed)


def make(args: argparse.Namespace) -> None:
    """Makes the pair and writes it; what is in the folder goes only when everything is ready to take its place."""
    outdir = args.outdir
    refuse_present(outdir, "make a pair in", args.force)
    networks = dict(zip((GENERATOR, DISCRIMINATOR), made(args)))
    contents = {name: scripted(module) for name, module in networks.items()}

    def work(folder: Path) -> None:
        for name, content in contents.items():
            write(content, folder / name)

    replace_networks(outdir, work)
    for name, module in networks.items():
        print(f"{outdir / name}: {sum(p.numel() for p in module.parameters()):,} parameters")


def main() -> None:
    parser = Parser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--out", "--outdir", dest="outdir", type=Path, required=True, help="folder for generator.pt and discriminator.pt")
    parser.add_argument("--force", action="store_true", help="replace the networks in the folder")
    parser.add_argument("--from-safetensors", type=Path, metavar="FILE",
                        help="take sizes and weights from FILE; the options below are then not used")
    parser.add_argument("--resolution", type=int, default=64, help="16 to 1024, a power of two (default %(default)s)")
    parser.add_argument("--img-channels", type=int, default=3, help="3 (colour) or 1 (grey)")
    parser.add_argument("--z-dim", type=int, default=512)
    parser.add_argument("--c-dim", type=int, default=0, help="number of classes, 0 without labels")
    parser.add_argument("--w-dim", type=int, default=512)
    parser.add_argument("--mapping-layers", type=int, default=8)
    parser.add_argument("--channel-base", type=int, default=32768,
                        help="channels at resolution r: base / r, at most max")
    parser.add_argument("--channel-max", type=int, default=512)
    parser.add_argument("--conv-clamp", type=float, default=None,
                        help="clamp convolution outputs (256 for half precision)")
    parser.add_argument("--mbstd-group-size", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    with told_in_one_line(f"cannot make a pair in '{args.outdir}'", "check the rights and the free space there, or pass another --out"):
        make(args)
