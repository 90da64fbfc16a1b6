"""What a shell completes: verbs, options, and what only the server knows."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from cli_stage import COMMAND, Ran, Shell, StubServer, a_deployment, a_version

from slipway.spec.resources import Page, Secret


def completed(shell: Shell, line: str, **environment: str) -> list[str]:
    """As bash asks: the words, and which of them is being typed."""
    words = line.split(" ")
    said = shell.run(
        _SLIPWAY_COMPLETE="complete_bash", COMP_WORDS="\n".join(words), COMP_CWORD=str(len(words) - 1), **environment
    )
    assert said.status == 0, said.err
    return said.out.split()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("slipway dep", ["deploy"]),
        ("slipway st", ["stop", "start", "status"]),
        ("slipway keys ro", ["rotate"]),
        ("slipway deploy --new", ["--new-version"]),
        ("slipway completion f", ["fish"]),
    ],
)
def test_verbs_and_options(shell: Shell, line: str, expected: list[str]) -> None:
    assert completed(shell, line) == expected


def test_names_come_from_the_server(shell: Shell, server: StubServer) -> None:
    server.put(a_deployment("iris", versions=[a_version(number=2), a_version(number=1)]), a_deployment("shop"))
    server.routes["GET", "/secrets"] = Page(
        items=[Secret(name="token", created_at=0, updated_at=0, updated_by="owner")]
    )
    assert completed(shell, "slipway scale i") == ["iris"]
    assert completed(shell, "slipway delete ") == ["iris", "shop"]
    assert completed(shell, "slipway rollback iris --to v") == ["v2", "v1"]
    assert completed(shell, "slipway secrets delete t") == ["token"]


def test_without_a_server_there_is_nothing_and_no_error(shell: Shell) -> None:
    assert completed(shell, "slipway scale i", SLIPWAY_SERVER="http://127.0.0.1:9") == []


@pytest.mark.parametrize("name", ["bash", "zsh", "fish"])
def test_scripts(shell: Shell, name: str) -> None:
    said = shell.run("completion", name)
    assert said.status == 0
    assert "_SLIPWAY_COMPLETE=complete_" in said.out
    interpreter = shutil.which(name)
    if interpreter:
        checked = subprocess.run([interpreter, "-n", "-c", said.out], capture_output=True, text=True, check=False)
        assert checked.returncode == 0, checked.stderr
    assert shell.run("completion", "tcsh").status == 2


def test_bash_completes_with_the_script(shell: Shell) -> None:
    """The script in a real bash, with `slipway` as the interpreter that runs these tests."""
    program = (
        f'slipway() {{ {" ".join(COMMAND)} "$@"; }}; export -f slipway\n'
        'eval "$(slipway completion bash)"\n'
        "COMP_WORDS=(slipway roll) COMP_CWORD=1\n"
        'function env() { local pairs=(); while [[ $1 == *=* ]]; do pairs+=("$1"); shift; done; '
        'command env "${pairs[@]}" '
        f"{' '.join(COMMAND)}; }}\n"
        '_slipway_completion slipway; printf "%s\\n" "${COMPREPLY[@]}"\n'
    )
    ran = subprocess.run(
        ["bash", "-c", program],
        capture_output=True,
        text=True,
        env=shell.environment,
        cwd=shell.home,
        timeout=30,
        check=False,
    )
    assert Ran(ran.returncode, ran.stdout.strip(), "").out == "rollback", ran.stderr
