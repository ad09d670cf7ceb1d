"""Turns values out of a file into JSON that every reader takes: what JSON cannot say, or some readers refuse, becomes
text."""

import json
from math import isfinite
from typing import Any

from .wording import shown

LARGEST = 1 << 63  # readers in other languages keep integers in 64 bits


def plain(value: Any) -> Any:
    """Makes JSON of options out of a pickle. Text is cut to fit a line, and other objects become their type's name."""
    if isinstance(value, dict):
        return {shown(str(key)): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, str):
        return shown(value)
    return writable(value) if value is None or isinstance(value, (int, float)) else type(value).__name__


def writable(value: Any) -> Any:
    """Spells out numbers that are not finite, or beyond 64 bits, and halves of characters in a JSON value."""
    if isinstance(value, dict):
        return {writable(key): writable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [writable(item) for item in value]
    if isinstance(value, str):
        return value.encode(errors="backslashreplace").decode()
    if isinstance(value, float) and not isfinite(value):
        return str(value)
    if isinstance(value, int) and not -LARGEST <= value < LARGEST:
        return shown(str(value))
    return value


def as_json(record: Any, **layout: Any) -> str:
    """Writes a record as text; a number that is not finite raises, as `writable` has to come first."""
    return json.dumps(record, allow_nan=False, **layout)
