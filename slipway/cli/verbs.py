"""Every verb of `slipway`: where it is listed, what it does in a line, and where it lives.

A table of strings, so that `slipway --help` reads this page and nothing else, and a verb imports what it alone needs.
"""

from __future__ import annotations

from typing import NamedTuple


class Verb(NamedTuple):
    """`home`: `module:function` below `slipway.cli`; '' for a family, whose members are in FAMILIES."""

    summary: str
    home: str


PANELS: dict[str, dict[str, Verb]] = {
    "Deployments": {
        "deploy": Verb("Deploy a model, or what specs declare.", "deploy:deploy"),
        "list": Verb("All deployments (also: ls).", "deployments:list_"),
        "get": Verb("One deployment: its spec, or everything with -o.", "deployments:get"),
        "history": Verb("What changed in a deployment, when, and by whom.", "deployments:history"),
        "rollback": Verb("Go back to an earlier version.", "deployments:rollback"),
        "promote": Verb("Give the traffic to a version that was deployed with --hold.", "deployments:promote"),
        "scale": Verb("Run this many replicas.", "deployments:scale"),
        "stop": Verb("Take a deployment out of service, and keep it.", "deployments:stop"),
        "start": Verb("Put a stopped deployment back into service.", "deployments:start"),
        "delete": Verb("Remove deployments and their versions.", "deployments:delete"),
    },
    "Watching": {
        "status": Verb("The server, or one deployment in detail.", "status:status"),
        "top": Verb("A live table of traffic, latency, queues and memory.", "top:top"),
        "logs": Verb("What the replicas of a deployment wrote.", "follow:logs"),
        "events": Verb("What happened, step by step.", "follow:events"),
    },
    "Server": {
        "up": Verb("Start the server; what was deployed comes back.", "up:up"),
        "down": Verb("Drain the server and end it.", "down:down"),
        "serve": Verb("Serve some models at once, and forget them at the end.", "serve:serve"),
        "systemd": Verb("Print a systemd unit for `slipway up`.", "systemd:systemd"),
        "version": Verb("The versions of Slipway, Python and the runtimes.", "version:version"),
    },
    "Specs": {
        "init": Verb("Write a commented spec for a model.", "init:init"),
        "validate": Verb("Check specs without a server.", "validate:validate"),
        "diff": Verb("What a deploy of specs would change.", "diff:diff"),
        "schema": Verb("The JSON Schema of specs, for editors.", "schema:schema"),
        "import": Verb("Convert the specs of other servers.", ""),
    },
    "Access": {
        "login": Verb("Remember a server and a key.", "login:login"),
        "logout": Verb("Forget them.", "login:logout"),
        "whoami": Verb("Who the server takes you for.", "login:whoami"),
        "keys": Verb("API keys.", ""),
        "users": Verb("Users of basic auth.", ""),
        "secrets": Verb("Values that specs name and nobody reads back.", ""),
        "audit": Verb("Who changed what; --verify proves that nothing is missing.", "audit:audit"),
    },
    "Shell": {
        "completion": Verb("Print the completion script of bash, zsh or fish.", "completion:completion"),
    },
}

FAMILIES: dict[str, dict[str, Verb]] = {
    "keys": {
        "create": Verb("Create an API key, which is shown once.", "keys:create"),
        "list": Verb("All API keys, without their secrets.", "keys:list_"),
        "rotate": Verb("Replace a key by a new one; both work for a while.", "keys:rotate"),
        "revoke": Verb("Make a key worthless at once.", "keys:revoke"),
    },
    "users": {
        "add": Verb("Add a user, or change one; the password is asked for.", "users:add"),
        "list": Verb("All users.", "users:list_"),
        "remove": Verb("Remove a user.", "users:remove"),
    },
    "secrets": {
        "set": Verb("Write a secret; its value is asked for.", "secrets:set_"),
        "list": Verb("The names of all secrets.", "secrets:list_"),
        "delete": Verb("Delete a secret that nothing uses.", "secrets:delete"),
    },
    "import": {
        "gradient": Verb("Convert deployment specs of Gradient, and say what has no home.", "import_gradient:gradient"),
    },
}

ALIASES = {"ls": "list"}

ELSEWHERE = {
    "apply": "deploy -f",
    "create": "deploy",
    "describe": "status",
    "destroy": "delete",
    "key": "keys",
    "log": "logs",
    "ps": "status",
    "remove": "delete",
    "rm": "delete",
    "run": "serve",
    "secret": "secrets",
    "show": "get",
    "undeploy": "delete",
    "undo": "rollback",
    "update": "deploy",
    "user": "users",
}
"""What other tools call it, where spelling does not lead there."""
