#!/usr/bin/env python3
"""Times ways to compute a 3x3 convolution that halves or doubles the size, with the 4x4 low-pass filter before or after it,
forward and with its derivatives, in milliseconds: the filter as a convolution with a group for every channel (channels last,
and contiguous between two reorderings), as banded matrices, and as a part of the kernel, which is 6x6 then.

    scripts/gpu/filters.py [--device cuda]
"""

import argparse
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "python"))
from rootgan.networks.resample import banded, bands, composed  # noqa: E402

SHAPES = [(16, 64, 256), (16, 128, 128), (16, 512, 32), (4, 32, 1024)]
TAPS = [1.0, 3.0, 3.0, 1.0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true")
    args = parser.parse_args()
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    cuda = args.device != "cpu"
    taps = torch.tensor(TAPS, device=args.device) / 8
    kernel = torch.outer(taps, taps)  # the same turned around, so that it suits both directions

    def whole(x, padding, stride=1):
        c = x.shape[1]
        return F.conv2d(x, kernel.to(x.dtype).expand(c, 1, 4, 4), padding=padding, groups=c, stride=stride)

    def contiguous(x, padding):
        return whole(x.contiguous(), padding).contiguous(memory_format=torch.channels_last)

    def in_bands(x, padding):
        matrix = bands(x.shape[2], taps, padding, 1, x.dtype)
        return banded(x, matrix, matrix)

    def down(filtered):
        return lambda x, w: F.conv2d(filtered(x, 2), w, stride=2)

    def down_composed(x, w):
        return F.conv2d(x, composed(w, kernel), stride=2, padding=2)

    def up(filtered):
        return lambda x, w: filtered(F.conv_transpose2d(x, w, stride=2), 1) * 4

    def up_composed(x, w):
        return F.conv_transpose2d(x, composed(w, kernel * 4), stride=2, padding=2)

    def milliseconds(work) -> float:
        for _ in range(2):
            work()
        if cuda:
            torch.cuda.synchronize()
        begun, count = time.perf_counter(), 1 if args.tiny else 8
        for _ in range(count):
            work()
        if cuda:
            torch.cuda.synchronize()
        return (time.perf_counter() - begun) / count * 1000

    rows = 0
    for n, c, side in SHAPES:
        if args.tiny:
            n, c, side = 2, 8, 16
        for kind in (torch.float16, torch.float32):
            kind = torch.bfloat16 if args.device == "cpu" and kind == torch.float16 else kind
            order = torch.channels_last if kind != torch.float32 or args.device == "cpu" else torch.contiguous_format
            for direction, ways in (
                ("down", (("filter, channels last", down(whole)), ("filter, contiguous", down(contiguous)), ("bands", down(in_bands)),
                          ("composed", down_composed))),
                ("up", (("filter, channels last", up(whole)), ("filter, contiguous", up(contiguous)), ("bands", up(in_bands)),
                        ("composed", up_composed)))):
                wide = min(2 * c, 512)
                inputs, outputs, size = (c, wide, side) if direction == "down" else (wide, c, side // 2)
                x = torch.randn(n, inputs, size, size, device=args.device).to(kind, memory_format=order).requires_grad_()
                weight = torch.randn(outputs, inputs, 3, 3, device=args.device) / (9 * inputs) ** 0.5
                if direction == "up":
                    weight = weight.transpose(0, 1).contiguous()
                weight = weight.to(kind).requires_grad_()
                cells, first = [], None
                for name, work in ways:
                    try:
                        out = work(x, weight)
                        first = out if first is None else first
                        off = ((out - first).float().norm() / first.float().norm()).item()
                        toward = torch.randn_like(out)
                        both = milliseconds(lambda: torch.autograd.grad(work(x, weight), (x, weight), toward))
                        with torch.no_grad():
                            forward = milliseconds(lambda: work(x, weight))
                        cells.append(f"{name} {forward:.3f}/{both:.3f} ({off:.0e})")
                    except RuntimeError as error:
                        cells.append(f"{name} failed: {str(error)[:80]}")
                    rows += 1
                print(f"{direction} {n}x{inputs}x{size} -> {outputs} {str(kind).split('.')[1]}: " + "; ".join(cells), flush=True)
    print(f"{rows} times (forward/with derivatives)")


if __name__ == "__main__":
    main()
