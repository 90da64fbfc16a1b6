"""The management client against a real management API, blocking and awaited alike."""

from __future__ import annotations

import asyncio
import inspect
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from api_stand import Stand, standing, wait_for

from slipway import Admin, AsyncAdmin, errors
from slipway.client import admin_calls
from slipway.client.admin_deploy import Step
from slipway.client.retry import Retry
from slipway.controller.api.listening import AdminProtocol
from slipway.spec.deployment import DeploymentSpec, Replicas
from slipway.spec.resources import Event


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    with standing(tmp_path_factory.mktemp("stand"), required=True) as made:
        yield made


class AwaitingAdmin:
    """An AsyncAdmin used like a blocking one, so that one test serves both."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        self._loop = asyncio.new_event_loop()
        self._admin = AsyncAdmin(*args, **settings)

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._admin, name)
        if name.startswith("follow_"):
            return lambda *args, **kwargs: self._follow(method(*args, **kwargs))
        return lambda *args, **kwargs: self._loop.run_until_complete(method(*args, **kwargs))

    def _follow(self, items: Any) -> Iterator[Any]:
        try:
            while True:
                yield self._loop.run_until_complete(anext(items))
        except StopAsyncIteration:
            return
        finally:
            self._loop.run_until_complete(items.aclose())

    def __enter__(self) -> AwaitingAdmin:
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.run_until_complete(self._admin.close())
        self._loop.close()


KINDS = {"blocking": Admin, "asyncio": AwaitingAdmin}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Any:
    return KINDS[request.param]


@pytest.fixture
def admin(kind: Any, stand: Stand) -> Iterator[Any]:
    with kind(stand.url, stand.owner_key, timeout_s=20) as made:
        yield made


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """One for each test and kind."""
    return "".join(char if char.isalnum() else "-" for char in request.node.name).strip("-")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "iris model.onnx"
    path.write_bytes(os.urandom(3_000_000))
    return path


def test_both_clients_have_the_same_methods() -> None:
    ours = {name: one for name, one in vars(Admin).items() if not name.startswith("_") and callable(one)}
    assert len(ours) > 35
    for name, one in ours.items():
        other = getattr(AsyncAdmin, name)
        assert inspect.signature(one).parameters.keys() == inspect.signature(other).parameters.keys(), name
        assert one.__doc__, name
        assert "AdminTalk" not in str(inspect.signature(one)), name


def test_what_is_there(admin: Any, stand: Stand) -> None:
    assert admin.whoami().kind == "owner"
    status = admin.status()
    assert (status.state, status.auth, status.addresses.admin) == ("ready", "required", stand.url)
    assert admin.schema()["title"] == "Slipway deployment"
    assert "slipway_" in admin.metrics()
    assert isinstance(admin.routes(), list)


def test_a_model_from_this_machine_to_requests_and_back(admin: Any, name: str, model: Path) -> None:
    steps: list[Step] = []
    made = admin.deploy(model, name=name, wait=True, progress=steps.append)
    assert (made.change, made.live, made.state) == ("created", "v1", "ready")
    stages = [step.stage for step in steps]
    assert stages[0] == "hashing" and "uploading" in stages and stages[-1] == "live"
    assert [step.done_bytes for step in steps if step.stage == "uploading"][-1] == 3_000_000
    (version,) = admin.versions(name)
    assert admin.artifact(version.digest).missing == []
    assert version.digest in [one.digest for one in admin.artifacts()]

    again = admin.deploy(model, name=name, wait=True, progress=steps.append)
    assert again.change == "unchanged"
    assert "uploading" not in [step.stage for step in steps[len(stages) :]]

    spec = DeploymentSpec(name, str(model), replicas=Replicas(min=2), runtime="onnx")
    planned = admin.deploy(spec, dry_run=True)
    assert (planned.change, admin.deployment(name).revision) == ("new_version", again.revision)
    swapped = admin.deploy(spec, wait=True)
    assert (swapped.change, swapped.live) == ("new_version", "v2")
    assert admin.version(name, "v2").settings["runtime"] == "onnx"

    kept = admin.deploy(model, name=name, new_version=True, wait=True)
    assert (kept.live, kept.spec["runtime"], kept.spec["replicas"]) == ("v3", "onnx", {"min": 2})

    held = admin.deploy(spec, new_version=True, hold=True, wait=True)
    assert (held.live, held.target) == ("v3", "v4")
    assert admin.promote(name).target == "v4"
    assert admin.wait(name).live == "v4"
    back = admin.rollback(name, to="v1")
    assert admin.wait(name, version=back.target).live == "v1"
    assert admin.scale(name, 3).spec["replicas"]["min"] == 3
    admin.stop(name)
    assert admin.wait(name).state == "stopped"
    admin.start(name)
    assert admin.wait(name).state == "ready"
    assert [one.revision for one in admin.history(name, limit=2)] == [
        admin.deployment(name).revision,
        admin.deployment(name).revision - 1,
    ]
    assert {one.deployment for one in admin.replicas(name)} == {name}
    assert (name, "v1", True) in [(one.model, one.version, one.live) for one in admin.routes()]
    admin.delete(name, wait=True)
    with pytest.raises(errors.NotFound):
        admin.deployment(name)


def test_a_spec_file_with_paths_beside_it(admin: Any, name: str, tmp_path: Path) -> None:
    folder = tmp_path / "specs"
    (folder / "model").mkdir(parents=True)
    (folder / "model" / "weights.onnx").write_bytes(os.urandom(1000))
    (folder / "labels.txt").write_text("setosa\n")
    (folder / "spec.yaml").write_text(
        f"name: {name}\nmodel: ./model\nfiles: {{labels.txt: ./labels.txt}}\nlabels: {{team: fruit}}\n"
    )
    made = admin.deploy(folder / "spec.yaml", wait=True)
    assert (made.name, made.live) == (name, "v1")
    (version,) = admin.versions(name)
    assert version.settings["files"]["labels.txt"].startswith("sha256:")
    assert name in [one.name for one in admin.deployments(labels={"team": "fruit"})]
    (folder / "labels.txt").write_text("setosa\nversicolor\n")
    assert admin.deploy(folder / "spec.yaml").change == "new_version"


def test_a_path_that_the_server_finds_by_itself(admin: Any, name: str, model: Path) -> None:
    made = admin.deploy(model, name=name, upload=False, wait=True)
    assert made.live == "v1"
    assert admin.versions(name)[0].source == str(model)


def test_a_model_gets_its_files_name(admin: Any, tmp_path: Path, name: str) -> None:
    path = tmp_path / f"_{name} (2).onnx"
    path.write_bytes(b"x")
    assert admin.deploy(path, dry_run=True).name == f"{name}-2"
    assert admin.deploy("my.models:Ranker", dry_run=True).name == "Ranker"


def test_a_version_that_fails_is_told_in_the_models_words(admin: Any, name: str, model: Path, stand: Stand) -> None:
    admin.deploy(model, name=name, wait=True)
    stand.call(lambda: stand.supervisor.fail(name, "v2", "KeyError: 'weights'"))
    with pytest.raises(errors.LoadFailure, match=rf"{name} v2 failed: .*KeyError: 'weights'"):
        admin.deploy(model, name=name, new_version=True, wait=True)
    assert admin.deployment(name).live == "v1"


def test_waiting_ends(admin: Any, name: str, model: Path, stand: Stand) -> None:
    stand.supervisor.paused = True
    try:
        with pytest.raises(errors.DeadlineExceeded, match=f"{name} v1 is loading after 0.3 s"):
            admin.deploy(model, name=name, wait=True, timeout_s=0.3)
    finally:
        stand.supervisor.paused = False
    assert admin.wait(name).live == "v1"
    with pytest.raises(errors.InvalidInput, match="until is 'done'"):
        admin.wait(name, until="done")


def test_what_was_seen_is_what_is_changed(admin: Any, name: str, model: Path) -> None:
    first = admin.deploy(model, name=name, expected_revision=0)
    with pytest.raises(errors.PreconditionFailed):
        admin.deploy(model, name=name, expected_revision=0)
    admin.scale(name, 2, expected_revision=first.revision)
    for change in (
        lambda: admin.scale(name, 3, expected_revision=first.revision),
        lambda: admin.stop(name, expected_revision=first.revision),
        lambda: admin.delete(name, expected_revision=first.revision),
    ):
        with pytest.raises(errors.PreconditionFailed):
            change()


@pytest.mark.parametrize(
    ("act", "error", "words"),
    [
        (lambda admin: admin.deployment("nope"), errors.NotFound, "nope"),
        (lambda admin: admin.deployment("../keys"), errors.InvalidInput, "cannot name a deployment"),
        (lambda admin: admin.deployment(""), errors.InvalidInput, "cannot name a deployment"),
        (lambda admin: admin.deploy("missing.onnx"), errors.NotFound, "nothing is there on this machine"),
        (lambda admin: admin.deploy({"name": "a", "model": "m:C", "modle": "x"}), errors.InvalidSpec, "did you mean"),
        (lambda admin: admin.create_key("ci", scopes=["root"]), errors.InvalidSpec, "no such scope"),
        (lambda admin: admin.delete_secret("nope"), errors.NotFound, "nope"),
        (lambda admin: admin.artifact("latest"), errors.InvalidInput, "is no digest"),
        (lambda admin: list(admin.follow_logs("nope")), errors.NotFound, "nope"),
        (lambda admin: next(admin.follow_events("nope")), errors.NotFound, "nope"),
    ],
)
def test_errors_are_classes_with_the_servers_words(admin: Any, act: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        act(admin)


def test_all_mistakes_of_a_spec_are_told(admin: Any) -> None:
    with pytest.raises(errors.InvalidSpec) as caught:
        admin.deploy({"name": "a", "model": "my:Model", "batching": {"max_rows": 0}, "queue": {"rows": -1}})
    assert len(caught.value.problems) == 2


def test_who_may_not_is_told_so(kind: Any, stand: Stand) -> None:
    key = stand.key("narrow", "deploy:only-this")
    with kind(stand.url, key) as admin:
        assert (admin.whoami().name, admin.whoami().scopes) == ("narrow", ["deploy:only-this"])
        with pytest.raises(errors.Forbidden, match="scope admin"):
            admin.keys()
    with kind(stand.url, "sw_aaaaaaaa_" + "b" * 43) as admin, pytest.raises(errors.SlipwayError) as caught:
        admin.status()
    assert isinstance(caught.value, errors.Unauthenticated | errors.RateLimited)


def test_users_come_in_by_name_and_password(kind: Any, admin: Any, stand: Stand) -> None:
    admin.put_user("ann", password="pässwörd of ann", scopes=["admin"])
    with kind(stand.url, user="ann", password="pässwörd of ann") as as_ann:
        assert as_ann.whoami().name == "ann"
    assert "ann" in [user.name for user in admin.users()]
    admin.delete_user("ann")
    assert "ann" not in [user.name for user in admin.users()]


def test_keys_and_secrets(admin: Any, name: str) -> None:
    made = admin.create_key(name, scopes=["predict:iris"], expires_in_s=3600)
    assert made.secret.startswith("sw_") and made.expires_at is not None
    rotated = admin.rotate_key(made.id, overlap_s=60)
    assert rotated.secret != made.secret
    admin.revoke_key(rotated.id)
    states = {key.id: key for key in admin.keys()}  # noqa: SIM118
    assert states[made.id].retires_at is not None and states[rotated.id].revoked_at is not None
    admin.put_secret(name, "hidden value")
    assert [secret.used_by for secret in admin.secrets() if secret.name == name] == [[]]
    admin.delete_secret(name)
    assert admin.verify_audit().broken_at is None
    log = admin.audit(limit=10_000)
    assert [entry.seq for entry in log] == list(range(1, len(log) + 1))
    assert admin.audit(after=1, limit=2) == log[1:3]
    assert admin.audit(limit=2) == log[-2:]
    assert "hidden value" not in str(log)


def test_events_as_they_happen(admin: Any, name: str, model: Path) -> None:
    admin.deploy(model, name=name, wait=True)
    stored = admin.events(name, limit=1000)
    followed: Iterator[Event] = admin.follow_events(name, after=0)
    assert [next(followed) for _ in stored] == stored
    admin.deploy(model, name=name, new_version=True, wait=True)
    kinds = []
    while "version.live" not in kinds:
        kinds.append(next(followed).kind)
    assert kinds[0].startswith("deployment.")
    followed.close()  # type: ignore[attr-defined]
    assert [event.id for event in admin.events(name, after=stored[-1].id)] > [stored[-1].id]
    assert admin.events(name, limit=3) == admin.events(name, limit=1000)[-3:]


def test_long_lists_come_in_order(admin: Any, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admin_calls, "PAGE_ITEMS", 2)
    for number in range(5):
        admin.put_secret(f"{name}-{number}", "x")
    names = [secret.name for secret in admin.secrets() if secret.name.startswith(name)]
    assert names == [f"{name}-{number}" for number in range(5)]
    log = admin.audit(limit=5)
    assert [entry.seq for entry in log] == list(range(log[0].seq, log[0].seq + 5))
    assert admin.audit(after=log[0].seq) == admin.audit(limit=1000)[-4:] == log[1:]
    events = admin.events(limit=5)
    assert [event.id for event in events] == sorted(event.id for event in events)


def test_logs(admin: Any, name: str, model: Path, stand: Stand) -> None:
    admin.deploy(model, name=name)
    path = stand.folder / "data" / "logs" / name / "v1-1.log"
    path.parent.mkdir(parents=True)
    path.write_text("one\ntwo\nthree\n")
    assert admin.logs(name, tail=2) == "two\nthree\n"
    followed = admin.follow_logs(name, tail=1)
    assert next(followed) == "three"
    with path.open("a") as file:
        file.write("four\n")
    assert next(followed) == "four"
    followed.close()


def test_a_change_is_made_once_though_the_answer_was_lost(admin: Any, name: str, stand: Stand) -> None:
    """The first answer never arrives: the server closes the connection instead."""
    real, calls = stand.controller.commands.create_key, []

    async def counted(*args: Any, **kwargs: Any) -> Any:
        calls.append(args)
        return await real(*args, **kwargs)

    begin, lost = AdminProtocol.on_headers_complete, []

    def cut(self: Any) -> None:
        begin(self)
        if self.scope["path"] == "/api/v1/keys" and self.scope["method"] == "POST" and not lost:
            lost.append(self)
            self.cycle.transport = HangsUp(self.transport)

    stand.controller.commands.create_key = counted  # type: ignore[method-assign]
    AdminProtocol.on_headers_complete = cut  # type: ignore[method-assign]
    try:
        made = admin.create_key(name, scopes=["admin"])
    finally:
        AdminProtocol.on_headers_complete = begin  # type: ignore[method-assign]
        stand.controller.commands.create_key = real  # type: ignore[method-assign]
    assert lost and len(calls) == 1
    assert made.secret
    assert [key.name for key in admin.keys()].count(name) == 1  # noqa: SIM118


class HangsUp:
    """A transport that does so instead of writing."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def write(self, _: bytes) -> None:
        self._inner.abort()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def test_calls_wait_for_a_controller_that_restarts(kind: Any, tmp_path: Path) -> None:
    with standing(tmp_path) as first:
        port, url = first.port, first.url
        first.deploy("iris")
        first.wait_live("iris", "v1")
    with kind(url, retry=Retry(attempts=60, longest_wait_s=0.2), timeout_s=20) as admin:
        again = standing(tmp_path, port=port)
        stand: list[Stand] = []
        begin = threading.Timer(0.3, lambda: stand.append(again.__enter__()))
        begin.start()
        try:
            assert [one.name for one in admin.deployments()] == ["iris"]
        finally:
            begin.join()
            wait_for(lambda: stand)
            again.__exit__(None, None, None)


def test_followers_go_on_after_a_restart(kind: Any, tmp_path: Path) -> None:
    with standing(tmp_path) as first:
        port, url = first.port, first.url
        with kind(url, retry=Retry(attempts=100, longest_wait_s=0.1)) as admin:
            followed = admin.follow_events(after=0)
            seen = [next(followed)]
            first.deploy("iris")
            first.wait_live("iris", "v1")
            first.end()
            following = threading.Thread(target=lambda: seen.extend(next(followed) for _ in range(9)))
            following.start()
            wait_for(lambda: not _listens(port))
            with standing(tmp_path, port=port) as second:
                second.deploy("iris", batching={"max_rows": 2})
                second.wait_live("iris", "v2")
                following.join(20)
                stored = [event["id"] for event in second.web.get("/api/v1/events?limit=1000").json()["items"]]
            assert [event.id for event in seen] == stored[: len(seen)]
            assert len(seen) == 10
            followed.close()


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def test_nobody_there_is_said_clearly(kind: Any) -> None:
    with kind("http://127.0.0.1:1", retry=Retry(attempts=1)) as admin:
        with pytest.raises(errors.Unavailable, match=r"cannot reach http://127\.0\.0\.1:1"):
            admin.status()
        with pytest.raises(errors.Unavailable, match=r"cannot reach http://127\.0\.0\.1:1"):
            next(admin.follow_events())


def test_another_server_is_said_clearly(kind: Any, tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("hello")
    code = f"""
import functools, http.server
handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory={str(tmp_path)!r})
with http.server.HTTPServer(("127.0.0.1", 0), handler) as server:
    print(server.server_port, flush=True)
    server.serve_forever()
"""
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as other:
        try:
            assert other.stdout is not None
            with kind(f"http://127.0.0.1:{int(other.stdout.readline())}") as admin:
                with pytest.raises(errors.NotFound):
                    admin.status()
                with pytest.raises(errors.SlipwayError):
                    admin.scale("iris", 1)
        finally:
            other.kill()


def test_the_client_costs_no_server(stand: Stand) -> None:
    code = (
        "import sys, slipway\n"
        f"admin = slipway.Admin({stand.url!r}, {stand.owner_key!r})\n"
        "admin.status()\n"
        "print([name for name in ('fastapi', 'starlette', 'uvicorn', 'sqlalchemy', 'numpy', 'pydantic', 'aiohttp')"
        " if name in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "[]"


def test_resources_survive_the_journey(admin: Any, name: str, model: Path, stand: Stand) -> None:
    admin.deploy(model, name=name, wait=True)
    (told,) = stand.do(lambda: stand.controller.commands.versions(name))
    assert replace(admin.versions(name)[0], replicas=[]) == replace(told, replicas=[])
