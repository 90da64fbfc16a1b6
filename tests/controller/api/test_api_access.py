"""Who may do what: every operation there is, tried by everybody. One that nobody wrote into the table fails."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import NamedTuple

import httpx
import pytest
from api_stand import Stand, standing, wait_for
from fastapi.routing import APIRoute

DIGEST = "sha256:" + "0" * 64
OPEN, ANY, DEPLOY, ANY_DEPLOY, ADMIN = "open", "any", "deploy:iris", "any deploy", "admin"
ONE = "/api/v1/deployments/{name}"

TABLE: dict[tuple[str, str], str] = {
    ("GET", "/"): ANY,
    ("GET", "/docs"): ANY,
    ("GET", "/openapi.json"): ANY,
    ("GET", "/metrics"): ANY,
    ("GET", "/healthz"): OPEN,
    ("GET", "/readyz"): OPEN,
    ("GET", "/api/v1/status"): ANY,
    ("GET", "/api/v1/whoami"): ANY,
    ("GET", "/api/v1/schema"): ANY,
    ("GET", "/api/v1/routes"): ANY,
    ("GET", "/api/v1/replicas"): ANY,
    ("GET", "/api/v1/deployments"): ANY,
    ("GET", ONE): DEPLOY,
    ("PUT", ONE): DEPLOY,
    ("DELETE", ONE): DEPLOY,
    ("POST", f"{ONE}/scale"): DEPLOY,
    ("POST", f"{ONE}/stop"): DEPLOY,
    ("POST", f"{ONE}/start"): DEPLOY,
    ("POST", f"{ONE}/rollback"): DEPLOY,
    ("POST", f"{ONE}/promote"): DEPLOY,
    ("GET", f"{ONE}/versions"): DEPLOY,
    ("GET", f"{ONE}/versions/{{version}}"): DEPLOY,
    ("GET", f"{ONE}/history"): DEPLOY,
    ("GET", f"{ONE}/replicas"): DEPLOY,
    ("GET", f"{ONE}/logs"): DEPLOY,
    ("GET", "/api/v1/events"): ADMIN,
    ("GET", "/api/v1/events?deployment={name}"): DEPLOY,
    ("GET", "/api/v1/events/stream"): ADMIN,
    ("GET", "/api/v1/events/stream?deployment={name}"): DEPLOY,
    ("POST", "/api/v1/artifacts"): ANY_DEPLOY,
    ("GET", "/api/v1/artifacts"): ADMIN,
    ("GET", "/api/v1/artifacts/{digest}"): ANY_DEPLOY,
    ("HEAD", "/api/v1/artifacts/blobs/{sha256}"): ANY_DEPLOY,
    ("PUT", "/api/v1/artifacts/blobs/{sha256}"): ANY_DEPLOY,
    ("GET", "/api/v1/keys"): ADMIN,
    ("POST", "/api/v1/keys"): ADMIN,
    ("POST", "/api/v1/keys/{key_id}/rotate"): ADMIN,
    ("DELETE", "/api/v1/keys/{key_id}"): ADMIN,
    ("GET", "/api/v1/users"): ADMIN,
    ("PUT", "/api/v1/users/{plain_name}"): ADMIN,
    ("DELETE", "/api/v1/users/{plain_name}"): ADMIN,
    ("GET", "/api/v1/secrets"): ADMIN,
    ("PUT", "/api/v1/secrets/{plain_name}"): ADMIN,
    ("DELETE", "/api/v1/secrets/{plain_name}"): ADMIN,
    ("GET", "/api/v1/audit"): ADMIN,
    ("GET", "/api/v1/audit/verify"): ADMIN,
}
MAY: dict[str, set[str]] = {
    "nobody": {OPEN},
    "predict:iris": {OPEN, ANY},
    "deploy:iris": {OPEN, ANY, DEPLOY, ANY_DEPLOY},
    "deploy:other": {OPEN, ANY, ANY_DEPLOY},
    "deploy:*": {OPEN, ANY, DEPLOY, ANY_DEPLOY},
    "admin": {OPEN, ANY, DEPLOY, ANY_DEPLOY, ADMIN},
}


class Closed(NamedTuple):
    """`anybody`: a client without a credential of its own."""

    stand: Stand
    keys: dict[str, str]
    anybody: httpx.Client


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Closed]:
    with standing(tmp_path_factory.mktemp("closed"), required=True) as stand:
        stand.deploy("other")
        keys = {scope: stand.key("tester", scope) for scope in MAY if scope != "nobody"}
        with httpx.Client(base_url=stand.url, timeout=20) as anybody:
            yield Closed(stand, keys, anybody)


def ask(closed: Closed, who: str, method: str, path: str) -> int:
    """The status. Nothing in the path or body is there, so what is let in changes nothing: 4xx but 401 and 403."""
    headers = {"authorization": f"Bearer {closed.keys[who]}"} if who in closed.keys else {}
    url = path.format(name="iris", version="v1", digest=DIGEST, sha256="0" * 64, key_id="nosuch", plain_name="nobody")
    with closed.anybody.stream(method, url, headers=headers) as answer:
        return answer.status_code


def test_every_operation_is_in_the_table(closed: Closed) -> None:
    there = {
        (method, route.path)
        for route in closed.stand.app.routes
        if isinstance(route, APIRoute)
        for method in route.methods
    }
    assert there == {(method, path.partition("?")[0]) for method, path in TABLE}


@pytest.mark.parametrize("who", MAY)
def test_everybody_may_what_is_theirs_and_nothing_else(closed: Closed, who: str) -> None:
    wrong = []
    for (method, path), needs in TABLE.items():
        status = ask(closed, who, method, path)
        wanted = "let in" if needs in MAY[who] else "401" if who == "nobody" else "403"
        got = str(status) if status in (401, 403) else "let in"
        if got != wanted:
            wrong.append(f"{method} {path} by {who}: {status}, but it should be {wanted}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("path", ["/api/v1/nothing", "/api/v2/status", "/.env"])
def test_nobody_learns_what_is_not_there(closed: Closed, path: str) -> None:
    assert ask(closed, "nobody", "GET", path) == 401
    assert ask(closed, "predict:iris", "GET", path) == 404


def test_a_refusal_says_what_is_missing_and_how_to_show_it(closed: Closed) -> None:
    refused = closed.anybody.get("/api/v1/keys")
    assert refused.headers["www-authenticate"].startswith("Bearer")
    assert refused.json()["code"] == "unauthenticated"
    headers = {"x-api-key": closed.keys["deploy:iris"]}
    refused = closed.anybody.get("/api/v1/keys", headers=headers)
    assert (refused.json()["code"], "scope admin" in refused.json()["detail"]) == ("forbidden", True)


def test_lists_are_cut_to_what_one_may_see(closed: Closed) -> None:
    def names(who: str, path: str, field: str) -> set[str]:
        answer = closed.anybody.get(path, headers={"x-api-key": closed.keys[who]})
        listed = answer.json()
        items = listed["deployments"] if path.endswith("status") else listed["items"]
        return {one[field] for one in items}

    closed.stand.wait_live("other", "v1")
    for path, field in {
        "/api/v1/deployments": "name",
        "/api/v1/status": "name",
        "/api/v1/routes": "model",
        "/api/v1/replicas": "deployment",
    }.items():
        assert names("deploy:other", path, field) == {"other"}, path
        assert names("deploy:iris", path, field) == set(), path


def test_every_kind_of_credential_is_known_by_its_name(closed: Closed) -> None:
    made = closed.stand.web.put("/api/v1/users/ann", json={"password": "a long password", "scopes": ["deploy:iris"]})
    assert made.status_code == 200
    pair = base64.b64encode(b"ann:a long password").decode()
    for headers, kind, name in (
        ({"authorization": f"Bearer {closed.stand.owner_key}"}, "owner", "owner"),
        ({"authorization": f"Bearer {closed.keys['admin']}"}, "key", "tester"),
        ({"x-api-key": closed.keys["admin"]}, "key", "tester"),
        ({"authorization": f"Basic {pair}"}, "user", "ann"),
    ):
        told = closed.anybody.get("/api/v1/whoami", headers=headers).json()
        assert (told["kind"], told["name"]) == (kind, name)


def test_guesses_are_slowed_down_and_audited(closed: Closed) -> None:
    statuses = []
    for number in range(8):
        pair = base64.b64encode(f"mallory:guess number {number}".encode()).decode()
        refused = closed.anybody.get("/api/v1/whoami", headers={"authorization": f"Basic {pair}"})
        statuses.append(refused.status_code)
    assert statuses[:4] == [401] * 4
    assert statuses[-1] == 429
    assert int(refused.headers["retry-after"]) >= 1

    def audited() -> bool:
        text = closed.stand.web.get("/api/v1/audit?limit=1000").text
        assert "guess number" not in text
        return "unknown_user" in text

    wait_for(audited)


def test_a_revoked_key_is_out_at_once(closed: Closed) -> None:
    key = closed.stand.key("short", "admin")
    headers = {"x-api-key": key}
    assert closed.anybody.get("/api/v1/keys", headers=headers).status_code == 200
    assert closed.stand.web.delete(f"/api/v1/keys/{key.split('_')[1]}").status_code == 200
    assert closed.anybody.get("/api/v1/keys", headers=headers).status_code == 401


def test_two_credentials_at_once_are_none(closed: Closed) -> None:
    key = closed.keys["admin"]
    twice = [("authorization", f"Bearer {key}"), ("authorization", "Bearer sw_aaaaaaaa_" + "b" * 43)]
    assert closed.anybody.get("/api/v1/whoami", headers=twice).status_code == 401
    both = {"authorization": f"Bearer {closed.keys['deploy:iris']}", "x-api-key": key}
    assert closed.anybody.get("/api/v1/whoami", headers=both).status_code == 401
