#!/usr/bin/env python3
"""`rootgan export` under the name that it had before."""

import runpy
import sys
from pathlib import Path

sys.argv.insert(1, "export")
runpy.run_path(str(Path(__file__).resolve().parents[1] / "python" / "rootgan"), run_name="__main__")
