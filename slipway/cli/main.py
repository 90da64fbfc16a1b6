"""The command `slipway`: its verbs, and how it ends. Each verb imports what it needs when it is called."""

from __future__ import annotations

import os
import sys

import typer

from slipway.cli.exits import INTERRUPTED, Ended, complain, status_of
from slipway.cli.group import SETTINGS, Root
from slipway.cli.interrupts import heard, insist, leave
from slipway.errors import SlipwayError

COMPLETING = "_SLIPWAY_COMPLETE"

app = typer.Typer(
    name="slipway",
    cls=Root,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings=SETTINGS,
    epilog="`slipway VERB --help` explains each, with examples.",
)


@app.callback()
def slipway() -> None:
    """Slipway puts trained models to work, over HTTP and gRPC.

    \b
    slipway serve model.onnx                      one model, at once
    slipway up --detach                           a server that remembers
    slipway deploy model.onnx --name iris         a deployment on it
    slipway status                                what is true now
    """


def run() -> None:
    """The entry point. What went wrong is said on standard error, in one line where one is enough, and the exit status
    says of which kind it was (`cli.exits`)."""
    insist()
    _forget_service_links()
    if COMPLETING in os.environ:
        from slipway.cli.completion import prepare

        prepare()
    try:
        _check_environment(sys.argv[1:2])
        app(prog_name="slipway")
    except (SlipwayError, Ended) as error:
        complain(error)
        sys.exit(status_of(error))
    except KeyboardInterrupt:
        leave(INTERRUPTED)
    except SystemExit as end:
        if end.code == INTERRUPTED:
            leave(INTERRUPTED)
        raise
    finally:
        heard()


def _check_environment(verb: list[str]) -> None:
    """Before typer reads options from it, whose complaint would name the option and not the variable."""
    if verb == ["serve"]:
        from slipway.cli.environment import check_environment
        from slipway.cli.options import ServeOptions

        check_environment(os.environ, ServeOptions)
    elif verb == ["up"]:
        from slipway.cli.environment import check_environment
        from slipway.cli.up_options import UpOptions

        check_environment(os.environ, UpOptions)


def _forget_service_links() -> None:
    """Kubernetes gives every pod SLIPWAY_PORT=tcp://… when a service is called `slipway`; that is no option."""
    if os.environ.get("SLIPWAY_PORT", "").startswith("tcp://"):
        del os.environ["SLIPWAY_PORT"]
