"""Who gets in through the HTTP door and who does not, over real sockets: every credential, every path, every trick."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator

import callers
import msgspec
import pytest
from callers import basic, bearer
from http_stand import AFFINE, Answer, Stand, affine, get, infer, post, result, stand
from hypothesis import given
from hypothesis import strategies as st

from slipway.gateway.guard import AccessGuard
from slipway.spec.access import Access, DeploymentAccess
from slipway.spec.deployment import AllowRule, Auth, RequestLimits


class Closed:
    """A door whose guard knows the callers. `access` belongs to the loop's thread: change it through `let_in`."""

    def __init__(self, door: Stand, guard: AccessGuard, clock: list[float]) -> None:
        self.door, self.guard, self._clock = door, guard, clock

    def let_in(self, access: Access) -> None:
        self.door.do(lambda: self.guard.apply(access))

    def pass_seconds(self, seconds: float) -> None:
        self._clock[0] += seconds

    def ask(self, data: bytes) -> Answer:
        return self.door.ask(data)


@pytest.fixture
def closed() -> Iterator[Closed]:
    clock = [callers.NOW]
    guard = AccessGuard(now=lambda: clock[0])
    guard.apply(callers.access())
    with stand(guard=guard) as door:
        yield Closed(door, guard, clock)


@pytest.fixture(scope="module")
def closed_for_long() -> Iterator[Stand]:
    guard = AccessGuard(now=lambda: callers.NOW)
    guard.apply(callers.access())
    with stand(guard=guard) as door:
        yield door


def authorization(value: str) -> str:
    return f"authorization: {value}"


def with_key(text: str, *numbers: float) -> bytes:
    return infer(*numbers, headers=(authorization(bearer(text)),))


# --- who gets in --------------------------------------------------------------------------------------------------

GOOD = {
    "bearer": authorization(bearer(callers.AFFINE)),
    "bearer in small letters": authorization(f"bearer {callers.AFFINE}"),
    "x-api-key": f"x-api-key: {callers.AFFINE}",
    "x-api-key in capitals": f"X-API-Key: {callers.AFFINE}",
    "both, the same": f"{authorization(bearer(callers.AFFINE))}\r\nx-api-key: {callers.AFFINE}",
    "basic": authorization(basic("bob", callers.PASSWORD)),
    "jwt": authorization(bearer(callers.token())),
    "owner": authorization(bearer(callers.OWNER)),
    "admin": authorization(bearer(callers.ADMIN)),
    "every model": authorization(bearer(callers.ALL)),
}


@pytest.mark.parametrize("header", GOOD.values(), ids=GOOD)
def test_good_credentials_get_in(closed: Closed, header: str) -> None:
    client = closed.door.client()
    for _ in range(3):  # the first is looked up, the others are remembered
        assert result(client.ask(infer(headers=(header,)))) == [3, 5, 7, 9]
    request = closed.door.service.requests[-1]
    assert request.caller is not None and request.caller.kind != "anonymous"


WRONG = {
    "nothing": "x-nothing: 1",
    "empty": "authorization: ",
    "stranger": authorization(bearer(callers.STRANGER)),
    "expired": authorization(bearer(callers.OLD)),
    "one letter off": authorization(bearer(callers.AFFINE[:-1] + ("A" if callers.AFFINE[-1] != "A" else "B"))),
    "one letter short": authorization(bearer(callers.AFFINE[:-1])),
    "its prefix": authorization(bearer(callers.AFFINE[:11])),
    "its hash": authorization(bearer(callers.AFFINE_HASH.hash)),
    "in capitals": authorization(bearer(callers.AFFINE.upper())),
    "no scheme": authorization(callers.AFFINE),
    "other scheme": authorization(f"Digest {callers.AFFINE}"),
    "two tokens": authorization(f"{bearer(callers.AFFINE)}, {bearer(callers.ADMIN)}"),
    "trailing words": authorization(f"{bearer(callers.AFFINE)} admin"),
    "tab for a space": f"authorization: Bearer\t{callers.AFFINE}",
    "both, different": f"{authorization(bearer(callers.AFFINE))}\r\nx-api-key: {callers.ADMIN}",
    "key as a user": authorization(basic("affine-only", callers.AFFINE)),
    "wrong password": authorization(basic("bob", "wrong-password")),
    "unknown user": authorization(basic("eve", callers.PASSWORD)),
    "no password": authorization(basic("bob", "")),
    "user in capitals": authorization(basic("BOB", callers.PASSWORD)),
    "basic of no base64": authorization("Basic %%%"),
    "jwt expired": authorization(bearer(callers.token(exp=callers.NOW - 60))),
    "jwt not yet valid": authorization(bearer(callers.token(nbf=callers.NOW + 120))),
    "jwt for another": authorization(bearer(callers.token(aud="elsewhere"))),
    "jwt of another": authorization(bearer(callers.token(iss="https://evil.test"))),
    "jwt with another key": authorization(bearer(callers.token(secret=b"y" * 32))),
    "jwt without a signature": authorization(bearer(callers.token().rpartition(".")[0] + ".")),
    "jwt as an api key": f"x-api-key: {callers.token()}",
    "oversized": authorization(bearer("a" * 20_000)),
    "spoofed certificate": "x-client-certificate: edge-1\r\nx-forwarded-client-cert: Subject=CN=edge-1",
    "in a cookie": f"cookie: authorization={bearer(callers.AFFINE)}",
    "underscore": f"x_api_key: {callers.AFFINE}",
    "proxy's": f"proxy-authorization: {bearer(callers.AFFINE)}",
}


@pytest.mark.parametrize("header", WRONG.values(), ids=WRONG)
def test_whatever_is_wrong_stays_out(closed: Closed, header: str) -> None:
    answer = closed.ask(infer(headers=(header,)))
    assert (answer.status, answer.code) == (401, "unauthenticated")
    assert answer.headers["www-authenticate"] == 'Bearer, Basic realm="slipway"'
    assert not closed.door.service.requests
    assert closed.door.service.refusals == [("affine", "http", "unauthenticated")]
    for secret in (callers.AFFINE[12:], callers.PASSWORD):
        assert secret.encode() not in answer.body


def test_credentials_in_the_query_are_none(closed: Closed) -> None:
    for name in ("api_key", "access_token", "authorization", "x-api-key"):
        assert closed.ask(post(f"{AFFINE}?{name}={callers.AFFINE}", affine())).status == 401


SMUGGLED = {
    "authorization twice": [authorization(bearer(callers.NOTHING)), authorization(bearer(callers.ADMIN))],
    "twice the same": [authorization(bearer(callers.ADMIN))] * 2,
    "other case": [authorization(bearer(callers.NOTHING)), f"AUTHORIZATION: {bearer(callers.ADMIN)}"],
    "key twice": [f"x-api-key: {callers.NOTHING}", f"X-Api-Key: {callers.ADMIN}"],
    "folded": ["authorization: Bearer", f" {callers.ADMIN}"],
    "folded into another": ["x-other: 1", f" authorization: {bearer(callers.ADMIN)}"],
    "space before the colon": [f"authorization : {bearer(callers.ADMIN)}"],
    "bare line feed": [f"x-other: 1\nauthorization: {bearer(callers.ADMIN)}"],
    "bare carriage return": [f"x-other: 1\rauthorization: {bearer(callers.ADMIN)}"],
    "nul": [f"authorization: {bearer(callers.ADMIN)}\0"],
    "empty name": [f": {bearer(callers.ADMIN)}"],
}


@pytest.mark.parametrize("headers", SMUGGLED.values(), ids=SMUGGLED)
def test_no_header_is_smuggled(closed: Closed, headers: list[str]) -> None:
    answer = closed.ask(infer(headers=tuple(headers)))
    assert answer.status in (400, 401)
    assert answer.code in ("malformed_request", "unauthenticated")
    assert not closed.door.service.requests


@given(st.binary(max_size=60))
def test_no_credential_breaks_the_door(closed_for_long: Stand, raw: bytes) -> None:
    text = raw.decode("latin-1").replace("\r", "").replace("\n", "")
    for header in (f"authorization: {text}", f"authorization: Basic {text}", f"x-api-key: {text}"):
        assert closed_for_long.ask(infer(headers=(header,))).status in (400, 401, 429)
    assert not closed_for_long.service.requests


# --- where to -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/v2/health/live", "/v2/health/ready", "/v2/health/live/"])
def test_health_is_open(closed: Closed, path: str) -> None:
    assert closed.ask(get(path)).status == 200
    assert closed.ask(get(path, authorization("Bearer wrong"))).status == 200
    assert closed.ask(get(path, method="POST")).status == 405


def test_a_preflight_is_open_and_tells_nothing() -> None:
    guard = AccessGuard()
    guard.apply(callers.access())
    with stand(guard=guard, cors_origins=("https://a.example",)) as door:
        for path in (AFFINE, "/v2/models/nowhere/infer", "/nowhere"):
            answer = door.ask(
                get(
                    path, "origin: https://a.example", "access-control-request-headers: authorization", method="OPTIONS"
                )
            )
            assert answer.status == 204
            assert "authorization" in answer.headers["access-control-allow-headers"]
        refused = door.ask(infer(headers=("origin: https://a.example",)))
        assert (refused.status, refused.headers["access-control-allow-origin"]) == (401, "https://a.example")


MODEL_PATHS = ["", "/ready", "/config", "/stats", "/versions/v1", "/versions/v1/ready", "/versions/v1/stats"]


def test_what_each_sees(closed: Closed) -> None:
    """affine, echo and no such model; by status."""
    wanted = {
        callers.AFFINE: (200, 403, 403),
        callers.ALL: (200, 200, 404),
        callers.DEPLOY: (200, 403, 403),
        callers.ADMIN: (200, 200, 404),
        callers.NOTHING: (403, 403, 403),
        callers.GHOST: (403, 403, 403),
        "": (401, 401, 401),
    }
    for key, statuses in wanted.items():
        header = authorization(bearer(key)) if key else "x-nothing: 1"
        for path in MODEL_PATHS:
            found = tuple(
                closed.ask(get(f"/v2/models/{model}{path}", header)).status for model in ("affine", "echo", "nowhere")
            )
            assert found == statuses, (key[:11], path)


def test_what_each_may_do(closed: Closed) -> None:
    load, unload = (f"/v2/repository/models/affine/{verb}" for verb in ("load", "unload"))
    wanted = {callers.AFFINE: 403, callers.ALL: 403, callers.NOTHING: 403, callers.DEPLOY: 200, callers.ADMIN: 200}
    for key, status in wanted.items():
        for path in (unload, load):
            assert closed.ask(post(path, b"", authorization(bearer(key)))).status == status
    assert closed.ask(post(load)).status == 401
    assert closed.ask(post(load.replace("affine", "echo"), b"", authorization(bearer(callers.DEPLOY)))).status == 403
    assert closed.ask(with_key(callers.DEPLOY)).status == 403
    assert closed.ask(with_key(callers.NOTHING)).status == 403


def test_lists_show_only_what_the_caller_may_see(closed: Closed) -> None:
    for key, names in {
        callers.AFFINE: ["affine"],
        callers.DEPLOY: ["affine"],
        callers.ADMIN: ["affine", "echo"],
        callers.NOTHING: [],
    }.items():
        header = authorization(bearer(key))
        assert [entry["name"] for entry in closed.ask(post("/v2/repository/index", b"", header)).json] == names
        stats = closed.ask(get("/v2/models/stats", header)).json["model_stats"]
        assert [one["name"] for one in stats] == names
        assert closed.ask(get("/v2", header)).json["name"] == "slipway"
    for data in (post("/v2/repository/index"), get("/v2/models/stats"), get("/v2")):
        assert closed.ask(data).status == 401


def test_nothing_tells_which_names_exist(closed: Closed) -> None:
    """To whoever may not see it, a model that exists looks like one that does not: same status, same words."""
    closed.let_in(
        callers.access(epoch=2, deployments=(DeploymentAccess("echo", auth=Auth(allow=(AllowRule(key="x"),))),))
    )
    for key in ("", callers.AFFINE, callers.NOTHING, callers.GHOST):
        header = authorization(bearer(key)) if key else "x-nothing: 1"
        for verb in ("", "/ready", "/config", "/stats", "/versions/v1", "/versions/v9", "/infer"):
            said = []
            for model in ("echo", "nix0"):
                path = f"/v2/models/{model}{verb}"
                answer = closed.ask(post(path, affine(), header) if verb == "/infer" else get(path, header))
                said.append((answer.status, answer.body.replace(model.encode(), b"NAME")))
            assert said[0] == said[1]
        for path in ("/v2/models/ech0/infer", "/v2/modelz/echo/infer", "/v2/models/ech"):
            answer = closed.ask(post(path, b"", header))
            assert b"echo" not in answer.body.replace(path.encode(), b"")


def test_hints_name_what_the_caller_may_see(closed: Closed) -> None:
    ghost = authorization(bearer(callers.GHOST))
    missing = closed.ask(post("/v2/models/ghost/infer", affine(), ghost))
    assert missing.status == 404 and b"affine" not in missing.body and b"echo" not in missing.body
    assert b"affine" in closed.ask(get("/v2/models/affin", authorization(bearer(callers.ALL)))).body
    assert b"/v2/models/affine" in closed.ask(get("/v2/modelz/affine", authorization(bearer(callers.AFFINE)))).body


PATHS = [
    "/v2/models/a%2f..%2faffine/infer",
    "/v2/models/affine%2finfer",
    "/v2/models/..%2faffine/infer",
    "/v2/models/%2e%2e/models/affine/infer",
    "/v2/models/../models/affine/infer",
    "/v2/models/./affine/infer",
    "/v2/./models/affine/infer",
    "/v2//models/affine/infer",
    "//v2/models/affine/infer",
    "/v2/models//affine/infer",
    "/v2/models/affine//infer",
    "/v2/models/affine/infer//",
    "/v2/models/affine%00/infer",
    "/v2/models/affine/infer%00",
    "/v2/models/AFFINE/infer",
    "/V2/models/affine/infer",
    "/v2/models/affine/INFER",
    "/v2/models/affine;x=1/infer",
    "/v2/models/affine/versions/infer",
    "/v2/models/affine/versions/../infer",
    "/v2/models/affine/versions/v1/../../../echo/infer",
    "/v2/models/affine/versions/v1%2f..%2f..%2f..%2fecho/infer",
    "/v2/models/affine/versions//infer",
    "/v2/models/affine/versions/v1/infer/versions/v1/infer",
    "/v2/models/%61ffine%20/infer",
    "/v2/models/affine%0d%0aauthorization:x/infer",
    "/v2/models/*/infer",
    "/v2/health/live/../../models/affine/infer",
    "/v2/health/live%2f..%2f..%2fmodels%2faffine%2finfer",
    "/v2/health/live/v2/models/affine/infer",
    "/v2/models/affine/infer#/v2/health/live",
    "http://h/v2/models/affine/infer",
]


@pytest.mark.parametrize("path", PATHS)
def test_no_path_leads_around_the_guard(closed: Closed, path: str) -> None:
    """Nobody gets an answer of a model; a key of one model gets none of another's; and no path is a bare 500."""
    for key in ("", callers.NOTHING, callers.GHOST):
        headers = (authorization(bearer(key)),) if key else ()
        answer = closed.ask(post(path, affine(), *headers))
        assert answer.status in ((400, 401) if not key else (400, 403, 404)), answer
    one = closed.ask(post(path, affine(), authorization(bearer(callers.AFFINE))))
    assert one.status in (200, 400, 403, 404, 405)
    assert {request.model for request in closed.door.service.requests} <= {"affine"}
    if one.status == 200:
        assert result(one) == [3, 5, 7, 9]
        assert "%2f" not in path and ".." not in path


def test_a_percent_encoded_name_is_the_same_name(closed: Closed) -> None:
    """Both the guard and the service see the decoded name, so they cannot differ."""
    path = "/v2/models/%61ffin%65/infer"
    assert closed.ask(post(path, affine())).status == 401
    assert closed.ask(post(path, affine(), authorization(bearer(callers.NOTHING)))).status == 403
    assert result(closed.ask(post(path, affine(), authorization(bearer(callers.AFFINE))))) == [3, 5, 7, 9]


@given(st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=40))
def test_no_made_up_path_gets_in(closed_for_long: Stand, path: str) -> None:
    data = post(f"/v2/models/affine/{path}", affine())
    answer = closed_for_long.ask(data)
    assert answer.status in (400, 401), path
    assert not closed_for_long.service.requests


# --- as time goes by ----------------------------------------------------------------------------------------------


def test_a_revoked_key_is_out_at_the_next_request(closed: Closed) -> None:
    client, data = closed.door.client(), with_key(callers.AFFINE)
    assert client.ask(data).status == client.ask(data).status == 200
    closed.let_in(callers.without(callers.AFFINE_HASH))
    assert client.ask(data).status == 401  # on the same connection, with the same bytes
    assert closed.ask(data).status == 401
    closed.let_in(callers.access(epoch=3))
    assert client.ask(data).status == 200


def test_scopes_that_are_taken_away_are_gone(closed: Closed) -> None:
    data = infer(headers=(authorization(bearer(callers.AFFINE)),))
    assert closed.ask(data).status == 200
    lesser = msgspec.structs.replace(callers.AFFINE_HASH, scopes=("predict:echo",))
    closed.let_in(callers.access(epoch=2, keys=(lesser,)))
    assert closed.ask(data).status == 403


@pytest.mark.parametrize(("header", "lasts_s"), [(bearer(callers.SOON), 60), (bearer(callers.token()), 300 + 30)])
def test_a_remembered_head_does_not_outlive_its_credential(closed: Closed, header: str, lasts_s: float) -> None:
    client, data = closed.door.client(), infer(headers=(authorization(header),))
    assert client.ask(data).status == 200
    closed.pass_seconds(lasts_s + 1)
    assert client.ask(data).status == 401


def test_a_deployment_becomes_public_and_private_again(closed: Closed) -> None:
    public = callers.access(epoch=2, deployments=(DeploymentAccess("affine", auth=Auth(public=True)),))
    client = closed.door.client()
    assert client.ask(infer()).status == 401
    closed.let_in(public)
    assert client.ask(infer()).status == 200
    assert client.ask(get("/v2/models/affine")).status == 200
    assert client.ask(get("/v2/models/echo")).status == client.ask(get("/v2")).status == 401
    assert client.ask(infer(headers=(authorization(bearer(callers.STRANGER)),))).status == 401  # wrong is wrong
    closed.let_in(callers.access(epoch=3))
    assert client.ask(infer()).status == 401


def test_an_open_server_closes_and_opens(closed: Closed) -> None:
    client = closed.door.client()
    closed.let_in(callers.access(epoch=2, required=False))
    assert client.ask(infer()).status == 200
    closed.let_in(callers.access(epoch=3))
    assert client.ask(infer()).status == 401
    closed.let_in(callers.access(epoch=4, required=False))
    assert client.ask(infer(headers=(authorization("nonsense"),))).status == 200


def test_before_the_rules_are_known_nobody_gets_in() -> None:
    with stand(guard=AccessGuard()) as door:
        for data in (infer(), with_key(callers.ADMIN), get("/v2"), get("/nowhere")):
            answer = door.ask(data)
            assert (answer.status, answer.code, answer.headers["retry-after"]) == (503, "not_ready", "1")
        assert door.ask(get("/v2/health/live")).status == 200


def test_pipelined_requests_are_each_their_own(closed: Closed) -> None:
    client = closed.door.client()
    turns = [(callers.AFFINE, 200), ("", 401), (callers.NOTHING, 403), (callers.ALL, 200), (callers.STRANGER, 401)] * 3
    client.send(b"".join(with_key(key) if key else infer() for key, _ in turns))
    assert [client.answer().status for _ in turns] == [status for _, status in turns]


def test_pipelined_behind_a_password(closed: Closed) -> None:
    """A password takes its time in a thread: answers keep their order, and nobody gets another's verdict."""
    client = closed.door.client()
    good, wrong = (infer(headers=(authorization(basic("bob", text)),)) for text in (callers.PASSWORD, "not the one"))
    client.send(
        good
        + infer()
        + wrong
        + with_key(callers.AFFINE)
        + get("/v2/models/echo", authorization(basic("bob", callers.PASSWORD)))
    )
    assert [client.answer().status for _ in range(5)] == [200, 401, 401, 200, 403]


def test_a_client_that_goes_while_its_password_is_checked(closed: Closed) -> None:
    for _ in range(5):
        client = closed.door.client()
        client.send(infer(headers=(authorization(basic("bob", callers.PASSWORD)),)))
        client.close()
    client = closed.door.client()
    head = get(AFFINE, authorization(basic("bob", callers.PASSWORD)), "content-length: 100", method="POST")
    client.send(head)
    client.close()
    closed.door.until(lambda: not closed.door.door.connections)
    assert closed.ask(infer(headers=(authorization(basic("bob", callers.PASSWORD)),))).status == 200


def test_guessing_passwords_is_slowed_down(closed: Closed) -> None:
    wrong = [closed.ask(infer(headers=(authorization(basic("bob", f"guess {n}")),))) for n in range(8)]
    assert [answer.status for answer in wrong[:5]] == [401] * 5
    assert wrong[-1].status == 429 and int(wrong[-1].headers["retry-after"]) >= 1
    assert closed.ask(with_key(callers.AFFINE)).status == 200  # others from there are not held up


# --- before a body is read ----------------------------------------------------------------------------------------

LARGE = 200 * 2**20


@pytest.mark.parametrize("how", [f"content-length: {LARGE}", "transfer-encoding: chunked"])
@pytest.mark.parametrize(("key", "status"), [("", 401), (callers.STRANGER, 401), (callers.NOTHING, 403)])
def test_an_upload_is_refused_by_its_head(closed: Closed, how: str, key: str, status: int) -> None:
    headers = [authorization(bearer(key))] if key else []
    client = closed.door.client()
    answer = client.ask(get(AFFINE, *headers, how, method="POST"))  # and no byte of the body
    assert (answer.status, answer.headers["connection"]) == (status, "close")
    assert client.is_closed()


def test_an_upload_with_a_wrong_password_is_refused_by_its_head(closed: Closed) -> None:
    client = closed.door.client()
    header = authorization(basic("bob", "wrong-password"))
    answer = client.ask(get(AFFINE, header, f"content-length: {LARGE}", method="POST"))
    assert (answer.status, answer.headers["connection"]) == (401, "close")


def test_who_waits_for_100_continue_hears_401_instead(closed: Closed) -> None:
    client = closed.door.client()
    answer = client.ask(get(AFFINE, "expect: 100-continue", "content-length: 10", method="POST"))
    assert answer.status == 401
    client = closed.door.client()
    data = post(AFFINE, affine(), authorization(basic("bob", callers.PASSWORD)), "expect: 100-continue")
    head, _, body = data.partition(b"\r\n\r\n")
    assert client.ask(head + b"\r\n\r\n").status == 100
    assert result(client.ask(body)) == [3, 5, 7, 9]


@pytest.mark.parametrize("header", [bearer(callers.AFFINE), basic("bob", callers.PASSWORD)], ids=["key", "password"])
def test_a_body_that_comes_in_pieces(closed: Closed, header: str) -> None:
    client = closed.door.client()
    data = infer(headers=(authorization(header),))
    for _ in range(2):
        for at in range(0, len(data), 40):
            client.send(data[at : at + 40])
        assert result(client.answer()) == [3, 5, 7, 9]


def test_a_key_revoked_during_its_upload(closed: Closed) -> None:
    client, data = closed.door.client(), with_key(callers.AFFINE)
    client.send(data[:-10])
    closed.door.until(lambda: any(c._head is not None for c in closed.door.door.connections))  # type: ignore[attr-defined]
    closed.let_in(callers.without(callers.AFFINE_HASH))
    client.send(data[-10:])
    assert client.answer().status == 401
    assert not closed.door.service.requests


def test_nothing_is_unpacked_for_strangers(closed: Closed) -> None:
    bomb = gzip.compress(bytes(50 * 2**20))
    assert closed.ask(post(AFFINE, bomb, "content-encoding: gzip")).status == 401
    assert closed.ask(post(AFFINE, b"no gzip", "content-encoding: gzip")).status == 401


# --- limits -------------------------------------------------------------------------------------------------------


def limited(**limits: float) -> Access:
    return callers.access(epoch=2, deployments=(DeploymentAccess("affine", limits=RequestLimits(**limits)),))  # type: ignore[arg-type]


def allowance(answer: Answer) -> tuple[str, ...]:
    return tuple(answer.headers[f"ratelimit-{name}"] for name in ("limit", "remaining", "reset"))


def test_a_rate_is_told_and_kept(closed: Closed) -> None:
    closed.let_in(limited(requests_per_s=2, burst=3))
    answers = [closed.ask(with_key(callers.AFFINE)) for _ in range(4)]
    assert [answer.status for answer in answers] == [200, 200, 200, 429]
    assert [allowance(answer) for answer in answers] == [
        ("3", "2", "1"),
        ("3", "1", "1"),
        ("3", "0", "2"),
        ("3", "0", "2"),
    ]
    assert answers[3].code == "rate_limited" and answers[3].headers["retry-after"] == "1"
    assert closed.ask(with_key(callers.ALL)).status == 200  # another's own
    assert closed.ask(get("/v2/models/affine", authorization(bearer(callers.AFFINE)))).status == 200
    closed.pass_seconds(0.5)
    assert closed.ask(with_key(callers.AFFINE)).status == 200
    assert ("affine", "http", "rate_limited") in closed.door.service.refusals


def test_answers_in_binary_tell_it_too(closed: Closed) -> None:
    closed.let_in(limited(requests_per_s=1, burst=5))
    data = infer(headers=(authorization(bearer(callers.AFFINE)),), parameters={"binary_data_output": True})
    answer = closed.ask(data)
    assert "inference-header-content-length" in answer.headers
    assert allowance(answer)[:2] == ("5", "4")


def test_without_a_limit_nothing_is_told(closed: Closed) -> None:
    assert not [name for name in closed.ask(with_key(callers.AFFINE)).headers if name.startswith("ratelimit")]


def test_limits_without_auth_hold_for_all_together(closed: Closed) -> None:
    closed.let_in(msgspec.structs.replace(limited(requests_per_s=1, burst=2), required=False))
    statuses = [closed.ask(data).status for data in (infer(), with_key(callers.AFFINE), infer())]
    assert statuses == [200, 200, 429]


def test_many_at_once_get_no_more_than_their_limit(closed: Closed) -> None:
    closed.let_in(limited(requests_per_s=1, burst=20))
    statuses: list[int] = []

    def ask() -> None:
        client = closed.door.client()
        statuses.extend(client.ask(with_key(callers.AFFINE)).status for _ in range(10))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sorted(statuses) == [200] * 20 + [429] * 20
