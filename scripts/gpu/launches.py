#!/usr/bin/env python3
"""Measures how long this machine takes to launch one kernel, in microseconds: small additions, products with a gradient, and
convolutions in fp16, one after the other."""

import time

import torch


def main() -> None:
    x = torch.zeros(64, device="cuda")
    leaf = torch.zeros(64, device="cuda", requires_grad=True)
    count = 2000

    def plain():
        for _ in range(count):
            x.add_(1.0)

    def with_gradient():
        y = leaf
        for _ in range(count // 2):
            y = y * 1.5
        torch.autograd.grad(y.sum(), leaf)

    convolved = torch.randn(16, 64, 16, 16, device="cuda", dtype=torch.float16).to(memory_format=torch.channels_last)
    kernel = torch.randn(64, 64, 3, 3, device="cuda", dtype=torch.float16)

    def convolutions():
        for _ in range(count):
            torch.nn.functional.conv2d(convolved, kernel, padding=1)

    for work in (plain, with_gradient, convolutions):
        for _ in range(2):
            work()
        torch.cuda.synchronize()
        begun = time.perf_counter()
        work()
        issued = time.perf_counter() - begun
        torch.cuda.synchronize()
        print(f"{work.__name__}: {issued / count * 1e6:.1f} us to issue, {(time.perf_counter() - begun) / count * 1e6:.1f} us to finish")


if __name__ == "__main__":
    main()
