"""Reads pickles and torch files, and is the only way to do so here: a reader with an allow-list, which makes stand-ins
and executes nothing. A name that is not on the list is refused; memory, depth and work are bounded by the size of the
file."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable

import numpy as np

from .checkpoint import CheckpointError
from .pickle_machine import Allowed, Budget, Buildable, Machine, Refused, UnknownName, atom
from .torch_files import (LEGACY_START, STORAGE_CLASSES, Storage, read_legacy, read_zip, rebuild_parameter,
                          rebuild_tensor)
from .wording import shown

ZIP_START = b"PK\x03\x04"
# Beginnings of names by which the files of other programs are recognised, and what to say of them.
FOREIGN = {
    "dnnlib.tflib.": "it is a TensorFlow pickle (NVIDIA's stylegan2 or stylegan2-ada repository); convert it with legacy.py "
    "of stylegan2-ada-pytorch (--source, --dest) and import the result",
    "tensorflow.": "it is a TensorFlow pickle; convert it to a StyleGAN2 of PyTorch and import that",
}
MAX_DEPTH = 100
MAX_ENTRIES = 1_000_000  # of everything in the file, shared parts counted wherever they appear


class Namespace(dict, Buildable):
    """Stands for an argparse.Namespace: a dict of its attributes."""

    def build(self, state: Any) -> None:
        if not isinstance(state, dict) or not all(isinstance(key, str) for key in state):
            raise Refused("it sets the attributes of a Namespace to something else than a dict")
        self.update(state)


@dataclass
class Module:
    """Stands for a network of NVIDIA's: the name of its class, and its __dict__ (`_parameters`, `_buffers`, ...)."""

    class_name: str
    state: dict[str, Any]


class Dtype(Buildable):
    """Stands for a numpy.dtype of one number."""

    def __init__(self, code: Any, align: Any = False, copy: Any = True):
        if not isinstance(code, str) or code not in (
            "f2",
            "f4",
            "f8",
            "i1",
            "i2",
            "i4",
            "i8",
            "u1",
            "u2",
            "u4",
            "u8",
            "b1",
        ):
            raise Refused(f"it has a number of numpy type '{shown(str(code))}'" if isinstance(code, str) else
                          "it has a number of unknown numpy type")
        self.code = code

    def build(self, state: Any) -> None:
        order = state[1] if isinstance(state, tuple) and len(state) > 1 else None
        if not isinstance(order, str) or order not in ("<", "|", "="):
            raise Refused("it has a number that is not little-endian; save it again on a little-endian machine")


def numpy_scalar(dtype: Any, raw: Any) -> Any:
    """The stand-in for numpy's `scalar`: a Python number."""
    if not isinstance(dtype, Dtype) or not isinstance(raw, memoryview):
        raise Refused("it has a numpy number of unknown kind")
    numpy_type = np.dtype("<" + dtype.code)
    if len(raw) != numpy_type.itemsize:
        raise Refused(f"it has a numpy number of {len(raw)} bytes where {numpy_type.itemsize} belong")
    return np.frombuffer(raw, numpy_type)[0].item()


def persistent_object(meta: Any) -> Module:
    """The stand-in for NVIDIA's `_reconstruct_persistent_obj`, which executes the source in `meta`: this ignores it."""
    name, state = (meta.get("class_name"), meta.get("state")) if isinstance(meta, dict) else (None, None)
    if not isinstance(name, str) or not isinstance(state, dict):
        raise Refused("it has a network without a class name or state")
    return Module(name, state)


class NumpyArray(Buildable):
    """Stands for a numpy array, such as StyleGAN3 generators hold beside their tensors. Its content is not kept: it has
    to be read over only, so that the file can be recognised."""

    def __init__(self, *_: Any):
        pass

    def build(self, state: Any) -> None:
        pass


def encoded(text: Any, encoding: Any) -> memoryview:
    """The stand-in for `_codecs.encode`, by which protocol 2 writes bytes as text."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise Refused("it has bytes in an encoding that Python's pickle does not use")
    try:
        return memoryview(text.encode("latin-1"))
    except UnicodeEncodeError:
        raise Refused("it has bytes that are none; copy or download it again") from None


def no_bytes() -> memoryview:
    """The stand-in for `bytes()`, by which protocol 2 writes empty bytes."""
    return memoryview(b"")


def set_of(items: Any = ()) -> set[Any]:
    """The stand-in for `set` in protocol 3, which has no instruction for sets (Python 3.7 wrote it)."""
    if not isinstance(items, (list, tuple)):
        raise Refused(f"it makes a set from a {type(items).__name__}")
    return {atom(item) for item in items}


def data_names(budget: Budget) -> dict[str, Allowed]:
    """Lists what both torch files and NVIDIA's pickles may name."""
    scalar = Allowed(numpy_scalar)
    return {
        "_codecs.encode": Allowed(encoded),
        "__builtin__.bytes": Allowed(no_bytes),
        "collections.OrderedDict": Allowed(lambda: {}),
        "torch._utils._rebuild_tensor_v2": Allowed(rebuild_tensor(budget)),
        "torch._utils._rebuild_parameter": Allowed(rebuild_parameter),
        "numpy.dtype": Allowed(Dtype),
        "numpy.core.multiarray.scalar": scalar,
        "numpy._core.multiarray.scalar": scalar,
    }


def nvidia_names(budget: Budget) -> dict[str, Allowed]:
    """Lists what NVIDIA's pickles may name. The streams inside of them may hold storages and nothing else."""

    def nested(raw: Any) -> Storage:
        if not isinstance(raw, memoryview):
            raise Refused("it has a storage that is not bytes")
        storage = read_legacy(raw, budget, STORAGE_CLASSES)
        if not isinstance(storage, Storage):
            raise Refused(f"it has a {type(storage).__name__} where a storage belongs")
        return storage

    return {**data_names(budget), "torch_utils.persistence._reconstruct_persistent_obj": Allowed(persistent_object),
            "dnnlib.util.EasyDict": Allowed(lambda: {}, instance=True), "builtins.set": Allowed(set_of), "__builtin__.set": Allowed(set_of),
            **{f"numpy{core}.{name}": Allowed(NumpyArray) for core in (".core", "._core")
               for name in ("multiarray._reconstruct", "numeric._frombuffer")},
            "numpy.ndarray": Allowed(NumpyArray),
            "torch.storage._load_from_bytes": Allowed(nested)}


def torch_names(budget: Budget) -> dict[str, Allowed]:
    """Lists what the files of torch.save may name."""
    return {**data_names(budget), **STORAGE_CLASSES, "argparse.Namespace": Allowed(lambda: Namespace(), instance=True)}


def children(node: Any) -> list[Any]:
    if isinstance(node, dict):
        return list(node.values())
    if isinstance(node, (list, tuple)):
        return list(node)
    return [node.state] if isinstance(node, Module) else []


def parts(node: Any) -> list[Any]:
    """Those children of a node that can have children themselves."""
    return [child for child in children(node) if isinstance(child, (dict, list, tuple, Module))]


def check_structure(root: Any) -> None:
    """Refuses objects that contain themselves, are nested deep, or grow large where shared parts count each time."""
    measured: dict[int, tuple[int, int]] = {}  # depth and entries of what is finished, by identity
    unfinished = {id(root)}
    stack = [(root, iter(parts(root)))]
    while stack:
        node, rest = stack[-1]
        part = next(rest, None)
        if part is None:
            sizes = [measured[id(child)] for child in parts(node)]
            measured[id(node)] = depth, entries = (1 + max((d for d, _ in sizes), default=0),
                                                   1 + len(children(node)) + sum(n for _, n in sizes))
            if entries > MAX_ENTRIES:
                raise Refused(f"its objects expand to more than {MAX_ENTRIES} entries")
            if depth > MAX_DEPTH:
                raise Refused(f"its objects are nested more than {MAX_DEPTH} deep")
            unfinished.discard(id(node))
            stack.pop()
        elif id(part) in unfinished:
            raise Refused("it has an object that contains itself")
        elif id(part) not in measured:
            if len(stack) > MAX_DEPTH:
                raise Refused(f"its objects are nested more than {MAX_DEPTH} deep")
            unfinished.add(id(part))
            stack.append((part, iter(parts(part))))


def guarded(path: Path, read: Callable[[], Any]) -> Any:
    """Runs one reader; what it refuses becomes one line about the file."""
    try:
        tree = read()
        check_structure(tree)
    except UnknownName as unknown:
        known = [said for prefix, said in FOREIGN.items() if unknown.name.startswith(prefix)]
        raise CheckpointError(f"cannot read '{path}': {known[0] if known else unknown}") from None
    except Refused as refused:
        raise CheckpointError(f"cannot read '{path}': {refused}") from None
    return tree


def load_torch(path: Path) -> Any:
    """Reads a torch.save file (zip or legacy stream): dicts, lists, tuples, numbers, strings, tensors, `Namespace`."""

    def read() -> Any:
        size = path.stat().st_size
        with open(path, "rb") as file:
            start = file.read(len(LEGACY_START))
        budget = Budget.of(size)
        if start.startswith(ZIP_START):
            return read_zip(path, budget, torch_names(budget))
        if start == LEGACY_START:
            return read_legacy(memoryview(path.read_bytes()), budget, torch_names(budget))
        raise Refused("it is no file of torch.save; pass a checkpoint")

    return guarded(path, read)


def load_pickle(path: Path) -> Any:
    """Reads an NVIDIA pickle: as `load_torch`, and networks become `Module`."""

    def read() -> Any:
        data = memoryview(path.read_bytes())
        budget = Budget.of(len(data))
        return Machine(data, 0, budget, nvidia_names(budget)).run()

    return guarded(path, read)
