"""The command `slipway`: its verbs, and how it ends. Each verb imports what it needs when it is called."""

from __future__ import annotations

import os
import sys
from typing import Any

import typer
from typer.core import TyperGroup

from slipway.cli.environment import check_environment
from slipway.cli.options import command_of
from slipway.cli.serve import serve
from slipway.cli.status import status
from slipway.errors import SlipwayError


class PlainGroup(TyperGroup):
    """Lists the verbs without rich, whose import would be most of the time that `slipway --help` takes."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        super(TyperGroup, self).format_help(ctx, formatter)


app = typer.Typer(
    name="slipway",
    cls=PlainGroup,
    help="Slipway puts a trained model to work: `slipway serve PATH`, and it answers over HTTP and gRPC.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"]},
)
app.command()(status)
app.command(name="serve", no_args_is_help=False)(command_of(serve))


@app.command()
def version() -> None:
    """The version of Slipway, of Python, and of the runtimes that are installed."""
    from slipway.cli.version import versions

    for name, number in versions():
        print(f"{name:14} {number}")


def run() -> None:
    """The entry point. What was wrong with the call or its files is said in one line, with status 2."""
    _forget_service_links()
    try:
        if sys.argv[1:2] == ["serve"]:
            check_environment(os.environ)
        app()
    except SlipwayError as error:
        complain(error.message)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


def complain(message: str) -> None:
    word = "\x1b[1;31merror\x1b[0m" if sys.stderr.isatty() and not os.environ.get("NO_COLOR") else "error"
    print(f"{word}: {message}", file=sys.stderr, flush=True)


def _forget_service_links() -> None:
    """Kubernetes gives every pod SLIPWAY_PORT=tcp://… when a service is called `slipway`; that is no option."""
    if os.environ.get("SLIPWAY_PORT", "").startswith("tcp://"):
        del os.environ["SLIPWAY_PORT"]
