"""Burdens `rootgan serve`: 10,000 requests at once, clients that send nothing, a page that stays open; measures memory and time.

    cargo build --release
    .venv/bin/python scripts/checks/serve_load.py --runs runs

Prints what the server uses; exit code 1 if a request is neither answered nor refused, or memory grows by over 64 MiB.
"""

import argparse
import asyncio
import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MOST_MIB = 64


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rootgan", type=Path, default=ROOT / "target/release/rootgan")
    parser.add_argument("--runs", type=Path, required=True, help="folder to serve, with a run in it at least")
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=60, help="how long the page stays open")
    args = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, args.requests + 1000), hard))
    with serving(args.rootgan, args.runs) as server:
        return burden(args, *server)


@contextlib.contextmanager
def serving(rootgan: Path, runs: Path) -> Iterator[tuple[int, str, str]]:
    """Serves runs: the server's process, address and token."""
    server = subprocess.Popen([rootgan, "serve", "--port", "0", runs], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        address, token = server.stdout.readline().strip().removeprefix("http://").split("/?token=")
        yield server.pid, address, token
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(60)


def burden(args: argparse.Namespace, process: int, address: str, token: str) -> int:
    get(address, token, "")  # the first look reads the runs
    idle = memory(process)
    print(f"idle: {idle} (its own memory, and all that is resident), MiB", flush=True)
    open_page(args, process, address, token)
    begun = time.monotonic()
    outcomes, most = asyncio.run(storm(args.requests, process, address, token))
    print(f"{args.requests} requests at once: {outcomes} in {time.monotonic() - begun:.1f} s; at most {most} MiB", flush=True)
    silent = asyncio.run(silence(address, token))
    print(f"beside 300 clients that send nothing a request was answered after {silent:.1f} s", flush=True)
    after = memory(process)
    print(f"afterwards: {after} MiB", flush=True)
    grew = most[0] - idle[0]
    told = outcomes.get("answered", 0) + outcomes.get("refused", 0)
    wrong = grew > MOST_MIB or told != args.requests
    print("FAIL" if wrong else "ok", f"grew by {grew} MiB, {told} of {args.requests} answered or refused")
    return int(wrong)


def memory(process: int) -> tuple[int, int]:
    """Memory that is the process's own, and all that is resident (libtorch's code among it), in MiB."""
    lines = dict(line.split(":", 1) for line in Path(f"/proc/{process}/status").read_text().splitlines())
    return tuple(int(lines[name].split()[0]) >> 10 for name in ("RssAnon", "VmRSS"))


def get(address: str, token: str, path: str, tag: str = "") -> tuple[int, str, bytes]:
    between = "&" if "?" in path else "?"
    request = urllib.request.Request(f"http://{address}/api/runs{path}{between}token={token}", headers={"If-None-Match": tag})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.headers["ETag"], answer.read()
    except urllib.error.HTTPError as error:
        return error.code, tag, b""


def open_page(args: argparse.Namespace, process: int, address: str, token: str) -> None:
    """Asks as a page does that shows one run."""
    def used() -> float:
        fields = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    runs = json.loads(get(address, token, "")[2])["runs"]
    run = next((run for run in runs if run["state"] == "training"), runs[0])["id"]
    tag, rows, log, before, begun = "", 0, 0, used(), time.monotonic()
    while time.monotonic() - begun < args.seconds:
        status, tag, body = get(address, token, f"/{run}", tag)
        if status == 200:
            summary = json.loads(body)
            get(address, token, f"/{run}/curves?generation={summary['generation']}&rows={rows}")
            log = json.loads(get(address, token, f"/{run}/log?from={log}")[2])["next"]
            rows = summary["rows"]
        time.sleep(2)
    minute = (used() - before) / (time.monotonic() - begun) * 60
    print(f"one open page ({'training' if rows else 'no'} run, {rows} rows): {minute:.2f} s of CPU a minute", flush=True)


async def storm(count: int, process: int, address: str, token: str) -> tuple[dict, tuple]:
    host, port = address.split(":")
    outcomes: dict[str, int] = {}
    most = (0, 0)
    request = f"GET /api/runs?token={token} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n".encode()

    async def ask() -> None:
        outcome = "answered"
        try:
            reader, writer = await asyncio.wait_for(asyncio.open_connection(host, int(port)), 120)
            writer.write(request)
            answer = await asyncio.wait_for(reader.read(), 120)
            writer.close()
            outcome = "answered" if answer.startswith(b"HTTP/1.1 200") else f"other: {answer[:20]}"
        except (asyncio.TimeoutError, TimeoutError):  # first: from Python 3.11 on it is an OSError, as a refusal is
            outcome = "neither"
        except OSError:
            outcome = "refused"
        outcomes[outcome] = outcomes.get(outcome, 0) + 1

    tasks = [asyncio.create_task(ask()) for _ in range(count)]
    while not all(task.done() for task in tasks):
        most = tuple(map(max, most, memory(process)))
        await asyncio.sleep(0.05)
    return outcomes, most


async def silence(address: str, token: str) -> float:
    """Holds connections open without a word, and asks on one more; the server closes silent ones after 10 s."""
    host, port = address.split(":")
    held = [await asyncio.open_connection(host, int(port)) for _ in range(300)]
    begun = time.monotonic()
    status = (await asyncio.to_thread(get, address, token, ""))[0]
    waited = time.monotonic() - begun
    for _, writer in held:
        writer.close()
    if status != 200 or waited > 30:
        raise SystemExit(f"FAIL silent clients keep others out: {status} after {waited:.1f} s")
    return waited


if __name__ == "__main__":
    sys.exit(main())
