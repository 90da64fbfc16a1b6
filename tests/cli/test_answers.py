"""What the reading verbs print, for people and for programs."""

from __future__ import annotations

import time
from typing import Any

import msgspec
import pytest
import yaml
from cli_stage import (
    Asked,
    Reply,
    Shell,
    StubServer,
    a_deployment,
    a_replica,
    a_version,
    in_turn,
    on_its_way,
    status_of,
)

from slipway.errors import NotFound
from slipway.spec.reading import read_spec
from slipway.spec.resources import AuditCheck, AuditEntry, Deployment, Event, Page, Revision, ServerStatus

NOW = time.time()


def test_status_is_a_table_of_everything(shell: Shell, server: StubServer) -> None:
    broken = a_version("shop", 2, state="failed", error="OSError: weights.bin is cut off", replicas=[])
    shop = a_deployment(
        "shop",
        state="degraded",
        live="v1",
        target="v2",
        versions=[
            broken,
            a_version("shop", replicas=[
                a_replica("shop", index=1, device="cuda:0"),
                a_replica("shop", index=2, state="backing_off", trouble="killed by SIGSEGV; next try in 3 s", pid=0),
            ]),
        ],
    )  # fmt: skip
    idle = a_deployment("idle", state="stopped", live="v4", target="v4", versions=[], spec={"enabled": False})
    server.put(a_deployment(), shop, idle)
    said = shell.run("status")
    assert said.status == 0
    lines = [line.split() for line in said.out.splitlines()]
    assert said.out.startswith("ready for 1h: Slipway 0.1.0, process 3997, leads")
    assert "  3 deployments: 1 degraded, 1 ready, 1 stopped" in said.out.splitlines()
    assert ["#1", "3999", "ready", "0", "80M", "1.5s"] in lines
    assert ["iris", "ready", "v1", "live", "1/1", "4001", "cpu", "120M", "25%"] in lines
    assert ["#1", "ready", "4001", "cuda:0", "120M", "25%"] in lines
    assert any(
        "#2 backing_off" in line and "killed by SIGSEGV; next try in 3 s" in line for line in said.out.splitlines()
    )
    assert any("v2" in line and "failed" in line and "weights.bin is cut off" in line for line in said.out.splitlines())
    assert ["idle", "stopped", "v4", "0/0"] in lines


def test_status_json_is_the_resource(shell: Shell, server: StubServer) -> None:
    server.put(a_deployment())
    said = shell.run("status", "-o", "json")
    assert msgspec.convert(said.json, ServerStatus) == status_of(a_deployment())
    said = shell.run("status", "iris", "-o", "yaml")
    assert msgspec.convert(yaml.safe_load(said.out), Deployment) == a_deployment()


def test_status_of_one_tells_why(shell: Shell, server: StubServer) -> None:
    old = a_version(number=1, state="stopped")
    live = a_version(number=2, replicas=[a_replica(version="v2", restarts=3, last_end="out of memory (612 MB)")])
    coming = a_version(number=3, state="fetching", progress=0.4, platform="")
    one = a_deployment(
        state="deploying", reason="v3 is on its way", live="v2", target="v3", versions=[coming, live, old],
        spec={"model": "s3://models/iris.onnx", "labels": {"team": "fruit"}, "replicas": {"min": 2}},
    )  # fmt: skip
    server.put(one)
    said = shell.run("status", "iris")
    assert said.out.startswith("iris: deploying, v3 is on its way")
    assert "  live     v2, v3 is on its way" in said.out
    assert "  replicas 1/2 ready" in said.out
    assert "  label    team=fruit" in said.out
    assert "v3  fetching 40%" in said.out
    assert "the one before ended: out of memory (612 MB)" in said.out
    assert "sha256:" in said.out
    assert "1 earlier version not shown" in said.out
    assert "v1  stopped" in shell.run("status", "iris", "--all").out


@pytest.mark.parametrize(("state", "status"), [("ready", 0), ("stopped", 0), ("degraded", 1), ("failed", 1)])
def test_status_check_is_for_scripts(shell: Shell, server: StubServer, state: str, status: int) -> None:
    server.put(a_deployment(state=state, reason="its replica ended"))
    said = shell.run("status", "iris", "--check")
    assert said.status == status
    assert (f"error: deployment 'iris' is {state}: its replica ended" in said.err) == bool(status)


def test_a_url_in_the_place_of_a_name_is_told_where_it_belongs(shell: Shell) -> None:
    said = shell.run("status", "http://127.0.0.1:8082")
    assert said.status == 2
    assert "--server http://127.0.0.1:8082" in said.err


def test_what_a_server_says_moves_no_cursor(shell: Shell, server: StubServer) -> None:
    server.put(a_deployment(state="failed", reason="\x1b[2J\rall is well\n"))
    said = shell.run("status", "iris")
    assert "\x1b" not in said.out
    assert "\\x1b[2J\\rall is well" in said.out


def test_hundreds_of_deployments_are_listed_by_one_look(shell: Shell, server: StubServer) -> None:
    server.put(*(a_deployment(f"m-{n:03}") for n in range(400)))
    said = shell.run("status")
    assert sum(line.startswith("m-") for line in said.out.splitlines()) == 400
    assert len(server.asked) == 1


def test_list_and_its_labels(shell: Shell, server: StubServer) -> None:
    assert "No deployments here that you may see" in _none(shell, server)
    server.put(a_deployment(), on_its_way("loading"))
    said = shell.run("list", "--label", "team=fruit", "--label", "stage=prod")
    assert said.out.splitlines()[0].split() == ["NAME", "STATE", "LIVE", "NEXT", "REPLICAS", "MODEL", "UPDATED", "BY"]
    assert server.asked[-1].path == "/api/v1/deployments"
    assert shell.run("list", "--label", "team").status == 2
    assert [one["name"] for one in shell.run("ls", "-o", "json").json] == ["iris", "iris"]


def _none(shell: Shell, server: StubServer) -> str:
    server.put()
    return shell.run("list").out


def test_get_gives_a_spec_that_deploy_takes_back(shell: Shell, server: StubServer) -> None:
    spec = {"name": "iris", "model": "./iris.onnx", "replicas": {"min": 2}, "env": {"A": "007"}}
    server.put(a_deployment(spec=spec))
    said = shell.run("get", "iris")
    again = read_spec(said.out)
    assert (again.replicas.min, again.env) == (2, {"A": "007"})
    assert said.out.startswith("apiVersion: slipway.dev/v1\nname: iris\n")
    server.put(a_deployment(spec=spec | {"colour": "red"}))
    assert "colour: red" in shell.run("get", "iris").out, "a field of a newer server"


def test_history(shell: Shell, server: StubServer) -> None:
    revisions = [
        Revision(revision=2, at=1.7e9, actor="user ada", action="scale", version="v1", changes=["replicas.min: 1 → 2"]),
        Revision(revision=1, at=1.7e9, actor="owner", action="deploy", version="v1", changes=[]),
    ]
    server.routes["GET", "/deployments/iris/history"] = Page(items=revisions)
    said = shell.run("history", "iris", "--limit", "7")
    assert server.asked[-1].query["limit"] == "7"
    assert "2         2023-11-14T22:13:20Z  user ada  scale   v1       replicas.min: 1 → 2" in said.out.splitlines()
    assert msgspec.convert(shell.run("history", "iris", "-o", "json").json, list[Revision]) == revisions


def test_logs_as_they_were_written_but_for_what_moves_the_cursor(shell: Shell, server: StubServer) -> None:
    server.routes["GET", "/deployments/iris/logs"] = "loaded \x1b[32mfine\x1b[0m\n\x07beep\x1b]0;title\n"
    said = shell.run("logs", "iris", "--version", "v2", "--tail", "5")
    assert server.asked[-1].query == {"version": "v2", "tail": "5"}
    assert said.out.splitlines() == ["loaded \x1b[32mfine\x1b[0m", "\\x07beep\\x1b]0;title"]
    assert [msgspec.json.decode(line) for line in shell.run("logs", "iris", "-o", "json").out.splitlines()][1] == {
        "line": "\x07beep\x1b]0;title"
    }


def test_events(shell: Shell, server: StubServer) -> None:
    events = [
        Event(id=n, at=1.7e9, kind="version.ready", deployment="iris", version="v2", message="2 of 2") for n in (1, 2)
    ]
    server.put(a_deployment())
    server.routes["GET", "/events"] = Page(items=events)
    said = shell.run("events", "iris")
    assert said.out.splitlines()[1] == "2023-11-14T22:13:20Z  version.ready  iris        v2       2 of 2"
    assert msgspec.convert(shell.run("events", "-o", "json").json, list[Event]) == events
    server.routes["GET", "/deployments/isis"] = in_turn(NotFound("there is no 'isis'; did you mean 'iris'?"))
    assert shell.run("events", "isis").status == 3


def test_audit_and_its_proof(shell: Shell, server: StubServer) -> None:
    entry = AuditEntry(
        seq=1, at=1.7e9, actor="owner", action="deploy", target="iris", details={"revision": 1}, previous="", hash="ab"
    )
    server.routes["GET", "/audit"] = Page(items=[entry])
    assert "1    2023-11-14T22:13:20Z  owner  deploy  iris  revision=1" in shell.run("audit").out
    server.routes["GET", "/audit/verify"] = AuditCheck(broken_at=None)
    whole = shell.run("audit", "--verify")
    assert (whole.status, "is whole" in whole.out) == (0, True)
    server.routes["GET", "/audit/verify"] = AuditCheck(broken_at=17)
    broken = shell.run("audit", "--verify", "-o", "json")
    assert (broken.status, broken.json) == (1, {"broken_at": 17})
    assert "broken at entry 17" in broken.err


def test_whoami_says_whence(shell: Shell) -> None:
    said = shell.run("whoami")
    assert said.out.startswith("key 'ci' at http://127.0.0.1:")
    assert said.out.rstrip().endswith("(from SLIPWAY_SERVER), who may admin")


def test_version_needs_no_server(shell: Shell) -> None:
    said = shell.run("version", "-o", "json", SLIPWAY_SERVER="not a url")
    assert said.json["slipway"] == "0.1.0"


@pytest.mark.parametrize("verb", [["scale", "iris", "3"], ["stop", "iris"], ["start", "iris"], ["rollback", "iris"]])
def test_a_change_without_waiting_says_that_it_goes_on(shell: Shell, server: StubServer, verb: list[str]) -> None:
    server.routes["POST", f"/deployments/iris/{verb[0]}"] = on_its_way("loading")
    said = shell.run(*verb, "--no-wait")
    assert said.status == 0, said.err
    assert "iris is deploying" in said.out
    assert server.asked[-1].headers["idempotency-key"]


def test_scale_and_rollback_say_what_they_were_told(shell: Shell, server: StubServer) -> None:
    told: list[Any] = []

    def done(asked: Asked) -> Deployment:
        told.append(asked.body)
        return a_deployment(spec={"replicas": {"min": 3}})

    server.put(a_deployment(spec={"replicas": {"min": 3}}))
    server.routes["POST", "/deployments/iris/scale"] = server.routes["POST", "/deployments/iris/rollback"] = done
    assert "iris has 3 replicas" in shell.run("scale", "iris", "3").out
    assert "iris runs v1 again" in shell.run("rollback", "iris", "--to", "v1").out
    assert told == [{"replicas": 3}, {"to": "v1"}]


def test_of_a_deployment_that_never_ran_the_last_failure_is_shown(shell: Shell, server: StubServer) -> None:
    failed = [a_version(number=n, state="failed", error=f"no weights, try {n}", replicas=[]) for n in (1, 2)]
    there = a_deployment(state="failed", reason="v2: no weights, try 2", live="", target="", versions=failed)
    server.routes["GET", "/deployments/iris"] = there
    said = shell.run("status", "iris").out
    assert "v2  failed" in said
    assert "error    no weights, try 2" in said
    assert "1 earlier version not shown" in said


def test_a_version_that_is_held_waits_for_its_promotion(shell: Shell, server: StubServer) -> None:
    both = [a_version(number=1, replicas=[a_replica()]), a_version(number=2, state="ready", replicas=[a_replica()])]
    server.routes["GET", "/deployments/iris"] = a_deployment(target="v2", versions=both)
    said = shell.run("status", "iris").out
    assert "live     v1, v2 waits for `slipway promote iris`" in said
    assert "replicas 1/1 ready" in said, "of what serves"


def test_the_servers_log_is_named_only_where_it_says_more(shell: Shell, server: StubServer) -> None:
    def problem(status: int, code: str) -> Reply:
        body = {"title": code, "status": status, "detail": "no", "code": code, "instance": "urn:slipway:request:5b0c61"}
        return Reply(status, {}, msgspec.json.encode(body), "application/problem+json")

    server.routes["GET", "/deployments/iris"] = problem(404, "not_found")
    assert shell.run("get", "iris").err == "error: no\n"
    server.routes["GET", "/deployments/iris"] = problem(500, "internal")
    assert "the server's log has more at 5b0c61" in shell.run("get", "iris").err


def test_no_replicas_is_what_stop_is_for(shell: Shell, server: StubServer) -> None:
    said = shell.run("scale", "iris", "0")
    assert said.status == 2
    assert "`slipway stop iris`" in said.err
    assert server.asked == []
