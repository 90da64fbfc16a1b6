"""The command as a whole: help, near misses, exit statuses, errors."""

from __future__ import annotations

import inspect
import socket
from importlib import import_module
from pathlib import Path

import pytest
from cli_stage import Shell, StubServer, a_deployment

from slipway import errors
from slipway.cli.exits import Ended, status_of
from slipway.cli.group import unknown
from slipway.cli.verbs import ALIASES, ELSEWHERE, FAMILIES, PANELS, Verb
from slipway.errors import SlipwayError, every_error

VERBS = {name: verb for verbs in PANELS.values() for name, verb in verbs.items()}
LEAVES = {name: verb for name, verb in VERBS.items() if verb.home} | {
    f"{family} {name}": verb for family, verbs in FAMILIES.items() for name, verb in verbs.items()
}


def test_help_lists_every_verb_once_in_its_panel(shell: Shell) -> None:
    said = shell.run("--help")
    assert said.status == 0
    lines = said.out.splitlines()
    for title, verbs in PANELS.items():
        start = lines.index(f"{title}:")
        for name, verb in verbs.items():
            assert any(line.split() == [name, *verb.summary.split()] for line in lines[start + 1 :]), name
    assert "slipway deploy model.onnx" in said.out, "it begins with examples"


@pytest.mark.parametrize("name", LEAVES)
def test_every_verb_is_there_and_its_help_has_an_example(name: str) -> None:
    module, _, function = LEAVES[name].home.partition(":")
    act = getattr(import_module(f"slipway.cli.{module}"), function)
    text = inspect.getdoc(act) or ""
    assert f"slipway {name}" in text, "an example"
    assert "\b" in text, "which keeps its lines"


def test_families_have_members_and_other_names_lead_somewhere() -> None:
    assert {name for name, verb in VERBS.items() if not verb.home} == set(FAMILIES)
    assert {target.split()[0] for target in (*ELSEWHERE.values(), *ALIASES.values())} <= set(VERBS)
    assert not set(ELSEWHERE) & set(VERBS)
    assert all(isinstance(verb, Verb) and verb.summary.endswith(".") for verb in VERBS.values())


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        (["deplyo"], "there is no verb 'deplyo'; did you mean deploy?"),
        (["rm"], "did you mean delete?"),
        (["apply"], "did you mean deploy -f?"),
        (["xyzzy"], "`slipway --help` lists what there is"),
        (["keys", "rotat"], "there is no verb 'rotat'; did you mean rotate?"),
        (["list", "--ouput", "json"], "--output"),
        (["scale", "iris", "three"], "'N': Input should be a valid integer"),
        (["scale", "iris"], "N"),
        (["list", "-o", "xml"], "xml"),
    ],
)
def test_wrong_usage_is_2_and_says_what_would_be_right(shell: Shell, typed: list[str], words: str) -> None:
    said = shell.run(*typed)
    assert said.status == 2
    assert words in said.err
    assert said.out == ""
    assert "Traceback" not in said.err


def test_near_misses_name_at_most_two() -> None:
    assert unknown("star", path="slipway", known=["start", "status", "stop"]) == (
        "there is no verb 'star'; did you mean start or status?"
    )


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.InvalidSpec("the spec is wrong", problems=("spec:1:1: here", "spec:2:1: there")), 2),
        (errors.Unauthenticated("no credential"), 4),
        (errors.Forbidden("not yours"), 4),
        (errors.Conflict("two keys of that name"), 5),
        (errors.PreconditionFailed("somebody was quicker"), 5),
        (errors.NotFound("there is no 'iris'; did you mean 'isis'?"), 3),
        (errors.SlipwayError("a bug in the server"), 1),
    ],
)
def test_an_error_of_the_server_becomes_a_status_and_a_line(
    shell: Shell, server: StubServer, error: SlipwayError, status: int
) -> None:
    def refuse(_: object) -> None:
        raise error

    server.routes["GET", "/deployments/iris"] = refuse
    said = shell.run("get", "iris", "-o", "json")
    assert said.status == status
    assert said.out == ""
    assert said.err.startswith(f"error: {error.message}")
    for problem in getattr(error, "problems", ()):
        assert problem in said.err


def test_every_error_of_the_tree_has_a_status_of_its_kind() -> None:
    named = {
        kind.code: status_of(kind("x", allow="") if kind is errors.MethodNotAllowed else kind("x"))
        for kind in every_error()
    }  # type: ignore[call-arg]
    assert named["setup_error"] == named["invalid_spec"] == named["digest_mismatch"] == 2
    assert named["not_found"] == 3
    assert named["unauthenticated"] == named["forbidden"] == 4
    assert named["conflict"] == named["precondition_failed"] == 5
    assert {named[code] for code in ("unavailable", "store_unavailable", "not_leader", "rate_limited")} == {6}
    assert named["deadline_exceeded"] == named["request_timeout"] == 7
    assert named["model_failure"] == 1
    assert status_of(Ended("x", status=7)) == 7


def test_a_server_that_is_not_there_is_6_and_says_what_to_do(shell: Shell) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        said = shell.run("list", "--server", url)
    assert said.status == 6
    assert f"cannot reach {url}" in said.err
    assert "named by the argument" in said.err
    assert "`slipway up` starts a server" in said.err


def test_where_no_server_runs_in_a_data_directory(shell: Shell, tmp_path: Path) -> None:
    said = shell.run("list", "--data-dir", str(tmp_path / "nowhere"))
    assert said.status == 2
    assert "no server runs in" in said.err


def test_the_key_goes_along_and_an_explicit_one_first(shell: Shell, server: StubServer) -> None:
    server.put(a_deployment())
    assert shell.run("ls", SLIPWAY_KEY="sw_a_1").status == 0
    assert server.asked[-1].headers["authorization"] == "Bearer sw_a_1"
    assert shell.run("ls", "--key", "sw_b_2", SLIPWAY_KEY="sw_a_1").status == 0
    assert server.asked[-1].headers["authorization"] == "Bearer sw_b_2"


def test_output_to_a_pipe_that_closes_is_no_traceback(shell: Shell, server: StubServer) -> None:
    server.put(*(a_deployment(f"iris-{n:03}") for n in range(200)))
    import subprocess

    from cli_stage import COMMAND

    ran = subprocess.run(
        ["bash", "-c", f"{' '.join(COMMAND)} list | head -1"],
        capture_output=True, text=True, env=shell.environment, cwd=shell.home, timeout=30, check=False,
    )  # fmt: skip
    assert ran.stdout.startswith("NAME")
    assert "Traceback" not in ran.stderr
