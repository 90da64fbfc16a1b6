"""`slipway secrets`: values that a spec names, written once and never shown."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from slipway.cli.calls import Call, Yes, calling, make_sure, secret_value
from slipway.cli.completion import secret_names
from slipway.cli.show import ago, table
from slipway.errors import SetupError

if TYPE_CHECKING:
    from slipway.spec.resources import Secret

Name = Annotated[str, typer.Argument(metavar="NAME", help="The secret.", autocompletion=secret_names)]


@calling
def set_(
    call: Call,
    name: Name,
    from_file: Annotated[str, typer.Option(metavar="FILE", help="The value is all of this file.")] = "",
) -> None:
    """Write a secret; replicas that start from now on get the new value. It is asked for, or read from standard input
    or a file: as an argument, every user of this machine could see it.

    \b
    slipway secrets set iris-token
    printf %s "$TOKEN" | slipway secrets set iris-token
    slipway secrets set tls-key --from-file key.pem
    """
    value = _content(from_file) if from_file else secret_value("Value")
    made = call.admin.put_secret(name, value)
    call.show(made, lambda: f"secret {made.name!r} is set; a spec names it with {{secret: {made.name}}}")


def _content(path: str) -> str:
    try:
        return Path(path).read_text()
    except UnicodeDecodeError:
        raise SetupError(f"--from-file {path}: not UTF-8 text; encode it first, such as with base64") from None
    except OSError as error:
        raise SetupError(f"--from-file {path}: {error.strerror or error}") from None


@calling
def list_(call: Call) -> None:
    """The names of all secrets and who uses them. Nobody can read their values back.

    \b
    slipway secrets list
    """
    found = call.admin.secrets()
    call.show(found, lambda: listed(found))


def listed(found: list[Secret]) -> str:
    if not found:
        return "No secrets: `slipway secrets set NAME` makes one."
    titles = ("name", "updated", "by", "used by")
    return table(titles, [[one.name, ago(one.updated_at), one.updated_by, ", ".join(one.used_by)] for one in found])


@calling
def delete(call: Call, name: Name, yes: Yes = False) -> None:
    """Delete a secret. One that a deployment names is refused.

    \b
    slipway secrets delete iris-token
    """
    make_sure(f"Delete secret {name!r}? Its value cannot be brought back.", yes=yes)
    call.admin.delete_secret(name)
    call.show({"name": name, "deleted": True}, lambda: f"secret {name!r} is deleted")
