#!/usr/bin/env python3
"""Lists the kernels that the four phases of a training iteration spend their time in: wall time, time in kernels, launches, and the
kernels that take most, for a pair of rootgan new run from Python as rootgan runs it.

    scripts/gpu/profile_phases.py --pair FOLDER [--library .gpu/lib/convolution_backward.so] [--precision fp16] [--batch 16]
"""

import argparse
import collections
import ctypes
import json
import time
from pathlib import Path

import torch


def replay_milliseconds(phase) -> str:
    """The time of a phase that was recorded as a CUDA graph."""
    try:
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            phase()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            phase()
        graph.replay()
        torch.cuda.synchronize()
        begun, count = time.perf_counter(), 10
        for _ in range(count):
            graph.replay()
        torch.cuda.synchronize()
        return f"{(time.perf_counter() - begun) / count * 1000:.2f}"
    except RuntimeError as error:
        cause = error  # that of leaving the recording says only that something failed before
        while cause.__context__ is not None:
            cause = cause.__context__
        return f"not recordable ({' '.join(str(cause).split())[:300]})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pair", type=Path, required=True)
    parser.add_argument("--library", type=Path)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--precision", default="fp16")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--top", type=int, default=22)
    parser.add_argument("--tiny", action="store_true")
    args = parser.parse_args()
    if args.library:
        ctypes.CDLL(str(args.library)).rootgan_set_convolution_backward(True)
    torch._C._jit_set_profiling_mode(False)
    torch._C._set_graph_executor_optimize(False)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = False
    g, d = (torch.jit.load(str(args.pair / f"{name}.pt"), map_location=args.device) for name in ("generator", "discriminator"))
    batch = 2 if args.tiny else args.batch
    for module in (g, d):
        module.set_precision(args.precision if args.device != "cpu" else "fp32", 4)
    g_leaves, d_leaves = ([p for p in module.parameters() if p.requires_grad] for module in (g, d))
    z_dim = json.loads(g.describe())["z_dim"]
    ws0 = g.run_mapping(torch.randn(batch, z_dim, device=args.device), None, 1.0, None, False)
    reals = g.run_synthesis(ws0, "random", None).detach()
    noise = torch.randn_like(reals[: batch // 2])

    def images(n: int):
        z = torch.randn(n, z_dim, device=args.device)
        ws = g.run_mapping(z, None, 1.0, None, True)
        return ws, g.run_synthesis(ws, "random", None)

    def g_main():
        loss = torch.nn.functional.softplus(-d(images(batch)[1], None)).mean()
        torch.autograd.grad(loss, g_leaves, allow_unused=True)

    def g_reg():
        ws, pictures = images(batch // 2)
        (gradient,) = torch.autograd.grad((pictures * noise).sum(), ws, create_graph=True)
        torch.autograd.grad(gradient.square().sum(2).mean(1).sqrt().square().mean(), g_leaves, allow_unused=True)

    def d_main():
        with torch.no_grad():
            fakes = images(batch)[1]
        for pictures, sign in ((fakes, 1.0), (reals, -1.0)):
            torch.autograd.grad(torch.nn.functional.softplus(sign * d(pictures, None)).mean(), d_leaves)

    def d_reg():
        pictures = reals.detach().requires_grad_()
        logits = d(pictures, None)
        (gradient,) = torch.autograd.grad(logits.sum(), pictures, create_graph=True)
        torch.autograd.grad(gradient.square().sum((1, 2, 3)).mean(), d_leaves, allow_unused=True)

    def wait():
        if args.device != "cpu":
            torch.cuda.synchronize()

    summary = []
    for phase in (g_main, g_reg, d_main, d_reg):
        for _ in range(1 if args.tiny else 4):
            phase()
        wait()
        times = []
        for _ in range(1 if args.tiny else 6):
            begun = time.perf_counter()
            phase()
            wait()
            times.append(time.perf_counter() - begun)
        wall = sorted(times)[len(times) // 2]
        activities = [torch.profiler.ProfilerActivity.CPU]
        if args.device != "cpu":
            activities = [torch.profiler.ProfilerActivity.CUDA]
        with torch.profiler.profile(activities=activities) as profiler:
            phase()
            wait()
        kernels = collections.defaultdict(lambda: [0.0, 0])
        for event in profiler.events():
            if args.device != "cpu" and event.device_type != torch.autograd.DeviceType.CUDA:
                continue
            kernel = kernels[event.name]
            kernel[0] += event.device_time_total if args.device != "cpu" else event.self_cpu_time_total
            kernel[1] += 1
        graphed = replay_milliseconds(phase) if args.device != "cpu" else "-"
        total, launches = sum(k[0] for k in kernels.values()) / 1000, sum(k[1] for k in kernels.values())
        print(f"\n== {phase.__name__}: {wall * 1000:.2f} ms of wall time, {total:.2f} ms in kernels, {launches} launches, "
              f"{graphed} ms as a graph")
        summary.append(f"{phase.__name__} {wall * 1000:.1f}/{total:.1f}/{graphed} ms {launches} launches")
        for name, (microseconds, count) in sorted(kernels.items(), key=lambda item: -item[1][0])[: args.top]:
            print(f"{microseconds / 1000:8.3f} ms  {count:5d}  {name[:150]}")
    print("\nwall/kernels/as a graph: " + ", ".join(summary))


if __name__ == "__main__":
    main()
