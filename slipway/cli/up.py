"""`slipway up`: the server, in the foreground or behind the terminal."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from slipway.cli.options import command_of
from slipway.cli.up_options import UpOptions, config_from

if TYPE_CHECKING:
    from slipway.spec.server import ServerConfig


def act(given: UpOptions) -> None:
    """Start the server. What was deployed in its data directory comes back; `slipway deploy` adds to it.

    \b
    slipway up                                          until Ctrl-C, which drains
    slipway up --detach                                 in the background; `slipway down` ends it
    slipway up --data-dir /srv/slipway --host 0.0.0.0   for others too, who then need a key
    slipway up --config server.yaml --dry-run           only check the configuration
    SLIPWAY_PORT=9000 slipway up                        options from the environment

    What is typed counts more than the environment, and that more than the configuration file.
    """
    config = config_from(given)
    if given.dry_run:
        rehearse(config)
    elif given.detach:
        from slipway.cli.detach import start_detached

        start_detached(given, folder=folder_of(config), drain_s=config.drain_s)
    else:
        from slipway.cli.watch import watcher_for
        from slipway.supervisor.begin import supervise_up

        raise typer.Exit(supervise_up(config, watcher=watcher_for(log_json=config.logs.json)))


def folder_of(config: ServerConfig) -> Path:
    from slipway.client.login import data_folder

    return data_folder(config.data_dir)


def rehearse(config: ServerConfig) -> None:
    """Raises SetupError as the start would."""
    from slipway.cli.place import is_running
    from slipway.errors import SetupError
    from slipway.spec.data_folder import read_server_file
    from slipway.spec.serve import check_server
    from slipway.supervisor.begin import HeldPorts, server_spec_of
    from slipway.supervisor.house import addresses_of

    folder = folder_of(config)
    if is_running(folder):
        card = read_server_file(folder)
        raise SetupError(f"--data-dir {folder}: {f'process {card.pid}' if card else 'a server'} runs on it already")
    spec = server_spec_of(config)
    check_server(spec, needs_models=False)
    ports = HeldPorts(spec.doors)
    try:
        addresses = addresses_of(ports.fill(spec).doors)
    finally:
        ports.release()
    print(f"data directory  {folder}{'' if folder.exists() else ' (will be made)'}")
    print(f"database        {without_password(config.database) or 'SQLite in the data directory'}")
    print(f"HTTP            {addresses.http or 'shut'}")
    print(f"gRPC            {addresses.grpc or 'shut'}")
    print(f"management      {addresses.admin or 'shut'}")
    print(f"{config.gateways} gateway process(es). Nothing was started.")


def without_password(url: str) -> str:
    """Neither that of the account nor, as PostgreSQL takes them too, those among the options."""
    scheme, slashes, rest = url.partition("://")
    account, at, host = rest.rpartition("@")
    user, colon, _ = account.partition(":")
    shown = f"{scheme}{slashes}{user}{':…' if colon else ''}{at}{host}"
    return re.sub(r"([?&](?:ssl)?password=)[^&]*", r"\1…", shown, flags=re.IGNORECASE)


up = command_of(act, UpOptions)
