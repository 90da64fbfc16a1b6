"""`slipway deploy` and what it shows on the way: at a terminal, in a pipe, when it fails, and when nobody waits."""

from __future__ import annotations

import signal
from dataclasses import replace
from hashlib import sha256
from typing import Any

import msgspec
import pytest
from cli_stage import Asked, Shell, StubServer, a_deployment, a_replica, a_version, arrived, in_turn, on_its_way

from slipway.errors import InvalidSpec, NotFound, PreconditionFailed
from slipway.spec.resources import Deployment

SPEC = "name: {name}\nmodel: s3://models/{name}.onnx\n"


def put(server: StubServer, *answers: Any, name: str = "iris", then: tuple[Any, ...] = ()) -> list[Asked]:
    """PUT is answered by these in turn, GET by `then`; what was put."""
    puts: list[Asked] = []
    turn = in_turn(*answers)

    def take(asked: Asked) -> Any:
        puts.append(asked)
        return turn(asked)

    server.routes["PUT", f"/deployments/{name}"] = take
    server.routes["GET", f"/deployments/{name}"] = in_turn(*(then or (NotFound(f"there is no {name!r}"),)))
    return puts


def test_a_model_file_is_sent_once_and_named_by_its_digest(shell: Shell, server: StubServer) -> None:
    (shell.home / "iris.onnx").write_bytes(b"not really a model" * 1000)
    come = server.take_uploads()
    puts = put(
        server, on_its_way("pending", number=1), then=(NotFound("none"), on_its_way("loading", number=1), arrived(1))
    )
    said = shell.run("deploy", "iris.onnx", "--set", "replicas.min=2", "--set", "env.A=007")
    assert said.status == 0, said.err
    content = b"not really a model" * 1000
    assert come == {sha256(content).hexdigest(): bytearray(content)}
    (asked,) = puts
    assert asked.body["spec"] == {
        "apiVersion": "slipway.dev/v1", "name": "iris", "model": "iris.onnx",
        "replicas": {"min": 2}, "env": {"A": "007"},
    }  # fmt: skip
    assert asked.body["artifact"].startswith("sha256:")
    assert said.out == "iris v1 is live (as it was)\n"
    assert said.err.splitlines() == [
        "iris: reading its files 18K", "iris: uploading 18K", "iris: loading", "iris: takes the traffic",
    ]  # fmt: skip


def test_a_model_alone_leaves_the_other_settings(shell: Shell, server: StubServer) -> None:
    spec = {"name": "iris", "model": "s3://old.onnx", "digest": "sha256:" + "0" * 64, "auth": {"public": True}}
    puts = put(server, replace(arrived(2), change="new_version"), then=(a_deployment(spec=spec), arrived(2)))
    said = shell.run("deploy", "s3://new.onnx", "--name", "iris")
    assert said.out == "iris v2 is live (new version)\n"
    assert puts[0].body["spec"] == {
        "apiVersion": "slipway.dev/v1", "name": "iris", "model": "s3://new.onnx", "auth": {"public": True},
    }  # fmt: skip


def test_json_is_one_deployment_for_a_model_and_a_list_for_specs(shell: Shell, server: StubServer) -> None:
    put(server, replace(arrived(2), change="new_version"), then=(a_deployment(), arrived(2)))
    one = shell.run("deploy", "s3://new.onnx", "--name", "iris", "-o", "json")
    assert msgspec.convert(one.json, Deployment).change == "new_version"
    (shell.home / "iris.yaml").write_text(SPEC.format(name="iris"))
    many = shell.run("deploy", "-f", "iris.yaml", "-o", "json")
    assert [found.live for found in msgspec.convert(many.json, list[Deployment])] == ["v2"]


def test_specs_of_files_folders_and_standard_input(shell: Shell, server: StubServer) -> None:
    (shell.home / "more").mkdir()
    (shell.home / "more" / "b.yaml").write_text(SPEC.format(name="b") + "---\n" + SPEC.format(name="c"))
    (shell.home / "more" / "notes.txt").write_text("not a spec")
    for name in "abc":
        put(server, a_deployment(name), name=name, then=(a_deployment(name),))
    said = shell.run("deploy", "-f", "-", "-f", "more", stdin=SPEC.format(name="a"))
    assert said.status == 0, said.err
    assert [line.split()[0] for line in said.out.splitlines()] == ["a", "b", "c"]


def test_a_relative_model_begins_at_its_spec_and_is_sent_as_written(shell: Shell, server: StubServer) -> None:
    (shell.home / "team").mkdir()
    (shell.home / "team" / "iris.onnx").write_bytes(b"bytes")
    (shell.home / "team" / "iris.yaml").write_text("name: iris\nmodel: ./iris.onnx\n")
    come = server.take_uploads()
    puts = put(server, arrived(1), then=(arrived(1),))
    assert shell.run("deploy", "-f", "team/iris.yaml").status == 0
    assert list(come.values()) == [bytearray(b"bytes")]
    assert puts[0].body["spec"]["model"] == "./iris.onnx"


def test_all_specs_are_read_before_anything_is_sent(shell: Shell, server: StubServer) -> None:
    (shell.home / "a.yaml").write_text(SPEC.format(name="a"))
    (shell.home / "b.yaml").write_text(SPEC.format(name="b") + "replicas: {mim: 2}\n")
    said = shell.run("deploy", "-f", "a.yaml", "-f", "b.yaml")
    assert said.status == 2
    assert "b.yaml:3:12: replicas has no 'mim'; did you mean 'min'?" in said.err
    (shell.home / "b.yaml").write_text(SPEC.format(name="a"))
    said = shell.run("deploy", "-f", "a.yaml", "-f", "b.yaml")
    assert "deployment 'a' is in a.yaml and in b.yaml; keep one" in said.err
    assert server.asked == []


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ([], "say what to deploy"),
        (["s3://m.onnx", "-f", "iris.yaml"], "and not both"),
        (["-f", "iris.yml"], "did you mean iris.yaml?"),
        (["iris.yaml"], "slipway deploy -f iris.yaml"),
        (["s3://m.onnx", "--set", "replicas"], "is not FIELD=VALUE"),
        (["s3://m.onnx", "--set", "replicas.mni=2"], "did you mean 'min'?"),
        (["s3://m.onnx", "--set", "replicas.min=two"], "replicas.min"),
        (["s3://m.onnx", "--set", "runtime.x=1"], "runtime"),
        (["s3://m.onnx", "--name", "a/b"], "a/b"),
        (["-f", "iris.yaml", "-f", "other.yaml", "--name", "x"], "--name names one deployment, but 2"),
    ],
)
def test_what_cannot_be_deployed_is_2(shell: Shell, server: StubServer, typed: list[str], words: str) -> None:
    for name in ("iris", "other"):
        (shell.home / f"{name}.yaml").write_text(SPEC.format(name=name))
    put(server, arrived(1), name="m")
    said = shell.run("deploy", *typed)
    assert said.status == 2, said
    assert words in said.err
    assert "PUT" not in {asked.method for asked in server.asked}


def test_a_missing_model_is_not_found(shell: Shell, server: StubServer) -> None:
    put(server, arrived(1))
    said = shell.run("deploy", "iris.onnx")
    assert said.status == 3
    assert "'iris.onnx'" in said.err


def test_a_version_that_fails_is_1_in_the_models_own_words(shell: Shell, server: StubServer) -> None:
    failed = on_its_way("failed", error="ValueError: bad magic number 0x00")
    put(server, on_its_way("pending"), then=(on_its_way("pending"), on_its_way("loading"), failed))
    said = shell.run("deploy", "s3://iris.onnx", "--name", "iris")
    assert said.status == 1
    assert "iris v2 failed: ValueError: bad magic number 0x00" in said.err
    assert "v1 goes on serving" in said.err
    assert "slipway logs iris --version v2" in said.err
    assert said.out == ""


def test_of_several_the_others_are_seen_through(shell: Shell, server: StubServer) -> None:
    for name in ("a", "b"):
        (shell.home / f"{name}.yaml").write_text(SPEC.format(name=name))
    bad = a_deployment("a", live="", target="v1", versions=[a_version("a", state="failed", error="it is empty")])
    put(server, bad, name="a", then=(bad,))
    put(server, a_deployment("b"), name="b", then=(a_deployment("b"),))
    said = shell.run("deploy", "-f", "a.yaml", "-f", "b.yaml")
    assert said.status == 1
    assert "b v1 is live" in said.err
    assert "1 of 2 deployments failed" in said.err
    assert "a v1 failed: it is empty" in said.err


def test_too_long_is_7_and_says_how_to_go_on(shell: Shell, server: StubServer) -> None:
    put(server, on_its_way("loading"), then=(on_its_way("loading"),))
    said = shell.run("deploy", "s3://iris.onnx", "--name", "iris", "--timeout-s", "0.5")
    assert said.status == 7
    assert "iris v2 is loading after 0.5 s, and goes on" in said.err
    assert "slipway rollback iris --to v1" in said.err


def test_a_dry_run_changes_nothing(shell: Shell, server: StubServer) -> None:
    planned = replace(on_its_way("pending"), change="new_version", warnings=["iris-token is no secret yet"])
    puts = put(server, planned, then=(a_deployment(),))
    said = shell.run("deploy", "s3://iris.onnx", "--name", "iris", "--dry-run")
    assert puts[0].query["dry_run"] == "true"
    assert said.out == "iris: would get a new version as v2\n"
    assert "warning: iris: iris-token is no secret yet" in said.err


def test_hold_waits_for_ready_and_says_where(shell: Shell, server: StubServer) -> None:
    puts = put(server, on_its_way("pending"), then=(on_its_way("loading"), on_its_way("ready", 1.0)))
    said = shell.run("deploy", "s3://iris.onnx", "--name", "iris", "--hold", "--new-version")
    assert (puts[0].query["hold"], puts[0].query["new_version"]) == ("true", "true")
    assert said.out == (
        "iris v2 is ready at /v2/models/iris/versions/v2; `slipway promote iris` gives it the traffic\n"
    )


def test_no_wait(shell: Shell, server: StubServer) -> None:
    put(server, on_its_way("pending"), then=(a_deployment(),))
    said = shell.run("deploy", "s3://iris.onnx", "--name", "iris", "--no-wait")
    assert said.out == "iris v2 is on its way: `slipway status iris`\n"
    assert [asked.method for asked in server.asked] == ["GET", "PUT"]


def test_expected_revision(shell: Shell, server: StubServer) -> None:
    puts = put(server, PreconditionFailed("iris is at revision 4, not 3"))
    said = shell.run("deploy", "s3://iris.onnx", "--name", "iris", "--expected-revision", "3")
    assert said.status == 5
    assert puts[0].headers["if-match"] == '"3"'
    shell.run("deploy", "s3://iris.onnx", "--name", "iris", "--expected-revision", "0")
    assert puts[-1].headers["if-none-match"] == "*"


def test_what_the_server_finds_wrong_in_a_spec_is_listed(shell: Shell, server: StubServer) -> None:
    wrong = ("/spec/env/A~1B: no secret 'x'", "/spec/runtime: no such")
    put(server, InvalidSpec("2 things are wrong in /spec", problems=wrong))
    said = shell.run("deploy", "s3://iris.onnx", "--name", "iris")
    assert said.status == 2
    assert said.err.splitlines()[-3:] == [
        "error: 2 things are wrong with iris, in the command line", "  env.A/B: no secret 'x'", "  runtime: no such",
    ]  # fmt: skip


def test_what_the_server_finds_wrong_has_its_line_in_the_file(shell: Shell, server: StubServer) -> None:
    text = "name: a\nmodel: s3://a.onnx\n---\nname: b\nmodel: s3://b.onnx\nenv:\n  T: {secret: nope}\n"
    (shell.home / "two.yaml").write_text(text)
    put(server, a_deployment("a"), name="a", then=(a_deployment("a"),))
    put(server, InvalidSpec("one", problems=("/spec/env/T: there is no secret 'nope'",)), name="b")
    said = shell.run("deploy", "-f", "two.yaml")
    assert said.status == 2
    assert "two.yaml:7:6: env.T: there is no secret 'nope'" in said.err
    assert "1 of 2 deployments failed" in said.err
    assert "a v1 is live" in said.err, "the other one was deployed, and that is told"


def test_settings_are_changed_without_the_model_at_hand(shell: Shell, server: StubServer) -> None:
    spec = {"apiVersion": "slipway.dev/v1", "name": "iris", "model": "../iris.onnx"}
    there = a_deployment(spec=spec, versions=[a_version(digest="sha256:" + "1" * 64)])
    puts = put(server, there, then=(there,))
    said = shell.run("deploy", "--name", "iris", "--set", "replicas.min=4")
    assert said.status == 0, said.err
    piped = shell.run("deploy", "-f", "-", "--set", "replicas.min=4", stdin=shell.run("get", "iris").out)
    assert piped.status == 0, piped.err
    for asked in puts:
        assert asked.body == {"spec": spec | {"replicas": {"min": 4}}, "artifact": "sha256:" + "1" * 64}
    assert len(puts) == 2
    (shell.home / "iris.yaml").write_text("name: iris\nmodel: ../iris.onnx\n")
    missing = shell.run("deploy", "-f", "iris.yaml")
    assert missing.status == 3, "in a file, a model that is not there is a mistake"
    assert shell.run("deploy", "-f", "iris.yaml", "--keep-model").status == 0
    (shell.home / "iris.yaml").write_text("name: iris\nmodel: ./other.onnx\n")
    other = shell.run("deploy", "-f", "iris.yaml", "--keep-model")
    assert other.status == 5
    assert "'./other.onnx' is another" in other.err


@pytest.mark.parametrize("form", ["yaml", "json"])
def test_all_that_get_says_is_taken_back(shell: Shell, server: StubServer, form: str) -> None:
    spec = {"apiVersion": "slipway.dev/v1", "name": "iris", "model": "s3://iris.onnx", "labels": {"team": "fruit"}}
    there = a_deployment(spec=spec)
    puts = put(server, there, then=(there,))
    (shell.home / f"iris.{form}").write_text(shell.run("get", "iris", "-o", form).out)
    assert shell.run("deploy", "-f", f"iris.{form}").status == 0
    assert puts[0].body["spec"] == spec


def test_what_is_unchanged_takes_no_traffic(shell: Shell, server: StubServer) -> None:
    (shell.home / "iris.onnx").write_bytes(b"not really a model")
    server.take_uploads()
    put(server, replace(arrived(1), change="unchanged"), then=(arrived(1),))
    said = shell.run("deploy", "iris.onnx")
    assert said.out == "iris v1 is live (unchanged)\n"
    assert "traffic" not in said.err


def test_a_deployment_that_is_deleted_meanwhile(shell: Shell, server: StubServer) -> None:
    put(server, on_its_way("loading"), then=(NotFound("none"), on_its_way("loading"), NotFound("did you mean 'aris'?")))
    said = shell.run("deploy", "s3://iris.onnx", "--name", "iris")
    assert said.status == 3
    assert "error: iris was deleted meanwhile, and v2 with it" in said.err


def test_what_is_new_is_told_with_its_address(shell: Shell, server: StubServer) -> None:
    server.put(arrived(1))
    put(server, replace(arrived(1), change="created"), then=(NotFound("none"), arrived(1)))
    said = shell.run("deploy", "s3://iris.onnx", "--name", "iris")
    assert said.out == "iris v1 is live (created)\n"
    http = server.routes["GET", "/status"].addresses.http
    assert f"{http}/v2/models/iris" in said.err


def warming() -> Deployment:
    return on_its_way("loading", replicas=[a_replica(version="v2", state="starting", stage="warm-up")])


def test_a_terminal_shows_bars_that_move(shell: Shell, server: StubServer) -> None:
    (shell.home / "iris.onnx").write_bytes(b"x" * 300_000)
    server.take_uploads()
    steps = (
        [on_its_way("fetching", 0.5)] * 3 + [on_its_way("loading")] * 3 + [warming()] * 3 + [on_its_way("probing")] * 3
    )
    put(server, on_its_way("pending"), then=(a_deployment(), *steps, arrived(2)))
    with shell.terminal("deploy", "iris.onnx") as terminal:
        status = terminal.ended()
        screen = terminal.screen
    assert status == 0, screen
    for words in ("upload", "verify", "fetching and verifying", "load", "warm up", "warming up", "flip", "trying it"):
        assert words in screen
    assert "━" in screen, "a bar"
    assert "iris v2 is live" in screen
    took = next(
        line for line in screen.splitlines() if line.startswith("iris: ") and "warm up" in line and " s" in line
    )
    assert took.index("verify") < took.index(" load") < took.index("warm up") < took.index("flip")


def test_a_fetch_that_is_tried_again_says_why_once(shell: Shell, server: StubServer) -> None:
    why = "https://models.example.org/iris.onnx: connection refused"
    steps = [on_its_way("fetching", 0.2)] + [on_its_way("fetching", 0.2, error=why)] * 3 + [on_its_way("loading")]
    put(server, on_its_way("pending"), then=(a_deployment(), *steps, arrived(2)))
    said = shell.run("deploy", "https://models.example.org/iris.onnx", "--name", "iris", "--wait")
    assert said.err.count(f"iris: tried again: {why}") == 1
    assert said.status == 0


def test_ctrl_c_ends_the_waiting_and_not_the_deployment(shell: Shell, server: StubServer) -> None:
    put(server, on_its_way("pending"), then=(a_deployment(), on_its_way("loading")))
    with shell.terminal("deploy", "s3://iris.onnx", "--name", "iris") as terminal:
        terminal.wait_for("loading")
        terminal.type("\x03")
        status = terminal.ended()
        screen = terminal.screen
    assert status == 130
    assert "iris v2 goes on without you" in screen
    assert "`slipway status iris`" in screen
    assert "`slipway rollback iris --to v1`" in screen
    assert "Traceback" not in screen
    assert {asked.method for asked in server.asked} == {"GET", "PUT"}


def test_ctrl_c_of_a_first_version_is_taken_back_otherwise(shell: Shell, server: StubServer) -> None:
    first = a_deployment(state="deploying", live="", target="v1", versions=[a_version(state="loading")])
    put(server, first, then=(NotFound("none"), first))
    with shell.terminal("deploy", "s3://iris.onnx", "--name", "iris") as terminal:
        terminal.wait_for("loading")
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.ended() == 130
        assert "`slipway delete iris`" in terminal.screen
