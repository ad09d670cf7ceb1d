"""Makes a generator / discriminator pair of the TorchScript contract (weights/README.md): randomly initialised, or from
a safetensors file that holds `G.*` and `D.*` under NVIDIA's names with the sizes in its metadata.

    rootgan new --resolution 64 --out weights/random
    rootgan new --from-safetensors tests/golden/net_uncond_r32.safetensors --out /tmp/pair
"""

import argparse
import json
from pathlib import Path
from typing import Optional

from torch import nn

from rootgan.checkpoints.ancestry import flattened
from rootgan.command_line import Parser, told_in_one_line
from rootgan.network_folder import DISCRIMINATOR, GENERATOR, refuse_present, replace_networks
from rootgan.networks.pair import SIZES, Architecture, check_shapes, fill, random_pair, scripted, write
from rootgan.networks.resample import is_filter, is_outer
from rootgan.whole_files import sha256_of


def parsed(record: Optional[str]):
    """Parses a record as JSON; a text that is no JSON is returned as it is."""
    try:
        return json.loads(record or "{}")
    except ValueError:
        return record


def from_safetensors(path: Path):
    """The pair stored in `path`: its metadata says the sizes, its `G.*` and `D.*` tensors are the weights."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise ValueError(f"'{path}' is " + ("no regular file" if path.exists() else "not there; check the path"))
    try:
        with safe_open(path, framework="pt") as file:
            sizes = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys() if name[:2] in ("G.", "D.")}
    except SafetensorError as error:
        raise ValueError(f"'{path}' is not a safetensors file ({error})") from None
    missing = [name for name in (*SIZES, "mbstd_group_size") if name not in sizes]
    if missing:
        raise ValueError(f"'{path}' lacks the sizes {', '.join(missing)} in its metadata")
    first = tensors.get(f"D.b{sizes['img_resolution']}.fromrgb.weight")  # [channels, img_channels, 1, 1]
    channels = {} if first is None else {"img_channels": first.shape[1]}
    of_d = parsed(sizes.get("D.description"))
    try:
        architecture = Architecture.described({**sizes, **channels}, of_d if isinstance(of_d, dict) and of_d else None)
    except KeyError as error:
        raise ValueError(f"'{path}' lacks the size {error} in its D.description") from None
    except (TypeError, ValueError) as error:
        raise ValueError(f"a size in the metadata of '{path}' cannot be used: {error}") from None
    for name, value in tensors.items():
        if is_filter(name, value) and not is_outer(value):
            raise ValueError(f"weights of '{path}' do not fit: '{name}' is no outer product, as resample filters have to be")
    for make, prefix in ((architecture.generator, "G."), (architecture.discriminator, "D.")):
        check_shapes(make, {name[2:]: value for name, value in tensors.items() if name.startswith(prefix)}, str(path))
    pair = architecture.generator(), architecture.discriminator()
    sha256 = sha256_of(path)
    for module, prefix in zip(pair, ("G.", "D.")):
        # What `rootgan export` wrote of the weights' origin and credits goes on with them.
        record = {"source": path.name, "source_sha256": sha256, "parent": parsed(sizes.get(prefix + "provenance"))}
        module.set_provenance(json.dumps(flattened(record)))
        fill(module, {name[2:]: value for name, value in tensors.items() if name.startswith(prefix)}, str(path))
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
