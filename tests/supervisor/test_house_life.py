from __future__ import annotations

import asyncio
import signal

from house_stage import FACTS, IDLE, alive, model_of, run, stage_of

from slipway.errors import LoadFailure, SetupError, UnsafeModel
from slipway.wire.messages import (
    Beat,
    BeginGateway,
    Drain,
    Progress,
    Ready,
    Serving,
    SetupFailed,
    Snapshot,
    SnapshotRequest,
)


def test_everyone_is_launched_at_once_with_a_title_that_reads_as_a_plan() -> None:
    async def play() -> None:
        async with stage_of(model_of(replicas=2), model_of("churn"), gateways=2) as stage:
            stage.step()
            assert [child.plan.title for child in stage.launcher.children] == [
                "slipway: worker iris v1 #1",
                "slipway: worker iris v1 #2",
                "slipway: worker churn v1 #1",
                "slipway: gateway #1",
                "slipway: gateway #2",
            ]
            first, second = (stage.begin(child) for child in stage.launcher.children[:2])
            assert (first.index, second.index) == (1, 2)
            assert first.scratch != second.scratch
            assert isinstance(stage.heard(stage.launcher.children[3])[0], BeginGateway)
            sockets = [child.plan.listen for child in stage.children("worker")]
            assert len(set(sockets)) == 3

    run(play)


def test_routes_list_only_what_is_ready_and_every_gateway_knows_them() -> None:
    async def play() -> None:
        async with stage_of(model_of(replicas=2), gateways=2) as stage:
            stage.step()
            one, two = stage.children("worker")
            gateways = stage.children("gateway")
            (version,) = stage.routes(gateways[0]).versions
            assert (version.replicas, version.facts, version.failure) == ([], None, "")
            await stage.ready(two)
            for gateway in gateways:
                (version,) = stage.routes(gateway).versions
                assert [(place.index, place.socket) for place in version.replicas] == [(2, two.plan.listen)]
                assert version.facts == FACTS
            await stage.ready(one)
            assert [place.index for place in stage.routes(gateways[1]).versions[0].replicas] == [1, 2]

    run(play)


def test_a_dead_worker_leaves_the_routes_at_once_and_comes_back_as_a_new_generation() -> None:
    async def play() -> None:
        async with stage_of(model_of(replicas=2)) as stage:
            await stage.all_ready()
            (gateway,) = stage.children("gateway")
            one, _ = stage.children("worker")
            one.exit(-signal.SIGKILL)
            await asyncio.sleep(0.01)  # no step of the house: its closed line alone tells
            assert [place.index for place in stage.routes(gateway).versions[0].replicas] == [2]
            await stage.until(lambda: len(stage.children("worker")) == 2, pass_s=0.05)
            again = stage.children("worker")[-1]
            begin = stage.begin(again)
            assert (begin.index, begin.generation) == (1, 2)
            assert again.plan.listen != one.plan.listen
            assert one.closed
            await stage.ready(again)
            places = stage.routes(gateway).versions[0].replicas
            assert sorted((place.index, place.generation) for place in places) == [(1, 2), (2, 1)]

    run(play)


def test_a_hung_worker_is_killed_and_replaced_while_the_other_beats_on() -> None:
    async def play() -> None:
        async with stage_of(model_of(replicas=2)) as stage:
            await stage.all_ready()
            hung, well = stage.children("worker")

            def beating() -> bool:
                well.say(IDLE)
                return not hung.running

            await stage.until(beating, pass_s=0.3)
            assert hung.signals == [signal.SIGKILL]
            assert well.signals == []
            assert stage.seen().versions[0].replicas[0].trouble.startswith("hung")

    run(play)


def test_a_leaking_worker_is_asked_to_end_so_that_it_finishes_its_batch() -> None:
    async def play() -> None:
        spec = model_of()
        leaky = spec.__class__(spec.name, spec.path, replicas=spec.replicas.__class__(memory_bytes=10_000))
        async with stage_of(leaky) as stage:
            await stage.all_ready()
            (worker,) = stage.children("worker")
            worker.say(Beat(busy_s=0.1, batches=1, rss_bytes=10_001, cpu_s=1.0))
            await stage.until(lambda: not worker.running)
            assert worker.signals == [signal.SIGTERM]
            (gateway,) = stage.children("gateway")
            assert stage.routes(gateway).versions[0].replicas == []
            assert "over its memory limit" in stage.routes(gateway).versions[0].failure

    run(play)


def test_a_crash_loop_is_a_clear_status_and_no_spin() -> None:
    async def play() -> None:
        async with stage_of(model_of()) as stage:
            await stage.all_ready()
            started = stage.clock.now()
            while stage.clock.now() - started < 60:
                for worker in stage.children("worker"):
                    worker.exit(-signal.SIGSEGV)
                stage.step(0.1)
                await asyncio.sleep(0)
            assert len(stage.launcher.children) < 12
            version = stage.seen().versions[0]
            assert "crashes in 60 s; last: exit by signal 11 (SIGSEGV); next try in" in version.replicas[0].trouble
            assert version.replicas[0].state == "backing_off"

    run(play)


def test_stages_reach_who_watches() -> None:
    async def play() -> None:
        async with stage_of(model_of()) as stage:
            living = asyncio.create_task(stage.house.live())
            await stage.until(lambda: stage.children("gateway"))
            (worker,) = stage.children("worker")
            worker.say(Progress("warm-up"))
            await stage.until(lambda: {"worker iris v1 #1": "warm-up", "gateway #1": "start"} in stage.watcher.stages)
            await stage.ready(worker)
            (gateway,) = stage.children("gateway")
            gateway.say(Ready())
            await stage.until(lambda: stage.house.gateways.all[0].ready)
            assert stage.watcher.addresses is None, "no gateway has reached a replica yet"
            gateway.say(Serving(True))
            await stage.until(lambda: stage.watcher.addresses is not None)
            stage.house.stop(signal.SIGINT)
            await stage.until(lambda: Drain() in stage.heard(gateway))
            gateway.exit(0)
            assert await living == 0

    run(play)


def test_the_first_signal_drains_gateways_before_workers_end() -> None:
    async def play() -> None:
        async with stage_of(model_of()) as stage:
            living, gateway, worker = await alive(stage)
            stage.house.stop(signal.SIGTERM)
            await stage.until(lambda: Drain() in stage.heard(gateway))
            assert worker.running and worker.signals == []
            gateway.exit(0)
            assert await living == 0
            assert worker.signals == [signal.SIGTERM]
            assert stage.watcher.drains == 1
            assert stage.launcher.running == []

    run(play)


def test_who_does_not_drain_in_time_is_killed() -> None:
    async def play() -> None:
        async with stage_of(model_of(), drain_s=5.0) as stage:
            living, gateway, worker = await alive(stage)
            worker.stubborn = True
            stage.house.stop(signal.SIGTERM)
            await stage.until(lambda: living.done(), pass_s=0.1)
            assert gateway.signals == [signal.SIGKILL]
            assert worker.signals == [signal.SIGTERM, signal.SIGKILL]
            assert living.result() == 0

    run(play)


def test_the_second_signal_ends_everything_at_once() -> None:
    async def play() -> None:
        async with stage_of(model_of()) as stage:
            living, gateway, worker = await alive(stage)
            stage.house.stop(signal.SIGINT)
            await asyncio.sleep(0.05)
            stage.house.stop(signal.SIGINT)
            assert await living == 130
            assert gateway.signals == [signal.SIGKILL] == worker.signals

    run(play)


def test_a_model_that_cannot_be_loaded_ends_the_first_start_with_its_error() -> None:
    async def play() -> None:
        async with stage_of(model_of(), model_of("other")) as stage:
            living = asyncio.create_task(stage.house.live())
            await stage.until(lambda: len(stage.children("worker")) == 2)
            bad = stage.children("worker")[0]
            bad.say(SetupFailed("unsafe_model", "it names os.system"))
            bad.exit(3)
            await stage.until(living.done)
            error = living.exception()
            assert isinstance(error, UnsafeModel)
            assert error.message == "model 'iris': it names os.system"
            assert stage.launcher.running == []

    run(play)


def test_a_worker_that_dies_while_it_loads_is_an_error_too() -> None:
    async def play() -> None:
        async with stage_of(model_of()) as stage:
            living = asyncio.create_task(stage.house.live())
            await stage.until(lambda: stage.children("worker"))
            stage.children("worker")[0].exit(-signal.SIGSEGV)
            await stage.until(living.done)
            error = living.exception()
            assert isinstance(error, LoadFailure)
            assert "ended while it loaded the model: exit by signal 11 (SIGSEGV)" in error.message

    run(play)


def test_with_keep_going_the_others_serve_and_the_failed_one_says_why() -> None:
    async def play() -> None:
        async with stage_of(model_of(), model_of("good"), keep_going=True) as stage:
            living = asyncio.create_task(stage.house.live())
            await stage.until(lambda: stage.children("gateway"))
            bad, good = stage.children("worker")
            await stage.ready(good)
            await stage.ready(stage.children("gateway")[0])
            bad.say(SetupFailed("load_failure", "not a model"))
            bad.exit(3)
            await stage.until(lambda: stage.watcher.addresses is not None)
            (gateway,) = stage.children("gateway")
            by_name = {version.spec.name: version for version in stage.routes(gateway).versions}
            assert by_name["iris"].failure.startswith("not a model")
            assert len(by_name["good"].replicas) == 1
            await stage.until(lambda: len(stage.children("worker")) == 2, pass_s=0.05)  # tried again
            stage.house.stop(signal.SIGINT)
            stage.house.stop(signal.SIGINT)
            await living

    run(play)


def test_a_gateway_that_cannot_open_its_doors_ends_the_start_also_with_keep_going() -> None:
    async def play() -> None:
        async with stage_of(model_of(), keep_going=True) as stage:
            living = asyncio.create_task(stage.house.live())
            await stage.until(lambda: stage.children("gateway"))
            (gateway,) = stage.children("gateway")
            gateway.say(SetupFailed("missing_extra", "pip install 'slipway[grpc]'"))
            gateway.exit(1)
            await stage.until(living.done)
            error = living.exception()
            assert isinstance(error, SetupError)
            assert error.code == "missing_extra"

    run(play)


def test_a_gateway_that_ends_comes_back_and_learns_the_routes() -> None:
    async def play() -> None:
        async with stage_of(model_of(), gateways=2) as stage:
            await stage.all_ready()
            stage.children("gateway")[0].exit(-signal.SIGSEGV)
            await stage.until(lambda: len(stage.children("gateway")) == 2, pass_s=0.05)
            again = stage.children("gateway")[-1]
            assert isinstance(stage.heard(again)[0], BeginGateway)
            assert len(stage.routes(again).versions[0].replicas) == 1
            assert stage.seen().gateways[0].restarts == 1

    run(play)


def test_a_gateway_that_answers_no_questions_is_hung() -> None:
    async def play() -> None:
        async with stage_of(model_of(), gateways=2) as stage:
            await stage.all_ready()
            deaf, well = stage.children("gateway")
            (worker,) = stage.children("worker")
            asked = 0

            def answering() -> bool:
                nonlocal asked
                worker.say(IDLE)
                questions = [message for message in stage.heard(well) if isinstance(message, SnapshotRequest)]
                for question in questions[asked:]:
                    well.say(Snapshot(question.number, [], []))
                asked = len(questions)
                return not deaf.running

            await stage.until(answering, pass_s=0.5)
            assert deaf.signals == [signal.SIGKILL]
            assert well.running

    run(play)
