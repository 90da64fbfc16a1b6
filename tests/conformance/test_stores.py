"""What every store promises (`slipway.store.store.Store`), held against SQLite and a real PostgreSQL server."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from postgres import Database

from slipway.errors import Conflict, InvalidSpec, NotFound, NotLeader, PreconditionFailed, StoreUnavailable
from slipway.store.records import DeploymentRecord, IdempotentAnswer, KeyRecord, VersionSettings
from slipway.store.store import Store

NEW = VersionSettings(source="./iris.onnx", settings={"runtime": "onnx"}, state="pending")


@pytest.fixture
def store(database: Database) -> Store:
    return database.open()


def declare(store: Store, name: str = "iris", **options: Any) -> DeploymentRecord:
    given: dict[str, Any] = {
        "spec": {"name": name, "model": "./iris.onnx"}, "action": "update", "changes": [], "version": None,
        "target": None, "hold": False, "expected_revision": None, "now": 1000.0, "actor": "ann",
    }  # fmt: skip
    return store.declare(name=name, **given | options)


def a_key(id: str, **fields: Any) -> KeyRecord:
    given: dict[str, Any] = {
        "id": id, "name": "ci", "prefix": f"sw_{id}", "hash": "ab" * 32, "scopes": ["predict:*"], "created_at": 5.0,
        "created_by": "ann", "expires_at": None, "last_used_at": None, "revoked_at": None, "retires_at": None,
    }  # fmt: skip
    return KeyRecord(**given | fields)


def test_which_database_it_is(database: Database, store: Store) -> None:
    """The other tests run on what they are named for, and not twice on the same."""
    declare(store)
    assert database.sql("SELECT name FROM slipway_deployments") == [("iris",)]
    if database.kind == "sqlite":
        assert database.sql("SELECT count(*) FROM sqlite_master WHERE name = 'slipway_audit'") == [(1,)]
        assert store.url_shown.startswith("sqlite:///")
    else:
        assert database.sql("SELECT version()")[0][0].startswith("PostgreSQL")
        assert store.url_shown.startswith("postgresql://slipway@127.0.0.1:")


def test_a_deployment_from_its_first_declaration_to_its_end(store: Store) -> None:
    spec = {"name": "iris", "model": "./iris.onnx", "labels": {"größe": "∞", "odd": "\0"}, "replicas": {"min": 2}}
    made = declare(store, spec=spec, action="create", version=NEW, changes=["new"], hold=True)
    assert made == DeploymentRecord(
        name="iris", spec=spec, revision=1, live=0, target=1, hold=True, deleting=False, created_at=1000.0,
        updated_at=1000.0, updated_by="ann",
    )  # fmt: skip
    assert store.deployment("iris") == made and store.deployments() == [made]

    live = store.set_live("iris", live=1, now=1001.0, actor="controller")
    assert (live.live, live.target, live.revision) == (1, 1, 1)

    second = declare(store, version=NEW, now=1002.0, actor="bob", expected_revision=1)
    assert (second.revision, second.live, second.target, second.hold, second.updated_by) == (2, 1, 2, False, "bob")
    assert (second.created_at, second.updated_at) == (1000.0, 1002.0)

    back = declare(store, target=1, action="rollback", expected_revision=2)
    assert (back.revision, back.target) == (3, 1)
    assert declare(store, changes=["replicas.min: 1 → 2"], action="scale").target == 1
    assert [(r.revision, r.action, r.version, r.changes) for r in store.revisions("iris")] == [
        (4, "scale", 1, ["replicas.min: 1 → 2"]), (3, "rollback", 1, []), (2, "update", 2, []),
        (1, "create", 1, ["new"]),
    ]  # fmt: skip
    assert store.revisions("iris")[-1].spec == spec
    assert [r.revision for r in store.revisions("iris", limit=2, before=4)] == [3, 2]

    going = store.mark_deleting("iris", expected_revision=4, now=1003.0, actor="ann")
    assert (going.deleting, going.revision) == (True, 5)
    assert store.mark_deleting("iris", now=1004.0, actor="ann") == going
    with pytest.raises(Conflict, match="being deleted"):
        declare(store)
    store.forget("iris", now=1005.0, actor="controller")
    assert store.deployments() == [] and store.all_versions() == []
    assert declare(store, version=NEW, expected_revision=0).revision == 1  # the name is free again
    assert store.verify_audit() is None


def test_versions(store: Store) -> None:
    declare(store, version=NEW)
    declare(store, version=VersionSettings(source="pkg:Model", settings={}, state="fetched", digest="sha256:aa"))
    declare(store, name="abc", version=NEW)
    assert [(v.deployment, v.number, v.source, v.digest, v.state) for v in store.all_versions()] == [
        ("abc", 1, "./iris.onnx", "", "pending"), ("iris", 1, "./iris.onnx", "", "pending"),
        ("iris", 2, "pkg:Model", "sha256:aa", "fetched"),
    ]  # fmt: skip
    known = store.set_version(
        "iris", 1, state="fetched", digest="sha256:bb", size_bytes=2**40, progress=1.0, platform="onnx", now=1.0
    )
    assert (known.digest, known.size_bytes, known.progress, known.platform) == ("sha256:bb", 2**40, 1.0, "onnx")
    failed = store.set_version("iris", 1, state="failed", error="bad \0 shape \ud800", now=1.0)
    assert failed == dataclasses.replace(known, state="failed", error="bad \ufffd shape ?")
    assert store.versions("iris") == [failed, store.version("iris", 2)]
    with pytest.raises(Conflict, match="never changes"):
        store.set_version("iris", 1, digest="sha256:cc", now=1.0)
    with pytest.raises(Conflict, match="has a version v2 already"):
        declare(store, version=dataclasses.replace(NEW, number=2))
    with pytest.raises(NotFound, match="no version v3; it has v2, v1"):
        store.version("iris", 3)
    with pytest.raises(NotFound):
        store.set_version("iris", 10**30, state="failed", now=1.0)
    assert declare(store, version=dataclasses.replace(NEW, number=7)).target == 7
    assert declare(store, version=NEW).target == 8


def test_a_target_has_to_exist(store: Store) -> None:
    declare(store, version=NEW)
    for broken in (
        lambda: declare(store, target=2),
        lambda: store.set_target("iris", target=2, now=1.0, actor="x"),
        lambda: store.set_live("iris", live=7, now=1.0, actor="x"),
    ):
        with pytest.raises(NotFound, match="no version"):
            broken()
    assert store.deployment("iris").revision == 1 and len(store.audit()) == 1
    moved = store.set_target("iris", target=0, now=1.0, actor="controller")
    assert (moved.target, moved.revision) == (0, 1)
    assert declare(store, target=0).target == 0


def test_what_does_not_exist_is_told_with_the_nearest_name(store: Store) -> None:
    declare(store)
    for asked in (store.deployment, store.versions, store.revisions, lambda name: store.version(name, 1)):
        with pytest.raises(NotFound, match="did you mean 'iris'"):
            asked("irs")
    with pytest.raises(NotFound, match="there are 'iris'"):
        store.mark_deleting("zzz\0", now=1.0, actor="x")
    with pytest.raises(NotFound):
        store.forget("zzz", now=1.0, actor="x")
    assert store.versions("iris") == []


def test_who_was_second_is_told_and_changes_nothing(store: Store) -> None:
    with pytest.raises(PreconditionFailed, match="does not exist"):
        declare(store, expected_revision=3)
    declare(store, version=NEW, expected_revision=0)
    with pytest.raises(PreconditionFailed, match="already, at revision 1"):
        declare(store, version=NEW, expected_revision=0)
    declare(store, version=NEW, expected_revision=1)
    with pytest.raises(PreconditionFailed, match="at revision 2, and this change was made for revision 1"):
        declare(store, version=NEW, expected_revision=1)
    with pytest.raises(PreconditionFailed):
        store.mark_deleting("iris", expected_revision=1, now=1.0, actor="x")
    assert [v.number for v in store.versions("iris")] == [1, 2]
    assert [e.action for e in store.audit()] == ["deployment.update"] * 2


def test_users_and_secrets_are_changed_by_one_at_a_time(store: Store) -> None:
    ann = store.put_user("ann", hash="$argon2id$1", scopes=["admin"], now=1.0, actor="owner", expected_revision=0)
    assert (ann.revision, ann.created_by, ann.last_used_at) == (1, "owner", None)
    again = store.put_user("ann", hash="$argon2id$2", scopes=[], now=2.0, actor="bob", expected_revision=1)
    assert again == dataclasses.replace(ann, hash="$argon2id$2", scopes=[], revision=2)
    with pytest.raises(PreconditionFailed):
        store.put_user("ann", hash="x", scopes=[], now=2.0, actor="bob", expected_revision=1)
    with pytest.raises(PreconditionFailed):
        store.delete_user("ann", now=2.0, actor="bob", expected_revision=1)
    store.touch_users({"ann": 9.0, "nobody": 1.0})
    store.touch_users({"ann": 8.0})
    assert store.users() == [dataclasses.replace(again, last_used_at=9.0)]
    store.delete_user("ann", now=3.0, actor="bob")
    with pytest.raises(NotFound, match="no user yet"):
        store.delete_user("ann", now=3.0, actor="bob")

    token = store.put_secret("token", sealed=b"\0\xff1", now=1.0, actor="ann")
    other = store.put_secret("token", sealed=b"2", now=2.0, actor="bob", expected_revision=1)
    assert other == dataclasses.replace(token, sealed=b"2", updated_at=2.0, updated_by="bob", revision=2)
    with pytest.raises(PreconditionFailed):
        store.put_secret("token", sealed=b"3", now=2.0, actor="bob", expected_revision=1)
    assert store.secrets() == [other]
    assert "sealed" not in str(store.audit()) and "argon2" not in str(store.audit())


def test_a_secret_stays_while_a_deployment_names_it(store: Store) -> None:
    spec = {"name": "iris", "model": "m", "env": {"A": "x", "T": {"secret": "token"}}}
    with pytest.raises(InvalidSpec, match="slipway secrets set"):
        declare(store, spec=spec)
    store.put_secret("token", sealed=b"1", now=1.0, actor="ann")
    declare(store, spec=spec, version=dataclasses.replace(NEW, settings={"env": spec["env"]}))
    declare(store, name="b", spec=spec | {"name": "b"})
    assert store.secret_uses() == {"token": ["b", "iris"]}
    with pytest.raises(Conflict, match="used by b, iris"):
        store.delete_secret("token", now=1.0, actor="ann")
    declare(store, spec={"name": "iris", "model": "m"})
    store.forget("b", now=1.0, actor="ann")
    with pytest.raises(Conflict, match="used by iris"):  # its version still runs with it
        store.delete_secret("token", now=1.0, actor="ann")
    declare(store, spec={"name": "iris", "model": "m"}, version=NEW)
    store.delete_secret("token", now=1.0, actor="ann")
    assert store.secrets() == []
    with pytest.raises(NotFound):
        store.delete_secret("token", now=1.0, actor="ann")


def test_keys(store: Store) -> None:
    first = store.add_key(a_key("aaaaaaaa"), now=5.0, actor="ann")
    assert store.keys() == [first] and first == a_key("aaaaaaaa")
    with pytest.raises(Conflict, match="already"):
        store.add_key(a_key("aaaaaaaa"), now=5.0, actor="ann")
    new = a_key("bbbbbbbb", created_at=6.0)
    with pytest.raises(Conflict):  # neither half of a rotation without the other
        store.rotate_key("aaaaaaaa", record=a_key("aaaaaaaa"), retires_at=9.0, now=6.0, actor="ann")
    assert store.keys() == [first]
    store.rotate_key("aaaaaaaa", record=new, retires_at=9.0, now=6.0, actor="ann", expected_revision=1)
    assert store.keys() == [dataclasses.replace(first, retires_at=9.0, revision=2), new]
    with pytest.raises(Conflict, match="rotated already"):
        store.rotate_key("aaaaaaaa", record=a_key("cccccccc"), retires_at=9.0, now=6.0, actor="ann")
    with pytest.raises(PreconditionFailed):
        store.revoke_key("bbbbbbbb", now=7.0, actor="ann", expected_revision=4)
    gone = store.revoke_key("bbbbbbbb", now=7.0, actor="ann")
    assert (gone.revoked_at, gone.revision) == (7.0, 2)
    assert store.revoke_key("bbbbbbbb", now=8.0, actor="ann") == gone
    assert store.retire_key("aaaaaaaa", 10.0, now=8.0, actor="ann").retires_at == 10.0
    store.touch_keys({"aaaaaaaa": 7.5, "unknown": 1.0})
    store.touch_keys({})
    assert store.key("aaaaaaaa").last_used_at == 7.5
    with pytest.raises(NotFound, match="keys list"):
        store.revoke_key("zzzzzzzz", now=7.0, actor="ann")
    assert [e.action for e in store.audit()] == ["key.create", "key.rotate", "key.revoke", "key.retire"]
    assert first.hash not in str(store.audit())


def test_events_in_pages_from_either_end(store: Store) -> None:
    for number in range(1, 8):
        name = "iris" if number % 2 else ""
        event = store.add_event(
            kind="version.ready", deployment=name, version=number, message="m", data={"n": number}, now=100.0 - number
        )
        assert event.id == number and event.data == {"n": number}
    ids = lambda **options: [event.id for event in store.events(**options)]  # noqa: E731
    assert ids() == [1, 2, 3, 4, 5, 6, 7]
    assert ids(limit=3) == [5, 6, 7]
    assert ids(before=5, limit=3) == [2, 3, 4]
    assert ids(after=2, limit=3) == [3, 4, 5]
    assert ids(after=2, before=5) == [3, 4]
    assert ids(deployment="iris", after=1) == [3, 5, 7]
    assert ids(after=10**30) == [] and ids(before=10**30) == ids() and ids(limit=-1) == []
    assert store.prune_events(2) == 5 and ids() == [6, 7]
    assert store.prune_events(2) == 0
    assert store.prune_events(0) == 2
    late = store.add_event(kind="k", deployment="", version=0, message="m", data={}, now=1.0)
    assert late.id == 8  # a follower that saw 7 does not miss it


def test_numbers_that_json_lacks_are_written_as_unknown(store: Store) -> None:
    odd = {"load": float("nan"), "deep": [float("inf"), (1.5, {"x": float("-inf")})]}
    plain = {"load": None, "deep": [None, [1.5, {"x": None}]]}
    event = store.add_event(kind="k", deployment="", version=0, message="", data=odd, now=1.0)
    assert event.data == plain
    odd_words = store.add_event(kind="k", deployment="", version=0, message="\0", data={}, now=1.0)
    assert store.events() == [event, odd_words]
    assert store.note(actor="a", action="b", target="", details=odd, now=1.0).details == plain
    assert store.verify_audit() is None
    with pytest.raises(TypeError, match="not JSON serializable"):  # whoever calls is wrong, and not the database
        declare(store, spec={"name": object()})


def test_answers_to_requests_that_may_be_repeated(store: Store) -> None:
    answer = IdempotentAnswer(key="k", fingerprint="f", status=201, headers={"etag": '"1"'}, body=b"\0{}", at=5.0)
    assert store.answer("k") is None
    assert store.remember_answer(answer) == answer == store.answer("k")
    assert store.remember_answer(dataclasses.replace(answer, status=500)) == answer
    with pytest.raises(Conflict, match="another request"):
        store.remember_answer(dataclasses.replace(answer, fingerprint="g"))
    assert store.forget_answers(5.0) == 0
    assert store.forget_answers(5.1) == 1 and store.answer("k") is None


def test_what_is_noted_is_noted_whole(store: Store) -> None:
    odd = {"n": 1.5, "text": "ü\0\ud800", "big": 2**70, "list": [None, True, {"x": -0.0}]}
    entry = store.note(actor="\0ann\ud800", action="login.failed", target="", details=odd, now=7)
    assert (entry.seq, entry.at, entry.actor) == (1, 7.0, "\ufffdann?")
    assert store.audit() == [entry]
    for _ in range(3):
        store.note(actor="a", action="b", target="c", details={}, now=1.0)  # a clock that was set back
    assert [e.seq for e in store.audit(after=1, limit=2)] == [2, 3]
    assert store.audit(after=10**30) == []
    assert store.verify_audit() is None


@pytest.mark.parametrize("statement", [
    "UPDATE slipway_audit SET actor = 'eve'",
    "DELETE FROM slipway_audit WHERE seq = 2",
    "INSERT OR REPLACE INTO slipway_audit SELECT 2, at, 'eve', action, target, details, previous, hash "
    "FROM slipway_audit WHERE seq = 2",
    "TRUNCATE slipway_audit",
])  # fmt: skip
def test_the_database_refuses_to_change_the_audit_log(database: Database, store: Store, statement: str) -> None:
    for _ in range(3):
        store.note(actor="a", action="b", target="c", details={}, now=1.0)
    with pytest.raises(Exception, match=r"append-only|syntax error"):  # each database lacks a word of the other
        database.sql(statement)
    assert store.verify_audit() is None and {e.actor for e in store.audit()} == {"a"}


@pytest.mark.parametrize(("tampering", "broken"), [
    ("UPDATE slipway_audit SET actor = 'eve' WHERE seq = 3", 3),
    ("UPDATE slipway_audit SET details = '{\"a\":1}' WHERE seq = 5", 5),
    ("DELETE FROM slipway_audit WHERE seq = 2", 2),
    ("DELETE FROM slipway_audit WHERE seq = 1", 1),
    ("DELETE FROM slipway_audit WHERE seq >= 4", 4),
    ("DELETE FROM slipway_audit", 1),
    ("UPDATE slipway_audit SET seq = -seq; UPDATE slipway_audit SET seq = CASE seq WHEN -2 THEN 3 WHEN -3 THEN 2 "
     "ELSE -seq END", 2),
    ("DELETE FROM slipway_audit WHERE seq = 3; UPDATE slipway_audit SET seq = seq - 1 WHERE seq > 3", 3),
    ("INSERT INTO slipway_audit SELECT 6, at, actor, action, target, details, hash, hash FROM slipway_audit "
     "WHERE seq = 5", 6),
])  # fmt: skip
def test_tampering_with_the_audit_log_shows(database: Database, store: Store, tampering: str, broken: int) -> None:
    for number in range(5):
        store.note(actor="ann", action="b", target="c", details={"n": number}, now=1.0)
    assert store.verify_audit() is None
    if database.kind == "sqlite":  # somebody who owns the database can take the guard away
        for trigger in ("no_update", "no_delete", "at_end"):
            database.sql(f"DROP TRIGGER slipway_audit_{trigger}")
    else:
        database.sql("ALTER TABLE slipway_audit DISABLE TRIGGER ALL")
    for statement in tampering.split("; "):
        database.sql(statement)
    assert store.verify_audit() == broken


def test_only_the_leader_changes_anything(database: Database, store: Store) -> None:
    other = database.open()
    mine = store.lease(holder="one", ttl_s=60)
    assert (mine.holder, mine.epoch) == ("one", 1)
    assert other.lease(holder="two", ttl_s=60) == mine
    again = store.lease(holder="one", ttl_s=60)
    assert again.epoch == 1 and again.expires_at >= mine.expires_at
    store.fence = mine.epoch
    declare(store, version=NEW)

    other.release_lease("two")  # not its own
    assert other.lease(holder="two", ttl_s=60).holder == "one"
    store.release_lease("one")
    with pytest.raises(NotLeader, match="nobody leads"):
        declare(store)
    theirs = other.lease(holder="two", ttl_s=60)
    assert theirs.holder == "two" and theirs.epoch > mine.epoch
    other.fence = theirs.epoch
    before = (store.deployments(), store.all_versions(), store.audit(), store.events(), store.keys())
    for change in every_change(store):
        with pytest.raises(NotLeader, match="'two' leads"):
            change()
    assert (store.deployments(), store.all_versions(), store.audit(), store.events(), store.keys()) == before
    assert declare(other, expected_revision=1).revision == 2
    store.fence = None
    assert declare(store).revision == 3  # no fence, no check


def every_change(store: Store) -> list[Any]:
    who: dict[str, Any] = {"now": 1.0, "actor": "x"}
    return [
        lambda: declare(store, version=NEW),
        lambda: store.set_live("iris", live=1, **who),
        lambda: store.set_target("iris", target=0, **who),
        lambda: store.mark_deleting("iris", **who),
        lambda: store.forget("iris", **who),
        lambda: store.set_version("iris", 1, state="failed", now=1.0),
        lambda: store.add_event(kind="k", deployment="", version=0, message="", data={}, now=1.0),
        lambda: store.prune_events(0),
        lambda: store.note(action="a", target="", details={}, **who),
        lambda: store.remember_answer(IdempotentAnswer(key="k", fingerprint="", status=1, headers={}, body=b"", at=1)),
        lambda: store.forget_answers(1e12),
        lambda: store.add_key(a_key("aaaaaaaa"), **who),
        lambda: store.rotate_key("aaaaaaaa", record=a_key("bbbbbbbb"), retires_at=1.0, **who),
        lambda: store.revoke_key("aaaaaaaa", **who),
        lambda: store.retire_key("aaaaaaaa", 1.0, **who),
        lambda: store.touch_keys({"aaaaaaaa": 1.0}),
        lambda: store.put_user("u", hash="h", scopes=[], **who),
        lambda: store.delete_user("u", **who),
        lambda: store.touch_users({"u": 1.0}),
        lambda: store.put_secret("s", sealed=b"1", **who),
        lambda: store.delete_secret("s", **who),
    ]


def test_a_lease_that_nobody_renews_goes_to_who_asks(database: Database, store: Store) -> None:
    other = database.open()
    first = store.lease(holder="one", ttl_s=0.05)
    while (now := other.lease(holder="two", ttl_s=60)).holder == "one":
        assert now == first  # by the database's clock, so no sleeping here
    assert now.epoch == first.epoch + 1
    assert store.lease(holder="one", ttl_s=60) == now


def test_five_hundred_deployments_are_read_in_two_queries(database: Database, store: Store) -> None:
    from sqlalchemy import event

    for number in range(20):
        declare(store, name=f"d{number:03}", version=NEW)
    asked: list[str] = []
    engine = store._database._engine
    event.listen(engine, "before_cursor_execute", lambda *call: asked.append(call[2]))
    assert len(store.deployments()) == len(store.all_versions()) == 20
    assert len([statement for statement in asked if "FROM slipway_" in statement]) == 2
    plan = "EXPLAIN QUERY PLAN " if database.kind == "sqlite" else "SET enable_seqscan = off; EXPLAIN "
    asking = "SELECT * FROM slipway_events WHERE deployment = 'iris' AND id > 5 ORDER BY id LIMIT 100"
    assert "slipway_events_of" in str(database.sql(plan + asking))


def test_a_closed_store_opens_again_when_asked(store: Store) -> None:
    declare(store)
    store.close()
    assert store.deployment("iris").revision == 1


def test_what_fails_in_the_middle_leaves_nothing(database: Database, store: Store) -> None:
    """The audit log, the last step of a change, is what fails."""
    declare(store)
    database.sql("ALTER TABLE slipway_audit RENAME TO elsewhere")
    with pytest.raises(StoreUnavailable, match="lost its tables"):
        declare(store, version=NEW)
    database.sql("ALTER TABLE elsewhere RENAME TO slipway_audit")
    assert store.deployment("iris").revision == 1 and store.versions("iris") == []
    assert declare(store, version=NEW).revision == 2
    assert store.verify_audit() is None
