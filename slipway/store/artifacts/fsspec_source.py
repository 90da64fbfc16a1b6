"""Files and folders by every remote protocol of fsspec: object stores, SFTP, HDFS, GitHub, Hugging Face and so on.

Their caches are never asked: what counts is what is there now. fsspec has no way to say "this version only", so all is
looked at before it is read, and again afterwards.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import fsspec
from fsspec.core import url_to_fs
from fsspec.registry import available_protocols, known_implementations

from slipway.errors import Forbidden, InvalidSpec, MissingExtra, NotFound, SlipwayError, Unsupported
from slipway.spec.local_files import LEFT_OUT
from slipway.spec.manifest import MAX_FILES, check_path
from slipway.store.artifacts.sources import (
    LOCAL,
    REFUSED,
    Opened,
    RemoteFile,
    Transient,
    redacted,
    unknown_protocol,
)

READ_BYTES = 8 * 2**20
"""One request each, so not too small; nothing more is held in memory."""

_EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs", "az": "azure", "abfs": "azure", "adl": "azure"}
# What the many file systems call the fields by which a change can be told.
_STRONG = (
    *("ETag", "etag", "VersionId", "version_id", "generation", "md5Hash", "md5", "content_md5", "crc32c", "checksum"),
    *("sha256", "sha", "blob_id", "hash"),
)
_WEAK = ("LastModified", "last_modified", "mtime", "modified", "modify", "updated", "modificationTime")
_NO_LOGIN = (
    *("NoCredentialsError", "PartialCredentialsError", "DefaultCredentialsError", "ClientAuthenticationError"),
    *("AuthenticationException", "RefreshError", "TokenRetrievalError", "UnauthorizedSSOTokenError"),
)


class FsspecSource:
    """`settings`: given to the file system, beside what it takes from the environment."""

    def __init__(self, url: str, *, protocol: str, settings: Mapping[str, Any]) -> None:
        self._shown = redacted(url)
        self._protocol = protocol
        _check_protocol(protocol)
        with self._translated():
            try:
                self._fs, self._root = url_to_fs(url, skip_instance_cache=True, **settings)
            except (TypeError, ValueError) as error:
                raise InvalidSpec(f"{self._shown} cannot be used: {error}") from error
        if self._names() & (LOCAL | REFUSED):
            raise InvalidSpec(f"{self._shown}: {protocol}:// reads the server's own machine, which a spec may not")

    def files(self) -> list[RemoteFile]:
        with self._translated():
            info = self._info(self._root)
            if info.get("type") != "directory":
                return [self._remote(self._root.rstrip("/").rpartition("/")[2], info)]
            found = sorted(self._walk())
        if not found:
            raise NotFound(f"{self._shown} holds no file")
        return found

    @contextmanager
    def open(self, file: RemoteFile, *, start: int, identity: str) -> Iterator[Opened]:
        with self._translated():
            now = self._remote(file.path, self._info(file.place))
            if not identity or now.identity != identity:
                start = 0
            with self._fs.open(file.place, "rb", block_size=READ_BYTES, cache_type="none") as opened:
                if start:
                    opened.seek(start)
                yield Opened(start, now.size_bytes, now.identity, "", self._chunks(opened))

    def _chunks(self, opened: Any) -> Iterator[bytes]:
        with self._translated():
            while chunk := opened.read(READ_BYTES):
                yield chunk

    def _walk(self) -> Iterator[RemoteFile]:
        root = self._root.strip("/")
        seen = 0
        for _, _, files in self._fs.walk(self._root, detail=True, on_error="raise"):
            for name, info in files.items():
                place = str(info["name"])
                path = place.strip("/").removeprefix(root).lstrip("/")
                if not name or not path or info.get("type") == "directory" or LEFT_OUT & set(path.split("/")):
                    continue  # a marker that stands for the folder itself, or what no folder's digest counts
                if problem := check_path(path):
                    raise InvalidSpec(f"{path[:120]!a} in {self._shown}: {problem}")
                seen += 1
                if seen > MAX_FILES:
                    raise InvalidSpec(f"{self._shown} holds more than {MAX_FILES} files; is it the model's folder?")
                yield self._remote(path, info)

    def _info(self, place: str) -> Mapping[str, Any]:
        self._fs.invalidate_cache()
        info: Mapping[str, Any] = self._fs.info(place)
        return info

    def _remote(self, path: str, info: Mapping[str, Any]) -> RemoteFile:
        if problem := check_path(path):
            raise InvalidSpec(f"{path[:120]!a} in {self._shown}: {problem}")
        size = info.get("size")
        return RemoteFile(path, str(info["name"]), int(size) if size is not None else None, _identity(info))

    def _names(self) -> set[str]:
        names = self._fs.protocol
        return {names} if isinstance(names, str) else set(names)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (SlipwayError, Transient):
            raise
        except (FileNotFoundError, NotADirectoryError) as error:
            raise NotFound(f"{self._shown} is not there: {_words(error)}") from error
        except PermissionError as error:
            raise Forbidden(f"{self._shown} may not be read with the server's credentials: {_words(error)}") from error
        except ImportError as error:
            raise _missing(self._protocol, error) from error
        except NotImplementedError as error:
            raise Unsupported(f"{self._shown}: {self._protocol}:// cannot do this: {_words(error)}") from error
        except Exception as error:
            if type(error).__name__ in _NO_LOGIN:
                raise Forbidden(
                    f"{self._shown} needs credentials, which the server takes from its environment: {_words(error)}"
                ) from error
            raise Transient(f"{self._shown}: {_words(error)}") from error


def _check_protocol(protocol: str) -> None:
    try:
        fsspec.get_filesystem_class(protocol)
    except ValueError:
        raise unknown_protocol(protocol, available_protocols()) from None
    except ImportError as error:
        raise _missing(protocol, error) from error


def _missing(protocol: str, error: ImportError) -> MissingExtra:
    extra = _EXTRAS.get(protocol)
    if extra:
        return MissingExtra(f"models by {protocol}:// need a package: pip install 'slipway[{extra}]'")
    told = known_implementations.get(protocol, {}).get("err", "") or str(error)
    return MissingExtra(f"models by {protocol}:// need a package ({told}): pip install it where the server runs")


def _identity(info: Mapping[str, Any]) -> str:
    """By the first field that there is: a listing tells fewer than a look at one file."""
    for kind, keys in (("strong", _STRONG), ("weak", _WEAK)):
        for key in keys:
            if info.get(key):
                return f"{kind} {info.get('size')} {key}={info[key]}"
    return ""


def _words(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
