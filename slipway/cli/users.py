"""`slipway users`: who may come in by basic auth."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from slipway.cli.calls import Call, Yes, calling, make_sure, secret_value
from slipway.cli.completion import user_names
from slipway.cli.keys import Scopes, closing_doors
from slipway.cli.show import ago, counted, table
from slipway.errors import SetupError

if TYPE_CHECKING:
    from slipway.spec.resources import User

SHORTEST_PASSWORD = 8
"""As the server has it (`controller/api/bodies.py`), which has the last word."""

Name = Annotated[str, typer.Argument(metavar="NAME", help="The user.", autocompletion=user_names)]


@calling
def add(call: Call, name: Name, scope: Scopes = None) -> None:
    """Add a user, or give one another password and other scopes. The password is asked for, or read from standard
    input: as an argument, every user of this machine could see it.

    \b
    slipway users add ada --scope predict:iris
    pass show slipway/ada | slipway users add ada --scope admin
    """
    if not scope:
        raise SetupError("say what the user may do: --scope predict:NAME, feedback:NAME, deploy:NAME or admin")
    password = secret_value("Password", twice=True)
    if len(password) < SHORTEST_PASSWORD:
        raise SetupError(f"this password has {counted(len(password), 'character')}; {SHORTEST_PASSWORD} are the least")
    with closing_doors(call):
        user = call.admin.put_user(name, password=password, scopes=scope)
    call.show(user, lambda: f"user {user.name!r} may {', '.join(user.scopes)}")


@calling
def list_(call: Call) -> None:
    """All users, what each may do, and when each was last here.

    \b
    slipway users list
    """
    found = call.admin.users()
    call.show(found, lambda: listed(found))


def listed(found: list[User]) -> str:
    if not found:
        return "No users: `slipway users add NAME --scope SCOPE` makes one."
    titles = ("name", "scopes", "last used", "created", "by")
    rows = [
        [one.name, ",".join(one.scopes), ago(one.last_used_at), ago(one.created_at), one.created_by] for one in found
    ]
    return table(titles, rows)


@calling
def remove(call: Call, name: Name, yes: Yes = False) -> None:
    """Remove a user, on every gateway within a second.

    \b
    slipway users remove ada
    """
    make_sure(f"Remove user {name!r}?", yes=yes)
    call.admin.delete_user(name)
    call.show({"name": name, "deleted": True}, lambda: f"user {name!r} is removed")
