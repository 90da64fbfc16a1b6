"""What one version's engine counts. Plain additions on the request path; the rest happens when somebody asks."""

from __future__ import annotations

import time
from collections import Counter

from slipway.engine.batch import Pending
from slipway.infer.service import BatchStatistic, DurationStatistic
from slipway.monitor.histogram import ROWS, SECONDS, Histogram

FOLD_AT = 4096


class Meter:
    """Times in seconds, but for the `_ns` sums, which the protocol's statistics ask for.

    Durations of answers are collected in lists and folded into the histograms many at a time (`fold`, before reading).
    """

    def __init__(self) -> None:
        self.total = Histogram(SECONDS)
        self.queue = Histogram(SECONDS)
        self.compute = Histogram(SECONDS)
        self.batch_rows = Histogram(ROWS)
        self.batches: dict[int, list[int]] = {}  # rows of a batch -> [how many, compute ns of all]
        self.computed = 0
        self.computed_ns = 0  # of each request the whole of its batch, as Triton counts it
        self.inferences = 0
        self.success = 0
        self.success_s = 0.0
        self.fail = 0
        self.fail_s = 0.0
        self.codes: Counter[tuple[str, str]] = Counter()  # answers by (protocol, ok or the error's code)
        self.retries = 0
        self.last_ms = 0
        self._ok: dict[str, int] = {}
        self._totals: list[float] = []
        self._waits: list[float] = []

    def batch(self, *, rows: int, requests: int, compute_ns: int) -> None:
        self.computed += requests
        self.computed_ns += requests * compute_ns
        self.compute.add(compute_ns * 1e-9)
        self.batch_rows.add(rows)
        seen = self.batches.get(rows)
        if seen is None:
            self.batches[rows] = [1, compute_ns]
        else:
            seen[0] += 1
            seen[1] += compute_ns
        if len(self._totals) >= FOLD_AT:
            self.fold()

    def answered(self, protocol: str, rows: int, total_s: float, wait_s: float) -> None:
        """`wait_s`: in the queue, until the last of the request's rows left."""
        self._totals.append(total_s)
        self._waits.append(wait_s)
        self.inferences += rows
        self._ok[protocol] = self._ok.get(protocol, 0) + 1

    def failed(self, entry: Pending, now: float, code: str) -> None:
        took_s = now - entry.arrived
        self.total.add(took_s)
        self.fail += 1
        self.fail_s += took_s
        self.codes[entry.request.protocol, code] += 1

    def fold(self) -> None:
        """Bring everything up to date; call it before reading."""
        totals, self._totals = self._totals, []
        if not totals:
            return
        waits, self._waits = self._waits, []
        self.total.add_many(totals)
        self.queue.add_many(waits)
        self.success += len(totals)
        self.success_s += sum(totals)
        for protocol, count in self._ok.items():
            self.codes[protocol, "ok"] += count
        self._ok.clear()
        self.last_ms = int(time.time() * 1000)

    def batch_statistics(self) -> list[BatchStatistic]:
        return [
            BatchStatistic(rows, DurationStatistic(count, ns)) for rows, (count, ns) in sorted(self.batches.items())
        ]
