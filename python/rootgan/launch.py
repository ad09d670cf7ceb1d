"""Starts the program in an installed package: the command `rootgan`. Nothing heavy is imported, so that it starts at once."""

import os
import re
import sys
from pathlib import Path

# Not resolved: where an environment consists of links, torch is beside the link.
PACKAGE = Path(os.path.abspath(__file__)).parent
TORCH = "2.11.0"  # as in python/pyproject.toml


def main() -> None:
    program = PACKAGE / "bin" / "rootgan"
    if not program.is_file():
        sys.exit(f"error: cannot start rootgan: '{program}' is missing, as in a clone; build it there with 'cargo build "
                 "--release' and run target/release/rootgan, or install a wheel (docs/install.md)")
    libraries = torch_libraries()
    # The program looks for torch beside the package that its own file is in. Torch may be in another folder of packages, and an
    # environment may consist of links.
    if not (program.resolve().parents[2] / "torch/lib/libtorch.so").is_file():
        before = os.environ.get("LD_LIBRARY_PATH")
        os.environ["LD_LIBRARY_PATH"] = f"{libraries}:{before}" if before else str(libraries)
    os.environ["ROOTGAN_PYTHON"] = sys.executable
    try:
        os.execv(program, ["rootgan", *sys.argv[1:]])
    except OSError as error:
        sys.exit(f"error: cannot start '{program}': {error.strerror}; it is for Linux on x86-64 with glibc (docs/install.md)")


def torch_libraries() -> Path:
    """Returns the folder of the libraries of this Python's torch, which has to be of the version that the program is linked to."""
    remedy = f"run: {sys.executable} -m pip install torch=={TORCH}"
    places = [PACKAGE.parent, *(Path(place or ".").absolute() for place in sys.path)]
    folder = next((place / "torch" for place in places if (place / "torch/lib/libtorch.so").is_file()), None)
    if folder is None:
        sys.exit(f"error: cannot start rootgan: this Python has no torch; {remedy}")
    found = re.search(r"__version__ = '([^'+]*)", (folder / "version.py").read_text(encoding="utf-8"))
    if found is None or found[1] != TORCH:
        sys.exit(f"error: cannot start rootgan: torch in '{folder}' is {found[1] if found else 'of an unknown version'}, "
                 f"expected {TORCH}; {remedy}")
    return folder / "lib"


if __name__ == "__main__":
    main()
