"""The guard of a gateway: who passes, what for, how long, and what he reports."""

from __future__ import annotations

import asyncio
from pathlib import Path

import callers
import pytest
from callers import bearer

from slipway.errors import Forbidden, NotReady, RateLimited, SlipwayError, Unauthenticated
from slipway.gateway.guard import AccessGuard
from slipway.infer.guard import ANY, DEPLOY, KNOWN, PREDICT, SEE, Pass, Presented
from slipway.spec.access import Access, DeploymentAccess
from slipway.spec.deployment import AllowRule, Auth, RequestLimits

PUBLIC = DeploymentAccess("open", auth=Auth(public=True))


class Clock:
    def __init__(self) -> None:
        self.now = callers.NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def guard(clock: Clock) -> AccessGuard:
    made = AccessGuard(now=clock)
    made.apply(callers.access())
    return made


def shown(text: str = "", **more: str) -> Presented:
    return Presented(authorization=bearer(text) if text else "", **more)


def enter(guard: AccessGuard, presented: Presented) -> Pass:
    passed = guard.identify(presented)
    assert passed is not None
    return passed


def may(guard: AccessGuard, passed: Pass, right: str, model: str = "") -> bool:
    try:
        guard.check(passed, right, model)
    except (Forbidden, Unauthenticated):
        return False
    return True


def test_before_its_first_access_nobody_passes(clock: Clock) -> None:
    guard = AccessGuard(now=clock)
    assert guard.on_duty and not guard.told
    for presented in (shown(), shown(callers.ADMIN), shown(callers.OWNER)):
        with pytest.raises(NotReady, match="not told yet"):
            guard.identify(presented)
    guard.apply(callers.access())
    assert guard.told and enter(guard, shown(callers.ADMIN)).caller.name == "administrator"


def test_an_open_server_needs_no_guard(clock: Clock) -> None:
    guard = AccessGuard(now=clock)
    guard.apply(Access(keys=callers.KEYS))
    assert guard.told and not guard.on_duty
    assert guard.sees(None, "anything")


@pytest.mark.parametrize(
    ("presented", "kind", "name"),
    [
        (shown(callers.AFFINE), "key", "affine-only"),
        (Presented(api_key=callers.AFFINE), "key", "affine-only"),
        (shown(callers.OWNER), "owner", "owner"),
        (shown(callers.token()), "jwt", "robot"),
        (Presented(certificate="edge-7"), "certificate", "edge-7"),
        (shown(), "anonymous", "anonymous"),
    ],
)
def test_who_it_is(guard: AccessGuard, presented: Presented, kind: str, name: str) -> None:
    caller = enter(guard, presented).caller
    assert (caller.kind, caller.name) == (kind, name)


@pytest.mark.parametrize(
    "presented",
    [
        shown(callers.STRANGER),
        shown(callers.OLD),
        shown(callers.AFFINE[:-1] + ("A" if callers.AFFINE[-1] != "A" else "B")),
        shown(callers.token(exp=callers.NOW - 60)),
        shown(callers.token(secret=b"x" * 32)),
        Presented(authorization=bearer(callers.AFFINE), api_key=callers.ADMIN),
        Presented(authorization="Digest abc"),
    ],
)
def test_nobody_passes_with_what_is_wrong(guard: AccessGuard, presented: Presented) -> None:
    with pytest.raises(Unauthenticated):
        guard.identify(presented)


def test_what_each_may(guard: AccessGuard) -> None:
    guard.apply(callers.access(epoch=2, deployments=(PUBLIC, DeploymentAccess("affine"), DeploymentAccess("other"))))
    table = {
        # who: (predict affine, predict other, predict open, see affine, see other, deploy affine, known)
        shown(callers.AFFINE): "y-yy--y",
        shown(callers.ALL): "yyyyy-y",
        shown(callers.DEPLOY): "--yy-yy",
        shown(callers.ADMIN): "yyyyyyy",
        shown(callers.OWNER): "yyyyyyy",
        shown(callers.NOTHING): "--y---y",
        shown(): "--y----",
        shown(callers.token()): "y-yy--y",
        Presented(certificate="edge-1"): "y-yy--y",
        Presented(certificate="laptop"): "--y---y",
    }
    asked = [
        (PREDICT, "affine"),
        (PREDICT, "other"),
        (PREDICT, "open"),
        (SEE, "affine"),
        (SEE, "other"),
        (DEPLOY, "affine"),
        (KNOWN, ""),
    ]
    for presented, wanted in table.items():
        passed = enter(guard, presented)
        found = "".join("y" if may(guard, passed, right, model) else "-" for right, model in asked)
        assert found == wanted, presented
        for model, place in (("affine", 3), ("other", 4)):
            assert guard.sees(passed.caller, model) == (wanted[place] == "y")
    assert may(guard, enter(guard, shown()), ANY)
    guard.apply(callers.access(epoch=3))
    assert not may(guard, enter(guard, shown()), ANY)


def test_allow_takes_the_place_of_scopes(guard: AccessGuard) -> None:
    allowed = DeploymentAccess("affine", auth=Auth(allow=(AllowRule(key="no-*"),)))
    guard.apply(callers.access(epoch=2, deployments=(allowed,)))
    assert may(guard, enter(guard, shown(callers.NOTHING)), PREDICT, "affine")
    assert not may(guard, enter(guard, shown(callers.AFFINE)), PREDICT, "affine")
    assert may(guard, enter(guard, shown(callers.ADMIN)), PREDICT, "affine")


@pytest.mark.parametrize("presented", [shown(), shown(callers.NOTHING), shown(callers.GHOST)])
@pytest.mark.parametrize("right", [PREDICT, SEE, DEPLOY])
def test_a_refusal_does_not_tell_what_exists(guard: AccessGuard, presented: Presented, right: str) -> None:
    there = DeploymentAccess("there", auth=Auth(allow=(AllowRule(key="somebody"),)))
    guard.apply(callers.access(epoch=2, deployments=(there,)))
    said = []
    for model in ("there", "nowhere"):
        with pytest.raises(SlipwayError) as refused:
            guard.check(enter(guard, presented), right, model)
        said.append((refused.value.code, refused.value.message.replace(model, "NAME")))
    assert said[0] == said[1]


def test_a_pass_ends_with_a_new_access(guard: AccessGuard) -> None:
    passed = enter(guard, shown(callers.AFFINE))
    other = enter(guard, shown(callers.ALL))
    assert guard.holds(passed) and guard.holds(other)
    guard.apply(callers.without(callers.AFFINE_HASH))
    assert not guard.holds(passed) and not guard.holds(other)
    with pytest.raises(Unauthenticated):
        guard.identify(shown(callers.AFFINE))
    assert guard.holds(enter(guard, shown(callers.ALL)))


def test_the_same_access_again_changes_nothing(guard: AccessGuard) -> None:
    passed = enter(guard, shown(callers.AFFINE))
    guard.apply(callers.access())
    assert guard.holds(passed)


def test_an_older_epoch_is_obeyed_as_well(guard: AccessGuard) -> None:
    """A controller that was restored from a backup may count from lower: its word is the newest all the same."""
    guard.apply(callers.access(epoch=9))
    passed = enter(guard, shown(callers.AFFINE))
    guard.apply(callers.without(callers.AFFINE_HASH))
    assert not guard.holds(passed)


@pytest.mark.parametrize(
    ("presented", "lasts_s"),
    [(shown(callers.SOON), 60), (shown(callers.token(exp=callers.NOW + 100)), 100)],
)
def test_a_pass_ends_with_its_credential(
    guard: AccessGuard, clock: Clock, presented: Presented, lasts_s: float
) -> None:
    passed = enter(guard, presented)
    clock.now += lasts_s - 0.5
    assert guard.holds(passed)
    clock.now += 40  # beyond the leeway of an issuer
    assert not guard.holds(passed)
    with pytest.raises(Unauthenticated):
        guard.identify(presented)


def test_a_certificate_is_part_of_who_it_is(guard: AccessGuard) -> None:
    first, second = (enter(guard, Presented(certificate=name)) for name in ("edge-1", "laptop"))
    assert may(guard, first, PREDICT, "affine") and not may(guard, second, PREDICT, "affine")


def test_a_password_is_found_out_off_the_loop_and_then_known(guard: AccessGuard) -> None:
    good = Presented(authorization=callers.basic("bob", callers.PASSWORD), peer="192.0.2.1")
    wrong = Presented(authorization=callers.basic("bob", "wrong password"), peer="192.0.2.1")

    async def ask(presented: Presented) -> SlipwayError | None:
        assert guard.identify(presented) is None
        told: asyncio.Future[SlipwayError | None] = asyncio.get_running_loop().create_future()
        guard.find_out(presented, told.set_result)
        return await asyncio.wait_for(told, 20)

    async def story() -> None:
        assert await ask(good) is None
        assert may(guard, enter(guard, good), PREDICT, "affine")
        assert isinstance(await ask(wrong), Unauthenticated)
        guard.find_out(wrong, lambda _: pytest.fail("it was cancelled")).cancel()
        guard.apply(callers.access(epoch=2, keys=()))  # somebody else's key goes: the password need not come again
        assert guard.holds(enter(guard, good))
        guard.apply(callers.access(epoch=3, users=()))
        assert guard.identify(good) is None and isinstance(await ask(good), Unauthenticated)

    asyncio.run(story())


def test_limits_are_counted_by_identity_and_deployment(guard: AccessGuard, clock: Clock) -> None:
    limited = DeploymentAccess("affine", limits=RequestLimits(requests_per_s=1, burst=2))
    guard.apply(callers.access(epoch=2, deployments=(limited,)))
    passed, other = enter(guard, shown(callers.AFFINE)), enter(guard, shown(callers.ALL))
    assert guard.count(passed, "elsewhere") is None
    first, second = guard.count(passed, "affine"), guard.count(passed, "affine")
    assert first is not None and second is not None
    assert (first.limit, first.remaining, second.remaining) == (2, 1, 0)
    with pytest.raises(RateLimited) as refused:
        guard.count(passed, "affine")
    error = refused.value
    assert (error.limit, error.remaining, error.reset_s, error.retry_after_s) == (2, 0, 2, 1)
    assert guard.count(other, "affine") is not None
    clock.now += 1
    assert guard.count(passed, "affine") is not None


def test_an_open_server_limits_all_together(clock: Clock) -> None:
    guard = AccessGuard(now=clock)
    guard.apply(Access(deployments=(DeploymentAccess("affine", limits=RequestLimits(requests_per_s=1, burst=1)),)))
    assert guard.on_duty
    guard.count(enter(guard, shown()), "affine")
    with pytest.raises(RateLimited):
        guard.count(enter(guard, shown(callers.AFFINE)), "affine")


def test_rows_are_spent_and_given_back(guard: AccessGuard, clock: Clock) -> None:
    limited = DeploymentAccess("affine", limits=RequestLimits(rows_per_day=10))
    guard.apply(callers.access(epoch=2, deployments=(limited,)))
    caller = enter(guard, shown(callers.AFFINE)).caller
    assert guard.count(enter(guard, shown(callers.AFFINE)), "affine") is None
    left = guard.spend(caller, "affine", 7)
    assert left is not None and (left.limit, left.remaining) == (10, 3)
    with pytest.raises(RateLimited, match="10 rows a day"):
        guard.spend(caller, "affine", 4)
    guard.refund(caller, "affine", 7)
    left = guard.spend(caller, "affine", 4)
    assert left is not None and left.remaining == 6
    clock.now += 86_400
    guard.refund(caller, "affine", 4)  # of yesterday: nothing to give back, and nothing breaks
    left = guard.spend(caller, "affine", 10)
    assert left is not None and left.remaining == 0


def test_limits_are_shared_through_their_folder(tmp_path: Path, clock: Clock) -> None:
    limited = DeploymentAccess("affine", limits=RequestLimits(requests_per_s=1, burst=3))
    guards = [AccessGuard(limits_folder=str(tmp_path / "limits"), now=clock) for _ in range(2)]
    for guard in guards:
        guard.apply(callers.access(deployments=(limited,)))
    left = [guard.count(enter(guard, shown(callers.AFFINE)), "affine") for guard in (*guards, guards[0])]
    assert [allowance and allowance.remaining for allowance in left] == [2, 1, 0]
    for guard in guards:
        guard.close()


def test_it_reports_who_came_and_who_was_refused(guard: AccessGuard, clock: Clock) -> None:
    assert guard.seen() is None
    passed = enter(guard, shown(callers.AFFINE))
    clock.now += 5
    assert guard.holds(passed)
    enter(guard, shown())
    for _ in range(3):
        with pytest.raises(Unauthenticated):
            guard.identify(shown(callers.STRANGER, peer="192.0.2.7"))
    seen = guard.seen()
    assert seen is not None
    assert seen.used == {f"key:{callers.AFFINE_HASH.id}": callers.NOW + 5}
    ((_, who, peer, count),) = seen.refused
    assert (who, peer, count) == (callers.STRANGER[:11], "192.0.2.7", 3)
    assert callers.STRANGER not in repr(seen) and callers.AFFINE not in repr(seen)
    assert guard.seen() is None
    assert guard.holds(passed)
    guard.apply(callers.access(epoch=2))  # the passes go; what they tell does not
    seen = guard.seen()
    assert seen is not None and list(seen.used) == [f"key:{callers.AFFINE_HASH.id}"]
