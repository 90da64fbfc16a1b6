"""SIGKILL at random moments of a random history: what was declared comes true all the same, and nothing is left behind.

`SLIPWAY_TEST_KILLS` says how many; `scripts/prove` takes 200.
"""

from __future__ import annotations

import contextlib
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from upping import Up, constant_model, eventually, upped

import slipway
from slipway.client.retry import Retry
from slipway.errors import NotFound, SlipwayError, Unavailable

KILLS = int(os.environ.get("SLIPWAY_TEST_KILLS", "20"))
STEPS, HISTORIES = 20, 3
NAMES = ("red", "blue")
INPUT = np.ones((1, 1), np.float32)
names = st.sampled_from(NAMES)


@pytest.fixture(scope="module")
def up() -> Iterator[Up]:
    with upped() as running:
        yield running


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("models")
    return [constant_model(folder / str(number) / "m.onnx", number) for number in range(4)]


class Asker(threading.Thread):
    """Calls both deployments all the time. `wrong`: answers that no version could have given; errors are told apart by
    whether something was just killed, which the machine knows."""

    def __init__(self, up: Up) -> None:
        super().__init__(daemon=True)
        self.wrong: list[str] = []
        self.answers = 0
        self._up = up
        self._over = threading.Event()

    def run(self) -> None:
        while not self._over.is_set():
            try:
                door = self._up.http  # another one after each start
                with slipway.Client(door, retry=Retry(attempts=1), timeout_s=10) as client:
                    while door == self._up.http and not self._over.is_set():
                        self._ask(client)
            except SlipwayError:
                time.sleep(0.01)  # its door is gone for the moment

    def _ask(self, client: slipway.Client) -> None:
        for name in NAMES:
            try:
                answer = client.predict(name, INPUT)["y"]
            except (NotFound, Unavailable):
                time.sleep(0.005)  # leave the cores to those who come back
                continue
            self.answers += 1
            if len(set(answer.ravel().tolist())) != 1:
                self.wrong.append(f"{name}: {np.unique(answer)}")

    def stop(self) -> None:
        self._over.set()
        self.join(30)


def machine_of(up: Up, models: list[Path], counts: dict[str, int], asker: Asker) -> type[RuleBasedStateMachine]:
    class History(RuleBasedStateMachine):
        """Commands as a person gives them, and kills as a bad day does. `declared`: the model that each deployment
        should answer with, None for a stopped one. `versions`: the most that was seen of each."""

        def __init__(self) -> None:
            super().__init__()
            self.declared: dict[str, int | None] = {}
            self.held: dict[str, int] = {}
            self.versions: dict[str, set[str]] = {}

        @initialize(model=st.integers(0, 3))
        def one_that_answers(self, model: int) -> None:
            """Every history begins with something to lose."""
            with up.admin() as admin:
                for found in admin.deployments():
                    admin.delete(found.name, wait=True)
                admin.deploy(models[model], name=NAMES[0], wait=True)
            self.declared[NAMES[0]] = self.held[NAMES[0]] = model
            before = asker.answers
            eventually(lambda: asker.answers > before, "it answers")

        def command(self, act: Callable[[slipway.Admin], object]) -> None:
            """A command whose answer was lost in a kill is given again: all of them may be."""
            until = time.monotonic() + 60
            while True:
                try:
                    with up.admin() as admin:
                        act(admin)
                    return
                except Unavailable:
                    assert time.monotonic() < until, "the management API did not come back"
                    time.sleep(0.05)

        @rule(name=names, model=st.integers(0, 3))
        def deploy(self, name: str, model: int) -> None:
            self.command(lambda admin: admin.deploy(models[model], name=name))
            stopped = name in self.declared and self.declared[name] is None  # another model is no reason to start
            self.declared[name] = None if stopped else model
            self.held[name] = model

        @rule(name=names, replicas=st.integers(1, 2))
        def scale(self, name: str, replicas: int) -> None:
            if name in self.declared:
                self.command(lambda admin: admin.scale(name, replicas))

        @rule(name=names)
        def stop(self, name: str) -> None:
            if name in self.declared:
                self.command(lambda admin: admin.stop(name))
                self.declared[name] = None

        @rule(name=names)
        def start(self, name: str) -> None:
            if name in self.declared:
                self.command(lambda admin: admin.start(name))
                self.declared[name] = self.held[name]

        @rule(name=names)
        def delete(self, name: str) -> None:
            if name in self.declared:

                def forget(admin: slipway.Admin) -> None:
                    with contextlib.suppress(NotFound):  # the answer to the first try may have been lost
                        admin.delete(name, wait=True)

                self.command(forget)
                del self.declared[name]
                self.versions.pop(name, None)

        @rule(
            kind=st.sampled_from(("controller", "gateway", "worker", "supervisor")),
            wait_s=st.floats(0, 0.8),
        )
        def kill(self, kind: str, wait_s: float) -> None:
            time.sleep(wait_s)  # the moment is the point here, not readiness
            counts[kind] = counts.get(kind, 0) + 1
            if kind == "supervisor":
                up.kill()
                up.start()
                return
            victims = up.processes(kind)
            if victims:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(random.choice(victims).pid, 9)

        @invariant()
        def no_version_is_lost(self) -> None:
            with contextlib.suppress(Unavailable), up.admin() as admin:
                for name in self.declared:
                    there = {version.version for version in admin.versions(name)}
                    assert there >= self.versions.get(name, set()), f"{name} lost versions"
                    self.versions[name] = there

        def teardown(self) -> None:
            """After the storm: what is true is what was declared."""
            for name, model in self.declared.items():
                try:
                    eventually(lambda name=name, model=model: settled(up, name, model), "", within_s=90)
                except AssertionError:
                    raise AssertionError(f"{name} does not answer {model}:\n{report(up, name)}") from None
            with up.admin() as admin:
                assert {found.name for found in admin.deployments()} == set(self.declared)
                assert admin.verify_audit().broken_at is None
            assert not up.orphans(), "processes of a former server"

    return History


def report(up: Up, name: str) -> str:
    """All that is known of a deployment that is not as it should be."""
    with up.admin() as admin:
        found = admin.deployment(name)
        lines = [f"{found.state}: {found.reason}; live {found.live}, target {found.target}"]
        for version in admin.versions(name):
            replicas = [f"#{one.index} {one.state} {one.trouble}" for one in version.replicas]
            lines.append(f"{version.version} {version.state} {version.error} {replicas}")
    with slipway.Client(up.http, retry=Retry(attempts=1)) as client:
        try:
            lines.append(f"it answers {client.predict(name, INPUT)['y'].ravel()[:1]}")
        except SlipwayError as error:
            lines.append(f"it answers {error.code}: {error.message}")
    return "\n".join([*lines, *up.log.splitlines()[-80:]])


def settled(up: Up, name: str, model: int | None) -> bool:
    """Whether the deployment does what was declared; None: it is stopped."""
    try:
        with up.admin() as admin, slipway.Client(up.http, retry=Retry(attempts=1)) as client:
            state = admin.deployment(name).state
            if model is None:
                return state == "stopped"
            return state == "ready" and set(client.predict(name, INPUT)["y"].ravel().tolist()) == {float(model)}
    except SlipwayError:
        return False


def test_what_was_declared_comes_true_whatever_dies(up: Up, models: list[Path]) -> None:
    asker = Asker(up)
    asker.start()
    counts: dict[str, int] = {}
    history = settings(
        max_examples=HISTORIES,
        stateful_step_count=STEPS,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
        database=None,
    )
    try:
        while sum(counts.values()) < KILLS:
            run_state_machine_as_test(machine_of(up, models, counts, asker), settings=history)
    finally:
        asker.stop()
    assert asker.answers > 0
    assert not asker.wrong
    print(f"killed: {counts}; {asker.answers} answers meanwhile")
