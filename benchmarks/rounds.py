"""The run: contender after contender, round after round. One server stands at a time; the next starts on a free
machine. A failure is reported; who fails twice is left out of the rounds that follow; the others go on.
"""

import contextlib
import json
import subprocess
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks import closed_loop, environments, models
from benchmarks.contender import Model, Peer, Protocol, Start, variables_for_servers
from benchmarks.open_rounds import PoissonRounds
from benchmarks.plan import CAPACITY_CONNECTIONS, Plan, Workload
from benchmarks.quantiles import quantiles_us
from benchmarks.results import Measurement, Results, StartUp, without_paths
from benchmarks.standing import Failed, Standing, Wrong, call, compare, free_ports

_WARM_UP_S = 0.5


class Rounds:
    def __init__(self, plan: Plan, cache: Path, results: Results, say: Callable[[str], None]) -> None:
        self.plan, self.cache, self.results, self._print = plan, cache, results, say
        self.out: set[tuple[str, str]] = set()
        """(contender, model) not tried again in this run: it answered wrongly, or failed twice."""
        self._failed_once: set[tuple[str, str]] = set()
        self._models: dict[str, Model] = {}
        self._begun_s = time.monotonic()

    def say(self, text: str) -> None:
        minutes, seconds = divmod(int(time.monotonic() - self._begun_s), 60)
        self._print(f"[{minutes:02}:{seconds:02}] {text}")

    def model(self, key: str) -> Model:
        if key not in self._models:
            self._models[key] = models.model(key, self.cache)
        return self._models[key]

    def run(self, after_round: Callable[[], None]) -> None:
        for turn in range(self.plan.rounds):
            self.say(f"round {turn + 1} of {self.plan.rounds}")
            for key, peer, workloads in self.plan.blocks(turn):
                if (peer.name, key) not in self.out:
                    self.guarded(peer, key, partial(self._block, peer, key, workloads, turn))
            after_round()
        if self.plan.has_open_loop:
            PoissonRounds(self).run(after_round)

    def check(self) -> bool:
        """Start every contender once with every model it serves and check each protocol; nothing is timed."""
        for key, peer, workloads in self.plan.blocks(0):
            if peer.serves:
                protocols = tuple(dict.fromkeys(each.protocol for each in workloads))
                self.guarded(peer, key, partial(self._check, peer, key, protocols))
        return not self.results.problems

    def _check(self, peer: Peer, key: str, protocols: tuple[Protocol, ...]) -> None:
        with Standing(peer, self.model(key), self.cache) as standing:
            for protocol in protocols:
                standing.check(protocol)
            self.say(f"{peer.name:9} {key:8} right on {', '.join(protocols)} ({standing.start_s:.2f} s)")

    def guarded(self, peer: Peer, key: str, block: Callable[[], None]) -> None:
        try:
            block()
        except (Failed, Wrong, closed_loop.LoadFailed, OSError) as error:
            kind = "answers wrongly" if isinstance(error, Wrong) else "failed"
            problem = without_paths(f"{peer.title} {kind} ({key}): {error}")
            # A server that hangs once in an hour must not vanish from the tables for it; the hang is reported.
            if isinstance(error, Wrong) or (peer.name, key) in self._failed_once:
                self.out.add((peer.name, key))
            self._failed_once.add((peer.name, key))
            self.results.problems.append(problem)
            self.say(problem)

    def _block(self, peer: Peer, key: str, workloads: list[Workload], turn: int) -> None:
        model = self.model(key)
        if not peer.serves:
            for workload in workloads:
                self._bare(peer, model, workload, turn)
            return
        with Standing(peer, model, self.cache) as standing:
            idle = standing.weigh()
            self.say(f"{peer.name:9} {key}: first right answer after {standing.start_s:.2f} s")
            for workload in workloads:
                self._workload(standing, workload, turn)
            up = StartUp(
                contender=peer.name,
                model=key,
                turn=turn,
                seconds=standing.start_s,
                idle=idle,
                loaded=standing.weigh(),
            )
            self.results.start_ups.append(up)

    def _workload(self, standing: Standing, workload: Workload, turn: int) -> None:
        protocol = workload.protocol
        standing.check(protocol)
        if not workload.connections:
            return
        answer_bytes = None
        if protocol == "grpc":
            answer_bytes = closed_loop.grpc_answer_bytes(call(standing.ports.grpc, standing.request("grpc")))
        load = partial(
            closed_loop.run,
            standing.request(protocol),
            port=standing.port(protocol),
            grpc=protocol == "grpc",
            scratch=standing.scratch,
            answer_bytes=answer_bytes,
        )
        if not workload.requests:
            # Once a protocol, not once a figure: lazily made things are made, and caches are warm.
            with contextlib.suppress(closed_loop.TooSlow):
                load(connections=min(CAPACITY_CONNECTIONS, max(workload.connections)), seconds=_WARM_UP_S)
        before = len(self.results.measurements)
        try:
            for connections in workload.connections:
                self._figure(standing, workload, turn, partial(load, connections=connections), connections)
            standing.check(protocol)
        except Wrong:
            # Under load some servers go wrong without an error: what answers wrongly afterwards is not believed.
            del self.results.measurements[before:]
            raise

    def _figure(
        self,
        standing: Standing,
        workload: Workload,
        turn: int,
        load: Callable[..., closed_loop.Measured],
        connections: int,
    ) -> None:
        # The check also waits until a slow server is done with what the last load left behind when its time was up.
        standing.check(workload.protocol)
        before_s = standing.cpu_seconds()
        try:
            measured = load(count=workload.requests) if workload.requests else load(seconds=self.plan.seconds)
        except closed_loop.TooSlow:
            standing.check(workload.protocol)
            before_s = standing.cpu_seconds()
            # Slower than the time allows: one request a connection, however long that takes.
            measured = load(count=connections)
        cpu_us = (standing.cpu_seconds() - before_s) / max(1, measured.answered) * 1e6
        found = Measurement(
            contender=standing.peer.name,
            workload=workload.name,
            connections=connections,
            turn=turn,
            cpu_us=cpu_us,
            **vars(measured),
        )
        self._keep(found)

    def _keep(self, found: Measurement) -> None:
        self.results.measurements.append(found)
        errors = f"  {found.errors} ERRORS" if found.errors else ""
        self.say(
            f"{found.contender:9} {found.workload:12} {found.connections:4} connections "
            f"{found.rate:10,.1f}/s   p50 {found.p50_us / 1e3:9.3f} ms   p99 {found.p99_us / 1e3:9.3f} ms   "
            f"cpu {found.cpu_us:9,.0f} us{errors}"
        )

    def _bare(self, peer: Peer, model: Model, workload: Workload, turn: int) -> None:
        """The loop without a server: a run of the same batch counts as one request."""
        scratch = self.cache / "run" / f"{peer.name}-{model.key}"
        scratch.mkdir(parents=True, exist_ok=True)
        rows = scratch / "rows.bin"
        rows.write_bytes(model.rows.astype("<f4").tobytes())
        start = Start(python=environments.python_of(self.cache, peer), model=model, ports=free_ports(), scratch=scratch)
        runs = workload.requests or 16
        argv = [*peer.start(start).argv, str(runs), str(rows)]
        done = subprocess.run(
            argv, env=variables_for_servers(start), capture_output=True, text=True, check=False, timeout=300
        )
        if done.returncode:
            raise Failed(done.stderr[-300:])
        told = json.loads(done.stdout)
        expected = model.expected[model.main_output]
        compare(model, {model.main_output: np.asarray(told["answer"], np.float32).reshape(expected.shape)})
        p50, p99, p999 = quantiles_us(np.array(told["took_s"]) * 1e6, (0.5, 0.99, 0.999))
        found = Measurement(
            contender=peer.name,
            workload=workload.name,
            connections=workload.connections[0],
            turn=turn,
            rate=runs / told["seconds"],
            answered=runs,
            errors=0,
            seconds=told["seconds"],
            p50_us=p50,
            p99_us=p99,
            p999_us=p999,
            cpu_us=told["cpu_s"] / runs * 1e6,
        )
        self._keep(found)
