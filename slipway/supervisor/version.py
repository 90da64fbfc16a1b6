"""One load of one version: its replicas, each a post with a worker, from their start to their end."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import secrets
import shutil
from collections.abc import Callable

import msgspec

from slipway.clock import Clock
from slipway.errors import LoadFailure, SlipwayError, every_error
from slipway.infer.runtime import ReplicaFacts
from slipway.launchers.courtesy import Courtesy
from slipway.launchers.launcher import ChildPlan, Launcher
from slipway.spec.serve import ModelSpec
from slipway.supervisor.cores import share_of_cores
from slipway.supervisor.folder import RuntimeFolder
from slipway.supervisor.place import READY, Ending, Limits, Place
from slipway.supervisor.post import Post, StartGate
from slipway.wire.messages import Beat, BeginWorker, ControlMessage, Ready, ReplicaAddress

WORKER_MODULE = "slipway.worker"
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
"""Read by numeric libraries when they are imported, which is before a worker hears what it should load."""
PATIENCE = {"OPENBLAS_THREAD_TIMEOUT": "16"}
"""How long the idle threads of OpenBLAS, which every import of numpy starts, keep a core busy before they sleep: 2 to
the power of this many cycles. With its own 26 each start of a worker took a tenth of a second from those who serve."""

KILLED_OFTEN = 3
"""So many processes in a row that end while they load are the model's doing."""

ERRORS = {error.code: error for error in every_error()}


class Replica:
    """A post, and what its worker said of itself. `cpu_s` counts all generations; `quiet_beats` those in a row between
    which it computed nothing. `load`: the share of the time between the last two in which it computed. `spec` is what
    its next process hears. `output`: the file for what it writes, '' for the terminal. `reserved`: see ChildPlan.
    `behind`: its first process loads behind those who serve; one that takes a dead one's place is in a hurry."""

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
        output: str,
        reserved: bool,
        gate: StartGate,
        behind: bool,
        courtesy: Courtesy,
        changed: Callable[[], None],
    ) -> None:
        self.index = index
        self._reserved = reserved
        self._behind = behind
        self._courtesy = courtesy
        self._stepped_back = False
        self.spec = spec
        self.threads = threads
        self.load = 0.0
        self.facts: ReplicaFacts | None = None
        self.beat = Beat(busy_s=0.0, batches=0, rss_bytes=0, cpu_s=0.0)
        self._folder = folder
        self._clock = clock
        self._output = output
        self._beat_at = 0.0
        self._logs = logs
        self.quiet_beats = 0
        self._socket = self._scratch = self._token = ""
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
            gate=gate,
        )

    @property
    def ready(self) -> bool:
        return self.post.place.state == READY

    @property
    def cpu_s(self) -> float:
        return self._past_cpu_s + self.beat.cpu_s

    @property
    def address(self) -> ReplicaAddress:
        return ReplicaAddress(self.index, self.post.place.generation, self._socket, self._token)

    def remove_scratch(self) -> None:
        if self._scratch:
            shutil.rmtree(self._scratch, ignore_errors=True)

    def _plan(self) -> ChildPlan:
        self.remove_scratch()  # of the generation before
        self._socket, self._scratch = self._folder.next_socket(), self._folder.next_scratch()
        self._token = secrets.token_hex(16)
        self._past_cpu_s += self.beat.cpu_s
        self.beat, self.facts, self.load = Beat(busy_s=0.0, batches=0, rss_bytes=0, cpu_s=0.0), None, 0.0
        threads = PATIENCE | {name: str(self.threads) for name in THREAD_VARIABLES}
        threads = {name: value for name, value in threads.items() if name not in os.environ}
        given, shut = self.spec.environment, self.spec.replicas.sandbox
        # PYTHONPATH, LD_PRELOAD and their like run code before a sandbox can shut: into one, variables come afterwards.
        early = {name: value for name, value in given.items() if not shut or name in THREAD_VARIABLES}
        return ChildPlan(
            module=WORKER_MODULE,
            title=f"slipway: {self.post.name}",
            listen=self._socket,
            environment=threads | early,
            reserved=self._reserved,
            output=self._output,
        )

    def _begin(self, generation: int) -> ControlMessage:
        self._stepped_back = self._behind and not self.post.place.restarts
        if self._stepped_back:
            self._courtesy.step_back(self.post.pid)
        as_json, level = self._logs
        return BeginWorker(
            spec=self.spec if self.spec.replicas.sandbox else msgspec.structs.replace(self.spec, environment={}),
            index=self.index,
            generation=generation,
            scratch=self._scratch,
            threads=self.threads,
            log_json=as_json,
            log_level=level,
            token=self._token,
        )

    def _heard(self, message: ControlMessage) -> None:
        if isinstance(message, Ready):
            self.facts = message.facts
        elif isinstance(message, Beat):
            idle = message.busy_s == 0.0 and message.batches == self.beat.batches
            self.quiet_beats = self.quiet_beats + 1 if idle else 0
            now = self._clock.now()
            computed_s = message.computed_s + message.busy_s - self.beat.computed_s - self.beat.busy_s
            self.load = max(0.0, min(1.0, computed_s / max(now - self._beat_at, 0.001)))
            self.beat, self._beat_at = message, now
            self.post.place.beat(busy_s=message.busy_s, rss_bytes=message.rss_bytes)

    def come_forward(self) -> None:
        """From here on it serves like any other."""
        if self._stepped_back and self.ready:
            self._stepped_back = False
            self._courtesy.come_forward(self.post.pid)

    def retire(self) -> None:
        """End it for good. To return much memory is work too, and nobody waits for it."""
        self._courtesy.step_back(self.post.pid)
        self.post.retire()

    async def rest(self) -> None:
        """Wait until it, which gets no more work, has nothing left to compute; not for ever."""
        self.quiet_beats = 0
        until = self._clock.now() + self.spec.replicas.hang_s
        while self._clock.now() < until and self.ready and not self.quiet_beats:
            await asyncio.sleep(0.02)


class Version:
    """`settled` gives None when every replica was ready once, or the error of the first that failed before that.

    `complete_once`: every replica was ready at some time, though perhaps not all at the same. `surplus`: replicas that
    a smaller count has no place for, on their way out. `output`: see `Replica`, by its index.
    """

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
        output: Callable[[ModelSpec, int], str],
        reserved: bool,
        gate: StartGate,
        behind: bool,
        courtesy: Courtesy,
        changed: Callable[[], None],
    ) -> None:
        self.spec = spec
        self._clock = clock
        self._cores = cores
        self._changed = changed
        self._first_generation = generation + 1
        self.settled: asyncio.Future[SlipwayError | None] = asyncio.get_running_loop().create_future()

        def make(index: int, generation: int, behind: bool) -> Replica:
            return Replica(
                spec=self.spec,
                index=index,
                generation=generation,
                threads=self._threads(),
                launcher=launcher,
                clock=clock,
                folder=folder,
                logs=logs,
                output=output(spec, index),
                reserved=reserved,
                gate=gate,
                behind=behind,
                courtesy=courtesy,
                changed=self._replica_changed,
            )

        self._make = make
        self.complete_once = False
        self.replicas = [make(index, generation, behind) for index in range(1, spec.replicas.count + 1)]
        self.surplus: list[Replica] = []

    def _threads(self) -> int:
        wanted = self.spec.replicas
        return wanted.threads or share_of_cores(replicas=wanted.count, cores=self._cores)

    def respec(self, spec: ModelSpec) -> list[Replica]:
        """Take over a changed count of replicas, and for processes to come what else has changed. Those that are too
        many get no more requests; the caller sees them off."""
        self.spec = spec
        generation, count = self.generation, spec.replicas.count
        taken = {replica.index for replica in (*self.replicas, *self.surplus)}
        free = (index for index in itertools.count(1) if index not in taken)
        while len(self.replicas) < count:
            self.replicas.append(self._make(next(free), generation, bool(self.addresses())))
        surplus = self.replicas[count:]
        del self.replicas[count:]
        self.surplus += surplus
        for replica in self.replicas:
            replica.spec = spec
        return surplus

    def step(self) -> None:
        for replica in self._all():
            replica.post.step()
        for replica in [replica for replica in self.surplus if replica.post.gone]:
            replica.remove_scratch()
            self.surplus.remove(replica)

    def come_forward(self) -> None:
        """What loaded behind the others has been tried, and may have traffic."""
        for replica in self.replicas:
            replica.come_forward()

    async def rest(self) -> None:
        """Wait until the replicas, which get no more work, have nothing left to compute; not for ever."""
        await asyncio.gather(*(replica.rest() for replica in self.replicas))

    def retire(self) -> None:
        for replica in self._all():
            replica.retire()

    def kill(self) -> None:
        for replica in self._all():
            replica.post.kill()

    @property
    def gone(self) -> bool:
        return all(replica.post.gone for replica in self._all())

    def bury(self) -> bool:
        """True when every process is gone; what they left is removed."""
        if not self.gone:
            return False
        for replica in self._all():
            replica.remove_scratch()
        return True

    def _all(self) -> list[Replica]:
        return [*self.replicas, *self.surplus]

    @property
    def generation(self) -> int:
        """The highest so far: the next load begins above it."""
        return max((replica.post.place.generation for replica in self._all()), default=0)

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
        self.complete_once = self.complete_once or all(replica.post.place.ever_ready for replica in self.replicas)
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
                with contextlib.suppress(asyncio.InvalidStateError):
                    self.settled.set_result(self._failure(place.last))

    def verdict(self) -> SlipwayError | None:
        """Why it cannot be loaded; None while it can, or might. What the model or its limits say counts at once. One
        that was killed says nothing about its model, unless that happens to it again and again."""
        for replica in self.replicas:
            place = replica.post.place
            if place.last is None or place.ever_ready:
                continue
            if place.last.reason not in ("exit", "signal") or place.failures >= KILLED_OFTEN:
                return self._failure(place.last)
        return None

    def _failure(self, ending: Ending) -> SlipwayError:
        words = ending.words
        if ending.reason in ("exit", "signal"):
            words = f"the worker ended while it loaded the model: {words}"
        return ERRORS.get(ending.code, LoadFailure)(f"model {self.spec.name!r}: {words}")
