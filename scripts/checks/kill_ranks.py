"""Kills processes of a run under torchrun at random moments; its end has to be that of an undisturbed run, bit for bit.

    cargo build --release
    .venv/bin/python scripts/checks/kill_ranks.py --kills 20

torchrun starts all processes again after each kill (--max-restarts), and they go on from the newest checkpoint. Prints
one line a kill, with the seconds until training went on, and at the end whether states and statistics agree. Exit code 1
if they do not, or if training took more than 60 s to go on.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from kill_resume import ROOT, ending, last_state, make_pair_and_pictures, numbers, statistics  # noqa: E402

LONGEST_PAUSE = 60.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--kimg", type=float, default=24, help="length of the run; longer if it ends before the last kill")
    parser.add_argument("--seed", type=int, default=0, help="of the moments and ranks")
    parser.add_argument("--rootgan", type=Path, default=ROOT / "target/release/rootgan")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        return check(args, Path(scratch))


def check(args: argparse.Namespace, scratch: Path) -> int:
    """Compares an undisturbed run with one whose processes are killed; returns the exit code."""
    options = [*make_pair_and_pictures(scratch), "--device", "cpu", "--batch", "12", "--micro-batch", "2", "--kimg", str(args.kimg),
               "--tick-kimg", "0.5", "--snapshot-ticks", "0", "--image-ticks", "0", "--grid", "4x4",
               "--checkpoint-minutes", "0.004"]
    begun = time.monotonic()
    with ending(start(args, options, scratch / "whole", restarts=0)) as launcher:
        finish(launcher)
    print(f"undisturbed: {time.monotonic() - begun:.0f} s", flush=True)
    whole = next((scratch / "whole").iterdir())

    with ending(start(args, options, scratch / "killed", restarts=args.kills)) as launcher:
        longest = kill(args, launcher, scratch / "killed")
        finish(launcher)
    killed = max((scratch / "killed").iterdir())
    same_state = last_state(whole) == last_state(killed)
    same_statistics = statistics(whole) == statistics(killed)
    print(f"{args.kills} kills of {args.processes} processes, {args.kimg} kimg: state "
          f"{'identical' if same_state else 'DIFFERENT'}, {len(statistics(whole))} lines of statistics "
          f"{'identical' if same_statistics else 'DIFFERENT'}, longest pause {longest:.1f} s")
    return 0 if same_state and same_statistics and longest < LONGEST_PAUSE else 1


def kill(args: argparse.Namespace, launcher: subprocess.Popen, outdir: Path) -> float:
    """Kills one process after another; returns the longest pause."""
    moments, longest = random.Random(args.seed), 0.0
    for number in range(1, args.kills + 1):
        wait_for_progress(launcher, outdir)
        time.sleep(moments.uniform(0.0, 2.0))
        victim = moments.randrange(args.processes)
        seen, killed_at = newest(outdir), time.monotonic()
        os.kill(process_of_rank(launcher, victim), signal.SIGKILL)
        wait_for_progress(launcher, outdir)
        pause = time.monotonic() - killed_at
        longest = max(longest, pause)
        print(f"kill {number}: rank {victim} at {seen} images, goes on after {pause:.1f} s", flush=True)
    return longest


def start(args: argparse.Namespace, options: list, outdir: Path, restarts: int) -> subprocess.Popen:
    command = [Path(sys.executable).parent / "torchrun", "--standalone", "--no-python", "--nproc-per-node", args.processes,
               "--max-restarts", restarts, args.rootgan, "finetune", *options, "--outdir", outdir]
    return subprocess.Popen([str(part) for part in command], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                            env={**os.environ, "OMP_NUM_THREADS": "1"})


def finish(launcher: subprocess.Popen) -> None:
    _, errors = launcher.communicate()
    if launcher.returncode != 0:
        raise SystemExit(f"the run failed: {errors.decode()[-2000:]}")


def newest(outdir: Path) -> int:
    runs = sorted(outdir.iterdir()) if outdir.exists() else []
    return max((number for run in runs for number in numbers(run)), default=-1)


def wait_for_progress(launcher: subprocess.Popen, outdir: Path) -> None:
    """Waits for a checkpoint that is newer than the newest one."""
    before, begun = newest(outdir), time.monotonic()
    while newest(outdir) <= before:
        refuse_an_end(launcher)
        if time.monotonic() - begun > 2 * LONGEST_PAUSE:
            raise SystemExit("no progress: the processes hang")
        time.sleep(0.01)


def refuse_an_end(launcher: subprocess.Popen) -> None:
    """Ends the check where torchrun has ended, for nothing more will come of it."""
    if launcher.poll() is not None:
        raise SystemExit(f"the run ended before the last kill, pass a larger --kimg: {launcher.stderr.read().decode()[-2000:]}")


def process_of_rank(launcher: subprocess.Popen, rank: int) -> int:
    """The number of the process that torchrun has started with this rank."""
    while True:
        refuse_an_end(launcher)
        for entry in Path("/proc").iterdir():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                variables = (entry / "environ").read_bytes().split(b"\0")
            except OSError:
                continue
            if fields[1] == str(launcher.pid) and fields[0] != "Z" and f"RANK={rank}".encode() in variables:
                return int(entry.name)
        time.sleep(0.01)


if __name__ == "__main__":
    sys.exit(main())
