"""One file from an HTTP server, on whose word nothing depends: it may cut, ignore ranges, change the file, redirect.

Resuming is by Range with If-Range (RFC 9110, sections 13.1.5 and 14): a file that changed comes whole instead of
being mixed. Redirects are followed here, not by the library, to look at each before it is.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import Message
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit
from urllib.request import getproxies, proxy_bypass

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError, LocationValueError, SSLError

from slipway import __version__
from slipway.errors import Forbidden, InvalidSpec, NotFound, Unavailable, Unsupported
from slipway.spec.manifest import check_path
from slipway.store.artifacts.sources import CHUNK_BYTES, Opened, RemoteFile, Transient, Unchanged, file_name, redacted

REDIRECTS = 10
# Addresses where clouds hand out a machine's credentials, beside the link-local ones: AWS by IPv6, Alibaba.
_METADATA = frozenset(map(ipaddress.ip_address, ("fd00:ec2::254", "100.100.100.200")))
_AGAIN = frozenset((408, 425, 429, 500, 502, 503, 504))
_MOVED = frozenset((301, 302, 303, 307, 308))
_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)\Z")
_LONGEST_RETRY_AFTER_S = 120.0


class HttpSource:
    """`known`: identity of what is here already. `read_s`: the longest silence."""

    def __init__(self, url: str, *, known: str, connect_s: float, read_s: float) -> None:
        self._url = url
        self._shown = redacted(url)
        try:
            parts = urlsplit(url)
            host = parts.hostname
            _ = parts.port
        except ValueError as error:
            raise InvalidSpec(f"{self._shown} is not a URL: {error}") from None
        if not host:
            raise InvalidSpec(f"{self._shown} names no host")
        self._name = file_name(parts.path) or "model"
        if problem := check_path(self._name):
            raise InvalidSpec(f"{self._shown} has no good file name at its end: {problem}")
        self._known = known
        self._timeout = urllib3.Timeout(connect=connect_s, read=read_s)

    def files(self) -> list[RemoteFile]:
        return [RemoteFile(self._name, self._url, None, "")]

    @contextmanager
    def open(self, file: RemoteFile, *, start: int, identity: str) -> Iterator[Opened]:
        response = self._ask(file.place, start, identity)
        try:
            if response.headers.get("content-encoding", "identity").lower() != "identity":
                raise Unsupported(
                    f"{self._shown} comes with Content-Encoding {response.headers['content-encoding']!r} though it was "
                    "asked for as it is; store it uncompressed"
                )
            yield self._opened(response)
        except (HTTPError, OSError) as error:
            raise Transient(f"{self._shown}: the connection broke: {_words(error)}") from error
        finally:
            response.close()

    def _ask(self, url: str, start: int, identity: str) -> urllib3.BaseHTTPResponse:
        kind, _, validator = identity.partition(" ")
        if start and kind:
            response = self._follow(url, {"range": f"bytes={start}-", "if-range": validator})
            if response.status == 200 or _goes_on(response, start, identity):
                return response
            response.close()
        elif not start and self._known.startswith("strong "):
            response = self._follow(url, {"if-none-match": self._known.partition(" ")[2]})
            if response.status == 304:
                response.close()
                raise Unchanged
            if response.status == 200:
                return response
            response.close()
        response = self._follow(url, {})
        if response.status != 200:
            response.close()
            raise Unavailable(f"{self._shown} answers with the HTTP status {response.status}, and not with a file")
        return response

    def _follow(self, url: str, headers: dict[str, str]) -> urllib3.BaseHTTPResponse:
        for _ in range(REDIRECTS + 1):
            response = self._send(url, headers)
            place = response.headers.get("location")
            if response.status not in _MOVED or not place:
                self._check_status(response)
                return response
            response.close()
            url = self._redirected(url, place)
        raise Unavailable(f"{self._shown} redirects more than {REDIRECTS} times")

    def _redirected(self, url: str, place: str) -> str:
        target = urljoin(url, place)
        scheme = urlsplit(target).scheme.lower()
        if scheme not in ("http", "https"):
            raise Forbidden(f"{self._shown} redirects to {redacted(target)}: a redirect may only lead to http or https")
        if scheme == "http" and urlsplit(url).scheme.lower() == "https":
            raise Forbidden(f"{self._shown} redirects from https to {redacted(target)}, where anybody could change it")
        return target

    def _send(self, url: str, headers: dict[str, str]) -> urllib3.BaseHTTPResponse:
        parts = urlsplit(url)
        headers = {"accept-encoding": "identity", "user-agent": f"slipway/{__version__}", **headers}
        if parts.username is not None:  # of this URL alone: a redirect has those that it brings itself
            login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            headers |= urllib3.make_headers(basic_auth=login)
        plain = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
        _check_host(parts.hostname or "", self._shown)
        try:
            return _network(parts.scheme.lower(), parts.hostname or "").request(
                "GET",
                plain,
                headers=headers,
                redirect=False,
                retries=False,
                preload_content=False,
                decode_content=False,
                timeout=self._timeout,
            )
        except LocationValueError as error:
            raise InvalidSpec(f"{self._shown} is not a URL: {error}") from None
        except SSLError as error:
            raise Unavailable(f"{self._shown}: no secure connection: {_words(error)}") from error
        except (HTTPError, OSError) as error:
            raise Transient(f"{self._shown} cannot be reached: {_words(error)}") from error

    def _check_status(self, response: urllib3.BaseHTTPResponse) -> None:
        status = response.status
        if status in (200, 206, 304, 416):
            return
        response.close()
        if status in (404, 410):
            raise NotFound(f"{self._shown} is not there (HTTP status {status})")
        if status in (401, 403, 407):
            raise Forbidden(
                f"{self._shown} may not be read (HTTP status {status}): credentials go into the URL, signed ones end"
            )
        if status in _AGAIN:
            raise Transient(
                f"{self._shown} answers with the HTTP status {status}", retry_after_s=_retry_after_s(response)
            )
        raise Unavailable(f"{self._shown} answers with the HTTP status {status}, and not with a file")

    def _opened(self, response: urllib3.BaseHTTPResponse) -> Opened:
        start, size = 0, None
        if response.status == 206:
            first, _, total = _content_range(response) or (0, 0, None)
            start, size = first, total
        elif response.headers.get("content-length", "").isdecimal():
            size = int(response.headers["content-length"])
        name = "" if "." in self._name else _disposition_name(response)
        return Opened(start, size, _identity(response), name, _chunks(response))


def _chunks(response: urllib3.BaseHTTPResponse) -> Iterator[bytes]:
    while chunk := response.read1(CHUNK_BYTES, decode_content=False):
        yield chunk


def _identity(response: urllib3.BaseHTTPResponse) -> str:
    tag = response.headers.get("etag", "")
    if tag and not tag.startswith("W/"):
        return f"strong {tag}"
    modified = response.headers.get("last-modified", "")
    return f"weak {modified}" if modified else ""


def _goes_on(response: urllib3.BaseHTTPResponse, start: int, identity: str) -> bool:
    """It answers with the rest of the same file. Some servers know Range, and not If-Range."""
    found = _content_range(response) if response.status == 206 else None
    return found is not None and found[0] == start and _identity(response) in (identity, "")


def _content_range(response: urllib3.BaseHTTPResponse) -> tuple[int, int, int | None] | None:
    found = _RANGE.match(response.headers.get("content-range", ""))
    return (int(found[1]), int(found[2]), None if found[3] == "*" else int(found[3])) if found else None


def _disposition_name(response: urllib3.BaseHTTPResponse) -> str:
    """For URLs such as /download?id=7, whose end names nothing."""
    header = Message()
    header["content-disposition"] = response.headers.get("content-disposition", "")
    name = (header.get_filename() or "").replace("\\", "/").rpartition("/")[2]
    return "" if check_path(name) else name


def _retry_after_s(response: urllib3.BaseHTTPResponse) -> float:
    text = response.headers.get("retry-after", "")
    return min(float(text), _LONGEST_RETRY_AFTER_S) if text.isdecimal() else 0.0


def _words(error: BaseException) -> str:
    return str(error) or type(error).__name__


# --- where a connection may lead ----------------------------------------------------------------------------------


def _network(scheme: str, host: str) -> urllib3.PoolManager:
    """Through the proxy that the environment names, if it does."""
    proxy = None if proxy_bypass(host) else getproxies().get(scheme)
    manager = urllib3.ProxyManager(proxy) if proxy else urllib3.PoolManager()
    if not proxy:
        manager.pool_classes_by_scheme = {"http": _HttpPool, "https": _HttpsPool}
    return manager


def _check_host(host: str, shown: str) -> None:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return  # a name: what it means is seen once connected
    if _is_metadata(address):
        raise Forbidden(_NO_MODELS.format(shown, host))


def _check_peer(sock: Any, host: str) -> None:
    """After the name was resolved and before anything is sent, so no name can lead here by resolving anew."""
    if sock is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    peer = ipaddress.ip_address(sock.getpeername()[0].partition("%")[0])
    if _is_metadata(peer):
        sock.close()
        raise Forbidden(_NO_MODELS.format(host, peer))


_NO_MODELS = "{} leads to {}, an address where machines keep their credentials and nobody keeps models"


def _is_metadata(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    plain = getattr(address, "ipv4_mapped", None) or address
    return plain.is_link_local or plain in _METADATA


class _CheckedHttp(HTTPConnection):
    def connect(self) -> None:
        super().connect()
        _check_peer(self.sock, self.host)


class _CheckedHttps(HTTPSConnection):
    def connect(self) -> None:
        super().connect()
        _check_peer(self.sock, self.host)


class _HttpPool(urllib3.HTTPConnectionPool):
    ConnectionCls = _CheckedHttp


class _HttpsPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _CheckedHttps
