"""Lists in pages: whoever walks them sees each item once, whatever comes and goes meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import httpx
import pytest
from api_stand import Stand, wait_for
from hypothesis import given
from hypothesis import strategies as st

from slipway.controller.api.pages import page_of
from slipway.errors import InvalidInput


def walk(web: httpx.Client, path: str, *, limit: int, **query: Any) -> Iterator[list[dict[str, Any]]]:
    cursor = ""
    while True:
        answer = web.get(path, params={"limit": limit, "cursor": cursor} | query)
        assert answer.status_code == 200, answer.text
        page = answer.json()
        assert len(page["items"]) <= limit
        yield page["items"]
        cursor = page["next"]
        if not cursor:
            return


@given(
    names=st.sets(st.text("abc", min_size=1, max_size=4), max_size=30),
    inserted=st.lists(st.text("abc", min_size=1, max_size=4), max_size=10),
    limit=st.integers(1, 7),
)
def test_what_was_there_all_along_is_told_exactly_once(names: set[str], inserted: list[str], limit: int) -> None:
    there, told, cursor, late = set(names), [], "", list(inserted)
    while True:
        page = page_of(there, key=lambda name: (name,), kind="names", limit=limit, cursor=cursor)
        told += page.items
        if late:
            there.add(late.pop())
        cursor = page.next
        if not cursor:
            break
    assert len(told) == len(set(told))
    assert names <= set(told)
    assert told == sorted(told)


def test_a_cursor_of_another_list_is_refused() -> None:
    page = page_of(range(5), key=lambda number: (number,), kind="numbers", limit=2, cursor="")
    with pytest.raises(InvalidInput, match="cursor"):
        page_of(range(5), key=lambda number: (number,), kind="others", limit=2, cursor=page.next)
    with pytest.raises(InvalidInput, match="cursor"):
        page_of(["a"], key=lambda name: (name,), kind="numbers", limit=2, cursor=page.next)


def test_deployments_by_name_and_label_while_some_come(stand: Stand) -> None:
    for name in ("list-b", "list-d", "list-f", "list-h"):
        stand.deploy(name, labels={"team": "fruit", "n": name[-1]})
    pages = walk(stand.web, "/api/v1/deployments", limit=2, label="team=fruit")
    told = [one["name"] for one in next(pages)]
    stand.deploy("list-a", labels={"team": "fruit"})
    stand.deploy("list-g", labels={"team": "fruit"})
    told += [one["name"] for page in pages for one in page]
    assert told == ["list-b", "list-d", "list-f", "list-g", "list-h"]

    def names(*labels: str) -> list[str]:
        answer = stand.web.get("/api/v1/deployments", params=[("label", label) for label in labels])
        return [one["name"] for one in answer.json()["items"]]

    assert names("team=fruit", "n=d") == ["list-d"]
    assert names("n") == ["list-b", "list-d", "list-f", "list-h"]
    assert names("team=veg") == []
    assert stand.web.get("/api/v1/deployments?label==x").status_code == 400


def test_versions_history_and_replicas_newest_first(stand: Stand) -> None:
    for rows in (1, 2, 3, 4, 5):
        stand.deploy("paged", batching={"max_rows": rows})
    stand.wait_live("paged", "v5")
    path = "/api/v1/deployments/paged"
    versions = [one["version"] for page in walk(stand.web, f"{path}/versions", limit=2) for one in page]
    assert versions == ["v5", "v4", "v3", "v2", "v1"]
    pages = walk(stand.web, f"{path}/history", limit=2)
    revisions = [one["revision"] for one in next(pages)]
    stand.deploy("paged", batching={"max_rows": 6})
    revisions += [one["revision"] for page in pages for one in page]
    assert revisions == [5, 4, 3, 2, 1]
    wait_for(lambda: stand.web.get(f"{path}/replicas").json()["items"])
    replicas = [one for page in walk(stand.web, "/api/v1/replicas", limit=1) for one in page]
    keys = [(one["deployment"], one["version"], one["index"]) for one in replicas]
    assert keys == sorted(set(keys)) and ("paged", "v6", 1) in keys


def test_events_back_from_the_newest_and_forward_from_one(stand: Stand) -> None:
    for rows in (1, 2, 3):
        stand.deploy("eventful", batching={"max_rows": rows})
    stand.wait_live("eventful", "v3")
    everything = stand.web.get("/api/v1/events?limit=1000&deployment=eventful").json()
    assert everything["next"] == ""
    ids = [one["id"] for one in everything["items"]]
    assert ids == sorted(set(ids)) and len(ids) > 8
    backward = list(walk(stand.web, "/api/v1/events", limit=3, deployment="eventful"))
    walked = [one["id"] for page in reversed(backward) for one in page]
    assert walked == sorted(set(walked)) and [number for number in walked if number <= ids[-1]] == ids
    first = ids[0]
    forward = walk(stand.web, "/api/v1/events", limit=3, deployment="eventful", after=first)
    told = [one["id"] for one in next(forward)]
    stand.deploy("eventful", batching={"max_rows": 4})
    stand.wait_live("eventful", "v4")
    told += [one["id"] for page in forward for one in page]
    assert told[: len(ids) - 1] == ids[1:]
    assert len(told) > len(ids)
    assert {one["deployment"] for one in everything["items"]} == {"eventful"}


def test_the_audit_log_in_pages(stand: Stand) -> None:
    stand.deploy("audited")
    stand.wait_live("audited", "v1")
    whole = stand.web.get("/api/v1/audit?limit=1000").json()["items"]
    pages = list(walk(stand.web, "/api/v1/audit", limit=2))
    assert [one for page in reversed(pages) for one in page if one["seq"] <= len(whole)] == whole
    forward = [one for page in walk(stand.web, "/api/v1/audit", limit=2, after=1) for one in page]
    assert forward[: len(whole) - 1] == whole[1:]
    assert [one["seq"] for one in whole] == list(range(1, len(whole) + 1))
    assert all(later["previous"] == earlier["hash"] for earlier, later in pairwise(whole))


def test_credentials_in_pages(stand: Stand) -> None:
    for number in range(5):
        stand.key(f"page-{number}", "admin")
        stand.web.put(f"/api/v1/secrets/page-{number}", json={"value": "x"})
        stand.web.put(f"/api/v1/users/page-{number}", json={"password": "long enough", "scopes": ["admin"]})
    for kind in ("keys", "secrets", "users"):
        names = [one["name"] for page in walk(stand.web, f"/api/v1/{kind}", limit=2) for one in page]
        assert names == [f"page-{number}" for number in range(5)], kind
