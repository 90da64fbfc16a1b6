"""Where a remote model comes from: what a URL may be, and what every kind of source can do.

Whoever may deploy chooses URLs that the server then reads with its own network and credentials. So protocols that
would read this machine's disk (`file://`, archives and caches over it, chains of protocols) are refused by name here,
and `http_source` refuses where redirects and addresses lead.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import AbstractContextManager
from difflib import get_close_matches
from pathlib import Path
from typing import NamedTuple, Protocol
from urllib.parse import unquote, urlsplit

from slipway.errors import InvalidSpec

CHUNK_BYTES = 2**20
LOCAL = frozenset({"file", "local"})
# They read this machine's disk or memory, or lead to another protocol that does.
REFUSED = frozenset(
    {
        *("asynclocal", "async_wrapper", "asyncwrapper", "blockcache", "cached", "dask", "data", "dir", "dvc"),
        *("filecache", "generic", "git", "libarchive", "memory", "pyscript", "reference", "simplecache", "tar", "zip"),
    }
)
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)(::.*)?://")


class RemoteFile(NamedTuple):
    """`path`: in the artifact. `place`: as the source calls it. `identity`: as in Opened; '' while it is unknown."""

    path: str
    place: str
    size_bytes: int | None
    identity: str


class Opened(NamedTuple):
    """Bytes that flow. `start`: of the first of them; 0 where the source could not go on from where it was asked to.

    `identity`: `strong …` changes whenever the content does, `weak …` (a time of change) nearly always, '' is unknown;
    bytes of two identities are never mixed. `name`: what the source calls the file, '' where it does not say.
    """

    start: int
    size_bytes: int | None
    identity: str
    name: str
    chunks: Iterator[bytes]


class Source(Protocol):
    def files(self) -> list[RemoteFile]:
        """All of them, by path; asked again it looks again."""
        ...

    def open(self, file: RemoteFile, *, start: int, identity: str) -> AbstractContextManager[Opened]:
        """From byte `start` on, if it still is what `identity` says."""
        ...


class Transient(Exception):
    """It may work the next time. `retry_after_s`: not before."""

    def __init__(self, message: str, *, retry_after_s: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Unchanged(Exception):
    """It still is what it was when it was fetched last."""


def protocol_of(url: str) -> str:
    """Lower case. Raises InvalidSpec where it is none that a model may come from."""
    found = _SCHEME.match(url)
    if found is None:
        raise InvalidSpec(f"{url[:200]!r} is no URL, such as https://host/model.onnx or s3://bucket/model.onnx")
    protocol = found[1].lower()
    if found[2] or ("::" in url and protocol not in ("http", "https")):  # an IPv6 address has colons too
        raise InvalidSpec(
            f"{redacted(url)} is a chain of protocols (::); a model comes by one, such as https:// or s3://"
        )
    if protocol in LOCAL | REFUSED:
        raise InvalidSpec(
            f"{redacted(url)}: {protocol}:// reads the server's own machine, which a spec may not; upload the model, "
            "or use http(s)://, s3://, gs://, az:// or another remote protocol"
        )
    return protocol


def unknown_protocol(protocol: str, known: list[str]) -> InvalidSpec:
    remote = sorted({*known, "http", "https"} - LOCAL - REFUSED)
    near = get_close_matches(protocol, remote, n=1)
    hint = f"did you mean {near[0]}://?" if near else f"known are {', '.join(remote)}"
    return InvalidSpec(f"no model can come by {protocol}://; {hint}")


def local_path(url: str, *, allow_local: bool) -> Path | None:
    """The path that a `file://` URL or a bare path means; None for what is remote. Raises InvalidSpec where local ones
    are not allowed."""
    found = _SCHEME.match(url)
    if found is not None and (found[1].lower() not in LOCAL or found[2] or not allow_local):
        protocol_of(url)  # refuses what is local
        return None
    if not allow_local:
        raise InvalidSpec(
            f"{url[:200]!r} is a path of the server's machine, which may not be named here; upload the model"
        )
    if found is None:
        return Path(url)
    parts = urlsplit(url)
    if parts.netloc not in ("", "localhost"):
        raise InvalidSpec(f"{redacted(url)} names the host {parts.netloc!r}; a file of this machine is file:///path")
    return Path(unquote(parts.path))


def file_name(path: str) -> str:
    """The last name of a path, for a model that is one file. A slash in disguise (%2f) is a slash."""
    return unquote(path.rstrip("/")).rpartition("/")[2]


def redacted(url: str) -> str:
    """For messages and logs: without passwords and without the query, where signatures are."""
    try:
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
    except ValueError:
        return ascii(url.partition("?")[0].rpartition("@")[2][:200])
    text = f"{parts.scheme}://{host}{parts.path}" + ("?…" if parts.query else "")
    return text[:300] if text.isprintable() else ascii(text[:300])
