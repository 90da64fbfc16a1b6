"""Shell completion: the scripts, and what a shell is told about words that only the server knows."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import typer

LOOK_UP_S = 1.0
"""Longer than this nobody waits for a Tab."""


class Shell(StrEnum):
    bash = "bash"
    zsh = "zsh"
    fish = "fish"


def completion(
    shell: Annotated[Shell, typer.Argument(metavar="bash|zsh|fish", help="The shell to print a script for.")],
) -> None:
    """Print a script that completes verbs, options, and the names of deployments, which it asks the server for.

    \b
    eval "$(slipway completion bash)"                                     in ~/.bashrc
    eval "$(slipway completion zsh)"                                      in ~/.zshrc, after compinit
    slipway completion fish > ~/.config/fish/completions/slipway.fish     once
    """
    from typer.completion import get_completion_script  # type: ignore[attr-defined]

    print(get_completion_script(prog_name="slipway", complete_var="_SLIPWAY_COMPLETE", shell=shell.value))


def prepare() -> None:
    """Make typer answer in the form that the scripts expect."""
    from typer.completion import completion_init  # type: ignore[attr-defined]

    completion_init()


def deployment_names(ctx: typer.Context, incomplete: str) -> list[str]:
    return _looked_up(ctx, lambda admin: [found.name for found in admin.deployments()], incomplete)


def version_names(ctx: typer.Context, incomplete: str) -> list[str]:
    """Of the deployment that the line already names."""
    name = ctx.params.get("name") or next(iter(ctx.args), "")  # behind an option without a value nothing is sorted yet
    return _looked_up(ctx, lambda admin: [found.version for found in admin.versions(name)] if name else [], incomplete)


def key_ids(ctx: typer.Context, incomplete: str) -> list[str]:
    return _looked_up(ctx, lambda admin: [found.id for found in admin.keys()], incomplete)  # noqa: SIM118


def user_names(ctx: typer.Context, incomplete: str) -> list[str]:
    return _looked_up(ctx, lambda admin: [found.name for found in admin.users()], incomplete)


def secret_names(ctx: typer.Context, incomplete: str) -> list[str]:
    return _looked_up(ctx, lambda admin: [found.name for found in admin.secrets()], incomplete)


def _looked_up(ctx: typer.Context, look: Any, incomplete: str) -> list[str]:
    """Nothing, rather than an error in the middle of somebody's line, where the server cannot be asked."""
    from slipway.cli.calls import certificate_of
    from slipway.client.admin import Admin
    from slipway.client.retry import Retry
    from slipway.errors import SlipwayError

    shown = [ctx.params.get(name) or "" for name in ("certificate", "certificate_key")]
    server, key, data_dir, ca_file = (ctx.params.get(name) or "" for name in ("server", "key", "data_dir", "ca_file"))
    once = Retry(attempts=1)
    try:
        with Admin(
            server,
            key,
            data_dir=data_dir,
            ca_file=ca_file or None,
            certificate=certificate_of(*shown),
            timeout_s=LOOK_UP_S,
            retry=once,
        ) as admin:
            return [name for name in look(admin) if name.startswith(incomplete)]
    except SlipwayError:
        return []
