"""What all commands share: refused arguments and errors are told in one line, and a signal ends a command so that what it began
is removed."""

import argparse
import signal
import sys
import time
import zipfile
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Iterator, NoReturn

from rootgan.launch import TORCH

ONE_WISH = 0.5  # seconds in which signals are taken for one: a terminal signals rootgan and Python, and rootgan Python again
SHOWN = 500  # characters of an error that is not ours


ROOT = Path(__file__).resolve().parents[2]
IS_CLONE = (ROOT / "Cargo.toml").is_file()  # and not an installed package
# What pip calls a module of another name, and the version that the program is linked to.
PACKAGES = {"PIL": "pillow", "torch": f"torch=={TORCH}"}


class Failure(ValueError):
    """What went wrong and what to do about it, in one line."""


class Parser(argparse.ArgumentParser):
    """Tells in one line what is wrong with the arguments: a usage would list options of Python, which rootgan may not have."""

    def error(self, message: str) -> NoReturn:
        sys.exit(f"error: {message}")


class Stopped(KeyboardInterrupt):
    """A signal that asks to stop."""

    def __init__(self, number: int):
        super().__init__()
        self.signal = signal.Signals(number)


def stop_on_signals() -> None:
    """Makes SIGINT, SIGTERM and SIGHUP an exception, so that `finally` removes what is half done. What is ignored, as by nohup,
    stays so."""
    first = 0.0

    def stop(number: int, _: Any) -> None:
        nonlocal first
        now = time.monotonic()
        if first == 0.0 or now - first > ONE_WISH:
            first = now
            raise Stopped(number)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, stop)


@contextmanager
def told_in_one_line(doing: str, remedy: str) -> Iterator[None]:
    """Ends the program with one line where the work fails: with a `Failure`'s own words; with those of the system, behind what
    was being done and before a remedy; or with those of a library, cut to a length."""
    try:
        yield
    except Failure as failure:
        sys.exit(f"error: {failure}")
    except OSError as error:
        sys.exit(f"error: {doing}: {of_system(error)}; {remedy}")
    except (ValueError, OverflowError, RuntimeError, MemoryError, zipfile.BadZipFile, *safetensors_errors()) as error:
        said = " ".join(str(error).split()) or type(error).__name__
        said = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in said[:SHOWN]) + "..." * (len(said) > SHOWN)
        sys.exit(f"error: {doing}: {said}")


def way_to_install(*modules: str) -> str:
    """Says how the Python that runs this gets modules that are missing."""
    pip = f"{sys.executable} -m pip install {' '.join(PACKAGES.get(name, name) for name in modules)}"
    return f"run 'scripts/setup --python-torch', or: {pip}" if IS_CLONE else f"run: {pip}"


def safetensors_errors() -> tuple[type[Exception], ...]:
    """Returns the error of safetensors, if the command uses it."""
    library = sys.modules.get("safetensors")
    return () if library is None else (library.SafetensorError,)


def of_system(error: OSError) -> str:
    """Words an error of the system in lower case, with the file that it is about."""
    said = error.strerror or str(error) or "it failed without a reason"
    return said[0].lower() + said[1:] + (f" ('{error.filename}')" if error.filename else "")
