#!/usr/bin/env python3
"""`rootgan pictures` under the name that it had before."""

import runpy
import sys
from pathlib import Path

sys.argv.insert(1, "pictures")
runpy.run_path(str(Path(__file__).resolve().parents[1] / "python" / "rootgan"), run_name="__main__")
