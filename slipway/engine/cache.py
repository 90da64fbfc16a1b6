"""The prediction cache: an answer that was computed a moment ago is given again, and equal requests share one compute.

Off unless the spec gives it bytes. Keys are compared in full (every input byte), so no two different requests ever
share an answer. Only successes are kept.
"""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import cast

from slipway.engine.batch import Pending
from slipway.engine.deadlines import Deadlines
from slipway.engine.engine import Engine
from slipway.errors import Cancelled, DeadlineExceeded, SlipwayError
from slipway.infer.request import NEVER, Done, Request, Response
from slipway.infer.tensor import Tensor
from slipway.spec.serve import CacheLimits

log = logging.getLogger(__name__)
OVERHEAD_BYTES = 512
"""What an entry costs beside its bytes, about: Python objects and their places in dictionaries."""


def cache_key(request: Request) -> Hashable:
    return (
        request.outputs,
        tuple([(tensor.name, tensor.datatype, tensor.shape, bytes(tensor.data)) for tensor in request.inputs]),
    )


class PredictionCache:
    """Least recently used goes first when bytes run out. Pure: `now` in seconds is an argument."""

    def __init__(self, limits: CacheLimits) -> None:
        self._limits = limits
        self._entries: OrderedDict[Hashable, tuple[list[Tensor], int, float]] = OrderedDict()
        self.nbytes = 0
        self.evictions = 0

    def get(self, key: Hashable, *, now: float) -> list[Tensor] | None:
        entry = self._entries.get(key)
        if entry is None:
            return None
        outputs, _, until = entry
        if until <= now:
            self._drop(key)
            return None
        self._entries.move_to_end(key)
        return outputs

    def put(self, key: Hashable, outputs: list[Tensor], *, key_bytes: int, now: float) -> None:
        """Keep a copy of the outputs; an entry larger than the whole budget is not kept."""
        # A copy: outputs are views into the memory of a batch, which they would keep alive as a whole.
        copies = [Tensor(item.name, item.datatype, item.shape, bytes(item.data)) for item in outputs]
        nbytes = OVERHEAD_BYTES + key_bytes + sum(len(item.data) for item in copies)
        if nbytes > self._limits.bytes:
            return
        if key in self._entries:
            self._drop(key)
        self._entries[key] = copies, nbytes, now + self._limits.ttl_s
        self.nbytes += nbytes
        while self.nbytes > self._limits.bytes:
            self._drop(next(iter(self._entries)))

    def _drop(self, key: Hashable) -> None:
        self.nbytes -= self._entries.pop(key)[1]
        self.evictions += 1


class Flight:
    """One compute that several equal requests wait for. `deadline`: of the request that it was started for."""

    def __init__(self, *, rows: int, batch_key: object, nbytes: int) -> None:
        self.rows = rows
        self.batch_key = batch_key
        self.nbytes = nbytes
        self.deadline = NEVER
        self.waiters: list[Pending] = []
        self.ticket: Pending | None = None

    @property
    def is_wanted(self) -> bool:
        return any(waiter.done is not None for waiter in self.waiters)


class CachedEngine:
    """An engine with a cache before it. The same `submit`."""

    def __init__(self, engine: Engine, limits: CacheLimits, *, now: Callable[[], float] = time.monotonic) -> None:
        self.cache = PredictionCache(limits)
        self.hits = 0
        self.misses = 0
        self._engine = engine
        self._slo_s = engine.spec.batching.slo_s or NEVER
        self._now = now
        self._flights: dict[Hashable, Flight] = {}
        self._deadlines = Deadlines(self._late, now=now)

    def submit(self, request: Request, *, rows: int, done: Done, key: object = None) -> Pending | None:
        """As `Engine.submit`; None where the cache had the answer and `done` was called already."""
        now = self._now()
        wanted = cache_key(request)
        outputs = self.cache.get(wanted, now=now)
        if outputs is not None:
            self.hits += 1
            self._engine.meter.answered(request.protocol, rows, self._now() - now, 0.0)
            done(Response(request.model, self._engine.spec.version, outputs, request.id))
            return None
        self.misses += 1
        if request.deadline <= now:
            raise DeadlineExceeded("the deadline had passed before the request came")
        waiter = Pending(request, done)
        waiter.arrived, waiter.queued = now, False
        waiter.deadline = request.deadline = min(request.deadline, now + self._slo_s)
        flight = self._flights.get(wanted)
        if flight is None:
            nbytes = sum(len(tensor.data) for tensor in request.inputs)
            flight = Flight(rows=rows, batch_key=key, nbytes=nbytes)
            self._start(wanted, flight, request)  # may raise: then nobody waits yet
            self._flights[wanted] = flight
        elif waiter.deadline < flight.deadline:
            self._deadlines.watch(waiter)  # over the others the engine watches: at the latest then the flight lands
        waiter.key = flight
        flight.waiters.append(waiter)
        waiter.cancel_hook = lambda entry: self._leave(wanted, flight, entry)
        return waiter

    def _start(self, wanted: Hashable, flight: Flight, request: Request) -> None:
        alone = Request(
            request.model,
            request.inputs,
            outputs=request.outputs,
            deadline=request.deadline,
            priority=request.priority,
            protocol=request.protocol,
        )
        flight.deadline = request.deadline
        flight.ticket = self._engine.submit(
            alone, rows=flight.rows, done=lambda outcome: self._landed(wanted, flight, outcome), key=flight.batch_key
        )

    def _landed(self, wanted: Hashable, flight: Flight, outcome: Response | SlipwayError) -> None:
        waiting = [waiter for waiter in flight.waiters if waiter.done is not None]
        if isinstance(outcome, DeadlineExceeded):
            # It was the first request's deadline; those with more time get another start.
            patient = [waiter for waiter in waiting if waiter.deadline > flight.deadline]
            patient.sort(key=lambda waiter: waiter.deadline)
            if patient:
                impatient = [waiter for waiter in waiting if waiter.deadline <= flight.deadline]
                flight.waiters = patient
                try:
                    self._start(wanted, flight, patient[0].request)
                    waiting = impatient
                except SlipwayError as error:
                    outcome = error
                    del self._flights[wanted]
            else:
                del self._flights[wanted]
        else:
            del self._flights[wanted]
        if isinstance(outcome, Response):
            self.cache.put(wanted, outcome.outputs, key_bytes=flight.nbytes, now=self._now())
        for place, waiter in enumerate(waiting):
            done, waiter.done = waiter.done, None
            if done is None:  # an answer before this one made its client hang up
                continue
            waiter.request.inputs = []  # the heap of deadlines may hold the request long after its answer
            if isinstance(outcome, Response):
                outcome = Response(outcome.model, outcome.version, outcome.outputs, waiter.request.id)
            if place:  # the engine counted the first
                self._count(waiter, flight, outcome)
            _tell(done, outcome)

    def _count(self, waiter: Pending, flight: Flight, outcome: Response | SlipwayError) -> None:
        meter, now = self._engine.meter, self._now()
        if isinstance(outcome, SlipwayError):
            meter.failed(waiter, now, outcome.code)
        else:
            meter.answered(waiter.request.protocol, flight.rows, now - waiter.arrived, 0.0)

    def _late(self, waiter: Pending) -> None:
        done, waiter.done = waiter.done, None
        if done is not None:
            waiter.request.inputs = []
            late = DeadlineExceeded(f"no answer within {waiter.deadline - waiter.arrived:.3f} s")
            flight = cast("Flight", waiter.key)
            if flight.is_wanted:
                self._engine.meter.failed(waiter, self._now(), late.code)
            elif flight.ticket is not None:
                self._engine.drop(flight.ticket, late)
            _tell(done, late)

    def _leave(self, wanted: Hashable, flight: Flight, waiter: Pending) -> None:
        """A client went away; the compute goes on only while somebody waits for it."""
        waiter.done = None
        waiter.request.inputs = []
        if flight.is_wanted:
            self._engine.meter.failed(waiter, self._now(), Cancelled.code)
        elif flight.ticket is not None:
            flight.ticket.cancel()  # which the engine counts
            if self._flights.get(wanted) is flight:
                del self._flights[wanted]


def _tell(done: Done, outcome: Response | SlipwayError) -> None:
    """A caller that breaks must not take with it those who wait for the same."""
    try:
        done(outcome)
    except Exception:
        log.exception("an answer could not be handed over")
