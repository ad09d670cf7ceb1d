"""Makes what a file says fit for one line on a terminal: escaped, and cut to a length."""

from itertools import islice
from typing import Any, Iterable


def shown(text: str, limit: int = 80) -> str:
    """Escapes a name out of a file and cuts it, so that it is fit for a terminal."""
    return ascii(text)[1:-1] if len(text) <= limit else ascii(text[:limit])[1:-1] + "..."


def some_of(names: Iterable[str], count: int = 3) -> str:
    """Joins the first few of many names."""
    return ", ".join(shown(name) for name in islice(names, count))


def shown_value(value: Any) -> str:
    """Makes a value out of a file fit for one line; of an object only its type is named."""
    if isinstance(value, str):
        return f"'{shown(value)}'"
    return shown(str(value)) if value is None or isinstance(value, (bool, int, float)) else f"a {type(value).__name__}"
