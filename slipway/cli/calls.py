"""What every verb that calls a server shares: which server, with which key, and in which form it answers.

`calling` adds these options to a function and gives it a Call as its first argument.
"""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Callable
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from slipway.errors import SetupError, Unavailable

if TYPE_CHECKING:
    from slipway.client.admin import Admin

PANEL = "Server and output"
NOBODY_THERE = "`slipway up` starts a server, --server names another"


class Form(StrEnum):
    """`table`: for people, the rest for programs: the resources of the management API, as `slipway/spec/resources.py`
    has them."""

    table = "table"
    json = "json"
    yaml = "yaml"


class Call:
    """One run of a verb: its server, opened when it is first asked, and its output."""

    def __init__(
        self,
        *,
        server: str,
        key: str,
        data_dir: str,
        ca_file: str,
        certificate: str,
        certificate_key: str,
        output: Form,
    ) -> None:
        self.server, self.key, self.data_dir, self.ca_file = server, key, data_dir, ca_file
        self.certificate = certificate_of(certificate, certificate_key)
        self.output = output

    @cached_property
    def admin(self) -> Admin:
        """Raises SetupError where no server can be found."""
        from slipway.client.admin import Admin

        return Admin(
            self.server,
            self.key,
            data_dir=self.data_dir,
            ca_file=self.ca_file or None,
            certificate=self.certificate,
        )

    @property
    def found(self) -> str:
        """How the server's address was found."""
        return f"named by {self.admin.login.found}"

    @property
    def for_people(self) -> bool:
        return self.output is Form.table

    def show(self, answer: Any, people: Callable[[], str]) -> None:
        """`answer` for programs, or the text of `people`. `answer`: resources, or lists and dicts of them."""
        if self.for_people:
            text = people()
            if text:
                print(text)
        else:
            print(written(answer, self.output))

    def show_one_of_many(self, answer: Any, people: Callable[[], str]) -> None:
        """One of a stream: for programs a JSON text on a line of its own, or a YAML document."""
        if self.for_people:
            print(people(), flush=True)
        elif self.output is Form.json:
            print(json.dumps(plain(answer), ensure_ascii=False), flush=True)
        else:
            print(f"---\n{written(answer, self.output)}", flush=True)


def certificate_of(certificate: str, key: str) -> tuple[str, str] | None:
    """The two PEM files, which may be one. Raises SetupError."""
    if key and not certificate:
        raise SetupError("--certificate-key is the key of a certificate; give that too: --certificate FILE")
    return (certificate, key or certificate) if certificate else None


def written(answer: Any, form: Form) -> str:
    """As JSON or YAML."""
    if form is Form.yaml:
        import yaml

        text: str = yaml.safe_dump(plain(answer), sort_keys=False, allow_unicode=True)
        return text.rstrip("\n")
    return json.dumps(plain(answer), indent=2, ensure_ascii=False)


def plain(answer: Any) -> Any:
    """Dicts, lists, strings and numbers."""
    import msgspec

    return msgspec.to_builtins(answer)


Server = Annotated[
    str,
    typer.Option(
        metavar="URL",
        rich_help_panel=PANEL,
        help="The server's management API; else SLIPWAY_SERVER, the data directory, or what `slipway login` remembers.",
    ),
]
Key = Annotated[
    str,
    typer.Option(
        metavar="KEY",
        rich_help_panel=PANEL,
        help="An API key or token; better SLIPWAY_KEY or `slipway login`, which no process list shows.",
    ),
]
DataDir = Annotated[
    str,
    typer.Option(
        metavar="DIR",
        rich_help_panel=PANEL,
        help="The data directory of a server on this machine; else SLIPWAY_DATA_DIR, or ~/.slipway.",
    ),
]
CaFile = Annotated[
    str,
    typer.Option(
        metavar="FILE",
        rich_help_panel=PANEL,
        help="Certificates to trust instead of the system's, for a server whose own is not signed by a public one.",
    ),
]
Certificate = Annotated[
    str,
    typer.Option(
        metavar="FILE",
        rich_help_panel=PANEL,
        help="The client certificate to show, as PEM, for a server that asks for one.",
    ),
]
CertificateKey = Annotated[
    str,
    typer.Option(metavar="FILE", rich_help_panel=PANEL, help="Its private key; default: in the same file."),
]
Output = Annotated[
    Form, typer.Option("--output", "-o", rich_help_panel=PANEL, help="table, json or yaml.", metavar="FORM")
]

SHARED: dict[str, tuple[Any, Any]] = {
    "server": (Server, ""),
    "key": (Key, ""),
    "data_dir": (DataDir, ""),
    "ca_file": (CaFile, ""),
    "certificate": (Certificate, ""),
    "certificate_key": (CertificateKey, ""),
    "output": (Output, Form.table),
}


def calling(act: Callable[..., Any]) -> Callable[..., None]:
    """A function for typer: the parameters of `act` but for its first, which gets a Call, and the shared options."""
    kinds = get_type_hints(act, include_extras=True)
    own = list(inspect.signature(act).parameters.values())[1:]
    own = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=kinds[one.name]) for one in own]
    shared = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=kind, default=default)
        for name, (kind, default) in SHARED.items()
    ]

    def command(**given: Any) -> None:
        call = Call(**{name: given.pop(name) for name in SHARED})
        try:
            act(call, **given)
        except Unavailable as error:
            if type(error) is Unavailable:  # nobody there, in the words of the client alone
                raise Unavailable(f"{error.message} ({call.found}). {NOBODY_THERE}") from None
            raise

    command.__signature__ = inspect.Signature([*own, *shared])  # type: ignore[attr-defined]
    command.__annotations__ = {one.name: one.annotation for one in (*own, *shared)}
    command.__doc__, command.__name__, command.__module__ = act.__doc__, act.__name__, act.__module__
    return command


Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask; needed where nobody can be asked.")]


def make_sure(question: str, *, yes: bool) -> None:
    """Ask at a terminal. Raises SetupError where there is none and nobody said --yes, typer.Exit(1) on a no."""
    if yes:
        return
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise SetupError(f"{question} Say --yes: there is no terminal to ask at")
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        print("nothing was changed", file=sys.stderr)
        raise typer.Exit(1)


def secret_value(what: str, *, twice: bool = False) -> str:
    """From a prompt that shows nothing, or the whole of standard input where it is no terminal, without its last line
    break. Never an argument, which every user of the machine could read in the process list. Raises SetupError."""
    if not sys.stdin.isatty():
        value = sys.stdin.read()
        value = value[:-1] if value.endswith("\n") else value
        value = value[:-1] if value.endswith("\r") else value
    else:
        from getpass import getpass

        value = getpass(f"{what}: ")
        if twice and value and getpass(f"{what} again: ") != value:
            raise SetupError(f"the two are not the same: {what.lower()} was not changed")
    if not value:
        raise SetupError(f"no {what.lower()} was given: type it at the prompt, or pipe it to standard input")
    return value
