"""Makes TorchScript files: legitimate ones of many kinds in good/, and in bad/ what must never be loaded, each with a word
of the reason after two underscores in its name. python make.py FOLDER"""

import io
import pickle
import re
import struct
import sys
import zipfile
from enum import Enum
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

OUT = Path(sys.argv[1])
GOOD, BAD = OUT / "good", OUT / "bad"
GOOD.mkdir(parents=True)
BAD.mkdir()


# Legitimate files.

class Point(NamedTuple):
    x: Tensor
    y: int


class Colour(Enum):
    RED = 1
    GREEN = 2


class Block(nn.Module):
    def __init__(self, channels: int, stride: int = 1):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample: Optional[nn.Module] = nn.Conv2d(channels, channels, 1, stride) if stride > 1 else None

    def forward(self, x: Tensor) -> Tensor:
        identity = x
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        out = self.bn2(self.conv2(out))
        if self.downsample is not None:
            identity = self.downsample(x)
        out += identity
        return F.relu(out)


class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 7, 2, 3), nn.BatchNorm2d(8), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1))
        self.blocks = nn.ModuleList([Block(8), Block(8, 2)])
        self.heads = nn.ModuleDict({"main": nn.Linear(8, 4), "aux": nn.Linear(8, 4)})
        self.dropout = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.interpolate(x, size=[64, 64], mode="bilinear", align_corners=False, antialias=True)
        x = (x - x.mean(dim=[2, 3], keepdim=True)) / (x.std(dim=[2, 3], keepdim=True) + 1e-6)
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        x = F.adaptive_avg_pool2d(x, (1, 1)).flatten(1)
        total = self.dropout(x)
        for head in self.heads.values():
            total = total + F.pad(F.log_softmax(head(x), dim=1), [0, 4])
        return total


class Kinds(nn.Module):
    numbers: List[int]
    names: Dict[str, float]
    pair: Tuple[int, Tensor]
    nothing: Optional[Tensor]
    colour: Colour
    lists: List[List[float]]
    tensors: Dict[str, Tensor]

    def __init__(self):
        super().__init__()
        self.numbers, self.names, self.pair, self.nothing = [1, 2, 300], {"a": 1.5}, (3, torch.ones(2)), None
        self.colour, self.flag, self.text, self.lists = Colour.GREEN, True, "it's \"so\"\n\\", [[1.0], []]
        self.tensors, self.negative = {"w": torch.zeros(2, 2)}, [-1.5, 2.0]
        self.register_buffer("halves", torch.ones(3, dtype=torch.float16))
        self.register_buffer("mask", torch.tensor([True, False]))
        self.register_buffer("turned", torch.arange(6.0).reshape(2, 3).t())
        self.register_buffer("scalar", torch.tensor(3))

    def point(self, x: Tensor) -> Point:
        return Point(x, self.numbers[0])

    def forward(self, x: Tensor) -> Tensor:
        total = x.sum() + self.names["a"] + self.pair[0] + self.point(x).y
        for number in self.numbers:
            total = total + number
        if self.colour == Colour.GREEN and self.nothing is None:
            total = total * 2
        try_it = [v for v in self.negative]
        assert len(try_it) == 2, "two are expected, {} found".format(len(try_it))
        return total + self.tensors["w"].sum() + self.halves.float().sum() + len(self.text)


class Mapping(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(*[nn.Sequential(nn.Linear(16, 16), nn.LeakyReLU(0.2)) for _ in range(3)], nn.Linear(16, 192))
        self.register_buffer("w_avg", torch.zeros(16))

    @torch.jit.export
    def truncated(self, z: Tensor, psi: float = 0.7, cut: Optional[int] = None) -> Tensor:
        w = z * z.square().mean(1, keepdim=True).add(1e-8).rsqrt()
        if psi != 1.0:
            w = self.w_avg.lerp(w, psi)
        return w if cut is None else w[:, :cut]

    def forward(self, z: Tensor, c: Optional[Tensor] = None) -> Tensor:
        x = self.net(self.truncated(z, 1.0, None))
        noise = torch.randn([z.shape[0], 192], device=z.device)
        x = torch.einsum("ij,ij->ij", x, torch.ones_like(noise)) + 0.0 * noise
        return torch.tanh(x).view(-1, 3, 8, 8)


torch.manual_seed(0)
picture = torch.rand(2, 3, 32, 32)
classifier = Classifier().eval()
torch.jit.script(classifier).save(GOOD / "scripted.pt")
torch.jit.trace(classifier, picture).save(GOOD / "traced.pt")
torch.jit.freeze(torch.jit.script(classifier)).save(GOOD / "frozen.pt")
torch.jit.freeze(torch.jit.trace(classifier, picture)).save(GOOD / "traced_frozen.pt")
torch.jit.optimize_for_inference(torch.jit.script(nn.Sequential(nn.Linear(2, 2)).eval())).save(GOOD / "optimized.pt")
torch.jit.script(Kinds()).save(GOOD / "kinds.pt")
torch.jit.script(Mapping()).save(GOOD / "mapping.pt")
torch.jit.trace_module(Mapping(), {"forward": torch.randn(2, 16)}, check_trace=False).save(GOOD / "mapping_traced.pt")
torch.jit.script(nn.Sequential(nn.Linear(4, 4), nn.Unflatten(1, (1, 2, 2)))).save(GOOD / "sequential.pt")
(GOOD / "optimized.pt").unlink()  # its operators are those of one processor (oneDNN)


# Files that must not be loaded: a plain one, changed.

class Plain(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.arange(4.0))
        self.inner = nn.Linear(2, 2)
        self.names = ["a", "b"]

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x * self.weight[0])

    @torch.jit.export
    def describe(self) -> str:
        return "{}"


buffer = io.BytesIO()
torch.jit.save(torch.jit.script(Plain()), buffer)
with zipfile.ZipFile(io.BytesIO(buffer.getvalue())) as archive:
    ENTRIES = {name.split("/", 1)[1]: archive.read(name) for name in archive.namelist()}
MAIN = "code/__torch__.py"
(GOOD / "plain.pt").write_bytes(buffer.getvalue())


def zipped(entries: list[tuple[str, bytes]], root: str = "archive/") -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, content in entries:
            archive.writestr((root if ":" not in name else "") + name.removeprefix(":"), content)
    return made.getvalue()


def write(name: str, data: bytes) -> None:
    (BAD / f"{name}.pt").write_bytes(data)


def changed(name: str, entry: str, content: bytes) -> None:
    write(name, zipped([(key, content if key == entry else value) for key, value in ENTRIES.items()]))


(GOOD / "zipped_again.pt").write_bytes(zipped(list(ENTRIES.items())))

CODE = ENTRIES[MAIN].decode()
FORWARD = CODE.index("    x: Tensor) -> Tensor:\n") + len("    x: Tensor) -> Tensor:\n")
# As deep as is allowed: libtorch's compiler must have stack enough for it.
nested = "x"
for _ in range(22):
    nested = f"torch.add({nested}, x) + x + x + x"
nested += " + x" * 30
deepest = CODE[:FORWARD] + f"    _9 = {nested}\n" + CODE[FORWARD:]
(GOOD / "plain_deepest.pt").write_bytes(zipped([(key, deepest.encode() if key == MAIN else value)
                                               for key, value in ENTRIES.items()]))
LINEAR_NAME = re.search(r"inner : (\S+)", CODE)[1]
LINES = {
    "save__torch.save": '_9 = torch.save(x, "p")',
    "from_file__torch.from_file": '_9 = torch.from_file("p", False, 9)',
    "ops_save__ops.aten.save": '_9 = ops.aten.save(x, "p")',
    "spaces__torch.save": '_9 = torch . save(x, "p")',
    "lines__torch.save": '_9 = (torch\n      .save(x, "p"))',
    "method__torch.save": '_9 = x.save("p")',
    "method_of_call__torch.set_data": "_9 = (torch.neg(x)).set_data(x)",
    "inductor__ops.inductor": "_9 = ops.inductor._reinterpret_tensor(x, [9], [1], 0)",
    "classes__torch.classes": '_9 = __torch__.torch.classes._nnapi.Compilation()',
    "alias__without an operator": 't = torch\n    _9 = t.save(x, "p")',
    "alias_of_ops__ops.aten": 't = ops.aten\n    _9 = t.save(x, "p")',
    "alias_of_namespace__does not define": "t = __torch__.torch\n    _9 = t.classes._nnapi.Compilation()",
    "alias_of_operator__torch.save": 'f = torch.save\n    _9 = f(x, "p")',
    "alias_of_method__torch.save": 'f = x.save\n    _9 = f("p")',
    "alias_in_tuple__torch.save": 'f, g = x.save, 1\n    _9 = f("p")',
    "call_of_variable__may be anything": 'f = x\n    _9 = f("p")',
    "call_of_call__without a name": '_9 = getattr(x, "size")()',
    "getattr__getattr of something": 'f = getattr(x, "save")',
    "getattr_nested__getattr of something": 'f = getattr(getattr(self, "inner"), "save")',
    "call_of_item__without a name": '_9 = [x][0]("p")',
    "print__print": 'print("x")',
    "prim_print__ops.prim.Print": 'ops.prim.Print("x")',
    "fork__fork": "_9 = fork(x)",
    "import__import": "import os",
    "comment__code has '#'": "# x",
    r"backslash__code has '\\'": "_9 = torch.\\\n      save(x)",
    r"tab__code has '\t'": "\t_9 = x",
    "triple__code has '\\\"'": '_9 = """x"""',
    "prefix__code has 'r'": '_9 = r"x"',
    "semicolon__code has ';'": "_9 = x; _8 = x",
    "number_method__code has '3'": '_9 = 3..save("p")',
    "letters__code has 'ſ'": "_9 = x.ſave",
    "private__torch._C": "_9 = torch._C._jit_something(x)",
    "resize__torch.resize_": "_9 = torch.resize_(x, [99999])",
    "unknown_method__the method": "_9 = x.nothing_known(1)",
    "shadow__may be anything": 'for_each = ' + LINEAR_NAME + '\n    for_each = x\n    _9 = for_each("p")',
    "deep_brackets__too deep": "_9 = " + "(" * 100_000 + "x" + ")" * 100_000,
    "deep_signs__too deep": "_9 = " + "-" * 100_000 + "1",
    "deep_not__too deep": "_9 = " + "not " * 100_000 + "True",
    "deep_sum__too deep": "_9 = x" + " + x" * 100_000,
    "deep_compare__too deep": "_9 = x" + " == x" * 100_000,
    "deep_points__too deep": "_9 = x" + ".T" * 100_000,
    "deep_items__too deep": "_9 = x" + "[0]" * 100_000,
    "deep_else__too deep": "_9 = " + "x if True else " * 100_000 + "x",
}
for name, line in LINES.items():
    changed(f"code_{name}", MAIN, (CODE[:FORWARD] + "    " + line + "\n" + CODE[FORWARD:]).encode())
chain = "    if True:\n      pass\n" + "    elif True:\n      pass\n" * 100_000
changed("code_deep_elif__too deep", MAIN, (CODE[:FORWARD] + chain + CODE[FORWARD:]).encode())
blocks = "".join("  " * (2 + depth) + "if True:\n" for depth in range(2000)) + "  " * 2002 + "pass\n"
changed("code_deep_blocks__too deep", MAIN, (CODE[:FORWARD] + blocks + CODE[FORWARD:]).encode())
for name, method in (("setstate__'__setstate__'", "__setstate__(self, state: int) -> NoneType"),
                     ("method_save__is an operator's name", "save(self, path: str) -> NoneType")):
    changed(f"code_{name}", MAIN, (CODE + f"  def {method}:\n    return None\n").encode())

# Objects of one class where the code believes in another: libtorch reads them by place, beyond their end.


class Few(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("slot0", torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.slot0


class Many(nn.Module):
    def __init__(self):
        super().__init__()
        for i in range(64):
            self.register_buffer(f"slot{i}", torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.slot63


class Holder(nn.Module):
    def __init__(self):
        super().__init__()
        self.held = Few()
        self.other = Many()
        self.name = "aaaa"
        self.mane = "bbbb"

    def forward(self, x: Tensor) -> Tensor:
        return self.held(x) + self.other(x) + len(self.name) + len(self.mane)


@torch.jit.interface
class Scales(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        pass


class Turns(nn.Module):
    def forward(self, x: Tensor, twice: bool) -> Tensor:
        return -x if twice else x


class Either(nn.Module):
    held: Scales

    def __init__(self):
        super().__init__()
        self.held = Few()
        self.other = Turns()

    def forward(self, x: Tensor) -> Tensor:
        return self.other(self.held.forward(x), True)


class Recurrent(nn.Module):
    """Casts what was declared Optional, to classes and tuples: from parameters, from attributes."""

    start: Optional[Tuple[Tensor, Tensor]]

    def __init__(self):
        super().__init__()
        self.start = None

    def step(self, x: Tensor, state: Optional[Tuple[Tensor, Tensor]] = None) -> Tensor:
        if state is None:
            state = (x, x)
        return state[0] + state[1]

    def forward(self, x: Tensor) -> Tensor:
        start = self.start
        if start is not None:
            x = x + start[0]
        return self.step(x) + self.step(x, (x, x))


def entries_of(module: nn.Module) -> dict[str, bytes]:
    made = io.BytesIO()
    torch.jit.save(torch.jit.script(module), made)
    with zipfile.ZipFile(io.BytesIO(made.getvalue())) as archive:
        return {name.split("/", 1)[1]: archive.read(name) for name in archive.namelist()}


class Indices(nn.Module):
    def __init__(self):
        super().__init__()
        self.pool = nn.MaxPool2d(2, return_indices=True)

    def forward(self, x: Tensor) -> Tensor:
        most, at = self.pool(x)
        return most + at.to(most.dtype)


for name, module in (("indices", Indices()), ("recurrent", Recurrent()), ("holder", Holder()), ("either", Either())):
    (GOOD / f"{name}.pt").write_bytes(zipped(list(entries_of(module).items())))

HOLDER, EITHER = entries_of(Holder()), entries_of(Either())
TEXT = HOLDER[MAIN].decode()


def held(name: str, code: str, entries: dict[str, bytes] = HOLDER) -> None:
    assert code.encode() != entries[MAIN], name
    write(f"object_{name}", zipped([(key, code.encode() if key == MAIN else value) for key, value in entries.items()]))


WRONG = TEXT.replace("held : __torch__.Few", "held : __torch__.Many", 1)
held("type__missing, or not of its type", WRONG)
held("indent__indented", re.sub(r"(?m)^  ", "    ", WRONG))
CALL = re.search(r"\n( +)(\w+) = \((\w+)\)\.forward\(x, \)", TEXT)
for name, lines in {
    "cast__unchecked_cast": "b = unchecked_cast(__torch__.Many, {held})",
    "cast_of_any__unchecked_cast": "a : Any = {held}\n{space}b = unchecked_cast(__torch__.Many, a)",
    "cast_of_tuple__unchecked_cast": "a = (x, )\n{space}b = unchecked_cast(Tuple[Tensor, Tensor], a)",
    "cast_of_list__unchecked_cast": "a = [{held}]\n{space}b = unchecked_cast(List[__torch__.Many], a)",
    "cast_of_expression__unchecked_cast": "b = unchecked_cast(__torch__.Many, [{held}][0])",
    "builtin_getattr__may be anything": 'len = getattr\n{space}b = len({held}, "save")',
    "builtin_cast__may be anything": "len = unchecked_cast\n{space}b = len(__torch__.Many, {held})",
    "builtin_loop__may be anything": "for len in [x]:\n{space}  b = len(x)",
    "launder__unchecked_cast": "a : Any = [{held}]\n{space}b = unchecked_cast(List[Tensor], a)",
    "nested__inside another": "def go(p: Optional[__torch__.Many]) -> int:\n{space}  return 1",
    "batch_norm__native_batch_norm": "b = torch.native_batch_norm(x, None, None, x, x, True, 0.1, 0.001)",
}.items():
    space = CALL[1]
    held(name, TEXT[:CALL.start() + 1] + space + lines.format(held=CALL[3], space=space) + TEXT[CALL.start():])
OPTIONAL = entries_of(Recurrent())
STEP = OPTIONAL[MAIN].decode()
CAST = re.search(r"\n( +)\w+ = unchecked_cast\(Tuple\[Tensor, Tensor\], state\)", STEP)
held("cast_of_wider__unchecked_cast", STEP.replace("unchecked_cast(Tuple[Tensor, Tensor], state)",
                                                   "unchecked_cast(Tuple[Tensor, Tensor, Tensor], state)"), OPTIONAL)
# Other values than the declared ones, in every way in which a name can get one.
for name, line in {
    "annotated": "state : Any = x", "chained": "other = state = x", "target": "l[0], state, = x, x", "attribute": "self.t, state, = x, x",
    "loop": "for state in [x]:\n      pass", "with": "with x as state:\n      pass", "list": "l = [1 for state in [x]]",
}.items():
    held(f"cast_after_{name}__unchecked_cast", STEP[:CAST.start() + 1] + "    " + line + "\n" + STEP[CAST.start() + 1:], OPTIONAL)
held("cast_of_union__unchecked_cast", STEP.replace("state: Optional[Tuple[Tensor, Tensor]]=", "state: Optional[Tuple[Tensor, Tensor]] | int="),
     OPTIONAL)
held("cast_of_two__unchecked_cast", STEP.replace("    x: Tensor,\n    state:", "    state: Optional[Tuple[Tensor, Tensor]],\n    state:"), OPTIONAL)
held("column0__missing, or not of its type", WRONG.replace("  held : __torch__.Many", "  def go(self: __torch__.Holder) -> int:\n    a = (1,\n2)\n    return 1\n  held : __torch__.Many", 1))
held("twice__twice", TEXT + TEXT[TEXT.index("class Few"):])
for other in (MAIN + ".py", "code/code/__torch__.py", "code/__torch__.more.py", "code//__torch__.py"):
    write(f"object_name_{len(other)}_{other.count('code')}__unusual name", zipped([*HOLDER.items(), (other, HOLDER[MAIN])]))
DATA_OF_HOLDER = HOLDER["data.pkl"]
assert DATA_OF_HOLDER.count(b"mane") == 1
write("object_repeated__twice", zipped([(key, value.replace(b"mane", b"name") if key == "data.pkl" else value)
                                        for key, value in HOLDER.items()]))
write("object_interface__missing, or not of its type", zipped(
    [(key, value.replace(b"held : __torch__.Scales\n  other : __torch__.Turns", b"held : __torch__.Turns\n  other : __torch__.Turns")
      .replace(b"X", b"X") if key == MAIN else value) for key, value in EITHER.items()]))
# An object that lacks the interface's arguments, put where the interface is declared.
FEW, TURNS = b"c__torch__\nFew\n", b"c__torch__\nTurns\n"
SWAPPED = EITHER["data.pkl"]
assert SWAPPED.count(FEW) == SWAPPED.count(TURNS) == 1
write("object_arguments__missing, or not of its type",
      zipped([(key, value.replace(FEW, TURNS) if key == "data.pkl" else value) for key, value in EITHER.items()]))

class Listed(nn.Module):
    def __init__(self):
        super().__init__()
        self.held = Few()
        self.other = Many()
        self.first = [1, 2]
        self.second = 7

    def forward(self, x: Tensor) -> Tensor:
        return self.held(x) + self.other(x) + len(self.first) + self.second


LISTED = entries_of(Listed())
LISTED_CODE, LISTED_DATA = LISTED[MAIN].decode(), LISTED["data.pkl"]
FIRST = re.search(rb"X\x05\x00\x00\x00firstq(.)(ctorch\.jit\._pickle\nbuild_intlist\nq.\(\]\(K\x01K\x02etR)", LISTED_DATA, re.DOTALL)
SECOND = re.search(rb"X\x06\x00\x00\x00secondq.(K\x07)", LISTED_DATA, re.DOTALL)
BODY = LISTED_CODE.index("    x: Tensor) -> Tensor:\n") + len("    x: Tensor) -> Tensor:\n")
KEPT = FIRST[2][FIRST[2].index(b"q"):][:2]  # where the memo keeps what is put there


def text_of(name: str) -> bytes:
    return b"X" + struct.pack("<I", len(name)) + name.encode()


def tagged(value: bytes, kind: str) -> bytes:
    return b"ctorch.jit._pickle\nrestore_type_tag\n(" + value + text_of(kind) + b"tR"


def listed(name: str, first: str, second: str, values: tuple[bytes, bytes]) -> None:
    """Two attributes of other types and values than the module's."""
    code = LISTED_CODE.replace("first : List[int]", f"first : {first}").replace("second : int", f"second : {second}")
    data = LISTED_DATA.replace(FIRST[2], values[0]).replace(SECOND[0], SECOND[0][:-2] + values[1])
    write(f"object_{name}", zipped([(key, code.encode() if key == MAIN else data if key == "data.pkl" else value)
                                    for key, value in LISTED.items()]))


# One list or dictionary under two types: code puts an object in by the one, and reads it by the other.
FEW_TYPE, MANY_TYPE = "__torch__.Few", "__torch__.Many"
MISSING, AGAIN = "missing, or not of its type", b"h" + KEPT[1:]
for name, first, second, value in (
    ("lists", f"List[{FEW_TYPE}]", f"List[{MANY_TYPE}]", b"]"), ("any", "List[Any]", f"List[{MANY_TYPE}]", b"]"),
    ("tuples", "List[Tuple[int]]", "List[Tuple[int, int]]", b"]"), ("dicts", f"Dict[str, {FEW_TYPE}]", f"Dict[str, {MANY_TYPE}]", b"}"),
    ("of_any", "Any", f"List[{MANY_TYPE}]", b"]"), ("optional", f"Optional[List[{FEW_TYPE}]]", f"List[{MANY_TYPE}]", b"]"),
    ("nested", f"List[List[{FEW_TYPE}]]", f"List[{MANY_TYPE}]", b"](]" + KEPT + b"e"),
):
    kept = value if name == "nested" else value + KEPT
    listed(f"one_of_two_{name}__{MISSING}", first, second, (kept, AGAIN))
listed("one_of_two_tags__wrong type", f"List[{FEW_TYPE}]", f"List[{MANY_TYPE}]",
       (tagged(b"]" + KEPT, f"List[{FEW_TYPE}]"), tagged(AGAIN, f"List[{MANY_TYPE}]")))
listed("tag_of_a_tuple__wrong type", "Any", "int", (tagged(b")", "Tuple[()]"), b"K\x07"))

# Classes that libtorch reads as other ones.
ODD = "class Z:\n  Interface : int\n" + "".join(f"  s{i} : Tensor\n" for i in range(9))
held("base__unusual way", TEXT.replace("class Few(Module):", "class Few(Module, Interface):", 1))
held("base_named__unusual way", TEXT.replace("class Few(Module):", "class Few(Interface.Module):", 1))
held("interface_of_nothing__unusual way", "class Z(Interface):\n  a : int\n" + TEXT)
held("interface_empty__unusual way", TEXT.replace("held : __torch__.Few", "held : __torch__.Z", 1)
     + "\nclass Z(Interface):\n  __parameters__ = []\n")
held("interface_by_attribute__missing, or not of its type", ODD + TEXT.replace("held : __torch__.Few", "held : __torch__.Z", 1))
held("escaped__unusual name", TEXT.replace("  held : __torch__.Few", '  __annotations__["\\142ig"] = __torch__.Many\n  held : __torch__.Few', 1))

# What libtorch computes while it loads.
SPIN = "def spin() -> int:\n  n = 0\n  for _0 in range(9223372036854775807):\n    n = torch.add(n, 1)\n  return n\n"
held("default__computed while loading", SPIN + TEXT.replace("    x: Tensor) ->", "    x: Tensor,\n    n: int=__torch__.spin()) ->", 1))
held("default_large__computed while loading", TEXT.replace("    x: Tensor) ->", "    x: Tensor,\n    n: Tensor=torch.ones([9])) ->", 1))
held("constant__computed while loading", SPIN + TEXT.replace("  held : __torch__.Few", "  c : Final[int] = __torch__.spin()\n  held : __torch__.Few", 1))

# A tensor's data has its numbers without autograd's counter of changes.
held("data_attribute__torch.data", TEXT[:CALL.start() + 1] + CALL[1] + "b = x.data" + TEXT[CALL.start():])
held("data_operator__ops.prim.data", TEXT[:CALL.start() + 1] + CALL[1] + "b = ops.prim.data(x)" + TEXT[CALL.start():])

# Much that the check itself has to do.
held("casts__more code than can be judged", TEXT[:CALL.start() + 1] + "".join(f"{CALL[1]}q = unchecked_cast(List[int], q)\n" for _ in range(20_000))
     + TEXT[CALL.start() + 1:])

# Wrong places of the source: they are not given to libtorch, so that the network is as good as without them.
def source_places(start: int, end: int, text: int) -> bytes:
    number = lambda value: b"\x8a\x08" + struct.pack("<q", value)  # noqa: E731
    numbers = b"ctorch.jit._pickle\nbuild_intlist\n(](" + number(text) + b"etR"
    places = b"".join(b"(" + number(at) + b"((" + numbers + number(1) + number(0) + b"t" + number(start) + number(end) + b"t"
                      + number(at) + b"t" for at in (0, 50, 400, 900))
    return b"\x80\x02(" + text_of("FORMAT_WITH_STRING_TABLE") + b"(" + text_of("abc") + text_of("f.py") + b"t(" + places + b"tt."


(GOOD / "plain_places.pt").write_bytes(zipped([(key, source_places(0, 3, -1_000_000) if key.endswith(".debug_pkl") else value)
                                               for key, value in ENTRIES.items()]))


class Recurs(nn.Module):
    """Returns tuples, whose types stand behind the parameters."""

    def shape(self, x: Tensor) -> Tuple[int, int, int]:
        return int(x.shape[0]), int(x.shape[1]), int(x.shape[2])

    def forward(self, x: Tensor) -> Tensor:
        sizes = {str(n): float(n) for n in self.shape(x)}
        return x * len(sizes)


(GOOD / "returns_tuple.pt").write_bytes(zipped(list(entries_of(Recurs()).items())))

# Pickles. The plain one names its tensors' storages 0, 1, 2: floats.

DATA = ENTRIES["data.pkl"]
LINEAR = re.search(rb"c__torch__\.torch\.nn\.modules\.linear[^\n]*\nLinear\n", DATA)[0]


def replaced(name: str, old: bytes, new: bytes) -> None:
    assert DATA.count(old) >= 1, (name, old)
    changed(f"pickle_{name}", "data.pkl", DATA.replace(old, new, 1))


replaced("storage__claims 255 values", b"K\x04tQ", b"K\xfftQ")
replaced("view__leaves its storage", b"K\x00(K\x04t", b"K\x00(K\x05t")
replaced("offset__leaves its storage", b"K\x00(K\x04t", b"K\x01(K\x04t")
replaced("negative__of another form", b"K\x00(K\x04t", b"J\xff\xff\xff\xff(K\x04t")
replaced("half__claims 4 values of 8", b"FloatStorage", b"DoubleStorage")
replaced("global__names 'os.system'", LINEAR, b"cos\nsystem\n")
replaced("class__names '__torch__.Other'", LINEAR, b"c__torch__\nOther\n")
replaced("type_tag__wrong type", b"List[str]", b"List[int]")
replaced("nnapi__names '__torch__.torch.classes", LINEAR,
         b"c__torch__.torch.classes._nnapi\nCompilation\n")
replaced("key__missing, or not of its type", b"weight", b"height")
replaced("gap__with gaps", b"q\x00", b"r\xff\xff\xff\x7f")
replaced("device__another form", b"cpu", b"xpu")
deep = b"\x80\x02" + b"(" * 100_000 + b"t" * 100_000 + b"."
changed("pickle_marks__too deep", "data.pkl", deep)
changed("pickle_tuples__too deep", "data.pkl", b"\x80\x02)" + b"\x85" * 100_000 + b".")
changed("pickle_laughs__too many", "data.pkl", b"\x80\x02)" + b"q\x00h\x00\x86" * 0 + b"".join(
    b"q" + bytes([i]) + b"h" + bytes([i]) + b"\x86" for i in range(60)) + b".")
changed("pickle_circle__circle", "data.pkl", b"\x80\x02]q\x00h\x00a.")
changed("pickle_reduce__another form", "data.pkl", b"\x80\x02ccollections\nOrderedDict\nK\x01R.")
changed("pickle_integer_as_class__another form", "data.pkl", b"\x80\x02ccollections\nOrderedDict\n0K\x00)R.".replace(b"0", b""))
changed("pickle_protocol__protocol", "data.pkl", pickle.dumps((1,), 4))
changed("pickle_cut__cut short", "data.pkl", DATA[:-9])
changed("pickle_debug__names", MAIN + ".debug_pkl", b"\x80\x02cos\nsystem\n.")
changed("pickle_constants__names", "constants.pkl", b"\x80\x02cos\nsystem\n.")

# Archives.

ITEMS = list(ENTRIES.items())
WHOLE = zipped(ITEMS)
write("archive_two__two entries", zipped(ITEMS + [(MAIN, b"")]))
write("archive_two_cases__two entries", zipped(ITEMS + [(MAIN.upper().replace("CODE", "code"), b"")]))
write("archive_outside__outside of its one folder", zipped(ITEMS + [(":other/code/__torch__.py", b"")]))
write("archive_entry__has the entry", zipped(ITEMS + [("bytecode.pkl", b"")]))
write("archive_name__unusual name", zipped(ITEMS + [("extra/é", b"")]))
write("archive_before__not where it says", b"PK\x03\x04" + b"x" * 96 + WHOLE)
write("archive_after__after its archive", WHOLE + b"x" * 99)
write("archive_local_name__another one", WHOLE.replace(b"archive/data.pkl", b"archive/dota.pkl", 1))
at = WHOLE.index(ENTRIES["data.pkl"][:40])
write("archive_flipped__is damaged", WHOLE[:at + 3] + bytes([WHOLE[at + 3] ^ 1]) + WHOLE[at + 4:])
end = WHOLE.rindex(b"PK\x05\x06")
count, = struct.unpack_from("<H", WHOLE, end + 10)
write("archive_count__longer than it says", WHOLE[:end + 8] + struct.pack("<HH", count - 1, count - 1) + WHOLE[end + 12:])
fake = b"PK\x06\x06" + struct.pack("<QHHIIQQQQ", 44, 45, 45, 0, 0, 1, 1, 50, 0)
locator = b"PK\x06\x07" + struct.pack("<IQI", 0, end, 1)
write("archive_two_ends__disagree", WHOLE[:end] + fake + locator + WHOLE[end:])
