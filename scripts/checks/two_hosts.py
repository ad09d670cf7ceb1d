"""Two network namespaces with addresses of their own, as two machines, train one pair together over gloo.

    cargo build --release
    sudo .venv/bin/python scripts/checks/two_hosts.py

Needs root and the program ip (iproute2). Each "machine" runs torchrun with one process; the end has to agree with a run of
two processes on one machine, bit for bit. Exit code 1 if it does not.
"""

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from kill_resume import ROOT, ending, last_state, make_pair_and_pictures, statistics  # noqa: E402

HOSTS = {"rootgan-a": "10.77.0.1", "rootgan-b": "10.77.0.2"}


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rootgan", type=Path, default=ROOT / "target/release/rootgan")
    args = parser.parse_args()
    for name in HOSTS:
        subprocess.run(["ip", "netns", "del", name], stderr=subprocess.DEVNULL)
    try:
        for name in HOSTS:
            ip("netns", "add", name)
        ip("link", "add", "veth-a", "netns", "rootgan-a", "type", "veth", "peer", "name", "veth-b", "netns", "rootgan-b")
        for (name, address), link in zip(HOSTS.items(), ["veth-a", "veth-b"]):
            ip("-n", name, "addr", "add", f"{address}/24", "dev", link)
            ip("-n", name, "link", "set", link, "up")
            ip("-n", name, "link", "set", "lo", "up")
        with tempfile.TemporaryDirectory() as scratch:
            return check(args, Path(scratch))
    finally:
        for name in HOSTS:
            subprocess.run(["ip", "netns", "del", name], stderr=subprocess.DEVNULL)


def check(args: argparse.Namespace, scratch: Path) -> int:
    options = [*make_pair_and_pictures(scratch), "--device", "cpu", "--batch", "8", "--kimg", "1", "--tick-kimg", "0.25", "--snapshot-ticks",
               "0", "--image-ticks", "0", "--grid", "4x4"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    run([args.rootgan, "finetune", *options, "--micro-batch", "4", "--outdir", scratch / "one", "--processes", "2"], environment)
    with contextlib.ExitStack() as stack:
        launchers = []
        for rank, name in enumerate(HOSTS):
            command = ["ip", "netns", "exec", name, Path(sys.executable).parent / "torchrun", "--no-python", "--nnodes", "2",
                       "--nproc-per-node", "1", "--node-rank", rank, "--master-addr", HOSTS["rootgan-a"], "--master-port", "29511",
                       args.rootgan, "finetune", *options, "--micro-batch", "4", "--outdir", scratch / "two"]
            launcher = subprocess.Popen([str(part) for part in command], env=environment, stdout=subprocess.DEVNULL)
            launchers.append(stack.enter_context(ending(launcher)))
        codes = [launcher.wait(timeout=300) for launcher in launchers]
    if codes != [0, 0]:
        raise SystemExit(f"the launchers ended with {codes}")
    one, two = (next((scratch / name).iterdir()) for name in ["one", "two"])
    same = last_state(one) == last_state(two) and statistics(one) == statistics(two)
    print(f"two hosts ({', '.join(HOSTS.values())}) and one: {'identical' if same else 'DIFFERENT'}")
    return 0 if same else 1


def run(command: list, environment: dict) -> None:
    subprocess.run([str(part) for part in command], env=environment, check=True, stdout=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL)


if __name__ == "__main__":
    sys.exit(main())
