"""What one version's engine counts. Plain additions on the request path; everything else happens at the scrape."""

from __future__ import annotations

import time
from collections import Counter

from slipway.engine.batch import Pending
from slipway.infer.service import BatchStatistic, DurationStatistic
from slipway.monitor.histogram import ROWS, SECONDS, Histogram


class Meter:
    """Times in seconds, but for the `_ns` sums, which the protocol's statistics ask for."""

    def __init__(self) -> None:
        self.total = Histogram(SECONDS)
        self.queue = Histogram(SECONDS)
        self.compute = Histogram(SECONDS)
        self.batch_rows = Histogram(ROWS)
        self.batches: dict[int, list[int]] = {}  # rows of a batch -> [how many, compute ns of all]
        self.inferences = 0
        self.success = 0
        self.success_s = 0.0
        self.fail = 0
        self.fail_s = 0.0
        self.codes: Counter[tuple[str, str]] = Counter()  # answers by (protocol, ok or the error's code)
        self.retries = 0
        self.last_ms = 0

    def batch(self, *, rows: int, compute_ns: int) -> None:
        self.compute.add(compute_ns * 1e-9)
        self.batch_rows.add(rows)
        seen = self.batches.get(rows)
        if seen is None:
            self.batches[rows] = [1, compute_ns]
        else:
            seen[0] += 1
            seen[1] += compute_ns
        self.last_ms = int(time.time() * 1000)

    def answered(self, entry: Pending, now: float) -> None:
        arrived = entry.arrived
        self.total.add(now - arrived)
        self.queue.add(entry.left_at - arrived)
        self.success += 1
        self.success_s += now - arrived
        self.inferences += entry.rows
        self.codes[entry.request.protocol, "ok"] += 1

    def failed(self, entry: Pending, now: float, code: str) -> None:
        took_s = now - entry.arrived
        self.total.add(took_s)
        self.fail += 1
        self.fail_s += took_s
        self.codes[entry.request.protocol, code] += 1

    def batch_statistics(self) -> list[BatchStatistic]:
        return [
            BatchStatistic(rows, DurationStatistic(count, ns)) for rows, (count, ns) in sorted(self.batches.items())
        ]
