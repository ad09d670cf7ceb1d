"""The same training step as `rootgan bench`, in plain eager PyTorch written the textbook way (arXiv 1912.04958): modulated
weights for every sample and grouped convolutions, zero insertion and FIR as the papers draw them, torch.optim.Adam, one
tensor at a time. What rootgan gains over it is what its formulations are worth.

    .venv/bin/python benches/twin.py --pair .cache/bench/S --batch 16 --iterations 5

`--pair` is a folder of rootgan new: sizes and weights come from there, so both compute the same function
(`--check` compares images and logits). `benches/run` calls this and rootgan in turn.
"""

import argparse
import copy
import json
import resource
import sys
import time
from math import log2, sqrt
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SHARES = {"Gmain": 1.0, "Greg": 1 / 4, "Dmain": 1.0, "Dreg": 1 / 16}
# What the twin has; a description leaves out what is usual.
COMPUTED = {"c_dim": 0, "img_channels": 3, "conv_clamp": None, "g_architecture": "skip", "d_architecture": "resnet",
            "mapping_rate": 0.01}
TAPS = torch.tensor([1.0, 3.0, 3.0, 1.0])


def fir(x: Tensor, pad: tuple[int, int], gain: float = 1.0) -> Tensor:
    """Pads, then filters every channel with the 4x4 low pass."""
    channels = x.shape[1]
    kernel = (torch.outer(TAPS, TAPS) / 64 * gain).expand(channels, 1, 4, 4)
    return F.conv2d(F.pad(x, [pad[0], pad[1], pad[0], pad[1]]), kernel, groups=channels)


def upsample(x: Tensor) -> Tensor:
    """Doubles the size: puts zeros between samples, then filters with gain 4."""
    n, c, h, w = x.shape
    spread = torch.zeros(n, c, h, 2, w, 2)
    spread[:, :, :, 0, :, 0] = x
    return fir(spread.reshape(n, c, 2 * h, 2 * w), (2, 1), gain=4)


class Linear(nn.Module):
    def __init__(self, inputs: int, outputs: int, lrelu: bool = False, lr_mul: float = 1.0):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs))
        self.bias = nn.Parameter(torch.empty(outputs))
        self.gain, self.lr_mul, self.lrelu = lr_mul / sqrt(inputs), lr_mul, lrelu

    def forward(self, x: Tensor) -> Tensor:
        x = F.linear(x, self.weight * self.gain, self.bias * self.lr_mul)
        return F.leaky_relu(x, 0.2) * sqrt(2) if self.lrelu else x


class Mapping(nn.Module):
    def __init__(self, z_dim: int, w_dim: int, layers: int):
        super().__init__()
        for i in range(layers):
            setattr(self, f"fc{i}", Linear(z_dim if i == 0 else w_dim, w_dim, lrelu=True, lr_mul=0.01))
        self.register_buffer("w_avg", torch.zeros(w_dim))
        self.layers = layers

    def forward(self, z: Tensor) -> Tensor:
        x = z * (z.square().mean(dim=1, keepdim=True) + 1e-8).rsqrt()
        for i in range(self.layers):
            x = getattr(self, f"fc{i}")(x)
        if self.training:
            self.w_avg.copy_(x.detach().mean(dim=0).lerp(self.w_avg, 0.995))
        return x


class ModulatedConv(nn.Module):
    """Convolves every sample with weights of its own, all samples as one grouped convolution."""

    def __init__(self, inputs: int, outputs: int, w_dim: int, kernel: int, demodulate: bool, up: bool = False):
        super().__init__()
        self.affine = Linear(w_dim, inputs)
        self.weight = nn.Parameter(torch.empty(outputs, inputs, kernel, kernel))
        self.kernel, self.demodulate, self.up = kernel, demodulate, up
        self.style_gain = 1.0 if demodulate else 1 / sqrt(inputs)

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        n, c, h, width = x.shape
        weight = self.weight * (self.affine(w) * self.style_gain).reshape(n, 1, c, 1, 1)
        if self.demodulate:
            weight = weight * (weight.square().sum(dim=[2, 3, 4], keepdim=True) + 1e-8).rsqrt()
        outputs = weight.shape[1]
        if self.up:
            weight = weight.transpose(1, 2).reshape(n * c, outputs, self.kernel, self.kernel)
            x = F.conv_transpose2d(x.reshape(1, n * c, h, width), weight, stride=2, groups=n)
            return fir(x.reshape(n, outputs, *x.shape[2:]), (1, 1), gain=4)
        weight = weight.reshape(n * outputs, c, self.kernel, self.kernel)
        x = F.conv2d(x.reshape(1, n * c, h, width), weight, padding=self.kernel // 2, groups=n)
        return x.reshape(n, outputs, h, width)


class StyledConv(ModulatedConv):
    def __init__(self, inputs: int, outputs: int, w_dim: int, up: bool):
        super().__init__(inputs, outputs, w_dim, 3, True, up)
        self.bias = nn.Parameter(torch.empty(outputs))
        self.noise_strength = nn.Parameter(torch.empty([]))

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        x = super().forward(x, w)
        x = x + torch.randn(x.shape[0], 1, *x.shape[2:]) * self.noise_strength
        return F.leaky_relu(x + self.bias.reshape(1, -1, 1, 1), 0.2) * sqrt(2)


class ToRGB(ModulatedConv):
    def __init__(self, inputs: int, w_dim: int):
        super().__init__(inputs, 3, w_dim, 1, False)
        self.bias = nn.Parameter(torch.empty(3))

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        return super().forward(x, w) + self.bias.reshape(1, -1, 1, 1)


class SynthesisBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int, w_dim: int, resolution: int):
        super().__init__()
        if resolution == 4:
            self.const = nn.Parameter(torch.empty(outputs, 4, 4))
        else:
            self.conv0 = StyledConv(inputs, outputs, w_dim, up=True)
        self.conv1 = StyledConv(outputs, outputs, w_dim, up=False)
        self.torgb = ToRGB(outputs, w_dim)


class Generator(nn.Module):
    def __init__(self, sizes: dict):
        super().__init__()
        w_dim, self.resolutions = sizes["w_dim"], [2**i for i in range(2, int(log2(sizes["img_resolution"])) + 1)]
        self.num_ws = 2 * len(self.resolutions)
        self.mapping = Mapping(sizes["z_dim"], w_dim, sizes["mapping_layers"])
        self.synthesis = nn.Module()
        width = 0
        for resolution in self.resolutions:
            outputs = min(sizes["channel_base"] // resolution, sizes["channel_max"])
            setattr(self.synthesis, f"b{resolution}", SynthesisBlock(width, outputs, w_dim, resolution))
            width = outputs

    def synthesise(self, ws: Tensor) -> Tensor:
        place, img = 0, None
        for resolution in self.resolutions:
            block = getattr(self.synthesis, f"b{resolution}")
            if resolution == 4:
                x = block.const.unsqueeze(0).repeat(ws.shape[0], 1, 1, 1)
            else:
                x, img = block.conv0(x, ws[:, place]), upsample(img)
                place += 1
            x = block.conv1(x, ws[:, place])
            rgb = block.torgb(x, ws[:, place + 1])
            place += 1
            img = rgb if img is None else img + rgb
        return img

    def styles(self, z: Tensor, mixing: float) -> Tensor:
        ws = self.mapping(z).unsqueeze(1).repeat(1, self.num_ws, 1)
        if torch.rand([]) < mixing:
            cutoff = int(torch.randint(1, self.num_ws, []))
            ws[:, cutoff:] = self.mapping(torch.randn_like(z)).unsqueeze(1)
        return ws


class Conv(nn.Module):
    def __init__(self, inputs: int, outputs: int, kernel: int, bias: bool = True, down: bool = False, gain: float = 1.0):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs, kernel, kernel))
        self.bias = nn.Parameter(torch.empty(outputs)) if bias else None
        self.weight_gain, self.kernel, self.down, self.gain = 1 / sqrt(inputs * kernel**2), kernel, down, gain

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight * self.weight_gain
        if self.down and self.kernel == 1:
            x = F.conv2d(fir(x, (1, 1))[:, :, ::2, ::2], weight)
        elif self.down:
            x = F.conv2d(fir(x, (2, 2)), weight, stride=2)
        else:
            x = F.conv2d(x, weight, padding=self.kernel // 2)
        if self.bias is None:
            return x * self.gain
        return F.leaky_relu(x + self.bias.reshape(1, -1, 1, 1), 0.2) * (sqrt(2) * self.gain)


class DiscriminatorBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int, first: bool):
        super().__init__()
        if first:
            self.fromrgb = Conv(3, inputs, 1)
        self.conv0 = Conv(inputs, inputs, 3)
        self.conv1 = Conv(inputs, outputs, 3, down=True, gain=sqrt(0.5))
        self.skip = Conv(inputs, outputs, 1, bias=False, down=True, gain=sqrt(0.5))


class Discriminator(nn.Module):
    def __init__(self, sizes: dict):
        super().__init__()
        width = lambda r: min(sizes["channel_base"] // r, sizes["channel_max"])
        self.resolutions = [2**i for i in range(int(log2(sizes["img_resolution"])), 2, -1)]
        for resolution in self.resolutions:
            block = DiscriminatorBlock(width(resolution), width(resolution // 2), resolution == self.resolutions[0])
            setattr(self, f"b{resolution}", block)
        self.b4 = nn.Module()
        self.b4.conv = Conv(width(4) + 1, width(4), 3)
        self.b4.fc = Linear(width(4) * 16, width(4), lrelu=True)
        self.b4.out = Linear(width(4), 1)
        self.group = sizes["mbstd_group_size"]

    def forward(self, img: Tensor) -> Tensor:
        x = getattr(self, f"b{self.resolutions[0]}").fromrgb(img)
        for resolution in self.resolutions:
            block = getattr(self, f"b{resolution}")
            x = block.skip(x) + block.conv1(block.conv0(x))
        n, group = x.shape[0], min(self.group, x.shape[0])
        y = x.reshape(group, n // group, *x.shape[1:])
        y = ((y - y.mean(dim=0)).square().mean(dim=0) + 1e-8).sqrt().mean(dim=[1, 2, 3])
        y = y.reshape(1, -1).repeat(group, 1).reshape(n, 1, 1, 1).expand(n, 1, 4, 4)
        return self.b4.out(self.b4.fc(self.b4.conv(torch.cat([x, y], dim=1)).flatten(1)))


def rooted(logits: Tensor, k: float = 2.0) -> Tensor:
    """The rooted logistic loss k (1 + exp(-logits))^(1/k), in a stable form."""
    return k * torch.exp(F.softplus(-logits) / k)


class Step:
    """One training iteration, phase by phase."""

    def __init__(self, g: Generator, d: Discriminator, batch: int, z_dim: int, gamma: float):
        self.g, self.d, self.g_ema = g, d, copy.deepcopy(g)
        self.batch, self.z_dim, self.gamma = batch, z_dim, gamma
        adam = lambda net, i: torch.optim.Adam(net.parameters(), lr=0.0025 * i / (i + 1), betas=(0.0, 0.99 ** (i / (i + 1))))
        self.g_adam, self.d_adam = adam(g, 4), adam(d, 16)
        self.pl_mean = torch.zeros([])

    def latents(self, n: int) -> Tensor:
        return torch.randn(n, self.z_dim)

    def update(self, adam: torch.optim.Optimizer, loss) -> None:
        trained, other = (self.g, self.d) if adam is self.g_adam else (self.d, self.g)
        trained.requires_grad_(True)
        other.requires_grad_(False)
        adam.zero_grad(set_to_none=True)
        loss()
        adam.step()

    def Gmain(self) -> None:
        def loss() -> None:
            rooted(self.d(self.g.synthesise(self.g.styles(self.latents(self.batch), 0.9)))).mean().backward()
        self.update(self.g_adam, loss)

    def Greg(self) -> None:
        def loss() -> None:
            ws = self.g.styles(self.latents(self.batch // 2), 0.9)
            images = self.g.synthesise(ws)
            noise = torch.randn_like(images) / sqrt(images.shape[2] * images.shape[3])
            gradient, = torch.autograd.grad((images * noise).sum(), ws, create_graph=True)
            lengths = gradient.square().sum(dim=2).mean(dim=1).sqrt()
            mean = self.pl_mean.lerp(lengths.mean(), 0.01)
            self.pl_mean.copy_(mean.detach())
            ((lengths - mean).square().mean() * 2 * 4).backward()
        self.update(self.g_adam, loss)

    def Dmain(self, reals: Tensor) -> None:
        def loss() -> None:
            with torch.no_grad():
                fakes = self.g.synthesise(self.g.styles(self.latents(self.batch), 0.9))
            rooted(-self.d(fakes)).mean().backward()
            rooted(self.d(reals)).mean().backward()
        self.update(self.d_adam, loss)

    def Dreg(self, reals: Tensor) -> None:
        def loss() -> None:
            images = reals.detach().requires_grad_(True)
            gradient, = torch.autograd.grad(self.d(images).sum(), images, create_graph=True)
            (gradient.square().sum(dim=[1, 2, 3]).mean() * (self.gamma / 2 * 16)).backward()
        self.update(self.d_adam, loss)

    def ema(self) -> None:
        with torch.no_grad():
            for average, value in zip(self.g_ema.parameters(), self.g.parameters()):
                average.copy_(value.lerp(average, 0.998))
            for average, value in zip(self.g_ema.buffers(), self.g.buffers()):
                average.copy_(value)


def load(pair: Path) -> tuple[Generator, Discriminator, dict]:
    """The twin's networks with the weights of a pair, and the sizes that the pair describes."""
    g, d = torch.jit.load(pair / "generator.pt"), torch.jit.load(pair / "discriminator.pt")
    of_g, of_d = json.loads(g.describe()), json.loads(d.describe())
    refuse_others(pair, of_g, of_d)
    sizes = {**of_d, **of_g}
    mine = (Generator(sizes), Discriminator(sizes))
    for net, script in zip(mine, (g, d)):
        missing, _ = net.load_state_dict(script.state_dict(), strict=False)
        if missing:
            raise SystemExit(f"error: cannot time '{pair}': it has no {', '.join(missing)}; make it anew with rootgan new")
    return *mine, sizes


def refuse_others(pair: Path, of_g: dict, of_d: dict) -> None:
    """Refuses a pair that the twin would compute wrongly, by what its networks say of themselves."""
    channels = {name: of_g[name] for name in ("img_resolution", "channel_base", "channel_max")}
    for said in (of_g, of_d):
        for name, wanted in {**COMPUTED, **channels}.items():
            found = said.get(name, wanted)
            if found != wanted:
                raise SystemExit(f"error: cannot time '{pair}': {name} of its {said['kind']} is {found}, the twin has only {wanted}; "
                                 "pass a pair of rootgan new in colour, without labels and clamp")


def check(pair: Path, g: Generator, d: Discriminator, sizes: dict) -> None:
    """Compares images without noise, and logits, with those of the scripted networks."""
    script_g, script_d = torch.jit.load(pair / "generator.pt"), torch.jit.load(pair / "discriminator.pt")
    z = torch.randn(4, sizes["z_dim"])
    with torch.no_grad():
        for module in g.eval().modules():
            if isinstance(module, StyledConv):
                module.noise_strength.zero_()
        images = g.synthesise(g.styles(z, 0.0))
        for name, ours, theirs in [("images", images, script_g(z, noise_mode="none")),
                                   ("logits", d(images), script_d(images))]:
            worst = float((ours - theirs).abs().max() / theirs.abs().max())
            print(f"{name}: largest relative difference {worst:.1e}")
            if worst > 1e-4:
                raise SystemExit("the twin computes something else")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pair", type=Path, required=True, help="folder with generator.pt and discriminator.pt")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--iterations", type=int, default=5, help="measured ones, after one that is not")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--check", action="store_true", help="compare with the scripted networks instead of measuring")
    args = parser.parse_args()
    g, d, sizes = load(args.pair)
    if args.check:
        check(args.pair, g, d, sizes)
        return
    side = sizes["img_resolution"]
    step = Step(g, d, args.batch, sizes["z_dim"], 0.0002 * side**2 / args.batch)
    reals = torch.rand(args.batch, 3, side, side) * 2 - 1
    times: dict[str, list[float]] = {name: [] for name in [*SHARES, "rest"]}
    phases = {"Gmain": step.Gmain, "Greg": step.Greg, "Dmain": lambda: step.Dmain(reals), "Dreg": lambda: step.Dreg(reals),
              "rest": step.ema}
    for iteration in range(args.iterations + 1):
        for name, phase in phases.items():
            begun = time.perf_counter()
            phase()
            if iteration > 0:
                times[name].append(time.perf_counter() - begun)
    medians = {name: sorted(values)[len(values) // 2] for name, values in times.items()}
    seconds = sum(share * medians[name] for name, share in SHARES.items()) + medians["rest"]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    rates = []
    with torch.no_grad():
        for _ in range(args.iterations + 1):
            begun = time.perf_counter()
            for _ in range(4):
                g.synthesise(g.styles(step.latents(args.batch), 0.0))
            rates.append(4 * args.batch / (time.perf_counter() - begun))
    generated = sorted(rates[1:])[len(rates[1:]) // 2]
    report = {"phase_seconds": medians, "seconds_per_image": seconds / args.batch, "peak_host_memory_mib": peak,
              "others": {"generated_images_per_second": generated}, "threads": torch.get_num_threads(), "batch": args.batch, "resolution": side}
    if args.json:
        json.dump(report, sys.stdout)
        return
    for name, seconds_of in medians.items():
        print(f"  {name:<6} {seconds_of:8.3f} s")
    print(f"seconds per image: {seconds / args.batch:.4f}, peak memory: {peak:.0f} MiB; generation: {generated:.1f} images/s")


if __name__ == "__main__":
    main()
