"""Kills a finetune run at random moments and resumes it each time; its end has to be that of an undisturbed run, bit for bit.

    cargo build --release
    .venv/bin/python scripts/checks/kill_resume.py --kills 50

Prints one line a kill, and at the end whether states and statistics agree. Exit code 1 if they do not.
"""

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAIR = ["--resolution", "16", "--z-dim", "32", "--w-dim", "32", "--mapping-layers", "2"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--kimg", type=float, default=16, help="length of the run; longer if it ends before the last kill")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--channels", type=int, default=16, help="of the networks at 16x16; from 128 on they convolve by "
                        "matrix products (python/rootgan/networks/winograd.py)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rootgan", type=Path, default=ROOT / "target/release/rootgan")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        return check(args, Path(scratch))


def check(args: argparse.Namespace, scratch: Path) -> int:
    """Compares an undisturbed run with one that is killed and resumed; returns the exit code."""
    options = [*make_pair_and_pictures(scratch, args.channels), "--device", args.device, "--batch", "8", "--kimg", str(args.kimg), "--tick-kimg", "0.5",
               "--snapshot-ticks", "4", "--image-ticks", "4", "--grid", "4x4", "--checkpoint-minutes", "0.004"]
    begun = time.monotonic()
    run_to_end([args.rootgan, "finetune", *options, "--outdir", scratch / "whole"])
    whole = next((scratch / "whole").iterdir())
    print(f"undisturbed: {time.monotonic() - begun:.0f} s", flush=True)

    moments = random.Random(args.seed)
    command = [args.rootgan, "finetune", *options, "--outdir", scratch / "killed"]
    for number in range(1, args.kills + 1):
        with ending(start(command)) as process:
            # Kills come from before the first iteration to some seconds into the training, which writes 4 checkpoints a
            # second.
            time.sleep(moments.uniform(0.4, 3.0))
            if process.poll() is not None:
                raise SystemExit(f"the run ended before kill {number}: pass a larger --kimg")
            process.send_signal(signal.SIGKILL)
            process.wait()
        runs = list((scratch / "killed").glob("*")) if (scratch / "killed").exists() else []
        has_checkpoint = bool(runs) and bool(numbers(runs[0]))
        if not has_checkpoint and runs:
            shutil.rmtree(runs[0])  # killed before there was anything to go on from
        if has_checkpoint:
            command = [args.rootgan, "finetune", "--resume", runs[0]]
        print(f"kill {number}: {numbers(runs[0])[-1] if has_checkpoint else 'before the first checkpoint'}", flush=True)
    run_to_end(command)
    killed = next((scratch / "killed").iterdir())

    same_state = last_state(whole) == last_state(killed)
    same_statistics = statistics(whole) == statistics(killed)
    for number, (one, other) in enumerate(zip(statistics(whole), statistics(killed))):
        for name in one.keys() | other.keys():
            if one.get(name) != other.get(name):
                print(f"line {number}, {name}: {one.get(name)}, {other.get(name)}")
    print(f"{args.kills} kills, {args.kimg} kimg: state {'identical' if same_state else 'DIFFERENT'}, "
          f"{len(statistics(whole))} lines of statistics {'identical' if same_statistics else 'DIFFERENT'}")
    return 0 if same_state and same_statistics else 1


def make_pair_and_pictures(scratch: Path, channels: int = 16) -> list:
    """Makes a random 16x16 pair and pictures of cats; returns the options of finetune that name them."""
    python = [sys.executable, ROOT / "python/rootgan"]
    subprocess.run([*python, "new", "--outdir", scratch / "pair", *PAIR, "--channel-base", str(16 * channels), "--channel-max",
                    str(2 * channels)], check=True, stdout=subprocess.DEVNULL)
    subprocess.run([*python, "pictures", "cats", "--count", "50", "--size", "16", "--out", scratch / "cats"], check=True,
                   stdout=subprocess.DEVNULL)
    return ["--generator", scratch / "pair/generator.pt", "--discriminator", scratch / "pair/discriminator.pt", "--data",
            scratch / "cats"]


def start(command: list) -> subprocess.Popen:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([str(part) for part in command], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                            env=environment)


@contextlib.contextmanager
def ending(process: subprocess.Popen) -> Iterator[subprocess.Popen]:
    """Ends a program with the block, however that is left; torchrun then ends the processes that it started."""
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def run_to_end(command: list) -> None:
    process = start(command)
    _, errors = process.communicate()
    if process.returncode != 0:
        raise SystemExit(f"the run failed: {errors.decode().splitlines()[-1:]}")


def numbers(run: Path) -> list[int]:
    """The numbers of a run's checkpoints (images seen), ascending."""
    folder = run / "checkpoints"
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit()) if folder.exists() else []


def last_state(run: Path) -> bytes:
    return (run / "checkpoints" / f"{numbers(run)[-1]:012}" / "state.safetensors").read_bytes()


def statistics(run: Path) -> list[dict]:
    """The statistics of every tick, without times and resources, which differ from run to run."""
    def results(line: str) -> dict:
        return {name: value for name, value in json.loads(line).items()
                if not name.startswith(("Timing/", "Resources/")) and name != "timestamp"}

    return [results(line) for line in (run / "stats.jsonl").read_text().splitlines()]


if __name__ == "__main__":
    sys.exit(main())
