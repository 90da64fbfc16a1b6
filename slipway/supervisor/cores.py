"""How many cores this server may use: what the scheduler allows, and what its control group may spend."""

from __future__ import annotations

import math
import os
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")


def usable_cores(*, cgroup: Path = CGROUP) -> int:
    """At least 1. A quota of 1.5 CPUs counts as 2: half a core more is better used than left."""
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else ()
    cores = len(allowed) or os.cpu_count() or 1
    quota = _quota_v2(cgroup) or _quota_v1(cgroup)
    return max(1, min(cores, math.ceil(quota))) if quota else cores


def share_of_cores(*, replicas: int, cores: int) -> int:
    """Threads of each replica, so that all of them together do not fight for the cores."""
    return max(1, cores // replicas)


def _quota_v2(cgroup: Path) -> float:
    """`cpu.max` is "max 100000" or "150000 100000": microseconds of each period."""
    try:
        quota, period = (cgroup / "cpu.max").read_text().split()
        return 0.0 if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return 0.0


def _quota_v1(cgroup: Path) -> float:
    try:
        quota = int((cgroup / "cpu" / "cpu.cfs_quota_us").read_text())
        period = int((cgroup / "cpu" / "cpu.cfs_period_us").read_text())
        return quota / period if quota > 0 else 0.0
    except (OSError, ValueError, ZeroDivisionError):
        return 0.0
