"""Values out of a file as JSON that every reader takes: what JSON cannot say, or other readers refuse, becomes text."""

import json
from math import isfinite
from typing import Any

from .wording import shown

LARGEST = 1 << 63  # readers in other languages keep integers in 64 bits


def plain(value: Any) -> Any:
    """Options out of a pickle; a text is cut to what fits a line, and anything else becomes the name of its type."""
    if isinstance(value, dict):
        return {shown(str(key)): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, str):
        return shown(value)
    return writable(value) if value is None or isinstance(value, (int, float)) else type(value).__name__


def writable(value: Any) -> Any:
    """A JSON value in which numbers that are not finite, or beyond 64 bits, and halves of characters are spelled out."""
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
    """The record as text; a number that is not finite is a mistake here."""
    return json.dumps(record, allow_nan=False, **layout)
