"""Walks the networks of an NVIDIA pickle: their parts, tensors and attributes."""

from typing import Any, Iterator, Optional

from torch import Tensor

from .safe_pickle import Module


def submodules(module: Module, prefix: str = "") -> Iterator[tuple[str, Module]]:
    """Yields every module with the prefix of its tensors' names. Depth and number are bounded by `check_structure`."""
    yield prefix, module
    for name, child in named(module, "_modules"):
        if isinstance(child, Module):
            yield from submodules(child, f"{prefix}{name}.")


def named(module: Module, part: str) -> list[tuple[str, Any]]:
    """The entries of one of a module's dicts, such as `_parameters`, whose names are text."""
    items = module.state.get(part)
    return [(name, item) for name, item in items.items() if isinstance(name, str)] if isinstance(items, dict) else []


def tensors_of(module: Module, groups: tuple[str, ...] = ("_parameters", "_buffers")) -> Iterator[tuple[str, Tensor]]:
    """Yields parameters and buffers alike: a discriminator trained with FreezeD has some of its weights as buffers."""
    for prefix, part in submodules(module):
        for group in groups:
            yield from ((prefix + name, value) for name, value in named(part, group) if isinstance(value, Tensor))


def collect(module: Module) -> dict[str, Tensor]:
    """All tensors of a network by their dotted names."""
    return dict(tensors_of(module))


def first_twice(module: Module) -> Optional[str]:
    """The first name that two tensors have: as parameter and buffer, or because a part's own name has a dot."""
    seen: set[str] = set()
    for name, _ in tensors_of(module):
        if name in seen:
            return name
        seen.add(name)
    return None


def frozen_layers(module: Module) -> list[str]:
    """The layers whose trained tensors are buffers, as FreezeD keeps them."""
    names = (name.rpartition(".") for name, _ in tensors_of(module, ("_buffers",)))
    return list(dict.fromkeys(layer for layer, _, last in names if last in ("weight", "bias")))


def attributes(module: Module, name: str) -> list[Any]:
    """The values of an attribute in all layers that have it. A skip branch and the RGB that enters a discriminator's last
    block are never clamped, whatever others are."""
    return [part.state[name] for prefix, part in submodules(module)
            if name in part.state and not prefix.endswith("skip.") and prefix != "b4.fromrgb."]


def settings_of(module: Module) -> dict[str, Any]:
    """The arguments that the network was made with."""
    kwargs = module.state.get("_init_kwargs")
    return kwargs if isinstance(kwargs, dict) else {}
