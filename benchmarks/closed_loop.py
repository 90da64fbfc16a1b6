"""Closed-loop load with h2load: HTTP/1.1 and HTTP/2 (gRPC) by the same C program.

wrk would do for HTTP, but version 4 rewrites the latencies it saw ("correction" of coordinated omission), and at
one connection that moves the median; h2load logs every request, so quantiles here are of what was measured.
"""

import re
import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.contender import Request
from benchmarks.quantiles import quantiles_us

_GRACE_S = 60.0


class LoadFailed(Exception):
    """The load generator gave no usable figures."""


class TooSlow(LoadFailed):
    """The time was up before every connection had an answer: a rate from so few would be a guess."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """`rate` counts right answers only."""

    seconds: float
    answered: int
    errors: int
    rate: float
    p50_us: float
    p99_us: float
    p999_us: float


def _command(request: Request, *, port: int, grpc: bool, connections: int, amount: list[str]) -> list[str]:
    headers = [part for name, value in request.headers for part in ("-H", f"{name}: {value}")]
    protocol = [] if grpc else ["--h1"]
    url = f"http://127.0.0.1:{port}{request.path}"
    return ["h2load", *protocol, "-t", "1", "-c", str(connections), *amount, *headers, url]


def _number(pattern: str, text: str) -> float:
    found = re.search(pattern, text)
    if found is None:
        raise LoadFailed(f"h2load said: {text.strip()[-200:]}")
    return float(found[1])


def _seconds(text: str) -> float:
    """The wall time of a run by count; h2load picks the unit."""
    found = re.search(r"finished in ([\d.]+)(us|ms|s|m)\b", text)
    if found is None:
        raise LoadFailed(f"h2load said: {text.strip()[-200:]}")
    return float(found[1]) * {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}[found[2]]


def _errors(text: str, *, done: int, answer_bytes: int | None) -> int:
    """Requests that were not answered well.

    gRPC says "no" with HTTP status 200 and no message, so there the answers are counted by their bytes: every
    good answer to the one question carries the same number of them.
    """
    failed = _number(r"(\d+) failed", text) + _number(r"(\d+) timeout", text)
    other = sum(_number(rf"(\d+) {family}xx", text) for family in (3, 4, 5))
    without_message = 0.0
    if answer_bytes is not None:
        data = _number(r"headers \([^)]*\), \S+ \((\d+)\) data", text)
        without_message = done - data / answer_bytes
    return round(max(failed, other, without_message))


def read_log(lines: bytes) -> tuple[np.ndarray, np.ndarray]:
    """h2load's request log -> (statuses, latencies in microseconds)."""
    table = np.array(lines.split(), np.int64).reshape(-1, 3)
    return table[:, 1], table[:, 2]


def run(
    request: Request,
    *,
    port: int,
    grpc: bool,
    connections: int,
    scratch: Path,
    seconds: float | None = None,
    count: int | None = None,
    answer_bytes: int | None = None,
) -> Measured:
    """Load for `seconds`, or exactly `count` requests where a request takes long."""
    body, log = scratch / "body.bin", scratch / "requests.log"
    body.write_bytes(request.body)
    log.unlink(missing_ok=True)
    amount = ["-n", str(count)] if count else ["-D", f"{round((seconds or 0) * 1000)}ms"]
    amount += ["-d", str(body), f"--log-file={log}"]
    command = _command(request, port=port, grpc=grpc, connections=connections, amount=amount)
    try:
        limit_s = (seconds or 120) + _GRACE_S
        done_run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=limit_s)
    except subprocess.TimeoutExpired as error:
        raise LoadFailed(f"no end after {limit_s:.0f} s") from error
    text = done_run.stdout + done_run.stderr
    done = int(_number(r"(\d+) done", text))
    if done < (connections if count is None else 1):
        raise TooSlow(f"only {done} requests were answered")
    errors = min(done, _errors(text, done=done, answer_bytes=answer_bytes))
    statuses, latencies = read_log(log.read_bytes())
    good = latencies[(statuses >= 200) & (statuses < 300)]
    took_s = seconds if count is None and seconds else _seconds(text)
    p50, p99, p999 = quantiles_us(good, (0.5, 0.99, 0.999))
    return Measured(
        seconds=took_s,
        answered=done - errors,
        errors=errors,
        rate=(done - errors) / took_s,
        p50_us=p50,
        p99_us=p99,
        p999_us=p999,
    )


def grpc_answer_bytes(message: bytes) -> int:
    """How many bytes of DATA one good answer takes: the message behind its frame head."""
    return len(message) + struct.calcsize(">BI")
