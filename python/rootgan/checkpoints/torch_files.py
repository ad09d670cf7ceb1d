"""Reads tensors out of the two layouts that torch.save writes, the zip and the older stream, through `Machine`.
Storages are compared with the bytes present before they are made, and views are compared with their storage."""

import struct
import warnings
import zipfile
import zlib
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from .pickle_machine import Allowed, Budget, Global, Machine, Refused
from .wording import shown

MAGIC, VERSION = 0x1950A86A20F9469CFC6C, 1001
LEGACY_START = b"\x80\x02\x8a\x0a" + MAGIC.to_bytes(10, "little") + b"."  # the first pickle of the older stream
MAX_DIRECTORY = 4 << 20  # bytes of a zip's list of entries: room for 50,000 tensors
MAX_DIMENSIONS = 8

DTYPES = {"torch.FloatStorage": torch.float32, "torch.HalfStorage": torch.float16, "torch.DoubleStorage": torch.float64,
          "torch.BFloat16Storage": torch.bfloat16, "torch.LongStorage": torch.int64, "torch.IntStorage": torch.int32,
          "torch.ByteStorage": torch.uint8, "torch.BoolStorage": torch.bool}


def no_call(*_: Any) -> None:
    """The stand-in for storage classes: a file names them to say a type, and never calls them."""
    raise Refused("it calls a storage class, which no checkpoint does")


STORAGE_CLASSES: dict[str, Allowed] = {name: Allowed(no_call) for name in DTYPES}


@dataclass
class Storage:
    """A flat piece of memory [numel] out of the file."""

    values: Tensor


def is_count(value: Any) -> bool:
    """Whether a value can be a number of elements or bytes."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 60


def rebuild_tensor(budget: Budget) -> Callable[..., Tensor]:
    """The stand-in for torch._utils._rebuild_tensor_v2."""

    def make(storage: Any, offset: Any, size: Any, stride: Any, requires_grad: Any, hooks: Any,
             metadata: Any = None) -> Tensor:
        if not isinstance(storage, Storage):
            raise Refused(f"it makes a tensor from a {type(storage).__name__}")
        if not (is_count(offset) and isinstance(size, tuple) and isinstance(stride, tuple) and len(size) == len(stride)
                and len(size) <= MAX_DIMENSIONS and all(map(is_count, size + stride))):
            raise Refused("it has a tensor whose offset, size or strides are not counts; copy or download it "
                          "again")
        elements, available = prod(size), storage.values.numel()
        last = offset + sum((n - 1) * step for n, step in zip(size, stride))  # its last element, if it has any
        if elements > available or (elements and last >= available) or prod(max(n, 1) for n in size) >= 1 << 60:
            raise Refused(
                f"it claims a tensor of size {list(size)}, strides {list(stride)} and offset {offset}, but its "
                f"storage has {available} elements; copy or download it again"
            )
        budget.spend("tensor_bytes", elements * storage.values.element_size(), "more tensors")
        if not elements:
            return torch.empty(size, dtype=storage.values.dtype)
        return storage.values.as_strided(size, stride, offset)

    return make


def rebuild_parameter(data: Any, requires_grad: Any, hooks: Any) -> Tensor:
    """The stand-in for torch._utils._rebuild_parameter."""
    if not isinstance(data, Tensor):
        raise Refused(f"it makes a parameter from a {type(data).__name__}")
    return data


def storage_claim(claim: Any) -> tuple[torch.dtype, str, int, int]:
    """Returns dtype, key, elements and bytes of a persistent id ('storage', class, key, location, elements[, view]).
    The location (cpu, cuda:0) says where it was and does not matter: everything is read to the CPU."""
    if not (isinstance(claim, tuple) and len(claim) in (5, 6) and isinstance(claim[0], str) and claim[0] == "storage"
            and isinstance(claim[1], Global) and claim[1].name in DTYPES and isinstance(claim[2], str)
            and is_count(claim[4])):
        raise Refused("it has an object outside of the pickle that is no tensor storage")
    if len(claim) == 6 and claim[5] is not None:
        raise Refused(
            "it has storages inside of storages, as torch before 1.0 wrote them; save it again with a newer torch"
        )
    dtype = DTYPES[claim[1].name]
    return dtype, claim[2], claim[4], claim[4] * dtype.itemsize


def values_from(raw: Any, dtype: torch.dtype) -> Tensor:
    """Copies little-endian bytes into a tensor."""
    if not len(raw):
        return torch.empty(0, dtype=dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns that `raw` cannot be written to, but it is only copied
        values = torch.frombuffer(raw, dtype=torch.uint8).clone()
    return (values != 0) if dtype == torch.bool else values.view(dtype)


def read_legacy(data: memoryview, budget: Budget, allowed: Mapping[str, Allowed]) -> Any:
    """Reads the older stream: magic, version, system, object, keys, then per key its number of elements and bytes."""
    claims: dict[str, tuple[torch.dtype, int, Storage]] = {}

    def persistent(claim: Any) -> Storage:
        dtype, key, elements, size = storage_claim(claim)
        if key not in claims:
            left = len(data) - machine.position
            if size > left:
                raise Refused(f"it claims a tensor of {size} bytes where {left} are left; copy or download it again")
            budget.spend("storage_bytes", size, "more tensor bytes")
            claims[key] = dtype, elements, Storage(torch.empty(elements, dtype=dtype))
        if claims[key][:2] != (dtype, elements):
            raise Refused("it describes one storage in two ways")
        return claims[key][2]

    machine = Machine(data, 0, budget, {})

    def following(names: Mapping[str, Allowed]) -> Any:
        nonlocal machine
        machine = Machine(data, machine.position, budget, names, persistent)
        return machine.run()

    if machine.run() != MAGIC or following({}) != VERSION:
        raise Refused(f"it does not begin as a torch stream of version {VERSION}; copy or download it again")
    system = following({})
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise Refused("it was written by a big-endian machine; save it again on a little-endian one")
    tree = following(allowed)
    keys = following({})
    if (
        not isinstance(keys, list)
        or len(keys) != len(claims)
        or {key for key in keys if isinstance(key, str)} != set(claims)
    ):
        raise Refused("its list of storages is not the list of those used; copy or download it again")
    for key in keys:
        dtype, elements, storage = claims[key]
        if machine.number("<q") != elements:
            raise Refused("it has a storage of another length than announced; copy or download it again")
        storage.values.copy_(values_from(machine.take(elements * dtype.itemsize), dtype))
    return tree


def directory_bytes(path: Path, size: int) -> int:
    """Returns how long a zip says that its list of entries is, before that list is read into memory."""
    with open(path, "rb") as file:
        start = max(0, size - (1 << 16) - 200)
        file.seek(start)
        tail = file.read()
        end = tail.rfind(b"PK\x05\x06")
        if end < 0 or len(tail) < end + 22:
            raise Refused("it begins as a zip file but has no end record; copy or download it again")
        claims: list[int] = [struct.unpack_from("<I", tail, end + 12)[0]]
        locator = tail[max(0, end - 20):end]
        if locator.startswith(b"PK\x06\x07"):
            # Whatever the 32-bit record says, readers take the zip64 record: some where the locator points, some just
            # before the locator.
            for place in (start + end - 76, struct.unpack_from("<Q", locator, 8)[0]):
                if 0 <= place <= size - 56:
                    file.seek(place)
                    record = file.read(56)
                    if record.startswith(b"PK\x06\x06"):
                        claims.append(struct.unpack_from("<Q", record, 40)[0])
    return max(claims)


@contextmanager
def archive_of(path: Path) -> Iterator[zipfile.ZipFile]:
    """Opens a zip file whose list of entries is not too long; errors while it is read become `Refused`."""
    if directory_bytes(path, path.stat().st_size) > MAX_DIRECTORY:
        raise Refused("its zip directory is longer than that of any checkpoint")
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except Refused:
        raise
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError, RuntimeError, OverflowError,
            struct.error) as error:
        said = shown(" ".join(str(error).split()), 200)
        raise Refused(f"it is a damaged zip file ({said}); copy or download it again") from None


def read_zip(path: Path, budget: Budget, allowed: Mapping[str, Allowed]) -> Any:
    """Reads the zip that torch has written since 1.6: <name>/data.pkl, and <name>/data/<key> per storage."""
    with archive_of(path) as archive:
        return read_archive(archive, path.stat().st_size, budget, allowed)


def entries_of(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """Returns the entries by name; refuses a zip that has one name twice."""
    entries = {info.filename: info for info in archive.infolist()}
    if len(entries) != len(archive.infolist()):
        raise Refused("it is a zip file with two entries of one name, and readers differ in which they take; copy or "
                      "download it again")
    return entries


def read_archive(archive: zipfile.ZipFile, size: int, budget: Budget, allowed: Mapping[str, Allowed]) -> Any:
    """Reads an open zip of torch.save, a file of `size` bytes."""
    entries = entries_of(archive)
    roots = [name.removesuffix("data.pkl") for name in entries if name.endswith("/data.pkl") and name.count("/") == 1]
    if len(roots) != 1:
        raise Refused("it is a zip file, but not one that torch.save wrote; pass the checkpoint itself")
    check_stored(list(entries.values()), size)
    return read_data(archive, entries, roots[0], size, budget, allowed)


def check_stored(entries: Sequence[zipfile.ZipInfo], size: int) -> None:
    """Refuses entries that would take more memory than the file has bytes."""
    if any(info.compress_type != zipfile.ZIP_STORED for info in entries):
        raise Refused("its zip entries are compressed, which torch.save never does; save it again with torch")
    if sum(info.file_size for info in entries) > size:
        raise Refused("its zip entries claim more bytes than the file has; copy or download it again")


def read_data(archive: zipfile.ZipFile, entries: Mapping[str, zipfile.ZipInfo], root: str, size: int, budget: Budget,
              allowed: Mapping[str, Allowed]) -> Any:
    """Reads the object in <root>data.pkl with its storages out of <root>data/; no other tensors or code are read."""
    check_stored([info for name, info in entries.items()
                  if name in (root + "data.pkl", root + "byteorder") or name.startswith(root + "data/")], size)
    storages: dict[tuple[str, torch.dtype], Storage] = {}
    if root + "byteorder" in entries and archive.read(root + "byteorder") != b"little":
        raise Refused("it was written by a big-endian machine; save it again on a little-endian one")

    def persistent(claim: Any) -> Storage:
        dtype, key, elements, claimed = storage_claim(claim)
        name = f"{root}data/{key}"
        if name not in entries or entries[name].file_size != claimed:
            present = f"has {entries[name].file_size}" if name in entries else "is missing"
            raise Refused(
                f"it claims a tensor of {claimed} bytes, but its storage {present}; copy or download it again"
            )
        if (name, dtype) not in storages:
            budget.spend("storage_bytes", claimed, "more tensor bytes")
            storages[name, dtype] = Storage(values_from(archive.read(name), dtype))
        return storages[name, dtype]

    return Machine(memoryview(archive.read(root + "data.pkl")), 0, budget, allowed, persistent).run()
