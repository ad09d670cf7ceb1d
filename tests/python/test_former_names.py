"""The commands are still there under the paths that they had before."""

import subprocess
import sys

import pytest
from conftest import ROOT


@pytest.mark.parametrize("script, command", [("make_pair", "new"), ("import_checkpoint", "import"), ("pictures", "pictures"),
                                             ("export_checkpoint", "export"), ("make_detector", "detector")])
def test_a_former_path_runs_its_command(script, command):
    done = subprocess.run([sys.executable, ROOT / "scripts" / f"{script}.py", "--help"], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith(f"usage: rootgan {command} "), done.stderr
