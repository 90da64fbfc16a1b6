"""A key for one deployment stays within it: what reaches further is granted by an administrator."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from controller_stage import OWNER, begin_at, spec, stage

from slipway.auth.verify import OPEN
from slipway.errors import Forbidden
from slipway.spec.access import Caller
from slipway.spec.server import Authentication, ServerConfig

DEPLOYER = Caller("key", "ci", "key:abcdefgh", ("deploy:iris",))
EVERYWHERE = Caller("key", "ci", "key:abcdefgi", ("deploy:*",))
REACHING: list[tuple[dict[str, Any], str]] = [
    ({"sandbox": {"enabled": False}}, "/spec/sandbox/enabled"),
    ({"sandbox": {"allow_read": ["/"]}}, "/spec/sandbox/allow_read"),
    ({"sandbox": {"allow_write": ["/tmp"]}}, "/spec/sandbox/allow_write"),
    ({"env": {"TOKEN": {"secret": "of-another"}}}, "/spec/env/TOKEN"),
]


@pytest.mark.parametrize("who", [DEPLOYER, EVERYWHERE], ids=["deploy:iris", "deploy:*"])
@pytest.mark.parametrize(("fields", "where"), REACHING, ids=[where for _, where in REACHING])
def test_who_may_deploy_grants_nothing_beyond_the_deployment(
    tmp_path: Path, fields: dict[str, Any], where: str, who: Caller
) -> None:
    async def story() -> None:
        async with stage(begin_at(tmp_path)) as at:
            await at.commands.put_secret("of-another", value="hunter2hunter2", caller=OWNER)
            for dry_run in (True, False):
                with pytest.raises(Forbidden) as refused:
                    await at.commands.deploy(spec(**fields), dry_run=dry_run, caller=who)
                assert where in refused.value.message and "admin" in refused.value.message
            assert await at.commands.deployments() == []
            await at.commands.deploy(spec(), caller=who)
            with pytest.raises(Forbidden, match=where):
                await at.commands.deploy(spec(**fields), caller=who)

    asyncio.run(story())


def test_what_an_administrator_granted_stays_until_the_spec_lets_go_of_it(tmp_path: Path) -> None:
    granted: dict[str, Any] = {
        "env": {"TOKEN": {"secret": "token"}, "PLAIN": "x"},
        "sandbox": {"allow_read": ["/usr/share", "/etc"]},
    }
    narrower: dict[str, Any] = {"env": {"OTHER": {"secret": "token"}}, "sandbox": {"allow_read": ["/etc"]}}

    async def story() -> None:
        async with stage(begin_at(tmp_path)) as at:
            await at.commands.put_secret("token", value="hunter2hunter2", caller=OWNER)
            await at.commands.deploy(spec(**granted), caller=OWNER)
            await at.settled("iris")
            made = await at.commands.deploy(spec(**granted, batching={"max_rows": 8}), caller=DEPLOYER)
            assert made.change == "new_version"
            await at.settled("iris")
            await at.commands.deploy(spec(**narrower), caller=DEPLOYER)
            await at.settled("iris")
            with pytest.raises(Forbidden, match="/usr/share"):
                await at.commands.deploy(spec(**granted), caller=DEPLOYER)
            with pytest.raises(Forbidden, match="/usr/share"):
                await at.commands.rollback("iris", to="v1", caller=DEPLOYER)
            await at.commands.rollback("iris", to="v1", caller=OWNER)

    asyncio.run(story())


def test_a_refusal_does_not_tell_which_secrets_there_are(tmp_path: Path) -> None:
    async def story() -> None:
        async with stage(begin_at(tmp_path)) as at:
            await at.commands.put_secret("billing-password", value="hunter2hunter2", caller=OWNER)
            said = []
            for name in ("billing-password", "billing-passwort"):
                with pytest.raises(Forbidden) as refused:
                    await at.commands.deploy(spec(env={"X": {"secret": name}}), caller=DEPLOYER)
                said.append(refused.value.message.replace(name, "NAME"))
            assert said[0] == said[1]

    asyncio.run(story())


def test_a_new_deployment_under_an_old_name_inherits_no_grant(tmp_path: Path) -> None:
    open_wide: dict[str, Any] = {"sandbox": {"enabled": False}}

    async def story() -> None:
        async with stage(begin_at(tmp_path)) as at:
            await at.commands.deploy(spec(**open_wide), caller=OWNER)
            await at.settled("iris")
            await at.commands.delete("iris", caller=DEPLOYER)
            await at.eventually(at.commands.deployments, [])
            with pytest.raises(Forbidden, match="/spec/sandbox/enabled"):
                await at.commands.deploy(spec(**open_wide), caller=DEPLOYER)

    asyncio.run(story())


@pytest.mark.parametrize(("host", "refused"), [("127.0.0.1", False), ("0.0.0.0", True)])
def test_nobody_in_particular_opens_a_sandbox_from_another_machine(tmp_path: Path, host: str, refused: bool) -> None:
    """`auth.required: false` beyond loopback: models may be deployed by whoever comes, in their sandboxes."""
    config = ServerConfig(host=host, auth=Authentication(required=False))

    async def story() -> None:
        async with stage(begin_at(tmp_path, config=config)) as at:
            await at.commands.deploy(spec(), caller=OPEN)
            if refused:
                with pytest.raises(Forbidden, match="/spec/sandbox/enabled"):
                    await at.commands.deploy(spec(sandbox={"enabled": False}), caller=OPEN)
            else:
                await at.commands.deploy(spec(sandbox={"enabled": False}), caller=OPEN)

    asyncio.run(story())
