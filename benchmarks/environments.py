"""One virtual environment a contender, made once and kept until its requirements change."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

from benchmarks.contender import ROOT, Peer


class CannotInstall(Exception):
    """The message is what a reader of the results sees."""


def python_of(cache: Path, peer: Peer) -> Path:
    return cache / "env" / peer.name / "bin" / "python"


def _wanted(peer: Peer) -> str:
    """Changes when the environment has to be brought up to date."""
    parts = [sys.version, (peer.folder / "requirements.txt").read_text()]
    if "-e ." in parts[1]:
        parts.append((ROOT / "pyproject.toml").read_text())
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def is_ready(cache: Path, peer: Peer) -> bool:
    stamp = cache / "env" / peer.name / "bench-stamp"
    return stamp.exists() and stamp.read_text() == _wanted(peer)


def install(cache: Path, peer: Peer) -> None:
    """Bring the environment up to date; pip's output goes to a log beside it. Raises CannotInstall."""
    folder = cache / "env" / peer.name
    wanted = _wanted(peer)
    log = cache / "env" / f"{peer.name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as out:
        steps = [] if (folder / "bin" / "python").exists() else [[sys.executable, "-m", "venv", str(folder)]]
        pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--disable-pip-version-check", "-q"]
        steps.append([*pip, "-r", str(peer.folder / "requirements.txt")])
        for step in steps:
            # From the root, because "-e ." in a requirements file means the current folder.
            if subprocess.run(step, cwd=ROOT, stdout=out, stderr=subprocess.STDOUT, check=False).returncode:
                errors = [line for line in log.read_text().splitlines() if "ERROR" in line.upper()]
                raise CannotInstall(f"pip failed: {errors[-1] if errors else 'see ' + str(log)}")
    (folder / "bench-stamp").write_text(wanted)


def versions(cache: Path, peer: Peer) -> dict[str, str]:
    """Every package of the environment with its version."""
    listing = (
        "import importlib.metadata as m, json;"
        "print(json.dumps({d.metadata['Name'].lower(): d.version for d in m.distributions()}))"
    )
    command = [str(python_of(cache, peer)), "-c", listing]
    found = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    return json.loads(found.stdout) if found.returncode == 0 else {}
