"""Keys, users, secrets and logins on the command line: what is shown, and what never is."""

from __future__ import annotations

import time
from pathlib import Path

import msgspec
import pytest
from cli_stage import Shell, StubServer, a_deployment, in_turn, status_of

from slipway.cli.keys import seconds_of
from slipway.errors import SetupError, Unauthenticated
from slipway.spec.resources import Key, Page, Secret, User

NOW = time.time()
SECRET = "sw_abcd1234_" + "x" * 43


def a_key(**more: object) -> Key:
    known: dict[str, object] = {
        "id": "abcd1234", "name": "shop", "prefix": "sw_abcd1234", "scopes": ["predict:iris"], "created_at": NOW - 7200,
        "created_by": "owner", "expires_at": None, "last_used_at": NOW - 60, "revoked_at": None,
    }  # fmt: skip
    return Key(**(known | more))  # type: ignore[arg-type]


def test_a_new_key_is_alone_on_standard_output(shell: Shell, server: StubServer) -> None:
    server.routes["POST", "/keys"] = a_key(secret=SECRET, expires_at=NOW + 30 * 86400)
    said = shell.run(
        "keys", "create", "shop", "--scope", "predict:iris", "--scope", "feedback:iris", "--expires", "30d"
    )
    assert said.status == 0
    assert said.out == f"{SECRET}\n", "for $(…)"
    assert "shown this once" in said.err
    assert server.asked[-1].body == {
        "name": "shop",
        "scopes": ["predict:iris", "feedback:iris"],
        "expires_in_s": 30 * 86400.0,
    }
    assert shell.run("keys", "create", "shop", "--scope", "admin", "-o", "json").json["secret"] == SECRET


def test_the_first_key_of_an_open_server_says_that_its_doors_close(shell: Shell, server: StubServer) -> None:
    server.routes["POST", "/keys"] = a_key(secret=SECRET)
    server.routes["GET", "/status"] = status_of()
    said = shell.run("keys", "create", "shop", "--scope", "predict:iris")
    assert said.out == f"{SECRET}\n"
    assert "warning: this server was open; from now on it wants a credential" in said.err
    server.routes["GET", "/status"] = status_of(auth="required")
    assert "was open" not in shell.run("keys", "create", "shop", "--scope", "predict:iris").err


def test_a_short_password_is_told_in_words(shell: Shell, server: StubServer) -> None:
    said = shell.run("users", "add", "ada", "--scope", "admin", stdin="short\n")
    assert said.status == 2
    assert "this password has 5 characters; 8 are the least" in said.err
    assert server.asked == []


def test_a_key_without_scopes_is_asked_for_them(shell: Shell, server: StubServer) -> None:
    said = shell.run("keys", "create", "shop")
    assert said.status == 2
    assert "--scope predict:NAME" in said.err
    assert server.asked == []


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("15m", 900), ("12h", 43200), ("1.5d", 129600), ("2w", 1209600), ("1y", 31536000)],
)
def test_durations(text: str, seconds: float) -> None:
    assert seconds_of(text, option="--expires") == seconds


@pytest.mark.parametrize("text", ["", "30", "d", "0d", "-3d", "3 days", "1e3d", "infd"])
def test_no_durations(text: str) -> None:
    with pytest.raises(SetupError, match="such as 30d"):
        seconds_of(text, option="--expires")


def test_keys_are_listed_with_what_they_are_worth(shell: Shell, server: StubServer) -> None:
    server.routes["GET", "/keys"] = Page(
        items=[
            a_key(),
            a_key(id="old00001", name="old", revoked_at=NOW - 9),
            a_key(id="late0001", name="late", expires_at=NOW - 9),
            a_key(id="turn0001", name="turn", retires_at=NOW + 900),
        ]
    )
    said = shell.run("keys", "list")
    states = {line.split()[0]: line.split()[3] for line in said.out.splitlines()[1:]}
    assert states == {"abcd1234": "active", "turn0001": "retiring"}
    every = {line.split()[0]: line.split()[3] for line in shell.run("keys", "list", "--all").out.splitlines()[1:]}
    assert every == states | {"old00001": "revoked", "late0001": "expired"}


def test_rotate_and_revoke_by_id_or_name(shell: Shell, server: StubServer) -> None:
    server.routes["GET", "/keys"] = Page(
        items=[a_key(), a_key(id="twin0001", name="twin"), a_key(id="twin0002", name="twin")]
    )
    server.routes["POST", "/keys/abcd1234/rotate"] = a_key(id="next0001", secret=SECRET)
    assert shell.run("keys", "rotate", "shop", "--overlap", "7d").out == f"{SECRET}\n"
    assert server.asked[-1].body == {"overlap_s": 7 * 86400.0}
    assert shell.run("keys", "rotate", "abcd1234", "--overlap", "0").status == 0
    assert server.asked[-1].body == {"overlap_s": 0.0}
    twins = shell.run("keys", "rotate", "twin")
    assert twins.status == 5
    assert "twin0001, twin0002" in twins.err
    assert shell.run("keys", "rotate", "none").status == 3
    server.routes["DELETE", "/keys/abcd1234"] = a_key(revoked_at=NOW)
    assert "is revoked" in shell.run("keys", "revoke", "shop", "--yes").out


@pytest.mark.parametrize(
    "verb",
    [["delete", "iris"], ["keys", "revoke", "shop"], ["users", "remove", "ada"], ["secrets", "delete", "token"]],
)
def test_dangerous_verbs_ask_at_a_terminal_and_need_yes_elsewhere(
    shell: Shell, server: StubServer, verb: list[str]
) -> None:
    server.put(a_deployment())
    server.routes["GET", "/keys"] = Page(items=[a_key()])
    for path in ("/users/ada", "/secrets/token"):
        server.routes["DELETE", path] = None
    server.routes["DELETE", "/deployments/iris"] = a_deployment(state="deleting")
    server.routes["DELETE", "/keys/abcd1234"] = a_key(revoked_at=NOW)
    elsewhere = shell.run(*verb)
    assert elsewhere.status == 2
    assert "--yes" in elsewhere.err
    with shell.terminal(*verb) as terminal:
        terminal.wait_for("[y/N]")
        terminal.type("n\n")
        terminal.wait_for("nothing was changed")
        assert terminal.ended() == 1
    assert "DELETE" not in {asked.method for asked in server.asked}
    with shell.terminal(*verb, "--no-wait") if verb[0] == "delete" else shell.terminal(*verb) as terminal:
        terminal.wait_for("[y/N]")
        terminal.type("y\n")
        assert terminal.ended() == 0, terminal.screen
    assert server.asked[-1].method == "DELETE"


def test_a_misspelt_name_among_several_deletes_none(shell: Shell, server: StubServer) -> None:
    server.put(a_deployment())
    said = shell.run("delete", "iris", "isis", "--yes")
    assert said.status == 3
    assert "DELETE" not in {asked.method for asked in server.asked}


def test_passwords_come_from_standard_input_or_a_prompt_that_shows_nothing(shell: Shell, server: StubServer) -> None:
    server.routes["PUT", "/users/ada"] = User(
        name="ada", scopes=["admin"], created_at=NOW, created_by="owner", last_used_at=None
    )
    said = shell.run("users", "add", "ada", "--scope", "admin", stdin="correct horse\n")
    assert said.status == 0, said.err
    assert server.asked[-1].body == {"password": "correct horse", "scopes": ["admin"]}
    assert "correct horse" not in said.out + said.err
    with shell.terminal("users", "add", "ada", "--scope", "admin") as terminal:
        terminal.wait_for("Password: ")
        terminal.type("battery staple\n")
        terminal.wait_for("Password again: ")
        terminal.type("battery stable\n")
        assert terminal.ended() == 2
        assert "the two are not the same" in terminal.screen
        assert "battery" not in terminal.screen
    assert shell.run("users", "add", "ada", "--scope", "admin", stdin="").status == 2
    assert shell.run("users", "add", "ada", "--scope", "admin", "secret-word").status == 2, "never an argument"


def test_secrets_from_a_file_a_pipe_and_never_an_argument(shell: Shell, server: StubServer) -> None:
    server.routes["PUT", "/secrets/token"] = Secret(name="token", created_at=NOW, updated_at=NOW, updated_by="owner")
    (shell.home / "key.pem").write_text("-----BEGIN-----\nabc\n")
    assert shell.run("secrets", "set", "token", "--from-file", "key.pem").status == 0
    assert server.asked[-1].body == {"value": "-----BEGIN-----\nabc\n"}, "whole"
    said = shell.run("secrets", "set", "token", stdin="s3cret\n")
    assert server.asked[-1].body == {"value": "s3cret"}
    assert "s3cret" not in said.out + said.err
    assert shell.run("secrets", "set", "token", "s3cret").status == 2
    assert shell.run("secrets", "set", "token", "--from-file", "nowhere").status == 2


def test_login_proves_the_key_and_keeps_it_to_itself(shell: Shell, server: StubServer) -> None:
    said = shell.run("login", server.url, stdin=f"{SECRET}\n")
    assert said.status == 0, said.err
    assert f"Logged in to {server.url} as key 'ci', who may admin" in said.out
    assert server.asked[-1].headers["authorization"] == f"Bearer {SECRET}"
    file = shell.home / ".config" / "slipway" / "login.json"
    assert file.stat().st_mode & 0o777 == 0o600
    assert SECRET not in said.out + said.err
    server.put(a_deployment())
    shell.environment.pop("SLIPWAY_SERVER")
    assert shell.run("list").status == 0, "the server that one is logged in to is the one that is meant"
    assert server.asked[-1].headers["authorization"] == f"Bearer {SECRET}"
    assert shell.run("logout").out == f"The login for {server.url} is forgotten.\n"
    assert SECRET not in file.read_text()
    assert shell.run("logout").status == 2


def test_a_key_that_the_server_refuses_is_not_kept(shell: Shell, server: StubServer) -> None:
    server.routes["GET", "/whoami"] = in_turn(Unauthenticated("this key is not known"))
    said = shell.run("login", server.url, stdin="sw_wrong\n")
    assert said.status == 4
    assert "this key is not known" in said.err
    assert not (shell.home / ".config").exists()


def test_every_list_is_json_too(shell: Shell, server: StubServer, tmp_path: Path) -> None:
    user = User(name="ada", scopes=["admin"], created_at=NOW, created_by="owner", last_used_at=None)
    secret = Secret(name="token", created_at=NOW, updated_at=NOW, updated_by="owner", used_by=["iris"])
    for path, item in (("/keys", a_key()), ("/users", user), ("/secrets", secret)):
        server.routes["GET", path] = Page(items=[item])
        found = shell.run(path[1:], "list", "-o", "json")
        assert msgspec.convert(found.json, list[type(item)]) == [item]  # type: ignore[misc]
        assert item.name in shell.run(path[1:], "list").out
    assert tmp_path.exists()
