"""Makes Python environments in which torch counts as installed although nothing is downloaded: its folders are links to those
of the environment that runs this. What is installed there later is the environment's own."""

import argparse
import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
# Another project's settings would reach into the environment, or hide that something is missing in it.
FOREIGN = ("PYTHON", "VIRTUAL_ENV", "LD_", "LIBTORCH", "ROOTGAN", "PIP_TARGET", "PIP_USER")


def clean() -> dict[str, str]:
    """The variables of a user who has none of ours."""
    return {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}


def make(folder: Path, with_torch: bool = True) -> Path:
    """Makes an environment in a folder that is not there yet; returns its Python."""
    subprocess.run([sys.executable, "-m", "venv", folder], check=True, env=clean())
    python = folder / "bin" / "python"
    if with_torch:
        link(distributions("torch"), site_packages(python))
    return python


def chosen_wheel(description: str) -> Path:
    """Parses the command line of a check: the wheel that it is for."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wheel", type=Path, help="default: the one in dist")
    args = parser.parse_args()
    wheels = [args.wheel] if args.wheel else sorted((ROOT / "dist").glob("rootgan-*.whl"))
    if len(wheels) != 1 or not wheels[0].is_file():
        sys.exit("error: cannot find one wheel in 'dist'; run scripts/package, or pass --wheel FILE")
    return wheels[0].resolve()


def site_packages(python: Path) -> Path:
    """The folder of an environment's packages."""
    code = "import sysconfig; print(sysconfig.get_path('platlib'))"
    return Path(subprocess.run([python, "-c", code], check=True, env=clean(), capture_output=True, text=True).stdout.strip())


def install(python: Path, *what: str | Path) -> None:
    """Has pip install something, downloading what it requires."""
    command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input", *what]
    subprocess.run(command, check=True, env=clean())


def distributions(name: str) -> dict[str, importlib.metadata.Distribution]:
    """The installed distribution of a name and all that it requires."""
    found: dict[str, importlib.metadata.Distribution] = {}
    waiting, seen = [(name, "")], set()
    while waiting:
        name, extra = waiting.pop()
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        try:
            found[name] = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            sys.exit(f"error: cannot make an environment with torch: '{name}' is not installed beside {sys.executable}; "
                     "run scripts/setup --python-torch")
        for text in found[name].requires or []:
            required = Requirement(text)
            if required.marker is None or required.marker.evaluate({"extra": extra}):
                waiting += [(required.name, extra) for extra in ("", *required.extras)]
    return found


def link(installed: dict[str, importlib.metadata.Distribution], target: Path) -> None:
    """Links the top folders and files of distributions into a folder of packages; what is there already stays."""
    for distribution in installed.values():
        for top in {file.parts[0] for file in distribution.files or [] if file.parts[0] not in ("..", "__pycache__")}:
            if not (target / top).exists():
                (target / top).symlink_to(Path(distribution.locate_file(top)).resolve())
