"""Who gets in through both gRPC doors, over real channels: unary calls, streams, health, reflection, and tricks."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from functools import partial
from typing import Any

import callers
import grpc
import msgspec
import pytest
from callers import basic, bearer
from grpc_stand import KINDS, Stand, affine, failure, numbers_of, reset, stand, trailers, until

from slipway.gateway.guard import AccessGuard
from slipway.infer.protobuf.messages import HEALTH, INFERENCE, POOL, REFLECTION, class_of, message_class
from slipway.spec.access import Access, DeploymentAccess
from slipway.spec.deployment import Auth, RequestLimits
from slipway.testing.service import StubService

Metadata = tuple[tuple[str, Any], ...]
OK, UNAUTHENTICATED, DENIED, NOT_FOUND, EXHAUSTED = (
    grpc.StatusCode.OK,
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
)


class Closed:
    """A closed door. `access` belongs to the loop's thread: change it through `let_in`."""

    def __init__(self, door: Stand, guard: AccessGuard, clock: list[float]) -> None:
        self.door, self.guard, self.clock = door, guard, clock

    @property
    def service(self) -> StubService:
        return self.door.service

    def let_in(self, access: Access) -> None:
        self.door.on_loop(lambda: self.guard.apply(access))

    def pass_seconds(self, seconds: float) -> None:
        self.clock[0] += seconds

    def status(self, method: str, metadata: Metadata = (), **fields: Any) -> Any:
        """Of one call with these fields."""
        message = affine(**fields) if method == "ModelInfer" else _request_of(method, **fields)
        try:
            self.door.send(method, message.SerializeToString(), metadata=metadata)
        except grpc.RpcError as error:
            return error.code()  # type: ignore[attr-defined]
        return OK

    def infer(self, metadata: Metadata = (), **fields: Any) -> Any:
        return self.status("ModelInfer", metadata, **fields)


def _request_of(method: str, **fields: Any) -> Any:
    return class_of(POOL.FindServiceByName(INFERENCE).methods_by_name[method].input_type)(**fields)


@pytest.fixture(params=KINDS, scope="module")
def opened(request: pytest.FixtureRequest) -> Iterator[Closed]:
    clock = [callers.NOW]
    guard = AccessGuard(now=lambda: clock[0])
    with stand(request.param, guard=guard) as door:
        yield Closed(door, guard, clock)


@pytest.fixture
def closed(opened: Closed) -> Closed:
    """The same door, as if nothing had happened."""

    def begin_anew() -> None:
        reset(opened.service)
        opened.service.guard = opened.guard
        epoch = opened.guard._epoch
        opened.guard.__init__(now=lambda: opened.clock[0])  # type: ignore[misc]
        opened.guard._epoch = epoch  # what the door remembers of the test before holds no more
        opened.guard.apply(callers.access(epoch=1))

    opened.clock[0] = callers.NOW
    opened.door.on_loop(begin_anew)
    return opened


def key(text: str) -> Metadata:
    return (("authorization", bearer(text)),)


# --- who gets in --------------------------------------------------------------------------------------------------

GOOD: dict[str, Metadata] = {
    "bearer": key(callers.AFFINE),
    "x-api-key": (("x-api-key", callers.AFFINE),),
    "both, the same": (*key(callers.AFFINE), ("x-api-key", callers.AFFINE)),
    "basic": (("authorization", basic("bob", callers.PASSWORD)),),
    "jwt": key(callers.token()),
    "owner": key(callers.OWNER),
    "beside a trace": (("traceparent", "00-" + "1" * 32 + "-" + "2" * 16 + "-01"), *key(callers.ALL)),
}
WRONG: dict[str, Metadata] = {
    "nothing": (),
    "empty": (("authorization", ""),),
    "stranger": key(callers.STRANGER),
    "expired": key(callers.OLD),
    "its prefix": key(callers.AFFINE[:11]),
    "no scheme": (("authorization", callers.AFFINE),),
    "two tokens": (("authorization", f"{bearer(callers.AFFINE)}, {bearer(callers.ADMIN)}"),),
    "both, different": (*key(callers.AFFINE), ("x-api-key", callers.ADMIN)),
    "wrong password": (("authorization", basic("bob", "wrong-password")),),
    "unknown user": (("authorization", basic("eve", callers.PASSWORD)),),
    "jwt expired": key(callers.token(exp=callers.NOW - 60)),
    "jwt for another": key(callers.token(aud="elsewhere")),
    "jwt with another key": key(callers.token(secret=b"y" * 32)),
    "jwt without a signature": key(callers.token().rpartition(".")[0] + "."),
    "underscore": (("x_api_key", callers.AFFINE),),
    "proxy's": (("proxy-authorization", bearer(callers.AFFINE)),),
    "peer's own word": (("x-forwarded-client-cert", "Subject=CN=edge-1"), ("x-client-certificate", "edge-1")),
}
SMUGGLED: dict[str, Metadata] = {
    "authorization twice": key(callers.NOTHING) + key(callers.ADMIN),
    "twice the same": key(callers.ADMIN) * 2,
    "key twice": (("x-api-key", callers.NOTHING), ("x-api-key", callers.ADMIN)),
    "binary authorization": (("authorization-bin", bearer(callers.ADMIN).encode()),),
    "binary key": (("x-api-key-bin", callers.ADMIN.encode()),),
    "binary beside text": (*key(callers.AFFINE), ("authorization-bin", bearer(callers.ADMIN).encode())),
}


@pytest.mark.parametrize("metadata", GOOD.values(), ids=GOOD)
def test_good_credentials_get_in(closed: Closed, metadata: Metadata) -> None:
    for _ in range(3):
        assert numbers_of(closed.door.infer(affine(), metadata=metadata)) == [3, 5, 7, 9]
    caller = closed.service.requests[-1].caller
    assert caller is not None and caller.kind != "anonymous"


@pytest.mark.parametrize("metadata", WRONG.values(), ids=WRONG)
def test_whatever_is_wrong_stays_out(closed: Closed, metadata: Metadata) -> None:
    error = failure(lambda: closed.door.infer(affine(), metadata=metadata))
    assert (error.code(), trailers(error)["slipway-error"]) == (UNAUTHENTICATED, "unauthenticated")
    assert not closed.service.requests
    assert [code for _, _, code in closed.service.refusals] == ["unauthenticated"]
    assert callers.AFFINE[12:] not in error.details()


@pytest.mark.parametrize("metadata", SMUGGLED.values(), ids=SMUGGLED)
def test_no_metadata_is_smuggled(closed: Closed, metadata: Metadata) -> None:
    assert closed.infer(key(callers.AFFINE)) is OK  # it is remembered, and must not carry what follows
    error = failure(lambda: closed.door.infer(affine(), metadata=metadata))
    assert error.code() in (grpc.StatusCode.INVALID_ARGUMENT, UNAUTHENTICATED)
    assert len(closed.service.requests) == 1


def test_passwords_are_slowed_down(closed: Closed) -> None:
    found = [closed.infer((("authorization", basic("bob", f"guess {n}")),)) for n in range(8)]
    assert found[:5] == [UNAUTHENTICATED] * 5 and found[-1] is EXHAUSTED
    assert closed.infer(key(callers.AFFINE)) is OK


def test_a_caller_who_goes_while_his_password_is_checked(closed: Closed) -> None:
    metadata = (("authorization", basic("bob", callers.PASSWORD)),)
    calls = [closed.door.start("ModelInfer", affine().SerializeToString(), metadata=metadata) for _ in range(5)]
    for call in calls:
        call.cancel()
    assert closed.infer(metadata) is OK


# --- what for -----------------------------------------------------------------------------------------------------


def test_health_is_open_but_for_models(closed: Closed) -> None:
    wrong = key(callers.STRANGER)
    for metadata in ((), wrong):
        assert closed.status("ServerLive", metadata) is closed.status("ServerReady", metadata) is OK
    request = message_class("grpc.health.v1.HealthCheckRequest")

    def check(name: str, metadata: Metadata) -> Any:
        try:
            closed.door.send("Check", request(service=name).SerializeToString(), service=HEALTH, metadata=metadata)
        except grpc.RpcError as error:
            return error.code()  # type: ignore[attr-defined]
        return OK

    for name in ("", INFERENCE, HEALTH):
        assert check(name, ()) is check(name, wrong) is OK
    assert [check(name, ()) for name in ("affine", "nowhere")] == [UNAUTHENTICATED] * 2
    assert [check(name, key(callers.NOTHING)) for name in ("affine", "nowhere")] == [DENIED] * 2
    assert [check(name, key(callers.ALL)) for name in ("affine", "nowhere")] == [OK, NOT_FOUND]
    assert check("affine", (("authorization", basic("bob", callers.PASSWORD)),)) is OK


def test_what_each_sees(closed: Closed) -> None:
    wanted = {
        callers.AFFINE: (OK, DENIED, DENIED),
        callers.ALL: (OK, OK, NOT_FOUND),
        callers.DEPLOY: (OK, DENIED, DENIED),
        callers.ADMIN: (OK, OK, NOT_FOUND),
        callers.NOTHING: (DENIED, DENIED, DENIED),
        "": (UNAUTHENTICATED, UNAUTHENTICATED, UNAUTHENTICATED),
    }
    for text, codes in wanted.items():
        metadata = key(text) if text else ()
        for method in ("ModelReady", "ModelMetadata", "ModelConfig", "ModelStatistics"):
            found = tuple(closed.status(method, metadata, name=name) for name in ("affine", "echo", "nowhere"))
            assert found == codes, (text[:11], method)


def test_what_each_may_do(closed: Closed) -> None:
    for text, infers, loads, lists in (
        (callers.AFFINE, OK, DENIED, OK),
        (callers.DEPLOY, DENIED, OK, OK),
        (callers.ADMIN, OK, OK, OK),
        (callers.NOTHING, DENIED, DENIED, OK),
        ("", UNAUTHENTICATED, UNAUTHENTICATED, UNAUTHENTICATED),
    ):
        metadata = key(text) if text else ()
        assert closed.infer(metadata) is infers
        assert closed.status("RepositoryModelUnload", metadata, model_name="affine") is loads
        assert closed.status("RepositoryModelLoad", metadata, model_name="affine") is loads
        for method in ("ServerMetadata", "RepositoryIndex", "ModelStatistics"):
            assert closed.status(method, metadata) is lists
    assert closed.infer(key(callers.AFFINE), model_name="echo") is DENIED
    assert closed.infer(key(callers.AFFINE), model_name="affine/../echo") is DENIED
    assert closed.infer(key(callers.AFFINE), model_name="affine", model_version="../echo") is NOT_FOUND


def test_lists_show_only_what_the_caller_may_see(closed: Closed) -> None:
    request, answer = (message_class(f"inference.RepositoryIndex{part}") for part in ("Request", "Response"))
    for text, names in {callers.AFFINE: ["affine"], callers.NOTHING: [], callers.ADMIN: ["affine", "echo"]}.items():
        payload = closed.door.send("RepositoryIndex", request().SerializeToString(), metadata=key(text))
        assert [model.name for model in answer.FromString(payload).models] == names


def test_nothing_tells_which_names_exist(closed: Closed) -> None:
    for metadata in ((), key(callers.AFFINE), key(callers.GHOST)):
        said = []
        for model in ("echo", "nix0"):
            error = failure(partial(closed.door.infer, affine(model_name=model), metadata=metadata))
            said.append((error.code(), error.details().replace(model, "NAME")))
        assert said[0] == said[1]
    error = failure(lambda: closed.door.infer(affine(model_name="ghost"), metadata=key(callers.GHOST)))
    assert error.code() is NOT_FOUND and "echo" not in error.details() and "affine" not in error.details()


@pytest.mark.parametrize(
    "path",
    [
        f"/{INFERENCE}/modelinfer",
        f"/{INFERENCE}/ModelInfer/",
        f"//{INFERENCE}/ModelInfer",
        f"/{INFERENCE}/ServerLive/../ModelInfer",
        f"/{INFERENCE}/ServerLive%2f..%2fModelInfer",
        f"/{INFERENCE}/ModelInfer?x=/ServerLive",
    ],
)
def test_no_path_leads_around_the_guard(closed: Closed, path: str) -> None:
    error = failure(lambda: closed.door.channel.unary_unary(path)(affine().SerializeToString(), timeout=10))
    assert error.code() in (grpc.StatusCode.UNIMPLEMENTED, UNAUTHENTICATED)
    assert not closed.service.requests


@pytest.mark.parametrize("service", REFLECTION)
def test_reflection_is_for_those_who_are_known(closed: Closed, service: str) -> None:
    kind = message_class(f"{service.rpartition('.')[0]}.ServerReflectionRequest")
    method = closed.door.channel.stream_stream(f"/{service}/ServerReflectionInfo")

    def ask(metadata: Metadata) -> Any:
        try:
            list(method(iter([kind(list_services="*").SerializeToString()]), timeout=10, metadata=metadata))
        except grpc.RpcError as error:
            return error.code()  # type: ignore[attr-defined]
        return OK

    assert ask(()) is ask(key(callers.STRANGER)) is UNAUTHENTICATED
    assert ask(key(callers.NOTHING)) is OK
    assert ask((("authorization", basic("bob", callers.PASSWORD)),)) is OK


# --- streams ------------------------------------------------------------------------------------------------------


class Streaming:
    """A ModelStreamInfer call, one message at a time."""

    def __init__(self, closed: Closed, metadata: Metadata) -> None:
        self._said: queue.Queue[bytes | None] = queue.Queue()
        method = closed.door.channel.stream_stream(f"/{INFERENCE}/ModelStreamInfer")
        self._call = method(iter(self._said.get, None), timeout=20, metadata=metadata)

    def ask(self, **fields: Any) -> Any:
        """The answer's error message, '' for none. Raises grpc.RpcError where the stream ended."""
        self._said.put(affine(**fields).SerializeToString())
        return message_class("inference.ModelStreamInferResponse").FromString(next(self._call)).error_message

    def end(self) -> None:
        self._said.put(None)
        assert list(self._call) == []


def test_each_message_of_a_stream_is_checked(closed: Closed) -> None:
    stream = Streaming(closed, key(callers.AFFINE))
    assert stream.ask() == ""
    assert "may not use model 'echo'" in stream.ask(model_name="echo")
    assert stream.ask() == ""
    stream.end()
    assert [request.model for request in closed.service.requests] == ["affine", "affine"]


@pytest.mark.parametrize("metadata", [*WRONG.values(), *SMUGGLED.values()], ids=[*WRONG, *SMUGGLED])
def test_no_stream_for_whoever_is_wrong(closed: Closed, metadata: Metadata) -> None:
    error = failure(lambda: Streaming(closed, metadata).ask())
    assert error.code() in (UNAUTHENTICATED, grpc.StatusCode.INVALID_ARGUMENT)
    assert not closed.service.requests


@pytest.mark.parametrize("metadata", [key(callers.AFFINE), (("authorization", basic("bob", callers.PASSWORD)),)])
def test_a_stream_ends_with_its_credential(closed: Closed, metadata: Metadata) -> None:
    stream = Streaming(closed, metadata)
    assert stream.ask() == stream.ask() == ""
    closed.let_in(callers.access(epoch=2))  # something changed, but not for him
    assert stream.ask() == ""
    closed.let_in(callers.without(callers.AFFINE_HASH, users=()))
    assert failure(stream.ask).code() is UNAUTHENTICATED
    assert len(closed.service.requests) == 3


def test_a_stream_ends_when_its_key_expires(closed: Closed) -> None:
    stream = Streaming(closed, key(callers.SOON))
    assert stream.ask() == ""
    closed.pass_seconds(61)
    assert failure(stream.ask).code() is UNAUTHENTICATED


def test_what_a_stream_accepted_before_is_answered(closed: Closed) -> None:
    closed.door.on_loop(lambda: setattr(closed.service, "hold", True))
    method = closed.door.channel.stream_stream(f"/{INFERENCE}/ModelStreamInfer")
    said: queue.Queue[bytes | None] = queue.Queue()
    said.put(affine().SerializeToString())
    call = method(iter(said.get, None), timeout=20, metadata=key(callers.AFFINE))
    requests = closed.service.requests
    until(lambda: len(requests) == 1)
    closed.let_in(callers.without(callers.AFFINE_HASH))
    said.put(affine().SerializeToString())
    closed.door.on_loop(closed.service.release)
    assert message_class("inference.ModelStreamInferResponse").FromString(next(call)).error_message == ""
    assert failure(lambda: next(call)).code() is UNAUTHENTICATED
    assert len(requests) == 1


def test_a_watch_of_a_model_is_for_those_who_may_see_it(closed: Closed) -> None:
    kind = message_class("grpc.health.v1.HealthCheckRequest")

    def first(name: str, metadata: Metadata) -> Any:
        method = closed.door.channel.unary_stream(f"/{HEALTH}/Watch")
        call = method(kind(service=name).SerializeToString(), timeout=10, metadata=metadata)
        try:
            next(call)
        except grpc.RpcError as error:
            return error.code()  # type: ignore[attr-defined]
        finally:
            call.cancel()
        return OK

    assert first("", ()) is first(INFERENCE, key(callers.STRANGER)) is OK
    assert first("affine", ()) is first("nowhere", ()) is UNAUTHENTICATED
    assert first("affine", key(callers.GHOST)) is first("nowhere", key(callers.NOTHING)) is DENIED
    assert first("affine", key(callers.AFFINE)) is OK


# --- as time goes by ----------------------------------------------------------------------------------------------


def test_a_revoked_key_is_out_at_the_next_call(closed: Closed) -> None:
    assert closed.infer(key(callers.AFFINE)) is OK
    closed.let_in(callers.without(callers.AFFINE_HASH))
    assert closed.infer(key(callers.AFFINE)) is UNAUTHENTICATED
    closed.let_in(callers.access(epoch=3))
    assert closed.infer(key(callers.AFFINE)) is OK


@pytest.mark.parametrize(("text", "lasts_s"), [(callers.SOON, 60), (callers.token(), 330)])
def test_what_is_remembered_does_not_outlive_its_credential(closed: Closed, text: str, lasts_s: float) -> None:
    assert closed.infer(key(text)) is OK
    closed.pass_seconds(lasts_s + 1)
    assert closed.infer(key(text)) is UNAUTHENTICATED


def test_public_and_private_again(closed: Closed) -> None:
    public = (DeploymentAccess("affine", auth=Auth(public=True)),)
    assert closed.infer() is UNAUTHENTICATED
    closed.let_in(callers.access(epoch=2, deployments=public))
    assert closed.infer() is OK
    assert closed.infer(model_name="echo") is UNAUTHENTICATED
    assert closed.infer(key(callers.STRANGER)) is UNAUTHENTICATED
    assert closed.status("ServerMetadata") is UNAUTHENTICATED
    stream = Streaming(closed, ())
    assert stream.ask() == ""
    assert failure(lambda: stream.ask(model_name="echo")).code() is UNAUTHENTICATED
    closed.let_in(callers.access(epoch=3))
    assert closed.infer() is UNAUTHENTICATED


@pytest.mark.parametrize("kind", KINDS)
def test_before_the_rules_are_known_nobody_gets_in(kind: str) -> None:
    with stand(kind, guard=AccessGuard()) as door:
        for metadata in ((), key(callers.ADMIN)):
            error = failure(partial(door.infer, affine(), metadata=metadata))
            assert (error.code(), trailers(error)["slipway-error"]) == (grpc.StatusCode.UNAVAILABLE, "not_ready")
        assert door.call("ServerLive").live


# --- limits -------------------------------------------------------------------------------------------------------


def test_a_rate_is_told_and_kept(closed: Closed) -> None:
    limits = (DeploymentAccess("affine", limits=RequestLimits(requests_per_s=2, burst=3)),)
    closed.let_in(callers.access(epoch=2, deployments=limits))
    told = []
    for _ in range(4):
        call = closed.door.channel.unary_unary(f"/{INFERENCE}/ModelInfer")
        try:
            _, made = call.with_call(affine().SerializeToString(), timeout=10, metadata=key(callers.AFFINE))
        except grpc.RpcError as error:
            made = error
        found = dict(made.trailing_metadata())
        told.append((made.code(), *(found[f"ratelimit-{name}"] for name in ("limit", "remaining", "reset"))))
    assert told == [(OK, "3", "2", "1"), (OK, "3", "1", "1"), (OK, "3", "0", "2"), (EXHAUSTED, "3", "0", "2")]
    assert found["retry-after"] == "0.5"
    assert closed.infer(key(callers.ALL)) is OK
    stream = Streaming(closed, key(callers.AFFINE))
    assert "over the limit" in stream.ask()
    closed.let_in(msgspec.structs.replace(callers.access(epoch=3, deployments=limits), required=False))
    assert [closed.infer() for _ in range(4)] == [OK, OK, OK, EXHAUSTED]
