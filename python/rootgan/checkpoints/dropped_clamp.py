"""Leaves out the clamp of a pair's convolutions, for layouts that have none, and measures on pictures whether that
changes anything. The networks run without the clamp: if no activation passes the bound there, the clamp is without
effect in every layer, one after the other."""

import sys
import time
from dataclasses import dataclass, field, replace
from typing import Any, Callable, Optional

import torch
from rootgan.networks.generator import ToRGB
from rootgan.networks.pair import fill
from torch import Tensor, nn

from .checkpoint import Checkpoint, CheckpointError

IMAGES = 1000
BATCH = 4  # the minibatch-stddev group of the layouts without a clamp
SEED = 0
PATIENCE = 20  # seconds after which it is said how long the measurement takes


def without(checkpoint: Checkpoint) -> Checkpoint:
    """Returns the checkpoint with networks that do not clamp."""
    return replace(checkpoint, architecture=replace(checkpoint.architecture, conv_clamp=None, d_conv_clamp=None))


@dataclass
class Watched:
    """A network without its clamp, and the largest number in each picture that the clamp would have been applied to."""

    module: Any  # a generator or a discriminator
    clamp: Optional[float]
    largest: Tensor = field(default_factory=lambda: torch.zeros(0))  # [pictures so far]
    now: Tensor = field(default_factory=lambda: torch.zeros(0))  # [N], in the pictures that are being made

    def watch(self, clamped: nn.Module) -> None:
        """Looks at the output of every layer that clamps in the network with the clamp."""
        layers = dict(self.module.named_modules())
        for name, layer in clamped.named_modules():
            if getattr(layer, "clamp", None) is not None:
                gain = 1.0 if isinstance(layer, ToRGB) else float(layer.gain)
                layers[name].register_forward_hook(self.noting(gain))

    def noting(self, gain: float) -> Any:
        def hook(_module: nn.Module, _inputs: Any, x: Tensor) -> None:
            found = x.abs().amax(dim=(1, 2, 3)) / gain
            # A number that is not finite counts as one beyond every bound.
            self.now = torch.maximum(self.now, found.nan_to_num(nan=torch.inf, posinf=torch.inf))

        return hook

    def run(self, n: int, forward: Callable[[], Tensor]) -> Tensor:
        """Lets `forward` run the network on n pictures, and notes the largest number in each."""
        self.now = torch.zeros(n)
        result = forward()
        self.largest = torch.cat([self.largest, self.now])
        return result


def watched(checkpoint: Checkpoint, network: str, source: str) -> Watched:
    """Makes the `network` (G or D) of a checkpoint without its clamp."""
    clamped, pair = checkpoint.architecture, without(checkpoint).architecture
    of_d = network == "D"
    module: nn.Module = pair.discriminator() if of_d else pair.generator()
    fill(module, (checkpoint.d if of_d else checkpoint.g_ema) or {}, source)
    with torch.device("meta"):
        original: nn.Module = clamped.discriminator() if of_d else clamped.generator()
    found = Watched(module.eval(), clamped.clamp_of_d if of_d else clamped.conv_clamp)
    found.watch(original)
    return found


def measured(checkpoint: Checkpoint, images: int, source: str) -> list[str]:
    """Says on how many pictures the clamps of the averaged generator and of the discriminator act."""
    if images < 1:
        raise CheckpointError(f"cannot measure the clamp on {images} pictures; pass --images 1 or more")
    networks = {"G": watched(checkpoint, "G", source)}
    if checkpoint.d is not None:
        networks["D"] = watched(checkpoint, "D", source)
    if all(network.clamp is None for network in networks.values()):
        return ["there is no clamp to leave out"]
    run(networks, images)
    said = {name: network for name, network in networks.items() if network.clamp is not None}
    if len(said) == 2 and said["G"].clamp == said["D"].clamp:
        both = torch.maximum(said["G"].largest, said["D"].largest)
        return [sentence(f"the clamp of {said['G'].clamp:g}", both, said["G"].clamp)]
    return [sentence(f"the clamp of {network.clamp:g} in {name}", network.largest, network.clamp)
            for name, network in said.items()]


def run(networks: dict[str, Watched], images: int) -> None:
    """Makes pictures, and shows them to the discriminator where there is one."""
    generator, G, began, patient = torch.Generator().manual_seed(SEED), networks["G"].module, time.monotonic(), True
    done = 0
    with torch.no_grad():
        while done < images:
            n = min(BATCH, images - done)
            z = torch.randn(n, G.z_dim, generator=generator)
            noise = torch.randn(n, G.synthesis.noise_numel, generator=generator)
            pictures = networks["G"].run(n, lambda: G.synthesis(G.mapping(z), "random", noise))
            if "D" in networks:
                networks["D"].run(n, lambda: networks["D"].module(pictures))
            done += n
            passed = time.monotonic() - began
            if patient and passed > PATIENCE and done < images:
                minutes = passed * (images - done) / done / 60
                print(f"measuring the clamp: {done:,} of {images:,} pictures are made, the others take about "
                      f"{minutes:.0f} min", file=sys.stderr)
                patient = False


def sentence(clamp: str, largest: Tensor, bound: Optional[float]) -> str:
    """Says what the clamp does, of the largest activation in each picture [N]."""
    count, over = len(largest), int((largest > (bound or 0.0)).sum())
    pictures = f"{count:,} pictures" if count != 1 else "1 picture"
    if over == 0:
        return f"{clamp} never acted on {pictures}: nothing changes (the largest value was {largest.max().item():.4g})"
    return (f"{clamp} acted on {over:,} of {pictures}; the largest value was {largest.max().item():.4g}: there, the results "
            "of the new file differ")
