"""Writes networks as an NVIDIA pickle: a copy of the pickle that the weights were imported from, in which the numbers of
the tensors are replaced and nothing else. The code that such a file needs to be loaded is therefore the one that the
user's own copy holds. The pickle is read by the machine with the allow-list, and nothing in it is executed."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Mapping, NamedTuple, Optional

import torch
from rootgan.whole_files import replace_atomically
from torch import Tensor

from . import ancestry, nvidia, safe_pickle
from .checkpoint import Checkpoint, CheckpointError, require_file
from .nvidia_modules import collect
from .pickle_machine import Allowed, Budget, Machine
from .safe_pickle import Module
from .torch_files import LEGACY_START
from .torchscript import Network
from .wording import shown, shown_value

Tensors = Mapping[str, Tensor]
LOADER = "torch.storage._load_from_bytes"
WAY_OUT = ("an NVIDIA pickle keeps the architecture of its source; use --format state-dict, and load that in a checkout of "
           "NVIDIA's code (docs/checkpoints.md)")
# What has to agree although tensors of the same shapes may differ in it.
OF_G = ("img_resolution", "img_channels", "z_dim", "c_dim", "w_dim", "mapping_layers", "g_architecture", "conv_clamp",
        "mapping_rate")
OF_D = ("d_architecture", "clamp_of_d")


class Origin(NamedTuple):
    """An NVIDIA pickle that weights were imported from."""

    name: str
    sha256: str


@dataclass
class Source:
    """The user's pickle: its bytes, which may be written to, what it holds, and where its storages lie in it."""

    path: Path
    data: bytearray
    tree: Any
    streams: dict[int, memoryview]  # by the address of a storage's copy in memory, the part of `data` that holds it
    checkpoint: Checkpoint

    @property
    def networks(self) -> dict[str, Module]:
        return nvidia.find_networks(self.tree, self.path, [])


def write(checkpoint: Checkpoint, networks: Mapping[str, Network], path: Optional[Path], any_source: bool,
          out: Path) -> list[str]:
    """Writes the networks into a copy of the pickle at `path`; returns what a user has to know, one sentence each."""
    first = str(networks["G_ema"].path)
    known = origins(networks)
    if path is None:
        raise CheckpointError(f"cannot export '{first}' to NVIDIA's layout: {without_source(known)}")
    source = read(path, first, known, any_source)
    remarks = refuse_another_architecture(checkpoint, source, first)
    given = {"G_ema": checkpoint.g_ema, "G": checkpoint.g or checkpoint.g_ema, "D": checkpoint.d}
    new = {name: tensors for name, tensors in given.items() if tensors is not None and name in source.networks}
    remarks += replace_numbers(source, new, first)
    replace_atomically(out, lambda scratch: scratch.write_bytes(source.data))
    return remarks + what_stays(checkpoint, source)


# ---- the source

def origins(networks: Mapping[str, Network]) -> list[Origin]:
    """Lists the NVIDIA pickles that the provenance of the networks names, the nearest first."""
    found: dict[str, Origin] = {}
    for network in networks.values():
        for record in ancestry.records(network.provenance()):
            sha256, name = record.get("source_sha256"), record.get("source")
            if str(record.get("format")).startswith("NVIDIA pickle") and isinstance(sha256, str):
                found.setdefault(sha256, Origin(shown(str(name)), shown(sha256)))
    return list(found.values())


def listed(known: list[Origin]) -> str:
    return " or ".join(f"'{origin.name}' (sha256 {origin.sha256})" for origin in known[:3])


def without_source(known: list[Origin]) -> str:
    """Says which pickle is missing."""
    if known:
        return f"no --source is given; pass the pickle that these weights were imported from, {listed(known)}"
    return ("these weights come from no NVIDIA pickle, and the code in one is what such a file is loaded with; use --format "
            "state-dict and load that in a checkout of NVIDIA's code (docs/checkpoints.md), or pass a pickle of the same "
            "architecture with --source FILE --any-source")


def read(path: Path, first: str, known: list[Origin], any_source: bool) -> Source:
    """Reads the pickle, after making sure that it is the one that the weights come from."""
    require_file(path, "export with --source", "the NVIDIA .pkl that the weights were imported from")
    data = bytearray(path.read_bytes())
    if not (data[:1] == b"\x80" and data[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05")) or data.startswith(LEGACY_START):
        raise refused(path, "it is no NVIDIA pickle; pass the .pkl that the weights were imported from")
    sha256 = hashlib.sha256(data).hexdigest()
    if not any_source and sha256 not in (origin.sha256 for origin in known):
        if not known:
            raise refused(path, f"'{first}' does not say that it comes from an NVIDIA pickle; pass --any-source if this one "
                          "has the same architecture and its code is what shall load the weights")
        raise refused(path, f"its sha256 is {sha256}, but '{first}' comes from {listed(known)}; pass that file, or "
                      "--any-source if this one has the same architecture and its code is what shall load the weights")
    try:
        tree, streams = located(data, path)
        return Source(path, data, tree, streams, nvidia.read_tree(tree, path))
    except CheckpointError as error:
        reason = str(error)
        for doing in ("import", "read"):
            reason = reason.removeprefix(f"cannot {doing} '{path}': ")
        raise refused(path, reason) from None


def refused(path: Path, reason: str) -> CheckpointError:
    return CheckpointError(f"cannot export with --source '{path}': {reason}")


def located(data: bytearray, path: Path) -> tuple[Any, dict[int, memoryview]]:
    """Returns what the pickle in `data` holds, and its storages' places there (`Source.streams`)."""
    streams: dict[int, memoryview] = {}

    def tree() -> Any:
        budget = Budget.of(len(data))
        names = safe_pickle.nvidia_names(budget)
        load = names[LOADER].make

        def noting(raw: Any) -> Any:
            storage = load(raw)
            streams[storage.values.data_ptr()] = raw
            return storage

        names[LOADER] = Allowed(noting)
        return Machine(memoryview(data), 0, budget, names).run()

    return safe_pickle.guarded(path, tree), streams


# ---- what has to fit

def refuse_another_architecture(checkpoint: Checkpoint, source: Source, first: str) -> list[str]:
    """Refuses networks that are not those of the source with other numbers; returns differences that only count in
    training."""
    ours, theirs = checkpoint.architecture, source.checkpoint.architecture
    with_d = checkpoint.d is not None and "D" in source.networks
    if with_d and source.checkpoint.d is None:
        left_out = next((note for note in source.checkpoint.notes if note.startswith("the discriminator in the file")), "")
        raise refused(source.path, f"{left_out}; pass --generator FILE without --discriminator, and that one stays as it is")
    for name in (*OF_G, *(OF_D if with_d else ())):
        found, wanted = getattr(ours, name), getattr(theirs, name)
        if found != wanted:
            raise refused(source.path, f"{'conv_clamp of D' if name == 'clamp_of_d' else name} is {shown_value(wanted)} in it "
                          f"and {shown_value(found)} in '{first}'; {WAY_OUT}")
    return [f"{name} is {getattr(ours, name)} in '{first}' and stays as '{source.path}' has it: it matters in training only"
            for name in ("w_avg_beta", *(["mbstd_group_size"] if with_d else []))
            if getattr(ours, name) != getattr(theirs, name)]


def taken_by_import(source: Source, network: str) -> Tensors:
    """The tensors of one network as an import of the source has them."""
    found = source.checkpoint
    return {"G_ema": found.g_ema, "G": found.g or found.g_ema, "D": found.d}[network] or {}


# ---- the numbers

def replace_numbers(source: Source, new: Mapping[str, Tensors], first: str) -> list[str]:
    """Replaces numbers in `source.data`, then reads the result as a file; returns remarks."""
    old = {network: collect(module) for network, module in modules_of(source.tree, source.networks).items()}
    rounded: dict[torch.dtype, int] = {}
    changed: dict[tuple[str, str], Tensor] = {}
    for network, tensors in new.items():
        for name, value in tensors.items():
            view = old[network].get(name)
            if view is None:
                refuse_if_it_counts(name, value, tensors, taken_by_import(source, network), source, first)
            elif view.shape != value.shape:
                raise refused(source.path, f"'{shown(name)}' of its {network} is {list(view.shape)}, that of '{first}' "
                              f"{list(value.shape)}; {WAY_OUT}")
            elif not same_bits(view.to(torch.float32), value):
                changed[network, name] = fitting(value, view.dtype, name, source)
                if view.dtype in (torch.float16, torch.bfloat16):
                    rounded[view.dtype] = rounded.get(view.dtype, 0) + 1
    tails = {id_of(view): tail_of(view, source) for view in (old[key[0]][key[1]] for key in changed)}
    # What shares a storage with new numbers has to keep its own, so they are remembered.
    kept = {(network, name): value.clone() if id_of(value) in tails else value
            for network, tensors in old.items() for name, value in tensors.items() if (network, name) not in changed}
    for (network, name), value in changed.items():
        old[network][name].copy_(value)
    for network, name in changed:
        view = old[network][name]
        tail = tails.pop(id_of(view), None)
        if tail is not None:
            tail[:] = bytes_of(whole_storage(view))
    refuse_what_differs(source, {**kept, **changed}, old)
    said = [f"{count} tensors are {str(dtype).removeprefix('torch.')} in '{source.path}': their numbers are rounded to it"
            for dtype, count in rounded.items()]
    return [f"{len(changed)} of {sum(map(len, new.values()))} tensors differ from those in '{source.path}'", *said]


def modules_of(tree: Any, networks: Mapping[str, Module]) -> dict[str, Module]:
    """All networks of the tree: those that are exported, and others, which have to stay as they are."""
    others = tree.items() if isinstance(tree, dict) else ()
    exported = {id(module) for module in networks.values()}
    return {**networks, **{str(name): module for name, module in others
                           if isinstance(module, Module) and id(module) not in exported}}


def refuse_if_it_counts(name: str, value: Tensor, tensors: Tensors, imported: Tensors, source: Source,
                        first: str) -> None:
    """Lets a tensor pass that the source lacks and import filled in, as long as its value still changes nothing."""
    layer, _, last = name.rpartition(".")
    silent = last == "noise_const" and not tensors[f"{layer}.noise_strength"].any()
    if not silent and (name not in imported or not same_bits(imported[name], value)):
        raise refused(source.path, f"it has no '{shown(name)}', which has been trained in '{first}'; {WAY_OUT}")


def fitting(value: Tensor, dtype: torch.dtype, name: str, source: Source) -> Tensor:
    """Returns numbers in the type of the source, which has to be able to hold them."""
    found = value.to(dtype)
    if bool((value.isfinite() & ~found.isfinite()).any()):
        raise refused(source.path, f"'{shown(name)}' is {str(dtype).removeprefix('torch.')} in it, which cannot hold "
                      f"{value.abs().max().item():.6g}; use --format state-dict")
    return found


def id_of(view: Tensor) -> int:
    """The address of the storage that a tensor lies in."""
    return view.untyped_storage().data_ptr()


def whole_storage(view: Tensor) -> Tensor:
    """All numbers of the storage that a tensor lies in."""
    return view.as_strided([view.untyped_storage().nbytes() // view.element_size()], [1], 0)


def tail_of(view: Tensor, source: Source) -> memoryview:
    """The bytes in the file that hold the numbers of a tensor's storage: they end the stream that it was read from."""
    stream, size = source.streams[id_of(view)], view.untyped_storage().nbytes()
    if stream.obj is not source.data:
        raise refused(source.path, "it is a pickle of protocol 2, in which numbers are text; save it again with protocol 3, 4 "
                      "or 5 in a checkout of NVIDIA's code, and pass that with --any-source")
    tail = stream[len(stream) - size:]
    if bytes(tail) != bytes(bytes_of(whole_storage(view))):
        raise refused(source.path, "its storages do not end with their numbers, as torch writes them; copy or download it "
                      "again")
    return tail


def bytes_of(value: Tensor) -> memoryview:
    return memoryview(flat_bytes(value).numpy())


def flat_bytes(value: Tensor) -> Tensor:
    return value.detach().contiguous().reshape(-1).view(torch.uint8)


def same_bits(a: Tensor, b: Tensor) -> bool:
    return torch.equal(flat_bytes(a), flat_bytes(b))


def refuse_what_differs(source: Source, expected: Mapping[tuple[str, str], Tensor],
                        old: Mapping[str, Tensors]) -> None:
    """Reads the new bytes as a file and compares every tensor in it with what it should be."""
    tree, _ = located(source.data, source.path)
    found = {network: collect(module) for network, module in
             modules_of(tree, nvidia.find_networks(tree, source.path, [])).items()}
    for (network, name), value in expected.items():
        if not same_bits(found[network][name], value):
            place = id_of(old[network][name])
            other = next((f"'{shown(n)}' of its {shown(w)}" for w, n in expected
                          if (w, n) != (network, name) and id_of(old[w][n]) == place), "another tensor")
            raise refused(source.path, f"'{shown(name)}' of its {shown(network)} and {other} share one storage, and would have "
                          "different numbers; if these are G and G_ema, export the averaged generator alone (rootgan export "
                          "--generator FILE --discriminator FILE), else use --format state-dict")


# ---- what is said

def what_stays(checkpoint: Checkpoint, source: Source) -> list[str]:
    """Says which networks were not given or have no place, and what of the source's file goes on to hold."""
    networks, path, said = source.networks, source.path, []
    if "G" in networks and checkpoint.g is None:
        said.append("G in it is the averaged generator too: no generator in training is given; --from a run or "
                    "an import brings both, where there are two")
    if "G" not in networks and checkpoint.g is not None:
        said.append(f"the generator in training is not in it: '{path}' holds one generator, which is the averaged one now")
    if "D" in networks and checkpoint.d is None:
        said.append(f"D stays as it was in '{path}': no discriminator is given")
    if "D" not in networks and checkpoint.d is not None:
        said.append(f"the discriminator is not in it: '{path}' has none")
    if isinstance(source.tree, dict):
        kept = [what for key, what in (("training_set_kwargs", "training_set_kwargs"),
                                       ("augment_pipe", "the augmentation's p (augment_pipe)"))
                if source.tree.get(key) is not None]
        if kept:
            said.append(f"{' and '.join(kept)} stay as they were")
    return said + [f"the source text in it is the one that '{path}' held, and its licence stays NVIDIA's"]
