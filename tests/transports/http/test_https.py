"""TLS on the HTTP door: what is agreed on, certificates that change under connections, clients who show theirs."""

from __future__ import annotations

import datetime
import ssl
from pathlib import Path
from typing import Any

import callers
import http_stand
import pytest
from certificates import Authority, Files, Place, client_context, connected, shown_by
from cryptography.hazmat.primitives import serialization

from slipway.errors import SetupError
from slipway.gateway.guard import AccessGuard
from slipway.spec.serve import Tls
from slipway.transports.tls import TlsFiles, common_name

LIVE = http_stand.get("/v2/health/live")


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place.at(tmp_path)


def speak(wrapped: ssl.SSLSocket, data: bytes = LIVE) -> int:
    """The status of the answer."""
    wrapped.sendall(data)
    answer = b""
    while b"\r\n\r\n" not in answer:
        piece = wrapped.recv(4096)
        if not piece:
            raise ConnectionResetError("closed")
        answer += piece
    length = int(answer.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    while len(answer.partition(b"\r\n\r\n")[2]) < length:
        answer += wrapped.recv(4096)
    return int(answer.split(b" ", 2)[1])


def test_https_is_spoken(place: Place) -> None:
    with http_stand.stand(tls=place.tls()) as door:
        context = client_context(place)
        context.set_alpn_protocols(["h2", "http/1.1"])
        with connected(door.door.port, context) as wrapped:
            assert (wrapped.version(), wrapped.selected_alpn_protocol()) == ("TLSv1.3", "http/1.1")
            assert [speak(wrapped), speak(wrapped, http_stand.infer())] == [200, 200]
        with connected(door.door.port, client_context(place, maximum_version=ssl.TLSVersion.TLSv1_2)) as wrapped:
            assert (wrapped.version(), speak(wrapped)) == ("TLSv1.2", 200)


def test_the_last_answer_comes_whole_and_then_the_end(place: Place) -> None:
    with http_stand.stand(tls=place.tls()) as door:
        with connected(door.door.port, client_context(place)) as wrapped:
            wrapped.settimeout(3)
            assert speak(wrapped, http_stand.get("/v2", "connection: close")) == 200
            assert wrapped.recv(1) == b""
        with connected(door.door.port, client_context(place)) as wrapped:
            wrapped.sendall(http_stand.get("/v2/models/affine/infer", "content-length: 999999999", method="POST"))
            assert speak(wrapped, b"x" * 100_000) == 413  # though it is still being sent
        started = door.begin(door.door.close(5))
        started.result(10)


def test_a_drained_door_lets_tls_connections_finish(place: Place) -> None:
    with http_stand.stand(tls=place.tls()) as door:
        door.set(hold=True)
        with connected(door.door.port, client_context(place)) as wrapped:
            wrapped.sendall(http_stand.infer())
            door.until(lambda: door.service.held)
            closing = door.begin(door.door.close(10))
            door.do(door.service.release)
            assert speak(wrapped, b"") == 200
            closing.result(10)
            assert wrapped.recv(1) == b""


def test_old_versions_and_plain_text_are_refused(place: Place) -> None:
    with http_stand.stand(tls=place.tls()) as door:
        old = client_context(place)
        old.set_ciphers("DEFAULT:@SECLEVEL=0")
        with pytest.warns(DeprecationWarning):
            old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
        with pytest.raises((ssl.SSLError, OSError)), connected(door.door.port, old):
            pass
        plain = http_stand.Client(door.door.port)
        plain.send(LIVE)
        with pytest.raises((EOFError, ConnectionResetError, ValueError)):
            plain.answer()
        with connected(door.door.port, client_context(place)) as wrapped:
            assert speak(wrapped) == 200


@pytest.mark.parametrize("name", ["localhost", None], ids=["with a server name", "without"])
def test_certificates_change_under_connections(place: Place, name: str | None) -> None:
    with http_stand.stand(tls=place.tls()) as door:
        context = client_context(place)
        with connected(door.door.port, context, name=name) as before:
            assert (shown_by(before), speak(before)) == ("first", 200)
            place.files.pair("server", place.authority.issue("second"))
            door.pass_seconds(1)
            with connected(door.door.port, client_context(place), name=name) as after:
                assert (shown_by(after), speak(after)) == ("second", 200)
            assert speak(before) == 200


def test_a_broken_pair_does_not_replace_a_good_one(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    with http_stand.stand(tls=place.tls()) as door:
        broken: dict[str, bytes] = {
            "server.pem": b"no certificate",
            "server.key": place.authority.issue("other")[1],
        }
        for name, content in broken.items():
            good = (place.files.folder / name).read_bytes()
            place.files.put(name, content)
            caplog.clear()
            door.pass_seconds(3)
            assert len([record for record in caplog.records if "old ones stay" in record.message]) == 1
            with connected(door.door.port, client_context(place)) as wrapped:
                assert shown_by(wrapped) == "first"
            place.files.put(name, good)
            door.pass_seconds(1)
        (place.files.folder / "server.pem").unlink()
        door.pass_seconds(1)
        with connected(door.door.port, client_context(place)) as wrapped:
            assert shown_by(wrapped) == "first"
        place.files.pair("server", place.authority.issue("third"))
        door.pass_seconds(1)
        with connected(door.door.port, client_context(place)) as wrapped:
            assert shown_by(wrapped) == "third"


def guarded() -> AccessGuard:
    guard = AccessGuard(now=lambda: callers.NOW)
    guard.apply(callers.access())
    return guard


def test_a_client_is_who_its_certificate_says(place: Place) -> None:
    edge, laptop = place.clients.issue("edge-7"), place.clients.issue("laptop")
    with http_stand.stand(guard=guarded(), tls=place.tls("required")) as door:
        port = door.door.port
        for _ in range(2):  # the same bytes from each: what is remembered of a head is not another's
            with connected(port, client_context(place, edge)) as wrapped:
                assert [speak(wrapped, http_stand.infer()) for _ in range(2)] == [200, 200]
            with connected(port, client_context(place, laptop)) as wrapped:
                assert [speak(wrapped, http_stand.infer()) for _ in range(2)] == [403, 403]
                key = f"authorization: Bearer {callers.AFFINE}"
                assert speak(wrapped, http_stand.infer(headers=(key,))) == 200  # a header counts before a certificate
                wrong = f"authorization: Bearer {callers.STRANGER}"
                assert speak(wrapped, http_stand.infer(headers=(wrong,))) == 401
        assert {request.caller.name for request in door.service.requests if request.caller} == {"edge-7", "affine-only"}


def refused(port: int, context: ssl.SSLContext, session: Any = None) -> bool:
    """In TLS 1.3 a client hears only after its handshake that the server did not like it."""
    try:
        with connected(port, context, session=session) as wrapped:
            speak(wrapped)
    except (ssl.SSLError, OSError):
        return True
    return False


def test_required_means_a_certificate_of_that_authority(place: Place) -> None:
    with http_stand.stand(tls=place.tls("required")) as door:
        port = door.door.port
        assert not refused(port, client_context(place, place.clients.issue("edge-1")))
        assert refused(port, client_context(place))
        assert refused(port, client_context(place, Authority("clients").issue("edge-1")))
        assert refused(port, client_context(place, place.authority.issue("edge-1")))
        expired = place.clients.issue("edge-1", lasts=datetime.timedelta(days=-1))
        assert refused(port, client_context(place, expired))


def test_optional_believes_nothing_that_is_wrong(place: Place) -> None:
    with http_stand.stand(guard=guarded(), tls=place.tls("optional")) as door:
        port = door.door.port
        with connected(port, client_context(place)) as wrapped:
            assert [speak(wrapped), speak(wrapped, http_stand.infer())] == [200, 401]
        with connected(port, client_context(place, place.clients.issue("edge-1"))) as wrapped:
            assert speak(wrapped, http_stand.infer()) == 200
        for names in (("edge-1", "admin"), ("edge-1\n",), ()):
            with connected(port, client_context(place, place.clients.issue(*names))) as wrapped:
                assert speak(wrapped, http_stand.infer()) == 401
        assert refused(port, client_context(place, Authority("clients").issue("edge-1")))


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_an_authority_that_is_taken_away_is_gone(place: Place, version: ssl.TLSVersion) -> None:
    """Also for a client that would resume its session, which nobody verifies again."""
    with http_stand.stand(guard=guarded(), tls=place.tls("required")) as door:
        port, context = door.door.port, client_context(place, place.clients.issue("edge-1"), maximum_version=version)
        with connected(port, context) as wrapped:
            assert speak(wrapped, http_stand.infer()) == 200
            session = wrapped.session
        place.files.put("clients.pem", Authority("new clients").certificate)
        door.pass_seconds(1)
        assert refused(port, context)
        assert refused(port, context, session)


# --- what is declared ---------------------------------------------------------------------------------------------


def test_what_cannot_be_is_said(place: Place) -> None:
    folder = place.files.folder
    good = place.tls("required")
    encrypted = place.files.put("encrypted.key", _encrypt((folder / "server.key").read_bytes()))
    other = place.files.put("other.key", place.authority.issue("other")[1])
    for tls, words in (
        (Tls("", good.key), "tls.certificate is missing"),
        (Tls(good.certificate, ""), "tls.key is missing"),
        (Tls(str(folder / "none.pem"), good.key), "none.pem: No such file"),
        (Tls(good.certificate, encrypted), "encrypted"),
        (Tls(good.certificate, other), "mismatch"),
        (Tls(good.key, good.key), "cannot be used"),
        (Tls(good.certificate, good.key, good.client_ca, "sometimes"), "none, optional or required"),
        (Tls(good.certificate, good.key, "", "required"), "client_ca"),
        (Tls(good.certificate, good.key, good.client_ca, "none"), "optional or required"),
        (Tls(good.certificate, good.key, good.key, "required"), "client_ca"),
    ):
        with pytest.raises(SetupError, match=words):
            TlsFiles(tls)


def _encrypt(pem: bytes) -> bytes:
    key = serialization.load_pem_private_key(pem, None)
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"word"),
    )


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (("edge-1",), "edge-1"),
        ((), ""),
        (("a", "b"), ""),
        (("a\nb",), ""),
        (("a\0b",), ""),
        (("x" * 65,), ""),
        (("",), ""),
    ],
)
def test_a_common_name_is_one_plain_name(names: tuple[str, ...], found: str) -> None:
    subject = (*[(("commonName", name),) for name in names], (("organizationName", "edge-9"),))
    assert common_name({"subject": subject}) == found
    assert common_name({}) == ""


def test_links_that_are_turned_are_noticed(place: Place, tmp_path: Path) -> None:
    """As Kubernetes mounts a secret: the files are links, and a folder's link is turned to another."""
    for turn in ("one", "two"):
        (tmp_path / turn).mkdir()
        Files(tmp_path / turn).pair("server", place.authority.issue(turn))
    (tmp_path / "data").symlink_to("one")
    files = TlsFiles(Tls(str(tmp_path / "data" / "server.pem"), str(tmp_path / "data" / "server.key")))
    assert not files.refresh()
    (tmp_path / "next").symlink_to("two")
    (tmp_path / "next").rename(tmp_path / "data")
    assert files.refresh() and files.number == 2
