"""Writes hostile pickles and torch files instruction by instruction, because no pickler makes them."""

import io
import pickle
import struct
import zipfile

from rootgan.checkpoints.torch_files import LEGACY_START

SYSTEM = {"little_endian": True, "protocol_version": 1001, "type_sizes": {"short": 2, "int": 4, "long": 4}}


def text(value):
    raw = value.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw


def integer(value):
    raw = value.to_bytes(9, "little", signed=True)
    return b"\x8a\x09" + raw


def name(full):
    module, _, last = full.rpartition(".")
    return f"c{module}\n{last}\n".encode()


def tuple_of(*parts):
    return b"(" + b"".join(parts) + b"t"


def call(full, *arguments):
    return name(full) + tuple_of(*arguments) + b"R"


def stream(body, protocol=2):
    return b"\x80" + bytes([protocol]) + body + b"."


def storage_id(key="0", elements=4, kind="torch.FloatStorage", location="cpu"):
    return tuple_of(text("storage"), name(kind), text(key), text(location), integer(elements), b"N") + b"Q"


def tensor(storage, size=(4,), stride=(1,), offset=0):
    counts = [tuple_of(*map(integer, numbers)) for numbers in (size, stride)]
    return call(
        "torch._utils._rebuild_tensor_v2", storage, integer(offset), *counts, b"\x89", call("collections.OrderedDict")
    )


def legacy(body, data=b"", keys=(), system=None, count=None):
    """Makes an older torch stream whose object is `body`. Each storage has `data`, and claims `count` elements."""
    parts = [
        LEGACY_START,
        pickle.dumps(1001, 2),
        pickle.dumps(system or SYSTEM, 2),
        stream(body),
        pickle.dumps(list(keys), 2),
    ]
    return b"".join(parts) + b"".join(struct.pack("<q", count or len(data) // 4) + data for _ in keys)


def zipped(body, entries=(), compression=zipfile.ZIP_STORED):
    """Makes a zip as torch.save does, whose object is `body`."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        archive.writestr("archive/data.pkl", stream(body))
        for entry, data in dict(entries).items():
            archive.writestr(f"archive/{entry}", data)
    return file.getvalue()


def nested(data):
    """Makes a storage as NVIDIA's pickles hold it: a torch stream inside the pickle."""
    return call("torch.storage._load_from_bytes", b"B" + struct.pack("<I", len(data)) + data)
