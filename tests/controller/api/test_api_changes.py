"""Changes: made to what was seen, made once, and told as what they were."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from api_stand import Stand, standing, wait_for


def both_at_once(act: Callable[[int], httpx.Response], count: int = 2) -> list[httpx.Response]:
    """`act(0)`, `act(1)`, … in threads that begin together."""
    answers: list[httpx.Response | None] = [None] * count
    start = threading.Barrier(count)

    def run(number: int) -> None:
        start.wait()
        answers[number] = act(number)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    return [answer for answer in answers if answer is not None]


def spec_of(stand: Stand, name: str, **more: Any) -> dict[str, Any]:
    model = stand.folder / f"{name}.onnx"
    model.write_bytes(name.encode())
    return {"spec": {"name": name, "model": str(model)} | more}


def test_the_life_of_a_deployment(stand: Stand) -> None:
    web, path = stand.web, "/api/v1/deployments/life"
    created = web.put(path, json=spec_of(stand, "life"))
    assert (created.status_code, created.headers["location"]) == (201, path)
    assert (created.json()["change"], created.headers["etag"]) == ("created", '"1"')
    stand.wait_live("life", "v1")

    again = web.put(path, json=spec_of(stand, "life"))
    assert (again.status_code, again.json()["change"], again.headers["etag"]) == (200, "unchanged", '"1"')

    live = web.put(path, json=spec_of(stand, "life", description="of a flower"))
    assert (live.json()["change"], live.headers["etag"], live.json()["target"]) == ("updated", '"2"', "v1")

    planned = web.put(path, json=spec_of(stand, "life", batching={"max_rows": 8}), params={"dry_run": True})
    assert (planned.json()["change"], web.get(path).headers["etag"]) == ("new_version", '"2"')

    swapped = web.put(path, json=spec_of(stand, "life", batching={"max_rows": 8}))
    assert (swapped.json()["change"], swapped.json()["target"]) == ("new_version", "v2")
    stand.wait_live("life", "v2")

    held = web.put(path, json=spec_of(stand, "life", batching={"max_rows": 9}), params={"hold": True})
    assert held.json()["target"] == "v3"
    wait_for(lambda: web.get(f"{path}/versions/v3").json()["state"] == "ready")
    assert web.get(path).json()["live"] == "v2"
    assert web.post(f"{path}/promote", json={}).status_code == 200
    stand.wait_live("life", "v3")

    assert web.post(f"{path}/rollback", json={"to": "v1"}).json()["target"] == "v1"
    stand.wait_live("life", "v1")
    assert web.post(f"{path}/scale", json={"replicas": 3}).json()["spec"]["replicas"]["min"] == 3
    assert web.post(f"{path}/stop").status_code == 200
    wait_for(lambda: web.get(path).json()["state"] == "stopped")
    assert web.post(f"{path}/start").status_code == 200
    wait_for(lambda: web.get(path).json()["state"] == "ready")

    forced = web.put(path, json=web_spec(web, path), params={"new_version": "true"})
    assert forced.json()["change"] == "new_version"

    gone = web.delete(path)
    assert (gone.status_code, gone.json()["state"]) == (202, "deleting")
    wait_for(lambda: web.get(path).status_code == 404)


def web_spec(web: httpx.Client, path: str) -> dict[str, Any]:
    return {"spec": web.get(path).json()["spec"]}


def test_of_two_who_saw_the_same_one_wins(stand: Stand) -> None:
    etag = stand.deploy("race")["revision"]
    bodies = [spec_of(stand, "race", description=f"by {who}") for who in range(4)]
    answers = both_at_once(
        lambda who: stand.web.put("/api/v1/deployments/race", json=bodies[who], headers={"if-match": f'"{etag}"'}), 4
    )
    assert sorted(answer.status_code for answer in answers) == [200, 412, 412, 412]
    present = stand.web.get("/api/v1/deployments/race").headers["etag"]
    assert present == f'"{etag + 1}"'
    for answer in answers:
        assert answer.headers["etag"] == present
        if answer.status_code == 412:
            assert answer.json()["code"] == "precondition_failed"


def test_of_two_who_create_one_does(stand: Stand) -> None:
    body = spec_of(stand, "fresh")
    answers = both_at_once(
        lambda _: stand.web.put("/api/v1/deployments/fresh", json=body, headers={"if-none-match": "*"})
    )
    assert sorted(answer.status_code for answer in answers) == [201, 412]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"if-match": "*"}, 200),
        ({"if-match": '"{now}"'}, 200),
        ({"if-match": '"77", "{now}"'}, 200),
        ({"if-match": 'W/"{now}"'}, 412),
        ({"if-match": '"77"'}, 412),
        ({"if-match": '"0"'}, 412),
        ({"if-match": '"abc"'}, 412),
        ({"if-match": '"99999999999999999999999"'}, 412),
        ({"if-none-match": "*"}, 412),
        ({"if-match": "{now}"}, 200),
        ({"if-match": "77"}, 412),
        ({"if-match": "latest"}, 400),
        ({"if-match": ""}, 400),
        ({"if-none-match": '"1"'}, 400),
        ({"if-match": "*", "if-none-match": "*"}, 400),
    ],
)
def test_preconditions(stand: Stand, headers: dict[str, str], status: int) -> None:
    now = stand.deploy("guarded")["revision"]
    filled = {key: value.replace("{now}", str(now)) for key, value in headers.items()}
    answer = stand.web.post("/api/v1/deployments/guarded/scale", json={"replicas": 1}, headers=filled)
    assert answer.status_code == status, answer.text


def test_nothing_matches_what_is_not_there(stand: Stand) -> None:
    for match in ("*", '"1"', '"1", "2"'):
        answer = stand.web.put("/api/v1/deployments/absent", json=spec_of(stand, "absent"), headers={"if-match": match})
        assert answer.status_code == 412, answer.text
        assert "etag" not in answer.headers


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/v1/users/ann", {"password": "correct horse battery staple", "scopes": ["predict:iris"]}),
        ("/api/v1/secrets/iris-token", {"value": "tell nobody"}),
    ],
)
def test_users_and_secrets_are_changed_as_they_were_seen(stand: Stand, path: str, body: dict[str, Any]) -> None:
    web = stand.web
    missing = web.put(path, json=body, headers={"if-match": "*"})
    assert (missing.status_code, "etag" in missing.headers) == (412, False)
    made = web.put(path, json=body, headers={"if-none-match": "*"})
    assert (made.status_code, made.headers["etag"], made.json()["revision"]) == (200, '"1"', 1)
    assert web.put(path, json=body, headers={"if-none-match": "*"}).status_code == 412
    answers = both_at_once(lambda _: web.put(path, json=body, headers={"if-match": '"1"'}), 3)
    assert sorted(answer.status_code for answer in answers) == [200, 412, 412]
    assert {answer.headers["etag"] for answer in answers} == {'"2"'}
    listed = next(one for one in web.get(path.rpartition("/")[0]).json()["items"] if one["name"] in path)
    assert listed["revision"] == 2
    refused = web.delete(path, headers={"if-match": '"1"'})
    assert (refused.status_code, refused.json()["code"], refused.headers["etag"]) == (412, "precondition_failed", '"2"')
    assert web.delete(path, headers={"if-match": '"2"'}).status_code == 204


def test_a_key_is_rotated_and_revoked_as_it_was_seen(stand: Stand) -> None:
    web = stand.web
    made = web.post("/api/v1/keys", json={"name": "seen", "scopes": ["predict:iris"]}).json()
    path = f"/api/v1/keys/{made['id']}"
    rotate = {"overlap_s": 60}
    answers = both_at_once(lambda _: web.post(f"{path}/rotate", json=rotate, headers={"if-match": '"1"'}))
    assert sorted(answer.status_code for answer in answers) == [201, 412]
    refused = next(answer for answer in answers if answer.status_code == 412)
    assert web.delete(path, headers={"if-match": '"1"'}).status_code == 412
    assert web.delete(path, headers={"if-match": refused.headers["etag"]}).json()["revoked_at"] is not None


def test_the_same_request_is_done_once(stand: Stand) -> None:
    body = {"name": "once", "scopes": ["deploy:iris"]}
    first = stand.web.post("/api/v1/keys", json=body, headers={"idempotency-key": "k-1"})
    again = stand.web.post("/api/v1/keys", json=body, headers={"idempotency-key": "k-1"})
    assert first.status_code == again.status_code == 201
    assert first.json() == again.json()
    assert first.json()["secret"].startswith("sw_")
    assert (first.headers.get("idempotency-replayed"), again.headers["idempotency-replayed"]) == (None, "true")
    assert [key["name"] for key in stand.web.get("/api/v1/keys?limit=1000").json()["items"]].count("once") == 1


def test_the_answer_that_is_kept_holds_no_key_that_could_be_read(stand: Stand) -> None:
    made = stand.web.post(
        "/api/v1/keys", json={"name": "sealed", "scopes": ["admin"]}, headers={"idempotency-key": "k-2"}
    )
    stand.web.put(
        "/api/v1/users/ann",
        json={"password": "tell nobody this", "scopes": ["admin"]},
        headers={"idempotency-key": "k-3"},
    )
    files = [path for path in (stand.folder / "data").rglob("*") if path.is_file()]
    assert any(path.name.startswith("slipway.db") for path in files)
    for path in files:
        assert made.json()["secret"].encode() not in path.read_bytes(), path
        assert b"tell nobody this" not in path.read_bytes(), path


def test_a_key_is_for_one_request(stand: Stand) -> None:
    stand.deploy("keyed")
    sent = {"idempotency-key": "k-4"}
    scale = "/api/v1/deployments/keyed/scale"
    assert stand.web.post(scale, json={"replicas": 2}, headers=sent).status_code == 200
    for path, body, more in (
        (scale, {"replicas": 3}, {}),
        ("/api/v1/deployments/keyed/rollback", {"replicas": 2}, {}),
        (scale, {"replicas": 2}, {"if-match": "*"}),
    ):
        refused = stand.web.post(path, json=body, headers=sent | more)
        assert refused.status_code == (400 if path.endswith("rollback") else 409)
    assert stand.web.get("/api/v1/deployments/keyed").json()["spec"]["replicas"]["min"] == 2


def test_nobody_gets_the_answer_of_somebody_else(tmp_path: Path) -> None:
    with standing(tmp_path, required=True) as closed:
        keys = [closed.key(f"admin-{number}", "admin") for number in range(2)]
        body = {"name": "mine", "scopes": ["admin"]}
        made = [
            httpx.post(f"{closed.url}/api/v1/keys", json=body, headers={"x-api-key": key, "idempotency-key": "same"})
            for key in keys
        ]
    assert made[0].json()["secret"] != made[1].json()["secret"]


def test_refusals_are_not_remembered(stand: Stand) -> None:
    sent = {"idempotency-key": "k-5"}
    path = "/api/v1/deployments/later/scale"
    assert stand.web.post(path, json={"replicas": 2}, headers=sent).status_code == 404
    stand.deploy("later")
    assert stand.web.post(path, json={"replicas": 2}, headers=sent).status_code == 200


@pytest.mark.parametrize("key", ["", "two words", "x" * 256, "ü"])
def test_a_key_that_is_none(stand: Stand, key: str) -> None:
    headers = {"idempotency-key": key.encode("latin-1")}
    answer = stand.web.post("/api/v1/keys", json={"name": "a", "scopes": ["admin"]}, headers=headers)
    assert answer.status_code == 400
    assert "Idempotency-Key" in answer.json()["detail"]


def test_while_the_first_is_on_its_way_the_second_waits(stand: Stand) -> None:
    stand.deploy("busy")
    begun, go_on = threading.Event(), threading.Event()
    real = stand.controller.commands.scale

    async def slow(name: str, replicas: int, **more: Any) -> Any:
        import asyncio

        begun.set()
        await asyncio.to_thread(go_on.wait, 20)
        return await real(name, replicas, **more)

    stand.controller.commands.scale = slow  # type: ignore[method-assign]
    answers: list[httpx.Response] = []
    sent = {"idempotency-key": "k-6"}

    def ask() -> None:
        answers.append(stand.web.post("/api/v1/deployments/busy/scale", json={"replicas": 2}, headers=sent))

    first = threading.Thread(target=ask)
    first.start()
    try:
        assert begun.wait(20)
        ask()
        assert answers[0].status_code == 409
        assert int(answers[0].headers["retry-after"]) >= 1
    finally:
        go_on.set()
        first.join(20)
        stand.controller.commands.scale = real  # type: ignore[method-assign]
    assert answers[1].status_code == 200
    ask()
    assert answers[2].headers["idempotency-replayed"] == "true"


def test_answers_outlive_the_controller(tmp_path: Path) -> None:
    body, sent = {"name": "once", "scopes": ["admin"]}, {"idempotency-key": "k-7"}
    with standing(tmp_path) as stand:
        first = stand.web.post("/api/v1/keys", json=body, headers=sent)
    with standing(tmp_path) as stand:
        again = stand.web.post("/api/v1/keys", json=body, headers=sent)
    assert again.json() == first.json()


def test_secrets_are_written_and_never_told(stand: Stand) -> None:
    put = stand.web.put("/api/v1/secrets/token", json={"value": "the-secret-value"})
    assert put.status_code == 200
    listed = stand.web.get("/api/v1/secrets")
    assert [one["name"] for one in listed.json()["items"]] == ["token"]
    audit = stand.web.get("/api/v1/audit?limit=1000")
    events = stand.web.get("/api/v1/events?limit=1000")
    for answer in (put, listed, audit, events):
        assert "the-secret-value" not in answer.text
    stand.deploy("user-of-it", env={"TOKEN": {"secret": "token"}})
    refused = stand.web.delete("/api/v1/secrets/token")
    assert (refused.status_code, "user-of-it" in refused.json()["detail"]) == (409, True)
    stand.deploy("user-of-it")
    assert stand.web.get("/api/v1/audit/verify").json() == {"broken_at": None}


def test_a_key_lives_and_ends(stand: Stand) -> None:
    web = stand.web
    made = web.post("/api/v1/keys", json={"name": "ci", "scopes": ["deploy:iris"], "expires_in_s": 3600}).json()
    assert made["expires_at"] > made["created_at"] + 3500
    assert made["secret"].startswith(made["prefix"])
    rotated = web.post(f"/api/v1/keys/{made['id']}/rotate", json={"overlap_s": 60}).json()
    assert rotated["id"] != made["id"] and rotated["secret"] != made["secret"]
    listed = {one["id"]: one for one in web.get("/api/v1/keys?limit=1000").json()["items"]}
    assert listed[made["id"]]["retires_at"] is not None
    assert {one["secret"] for one in listed.values()} == {""}
    assert web.delete(f"/api/v1/keys/{rotated['id']}").json()["revoked_at"] is not None


@pytest.mark.parametrize(
    "body",
    [
        {"name": "a", "scopes": []},
        {"name": "a", "scopes": ["deploy"]},
        {"name": "a", "scopes": ["root"]},
        {"name": "a/b", "scopes": ["admin"]},
        {"name": "a", "scopes": ["admin"], "expires_in_s": 0},
        {"name": "a", "scopes": ["admin"], "expires_in_s": "30d"},
        {"name": "a", "scopes": ["admin"], "expire": 1},
    ],
)
def test_keys_that_cannot_be(stand: Stand, body: dict[str, Any]) -> None:
    answer = stand.web.post("/api/v1/keys", json=body)
    assert answer.status_code in (400, 422), answer.text
