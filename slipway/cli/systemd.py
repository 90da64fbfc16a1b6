"""`slipway systemd`: a unit that keeps a server running."""

from __future__ import annotations

import getpass
import re
import sys

from slipway.cli.options import command_of
from slipway.cli.up_options import UnitOptions, arguments_of, config_from
from slipway.errors import SetupError

DRAIN_AND_MORE_S = 30

UNIT = """\
# Made by `slipway systemd`. To install it:
#   slipway systemd{again} > {path}
#   {systemctl} daemon-reload && {systemctl} enable --now slipway
[Unit]
Description=Slipway model server
Wants=network-online.target
After=network-online.target
StartLimitIntervalSec=0

[Service]
Type=exec
{user}WorkingDirectory=-{folder}
ExecStart={command}
Restart=always
RestartSec=1
# The supervisor drains when it is told to end; whatever is left then goes with it.
KillMode=mixed
KillSignal=SIGTERM
SendSIGHUP=no
TimeoutStopSec={stop_s}
LimitNOFILE=1048576
UMask=0077
NoNewPrivileges=yes

[Install]
WantedBy={target}
"""


def act(given: UnitOptions) -> None:
    """Print a systemd unit that runs `slipway up` with these options, and starts it again whenever it ends.

    \b
    slipway systemd --data-dir /srv/slipway | sudo tee /etc/systemd/system/slipway.service
    slipway systemd --user > ~/.config/systemd/user/slipway.service

    `systemctl stop slipway` drains. After `slipway down`, systemd starts it again.
    """
    print(unit(given), end="")


def unit(given: UnitOptions) -> str:
    """Raises SetupError, as `slipway up` with these options would."""
    from slipway.cli.up import folder_of, without_password

    config = config_from(given)
    folder = folder_of(config)
    if given.database != without_password(given.database):
        raise SetupError(
            "--database holds a password, which is not for a unit that all can read: write it into a "
            "configuration file of mode 0600, and give that with --config"
        )
    more = [one for one in arguments_of(given) if not one.startswith("--data-dir=")]
    words = [f"--data-dir={folder}", *more]
    return UNIT.format(
        again="".join(f" {one}" for one in [*(["--user"] if given.user else []), *words]),
        path="~/.config/systemd/user/slipway.service" if given.user else "/etc/systemd/system/slipway.service",
        systemctl="systemctl --user" if given.user else "systemctl",
        user="" if given.user else f"User={getpass.getuser()}\n",
        folder=_escaped(str(folder)),
        command=" ".join(map(_quoted, [sys.executable, "-m", "slipway", "up", *words])),
        stop_s=int(config.drain_s) + DRAIN_AND_MORE_S,
        target="default.target" if given.user else "multi-user.target",
    )


def _quoted(word: str) -> str:
    """As systemd.service(5) reads a command line: % and $ are its own."""
    word = _escaped(word).replace("$", "$$")
    if re.fullmatch(r"[\w@%$+=:,./-]+", word):
        return word
    return '"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _escaped(text: str) -> str:
    return text.replace("%", "%%")


systemd = command_of(act, UnitOptions)
