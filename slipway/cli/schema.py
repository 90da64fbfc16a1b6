"""`slipway schema`: the JSON Schema of specs, for editors and other tools."""

from __future__ import annotations

import json
from typing import Annotated

import typer


def schema(
    server_config: Annotated[
        bool, typer.Option("--server-config", help="Of what `slipway up --config` reads.")
    ] = False,
) -> None:
    """Print the JSON Schema of a deployment's spec (draft 2020-12).

    An editor that speaks to the YAML language server completes and checks a spec that begins with the line
    `# yaml-language-server: $schema=slipway.schema.json`.

    \b
    slipway schema > slipway.schema.json
    slipway schema --server-config > server.schema.json
    """
    from slipway.spec.schema import server_schema, spec_schema

    print(json.dumps(server_schema() if server_config else spec_schema(), indent=2, ensure_ascii=False))
