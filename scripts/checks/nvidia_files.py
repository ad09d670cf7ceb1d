"""Writes pickles in the layout of NVIDIA's checkpoints from weights of ours, for tests and checks. The modules that
such a file names are made up here, and exist only while it is written."""

import contextlib
import copyreg
import io
import pickle
import struct
import sys
import types
from pathlib import Path
from typing import Any, Callable, Iterator, Mapping, Optional

import torch
from torch import Tensor, nn

FROZEN = ("resample_filter", "noise_const", "w_avg")
SOURCE = "raise RuntimeError('the source text in a checkpoint was executed')\n"


class Network:
    """Stands for a network of NVIDIA's and is pickled as one: class name, source text and __dict__."""

    def __init__(self, class_name: str, state: dict[str, Any], source: str = SOURCE):
        self.meta = {"type": "class", "version": 6, "module_src": source, "class_name": class_name, "state": state}

    @property
    def state(self) -> dict[str, Any]:
        return self.meta["state"]

    def __reduce__(self) -> tuple[Any, ...]:
        return rebuild, (self.meta,)


def rebuild(meta: Any) -> Any:
    """Stands for torch_utils.persistence._reconstruct_persistent_obj in the writer; it is never called."""
    raise RuntimeError("a checkpoint was unpickled")


class EasyDict(dict):
    """Stands for dnnlib.util.EasyDict in the writer."""


rebuild.__module__, rebuild.__qualname__, rebuild.__name__ = (
    "torch_utils.persistence",
    *2 * ["_reconstruct_persistent_obj"],
)
EasyDict.__module__ = "dnnlib.util"


@contextlib.contextmanager
def made_up_modules() -> Iterator[None]:
    """Provides the modules in which the pickler looks its names up."""
    modules = {
        name: types.ModuleType(name) for name in ("torch_utils", "torch_utils.persistence", "dnnlib", "dnnlib.util")
    }
    setattr(modules["torch_utils.persistence"], "_reconstruct_persistent_obj", rebuild)
    setattr(modules["dnnlib.util"], "EasyDict", EasyDict)
    before = {name: sys.modules.get(name) for name in modules}
    sys.modules.update(modules)
    try:
        yield
    finally:
        for name, module in before.items():
            sys.modules.pop(name)
            if module is not None:
                sys.modules[name] = module


def network(
    weights: Mapping[str, Tensor],
    class_name: str,
    kwargs: Mapping[str, Any],
    as_buffer: Callable[[str], bool] = lambda _: False,
    attributes: Optional[Mapping[str, Mapping[str, Any]]] = None,
) -> Network:
    """Makes a network with these weights, which have dotted names. `as_buffer` says which trained tensors are stored as
    buffers, as FreezeD does; `attributes` are added to the submodules of the names given."""
    root = Network(class_name, empty_state())
    root.state.update(_init_args=(), _init_kwargs=kwargs)
    for name, value in weights.items():
        *path, last = name.split(".")
        module = root
        for part in path:
            module = module.state["_modules"].setdefault(part, Network("Part", empty_state()))
        if last in FROZEN or as_buffer(name):
            module.state["_buffers"][last] = value.detach()
        else:
            module.state["_parameters"][last] = nn.Parameter(value.detach(), value.is_floating_point())
    for name, values in (attributes or {}).items():
        module = root
        for part in filter(None, name.split(".")):
            module = module.state["_modules"][part]
        module.state.update(values)
    return root


def empty_state() -> dict[str, Any]:
    return {"training": False, "_parameters": {}, "_buffers": {}, "_non_persistent_buffers_set": set(), "_modules": {}}


class Pickler(pickle.Pickler):
    """Writes storages as if they had been on `device`."""

    def __init__(self, file: Any, protocol: int, device: str):
        super().__init__(file, protocol)
        self.device = device

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, EasyDict):  # as a dict subclass of Python is pickled: a new instance, then its items
            return copyreg.__newobj__, (EasyDict,), None, None, iter(obj.items())
        if self.device == "cpu" or not isinstance(obj, torch.storage.TypedStorage):
            return NotImplemented
        file = io.BytesIO()
        torch.save(obj, file, _use_new_zipfile_serialization=False)
        tag, other = (b"X" + struct.pack("<I", len(device)) + device.encode() for device in ("cpu", self.device))
        if tag not in file.getvalue():
            raise RuntimeError("torch writes the device of a storage in another way than expected")
        return torch.storage._load_from_bytes, (file.getvalue().replace(tag, other, 1),)


def write(content: Any, path: Path, protocol: int = 4, device: str = "cpu") -> None:
    """Pickles `content` to `path`."""
    with made_up_modules(), open(path, "wb") as file:
        Pickler(file, protocol, device).dump(content)
