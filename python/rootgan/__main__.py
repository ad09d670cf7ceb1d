"""Runs one of the commands that `rootgan` hands over to Python: `python python/rootgan COMMAND ARGUMENTS`."""

import os
import sys
from importlib import import_module
from pathlib import Path

# A folder that is run is itself the place of imports; its parts are imported as `rootgan.*`.
sys.path[0] = str(Path(__file__).resolve().parents[1])

from rootgan.command_line import Stopped, stop_on_signals, way_to_install  # noqa: E402

COMMANDS = {"import": "import_checkpoint", "export": "export_checkpoint", "new": "make_pair", "detector": "make_detector",
            "pictures": "pictures"}


def main() -> None:
    stop_on_signals()
    # A name that the terminal's encoding lacks is spelled out: work that is done must not end as an error.
    if sys.stdout is not None:  # as it is where the caller closed it
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        # Asked before torch is imported: MKL in it ends a process whose working directory was deleted, in its own words.
        os.getcwd()
    except FileNotFoundError:
        sys.exit("error: cannot work in this folder: it does not exist any more; cd to one that does, then call this again")
    if len(sys.argv) < 2 or sys.argv[1] not in COMMANDS:
        sys.exit(f"error: say what to do: {', '.join(COMMANDS)}")
    command = sys.argv.pop(1)
    sys.argv[0] = f"rootgan {command}"
    try:
        sys.exit(import_module(f"rootgan.{COMMANDS[command]}").main())
    except ModuleNotFoundError as missing:
        name = missing.name or str(missing)
        sys.exit(f"error: cannot {command} without the Python package '{name}'; {way_to_install(name)}")
    except Stopped as stopped:
        print(f"stopped by {stopped.signal.name}", file=sys.stderr)
        sys.exit(128 + stopped.signal)


if __name__ == "__main__":
    main()
