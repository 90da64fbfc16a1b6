"""What requests carry: bounded before it is read, and read strictly, with the place of what is wrong."""

from __future__ import annotations

import re
from difflib import get_close_matches
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta
from starlette.requests import Request

from slipway.errors import InvalidInput, MalformedRequest, PayloadTooLarge, UnsupportedMedia
from slipway.spec.manifest import MAX_BYTES, MAX_FILES, MAX_PATH_BYTES
from slipway.spec.resources import UploadFile

T = TypeVar("T")

MOST_BYTES = 2**20
MOST_MANIFEST_BYTES = 16 * 2**20
_YEAR_S = 366 * 86_400

# Patterns that only the schema has are those of rules that other rooms enforce, in better words than a pattern's.
_SCOPE = r"^(admin|(predict|feedback|deploy):(\*|[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?))$"
Scope = Annotated[str, Meta(max_length=256, extra_json_schema={"pattern": _SCOPE})]
Scopes = Annotated[list[Scope], Meta(min_length=1, max_length=1000)]


class Body(msgspec.Struct, forbid_unknown_fields=True):
    """No key that is not known, so that a misspelt one is not silently without effect."""


class DeployBody(Body):
    """`artifact`: the digest of what was uploaded as the spec's model; '' where the server fetches it itself."""

    spec: dict[str, Any]
    artifact: Annotated[str, Meta(pattern=r"^(sha256:[0-9a-f]{64})?$", max_length=71)] = ""


class ScaleBody(Body):
    replicas: Annotated[int, Meta(ge=1, le=1024)]


class RollbackBody(Body):
    """`to`: such as `v2`; '' is the version that was live before."""

    to: Annotated[str, Meta(pattern=r"^(v[1-9][0-9]{0,8})?$", max_length=10)] = ""


class PromoteBody(Body):
    """`version` '': the one that waits."""

    version: Annotated[str, Meta(pattern=r"^(v[1-9][0-9]{0,8})?$", max_length=10)] = ""


class NothingBody(Body):
    """Nothing needs to be said."""


class FileBody(Body):
    """As `UploadFile`."""

    path: Annotated[str, Meta(min_length=1, max_length=MAX_PATH_BYTES)]
    sha256: Annotated[str, Meta(extra_json_schema={"pattern": r"^[0-9a-f]{64}$"})]
    size_bytes: Annotated[int, Meta(ge=0, le=MAX_BYTES)]
    executable: bool = False


class ArtifactBody(Body):
    files: Annotated[list[FileBody], Meta(min_length=1, max_length=MAX_FILES)]

    def upload_files(self) -> list[UploadFile]:
        return [UploadFile(**msgspec.structs.asdict(file)) for file in self.files]


class KeyBody(Body):
    """`expires_in_s` null: never."""

    name: Annotated[str, Meta(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    scopes: Scopes
    expires_in_s: Annotated[float, Meta(gt=0, le=100 * _YEAR_S)] | None = None


class RotateBody(Body):
    """`overlap_s`: how long the old key still works."""

    overlap_s: Annotated[float, Meta(ge=0, le=_YEAR_S)] = 86_400.0


class UserBody(Body):
    password: Annotated[str, Meta(min_length=8, max_length=1024, extra_json_schema={"pattern": r"^[^\x00-\x1f\x7f]*$"})]
    scopes: Scopes


class SecretBody(Body):
    value: Annotated[str, Meta(min_length=1, max_length=65_536)]


async def read_bounded(request: Request, most_bytes: int) -> bytes:
    """The whole body. Raises PayloadTooLarge as soon as it is known to be, without reading the rest."""
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > most_bytes:
        raise _too_large(most_bytes)
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > most_bytes:
            raise _too_large(most_bytes)
        chunks.append(chunk)
    return b"".join(chunks)


def check_json(request: Request) -> None:
    """A body of another type is refused, also since a browser may send those to any site without asking."""
    said = request.headers.get("content-type", "")
    kind, _, rest = said.partition(";")
    charset = rest.strip().lower().replace('"', "")
    if kind.strip().lower() != "application/json" or charset not in ("", "charset=utf-8"):
        raise UnsupportedMedia(f"the body is {said[:100] or 'of no type'!r}; send `content-type: application/json`")


def decode(body: bytes, kind: type[T]) -> T:
    """Raises MalformedRequest for what is no JSON, InvalidInput for what does not fit, with its place."""
    try:
        return msgspec.convert(_whole(msgspec.json.decode(body)), kind)
    except msgspec.ValidationError as error:
        raise InvalidInput(f"the body does not fit: {error}{_hint(str(error), kind)}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise MalformedRequest(f"the body is not JSON: {error}") from None
    except RecursionError:
        raise MalformedRequest("the body is nested too deep") from None


def _whole(value: Any) -> Any:
    """To JSON, 3.0 is an integer like 3; many programs know only one kind of number."""
    if isinstance(value, float):
        return int(value) if value.is_integer() and abs(value) < 2**53 else value
    if isinstance(value, dict):
        return {key: _whole(inner) for key, inner in value.items()}
    return [_whole(inner) for inner in value] if isinstance(value, list) else value


def _hint(said: str, kind: type) -> str:
    """The nearest right key, where one of the body itself is wrong."""
    wrong = re.search(r"unknown field `([^`]*)`$", said)
    near = get_close_matches(wrong[1], kind.__struct_fields__, 1) if wrong and issubclass(kind, msgspec.Struct) else []
    return f", did you mean {near[0]!r}?" if near else ""


def _too_large(most_bytes: int) -> PayloadTooLarge:
    return PayloadTooLarge(f"the body has more than {most_bytes} bytes , which is the most there may be")
