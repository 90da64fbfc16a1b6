"""A web site that a browser on this machine visits does not reach the door through it."""

from __future__ import annotations

from collections.abc import Iterator

import callers
import pytest
from callers import basic, bearer
from http_stand import Stand, get, infer, post, result, stand

from slipway.gateway.guard import AccessGuard
from slipway.spec.access import Access, DeploymentAccess
from slipway.spec.deployment import RequestLimits
from slipway.transports.http.site import is_public_name

EVIL = "origin: http://evil.example"
CROSS = "sec-fetch-site: cross-site"


@pytest.fixture(scope="module")
def door() -> Iterator[Stand]:
    """Of a server that asks nobody."""
    with stand() as made:
        yield made


@pytest.fixture(scope="module")
def closed() -> Iterator[Stand]:
    guard = AccessGuard(now=lambda: callers.NOW)
    guard.apply(callers.access())
    with stand(guard=guard) as made:
        yield made


@pytest.mark.parametrize("headers", [(EVIL,), (CROSS,), ("sec-fetch-site: same-site",), ("origin: null",)], ids=str)
@pytest.mark.parametrize("path", ["/v2/models/affine/infer", "/v2/repository/models/affine/unload"])
def test_a_page_of_another_site_changes_nothing(door: Stand, path: str, headers: tuple[str, ...]) -> None:
    for _ in range(2):  # a head that is remembered is refused as well
        assert door.ask(post(path, b"{}", *headers)).status == 403
    assert result(door.ask(infer(1, 2, 3, 4)))


def test_a_page_of_the_door_itself_may_call(door: Stand) -> None:
    for headers in (
        ("origin: http://h:80",),
        ("origin: http://h",),
        ("origin: http://evil.example", "sec-fetch-site: same-origin"),
    ):
        assert door.ask(infer(1, 2, 3, 4, headers=headers)).status == 200


def test_what_a_page_only_reads_is_for_the_browser_to_judge(door: Stand) -> None:
    assert door.ask(get("/v2/models/affine", EVIL, CROSS)).status == 200


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8080", "127.0.0.1.evil.example", "EVIL.example."])
def test_a_name_that_anybody_could_point_here_leads_nowhere(door: Stand, host: str) -> None:
    asked = get("/v2/models/affine").replace(b"host: h", f"host: {host}".encode())
    for _ in range(2):
        answer = door.ask(asked)
        assert answer.status == 403 and "127.0.0.1" in str(answer.json["error"])


@pytest.mark.parametrize(
    "host", ["127.0.0.1:80", "localhost", "[::1]:80", "10.1.2.3", "slipway", "mac.local:80", "a.localhost"]
)
def test_names_of_this_machine_and_its_network_lead_here(door: Stand, host: str) -> None:
    assert not is_public_name(host)
    asked = get("/v2/models/affine").replace(b"host: h", f"host: {host}".encode())
    assert door.ask(asked).status == 200


def test_a_closed_server_has_any_name(closed: Stand) -> None:
    asked = infer(1, 2, 3, 4, headers=(f"authorization: {bearer(callers.AFFINE)}",)).replace(
        b"host: h", b"host: models.example"
    )
    assert closed.ask(asked).status == 200


def test_a_limit_closes_nothing() -> None:
    guard = AccessGuard(now=lambda: callers.NOW)
    limited = DeploymentAccess("affine", limits=RequestLimits(requests_per_s=1000))
    guard.apply(Access(required=False, deployments=(limited,)))
    with stand(guard=guard) as door:
        asked = get("/v2/models/affine").replace(b"host: h", b"host: evil.example")
        assert door.ask(asked).status == 403


def test_what_a_browser_adds_by_itself_is_not_the_page_s(closed: Stand) -> None:
    """It remembers a name and password, and sends them along; a key it has to be told, which no other site can do."""
    remembered = f"authorization: {basic('bob', callers.PASSWORD)}"
    told = f"authorization: {bearer(callers.AFFINE)}"
    assert closed.ask(infer(1, 2, 3, 4, headers=(remembered,))).status == 200
    assert closed.ask(infer(1, 2, 3, 4, headers=(remembered, EVIL, CROSS))).status == 403
    assert closed.ask(infer(1, 2, 3, 4, headers=(told, EVIL, CROSS))).status == 200
