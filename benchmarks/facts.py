"""What a reader must know about the machine to believe a number."""

import os
import platform
import subprocess
import time
from pathlib import Path

from benchmarks.contender import ROOT


def _first_line(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10, cwd=ROOT)
    except OSError:
        return "absent"
    return (done.stdout + done.stderr).strip().splitlines()[0] if (done.stdout + done.stderr).strip() else ""


def _field(path: str, name: str) -> str:
    for line in Path(path).read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return "unknown"


def machine() -> dict[str, object]:
    changed = _first_line(["git", "status", "--porcelain", "--", "slipway", "benchmarks"])
    return {
        "when": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "cpu": _field("/proc/cpuinfo", "model name"),
        "cores": os.cpu_count(),
        "memory_gib": round(int(_field("/proc/meminfo", "MemTotal").split()[0]) / 2**20, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load_generator": _first_line(["h2load", "--version"]),
        "commit": _first_line(["git", "rev-parse", "--short", "HEAD"]) + (" with changes" if changed else ""),
        "load_average_before": round(os.getloadavg()[0], 2),
    }
