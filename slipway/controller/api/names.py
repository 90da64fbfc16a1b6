"""The parameters that paths and queries share, with what may stand there and the words that say so."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path, Query

from slipway.controller.api.desk import said

NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"
_NAMES = "letters, digits, '.', '_' and '-' only, 128 at most, beginning with a letter or digit"
VERSION = r"^v[1-9][0-9]{0,8}$"
DIGEST = r"^sha256:[0-9a-f]{64}$"
SHA256 = r"^[0-9a-f]{64}$"
KEY_ID = r"^[a-z0-9]{1,32}$"

Name = Annotated[
    str,
    Path(description="Of the deployment.", json_schema_extra={"pattern": NAME, "maxLength": 128}, examples=["iris"]),
    said(NAME, f"a name has {_NAMES}"),
]
PlainName = Annotated[
    str,
    Path(alias="plain_name", json_schema_extra={"pattern": NAME, "maxLength": 128}, examples=["ci"]),
    said(NAME, f"a name has {_NAMES}"),
]
OneVersion = Annotated[
    str,
    Path(alias="version", json_schema_extra={"pattern": VERSION}, examples=["v1"]),
    said(VERSION, "a version is v and its number, such as v3"),
]
MaybeVersion = Annotated[
    str,
    Query(alias="version", json_schema_extra={"pattern": r"^(v[1-9][0-9]{0,8})?$"}, description="Such as v3; all."),
    said(r"(v[1-9][0-9]{0,8})?", "a version is v and its number, such as v3"),
]
MaybeDeployment = Annotated[
    str,
    Query(
        alias="deployment",
        json_schema_extra={"pattern": r"^([A-Za-z0-9][A-Za-z0-9._-]{0,127})?$", "maxLength": 128},
        description="Of this one only.",
    ),
    said(r"([A-Za-z0-9][A-Za-z0-9._-]{0,127})?", f"a name has {_NAMES}"),
]
Digest = Annotated[
    str,
    Path(alias="digest", json_schema_extra={"pattern": DIGEST}),
    said(DIGEST, "a digest is sha256: and 64 hex digits in lower case"),
]
Sha256 = Annotated[
    str,
    Path(alias="sha256", json_schema_extra={"pattern": SHA256}, description="Of the file's content."),
    said(SHA256, "64 hex digits in lower case"),
]
KeyId = Annotated[
    str,
    Path(alias="key_id", json_schema_extra={"pattern": KEY_ID}, examples=["3k9x2m7q"]),
    said(KEY_ID, "the id of a key is lower-case letters and digits, as in sw_ID_…"),
]
After = Annotated[int, Query(ge=0, le=2**53 - 1, description="Only what came after this number.")]
