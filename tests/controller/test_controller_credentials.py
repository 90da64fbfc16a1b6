"""Keys, users, secrets and key sets, as far as the controller: what the doors hear, and what is written down."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

import pytest
from controller_stage import OWNER, SOMEBODY, begin_at, spec, stage

from slipway.auth.credentials import Credentials
from slipway.auth.verify import Verifier
from slipway.errors import Conflict, InvalidSpec, NotFound, Unauthenticated
from slipway.spec.access import Issuer
from slipway.spec.server import Authentication, ServerConfig
from slipway.wire.messages import AccessSeen


def test_a_key_opens_the_doors_until_it_is_revoked(tmp_path: Path) -> None:
    async def story() -> None:
        async with stage(begin_at(tmp_path)) as at:
            await at.until(lambda: at.fake.accesses)
            assert not at.fake.accesses[-1].required
            key = await at.commands.create_key("ci", scopes=["predict:iris"], caller=OWNER)
            told = at.fake.accesses[-1]
            assert told.required and told.epoch > at.fake.accesses[0].epoch
            shown = Credentials(authorization=f"Bearer {key.secret}")
            assert Verifier(told).verify(shown, now=time.time()).name == "ci"
            await at.commands.revoke_key(key.id, caller=OWNER)
            with pytest.raises(Unauthenticated):
                Verifier(at.fake.accesses[-1]).verify(shown, now=time.time())
            assert at.fake.accesses[-1].required, "to revoke the last key must not open the doors"

    asyncio.run(story())


def test_a_rotated_key_works_for_its_overlap(tmp_path: Path) -> None:
    async def story() -> None:
        async with stage(begin_at(tmp_path)) as at:
            old = await at.commands.create_key("ci", scopes=["admin"], caller=OWNER)
            new = await at.commands.rotate_key(old.id, overlap_s=60, caller=OWNER)
            assert new.id != old.id and new.secret != old.secret
            verifier, now = Verifier(at.fake.accesses[-1]), time.time()
            for text in (old.secret, new.secret):
                assert verifier.verify(Credentials(api_key=text), now=now).name == "ci"
            with pytest.raises(Unauthenticated):
                Verifier(at.fake.accesses[-1]).verify(Credentials(api_key=old.secret), now=now + 61)
            with pytest.raises(Conflict):
                await at.commands.rotate_key(old.id, caller=OWNER)

    asyncio.run(story())


def test_what_cannot_be_a_key_is_refused(tmp_path: Path) -> None:
    async def story() -> None:
        async with stage(begin_at(tmp_path)) as at:
            for name, scopes, expires in (
                ("a b", ["admin"], None),
                ("ci", [], None),
                ("ci", ["predict"], None),
                ("ci", ["admin"], time.time() - 1),
            ):
                with pytest.raises(InvalidSpec):
                    await at.commands.create_key(name, scopes=scopes, expires_at=expires, caller=OWNER)
            assert await at.commands.keys() == []

    asyncio.run(story())


def test_users_and_their_passwords(tmp_path: Path) -> None:
    async def story() -> None:
        async with stage(begin_at(tmp_path)) as at:
            await at.commands.put_user("ada", password="correct horse", scopes=["admin"], caller=OWNER)
            assert [one.name for one in at.fake.accesses[-1].users] == ["ada"]
            await at.commands.delete_user("ada", caller=OWNER)
            assert at.fake.accesses[-1].users == ()
            with pytest.raises(NotFound):
                await at.commands.delete_user("ada", caller=OWNER)

    asyncio.run(story())


def test_uses_and_refusals_are_written_down(tmp_path: Path) -> None:
    async def story() -> None:
        async with stage(begin_at(tmp_path)) as at:
            key = await at.commands.create_key("ci", scopes=["admin"], caller=OWNER)
            refused = [("wrong_key", f"sw_{n}", "10.0.0.1", n + 1) for n in range(120)]
            at.controller.heard(AccessSeen({f"key:{key.id}": 1234.5}, refused))
            at.controller.heard(AccessSeen({f"key:{key.id}": 1200.0}, [("wrong_key", "sw_119", "10.0.0.1", 5)]))
            await at.controller.keeper.flush(leading=True)
            assert (await at.commands.keys())[0].last_used_at == 1234.5
            entries = [one for one in await at.commands.audit(limit=1000) if one.action == "auth.refused"]
            assert len(entries) == 51, "guesses must not fill the disk"
            assert entries[0].details == {"why": "wrong_key", "peer": "10.0.0.1", "count": 125}
            assert sum(one.details["count"] for one in entries) == sum(range(1, 121)) + 5
            before = len(await at.commands.audit(limit=1000))
            await at.controller.keeper.flush(leading=True)
            assert len(await at.commands.audit(limit=1000)) == before

    asyncio.run(story())


def test_secrets_reach_the_workers_and_nothing_else(tmp_path: Path) -> None:
    async def story() -> None:
        async with stage(begin_at(tmp_path)) as at:
            wanted = spec(env={"TOKEN": {"secret": "iris-token"}, "A": "x"})
            with pytest.raises(InvalidSpec, match="iris-token"):
                await at.commands.deploy(wanted, caller=OWNER)
            await at.commands.put_secret("iris-tokens", value="other", caller=OWNER)
            with pytest.raises(InvalidSpec, match="did you mean 'iris-tokens'"):
                await at.commands.deploy(wanted, caller=OWNER)
            await at.commands.put_secret("iris-token", value="hunter2-hunter2", caller=OWNER)
            await at.commands.deploy(wanted, caller=OWNER)
            await at.settled("iris")
            assert at.fake.versions["iris", "v1"].spec.environment == {"TOKEN": "hunter2-hunter2", "A": "x"}
            with pytest.raises(Conflict, match="iris"):
                await at.commands.delete_secret("iris-token", caller=OWNER)
            await at.commands.put_secret("iris-token", value="changed-it", caller=OWNER)
            await at.until(lambda: at.fake.versions["iris", "v1"].spec.environment["TOKEN"] == "changed-it")
            assert at.fake.versions["iris", "v1"].loads == 1
            assert (await at.commands.deployment("iris")).versions[0].version == "v1"
            assert (await at.commands.secrets())[0].used_by == ["iris"]
        for path in tmp_path.rglob("*"):
            if path.is_file():
                assert b"hunter2" not in path.read_bytes()

    asyncio.run(story())


def test_bound_beyond_this_machine_a_first_key_is_printed_once(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    async def story() -> None:
        begin = begin_at(tmp_path, config=ServerConfig(host="0.0.0.0"))
        async with stage(begin) as at:
            assert at.fake.accesses[-1].required
            printed = capfd.readouterr().err
            text = next(word for word in printed.split() if word.startswith("sw_"))
            caller = Verifier(at.fake.accesses[-1]).verify(Credentials(api_key=text), now=time.time())
            assert caller.scopes == ("admin",)
            await at.crash()
        async with stage(begin):
            assert "sw_" not in capfd.readouterr().err

    asyncio.run(story())


def test_key_sets_of_issuers_are_read_again_when_they_change(tmp_path: Path) -> None:
    def keys(kid: str) -> str:
        return json.dumps({"keys": [{"kty": "oct", "alg": "HS256", "kid": kid, "k": "c" * 43}]})

    async def story() -> None:
        issuer = Issuer("https://issuer", ("slipway",), ("HS256",), jwks_source="keys.json")
        (tmp_path / "keys.json").write_text(keys("one"))
        async with stage(begin_at(tmp_path, config=ServerConfig(auth=Authentication(jwt=(issuer,))))) as at:
            await at.until(lambda: at.fake.accesses and '"one"' in at.fake.accesses[-1].issuers[0].jwks)
            assert at.fake.accesses[-1].required
            (tmp_path / "keys.json").write_text(keys("other"))
            await at.until(lambda: '"other"' in at.fake.accesses[-1].issuers[0].jwks)

    asyncio.run(story())


def test_what_a_deployment_lets_in_is_told_when_it_changes(tmp_path: Path) -> None:
    async def story() -> None:
        async with stage(begin_at(tmp_path)) as at:
            await at.commands.deploy(spec(), caller=SOMEBODY)
            await at.commands.deploy(spec(auth={"public": True}, limits={"requests_per_s": 5}), caller=SOMEBODY)
            told = at.fake.accesses[-1].deployments[0]
            assert (told.name, told.auth.public, told.limits.requests_per_s) == ("iris", True, 5.0)
            assert (await at.commands.history("iris"))[0].actor == "key:ci"

    asyncio.run(story())
