"""A random history of what people and controllers do to deployments, beside a model of what must come of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from postgres import Database

from slipway.errors import Conflict, NotFound, PreconditionFailed
from slipway.store.records import VersionSettings

NAMES = st.sampled_from(["iris", "iris-2", "größe"])
WHO: dict[str, Any] = {"actor": "ann"}


@dataclass
class Told:
    """What the store should say of one deployment. `aims`: the target after each revision."""

    spec: dict[str, Any]
    revision: int = 0
    live: int = 0
    target: int = 0
    hold: bool = False
    deleting: bool = False
    states: list[str] = field(default_factory=list)
    aims: list[int] = field(default_factory=list)


class History(RuleBasedStateMachine):
    def __init__(self, database: Database) -> None:
        super().__init__()
        self.database = database
        self.store = database.open()
        self.told: dict[str, Told] = {}
        self.audited = len(self.store.audit(limit=10**9))
        self.now = 1000.0

    @rule(jump=st.sampled_from([0.0, 1.0, 3600.0, -3600.0]))
    def time_passes_or_jumps(self, jump: float) -> None:
        self.now += jump

    @rule()
    def restart(self) -> None:
        self.store.close()
        self.store = self.database.open()

    @rule(name=NAMES, new=st.booleans(), hold=st.booleans(), knows=st.booleans(), number=st.integers(0, 9))
    def declare(self, name: str, new: bool, hold: bool, knows: bool, number: int) -> None:
        told = self.told.get(name) or Told(spec={})
        spec = {"name": name, "n": number}
        version = VersionSettings(source="m", settings={"n": number}) if new else None
        expected = told.revision if knows else None
        if told.deleting:
            with pytest.raises(Conflict):
                self._declare(name, spec, version=version, target=None, hold=hold, expected=expected)
            return
        made = self._declare(name, spec, version=version, target=None, hold=hold, expected=expected)
        if new:
            told.states.append("pending")
            told.target = len(told.states)
        self._declared(name, told, spec, hold)
        assert made.revision == told.revision

    @rule(name=NAMES, behind=st.integers(1, 3))
    def declare_what_somebody_changed_meanwhile(self, name: str, behind: int) -> None:
        stale = (self.told[name].revision if name in self.told else 0) + 1 - behind
        if stale < 0 or (name not in self.told and stale == 0) or behind == 1:
            stale = 10**6
        with pytest.raises((PreconditionFailed, Conflict)):
            self._declare(name, {"name": name}, version=None, target=None, hold=False, expected=stale)

    @rule(name=NAMES, to=st.integers(0, 4))
    def roll_back(self, name: str, to: int) -> None:
        told = self.told.get(name)
        if told is None or told.deleting:
            return
        if to > len(told.states):
            with pytest.raises(NotFound):
                self._declare(name, told.spec, version=None, target=to, hold=False, expected=None)
            return
        self._declare(name, told.spec, version=None, target=to, hold=False, expected=told.revision)
        told.target = to
        self._declared(name, told, told.spec, False)

    @rule(name=NAMES, to=st.integers(0, 4), aim=st.none() | st.integers(0, 4))
    def traffic_flips(self, name: str, to: int, aim: int | None) -> None:
        told = self.told.get(name)
        if told is None or max(to, aim or 0) > len(told.states):
            with pytest.raises(NotFound):
                self.store.set_live(name, live=to, target=aim, now=self.now, **WHO)
            return
        self.store.set_live(name, live=to, target=aim, now=self.now, **WHO)
        after = told.target if aim is None else aim
        self.audited += (told.live, told.target) != (to, after)
        told.live, told.target = to, after

    @rule(name=NAMES, number=st.integers(1, 4), state=st.sampled_from(["fetched", "failed", "retired"]))
    def a_version_gets_on(self, name: str, number: int, state: str) -> None:
        told = self.told.get(name)
        if told is None or number > len(told.states):
            with pytest.raises(NotFound):
                self.store.set_version(name, number, state=state, now=self.now)
            return
        assert self.store.set_version(name, number, state=state, now=self.now).state == state
        told.states[number - 1] = state

    @precondition(lambda self: self.told)
    @rule(name=NAMES)
    def delete(self, name: str) -> None:
        told = self.told.get(name)
        if told is None:
            with pytest.raises(NotFound):
                self.store.mark_deleting(name, now=self.now, **WHO)
            return
        self.store.mark_deleting(name, expected_revision=told.revision, now=self.now, **WHO)
        if not told.deleting:
            told.deleting = True
            told.revision += 1
            told.aims.append(told.target)
            self.audited += 1

    @precondition(lambda self: any(told.deleting for told in self.told.values()))
    @rule()
    def gone(self) -> None:
        for name in [name for name, told in self.told.items() if told.deleting]:
            self.store.forget(name, now=self.now, **WHO)
            del self.told[name]
            self.audited += 1

    @invariant()
    def the_store_tells_what_was_done(self) -> None:
        found = self.store.deployments()
        assert {record.name for record in found} == set(self.told)
        for record in found:
            told = self.told[record.name]
            for key in ("spec", "revision", "live", "target", "hold", "deleting"):
                assert getattr(record, key) == getattr(told, key), key

    def teardown(self) -> None:
        for name, told in self.told.items():
            assert [version.state for version in self.store.versions(name)] == told.states
            revisions = self.store.revisions(name)[::-1]
            assert [entry.revision for entry in revisions] == list(range(1, told.revision + 1))
            assert [entry.version for entry in revisions] == told.aims
            self.store.forget(name, now=self.now, **WHO)
        assert len(self.store.audit(limit=10**9)) == self.audited + len(self.told)
        assert self.store.verify_audit() is None
        self.store.close()

    def _declare(self, name: str, spec: dict[str, Any], *, version: VersionSettings | None, target: int | None,
                 hold: bool, expected: int | None) -> Any:  # fmt: skip
        return self.store.declare(
            name=name, spec=spec, action="update", changes=[], version=version, target=target, hold=hold,
            expected_revision=expected, now=self.now, **WHO,
        )  # fmt: skip

    def _declared(self, name: str, told: Told, spec: dict[str, Any], hold: bool) -> None:
        told.spec, told.hold, told.revision = spec, hold, told.revision + 1
        told.aims.append(told.target)
        self.told[name] = told
        self.audited += 1


def test_a_random_history_comes_out_as_it_should(database: Database) -> None:
    run_state_machine_as_test(
        lambda: History(database),
        settings=settings(
            max_examples=15, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
