"""The page of `rootgan serve` in a headless Chromium, shortened; `scripts/checks/page.py` does the whole of it."""

import subprocess
import sys

import pytest
from conftest import ROOT

# The folder that cargo builds into for its tests.
PROGRAM = ROOT / "target/debug/rootgan"


def test_the_page_works_in_a_browser():
    if not PROGRAM.exists():
        pytest.skip(f"'{PROGRAM}' is not built, so the page is NOT checked")
    command = [sys.executable, ROOT / "scripts/checks/page.py", "--short", "--rootgan", PROGRAM]
    ended = subprocess.run(command, capture_output=True, text=True)
    if ended.returncode == 2:
        pytest.skip(ended.stdout.strip().splitlines()[-1])
    assert ended.returncode == 0, ended.stdout + ended.stderr
