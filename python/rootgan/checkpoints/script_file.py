"""Reads TorchScript files as data: the objects in data.pkl and their tensors. The code in the file is neither read nor
run. Attributes that only code would give a meaning (enums, custom classes of C++) are refused."""

from pathlib import Path
from typing import Any, Iterable, Iterator, Mapping

from torch import Tensor

from .pickle_machine import Allowed, Budget, Buildable, Refused
from .safe_pickle import ZIP_START, guarded
from .torch_files import STORAGE_CLASSES, archive_of, entries_of, read_data, rebuild_tensor

CLASSES, CUSTOM_CLASSES = "__torch__.", "__torch__.torch.classes"
MAX_DEPTH = 60  # of modules inside modules
PARTS = ("data.pkl", "constants.pkl")  # a TorchScript file has both in its one folder; torch.save writes only the first


class ScriptObject(dict, Buildable):
    """Stands for a module or another object of the file's classes: a dict of its attributes."""

    def build(self, state: Any) -> None:
        if not isinstance(state, dict) or not all(isinstance(key, str) for key in state):
            raise Refused("it has an object whose state is no dict of attributes")
        self.update(state)

    def text(self, name: str) -> str | None:
        """Returns an attribute that is text; None where there is none of this name."""
        value = self.get(name)
        return value if isinstance(value, str) else None


def tagged(value: Any, kind: Any) -> Any:
    """The stand-in for torch.jit._pickle.restore_type_tag, which notes the type of a list or dict."""
    return value


def listed(items: Any) -> list[Any]:
    """The stand-in for torch.jit._pickle.build_intlist and its kin."""
    if not isinstance(items, list):
        raise Refused(f"it makes a list from a {type(items).__name__}")
    return items


def no_device(*_: Any) -> None:
    """The stand-in for torch.device: all tensors are read to the CPU."""


class Names(Mapping[str, Allowed]):
    """What data.pkl may name: the functions of torch's own pickler, and every class of the file's code."""

    def __init__(self, budget: Budget):
        self.known = {
            **STORAGE_CLASSES,
            "torch._utils._rebuild_tensor_v2": Allowed(rebuild_tensor(budget)),
            "collections.OrderedDict": Allowed(lambda: {}),
            "torch.device": Allowed(no_device),
            "torch.jit._pickle.restore_type_tag": Allowed(tagged),
            **{f"torch.jit._pickle.build_{kind}list": Allowed(listed) for kind in ("int", "double", "bool", "tensor")},
        }
        self.script_class = Allowed(lambda: ScriptObject(), instance=True)

    def __getitem__(self, name: str) -> Allowed:
        if name.startswith(CLASSES) and not name.startswith(CUSTOM_CLASSES):
            return self.script_class
        return self.known[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.known)

    def __len__(self) -> int:
        return len(self.known)


def is_script(path: Path) -> bool:
    """Whether a file is laid out as TorchScript, however damaged it may be inside."""
    with open(path, "rb") as file:
        if file.read(len(ZIP_START)) != ZIP_START:
            return False
    try:
        with archive_of(path) as archive:
            inside = {name.partition("/")[2] for name in archive.namelist()}
    except Refused:
        return False
    return inside.issuperset(PARTS)


def read(path: Path) -> ScriptObject:
    """Reads a TorchScript file and returns its root object."""

    def root() -> ScriptObject:
        size = path.stat().st_size
        budget = Budget.of(size)
        with archive_of(path) as archive:
            entries = entries_of(archive)
            folder = one_folder(entries)
            found = read_data(archive, entries, folder, size, budget, Names(budget))
        if not isinstance(found, ScriptObject):
            raise Refused(f"its pickle holds a {type(found).__name__}, expected a module")
        return found

    return guarded(path, root)


def one_folder(entries: Iterable[str]) -> str:
    """Returns the one folder that all entries lie in, with the slash behind it."""
    names = list(entries)
    folders = {name.partition("/")[0] + "/" for name in names}
    if len(folders) != 1 or len({name.lower() for name in names}) != len(names):
        raise Refused("its zip has several folders, or names that differ in case alone, which torch never writes; copy "
                      "or download it again")
    (folder,) = folders
    if not {folder + part for part in PARTS}.issubset(names):
        raise Refused(f"its zip lacks {' or '.join(PARTS)}, so it is no TorchScript; copy or download it again")
    return folder


def tensors(module: ScriptObject, prefix: str = "") -> dict[str, Tensor]:
    """Returns all tensors of a module and of the modules in it by their dotted names."""
    if prefix.count(".") > MAX_DEPTH:
        raise Refused(f"its modules lie more than {MAX_DEPTH} deep in one another, or in themselves")
    found = {}
    for name, value in module.items():
        if isinstance(value, Tensor):
            found[prefix + name] = value
        elif isinstance(value, ScriptObject):
            found.update(tensors(value, f"{prefix}{name}."))
    return found
