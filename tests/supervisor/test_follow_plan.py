"""What a plan of the controller becomes: loads, trials, flips and ends, as its children see them."""

from __future__ import annotations

import signal
from collections.abc import Callable

import msgspec
import pytest
from house_stage import IDLE, Stage, model_of, run, stage_of

from slipway.monitor.metrics import INFLIGHT_REQUESTS
from slipway.spec.access import Access
from slipway.spec.serve import ModelSpec
from slipway.testing.launcher import StubChild
from slipway.wire.messages import (
    ControlMessage,
    Observed,
    Plan,
    PlannedVersion,
    Probe,
    Probed,
    Series,
    SetupFailed,
    Snapshot,
    SnapshotRequest,
    VersionRoutes,
    VersionSeen,
)

V1 = model_of(version="v1")
V2 = model_of(version="v2")


def plan_of(number: int, *versions: tuple[ModelSpec, bool], absent: dict[str, str] | None = None) -> Plan:
    return Plan(number, [PlannedVersion(spec, live) for spec, live in versions], absent or {})


class Play:
    """A stage whose gateways answer by themselves and whose workers beat. `unanswered`: what the gateways still hold of
    each version. `refusals`: what the next trials are answered with."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.house = stage.house
        self.unanswered: dict[str, int] = {}
        self.refusals: list[Probed] = []
        self.probed: list[str] = []
        self._answered: dict[int, int] = {}

    async def until(self, condition: Callable[[], object]) -> None:
        def turn() -> object:
            for gateway in self.stage.children("gateway"):
                self._answer(gateway)
            for worker in self.stage.children("worker"):
                worker.say(IDLE)
            return condition()

        await self.stage.until(turn, pass_s=0.02)

    def _answer(self, gateway: StubChild) -> None:
        heard = self.stage.heard(gateway)
        for message in heard[self._answered.get(gateway.pid, 0) :]:
            if isinstance(message, SnapshotRequest):
                held = [Series(INFLIGHT_REQUESTS.name, ("iris", v), n) for v, n in self.unanswered.items()]
                gateway.say(Snapshot(message.number, held, []))
            elif isinstance(message, Probe):
                self.probed.append(message.version)
                refusal = self.refusals.pop(0) if self.refusals else Probed(0)
                gateway.say(msgspec.structs.replace(refusal, number=message.number))
        self._answered[gateway.pid] = len(heard)

    def worker(self, version: str) -> StubChild:
        return [child for child in self.stage.children("worker") if f" {version} " in child.plan.title][-1]

    def has_worker(self, version: str) -> bool:
        return any(f" {version} " in child.plan.title for child in self.stage.children("worker"))

    def version(self, version: str) -> VersionSeen:
        return next(seen for seen in self.stage.seen().versions if seen.version == version)

    def routes(self) -> dict[str, VersionRoutes]:
        (gateway, *_) = self.stage.children("gateway")
        return {routes.spec.version: routes for routes in self.stage.routes(gateway).versions}

    async def bring_up(self, number: int, spec: ModelSpec, *others: tuple[ModelSpec, bool], live: bool) -> None:
        """Until the version has been tried."""
        self.house.repository.follow(plan_of(number, (spec, live), *others))
        await self.until(lambda: self.has_worker(spec.version))
        await self.stage.ready(self.worker(spec.version))
        await self.until(lambda: self.version(spec.version).stage == "ready")


def playing(scene: Callable[[Play], object], *, gateways: int = 1) -> None:
    async def play() -> None:
        async with stage_of(gateways=gateways) as stage:
            stage.step()
            for gateway in stage.children("gateway"):
                await stage.ready(gateway)
            await scene(Play(stage))  # type: ignore[misc]

    run(play)


def test_a_version_is_loaded_tried_by_every_gateway_and_live_only_when_the_plan_says_so() -> None:
    async def scene(play: Play) -> None:
        await play.bring_up(1, V1, live=True)
        assert play.routes()["v1"].live
        await play.bring_up(2, V2, (V1, True), live=False)
        assert play.probed == ["v1", "v1", "v2", "v2"], "once by each gateway"
        assert [(v, routes.live) for v, routes in sorted(play.routes().items())] == [("v1", True), ("v2", False)]
        play.house.repository.follow(plan_of(3, (V1, False), (V2, True)))
        await play.until(lambda: play.stage.seen().plan == 3)
        assert [(v, routes.live) for v, routes in sorted(play.routes().items())] == [("v1", False), ("v2", True)]
        assert play.worker("v1").signals == [], "it may still hold requests that came before the flip"

    playing(scene, gateways=2)


def test_what_the_plan_drops_finishes_what_it_accepted_before_it_ends() -> None:
    async def scene(play: Play) -> None:
        await play.bring_up(1, V1, live=True)
        await play.bring_up(2, V2, (V1, True), live=False)
        old = play.worker("v1")
        play.unanswered = {"v1": 3}
        play.house.repository.follow(plan_of(3, (V2, True)))
        for _ in range(20):
            await play.until(lambda: True)
        assert play.routes()["v1"].leaving and len(play.routes()["v1"].replicas) == 1
        assert play.version("v1").stage == "leaving"
        assert old.signals == []
        play.unanswered = {"v1": 0}
        await play.until(lambda: old.signals == [signal.SIGTERM])
        await play.until(lambda: [seen.version for seen in play.stage.seen().versions] == ["v2"])
        assert list(play.routes()) == ["v2"]

    playing(scene)


def test_the_same_plan_again_changes_nothing() -> None:
    async def scene(play: Play) -> None:
        await play.bring_up(1, V1, live=True)
        before = len(play.stage.launcher.children)
        play.house.repository.follow(plan_of(2, (V1, True)))
        await play.until(lambda: play.stage.seen().plan == 2)
        assert len(play.stage.launcher.children) == before
        assert play.worker("v1").signals == []

    playing(scene)


def test_a_version_that_is_wanted_back_while_it_drains_stays_as_it_is() -> None:
    async def scene(play: Play) -> None:
        await play.bring_up(1, V1, live=True)
        worker = play.worker("v1")
        play.unanswered = {"v1": 1}
        play.house.repository.follow(plan_of(2))
        await play.until(lambda: play.routes()["v1"].leaving)
        play.house.repository.follow(plan_of(3, (V1, True)))
        play.unanswered = {}
        await play.until(lambda: play.stage.seen().plan == 3)
        assert (play.routes()["v1"].leaving, play.routes()["v1"].live) == (False, True)
        assert play.version("v1").stage == "ready"
        assert worker.running and worker.signals == []

    playing(scene)


def test_a_version_that_is_wanted_back_while_it_ends_gets_a_new_load() -> None:
    async def scene(play: Play) -> None:
        await play.bring_up(1, V1, live=True)
        worker = play.worker("v1")
        worker.stubborn = True
        play.house.repository.follow(plan_of(2))
        await play.until(lambda: worker.signals == [signal.SIGTERM])
        play.house.repository.follow(plan_of(3, (V1, True)))
        worker.exit(0)
        await play.until(lambda: play.has_worker("v1"))
        assert play.stage.begin(play.worker("v1")).generation == 2
        await play.stage.ready(play.worker("v1"))
        await play.until(lambda: play.version("v1").stage == "ready")
        assert play.probed == ["v1", "v1"], "what was tried once says nothing about its successor"

    playing(scene)


def test_a_version_that_was_stopped_twice_ends_once_and_leaves_its_successor_alone() -> None:
    async def scene(play: Play) -> None:
        await play.bring_up(1, V1, live=True)
        worker = play.worker("v1")
        worker.stubborn = True
        play.house.repository.follow(plan_of(2))
        await play.until(lambda: worker.signals == [signal.SIGTERM])
        play.house.repository.follow(plan_of(3, (V1, True)))
        play.house.repository.follow(plan_of(4))
        worker.exit(0)
        await play.until(lambda: not play.house.repository._shelves)
        play.house.repository.follow(plan_of(5, (V1, True)))
        await play.until(lambda: play.has_worker("v1"))
        await play.stage.ready(play.worker("v1"))
        await play.until(lambda: play.stage.seen().plan == 5)
        await play.until(lambda: play.version("v1").stage == "ready")
        assert play.worker("v1").signals == []

    playing(scene)


def test_a_version_waits_for_a_gateway_that_can_try_it() -> None:
    async def scene(play: Play) -> None:
        play.house.repository.follow(plan_of(1, (V1, True)))
        await play.until(lambda: play.has_worker("v1"))
        (gateway,) = play.stage.children("gateway")
        gateway.exit(-9)
        await play.until(lambda: not gateway.running)
        await play.stage.ready(play.worker("v1"))
        await play.until(lambda: play.stage.children("gateway"))
        assert (play.version("v1").stage, play.version("v1").error) == ("probing", "")
        await play.stage.ready(play.stage.children("gateway")[0])
        await play.until(lambda: play.version("v1").stage == "ready")
        assert play.probed == ["v1"]

    playing(scene)


@pytest.mark.parametrize(("losses", "stage"), [(2, "ready"), (3, "probing")])
def test_a_trial_that_loses_its_replica_is_made_again_but_not_for_ever(losses: int, stage: str) -> None:
    async def scene(play: Play) -> None:
        play.refusals = [Probed(0, "replica_lost", "the replica died")] * losses
        play.house.repository.follow(plan_of(1, (V1, True)))
        await play.until(lambda: play.has_worker("v1"))
        await play.stage.ready(play.worker("v1"))
        await play.until(lambda: play.version("v1").stage == "ready" or play.version("v1").error)
        assert play.version("v1").stage == stage
        assert ("the replica died" in play.version("v1").error) is (stage == "probing")

    playing(scene)


def test_a_version_that_cannot_load_says_so_and_the_others_go_on() -> None:
    async def scene(play: Play) -> None:
        await play.bring_up(1, V1, live=True)
        play.house.repository.follow(plan_of(2, (V1, True), (V2, False)))
        await play.until(lambda: play.has_worker("v2"))
        bad = play.worker("v2")
        bad.say(SetupFailed("load_failure", "the file is cut"))
        bad.exit(3)
        await play.until(lambda: play.version("v2").error)
        seen = play.version("v2")
        assert (seen.stage, seen.error_code, seen.error) == ("loading", "load_failure", "model 'iris': the file is cut")
        assert play.version("v1").stage == "ready" and play.routes()["v1"].live
        play.house.repository.follow(plan_of(3, (V1, True)))
        await play.until(lambda: [seen.version for seen in play.stage.seen().versions] == ["v1"])

    playing(scene)


def test_a_worker_that_is_killed_while_it_loads_says_nothing_about_its_model() -> None:
    async def scene(play: Play) -> None:
        play.house.repository.follow(plan_of(1, (V1, True)))
        for _ in range(2):
            await play.until(lambda: play.has_worker("v1"))
            play.worker("v1").exit(-signal.SIGKILL)
            await play.until(lambda: not play.has_worker("v1"))
            assert play.version("v1").error == ""
        await play.until(lambda: play.has_worker("v1"))
        await play.stage.ready(play.worker("v1"))
        await play.until(lambda: play.version("v1").stage == "ready")

    playing(scene)


def test_a_model_that_kills_its_worker_each_time_fails() -> None:
    async def scene(play: Play) -> None:
        play.house.repository.follow(plan_of(1, (V1, True)))

        def dying() -> str:
            for worker in play.stage.children("worker"):
                worker.exit(-signal.SIGSEGV)
            return play.version("v1").error

        await play.until(dying)
        assert "ended while it loaded the model: exit by signal 11 (SIGSEGV)" in play.version("v1").error
        assert len([child for child in play.stage.launcher.children if "worker" in child.plan.title]) == 3

    playing(scene)


def test_a_version_that_does_not_answer_its_trial_says_why_and_is_tried_again() -> None:
    async def scene(play: Play) -> None:
        play.refusals = [Probed(0, "invalid_output", "it gave nothing")]
        play.house.repository.follow(plan_of(1, (V1, True)))
        await play.until(lambda: play.has_worker("v1"))
        await play.stage.ready(play.worker("v1"))
        await play.until(lambda: play.version("v1").error)
        seen = play.version("v1")
        assert (seen.stage, seen.error_code) == ("probing", "invalid_output")
        assert "it gave nothing" in seen.error
        await play.until(lambda: play.version("v1").stage == "ready")
        assert play.version("v1").error == ""

    playing(scene)


def test_a_changed_count_scales_without_touching_the_others() -> None:
    async def scene(play: Play) -> None:
        await play.bring_up(1, V1, live=True)
        first = play.worker("v1")
        three = msgspec.structs.replace(V1, replicas=msgspec.structs.replace(V1.replicas, count=3))
        play.house.repository.follow(plan_of(2, (three, True)))
        await play.until(lambda: len(play.stage.children("worker")) == 3)
        for worker in play.stage.children("worker")[1:]:
            await play.stage.ready(worker)
        assert [place.index for place in play.routes()["v1"].replicas] == [1, 2, 3]
        play.house.repository.follow(plan_of(3, (V1, True)))
        await play.until(lambda: len(play.stage.children("worker")) == 1)
        assert play.stage.children("worker") == [first] and first.signals == []
        assert [place.index for place in play.routes()["v1"].replicas] == [1]
        assert play.version("v1").stage == "ready"

    playing(scene)


def test_a_number_that_means_another_model_now_gets_a_load_of_that_one() -> None:
    async def scene(play: Play) -> None:
        await play.bring_up(1, V1, live=True)
        old = play.worker("v1")
        other = msgspec.structs.replace(V1, path="/elsewhere")
        play.house.repository.follow(plan_of(2, (other, True)))
        await play.until(lambda: len(play.stage.children("worker")) == 2)
        fresh = play.worker("v1")
        assert play.stage.begin(fresh).spec.path == "/elsewhere"
        assert old.signals == [], "it serves until the right one can"
        await play.stage.ready(fresh)
        await play.until(lambda: not old.running)
        await play.until(lambda: play.version("v1").stage == "ready")
        assert play.probed == ["v1", "v1"]

    playing(scene)


def test_a_draining_version_is_not_taken_back_for_another_model_of_its_number() -> None:
    async def scene(play: Play) -> None:
        await play.bring_up(1, V1, live=True)
        old = play.worker("v1")
        play.unanswered = {"v1": 1}
        play.house.repository.follow(plan_of(2))
        await play.until(lambda: play.routes()["v1"].leaving)
        play.house.repository.follow(plan_of(3, (msgspec.structs.replace(V1, path="/elsewhere"), True)))
        play.unanswered = {}
        await play.until(lambda: not old.running and play.has_worker("v1"))
        assert play.stage.begin(play.worker("v1")).spec.path == "/elsewhere"

    playing(scene)


def test_a_deployment_of_which_nothing_runs_is_known_with_the_reason() -> None:
    async def scene(play: Play) -> None:
        play.house.repository.follow(plan_of(1, absent={"churn": "it is stopped"}))
        (gateway,) = play.stage.children("gateway")
        await play.until(lambda: play.stage.seen().plan == 1)
        assert play.stage.routes(gateway).absent == {"churn": "it is stopped"}

    playing(scene)


def test_what_is_secret_reaches_the_worker_and_no_gateway() -> None:
    async def scene(play: Play) -> None:
        secret = msgspec.structs.replace(V1, environment={"TOKEN": "hush"})
        await play.bring_up(1, secret, live=True)
        worker = play.worker("v1")
        assert play.stage.begin(worker).spec.environment == {"TOKEN": "hush"}
        assert "TOKEN" not in worker.plan.environment  # which /proc shows for as long as it lives
        assert worker.plan.environment["OPENBLAS_THREAD_TIMEOUT"] == "16"  # its idle threads leave the cores to others
        (gateway,) = play.stage.children("gateway")
        said: list[ControlMessage] = [*play.stage.heard(gateway), play.stage.seen()]
        assert not any(b"hush" in msgspec.msgpack.encode(message) for message in said)

    playing(scene)


def test_a_dead_controller_changes_nothing_and_its_successor_sees_what_runs() -> None:
    async def play() -> None:
        async with stage_of(remembers=True) as stage:
            house = stage.house
            stage.step()
            house.controller.step()
            (controller,), (gateway,) = stage.children("controller"), stage.children("gateway")
            await stage.ready(controller)
            await stage.ready(gateway)
            observed = [message for message in stage.heard(controller) if isinstance(message, Observed)]
            assert observed[0].plan == 0
            controller.say(Access(epoch=1, required=True))
            controller.say(plan_of(1, (V1, True)))
            scene = Play(stage)
            await scene.until(lambda: scene.has_worker("v1"))
            await stage.ready(scene.worker("v1"))
            await scene.until(lambda: stage.seen().versions[0].stage == "ready")
            assert Access(epoch=1, required=True) in stage.heard(gateway)
            controller.exit(-signal.SIGKILL)
            worker = scene.worker("v1")
            worker.exit(-signal.SIGSEGV)
            await scene.until(lambda: scene.has_worker("v1"))  # restarts go on without it
            await stage.ready(scene.worker("v1"))

            def successor() -> bool:
                house.controller.step()
                return bool(stage.children("controller"))

            await scene.until(successor)
            (again,) = stage.children("controller")
            await stage.ready(again)
            (seen,) = [message for message in stage.heard(again) if isinstance(message, Observed)]
            assert (seen.plan, [version.stage for version in seen.versions]) == (1, ["ready"])

    run(play)
