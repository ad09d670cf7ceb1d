"""Makes `python/rootgan` and `scripts/` importable, and torch quiet and single-threaded (the networks here are tiny); fixtures for second
derivatives as the program computes them."""

import ctypes
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "python"), str(ROOT / "scripts")]
torch.set_num_threads(1)


def pytest_configure(config):
    # TorchScript is deprecated in favour of torch.export, which cannot be trained from without Python.
    config.addinivalue_line("filterwarnings", "ignore:.*torch.jit:DeprecationWarning")


@pytest.fixture(scope="session")
def derivatives_library():
    """rootgan's second derivatives of convolutions as a library for Python's torch; compiled once per source."""
    source = ROOT / "src" / "tensor" / "native" / "convolution_backward.cpp"
    torch_folder = Path(torch.__file__).parent
    key = hashlib.sha256(source.read_bytes() + torch.__version__.encode()).hexdigest()[:16]
    library = ROOT / ".cache" / "tests" / f"convolution_backward-{key}.so"
    if not library.exists():
        library.parent.mkdir(parents=True, exist_ok=True)
        scratch = library.with_suffix(f".{os.getpid()}")
        includes = [f"-I{torch_folder / 'include' / part}" for part in ("", "torch/csrc/api/include")]
        subprocess.run([os.environ.get("CXX", "c++"), "-O1", "-shared", "-fPIC", "-std=c++17", "-w",
                        f"-D_GLIBCXX_USE_CXX11_ABI={int(torch._C._GLIBCXX_USE_CXX11_ABI)}", *includes, source, "-o", scratch,
                        f"-L{torch_folder / 'lib'}", "-ltorch_cpu", "-lc10"], check=True)
        os.replace(scratch, library)
    return ctypes.CDLL(str(library))


@pytest.fixture
def own_derivatives(derivatives_library):
    """Switches to the program's second derivatives: libtorch's own are wrong by a tenth in bf16 on CPUs with AMX."""
    assert derivatives_library.rootgan_set_convolution_backward(True)
    yield
    derivatives_library.rootgan_set_convolution_backward(False)
