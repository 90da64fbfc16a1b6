"""An authority of the tests' own, what it signs, and sockets that look at it: for the tests of TLS."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from slipway.spec.serve import Tls

PEM = serialization.Encoding.PEM
_YEAR = datetime.timedelta(days=365)


def _name(*common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name) for name in common])


class Authority:
    """`certificate`: PEM of its own."""

    def __init__(self, name: str = "tests") -> None:
        self._name = _name(name)
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._signed = self._sign(self._name, self._key.public_key(), ca=True)
        self.certificate = self._signed.public_bytes(PEM)

    def issue(self, *names: str, lasts: datetime.timedelta = _YEAR) -> tuple[bytes, bytes]:
        """Certificate and key for a server on this machine or a client, with these common names."""
        key = ec.generate_private_key(ec.SECP256R1())
        signed = self._sign(_name(*names), key.public_key(), ca=False, lasts=lasts)
        form = serialization.PrivateFormat.PKCS8
        return signed.public_bytes(PEM), key.private_bytes(PEM, form, serialization.NoEncryption())

    def _sign(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey, *, ca: bool, lasts: datetime.timedelta = _YEAR
    ) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _YEAR * 2)
            .not_valid_after(now + lasts)
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        )
        if not ca:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(self._key, hashes.SHA256())


class Files:
    """PEM files in a folder, written as an operator would: a new one is moved over the old one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def put(self, name: str, content: bytes) -> str:
        path = self.folder / name
        new = path.with_suffix(".new")
        new.write_bytes(content)
        new.rename(path)
        return str(path)

    def pair(self, name: str, pair: tuple[bytes, bytes]) -> tuple[str, str]:
        return self.put(f"{name}.pem", pair[0]), self.put(f"{name}.key", pair[1])


class Place(NamedTuple):
    """`tls`: of the door under test; `files` holds `server.pem`, `server.key` and `clients.pem`."""

    authority: Authority
    clients: Authority
    files: Files

    def tls(self, client: str = "none") -> Tls:
        folder = self.files.folder
        ca = str(folder / "clients.pem") if client != "none" else ""
        return Tls(str(folder / "server.pem"), str(folder / "server.key"), ca, client)

    @classmethod
    def at(cls, folder: Path) -> Place:
        place = cls(Authority(), Authority("clients"), Files(folder))
        place.files.pair("server", place.authority.issue("first"))
        place.files.put("clients.pem", place.clients.certificate)
        return place


def client_context(place: Place, shows: tuple[bytes, bytes] | None = None, **more: Any) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=place.authority.certificate.decode())
    if shows is not None:
        context.load_cert_chain(*place.files.pair("shown", shows))
    for name, value in more.items():
        setattr(context, name, value)
    return context


@contextlib.contextmanager
def connected(
    port: int, context: ssl.SSLContext, *, name: str | None = "localhost", session: Any = None
) -> Iterator[ssl.SSLSocket]:
    if name is None:
        context.check_hostname = False
    plain = socket.create_connection(("127.0.0.1", port), timeout=10)
    with plain, context.wrap_socket(plain, server_hostname=name, session=session) as wrapped:
        yield wrapped


def shown_by(wrapped: ssl.SSLSocket) -> str:
    """The common name of the server's certificate."""
    raw = wrapped.getpeercert(binary_form=True)
    assert raw is not None
    return str(x509.load_der_x509_certificate(raw).subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)
