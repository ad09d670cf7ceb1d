"""Lists rosinality's names of the tensors of StyleGAN2, each with its name here: one table for reading and writing."""

from typing import NamedTuple


class Entry(NamedTuple):
    """Where a tensor goes: its name here, and how many axes of length 1 rosinality puts before and after its own. A
    filter is stored multiplied by `factor`, which is 0 for every other tensor."""

    name: str
    before: int = 0
    after: int = 0
    factor: float = 0.0


def generator_table(resolution: int, layers: int) -> dict[str, Entry]:
    """Lists rosinality's names of a generator's tensors, each with its place here."""
    table = {f"style.{i + 1}.{part}": Entry(f"mapping.fc{i}.{part}")
             for i in range(layers) for part in ("weight", "bias")}
    table["input.input"] = Entry("synthesis.b4.const", 1)
    table.update(layer_table("conv1", "noises.noise_0", "synthesis.b4.conv1"))
    table.update(rgb_table("to_rgb1", "synthesis.b4.torgb"))
    for j, r in enumerate(above_4(resolution)):
        block = f"synthesis.b{r}"
        for k in (0, 1):
            table.update(layer_table(f"convs.{2 * j + k}", f"noises.noise_{2 * j + k + 1}", f"{block}.conv{k}"))
        table[f"convs.{2 * j}.conv.blur.kernel"] = Entry(f"{block}.conv0.resample_filter", factor=4)
        table.update(rgb_table(f"to_rgbs.{j}", f"{block}.torgb"))
        table[f"to_rgbs.{j}.upsample.kernel"] = Entry(f"{block}.resample_filter", factor=4)
    return table


def layer_table(theirs: str, noise: str, ours: str) -> dict[str, Entry]:
    """Lists the names of one synthesis layer."""
    return {f"{theirs}.conv.weight": Entry(f"{ours}.weight", 1), **modulation_table(theirs, ours),
            f"{theirs}.noise.weight": Entry(f"{ours}.noise_strength", 1),
            f"{theirs}.activate.bias": Entry(f"{ours}.bias"), noise: Entry(f"{ours}.noise_const", 2)}


def rgb_table(theirs: str, ours: str) -> dict[str, Entry]:
    return {f"{theirs}.conv.weight": Entry(f"{ours}.weight", 1), **modulation_table(theirs, ours),
            f"{theirs}.bias": Entry(f"{ours}.bias", 1, 2)}


def modulation_table(theirs: str, ours: str) -> dict[str, Entry]:
    return {f"{theirs}.conv.modulation.{part}": Entry(f"{ours}.affine.{part}") for part in ("weight", "bias")}


def discriminator_table(resolution: int) -> dict[str, Entry]:
    """Lists rosinality's names of a discriminator's tensors, each with its place here."""
    table = {"convs.0.0.weight": Entry(f"b{resolution}.fromrgb.weight"),
             "convs.0.1.bias": Entry(f"b{resolution}.fromrgb.bias")}
    for i, r in enumerate(reversed(above_4(resolution)), start=1):
        for theirs, ours in (("conv1.0.weight", "conv0.weight"), ("conv1.1.bias", "conv0.bias"),
                             ("conv2.1.weight", "conv1.weight"), ("conv2.2.bias", "conv1.bias"),
                             ("skip.1.weight", "skip.weight")):
            table[f"convs.{i}.{theirs}"] = Entry(f"b{r}.{ours}")
        table[f"convs.{i}.conv2.0.kernel"] = Entry(f"b{r}.conv1.resample_filter", factor=1)
        table[f"convs.{i}.skip.0.kernel"] = Entry(f"b{r}.skip.resample_filter", factor=1)
    for theirs, ours in (("final_conv.0.weight", "conv.weight"), ("final_conv.1.bias", "conv.bias"),
                         *((f"final_linear.{i}.{part}", f"{name}.{part}") for i, name in enumerate(("fc", "out"))
                           for part in ("weight", "bias"))):
        table[theirs] = Entry(f"b4.{ours}")
    return table


def above_4(resolution: int) -> list[int]:
    """The resolutions 8, 16, ... up to the network's own."""
    return [8 << i for i in range(resolution.bit_length() - 3)]
