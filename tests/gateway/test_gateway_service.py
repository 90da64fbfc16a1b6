"""The gateway's Service over an engine with stub replicas: who is refused, with which words, and what is counted."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import pytest

from slipway.errors import Draining, InvalidInput, NotFound, NotReady, SlipwayError
from slipway.gateway.numbers import snapshot
from slipway.gateway.service import GatewayService
from slipway.infer.request import Request, Response
from slipway.infer.runtime import ReplicaFacts
from slipway.infer.signature import Signature, TensorSpec
from slipway.infer.tensor import Tensor
from slipway.launchers.memory import Memory
from slipway.spec.serve import CacheLimits, ModelSpec
from slipway.testing.loop import FakeLoop
from slipway.testing.replica import StubReplica
from slipway.wire.messages import RepositoryChange, RepositoryChanged, Routes, VersionRoutes

SIGNATURE = Signature((TensorSpec("x", "FP32", (-1, 2)),), (TensorSpec("y", "FP32", (-1, 2)),))


def double(inputs: object) -> list[Tensor]:
    (x,) = inputs  # type: ignore[misc]
    numbers = struct.unpack(f"<{x.elements}f", x.data)
    return [Tensor("y", "FP32", x.shape, struct.pack(f"<{x.elements}f", *[2 * item for item in numbers]))]


class House:
    """A service whose supervisor is the test. `asked`: what it wanted of the supervisor; `said`: its readiness."""

    def __init__(self) -> None:
        self.loop = FakeLoop()
        self.asked: list[RepositoryChange] = []
        self.said: list[bool] = []
        self.service = GatewayService(version="1.2.3", ask=self.asked.append, serving_changed=self.said.append)

    def route(self, *versions: VersionRoutes) -> None:
        self.loop.run(self.service.apply, Routes(list(versions)))

    def serve(self, name: str = "m", version: str = "v1", *, cache_bytes: int = 0) -> StubReplica:
        spec = ModelSpec(name, "path", version, cache=CacheLimits(bytes=cache_bytes))
        self.route(VersionRoutes(spec, facts=ReplicaFacts(SIGNATURE, "stub")))
        return self.attach(name, version)

    def attach(self, name: str, version: str) -> StubReplica:
        (found,) = [
            v for v in self.service.versions() if (v.routes.spec.name, v.routes.spec.version) == (name, version)
        ]
        assert found.engine is not None
        replica = StubReplica(found.engine, compute=double)
        self.loop.run(replica.attach)
        return replica

    def ask(self, rows: int = 1, **facts: object) -> list[Response | SlipwayError]:
        outcomes: list[Response | SlipwayError] = []
        data = struct.pack(f"<{2 * rows}f", *range(2 * rows))
        facts = {"model": "m", "inputs": [Tensor("x", "FP32", (rows, 2), data)]} | facts
        self.loop.do(self.service.infer, Request(**facts), outcomes.append)  # type: ignore[arg-type]
        return outcomes

    def numbers(self) -> dict[tuple[str, tuple[str, ...]], float]:
        return {(one.name, one.labels): one.value for one in snapshot(1, self.service, {}, Memory()).series}


@pytest.fixture
def house() -> Iterator[House]:
    made = House()
    yield made
    made.loop.close()


def test_a_request_goes_through(house: House) -> None:
    replica = house.serve()
    outcomes = house.ask(rows=3, id="r")
    house.loop.settle()
    house.loop.run(replica.answer)
    (answer,) = outcomes
    assert isinstance(answer, Response)
    assert (answer.model, answer.version, answer.id) == ("m", "v1", "r")
    assert struct.unpack("<6f", answer.outputs[0].data) == (0, 2, 4, 6, 8, 10)
    assert house.numbers()["slipway_requests_total", ("m", "v1", "http", "ok")] == 1


def test_before_anything_is_routed_it_is_live_but_not_ready(house: House) -> None:
    assert house.service.live()
    assert not house.service.ready()
    with pytest.raises(NotFound, match="none yet"):
        house.ask()


@pytest.mark.parametrize(
    ("routes", "words"),
    [
        (VersionRoutes(ModelSpec("m", "p")), "still loading"),
        (VersionRoutes(ModelSpec("m", "p"), failure="no such file"), "no such file"),
        (VersionRoutes(ModelSpec("m", "p"), wanted=False), "not loaded"),
        (VersionRoutes(ModelSpec("m", "p"), facts=ReplicaFacts(SIGNATURE, "stub")), "no replica"),
    ],
)
def test_a_version_that_cannot_serve_says_why(house: House, routes: VersionRoutes, words: str) -> None:
    house.route(routes)
    assert not house.service.model_ready("m")
    with pytest.raises(NotReady, match=words):
        house.ask()
    assert house.numbers()["slipway_rejected_total", ("m", "v1", "not_ready")] == 1


def test_readiness_is_said_when_it_changes_and_only_then(house: House) -> None:
    replica = house.serve()
    assert house.service.ready()
    house.attach("m", "v1")
    house.loop.run(replica.die)
    assert house.service.ready()
    assert house.said == [True]


def test_not_ready_once_the_last_replica_is_gone(house: House) -> None:
    replica = house.serve()
    house.loop.run(replica.die)
    assert not house.service.ready()
    assert house.said == [True, False]
    with pytest.raises(NotReady):
        house.ask()


def test_what_does_not_fit_is_refused_and_counted(house: House) -> None:
    house.serve()
    for inputs in ([], [Tensor("x", "FP64", (1, 2), bytes(16))], [Tensor("x", "FP32", (1, 3), bytes(12))]):
        with pytest.raises(InvalidInput):
            house.ask(inputs=inputs)
    with pytest.raises(InvalidInput, match="unknown output 'z'"):
        house.ask(outputs=("z",))
    assert house.numbers()["slipway_requests_total", ("m", "v1", "http", "invalid_input")] == 4


def test_names_that_clients_make_up_are_no_labels(house: House) -> None:
    house.serve()
    for number in range(50):
        with pytest.raises(NotFound):
            house.ask(model=f"made-up-{number}")
    found = [key for key in house.numbers() if "not_found" in key[1]]
    assert found == [("slipway_requests_total", ("", "", "http", "not_found"))]


def test_while_it_drains_it_takes_nothing_new_and_finishes_the_rest(house: House) -> None:
    replica = house.serve()
    accepted = house.ask()
    house.loop.settle()
    house.service.draining = True
    with pytest.raises(Draining):
        house.ask()
    assert not house.service.ready()
    assert house.service.unanswered == 1
    house.loop.run(replica.answer)
    assert isinstance(accepted[0], Response)
    assert house.service.unanswered == 0


def test_the_highest_version_is_live_and_the_others_can_be_named(house: House) -> None:
    facts = ReplicaFacts(SIGNATURE, "stub")
    house.route(*[VersionRoutes(ModelSpec("m", "p", version), facts=facts) for version in ("v1", "v2")])
    first, second = house.attach("m", "v1"), house.attach("m", "v2")
    live, named = house.ask(), house.ask(version="1")
    house.loop.settle()
    house.loop.run(first.answer)
    house.loop.run(second.answer)
    assert [(only.version if isinstance(only, Response) else only) for only in (*live, *named)] == ["v2", "v1"]
    assert house.service.model_metadata("m").versions == ("v1", "v2")


def test_a_version_that_is_no_longer_routed_answers_what_waits_with_an_error(house: House) -> None:
    house.serve()
    house.ask()
    house.loop.settle()
    waiting = house.ask()
    house.route()
    assert isinstance(waiting[0], NotReady)
    with pytest.raises(NotFound):
        house.ask()


def test_load_and_unload_are_the_supervisors_to_do(house: House) -> None:
    house.serve()
    outcomes: list[SlipwayError | None] = []
    house.service.unload("m", outcomes.append)
    house.service.load("m", outcomes.append)
    assert [(change.model, change.load) for change in house.asked] == [("m", False), ("m", True)]
    house.service.changed(RepositoryChanged(house.asked[1].number, "load_failure", "no such file"))
    house.service.changed(RepositoryChanged(house.asked[0].number))
    assert [outcome and (outcome.code, outcome.message) for outcome in outcomes] == [
        ("load_failure", "no such file"),
        None,
    ]
    with pytest.raises(NotFound):
        house.service.load("other", outcomes.append)


def test_statistics_and_index_tell_what_happened(house: House) -> None:
    replica = house.serve(cache_bytes=10_000)
    house.ask(rows=2)
    house.loop.settle()
    house.loop.run(replica.answer)
    house.ask(rows=2)
    (found,) = house.service.statistics()
    assert (found.inferences, found.executions, found.success.count) == (4, 1, 2)
    assert (found.cache_hit.count, found.cache_miss.count) == (1, 1)
    assert [entry.state for entry in house.service.index()] == ["READY"]
    house.loop.run(replica.die)
    assert [entry.state for entry in house.service.index()] == ["LOADING"]
    assert house.service.index(ready_only=True) == []
    assert house.numbers()["slipway_cache_hits_total", ("m", "v1")] == 1


def test_each_request_of_a_batch_counts_the_whole_of_its_compute(house: House) -> None:
    replica = house.serve()
    for _ in range(3):  # in one turn of the loop, so in one batch
        house.ask()
    house.loop.settle()
    house.loop.run(replica.answer)
    (found,) = house.service.statistics()
    (batch,) = found.batches
    assert (found.executions, batch.rows) == (1, 3)
    assert (found.compute.count, found.compute.ns) == (3, 3 * batch.compute.ns)
    assert batch.compute.ns > 0
