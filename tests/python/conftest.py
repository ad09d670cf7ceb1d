"""Makes `scripts/` importable, and torch quiet and single-threaded: the networks here are tiny."""

import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))
torch.set_num_threads(1)


def pytest_configure(config):
    # TorchScript is deprecated in favour of torch.export, which cannot be trained from without Python.
    config.addinivalue_line("filterwarnings", "ignore:.*torch.jit:DeprecationWarning")
