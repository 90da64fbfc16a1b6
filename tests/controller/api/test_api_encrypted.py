"""The management API over TLS: who shows a certificate is known by its name, and may what the configuration grants."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from api_stand import Stand, standing
from certificates import Place

from slipway import Admin, AsyncAdmin, errors
from slipway.spec.access import CertificateRule
from slipway.spec.resources import Identity
from slipway.spec.server import Authentication


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place.at(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def encrypted(place: Place, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    auth = Authentication(certificates=(CertificateRule("ops-*", ("admin",)),))
    with standing(tmp_path_factory.mktemp("stand"), tls=place.tls("optional"), auth=auth) as made:
        yield made


@pytest.fixture
def trust(place: Place) -> str:
    return place.files.put("authority.pem", place.authority.certificate)


def test_a_certificate_is_an_identity(encrypted: Stand, place: Place, trust: str) -> None:
    shown = place.files.pair("ops", place.clients.issue("ops-ann"))
    known = Identity(kind="certificate", name="ops-ann", scopes=["admin"])
    with Admin(encrypted.url, ca_file=trust, certificate=shown) as admin:
        assert admin.whoami() == known
        assert admin.keys() == []

    async def awaited() -> Identity:
        async with AsyncAdmin(encrypted.url, ca_file=trust, certificate=shown) as admin:
            return await admin.whoami()

    assert asyncio.run(awaited()) == known


def test_a_certificate_without_a_rule_may_nothing(encrypted: Stand, place: Place, trust: str) -> None:
    shown = place.files.pair("guest", place.clients.issue("guest"))
    with Admin(encrypted.url, ca_file=trust, certificate=shown) as admin, pytest.raises(errors.Forbidden):
        admin.keys()


def test_a_certificate_of_nobody_we_trust_is_none(encrypted: Stand, place: Place, trust: str) -> None:
    shown = place.files.pair("forged", place.authority.issue("ops-mallory"))
    with Admin(encrypted.url, ca_file=trust, certificate=shown) as admin, pytest.raises(errors.Unavailable):
        admin.keys()


def test_a_header_names_nobody(encrypted: Stand, trust: str) -> None:
    with Admin(encrypted.url, ca_file=trust) as admin, pytest.raises(errors.Unauthenticated):
        admin.keys()
    with Admin(encrypted.url, encrypted.owner_key, ca_file=trust) as admin:
        assert admin.whoami().kind == "owner"


def test_a_certificate_needs_encryption(tmp_path: Path) -> None:
    with pytest.raises(errors.SetupError, match="https"):
        Admin("http://127.0.0.1:1", certificate=(str(tmp_path / "a"), str(tmp_path / "b")))
