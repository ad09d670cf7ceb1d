"""Interprets pickles of protocols 2 to 5 over bytes in memory. It makes dicts, lists, tuples, sets, numbers and text.
Names of classes and functions are looked up in a table of our own stand-ins; a name that is not there is refused.
Nothing is imported or called by the file's choice, and lengths are compared with the bytes present before anything is
made."""

import pickletools
import struct
from dataclasses import dataclass
from typing import Any, Callable, Mapping, Optional

from .wording import shown

# Bytes in one string; the source text in an NVIDIA pickle has 0.1 MB, a weight in protocol 2 has 25 MB.
MAX_STRING = 64 << 20
MAX_MARKS = 1000  # unfinished containers inside one another
MAX_INSTRUCTIONS = 500_000  # some make an object of 200 bytes; three networks of 1024x1024 take about 70,000
ATOMS = (str, int, bool, type(None))


class Refused(ValueError):
    """The stream is damaged, or asks for what is not allowed. Its text is one clause, to go after the file's name."""


class UnknownName(Refused):
    """The stream names a class or function that is not on the list."""

    def __init__(self, name: str):
        super().__init__(
            f"it refers to '{shown(name)}', which is not one of the names that a checkpoint needs; nothing of it "
            "was run; if you trust it, save its weights as a plain state dict and import that"
        )
        self.name = name


@dataclass
class Budget:
    """How much a file may still make. All streams in it share one budget, so that nothing multiplies."""

    instructions: int  # every pickle instruction may make one small object
    string_bytes: int
    storage_bytes: int
    tensor_bytes: int

    @staticmethod
    def of(file_bytes: int) -> "Budget":
        return Budget(instructions=MAX_INSTRUCTIONS, string_bytes=max(MAX_STRING, file_bytes), storage_bytes=file_bytes,
                      tensor_bytes=2 * file_bytes + (1 << 20))

    def spend(self, what: str, amount: int, found: str) -> None:
        left = getattr(self, what) - amount
        if left < 0:
            raise Refused(f"it holds {found} than a file of its size can; no program writes such a file")
        setattr(self, what, left)


@dataclass(frozen=True)
class Global:
    """A class or function that the file names: never looked up, only compared with the allow-list."""

    name: str


@dataclass(frozen=True)
class Allowed:
    """The stand-in for one allowed global: REDUCE calls `make`, and with `instance` NEWOBJ (an empty instance) too."""

    make: Callable[..., Any]
    instance: bool = False


class Buildable:
    """A stand-in whose attributes the file may set."""

    def build(self, state: Any) -> None:
        raise NotImplementedError


class Machine:
    """Runs one stream that begins at `position` of `data`; afterwards `position` is behind it."""

    def __init__(self, data: memoryview, position: int, budget: Budget, allowed: Mapping[str, Allowed],
                 persistent: Optional[Callable[[Any], Any]] = None):
        self.data, self.position = data, position
        self.budget, self.allowed, self.persistent = budget, allowed, persistent
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def run(self) -> Any:
        budget = self.budget
        while True:
            code = self.byte()
            budget.instructions -= 1
            if budget.instructions < 0:
                raise Refused("it has more pickle instructions than any checkpoint")
            if code == STOP:
                if len(self.stack) != 1 or self.marks:
                    raise Refused("its pickle stops with unfinished objects; copy or download it again")
                return self.stack.pop()
            handler = HANDLERS[code]
            if handler is None:
                raise Refused(f"its pickle uses {opcode_name(code)}, which no supported checkpoint does")
            handler(self)

    # What the instructions read from the stream.

    def take(self, length: int) -> memoryview:
        left = len(self.data) - self.position
        if length > left:
            raise Refused(f"it claims {length} bytes where {left} are left; copy or download it again")
        self.position += length
        return self.data[self.position - length:self.position]

    def byte(self) -> int:
        at = self.position
        if at >= len(self.data):
            raise Refused(f"it ends after {at} bytes in the middle of a pickle; copy or download it again")
        self.position = at + 1
        return self.data[at]

    def number(self, form: str) -> Any:
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def line(self) -> str:
        window = bytes(self.data[self.position:self.position + 300])
        length = window.find(b"\n")
        if length < 0:
            raise Refused("its pickle names a class of 300 or more letters")
        self.position += length + 1
        return text_of(window[:length])

    def text(self, length: int) -> None:
        if length > MAX_STRING:
            raise Refused(f"it claims a text of {length} bytes; at most {MAX_STRING} are read")
        self.budget.spend("string_bytes", length, "more text")
        self.stack.append(text_of(self.take(length)))

    def long(self) -> None:
        self.stack.append(int.from_bytes(self.take(self.byte()), "little", signed=True))

    # What the instructions find on the stack.

    def pop(self) -> Any:
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise Refused("its pickle takes an object that is not there; copy or download it again")
        return self.stack.pop()

    def pop_many(self, count: int) -> tuple[Any, ...]:
        start = len(self.stack) - count
        if start < (self.marks[-1] if self.marks else 0):
            raise Refused("its pickle takes objects that are not there; copy or download it again")
        items = tuple(self.stack[start:])
        del self.stack[start:]
        return items

    def mark(self) -> None:
        if len(self.marks) >= MAX_MARKS:
            raise Refused(f"its pickle nests more than {MAX_MARKS} objects")
        self.marks.append(len(self.stack))

    def pop_mark(self) -> list[Any]:
        if not self.marks:
            raise Refused("its pickle closes an object that was not opened; copy or download it again")
        start = self.marks.pop()
        items = self.stack[start:]
        del self.stack[start:]
        return items

    def top(self) -> Any:
        top = self.pop()
        self.stack.append(top)
        return top

    def top_of(self, kind: type, what: str) -> Any:
        top = self.top()
        if not isinstance(top, kind):
            raise Refused(f"its pickle puts {what} into a {type(top).__name__}")
        return top

    # The memo, and containers.

    def put(self, key: int) -> None:
        self.memo[key] = self.top()

    def get(self, key: int) -> None:
        if key not in self.memo:
            raise Refused(f"its pickle refers to object {key}, which it did not store; copy or download it again")
        self.stack.append(self.memo[key])

    def append(self, items: list[Any]) -> None:
        self.top_of(list, "list items").extend(items)

    def set_items(self, items: list[Any]) -> None:
        target = self.top_of(dict, "dict items")
        if len(items) % 2:
            raise Refused("its pickle sets a key without a value; copy or download it again")
        for key, value in zip(items[::2], items[1::2]):
            target[atom(key)] = value

    def add_items(self, items: list[Any]) -> None:
        self.top_of(set, "set items").update(atom(item) for item in items)

    # Classes and functions.

    def push_global(self, module: Any, name: Any) -> None:
        if not isinstance(module, str) or not isinstance(name, str):
            raise Refused("its pickle names a class by something else than text")
        full = f"{module}.{name}"
        if full not in self.allowed:
            raise UnknownName(full)
        self.stack.append(Global(full))

    def call(self, instance: bool) -> None:
        target, arguments = self.pop_many(2)
        if not isinstance(target, Global) or not isinstance(arguments, tuple):
            raise Refused(f"its pickle calls a {type(target).__name__}")
        allowed = self.allowed[target.name]
        self.pay_for_copies(arguments)
        if instance and not allowed.instance:
            raise Refused(f"it makes a '{target.name}' in a way that no checkpoint does")
        try:
            self.stack.append(allowed.make(*arguments))
        except TypeError:  # a wrong number of arguments: the stand-ins check the types themselves
            raise Refused(f"it gives '{target.name}' {len(arguments)} arguments of unexpected kinds") from None

    def pay_for_copies(self, arguments: tuple[Any, ...]) -> None:
        """A stand-in may copy what it gets; one stored container could otherwise be copied by every instruction."""
        entries = sum(len(argument) for argument in arguments if isinstance(argument, (dict, list, tuple, set)))
        self.budget.spend("instructions", entries, "more copies of its objects")

    def build(self) -> None:
        state = self.pop()
        top = self.top()
        if isinstance(top, Buildable):
            self.pay_for_copies((state,))
            top.build(state)
        elif not isinstance(top, dict):  # the attributes of an OrderedDict or EasyDict (_metadata) are of no use here
            raise Refused(f"its pickle sets attributes of a {type(top).__name__}")

    def persistent_id(self) -> None:
        if self.persistent is None:
            raise Refused("its pickle has storages outside of a torch file")
        self.stack.append(self.persistent(self.pop()))


def text_of(raw: Any) -> str:
    try:
        return str(raw, "utf-8")
    except UnicodeDecodeError:
        raise Refused("it has a text that is not UTF-8; copy or download it again") from None


def atom(key: Any) -> Any:
    """Lets a key pass that is text, an integer of at most 60 bits, or None. Hashing a nested tuple can take forever,
    and any number of long integers or fractions can have one hash, which makes a dict of them quadratic. 60 bits are
    room for an address, which old optimizers use as a key."""
    if not isinstance(key, ATOMS):
        raise Refused(f"its pickle uses a {type(key).__name__} as a key")
    if isinstance(key, int) and abs(key) >= 1 << 60:
        raise Refused("its pickle uses a number of more than 60 bits as a key")
    return key


def opcode_name(code: int) -> str:
    known = pickletools.code2op.get(chr(code))
    return f"the instruction {known.name}" if known else f"the byte {code:#04x} as an instruction (it may be damaged)"


def check_protocol(machine: Machine) -> None:
    protocol = machine.byte()
    if not 2 <= protocol <= 5:
        raise Refused(f"it is a pickle of protocol {protocol}; 2 to 5 are read")


def check_frame(machine: Machine) -> None:
    size, left = machine.number("<Q"), len(machine.data) - machine.position
    if size > left:
        raise Refused(f"it claims {size} bytes where {left} are left; copy or download it again")


STOP = ord(".")


def handlers() -> list[Optional[Callable[[Machine], None]]]:
    """The instructions by their byte; None for those that are refused."""
    def push(make: Callable[[Machine], Any]) -> Callable[[Machine], None]:
        return lambda m: m.stack.append(make(m))

    table: dict[str, Callable[[Machine], None]] = {
        "PROTO": check_protocol, "FRAME": check_frame,
        "NONE": push(lambda m: None), "NEWTRUE": push(lambda m: True), "NEWFALSE": push(lambda m: False),
        "BININT": push(lambda m: m.number("<i")), "BININT1": push(lambda m: m.byte()),
        "BININT2": push(lambda m: m.number("<H")), "BINFLOAT": push(lambda m: m.number(">d")), "LONG1": Machine.long,
        "SHORT_BINUNICODE": lambda m: m.text(m.byte()), "BINUNICODE": lambda m: m.text(m.number("<I")),
        "BINUNICODE8": lambda m: m.text(m.number("<Q")),
        "SHORT_BINBYTES": push(lambda m: m.take(m.byte())), "BINBYTES": push(lambda m: m.take(m.number("<I"))),
        "BINBYTES8": push(lambda m: m.take(m.number("<Q"))),
        "BYTEARRAY8": push(lambda m: m.take(m.number("<Q"))),
        "EMPTY_DICT": push(lambda m: {}), "EMPTY_LIST": push(lambda m: []), "EMPTY_SET": push(lambda m: set()),
        "EMPTY_TUPLE": push(lambda m: ()), "MARK": Machine.mark,
        "TUPLE": push(lambda m: tuple(m.pop_mark())), "TUPLE1": push(lambda m: m.pop_many(1)),
        "TUPLE2": push(lambda m: m.pop_many(2)), "TUPLE3": push(lambda m: m.pop_many(3)),
        "APPEND": lambda m: m.append([m.pop()]), "APPENDS": lambda m: m.append(m.pop_mark()),
        "SETITEM": lambda m: m.set_items(list(m.pop_many(2))), "SETITEMS": lambda m: m.set_items(m.pop_mark()),
        "ADDITEMS": lambda m: m.add_items(m.pop_mark()),
        "BINPUT": lambda m: m.put(m.byte()), "LONG_BINPUT": lambda m: m.put(m.number("<I")),
        "MEMOIZE": lambda m: m.put(len(m.memo)),
        "BINGET": lambda m: m.get(m.byte()), "LONG_BINGET": lambda m: m.get(m.number("<I")),
        "GLOBAL": lambda m: m.push_global(m.line(), m.line()), "STACK_GLOBAL": lambda m: m.push_global(*m.pop_many(2)),
        "REDUCE": lambda m: m.call(instance=False), "NEWOBJ": lambda m: m.call(instance=True), "BUILD": Machine.build,
        "BINPERSID": Machine.persistent_id,
    }
    codes = {known.name: ord(known.code) for known in pickletools.opcodes}
    found: list[Optional[Callable[[Machine], None]]] = [None] * 256
    for name, handler in table.items():
        found[codes[name]] = handler
    return found


HANDLERS = handlers()
