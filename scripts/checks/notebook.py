"""Executes notebooks/rootgan.ipynb from its first cell to its last on the CPU, in an environment of its own and in an empty
folder: once as it is, with the default pair and pictures of cats, and once with a pickle as NVIDIA's programs write it. Needs
a network for pip.

    scripts/package
    KIMG=0.05 .venv/bin/python scripts/checks/notebook.py

KIMG (default 0.05) and OPTIONS replace the notebook's own. Exit code 1 if a cell fails, or a command called from one.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import fresh_environment

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = ROOT / "notebooks/rootgan.ipynb"
PICKLE = ROOT / "tests/golden/nvidia_like_r32.pkl"
REQUIREMENTS = ROOT / "scripts/requirements-notebook.txt"
PLACE = ROOT / ".cache/notebook"
SMALL = "--batch 4 --tick-kimg 0.02 --grid 2x2"
SHOWN = 3  # pictures: the grid before, the grid after, the seeds
# A notebook goes on after a command that failed.
STRICT = """
shell, call = get_ipython(), get_ipython().system
def strictly(command):
    call(command)
    if shell.user_ns["_exit_code"]:
        raise RuntimeError(f"{command} ended with {shell.user_ns['_exit_code']}")
shell.system = strictly
"""


def main() -> int:
    wheel = fresh_environment.chosen_wheel(__doc__)
    python = environment()
    parameters = {"WHEEL": str(wheel), "KIMG": float(os.environ.get("KIMG", "0.05")),
                  "OPTIONS": os.environ.get("OPTIONS", SMALL)}
    failed = False
    for name, chosen in (("default pair", {}), ("pickle", {"CHECKPOINT": "start.pkl"})):
        # Both times the notebook has to install the package itself.
        subprocess.run([python, "-m", "pip", "uninstall", "--quiet", "--yes", "rootgan"], check=True,
                       env=fresh_environment.clean(), stderr=subprocess.DEVNULL)
        with tempfile.TemporaryDirectory() as scratch:
            begun = time.monotonic()
            wrong = execute(python, Path(scratch), parameters | chosen)
        failed |= bool(wrong)
        print(f"{name}: {'FAILED: ' + wrong if wrong else 'passed'} ({time.monotonic() - begun:.0f} s)", flush=True)
    return failed


def environment() -> Path:
    """The environment of notebooks, made where it is not there yet or is another's."""
    stamp = PLACE / "installed.txt"
    wanted = f"{sys.executable}\n{REQUIREMENTS.read_text()}"
    if not stamp.is_file() or stamp.read_text() != wanted:
        shutil.rmtree(PLACE, ignore_errors=True)
        PLACE.mkdir(parents=True)
        fresh_environment.install(fresh_environment.make(PLACE / "venv"), "-r", REQUIREMENTS)
        stamp.write_text(wanted)
    return PLACE / "venv/bin/python"


def execute(python: Path, scratch: Path, parameters: dict) -> str:
    """Executes the notebook with other parameters; returns what went wrong, or nothing."""
    notebook = json.loads(NOTEBOOK.read_text())
    place = 1 + next(i for i, cell in enumerate(notebook["cells"]) if "parameters" in cell["metadata"].get("tags", []))
    source = "\n".join(f"{name} = {value!r}" for name, value in parameters.items()) + STRICT
    notebook["cells"].insert(place, {"cell_type": "code", "execution_count": None, "id": "check", "metadata": {}, "outputs": [],
                                     "source": source})
    folder = scratch / "empty"
    folder.mkdir()
    copy = folder / NOTEBOOK.name
    copy.write_text(json.dumps(notebook))
    if "CHECKPOINT" in parameters:
        shutil.copyfile(PICKLE, folder / parameters["CHECKPOINT"])
    variables = fresh_environment.clean() | {
        "PATH": f"{python.parent.absolute()}:/usr/bin:/bin", "CUDA_VISIBLE_DEVICES": "", "XDG_CACHE_HOME": str(scratch / "cache"),
        "IPYTHONDIR": str(scratch / "ipython")}
    ended = subprocess.run([python.parent / "jupyter-execute", "--inplace", copy], cwd=folder, env=variables, capture_output=True,
                           text=True)
    if ended.returncode != 0:
        # Without colours, and without the way there through nbclient.
        return re.sub(r"\x1b\[[0-9;]*m", "", ended.stderr).rpartition("CellExecutionError: ")[2].strip()[-3000:]
    outputs = [output for cell in json.loads(copy.read_text())["cells"] for output in cell.get("outputs", [])]
    shown = sum("image/png" in output.get("data", {}) for output in outputs)
    if shown != SHOWN:
        return f"{shown} pictures are shown in it, expected {SHOWN}"
    expected = ["exported/generator.pt", "exported/discriminator.pt", *(["finetuned.pkl"] if "CHECKPOINT" in parameters else [])]
    missing = [name for name in expected if not (folder / name).is_file()]
    return f"it made no {', '.join(missing)}" if missing else ""


if __name__ == "__main__":
    sys.exit(main())
