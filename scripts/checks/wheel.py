"""Installs a wheel of scripts/package into a fresh environment, whose torch is a link to the one here, and uses it from an
empty folder as somebody without a clone would: pictures of the default pair, a foreign libtorch in LD_LIBRARY_PATH, from a
pickle to a pickle in two commands, the demo. Needs a network for pip.

    scripts/package
    .venv/bin/python scripts/checks/wheel.py

Prints one line a step. Exit code 1 if one fails.
"""

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

import fresh_environment

ROOT = Path(__file__).resolve().parents[2]
PICKLE = ROOT / "tests/golden/nvidia_like_r32.pkl"
SMALL = ["--device", "cpu", "--batch", "4", "--tick-kimg", "0.02", "--snapshot-ticks", "1", "--image-ticks", "1", "--grid", "2x2"]


class Failure(Exception):
    """What a step found instead of what it expected."""


class Installed:
    """The program as it was installed, called from a folder that holds nothing of a clone."""

    def __init__(self, scratch: Path, python: Path, folder: str = "empty") -> None:
        self.python = python
        self.command = python.parent / "rootgan"
        self.package = fresh_environment.site_packages(python) / "rootgan"
        self.folder = scratch / folder
        self.folder.mkdir(exist_ok=True)
        # A cache that others have filled would hide what cannot be downloaded or made.
        self.variables = fresh_environment.clean() | {"PATH": "/usr/bin:/bin", "XDG_CACHE_HOME": str(scratch / "cache")}

    def run(self, *arguments: str | Path, **variables: str) -> str:
        """Runs the program; returns what it prints."""
        ended = subprocess.run([self.command, *arguments], cwd=self.folder, env=self.variables | variables, capture_output=True,
                               text=True)
        if ended.returncode != 0:
            raise Failure(f"'rootgan {' '.join(map(str, arguments))}' ended with {ended.returncode}: "
                          f"{(ended.stderr or ended.stdout).strip()[-2000:]}")
        return ended.stdout

    def made(self, name: str) -> Path:
        """The path of a file that a command was to make."""
        path = self.folder / name
        if not path.is_file() or not path.stat().st_size:
            raise Failure(f"'{name}' was not made; there are {sorted(path.name for path in self.folder.iterdir())}")
        return path

    def run_folder(self, place: str) -> Path:
        """The newest run in a folder."""
        runs = sorted((self.folder / place).glob("[0-9]*"))
        if not runs:
            raise Failure(f"no run was made in '{place}'")
        return runs[-1]


def main() -> int:
    wheel = fresh_environment.chosen_wheel(__doc__)
    with tempfile.TemporaryDirectory() as scratch:
        return check(wheel, Path(scratch))


def check(wheel: Path, scratch: Path) -> int:
    """Runs every step; returns the exit code."""
    installed = Installed(scratch, fresh_environment.make(scratch / "environment"))
    steps: list[tuple[str, Callable[[], str]]] = [
        ("pip install", lambda: install(installed, wheel)),
        ("libraries", lambda: libraries(installed)),
        ("version", lambda: version(installed, wheel)),
        ("default pair", lambda: default_pair(installed)),
        ("foreign libtorch", lambda: foreign_libtorch(installed, scratch)),
        ("torch elsewhere", lambda: torch_elsewhere(installed, wheel, scratch)),
        ("new", lambda: new(installed)),
        ("import", lambda: import_pickle(installed)),
        ("pickle to pickle", lambda: pickle_to_pickle(installed, scratch)),
        ("demo", lambda: demo(Installed(scratch, installed.python, "demo"))),
    ]
    failed = []
    for name, step in steps:
        begun = time.monotonic()
        try:
            found = step()
        except (Failure, subprocess.CalledProcessError) as error:
            failed.append(name)
            found = f"FAILED: {error}"
        print(f"{name}: {found} ({time.monotonic() - begun:.1f} s)", flush=True)
        if failed == ["pip install"]:
            break
    print(f"{wheel.name}: {'FAILED: ' + ', '.join(failed) if failed else 'passed'}")
    return bool(failed)


def install(installed: Installed, wheel: Path) -> str:
    """Nothing may be left for pip to complain about: torch counts as installed, the small packages are downloaded."""
    fresh_environment.install(installed.python, wheel)
    subprocess.run([installed.python, "-m", "pip", "check", "--quiet"], check=True, env=fresh_environment.clean())
    return f"{wheel.stat().st_size / 1e6:.0f} MB"


def libraries(installed: Installed) -> str:
    """Every library is found, torch's own from beside the package."""
    lines = subprocess.run(["ldd", installed.package / "bin/rootgan"], check=True, env=fresh_environment.clean(),
                           capture_output=True, text=True).stdout.splitlines()
    missing = [line.strip() for line in lines if "not found" in line]
    torch = [line for line in lines if "libtorch" in line or "libc10" in line]
    if missing or not torch or not all("rootgan/bin/../../torch/lib/" in line for line in torch):
        raise Failure("; ".join(missing or map(str.strip, torch)) or "the program does not load libtorch")
    return f"{len(lines)} found, {len(torch)} of them torch's"


def version(installed: Installed, wheel: Path) -> str:
    """The program is of the version that the wheel says."""
    found, named = installed.run("--version").strip(), wheel.name.split("-")[1]
    if not found.startswith(f"rootgan {named} "):
        raise Failure(f"the program says '{found}', but the wheel's name says {named}")
    return found


def default_pair(installed: Installed, grid: str = "default.png", **variables: str) -> str:
    """Draws a grid with the default pair of the package."""
    generator = installed.package / "assets/weights/generator.pt"
    installed.run("generate", "--generator", generator, "--seeds", "0-3", "--device", "cpu", "--grid", grid, "--no-images",
                  **variables)
    with Image.open(installed.made(grid)) as picture:
        return f"{grid} {picture.width}x{picture.height}"


def foreign_libtorch(installed: Installed, scratch: Path) -> str:
    """Puts files that are no libraries, under the names of torch's, where the loader looks first."""
    fake = scratch / "fake"
    fake.mkdir()
    names = [path.name for path in (installed.package.parent / "torch/lib").glob("lib*.so*")]
    for name in names:
        (fake / name).write_text("no library\n")
    trap = subprocess.run([installed.python, "-c", "import ctypes; ctypes.CDLL('libc10.so')"], capture_output=True, text=True,
                          env=fresh_environment.clean() | {"LD_LIBRARY_PATH": str(fake)})
    if str(fake) not in trap.stderr:
        raise Failure(f"the fake libraries are not in the way of other programs, so they prove nothing: {trap.stderr[-300:]}")
    return f"{default_pair(installed, 'foreign.png', LD_LIBRARY_PATH=str(fake))} with {len(names)} fakes in the way"


def torch_elsewhere(installed: Installed, wheel: Path, scratch: Path) -> str:
    """Installs the package apart from torch, as with `python -m venv --system-site-packages`."""
    other = Installed(scratch, fresh_environment.make(scratch / "other", with_torch=False))
    fresh_environment.install(other.python, "--no-deps", wheel)
    (other.package.parent / "elsewhere.pth").write_text(f"{installed.package.parent}\n")
    return default_pair(other, "elsewhere.png")


def new(installed: Installed) -> str:
    """Makes a random pair, with Python's torch."""
    installed.run("new", "--outdir", "new", "--resolution", "16", "--z-dim", "32", "--w-dim", "32", "--mapping-layers", "2",
                  "--channel-base", "128", "--channel-max", "32")
    return f"{installed.made('new/generator.pt').stat().st_size} bytes"


def import_pickle(installed: Installed) -> str:
    """Imports a pickle as NVIDIA's programs write it."""
    installed.run("import", PICKLE, "--outdir", "imported")
    installed.made("imported/discriminator.pt")
    return f"{installed.made('imported/generator.pt').stat().st_size} bytes"


def pickle_to_pickle(installed: Installed, scratch: Path) -> str:
    """Finetunes a pickle and exports a pickle, in two commands; what comes out can be imported again."""
    pickle = scratch / "start.pkl"
    shutil.copyfile(PICKLE, pickle)
    pictures(scratch / "pictures", 32)
    installed.run("finetune", "--from", pickle, "--data", scratch / "pictures", "--outdir", "runs", "--kimg", "0.1", *SMALL)
    run = installed.run_folder("runs")
    installed.run("export", "--format", "nvidia", "--from", run, "--source", pickle, "--out", "finetuned.pkl")
    finetuned = installed.made("finetuned.pkl")
    if finetuned.read_bytes() == pickle.read_bytes():
        raise Failure("the exported pickle is the one that the run began with")
    installed.run("import", finetuned, "--outdir", "imported-again")
    installed.made("imported-again/generator.pt")
    return f"{run.name}, {finetuned.stat().st_size} bytes"


def demo(installed: Installed) -> str:
    """Runs the demo, which downloads its pictures."""
    installed.run("demo", "--kimg", "0.05", *SMALL)
    run = installed.run_folder("rootgan-demo/runs")
    installed.made(f"{run.relative_to(installed.folder)}/export/generator.pt")
    return run.name


def pictures(folder: Path, side: int, count: int = 40) -> None:
    """Writes pictures of plain random colours."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(count):
        pixels = np.broadcast_to(rng.integers(0, 256, (1, 1, 3), dtype=np.uint8), (side, side, 3))
        Image.fromarray(np.ascontiguousarray(pixels)).save(folder / f"{i:03d}.png")


if __name__ == "__main__":
    sys.exit(main())
