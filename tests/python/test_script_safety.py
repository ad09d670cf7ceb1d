"""Compares the lists of operators in src/model/safety with the operators that libtorch has."""

import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "src/model/safety"


def words(name: str) -> list[str]:
    lines = (FOLDER / name).read_text().splitlines()
    return [word for line in lines if not line.startswith("#") for word in line.split()]


def allowed() -> set[str]:
    names = set()
    for word in words("operators.txt"):
        names |= {word[:-1], word[:-1] + "_"} if word.endswith("*") else {word}
    return names


def operators() -> set[str]:
    # They are listed in a process of their own, because exporting to ONNX adds operators to the process that does it.
    code = "import torch; print(*{schema.name for schema in torch._C._jit_get_all_schemas()})"
    made = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    names = [name.split("::") for name in made.split()]
    return {name for namespace, name in names if namespace in ("aten", "prim", "prims", "inductor")}


def test_every_operator_of_libtorch_is_on_one_of_the_lists() -> None:
    missing = operators() - allowed() - set(words("other_operators.txt"))
    assert not missing, sorted(missing)


def test_no_name_is_on_both_lists() -> None:
    assert not allowed() & set(words("other_operators.txt"))


def test_nothing_that_writes_files_memory_or_classes_is_allowed() -> None:
    outside = {"save", "load", "from_file", "set_", "set_data", "resize_", "resize_as_", "record_stream", "Print", "print",
               "_reinterpret_tensor", "CallMethod", "CallFunction", "fork", "awaitable", "SetAttr", "PythonOp", "CreateObject",
               "open", "timeSeconds", "_export_opnames", "unpackage", "eval"}
    assert not outside & allowed()
