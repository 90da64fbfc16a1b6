"""A closed server with two gateways, as its operator runs it: keys that come and go, limits that hold for both gateways
together, and what the operator hears of it."""

from __future__ import annotations

import json
import queue
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from serving import IRIS
from upping import Up, eventually, upped

import slipway
from slipway.client.retry import Retry
from slipway.errors import NotReady, RateLimited, SlipwayError, Unauthenticated, Unavailable
from slipway.infer.protobuf.messages import message_class

FLOWER = [[5.1, 3.5, 1.4, 0.2]]
BODY = {"inputs": [{"name": "input", "datatype": "FP32", "shape": [1, 4], "data": FLOWER[0]}]}
CONNECTIONS = 16
"""New ones: the kernel spreads them, so that both gateways are met but for one time in 32,768."""
ONCE = Retry(attempts=1)
STRANGE = "sw_aaaaaaaa_" + "x" * 43
OUT = {"unauthenticated", "rate_limited"}
"""What is said to whoever shows what does not hold; the second after five times."""


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    config = tmp_path_factory.mktemp("config") / "server.yaml"
    config.write_text("gateways: 2\nauth: {required: true}\n")
    with upped("--config", str(config)) as running:
        with running.admin() as admin:
            admin.deploy(str(IRIS), name="iris", wait=True)
        yield running


def ask(url: str, **who: Any) -> str:
    """Over a connection of its own: '' for an answer, or the error's code."""
    try:
        with slipway.Client(url, retry=ONCE, **who) as client:
            client.predict("iris", FLOWER)
    except SlipwayError as error:
        return error.code
    return ""


def everywhere(up: Up, **who: Any) -> set[str]:
    """What both gateways say, through both doors."""
    return {ask(url, **who) for url in (up.http, up.grpc) for _ in range(CONNECTIONS)}


def key_of(up: Up, *scopes: str) -> tuple[str, str]:
    """A new key that works: its text and id."""
    with up.admin() as admin:
        made = admin.create_key("story", scopes=scopes or ("predict:iris",))
    return made.secret, made.id


def test_strangers_stay_out_and_health_is_open(up: Up) -> None:
    assert everywhere(up) == {"unauthenticated"}
    assert everywhere(up, key=STRANGE) <= OUT
    for url in (up.http, up.grpc):
        with slipway.Client(url) as client:
            assert client.live() and client.ready()
            for call in (client.server_metadata, client.index, lambda client=client: client.metadata("iris")):
                with pytest.raises(Unauthenticated):
                    call()


def test_a_key_works_until_it_is_revoked(up: Up) -> None:
    text, key_id = key_of(up)
    eventually(lambda: everywhere(up, key=text) == {""}, "the key is known everywhere", within_s=5)
    streamed = Streamed(up, text)
    with slipway.Client(up.http, retry=ONCE, key=text) as kept, slipway.Client(up.grpc, retry=ONCE, key=text) as held:
        for client in (kept, held):
            client.predict("iris", FLOWER)
        streamed.ask()
        with up.admin() as admin:
            eventually(lambda: _last_used(admin, key_id) > 0, "its use is reported")
            admin.revoke_key(key_id)
        eventually(lambda: everywhere(up, key=text) <= OUT, "it is out everywhere", within_s=5)
        for client in (kept, held):  # also on connections that stand
            with pytest.raises((Unauthenticated, RateLimited)):
                client.predict("iris", FLOWER)
        with pytest.raises(grpc.RpcError) as ended:
            streamed.ask()
        assert ended.value.code().name in ("UNAUTHENTICATED", "RESOURCE_EXHAUSTED")  # type: ignore[attr-defined]


def _last_used(admin: slipway.Admin, key_id: str) -> float:
    listed = admin.keys()
    return next(key.last_used_at or 0.0 for key in listed if key.id == key_id)


class Streamed:
    """A ModelStreamInfer call that waits between its messages."""

    def __init__(self, up: Up, key: str) -> None:
        self._said: queue.Queue[bytes | None] = queue.Queue()
        self._channel = grpc.insecure_channel(up.address("gRPC"))
        method = self._channel.stream_stream("/inference.GRPCInferenceService/ModelStreamInfer")
        self._call = method(iter(self._said.get, None), timeout=60, metadata=(("authorization", f"Bearer {key}"),))

    def ask(self) -> None:
        message = message_class("inference.ModelInferRequest")(model_name="iris")
        tensor = message.inputs.add(name="input", datatype="FP32", shape=[1, 4])
        tensor.contents.fp32_contents.extend(FLOWER[0])
        self._said.put(message.SerializeToString())
        answer = message_class("inference.ModelStreamInferResponse").FromString(next(self._call))
        assert not answer.error_message


def test_an_old_key_works_while_it_overlaps(up: Up) -> None:
    old, key_id = key_of(up)
    eventually(lambda: everywhere(up, key=old) == {""}, "the key is known everywhere")
    with up.admin() as admin:
        new = admin.rotate_key(key_id, overlap_s=600).secret
        eventually(lambda: everywhere(up, key=new) == everywhere(up, key=old) == {""}, "both work")
        listed = admin.keys()
        admin.rotate_key(next(key.id for key in listed if new.startswith(key.prefix)), overlap_s=0)
    eventually(lambda: everywhere(up, key=new) <= OUT, "without overlap it is out")


def test_users_have_passwords(up: Up) -> None:
    with up.admin() as admin:
        admin.put_user("alice", password="a good long password", scopes=["predict:iris"])
        alice = ("alice", "a good long password")
        eventually(lambda: everywhere(up, user=alice) == {""}, "she gets in everywhere")
        assert ask(up.http, user=("alice", "another password")) in OUT
        admin.put_user("alice", password="a better and longer one", scopes=["predict:iris"])
        eventually(lambda: everywhere(up, user=alice) <= OUT, "the old one is out")
        admin.delete_user("alice")
        eventually(lambda: ask(up.grpc, user=("alice", "a better and longer one")) != "", "she is gone")


def test_failures_are_in_the_audit_log_without_secrets(up: Up) -> None:
    wrong = "sw_zzzzzzzz_" + "y" * 43
    for url in (up.http, up.grpc):
        assert ask(url, key=wrong) in OUT
    with up.admin() as admin:

        def written() -> str:
            return json.dumps([str(entry) for entry in admin.audit(limit=1000)])

        eventually(lambda: "sw_zzzzzzzz" in written(), "the refusals are written down")
        assert wrong not in written() and wrong[12:] not in written()
    assert wrong[12:] not in up.log


def test_limits_hold_for_both_gateways_together(up: Up) -> None:
    with up.admin() as admin:
        spec = admin.deployment("iris").spec
        slow = {"requests_per_s": 0.001, "burst": 20}
        admin.deploy(spec | {"limits": slow}, wait=True)
        text, _ = key_of(up)
        other, _ = key_of(up)
        known = lambda: {_limit(up, text) for _ in range(CONNECTIONS)}  # noqa: E731
        eventually(lambda: known() == {"20"}, "both gateways know the limits and the keys")
        told = Counter(ask(url, key=other) for _ in range(15) for url in (up.http, up.grpc))
        assert told == {"": 20, "rate_limited": 10}
        with pytest.raises(RateLimited) as refused, slipway.Client(up.http, key=other) as client:
            client.predict("iris", FLOWER, timeout_s=1)
        assert refused.value.retry_after_s is not None and refused.value.retry_after_s > 60

        for gateway in up.processes("gateway"):  # what is used up outlives them
            gateway.kill()
        eventually(lambda: len(up.processes("gateway")) == 2, "they are back")
        eventually(lambda: everywhere_up(up, other) == {"rate_limited"}, "it is still used up, and strangers still out")
        assert everywhere_up(up, STRANGE) <= OUT
        admin.deploy(spec | {"limits": {}}, wait=True)
        eventually(lambda: everywhere(up, key=other) == {""}, "without limits it works again")


def everywhere_up(up: Up, key: str) -> set[str]:
    """`everywhere`, of gateways that may still be on their way."""
    return everywhere(up, key=key) - {Unavailable.code, NotReady.code}


def _limit(up: Up, key: str) -> str:
    """The limit that an answer, or a refusal, tells."""
    request = urllib.request.Request(
        f"{up.http}/v2/models/iris/infer", json.dumps(BODY).encode(), {"x-api-key": key}, method="POST"
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            headers = answer.headers
    except urllib.error.HTTPError as error:
        headers = error.headers
    return str(headers.get("ratelimit-limit", ""))
