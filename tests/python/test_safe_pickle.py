"""Tests python/rootgan/checkpoints/safe_pickle.py: ordinary files are read as torch reads them; hostile ones are refused by
name, run nothing, and take no memory."""

import argparse
import collections
import io
import json
import pickle
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from rootgan.checkpoints import detect, safe_pickle
from rootgan.checkpoints.checkpoint import CheckpointError
from pickle_parts import call, integer, legacy, name, nested, storage_id, stream, tensor, text, tuple_of, zipped

ROOT = Path(__file__).resolve().parents[2]
NVIDIA = ROOT / "tests" / "golden" / "nvidia_like_r32.pkl"
TEN_GB = 10_000_000_000


FOUR = struct.pack("<4f", 1, 2, 3, 4)
CONTAINERS = {
    "pickle": stream, "pickle of protocol 4": lambda body: stream(body, 4), "legacy": legacy, "zip": zipped,
    "stream in a pickle": lambda body: stream(nested(legacy(body))),
}
# Calls that an attacker would make. The argument is a shell command, or text for one, that leaves a marker file.
CALLS = {
    "os.system": lambda run: call("os.system", text(run)),
    "posix.system": lambda run: call("posix.system", text(run)),
    "builtins.eval": lambda run: call("builtins.eval", text(f"__import__('os').system({run!r})")),
    "builtins.exec": lambda run: call("builtins.exec", text(f"import os; os.system({run!r})")),
    "builtins.getattr": lambda run: call("builtins.getattr", name("os.system"), text("__call__")),
    "subprocess.Popen": lambda run: name("subprocess.Popen") + tuple_of(text(run)) + b"\x81",
    "nt.system": lambda run: call("nt.system", text(run)),
    "torch.load": lambda run: call("torch.load", text(run)),
    "torch.hub.load": lambda run: call("torch.hub.load", text(run), text(run)),
    "numpy.core.multiarray.fromfile": lambda run: call("numpy.core.multiarray.fromfile", text(run)),
    "torch.serialization.os.system": lambda run: call("torch.serialization.os.system", text(run)),
    "collections.OrderedDict.fromkeys": lambda run: call("collections.OrderedDict.fromkeys", text(run)),
    "functools.partial": lambda run: name("functools.partial") + tuple_of(name("os.system"), text(run)) + b"R)R",
    "_codecs.lookup": lambda run: call("_codecs.lookup", text(run)),
}


@pytest.fixture
def marker(tmp_path):
    path = tmp_path / "something ran"
    yield path
    assert not path.exists(), "code of the file was executed"


def refusal(path, data):
    path.write_bytes(data)
    with pytest.raises(CheckpointError) as caught:
        detect.read(path)
    message = str(caught.value)
    assert "\n" not in message and str(path) in message and len(message) < 600
    return message


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("called", CALLS)
def test_whatever_a_file_calls_is_refused_by_name(tmp_path, marker, called, container):
    body = CALLS[called](f"touch '{marker}'")
    named = "os.system" if called in ("functools.partial", "builtins.getattr") else called
    message = refusal(tmp_path / "hostile.pt", CONTAINERS[container](body))
    assert f"'{called}'" in message or f"'{named}'" in message
    assert "nothing of it was run" in message


def test_names_are_those_of_the_stack_too(tmp_path, marker):
    body = b"\x8c\x05posix\x8c\x06system\x93" + tuple_of(text(f"touch '{marker}'")) + b"R"
    assert "'posix.system'" in refusal(tmp_path / "hostile.pkl", stream(body, 4))


def test_the_source_text_of_a_network_is_not_run(tmp_path, marker):
    source = f"open({str(marker)!r}, 'w')"
    meta = b"}(" + text("type") + text("class") + text("version") + b"K\x06" + text("module_src") + text(source) + \
        text("class_name") + text("Generator") + text("state") + b"}u"
    file = stream(b"}" + text("G_ema") + call("torch_utils.persistence._reconstruct_persistent_obj", meta) + b"s")
    assert "expected 4, 8, 16" in refusal(tmp_path / "hostile.pkl", file)


@pytest.mark.parametrize(
    "title, body, said",
    [
        ("INST", b"(" + text("true") + b"ios\nsystem\n", "INST"),
        ("OBJ", b"(" + name("collections.OrderedDict") + b"o", "OBJ"),
        ("NEWOBJ_EX", name("collections.OrderedDict") + b")}\x92", "NEWOBJ_EX"),
        ("EXT1", b"\x82\x01", "EXT1"),
        ("PERSID", b"Pos.system\n", "PERSID"),
        ("STRING", b"S'a'\n", "STRING"),
        ("LONG4", b"\x8b\xff\xff\xff\x7f", "LONG4"),
        ("unknown byte", b"\xff", "byte 0xff"),
        ("calling text", text("os.system") + b")R", "calls a str"),
        ("calling a result", call("collections.OrderedDict") + b")R", "calls a dict"),
        ("attributes of a list", b"]}b", "sets attributes of a list"),
        ("attributes of a class", name("collections.OrderedDict") + b"}b", "sets attributes of a Global"),
        (
            "a new instance by another way",
            name("collections.OrderedDict") + b")\x81",
            "in a way that no checkpoint does",
        ),
        ("arguments of no use", call("collections.OrderedDict", b"]"), "arguments of unexpected kinds"),
        ("items into a number", b"K\x01K\x01a", "puts list items into a int"),
        ("an empty stack", b"a", "takes an object that is not there"),
        ("a mark that is not there", b"t", "closes an object that was not opened"),
        ("leftovers", b"NN", "unfinished objects"),
        ("memo", b"h\x07", "refers to object 7"),
        ("a key without value", b"}(Nu", "key without a value"),
        ("a nested key", b"})Ns", "uses a tuple as a key"),
        ("a fraction as a key", b"}G" + struct.pack(">d", 0.5) + b"Ns", "uses a float as a key"),
        ("a long number as a key", b"}" + integer(1 << 60) + b"Ns", "uses a number of more than 60 bits as a key"),
        ("text that is no text", b"X\x02\x00\x00\x00\xff\xfe", "not UTF-8"),
        ("storage from nowhere", b"NQ", "storage"),
        ("numpy objects", call("numpy.dtype", text("O8"), b"\x89", b"\x88"), "numpy type 'O8'"),
        ("numpy text", call("numpy.dtype", text("\x1b[31m"), b"\x89", b"\x88"), r"numpy type '\x1b[31m'"),
        (
            "big-endian numpy",
            call("numpy.dtype", text("f8"), b"\x89", b"\x88") + b"(K\x03" + text(">") + b"tb",
            "little-endian",
        ),
    ],
)
def test_what_no_checkpoint_does_is_refused(tmp_path, title, body, said):
    for container in (stream, legacy, zipped):
        assert said in refusal(tmp_path / "hostile.pt", container(body))


def test_old_protocols_and_other_endings(tmp_path):
    assert "of no known format" in refusal(tmp_path / "a.pkl", b"cos\nsystem\n(S'true'\ntR.")
    assert "protocol 9" in refusal(tmp_path / "a.pkl", stream(b"\x80\x09N"))
    assert "300 or more letters" in refusal(tmp_path / "a.pkl", stream(b"c" + b"a" * 5000))
    assert "big-endian" in refusal(tmp_path / "a.pt", legacy(b"N", system={"little_endian": False}))
    assert "big-endian" in refusal(tmp_path / "a.pt", zipped(b"N", {"byteorder": b"big"}))


HUGE = {
    "bytes": stream(b"\x8e" + struct.pack("<Q", TEN_GB)),
    "bytes of 4 GB": stream(b"B\xff\xff\xff\xff"),
    "text": stream(b"\x8d" + struct.pack("<Q", TEN_GB)),
    "frame": stream(b"\x95" + struct.pack("<Q", TEN_GB), 4),
    "legacy storage": legacy(tensor(storage_id(elements=TEN_GB // 4)), FOUR, ["0"]),
    "nested storage": stream(nested(legacy(storage_id(elements=TEN_GB // 4), FOUR, ["0"]))),
    "zip storage": zipped(tensor(storage_id(elements=TEN_GB // 4)), {"data/0": FOUR}),
    "missing zip storage": zipped(tensor(storage_id(elements=TEN_GB // 4))),
    "size": legacy(tensor(storage_id(), (TEN_GB // 4,)), FOUR, ["0"]),
    "size without stride": zipped(tensor(storage_id(), (TEN_GB // 4,), (0,)), {"data/0": FOUR}),
    "sizes that overflow": zipped(tensor(storage_id(), (1 << 40, 1 << 40), (0, 0)), {"data/0": FOUR}),
    "empty but vast": zipped(tensor(storage_id(), (0, 1 << 40, 1 << 40), (0, 0, 0)), {"data/0": FOUR}),
    "offset": zipped(tensor(storage_id(), offset=TEN_GB), {"data/0": FOUR}),
    "count": legacy(tensor(storage_id()), FOUR, ["0"], count=TEN_GB),
    "zip bomb": zipped(tensor(storage_id()), {"data/0": bytes(1 << 26)}, zipfile.ZIP_DEFLATED),
    "one storage, many types": zipped(
        b"("
        + b"".join(
            storage_id("0", 4000 // size, f"torch.{kind}Storage")
            for kind, size in (
                ("Float", 4),
                ("Half", 2),
                ("Double", 8),
                ("Long", 8),
                ("Int", 4),
                ("Byte", 1),
                ("Bool", 1),
                ("BFloat16", 2),
            )
        )
        + b"t",
        {"data/0": bytes(4000)},
    ),
    "one stream, many times": stream(
        b"B"
        + struct.pack("<I", len(legacy(storage_id(), FOUR, ["0"])))
        + legacy(storage_id(), FOUR, ["0"])
        + b"q\x000("
        + (name("torch.storage._load_from_bytes") + b"h\x00\x85R") * 1000
        + b"t"
    ),
    "one storage, many tensors": zipped(
        b"(" + storage_id(elements=1 << 20) + b"q\x00" + tensor(b"h\x00", (1 << 20,)) * 20 + b"t",
        {"data/0": bytes(1 << 22)},
    ),
    "many instructions": stream(b"]" * 3_000_000),
    "many sets": stream(b"(" + b"\x8f" * 1_999_990 + b"t", 4),
    "many empty tensors": legacy(
        storage_id() + b"q\x000" + name("torch._utils._rebuild_tensor_v2") + b"q\x010"
        + tensor(b"h\x00", (0,)).removeprefix(name("torch._utils._rebuild_tensor_v2"))[:-1] + b"q\x020("
        + b"h\x01h\x02R" * 660_000 + b"t", FOUR, ["0"]),
    "many keys of one hash": stream(
        b"}(" + b"".join(b"\x8a\x10" + (i * ((1 << 61) - 1)).to_bytes(16, "little") + b"N" for i in range(20_000))
        + b"u"
    ),
}
SHAPES = {
    "a list in itself": b"]q\x00h\x00a",
    "a dict in itself": b"}q\x00" + text("G_ema") + b"h\x00s",
    "a list in its tuple": b"]q\x00h\x00\x85a",
    "a network in itself": b"}q\x00("
    + text("class_name")
    + text("Generator")
    + text("state")
    + b"}q\x01u"
    + name("torch_utils.persistence._reconstruct_persistent_obj")
    + b"h\x00\x85Rq\x02h\x01"
    + text("_modules")
    + b"h\x02s\x86",
    "deep lists": b"]" * 500 + b"a" * 499,
    "deep tuples": b")" + b"\x85" * 200_000,
    "deep marks": b"(" * 5000,
    "a billion laughs": b"]q\x00" + b"".join(b"](" + b"h\x00" * 10 + b"eq\x00" for _ in range(30)),
    "laughing tuples": b")q\x00" + b"h\x00h\x00\x86q\x00" * 90,
}


# Files in which every instruction asks for one more copy of a stored container.
ENTRIES = 50_000
COPIES = {
    "sets": stream(
        name("builtins.set") + b"q\x00(" + b"".join(b"J" + struct.pack("<i", i) for i in range(ENTRIES))
        + b"t\x85q\x01(" + b"h\x00h\x01R" * 1000 + b"t", 3),
    "namespaces": legacy(
        name("argparse.Namespace") + b"q\x00)q\x01}q\x02(" + b"".join(text(f"{i:05}") + b"N" for i in range(ENTRIES))
        + b"u(" + b"h\x00h\x01\x81h\x02b" * 1500 + b"t"),
}


def zip_with_two_directory_sizes(entries=20 << 20):
    """Makes a zip whose ordinary end record claims a short list of entries, while its zip64 record, which readers take,
    claims a long one."""
    directory = b"\0" * entries
    end64 = struct.pack("<4sQHHIIQQQQ", b"PK\x06\x06", 44, 45, 45, 0, 0, 1, 1, entries, 4)
    locator = struct.pack("<4sIQI", b"PK\x06\x07", 0, 4 + entries, 1)
    end = struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, 1, 1, 100, 4, 0)
    return b"PK\x03\x04" + directory + end64 + locator + end


@pytest.mark.parametrize("title", COPIES)
def test_copies_of_a_stored_object_are_paid_for(tmp_path, title):
    assert "more copies" in refusal(tmp_path / "hostile.pt", COPIES[title])


def test_the_directory_size_is_the_one_that_zip_readers_take(tmp_path):
    assert "zip directory is longer" in refusal(tmp_path / "hostile.pt", zip_with_two_directory_sizes())


@pytest.mark.parametrize("claim", HUGE)
def test_claims_are_compared_with_the_file(tmp_path, claim):
    message = refusal(tmp_path / "hostile.pt", HUGE[claim])
    assert any(said in message for said in ("claims", "length", "more", "compressed", "several", "60 bits")), message


@pytest.mark.parametrize("title", SHAPES)
def test_structures_without_end_are_refused(tmp_path, title):
    message = refusal(tmp_path / "hostile.pkl", stream(SHAPES[title]))
    assert any(
        said in message
        for said in ("contains itself", "nested more than", "nests more than", "expand to", "unfinished")
    ), message


def test_hostile_files_take_no_memory(tmp_path):
    """Reads all of them in one process and looks at the memory beyond what Python and torch themselves take."""
    cases = [
        *HUGE.values(),
        *map(stream, SHAPES.values()),
        *COPIES.values(),
        zip_with_two_directory_sizes(),
        *(make(body("true")) for make in CONTAINERS.values() for body in CALLS.values()),
    ]
    for i, case in enumerate(cases):
        (tmp_path / f"{i}.pt").write_bytes(case)
    program = """
import json, pathlib, re, sys
sys.path.insert(0, sys.argv[1])
from rootgan.checkpoints import detect
from rootgan.checkpoints.checkpoint import CheckpointError
def peak():  # since this program began
    return 1024 * int(re.search(r"VmHWM:\\s*(\\d+)", pathlib.Path("/proc/self/status").read_text())[1])
refused, before, files = 0, peak(), sorted(pathlib.Path(sys.argv[2]).glob("*.pt"))
for file in files:
    try:
        detect.read(file)
    except CheckpointError:
        refused += 1
print(json.dumps([len(files), refused, before, peak()]))
"""
    done = subprocess.run(
        [sys.executable, "-c", program, ROOT / "python", tmp_path], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    files, refused, before_bytes, peak_bytes = json.loads(done.stdout)
    assert files == refused == len(cases)
    print(f"peak: {peak_bytes / 1e6:.0f} MB, {(peak_bytes - before_bytes) / 1e6:.0f} MB of it for the files")
    assert peak_bytes < 1 << 30 and peak_bytes - before_bytes < 256 << 20


def test_a_file_that_was_cut_off_is_refused_wherever_it_was_cut(tmp_path):
    data = NVIDIA.read_bytes()
    path = tmp_path / "cut.pkl"
    for end in [*range(1024, len(data), 1024), len(data) - 1]:
        path.write_bytes(data[:end])
        with pytest.raises(CheckpointError, match="copy or download it again"):
            detect.read(path)


@pytest.mark.parametrize("new_format", [True, False], ids=["zip", "legacy"])
def test_a_torch_file_that_was_cut_off_or_bent_is_refused(tmp_path, new_format):
    file = io.BytesIO()
    torch.save({"a": torch.arange(4000.0), "b": torch.ones(3)}, file, _use_new_zipfile_serialization=new_format)
    data, path = file.getvalue(), tmp_path / "cut.pt"
    for end in range(20, len(data), 499):
        path.write_bytes(data[:end])
        with pytest.raises(CheckpointError):
            safe_pickle.load_torch(path)
    for at in range(
        20, len(data), 97
    ):  # flipped bytes may go unnoticed in numbers; if they are noticed, the file is refused and nothing else happens
        path.write_bytes(data[:at] + bytes([data[at] ^ 0x41]) + data[at + 1:])
        try:
            safe_pickle.load_torch(path)
        except CheckpointError:
            pass


def equal(a, b):
    if isinstance(b, torch.Tensor):
        return torch.equal(a, b) and a.dtype == b.dtype and a.stride() == b.stride()
    if isinstance(b, argparse.Namespace):
        return isinstance(a, safe_pickle.Namespace) and equal(dict(a), vars(b))
    if isinstance(b, dict):
        return list(a) == list(b) and all(equal(a[key], b[key]) for key in b)
    if isinstance(b, (list, tuple)):
        return type(a) is type(b) and len(a) == len(b) and all(map(equal, a, b))
    return type(a) is type(b) and a == b


@pytest.mark.parametrize("new_format", [True, False], ids=["zip", "legacy"])
def test_what_torch_saves_is_what_is_read(tmp_path, new_format):
    base = torch.arange(60.0)
    tree = {
        "g": collections.OrderedDict(
            weight=torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last), bias=torch.nn.Parameter(base)
        ),
        "slice": base[7:19].view(3, 4).t(),
        "empty": torch.empty(0, 3),
        "scalar": torch.tensor(2.5),
        "shared": [base, base],
        "kinds": [
            torch.tensor([1, 0, 2], dtype=kind)
            for kind in (
                torch.float16,
                torch.bfloat16,
                torch.float64,
                torch.int64,
                torch.int32,
                torch.uint8,
                torch.bool,
            )
        ],
        "args": argparse.Namespace(size=256, path="data", tuple=(1, 2), none=None, yes=True),
        "numbers": [0, -1, 255, 65535, 1 << 40, -(1 << 80), 0.1, float("inf")],
        "text": "\u00e9\u4e2d" * 200,
        "p": 0.25,
    }
    tree["g"]._metadata = {"": {"version": 1}}
    torch.save(tree, tmp_path / "file.pt", _use_new_zipfile_serialization=new_format)
    found = safe_pickle.load_torch(tmp_path / "file.pt")
    found["g"]["bias"] = torch.nn.Parameter(found["g"]["bias"])
    assert equal(found, tree)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_numbers_of_numpy_become_pythons(tmp_path, protocol):
    values = [np.float64(0.1), np.float32(0.5), np.int64(-7), np.bool_(True), np.uint8(200)]
    (tmp_path / "file.pkl").write_bytes(pickle.dumps(values, protocol))
    assert equal(safe_pickle.load_pickle(tmp_path / "file.pkl"), [value.item() for value in values])


@pytest.mark.parametrize("arguments, said", [
    ((b"K\x01", text("latin1")), "in an encoding that"), ((text("a"), text("rot13")), "in an encoding that"),
    ((text("\u20ac"), text("latin1")), "bytes that are none"), ((text("a"),), "arguments of unexpected kinds"),
])
def test_bytes_of_protocol_2_are_decoded_in_one_way_only(tmp_path, arguments, said):
    assert said in refusal(tmp_path / "file.pkl", stream(b"}" + text("a") + call("_codecs.encode", *arguments) + b"s"))


def test_torchscript_and_other_zips_are_told_apart(tmp_path):
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), tmp_path / "script.pt")
    with pytest.raises(CheckpointError, match="it is TorchScript that does not describe itself"):
        detect.read(tmp_path / "script.pt")
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("picture.png", b"")
    with pytest.raises(CheckpointError, match="not one that torch.save wrote"):
        detect.read(tmp_path / "other.zip")
