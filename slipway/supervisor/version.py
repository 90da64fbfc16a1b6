"""One load of one version: its replicas, each a post with a worker, from their start to their end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from collections.abc import Callable

from slipway.clock import Clock
from slipway.errors import LoadFailure, SlipwayError, every_error
from slipway.infer.runtime import ReplicaFacts
from slipway.launchers.launcher import ChildPlan, Launcher
from slipway.spec.serve import ModelSpec
from slipway.supervisor.cores import share_of_cores
from slipway.supervisor.folder import RuntimeFolder
from slipway.supervisor.place import READY, Limits, Place
from slipway.supervisor.post import Post
from slipway.wire.messages import Beat, BeginWorker, ControlMessage, Ready, ReplicaAddress

WORKER_MODULE = "slipway.worker"
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
"""Read by numeric libraries when they are imported, which is before a worker hears what it should load."""

ERRORS = {error.code: error for error in every_error()}


class Replica:
    """A post, and what its worker said of itself. `cpu_s` counts all generations; `quiet_beats` those in a row
    between which it computed nothing."""

    def __init__(
        self,
        *,
        spec: ModelSpec,
        index: int,
        generation: int,
        threads: int,
        launcher: Launcher,
        clock: Clock,
        folder: RuntimeFolder,
        logs: tuple[bool, str],
        changed: Callable[[], None],
    ) -> None:
        self.index = index
        self.threads = threads
        self.facts: ReplicaFacts | None = None
        self.beat = Beat(busy_s=0.0, batches=0, rss_bytes=0, cpu_s=0.0)
        self._spec = spec
        self._folder = folder
        self._logs = logs
        self.quiet_beats = 0
        self._socket = self._scratch = ""
        self._past_cpu_s = 0.0
        wanted = spec.replicas
        limits = Limits(startup_s=wanted.startup_s, hang_s=wanted.hang_s, memory_bytes=wanted.memory_bytes)
        self.post = Post(
            name=f"worker {spec.name} {spec.version} #{index}",
            place=Place(limits=limits, generation=generation),
            launcher=launcher,
            clock=clock,
            plan=self._plan,
            begin=self._begin,
            heard=self._heard,
            changed=changed,
        )

    @property
    def ready(self) -> bool:
        return self.post.place.state == READY

    @property
    def cpu_s(self) -> float:
        return self._past_cpu_s + self.beat.cpu_s

    @property
    def address(self) -> ReplicaAddress:
        return ReplicaAddress(self.index, self.post.place.generation, self._socket)

    def remove_scratch(self) -> None:
        if self._scratch:
            shutil.rmtree(self._scratch, ignore_errors=True)

    def _plan(self) -> ChildPlan:
        self.remove_scratch()  # of the generation before
        self._socket, self._scratch = self._folder.next_socket(), self._folder.next_scratch()
        self._past_cpu_s += self.beat.cpu_s
        self.beat, self.facts = Beat(busy_s=0.0, batches=0, rss_bytes=0, cpu_s=0.0), None
        environment = {name: str(self.threads) for name in THREAD_VARIABLES if name not in os.environ}
        return ChildPlan(
            module=WORKER_MODULE, title=f"slipway: {self.post.name}", listen=self._socket, environment=environment
        )

    def _begin(self, generation: int) -> ControlMessage:
        as_json, level = self._logs
        return BeginWorker(
            spec=self._spec,
            index=self.index,
            generation=generation,
            scratch=self._scratch,
            threads=self.threads,
            log_json=as_json,
            log_level=level,
        )

    def _heard(self, message: ControlMessage) -> None:
        if isinstance(message, Ready):
            self.facts = message.facts
        elif isinstance(message, Beat):
            idle = message.busy_s == 0.0 and message.batches == self.beat.batches
            self.quiet_beats = self.quiet_beats + 1 if idle else 0
            self.beat = message
            self.post.place.beat(busy_s=message.busy_s, rss_bytes=message.rss_bytes)


class Version:
    """`settled` gives None when every replica was ready once, or the error of the first that failed before that."""

    def __init__(
        self,
        *,
        spec: ModelSpec,
        generation: int,
        cores: int,
        launcher: Launcher,
        clock: Clock,
        folder: RuntimeFolder,
        logs: tuple[bool, str],
        changed: Callable[[], None],
    ) -> None:
        self.spec = spec
        self._clock = clock
        self._changed = changed
        self._first_generation = generation + 1
        self.settled: asyncio.Future[SlipwayError | None] = asyncio.get_running_loop().create_future()
        threads = spec.replicas.threads or share_of_cores(replicas=spec.replicas.count, cores=cores)
        self.replicas = [
            Replica(
                spec=spec,
                index=index,
                generation=generation,
                threads=threads,
                launcher=launcher,
                clock=clock,
                folder=folder,
                logs=logs,
                changed=self._replica_changed,
            )
            for index in range(1, spec.replicas.count + 1)
        ]

    def step(self) -> None:
        for replica in self.replicas:
            replica.post.step()

    async def rest(self) -> None:
        """Wait until the replicas, which get no more work, have nothing left to compute; not for ever."""
        for replica in self.replicas:
            replica.quiet_beats = 0
        until = self._clock.now() + self.spec.replicas.hang_s
        while self._clock.now() < until and any(r.ready and not r.quiet_beats for r in self.replicas):
            await asyncio.sleep(0.02)

    def retire(self) -> None:
        for replica in self.replicas:
            replica.post.retire()

    def kill(self) -> None:
        for replica in self.replicas:
            replica.post.kill()

    def bury(self) -> bool:
        """True when every process is gone; what they left is removed."""
        if not all(replica.post.gone for replica in self.replicas):
            return False
        for replica in self.replicas:
            replica.remove_scratch()
        return True

    @property
    def generation(self) -> int:
        """The highest so far: the next load begins above it."""
        return max(replica.post.place.generation for replica in self.replicas)

    @property
    def facts(self) -> ReplicaFacts | None:
        return next((replica.facts for replica in self.replicas if replica.ready and replica.facts), None)

    def addresses(self) -> list[ReplicaAddress]:
        return [replica.address for replica in self.replicas if replica.ready]

    def trouble(self) -> str:
        """Why no replica is ready, in words; '' where one is, or where all are on their way."""
        if any(replica.ready for replica in self.replicas):
            return ""
        now = self._clock.now()
        troubles = (replica.post.place.trouble(now) for replica in self.replicas)
        return next(filter(None, troubles), "")

    def _replica_changed(self) -> None:
        if not self.settled.done():
            if all(replica.ready for replica in self.replicas):
                self.settled.set_result(None)
            else:
                self._find_first_failure()
        self._changed()

    def _find_first_failure(self) -> None:
        for replica in self.replicas:
            place = replica.post.place
            first_try = place.generation == self._first_generation and not place.ever_ready
            if place.last is not None and first_try and place.wanted:
                kind = ERRORS.get(place.last.code, LoadFailure)
                words = place.last.words
                if place.last.reason in ("exit", "signal"):
                    words = f"the worker ended while it loaded the model: {words}"
                with contextlib.suppress(asyncio.InvalidStateError):
                    self.settled.set_result(kind(f"model {self.spec.name!r}: {words}"))
