#!/usr/bin/env python3
"""Runs a command of `rootgan` under the path that it had before: the links beside this file have those names."""

import runpy
import sys
from pathlib import Path

COMMANDS = {"make_pair": "new", "import_checkpoint": "import", "export_checkpoint": "export", "make_detector": "detector",
            "pictures": "pictures"}

name = Path(__file__).stem
if name not in COMMANDS:
    sys.exit(f"error: cannot run a command as '{name}': call one of {', '.join(f'{former}.py' for former in COMMANDS)}, or rootgan")
sys.argv.insert(1, COMMANDS[name])
runpy.run_path(str(Path(__file__).resolve().parents[1] / "python" / "rootgan"), run_name="__main__")
