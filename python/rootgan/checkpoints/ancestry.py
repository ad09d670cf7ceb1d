"""Keeps provenance records small, as src/model/provenance.rs does: a parent is named by the SHA-256 of its record, and
the records of all ancestors are in `ancestors` once, the nearest first, as far as they fit."""

import hashlib
import json
from typing import Any

ANCESTORS, LEFT_OUT, RECORD = "ancestors", "ancestors_left_out", "record"
MOST_RECORDS, MOST_BYTES, MOST_BYTES_IN_PLACE = 64, 64 << 10, 1 << 10
MOST_DEPTH = 100  # of records within records, as earlier versions wrote them; deeper ones are left out

Record = dict[str, Any]


def flattened(record: Any) -> Any:
    """Returns the record with its parents named and its ancestors beside them, whatever form they come in."""
    if not isinstance(record, dict):
        return record
    pool: dict[str, Record] = {}
    return with_ancestors(taken(record, pool, 0), pool)


def parsed(text: str) -> Any:
    """Parses a record given as JSON; a text that is no JSON is returned as it is."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def flattened_text(text: str) -> str:
    """Flattens a record given as JSON; a text that is no JSON object is returned as it is."""
    try:
        found = json.loads(text)
        return json.dumps(flattened(found)) if isinstance(found, dict) else text
    except (ValueError, RecursionError):
        return text


def records(text: str) -> list[Record]:
    """Returns a record given as JSON and the records of its ancestors, the nearest first; none where it is no record."""
    try:
        found = flattened(json.loads(text))
    except (ValueError, RecursionError):
        return []
    if not isinstance(found, dict):
        return []
    return [found, *(ancestor for ancestor in found.get(ANCESTORS, {}).values() if isinstance(ancestor, dict))]


def taken(record: Record, pool: dict[str, Record], depth: int) -> Record:
    """Copies a record: its ancestors go into the pool instead, and each parent is replaced by its name."""
    ancestors = record.get(ANCESTORS)
    if isinstance(ancestors, dict) and depth < MOST_DEPTH:
        for key, ancestor in ancestors.items():
            if isinstance(ancestor, dict):
                pool.setdefault(key, taken(ancestor, pool, depth + 1))
    found = {key: value for key, value in record.items() if key not in (ANCESTORS, LEFT_OUT)}
    if isinstance(found.get("parents"), dict):
        found["parents"] = {name: named(parent, pool, depth) for name, parent in found["parents"].items()}
    if "parent" in found:
        found["parent"] = named(found["parent"], pool, depth)
    return found


def named(parent: Any, pool: dict[str, Record], depth: int) -> Any:
    """Returns what stands for a parent in its child's record: a name, unless there is one already or a short value."""
    if isinstance(parent, dict):
        in_place = all(key in (RECORD, "sha256") for key in parent)
    else:
        in_place = size(parent) <= MOST_BYTES_IN_PLACE
    if in_place:
        return parent
    record = parent if isinstance(parent, dict) else {"said": parent}
    record = taken(record, pool, depth + 1) if depth < MOST_DEPTH else {"source": "a record too deep to be kept"}
    key = hashlib.sha256(compact(record, sort_keys=True).encode(errors="backslashreplace")).hexdigest()
    pool.setdefault(key, record)
    return {RECORD: key}


def with_ancestors(record: Record, pool: dict[str, Record]) -> Record:
    """Returns the record with those of its ancestors that fit, the nearest first."""
    waiting, met, kept, room, left_out = parents_of(record), set(), {}, MOST_BYTES, 0
    while waiting:
        key = waiting.pop(0)
        if key in met:
            continue
        met.add(key)
        ancestor = pool.get(key)
        if ancestor is None or len(kept) == MOST_RECORDS or size(ancestor) > room:
            left_out += 1
            continue
        room -= size(ancestor)
        kept[key] = ancestor
        waiting += parents_of(ancestor)
    return {**record, **({ANCESTORS: kept} if kept else {}), **({LEFT_OUT: left_out} if left_out else {})}


def parents_of(record: Record) -> list[str]:
    """The keys by which a record names its parents' records."""
    parents = record.get("parents")
    places = [*(parents.values() if isinstance(parents, dict) else ()), record.get("parent")]
    return [place[RECORD] for place in places if isinstance(place, dict) and isinstance(place.get(RECORD), str)]


def compact(value: Any, **layout: Any) -> str:
    """JSON without spaces, which sizes and keys are computed from."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), **layout)


def size(value: Any) -> int:
    return len(compact(value).encode(errors="backslashreplace"))
