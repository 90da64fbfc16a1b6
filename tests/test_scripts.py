"""The scripts that a newcomer runs first: what they say where the machine lacks something, and that they stay quick.

They run on a copy, with interpreters that stand in for machines which are not as they should be.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from serving import ROOT

REAL = sys.executable
OLD = "#!/bin/sh\ncase $1 in --version) echo Python 3.9.2;; *) exit 1;; esac\n"
NO_ENSUREPIP = f"""#!/bin/sh
case "$2" in *ensurepip*) exit 1;; esac
exec {REAL} "$@"
"""
# A virtual environment whose pip writes down what it was told, and fails when FAIL is set.
FAKE_PIP = f"""#!/bin/sh
if [ "$1" = -m ] && [ "$2" = venv ]; then
  mkdir -p "$3/bin" && cp "$0" "$3/bin/python"
elif [ "$1" = -m ] && [ "$2" = pip ]; then
  echo "$@" >> "$CALLS"
  echo "Collecting something"
  if [ -n "$FAIL" ]; then echo "ERROR: no such package"; exit 1; fi
else
  exec {REAL} "$@"
fi
"""


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    (tmp_path / "tests/triton").mkdir(parents=True)
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts")
    for name in ("pyproject.toml", "tests/triton/requirements.txt"):
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def interpreter(folder: Path, text: str) -> str:
    path = folder / "stand-in"
    path.write_text(text)
    path.chmod(0o755)
    return str(path)


def run(copy: Path, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [copy / command[0], *command[1:]],
        env=os.environ | {"CALLS": str(copy / "calls")} | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_no_python_that_is_new_enough(copy: Path) -> None:
    ran = run(copy, "scripts/serve", PYTHON=interpreter(copy, OLD))
    assert ran.returncode != 0
    assert "needs Python 3.11 or newer" in ran.stderr
    assert "apt install python3" in ran.stderr


def test_a_debian_without_venv_is_told_the_package(copy: Path) -> None:
    ran = run(copy, "scripts/install", PYTHON=interpreter(copy, NO_ENSUREPIP))
    assert ran.returncode != 0
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert f"apt install python{version}-venv" in ran.stderr


def test_what_is_up_to_date_is_left_alone(copy: Path) -> None:
    python = interpreter(copy, FAKE_PIP)
    for expected_calls in (1, 1):
        assert run(copy, "scripts/install", PYTHON=python).returncode == 0
        assert len((copy / "calls").read_text().splitlines()) == expected_calls
    with (copy / "pyproject.toml").open("a") as file:
        file.write("# changed\n")
    assert run(copy, "scripts/install", PYTHON=python).returncode == 0
    assert len((copy / "calls").read_text().splitlines()) == 2
    assert "-e .[all]" in (copy / "calls").read_text()


def test_a_failed_installation_is_shown_and_tried_again(copy: Path) -> None:
    python = interpreter(copy, FAKE_PIP)
    ran = run(copy, "scripts/install", PYTHON=python, FAIL="1")
    assert ran.returncode != 0
    assert "ERROR: no such package" in ran.stderr
    assert "install.log" in ran.stderr
    assert run(copy, "scripts/install", PYTHON=python).returncode == 0


def test_scripts_are_executable_and_stop_at_the_first_failure() -> None:
    for name in ("serve", "test", "check", "install"):
        path = ROOT / "scripts" / name
        assert os.access(path, os.X_OK)
        assert "set -euo pipefail" in path.read_text()
    assert "scripts/test" in (ROOT / ".ci" / "run").read_text()
