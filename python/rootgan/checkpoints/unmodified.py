"""Checks whether the layers of a pickled network compute what ours do. Shapes do not show gains, activations and the
like. What a pickle says of them has to be what a published StyleGAN2 has, or other pictures would come out without a
word."""

from math import isclose, isfinite, sqrt
from pathlib import Path
from typing import Any, Iterator, Optional

import torch
from rootgan.networks.discriminator import LabelMapping
from rootgan.networks.generator import LinearUp, Mapping, SynthesisConv, ToRGB
from rootgan.networks.layers import MAPPING_RATE, EqualizedConv, FullyConnected
from rootgan.networks.pair import Architecture
from torch import nn

from .checkpoint import CheckpointError
from .nvidia_modules import collect, named, settings_of, submodules
from .safe_pickle import Module
from .wording import shown, shown_value

RELATIVE = 1e-6  # gains are stored in double precision, and some programs round them to single
WITHOUT_TENSORS = ("b4.mbstd",)  # parts of NVIDIA's networks that are no modules in ours


def check(networks: dict[str, Module], pair: Architecture, path: Path) -> None:
    """Refuses a network of which the file says something else than our network of the architecture `pair` computes."""
    for name, module in networks.items():
        with torch.device("meta"):
            ours: nn.Module = pair.discriminator() if name == "D" else pair.generator()
        kind = pair.d_architecture if name == "D" else pair.g_architecture
        layers = dict(ours.named_modules())
        unknown = unknown_part(module, layers)
        if unknown is not None:
            raise CheckpointError(f"cannot import '{path}': its {name} has a part '{shown(unknown)}', which no "
                                  "StyleGAN2 that rootgan computes has")
        for where, attribute, found, wanted in differences(module, layers, kind):
            raise CheckpointError(
                f"cannot import '{path}': {attribute} in its {name}{shown(where)} is {shown_value(found)}, expected "
                f"{shown_value(wanted)}; rootgan computes no other, so its results would differ"
            )


def unknown_part(module: Module, layers: dict[str, nn.Module]) -> Optional[str]:
    """Names a part without tensors that our network does not have. Parts with tensors are refused by the tensors' names
    (architecture.py)."""
    for prefix, part in submodules(module):
        name = prefix.removesuffix(".")
        if name not in layers and name not in WITHOUT_TENSORS and not collect(part):
            return name
    return None


def differences(module: Module, layers: dict[str, nn.Module], kind: str) -> Iterator[tuple[str, str, Any, Any]]:
    """Yields every difference: where it is, which attribute differs, its value, and the value expected."""
    usual = usual_settings(module, layers, kind)
    for attribute, found in settings(settings_of(module)):
        if attribute in usual and not agree(found, usual[attribute]):
            yield " (_init_kwargs)", attribute, found, usual[attribute]
    for prefix, part in submodules(module):
        layer = layers.get(prefix.removesuffix("."))
        wanted = {"architecture": kind} if layer is None else {"architecture": kind, **computed(layer)}
        if any(name == "noise_strength" for group in ("_parameters", "_buffers") for name, _ in named(part, group)):
            wanted["use_noise"] = True
        for attribute, value in wanted.items():
            if attribute in part.state and not agree(part.state[attribute], value):
                yield f".{prefix}".removesuffix("."), attribute, part.state[attribute], value


def usual_settings(module: Module, layers: dict[str, nn.Module], kind: str) -> dict[str, Any]:
    """Returns what the settings have to say where the layers do not say it themselves. Converted files also have
    settings of a mapping network that is not there; its learning rate does not count."""
    by_layers = {name for _, part in submodules(module) for name in part.state}
    usual: dict[str, Any] = {"architecture": kind, "activation": "lrelu", "lr_multiplier": MAPPING_RATE}
    if "mapping.fc0" not in layers or by_layers & {"weight_gain", "bias_gain"}:
        del usual["lr_multiplier"]
    return {name: value for name, value in usual.items() if name not in by_layers}


def settings(group: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yields all settings, those in nested groups too; depth and number are bounded by `check_structure`."""
    for name, value in group.items():
        if isinstance(value, dict):
            yield from settings(value)
        elif isinstance(name, str):
            yield name, value


def computed(layer: nn.Module) -> dict[str, Any]:
    """Returns what a layer of ours computes, in the attributes that NVIDIA's layers have."""
    if isinstance(layer, FullyConnected):
        return {**activation(layer.lrelu), "weight_gain": layer.weight_gain, "bias_gain": layer.bias_gain,
                "lr_multiplier": layer.bias_gain}
    if isinstance(layer, EqualizedConv):
        return {**activation(layer.activate), "weight_gain": layer.weight_gain, "up": 1, "down": layer.down,
                "padding": layer.kernel // 2}
    if isinstance(layer, SynthesisConv):
        return {**activation(True), "weight_gain": 1, "up": layer.up, "padding": 1}
    if isinstance(layer, ToRGB):
        return {"activation": "linear", "weight_gain": layer.weight_gain}
    if isinstance(layer, LinearUp):  # our weight_gain includes the gain of the branch
        return {**activation(False), "weight_gain": layer.weight_gain / sqrt(0.5), "up": 2, "down": 1, "padding": 0}
    return {"lr_multiplier": MAPPING_RATE, "activation": "lrelu"} if isinstance(layer, (Mapping, LabelMapping)) else {}


def activation(active: bool) -> dict[str, Any]:
    return {"activation": "lrelu", "act_gain": sqrt(2)} if active else {"activation": "linear", "act_gain": 1}


def agree(found: Any, wanted: Any) -> bool:
    """Whether a value out of the file is the expected one, numbers up to rounding."""
    if isinstance(wanted, (str, bool)):
        return type(found) is type(wanted) and found == wanted
    number = isinstance(found, int) and abs(found) < 1 << 53 or isinstance(found, float) and isfinite(found)
    return number and not isinstance(found, bool) and isclose(found, wanted, rel_tol=RELATIVE)
