"""Tests the parts of packaging that need no program: platform tags (scripts/platform_tag.py) and the launcher of a wheel."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import platform_tag
import pytest
from rootgan import launch
from rootgan.checkpoints import onnx_export
from rootgan.checkpoints.checkpoint import CheckpointError

ROOT = Path(__file__).resolve().parents[2]


def policy(minor, glibc, glibcxx, libraries=("libc.so.6", "libstdc++.so.6")):
    """A platform in auditwheel's layout."""
    versions = {"GLIBC": [f"2.{i}" for i in range(glibc + 1)], "GLIBCXX": [f"3.4.{i}" for i in range(glibcxx + 1)]}
    return {"name": f"manylinux_2_{minor}", "symbol_versions": {"x86_64": versions}, "lib_whitelist": list(libraries)}


# Not in order, as nothing promises that the list is.
POLICIES = [policy(35, 35, 30), {"name": "linux", "symbol_versions": {}, "lib_whitelist": []}, policy(5, 5, 8),
            policy(28, 28, 24), policy(34, 34, 29)]


@pytest.mark.parametrize(("glibc", "glibcxx", "tag"), [
    ("2.17", "3.4.9", "manylinux_2_28_x86_64"),
    ("2.28", "3.4.24", "manylinux_2_28_x86_64"),
    ("2.29", "3.4.24", "manylinux_2_34_x86_64"),
    ("2.28", "3.4.30", "manylinux_2_35_x86_64"),
])
def test_the_tag_is_the_lowest_that_promises_all_symbols(glibc, glibcxx, tag):
    assert platform_tag.platform_tag({"GLIBC": {"2.2", glibc}, "GLIBCXX": {glibcxx}}, {"libc.so.6"}, POLICIES) == tag


def test_a_program_newer_than_every_platform_is_refused():
    with pytest.raises(platform_tag.Failure, match=r"even manylinux_2_35 lacks GLIBC_2.99; build on an older system"):
        platform_tag.platform_tag({"GLIBC": {"2.4", "2.99"}}, {"libc.so.6"}, POLICIES)


def test_a_library_that_no_platform_has_is_refused():
    with pytest.raises(platform_tag.Failure, match="lacks libssl.so.3"):
        platform_tag.platform_tag({"GLIBC": {"2.4"}}, {"libc.so.6", "libssl.so.3"}, POLICIES)


def package(folder, monkeypatch, torch="2.11.0+cu130", with_program=True):
    """A folder of packages with the launcher's package and a torch of a version."""
    (folder / "rootgan/bin").mkdir(parents=True)
    if with_program:
        (folder / "rootgan/bin/rootgan").touch()
    if torch:
        (folder / "torch/lib").mkdir(parents=True)
        (folder / "torch/lib/libtorch.so").touch()
        (folder / "torch/version.py").write_text(f"from typing import Optional\n__version__ = '{torch}'\ndebug = False\n")
    monkeypatch.setattr(launch, "PACKAGE", folder / "rootgan")
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.delenv("LD_LIBRARY_PATH", raising=False)
    monkeypatch.setenv("ROOTGAN_PYTHON", "another")


def refusal():
    with pytest.raises(SystemExit) as refused:
        launch.main()
    return str(refused.value)


@pytest.fixture
def called(monkeypatch):
    """What the launcher would have become."""
    calls = []
    monkeypatch.setattr(os, "execv", lambda program, arguments: calls.append((str(program), arguments)))
    monkeypatch.setattr(sys, "argv", ["/environment/bin/rootgan", "devices", "--json"])
    return calls


def test_the_launcher_becomes_the_program_and_names_its_python(tmp_path, monkeypatch, called):
    package(tmp_path, monkeypatch)
    launch.main()
    assert called == [(str(tmp_path / "rootgan/bin/rootgan"), ["rootgan", "devices", "--json"])]
    assert os.environ["ROOTGAN_PYTHON"] == sys.executable
    assert "LD_LIBRARY_PATH" not in os.environ


def test_torch_in_another_folder_of_packages_is_named_to_the_loader(tmp_path, monkeypatch, called):
    package(tmp_path / "here", monkeypatch, torch=None)
    package(tmp_path / "system", monkeypatch)
    monkeypatch.setattr(launch, "PACKAGE", tmp_path / "here/rootgan")
    monkeypatch.setattr(sys, "path", [str(tmp_path / "here"), str(tmp_path / "system")])
    monkeypatch.setenv("LD_LIBRARY_PATH", "/opt/lib")
    launch.main()
    assert len(called) == 1 and os.environ["LD_LIBRARY_PATH"] == f"{tmp_path / 'system/torch/lib'}:/opt/lib"


def test_torch_is_named_where_the_program_is_a_link_into_a_cache(tmp_path, monkeypatch, called):
    package(tmp_path / "environment", monkeypatch)
    (tmp_path / "cache/rootgan/bin").mkdir(parents=True)
    (tmp_path / "environment/rootgan/bin/rootgan").rename(tmp_path / "cache/rootgan/bin/rootgan")
    (tmp_path / "environment/rootgan/bin/rootgan").symlink_to(tmp_path / "cache/rootgan/bin/rootgan")
    launch.main()
    assert len(called) == 1 and os.environ["LD_LIBRARY_PATH"] == str(tmp_path / "environment/torch/lib")


def test_a_clone_without_the_program_is_told_how_to_build_it(tmp_path, monkeypatch, called):
    package(tmp_path, monkeypatch, with_program=False)
    message = refusal()
    assert message.startswith("error: cannot start rootgan: ") and "cargo build --release" in message
    assert "\n" not in message and not called


@pytest.mark.parametrize(("torch", "words"), [(None, "this Python has no torch"), ("2.12.1", "is 2.12.1, expected 2.11.0")])
def test_another_torch_or_none_is_told_with_the_command_that_helps(tmp_path, monkeypatch, called, torch, words):
    package(tmp_path, monkeypatch, torch=torch)
    message = refusal()
    assert words in message and message.endswith("-m pip install torch==2.11.0") and not called


def test_a_program_that_the_system_cannot_run_is_told_in_one_line(tmp_path, monkeypatch):
    package(tmp_path, monkeypatch)
    monkeypatch.setattr(sys, "argv", ["rootgan"])
    message = refusal()
    assert message.startswith("error: cannot start '") and "Permission denied" in message and "\n" not in message


def test_the_launcher_starts_without_heavy_imports():
    code = "import sys; from rootgan import launch; print(sorted({'torch', 'numpy', 'PIL'} & set(sys.modules)))"
    environment = os.environ | {"PYTHONPATH": str(ROOT / "python")}
    assert subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True).stdout == "[]\n"


def test_launcher_package_and_setup_name_one_torch():
    places = {"scripts/requirements.txt": r"^torch==([\d.]+)$", "python/pyproject.toml": r'"torch==([\d.]+)"',
              "python/rootgan/launch.py": r'^TORCH = "([\d.]+)"', "scripts/setup": r"^LIBTORCH_VERSION=([\d.]+)"}
    found = {place: re.search(pattern, (ROOT / place).read_text(), re.MULTILINE)[1] for place, pattern in places.items()}
    assert set(found.values()) == {launch.TORCH}, found


def test_the_notebook_is_kept_without_outputs_and_names_this_version():
    notebook = json.loads((ROOT / "notebooks/rootgan.ipynb").read_text())
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    # scripts/checks/notebook.py puts its own after this one.
    parameters = next("".join(cell["source"]) for cell in code if cell["metadata"].get("tags") == ["parameters"])
    version = re.search(r'^version = "(.*)"', (ROOT / "Cargo.toml").read_text(), re.MULTILINE)[1]
    assert f'"rootgan-{version}-py3-none-manylinux_' in parameters


@pytest.mark.parametrize("module, command, asked", [("torch", "new", "torch==2.11.0"), ("PIL", "pictures", "pillow"),
                                                    ("numpy", "pictures", "numpy")])
@pytest.mark.parametrize("installed", [True, False])
def test_a_module_that_is_missing_is_asked_for_by_the_name_that_pip_knows(tmp_path, module, command, asked, installed):
    place = ROOT / "python" / "rootgan"
    if installed:
        place = Path(shutil.copytree(place, tmp_path / "lib" / "packages" / "rootgan"))
    code = f"import runpy, sys; sys.modules['{module}'] = None; runpy.run_path(sys.argv.pop(1), run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", code, place, command, "--help"], capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    pip = f"{sys.executable} -m pip install {asked}\n"
    remedy = f"run: {pip}" if installed else f"run 'scripts/setup --python-torch', or: {pip}"
    assert done.stderr == f"error: cannot {command} without the Python package '{module}'; {remedy}"


def test_what_an_export_to_onnx_lacks_is_asked_for_as_a_whole(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(CheckpointError, match="'G.pt' to ONNX: .*onnxscript.* -m pip install onnx onnxscript onnxruntime$"):
        onnx_export.write(None, Path("out"), "G.pt")
