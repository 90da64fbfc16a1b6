"""Loading and unloading while a server runs, as a gateway asks for it."""

from __future__ import annotations

import signal

from house_stage import answer_questions, finish, model_of, run, stage_of

from slipway.wire.messages import RepositoryChange, RepositoryChanged, SetupFailed


def test_load_keeps_the_old_replicas_until_the_new_ones_serve() -> None:
    async def play() -> None:
        async with stage_of(model_of(replicas=2)) as stage:
            await stage.all_ready()
            (gateway,) = stage.children("gateway")
            old = stage.children("worker")
            gateway.say(RepositoryChange(7, "iris", load=True))
            await stage.until(lambda: len(stage.children("worker")) == 4)
            new = stage.children("worker")[2:]
            assert {stage.begin(child).generation for child in new} == {2}
            await stage.ready(new[0])
            assert all(child.running for child in old)
            assert {place.generation for place in stage.routes(gateway).versions[0].replicas} == {1}
            await stage.ready(new[1])
            generations = [2, 2, 1, 1]  # for a moment both serve, so that nobody meets a closed door
            await stage.until(lambda: [p.generation for p in stage.routes(gateway).versions[0].replicas] == generations)
            await answer_questions(stage, gateway, lambda: len(stage.routes(gateway).versions[0].replicas) == 2)
            assert {place.generation for place in stage.routes(gateway).versions[0].replicas} == {2}
            assert all(child.running for child in old), "they may still compute what they were sent"
            await finish(stage, gateway, old)
            assert RepositoryChanged(7) in stage.heard(gateway)
            assert [child.signals for child in old] == [[signal.SIGTERM]] * 2

    run(play)


def test_a_load_that_fails_changes_nothing() -> None:
    async def play() -> None:
        async with stage_of(model_of()) as stage:
            await stage.all_ready()
            (gateway,) = stage.children("gateway")
            (old,) = stage.children("worker")
            gateway.say(RepositoryChange(8, "iris", load=True))
            await stage.until(lambda: len(stage.children("worker")) == 2)
            bad = stage.children("worker")[1]
            bad.say(SetupFailed("load_failure", "the file is cut"))
            bad.exit(3)
            await finish(stage, gateway, [bad])
            (answer,) = (said for said in stage.heard(gateway) if isinstance(said, RepositoryChanged))
            assert answer == RepositoryChanged(8, "load_failure", "model 'iris': the file is cut")
            assert old.running and old.signals == []
            assert len(stage.launcher.children) == 3, "what failed on request is not tried again by itself"

    run(play)


def test_unload_answers_when_the_memory_is_back_and_load_brings_it_again() -> None:
    async def play() -> None:
        async with stage_of(model_of()) as stage:
            await stage.all_ready()
            (gateway,) = stage.children("gateway")
            (old,) = stage.children("worker")
            gateway.say(RepositoryChange(1, "iris", load=False))
            await stage.until(lambda: not stage.routes(gateway).versions[0].wanted)
            await finish(stage, gateway, [old])
            assert RepositoryChanged(1) in stage.heard(gateway)
            assert not stage.seen().versions[0].wanted
            gateway.say(RepositoryChange(2, "iris", load=False))
            await finish(stage, gateway, [])
            assert RepositoryChanged(2) in stage.heard(gateway), "gone already, which is what was asked for"
            gateway.say(RepositoryChange(3, "iris", load=True))
            await stage.until(lambda: stage.children("worker"))
            await stage.ready(stage.children("worker")[0])
            await stage.until(lambda: stage.routes(gateway).versions[0].replicas)
            assert stage.routes(gateway).versions[0].wanted

    run(play)


def test_an_unknown_model_gets_the_nearest_name() -> None:
    async def play() -> None:
        async with stage_of(model_of("iris"), model_of("churn")) as stage:
            await stage.all_ready()
            (gateway,) = stage.children("gateway")
            gateway.say(RepositoryChange(4, "irsi", load=True))
            await stage.until(lambda: isinstance(stage.heard(gateway)[-1], RepositoryChanged))
            answer = stage.heard(gateway)[-1]
            assert answer.code == "not_found"  # type: ignore[union-attr]
            assert "did you mean 'iris'?" in answer.message  # type: ignore[union-attr]

    run(play)
