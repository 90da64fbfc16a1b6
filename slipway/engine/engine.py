"""The data plane's heart: queue → batch → replica → answers, for one version.

Work-conserving: a batch leaves as soon as a replica is free. Requests that arrive in one turn of the event loop leave
together, since the batch is formed at the end of the turn; nothing waits for a timer unless the spec asks for a delay.
One failure has one victim: a batch that failed is computed again request by request, and a request that lost its
replica is computed again, alone, elsewhere.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence

from slipway.engine.batch import Batch, Pending, add_part
from slipway.engine.deadlines import Deadlines
from slipway.engine.link import Link
from slipway.engine.meter import Meter
from slipway.errors import (
    Cancelled,
    DeadlineExceeded,
    InvalidInput,
    InvalidOutput,
    ModelFailure,
    NotReady,
    ReplicaLost,
    SlipwayError,
    every_error,
)
from slipway.infer.request import NEVER, BatchOutputs, Done, Request, Response
from slipway.infer.signature import batch_key
from slipway.infer.tensor import Tensor
from slipway.logs import fields
from slipway.schedule.batch_limit import BatchLimit, ComputeEstimate, hold_s
from slipway.schedule.queue import Queue, Slice
from slipway.spec.serve import ModelSpec
from slipway.wire.messages import Failed

MAX_LOSSES = 2
"""A request that was alone with a replica when it died may try again so often; then it is the suspect. More than once,
for replicas die in series too, and not because of what they hold."""

ORPHAN_PATIENCE_S = 30.0
"""Accepted requests wait this long for a replica when the last one is gone; it is usually back much sooner."""

log = logging.getLogger(__name__)
_ERRORS = {kind.code: kind for kind in every_error() if issubclass(kind, ModelFailure | InvalidInput)}
"""What a model may fail with; whatever else it claims is a ModelFailure."""


class Engine:
    """Computes requests of one version on whatever replicas are attached. Lives on one event loop.

    `changed` is called when a replica comes or goes.
    """

    def __init__(
        self,
        spec: ModelSpec,
        *,
        batchable: bool,
        changed: Callable[[], None] = lambda: None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.spec = spec
        self.meter = Meter()
        max_rows = spec.batching.max_rows if batchable else 1
        self.queue: Queue[Pending] = Queue(max_rows=spec.queue.rows, max_bytes=spec.queue.bytes)
        self._limit = BatchLimit(max_rows=max_rows, slo_s=spec.batching.slo_s)
        self._estimate = ComputeEstimate()
        self._slo_s = spec.batching.slo_s
        self._delay_s = spec.batching.max_delay_s
        self._now = now
        self._changed = changed
        self._loop = asyncio.get_running_loop()
        self._idle: deque[Link] = deque()
        self._links: set[Link] = set()
        self._again: deque[Slice[Pending]] = deque()
        self._numbers = itertools.count(1)
        self._deadlines = Deadlines(self._late, now=now)
        self._pump_due = False
        self._held: asyncio.TimerHandle | None = None
        self._orphaned: asyncio.TimerHandle | None = None
        self._closed: SlipwayError | None = None
        self.unanswered = 0

    @property
    def replicas(self) -> int:
        return len(self._links)

    # --- requests in -------------------------------------------------------------------------------------------

    def submit(self, request: Request, *, rows: int, done: Done, key: object = None) -> Pending:
        """Queue a request whose inputs were checked. `done` is called once, later.

        `key`: equal for requests that may share a batch; None makes one of the inputs (slower).

        Raises Overloaded (full queue), NotReady (no replica), DeadlineExceeded (it has passed already).
        """
        if not self._links:
            raise NotReady(f"model {self.spec.name!r} has no replica that is ready", retry_after_s=1.0)
        now = self._now()
        deadline = request.deadline
        if self._slo_s and deadline > now + self._slo_s:
            deadline = now + self._slo_s
        if deadline <= now:
            raise DeadlineExceeded("the deadline had passed before the request came")
        nbytes = 0
        for tensor in request.inputs:
            nbytes += len(tensor.data)
        entry = Pending(request, done)
        self.queue.offer(
            entry,
            now=now,
            rows=rows,
            nbytes=nbytes,
            key=batch_key(request.inputs) if key is None else key,
            deadline=deadline,
            priority=request.priority,
        )
        self.unanswered += 1
        entry.cancel_hook = self._cancel
        if deadline != NEVER:
            self._deadlines.watch(entry)
        self._wake()
        return entry

    def _cancel(self, entry: Pending) -> None:
        self._give_up(entry)
        self.meter.failed(entry, self._now(), Cancelled.code)

    def _late(self, entry: Pending) -> None:
        self._fail(entry, DeadlineExceeded(f"no answer within {entry.deadline - entry.arrived:.3f} s"))

    # --- batches out -------------------------------------------------------------------------------------------

    def _wake(self) -> None:
        if not self._pump_due and self._idle:
            self._pump_due = True
            self._loop.call_soon(self._pump)

    def _pump(self) -> None:
        self._pump_due = False
        while self._idle:
            now = self._now()
            retry = self._next_retry() if self._again else None
            slices = [retry] if retry is not None else self._next_slices(now)
            if not slices:
                return
            # A retry goes to the replica that was heard of last: of all it is the least likely to be dying as well.
            link = self._idle.popleft() if retry is None else self._idle.pop()
            link.run(Batch(next(self._numbers), slices, now))

    def _next_retry(self) -> Slice[Pending] | None:
        while self._again:
            retry = self._again.popleft()
            if retry.entry.done is not None:
                return retry
        return None

    def _next_slices(self, now: float) -> list[Slice[Pending]]:
        limit = self._limit.rows
        if self._delay_s and self._hold(now, limit):
            return []
        compute_s = self._estimate.seconds(min(limit, self.queue.rows)) if self._slo_s and self.queue.rows else 0.0
        slices, dropped = self.queue.take(now=now, max_rows=limit, compute_s=compute_s)
        for entry in dropped:
            late = DeadlineExceeded(
                f"dropped before it was computed: a batch takes {compute_s * 1000:.1f} ms, too late"
            )
            self._loop.call_soon(self._fail, entry, late)  # not now: whoever hears of it may cancel one of the slices
        if dropped and not slices and dropped[-1].deadline > now:
            self._estimate.doubt()
        return slices

    def _hold(self, now: float, limit: int) -> bool:
        head = self.queue.head()
        if head is None:
            return False
        wait_s = hold_s(
            rows=self.queue.rows,
            limit=limit,
            oldest_age_s=now - head.arrived,
            busy_replicas=len(self._links) - len(self._idle),
            max_delay_s=self._delay_s,
        )
        if wait_s and self._held is None:
            self._held = self._loop.call_later(wait_s, self._release)
        return wait_s > 0

    def _release(self) -> None:
        self._held = None
        self._pump()

    # --- answers in: what links report ---------------------------------------------------------------------------

    def attach(self, link: Link) -> None:
        if self._closed is not None:
            link.close()
            return
        if self._orphaned is not None:
            self._orphaned.cancel()
            self._orphaned = None
        self._links.add(link)
        self._idle.append(link)
        self._wake()
        self._changed()

    def detach(self, link: Link) -> None:
        """No further batches for this replica; what it holds it may finish."""
        self._links.discard(link)
        if link in self._idle:
            self._idle.remove(link)
        if not self._links and self._orphaned is None and self._closed is None:
            self._orphaned = self._loop.call_later(ORPHAN_PATIENCE_S, self._forsake)
        self._wake()  # a batch that was held back because this one computed need not wait for it any more
        self._changed()

    def _forsake(self) -> None:
        self._orphaned = None
        self.fail_waiting(NotReady(f"model {self.spec.name!r} has lost all its replicas", retry_after_s=5.0))

    def _free(self, link: Link) -> None:
        if link in self._links:
            self._idle.append(link)
        elif not link.in_flight:
            link.close()

    def ran(self, link: Link, batch: Batch, outputs: Sequence[Tensor], compute_ns: int) -> None:
        now = self._now()
        self._free(link)
        # The next batch leaves before this one's answers are written: a replica idles for as short as can be.
        self._pump()
        self._limit.observe(rows=batch.rows, took_s=now - batch.sent_at)
        self._estimate.observe(rows=batch.rows, took_s=now - batch.sent_at)
        meter = self.meter
        meter.batch(rows=batch.rows, requests=len(batch.slices), compute_ns=compute_ns)
        slices = batch.slices
        whole = BatchOutputs(outputs)
        cut = len(slices) > 1 or slices[0].entry.rows != batch.rows
        if cut:
            try:
                whole.check(batch.rows)
            except InvalidOutput as error:
                for entry, _, _ in slices:
                    self._fail(entry, error)
                return
        row, version = 0, self.spec.version
        for entry, start, stop in slices:
            first, count = row, stop - start
            row += count
            done = entry.done
            if done is None:
                continue
            request = entry.request
            if cut and count == entry.rows == 1 and request.outputs is None:
                response = Response(request.model, version, None, request.id, batch=whole, row=first)
            else:
                mine = whole.cut(first, row) if cut else list(outputs)
                if count != entry.rows:
                    joined = add_part(entry, start, stop, mine)
                    if joined is None:
                        continue
                    mine = joined
                try:
                    response = Response(request.model, version, _chosen(mine, request.outputs), request.id)
                except InvalidOutput as error:
                    self._fail(entry, error)
                    continue
            entry.done = None
            request.inputs = []  # the heap of deadlines may hold the request long after its answer
            self.unanswered -= 1
            meter.answered(request.protocol, entry.rows, now - entry.arrived, batch.sent_at - entry.arrived)
            try:
                done(response)
            except Exception:
                log.exception("an answer could not be handed over")

    def failed(self, link: Link, batch: Batch, failure: Failed) -> None:
        self._free(link)
        if len(batch.slices) > 1 and self.spec.idempotent and self._closed is None:
            self._again.extend(batch.slices)
        else:
            kind = _ERRORS.get(failure.code, ModelFailure)
            for entry, _, _ in batch.slices:
                self._fail(entry, kind(failure.message, correlation=failure.correlation))
        self._pump()

    def lost(self, link: Link, batches: list[Batch]) -> None:
        self.detach(link)
        for batch in batches:
            for piece in batch.slices:
                entry = piece.entry
                alone = len(batch.slices) == 1
                if self._closed is not None:
                    self._fail(entry, self._closed)
                elif self.spec.idempotent and entry.losses < MAX_LOSSES + (not alone):
                    entry.losses += alone
                    self.meter.retries += 1
                    self._again.append(piece)
                else:
                    self._fail(entry, ReplicaLost(f"the replica of {self.spec.name!r} that computed this died"))

    # --- answers out ---------------------------------------------------------------------------------------------

    def drop(self, entry: Pending, error: SlipwayError) -> None:
        """Answer a request with an error, wherever it is; nothing happens when it has its answer."""
        self._fail(entry, error)

    def _fail(self, entry: Pending, error: SlipwayError) -> None:
        done = entry.done
        if done is not None:
            if isinstance(error, ModelFailure | ReplicaLost):
                facts = fields(
                    model=self.spec.name,
                    version=self.spec.version,
                    request_id=entry.request.id,
                    code=error.code,
                    correlation=error.correlation,
                )
                log.warning("a request failed: %s", error.message, extra=facts)
            self._give_up(entry)
            self.meter.failed(entry, self._now(), error.code)
            try:
                done(error)
            except Exception:
                log.exception("an error could not be handed over")

    def _give_up(self, entry: Pending) -> None:
        self.queue.remove(entry)
        entry.done = None
        entry.request.inputs = []  # its bytes may be large, and the entry may stay in a line until it is passed
        self.unanswered -= 1

    def fail_waiting(self, error: SlipwayError) -> None:
        """Answer everything that no replica holds with an error."""
        for piece in self._again:
            self._fail(piece.entry, error)
        self._again.clear()
        for entry in self.queue.drop_all():
            self._fail(entry, error)

    def close(self, error: SlipwayError) -> None:
        """Take nothing more: what waits is answered with `error`, replicas finish what they hold and are let go."""
        self._closed = error
        self.fail_waiting(error)
        for link in tuple(self._links):
            link.retire()


def _chosen(outputs: list[Tensor], names: tuple[str, ...] | None) -> list[Tensor]:
    """The outputs that a request asked for, in its order; all of them where it named none."""
    if names is None:
        return outputs
    by_name = {tensor.name: tensor for tensor in outputs}
    try:
        return [by_name[name] for name in names]
    except KeyError as missing:
        raise InvalidOutput(f"the model gave no output {missing}, only {sorted(by_name)}") from None
