"""The lines of scripts/gpu/run: how each is called, what has to come out, and how long it may take."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable, Iterator

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
GPU = ROOT / ".gpu"
DEFAULT = ["--generator", str(ROOT / "weights/generator.pt"), "--discriminator", str(ROOT / "weights/discriminator.pt")]
# Largest mean and largest single difference of 8-bit pictures, in levels: rounding can move a value to the next one.
MEAN_LEVELS, LEVELS = 0.01, 1


def environment_with_libtorch() -> dict[str, str]:
    """The environment in which the program finds the libtorch of this Python; what was there may lead to the driver."""
    import torch
    lib = str(Path(torch.__file__).parent / "lib")
    before = os.environ.get("LD_LIBRARY_PATH")
    return {**os.environ, "LD_LIBRARY_PATH": lib if not before else f"{lib}:{before}"}


class Failed(Exception):
    """A check that does not hold, in a sentence."""


@dataclass
class Line:
    """One line of the kit. `work` returns what is worth a cell of the table."""

    name: str
    seconds: float
    work: Callable[["Line"], str]
    alone: bool = False
    result: str = ""
    ok: bool | None = False  # None: neither passed nor failed, as it was left out
    took: float = 0.0
    log: list[str] = field(default_factory=list)
    numbers: dict = field(default_factory=dict)
    deadline: float = 0.0


class Kit:
    def __init__(self, args):
        self.args = args
        self.device = args.device
        self.out = args.out.resolve()
        self.out.mkdir(parents=True, exist_ok=True)
        self.place = Path(tempfile.mkdtemp(prefix="rootgan-gpu-"))
        self.begun = time.monotonic()
        self.environment = environment_with_libtorch()
        self.environment["XDG_CACHE_HOME"] = str(self.place / "cache")
        self.pairs: dict[str, threading.Event] = {}
        self.tiny = args.tiny

    # -- calling programs ------------------------------------------------------------------------------------------

    def call(self, line: Line, *command, more=None, ok=True, cwd=ROOT, expect=0) -> str:
        """Runs a command until the line's deadline; returns stdout. Everything goes into the line's log."""
        words = [str(word) for word in command]
        line.log.append("$ " + " ".join(words))
        left = max(1.0, line.deadline - time.monotonic())
        process = subprocess.Popen(words, cwd=cwd, env={**self.environment, **(more or {})}, stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, text=True, start_new_session=True)
        try:
            out, err = process.communicate(timeout=left)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            out, err = process.communicate()
            line.log += [out[-3000:], err[-3000:]]
            raise Failed(f"took longer than {line.seconds:.0f} s") from None
        line.log += [out[-6000:], err[-3000:]]
        if ok and process.returncode != expect:
            last = [text for text in (err or out).strip().splitlines() if text.strip()]
            raise Failed(f"exit code {process.returncode}: {last[-1][-300:] if last else 'no output'}")
        return out if ok else f"{process.returncode}\n{out}\n{err}"

    @contextmanager
    def started(self, *command, **options) -> Iterator[subprocess.Popen]:
        """Starts a program beside the check, which ends with the block, however that is left."""
        process = subprocess.Popen([str(word) for word in command], env=self.environment, text=True, **options)
        try:
            yield process
        finally:
            process.kill()
            process.wait()

    def rootgan(self, line: Line, *arguments, **options) -> str:
        return self.call(line, GPU / "rootgan", *arguments, **options)

    def finetune(self, line: Line, name: str, *options, pair=None, data="cats", device=None, more=None) -> Path:
        """Trains; returns the run's folder."""
        outdir = self.place / name
        self.rootgan(line, "finetune", *(pair or DEFAULT), "--data", GPU / data, "--outdir", outdir, "--device",
                     device or self.device, *options, more=more)
        return next(path for path in sorted(outdir.iterdir(), reverse=True) if path.is_dir())

    def pair(self, line: Line, name: str) -> list[str]:
        """A random pair, made once by whoever asks first."""
        sizes = {
            "64": ["--resolution", "64", "--channel-base", "16384"],
            "256": ["--resolution", "256", "--channel-base", "16384"],
            "1024": ["--resolution", "1024", "--channel-base", "32768"],
            "labels": ["--resolution", "32", "--channel-base", "1024", "--channel-max", "64", "--c-dim", "3", "--z-dim", "64",
                       "--w-dim", "64"],
        }
        if self.tiny and name in ("64", "256", "1024"):
            sizes[name] = ["--resolution", {"64": "16", "256": "32", "1024": "64"}[name], "--channel-base", "256",
                           "--channel-max", "32", "--z-dim", "32", "--w-dim", "32"]
        folder = self.place / f"pair-{name}"
        with LOCK:
            made = self.pairs.get(name)
            first = made is None
            if first:
                made = self.pairs[name] = threading.Event()
        if first:
            wide = [] if "--z-dim" in sizes[name] else ["--z-dim", "512", "--w-dim", "512", "--channel-max", "512"]
            try:
                self.call(line, sys.executable, ROOT / "python/rootgan", "new", "--force", "--outdir", folder, "--mapping-layers", "2", *wide,
                          *sizes[name])
            finally:
                made.set()
        made.wait(max(1.0, line.deadline - time.monotonic()))
        return ["--generator", str(folder / "generator.pt"), "--discriminator", str(folder / "discriminator.pt")]

    # -- running lines ---------------------------------------------------------------------------------------------

    def do(self, line: Line) -> Line:
        begun = time.monotonic()
        line.deadline = begun + line.seconds
        try:
            line.result, line.ok = line.work(line), True
        except Failed as failed:
            line.result = f"FAILED: {failed}"
        except Exception as error:  # noqa: BLE001: a line that breaks must not end the others
            line.result = f"FAILED: {type(error).__name__}: {error}"
        line.took = time.monotonic() - begun
        print(f"{time.monotonic() - self.begun:6.1f} s  {line.name}: {line.result}", flush=True)
        self.save(line)
        return line

    def save(self, line: Line) -> None:
        with LOCK, open(self.out / "log.txt", "a") as log:
            log.write(f"\n===== {line.name} ({line.took:.1f} s): {line.result}\n" + "\n".join(line.log) + "\n")

    def run(self) -> int:
        (self.out / "log.txt").write_text("")
        words = [word for word in self.args.only.split(",") if word]
        lines = [line for line in self.lines() if not words or any(word in line.name for word in words)]
        if not lines:
            sys.exit(f"error: no line's name contains '{self.args.only}'; pass other words as --only")
        checks, measured = [[line for line in lines if line.alone == alone] for alone in (False, True)]
        # Checks share the cores too.
        threads = str(max(1, (os.cpu_count() or 1) // self.args.jobs))
        self.environment |= {"OMP_NUM_THREADS": threads, "OMP_WAIT_POLICY": "PASSIVE"}
        with ThreadPoolExecutor(self.args.jobs) as pool:
            list(pool.map(self.do, checks))
        for name in ("OMP_NUM_THREADS", "OMP_WAIT_POLICY"):
            del self.environment[name]
        for line in measured:
            if time.monotonic() - self.begun > self.args.seconds:
                line.result, line.ok = "left out: no time left", None
                continue
            self.do(line)
        self.report(lines)
        shutil.rmtree(self.place, ignore_errors=True)
        return 1 if any(line.ok is False for line in lines) else 0

    def report(self, lines: list[Line]) -> None:
        print("\n| line | result | s |\n| --- | --- | --- |")
        for line in lines:
            print(f"| {line.name} | {line.result} | {line.took:.0f} |")
        results = {line.name: {"ok": line.ok, "result": line.result, "seconds": line.took, **line.numbers} for line in lines}
        (self.out / "results.json").write_text(json.dumps(results, indent=1))

    def lines(self) -> list[Line]:
        from checks import checks
        from measurements import measurements
        return checks(self) + measurements(self)


LOCK = threading.Lock()


def pictures_of(folder: Path) -> np.ndarray:
    """[N, H, W, C] of a folder's PNG files in order."""
    files = sorted(folder.glob("*.png"))
    if not files:
        raise Failed(f"no pictures in '{folder}'")
    return np.stack([np.asarray(Image.open(file)) for file in files]).astype(np.int64)


def last_numbers(run: Path) -> dict[str, float]:
    """The last value of every statistic of a run."""
    found = {}
    for text in (run / "stats.jsonl").read_text().splitlines():
        for name, value in json.loads(text).items():
            if isinstance(value, dict) and "mean" in value:
                found[name] = value["mean"]
    return found
