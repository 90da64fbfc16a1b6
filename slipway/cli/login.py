"""`slipway login`, `logout` and `whoami`: which server, and as whom."""

from __future__ import annotations

from typing import Annotated

import typer

from slipway.cli.calls import Call, calling, secret_value
from slipway.cli.exits import note

ServerUrl = Annotated[
    str, typer.Argument(metavar="SERVER", help="The management API; default: the one that would be called anyway.")
]


@calling
def login(call: Call, url: ServerUrl = "") -> None:
    """Remember a server and a key for it, once the server has accepted the key. The key is asked for, or read from
    standard input. It is kept in ~/.config/slipway/login.json, which only you can read.

    \b
    slipway login https://models.example.org:8082
    echo "$KEY" | slipway login http://10.0.0.5:8082
    """
    from slipway.client.admin import Admin
    from slipway.client.login import find_server, save_login

    found = find_server(server=url or call.server, data_dir=call.data_dir)
    key = call.key or secret_value(f"Key for {found.server}")
    ca_file = call.ca_file or found.ca_file
    with Admin(found.server, key, ca_file=ca_file or None, certificate=call.certificate) as admin:
        who = admin.whoami()
    path = save_login(found.server, key=key, ca_file=ca_file)
    if call.for_people:
        note(f"{path} has it now; `slipway logout` removes it.")
    call.show(who, lambda: f"Logged in to {found.server} as {who.kind} {who.name!r}, who may {may(who.scopes)}.")


@calling
def logout(call: Call, url: ServerUrl = "") -> None:
    """Forget the key of a server. The key itself goes on working: `slipway keys revoke` ends it.

    \b
    slipway logout
    slipway logout http://10.0.0.5:8082
    """
    from slipway.client.login import forget_login

    gone = forget_login(url or call.server)
    call.show({"server": gone}, lambda: f"The login for {gone} is forgotten.")


@calling
def whoami(call: Call) -> None:
    """As whom the server knows you, and what you may do.

    \b
    slipway whoami
    slipway whoami -o json | jq -r .scopes[]
    """
    who = call.admin.whoami()
    where = call.admin.login

    def people() -> str:
        return f"{who.kind} {who.name!r} at {where.server} (from {where.found}), who may {may(who.scopes)}"

    call.show(who, people)


def may(scopes: list[str]) -> str:
    return ", ".join(scopes) or "nothing by scope"
