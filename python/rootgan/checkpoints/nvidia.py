"""Reads NVIDIA's pickles, of stylegan2-ada-pytorch and of the stylegan3 repository's stylegan2 configuration. They hold
a dict of networks, each as the name of its class and its __dict__. The source text in them is ignored."""

from dataclasses import replace
from pathlib import Path
from typing import Any, Optional

from rootgan.networks.pair import MAX_GROUP, Architecture, own_clamp

from . import architecture, safe_pickle, unmodified
from .checkpoint import Checkpoint, CheckpointError
from .nvidia_modules import attributes, collect, first_twice, frozen_layers, settings_of
from .records import plain
from .safe_pickle import Module
from .wording import shown, shown_value, some_of

FORMATS = ("NVIDIA pickle, stylegan2-ada-pytorch", "NVIDIA pickle, stylegan2 of the stylegan3 repository")
LARGEST_CLAMP = 1e30  # beyond any activation; a float32 holds it
# What a record keeps of the settings of the data set; its path stays out.
SHARED_SETTINGS = ("class_name", "resolution", "use_labels", "xflip", "max_size")


def read(path: Path) -> Checkpoint:
    """Reads the checkpoint in `path`; leaves its discriminator out where only that cannot be imported, and says why."""
    return read_tree(safe_pickle.load_pickle(path), path)


def read_tree(tree: Any, path: Path) -> Checkpoint:
    """As `read`, of what the safe reader has made of the file."""
    notes: list[str] = []
    networks = find_networks(tree, path, notes)
    architecture.refuse_stylegan3(collect(networks["G_ema"]), str(path))
    try:
        return read_networks(networks, tree, path, list(notes))
    except CheckpointError as error:
        if networks.pop("D", None) is None:
            raise
        found = read_networks(networks, tree, path, notes)  # what is wrong with the generator is said first
        reason = str(error).removeprefix(f"cannot import '{path}': ")
        found.notes.append(f"the discriminator in the file is left out: {reason}")
        return found


def read_networks(networks: dict[str, Module], tree: Any, path: Path, notes: list[str]) -> Checkpoint:
    """Makes the checkpoint of these networks; everything that is assumed goes into `notes`."""
    refuse_ambiguous(networks, path)
    tensors = {name: collect(module) for name, module in networks.items()}
    g_ema, d = tensors["G_ema"], tensors.get("D")
    settings = {name: settings_of(module) for name, module in networks.items()}
    of_stylegan3 = "synthesis_kwargs" not in settings["G_ema"] and knows_flat(settings["G_ema"])
    of_g, of_d = conv_clamps(networks, settings, of_stylegan3, path, notes)
    pair = architecture.from_tensors(
        g_ema, d, str(path), of_g, own_clamp(of_g, of_d),
        group_size(networks.get("D"), settings.get("D", {}), path, notes),
        channels(settings["G_ema"]), channels(settings.get("D", {})))
    pair = replace(pair, w_avg_beta=w_avg_beta(networks["G_ema"], path))
    unmodified.check(networks, pair, path)
    size = path.stat().st_size
    found = Checkpoint(FORMATS[of_stylegan3], pair, notes=notes)
    found.g_ema = architecture.take(g_ema, pair, "G_ema", str(path), size, notes)
    if "G" in tensors and not architecture.same(tensors["G"], g_ema):
        found.g = architecture.take(tensors["G"], pair, "G", str(path), size, [])
    if d is not None:
        found.d = architecture.take(d, pair, "D", str(path), size, notes)
        frozen = frozen_layers(networks["D"])
        if frozen:
            notes.append(f"{len(frozen)} layers of the discriminator were frozen in its training (FreezeD: "
                         f"{some_of(frozen)}{', ...' if len(frozen) > 3 else ''}): they can be trained here")
    found.options = options(tree, settings)
    if isinstance(tree, dict) and tree.get("augment_pipe") is not None:
        notes.append("the augmentation state (augment_pipe) in the file is not taken over")
    return found


def find_networks(tree: Any, path: Path, notes: list[str]) -> dict[str, Module]:
    """Returns G_ema and, where they are there, G and D. A generator that is the whole file counts as G_ema."""
    found = {"G_ema": tree} if isinstance(tree, Module) else {}
    if isinstance(tree, dict):
        found = {name: tree[name] for name in ("G_ema", "G", "D") if isinstance(tree.get(name), Module)}
    if "G_ema" not in found and "G" in found:
        found = {"G_ema": found.pop("G"), **found}
        notes.append("the file has no averaged generator (G_ema): the one in training (G) takes its place")
    if "G_ema" in found and any(name.startswith("b4.") for name in collect(found["G_ema"])) or list(found) == ["D"]:
        raise CheckpointError(f"cannot import '{path}': it holds a discriminator alone; pass a file that has its "
                              "generator too")
    if "G_ema" not in found:
        kind = f"a dict with {some_of(map(str, tree), 5) or 'nothing'}" \
            if isinstance(tree, dict) else f"a {type(tree).__name__}"
        raise CheckpointError(
            f"cannot import '{path}': it is a pickle of {kind}, expected a generator or a dict with the network G_ema; "
            "pass a network-snapshot .pkl"
        )
    return found


def w_avg_beta(module: Module, path: Path) -> float:
    """How much of w_avg every update keeps: 0.995 in the ada repository, 0.998 in the stylegan3 one."""
    values = attributes(module, "w_avg_beta")
    said, value = (True, values[0]) if values else setting(settings_of(module), "w_avg_beta")
    if not said or value is None:  # None stands for a network without w_avg
        return Architecture.w_avg_beta
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise CheckpointError(f"cannot import '{path}': its w_avg_beta is {shown_value(value)}, expected 0 to 1")
    return float(value)


def refuse_ambiguous(networks: dict[str, Module], path: Path) -> None:
    """Refuses a network in which one name means two tensors."""
    for network, module in networks.items():
        name = first_twice(module)
        if name is not None:
            raise CheckpointError(f"cannot import '{path}': its {network} has two tensors with the name "
                                  f"'{shown(name)}'; which of them counts is not known, export it again")


def knows_flat(settings: dict[str, Any]) -> bool:
    """Whether settings that the ada repository nests in groups are at the top, as in the stylegan3 repository."""
    return any(name in settings for name in ("channel_base", "channel_max", "num_fp16_res", "conv_clamp"))


def setting(settings: dict[str, Any], name: str) -> tuple[bool, Any]:
    """Returns whether a setting is said, at the top or in one of the nested groups, and what it says."""
    for group in (settings, *(settings.get(key) for key in ("synthesis_kwargs", "mapping_kwargs", "block_kwargs", "epilogue_kwargs"))):
        if isinstance(group, dict) and name in group:
            return True, group[name]
    return False, None


def channels(settings: dict[str, Any]) -> tuple[Any, Any]:
    """channel_base and channel_max as the settings say them, None where they do not."""
    return setting(settings, "channel_base")[1], setting(settings, "channel_max")[1]


def clamp_of(module: Module, settings: dict[str, Any], path: Path) -> tuple[bool, Optional[float]]:
    """Whether the file says a network's clamp, and the clamp: from its layers, else from its settings."""
    values = attributes(module, "conv_clamp")
    said, value = (True, values[0]) if values else setting(settings, "conv_clamp")
    number = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < LARGEST_CLAMP
    if not (value is None or number) or any(type(other) is not type(value) or other != value for other in values):
        raise CheckpointError(
            f"cannot import '{path}': conv_clamp is not one positive number or None in all layers of its "
            f"{shown(module.class_name)}; rootgan clamps all layers of a network alike"
        )
    return said, None if value is None else float(value)


def conv_clamps(networks: dict[str, Module], settings: dict[str, Any], of_stylegan3: bool, path: Path,
                notes: list[str]) -> tuple[Optional[float], Optional[float]]:
    """Returns the clamps of generator and discriminator; if the file says only one, it is taken for both."""
    found = {name: clamp_of(module, settings[name], path) for name, module in networks.items()}
    said = {name: value for name, (known, value) in found.items() if known}
    if "G" in said and "G_ema" in said and said["G"] != said["G_ema"]:
        raise CheckpointError(
            f"cannot import '{path}': its G_ema clamps at {said['G_ema']}, but its G at {said['G']}; rootgan "
            "has one architecture for both"
        )
    if not said:
        said["G_ema"] = 256.0 if of_stylegan3 else None
        notes.append(f"conv_clamp is not in the file: assumed to be {said['G_ema']}")
    of_g = next(said[name] for name in ("G_ema", "G", "D") if name in said)
    return of_g, said.get("D", of_g)


def group_size(module: Optional[Module], settings: dict[str, Any], path: Path, notes: list[str]) -> int:
    """Returns the minibatch-stddev group of the discriminator; an assumption goes into `notes`."""
    if module is None:
        return 4
    values = attributes(module, "group_size")
    said, value = (True, values[0]) if values else setting(settings, "mbstd_group_size")
    if not said:
        notes.append("mbstd_group_size is not in the file: assumed to be 4")
        return 4
    if value is None:  # so NVIDIA's converter leaves it in networks of 2019
        notes.append("mbstd_group_size is None in the file (the whole batch is one group): set to 4, as NVIDIA's training does "
                     "when it goes on from such a file; --mbstd-group N chooses another, --mbstd-group all the whole batch")
        return 4
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= MAX_GROUP:
        raise CheckpointError(
            f"cannot import '{path}': its minibatch-stddev group is {shown_value(value)}, expected 1 to {MAX_GROUP} "
            "images or None for the whole batch"
        )
    return value


def options(tree: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    """Returns what the file says of how it was made: the networks' arguments, and the data set without its path."""
    found = {f"{name}_kwargs": plain(kwargs) for name, kwargs in settings.items() if name != "G"}
    training = tree.get("training_set_kwargs") if isinstance(tree, dict) else None
    if isinstance(training, dict):
        found["training_set"] = {name: plain(training[name]) for name in SHARED_SETTINGS if name in training}
    return found
