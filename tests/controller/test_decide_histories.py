"""Random histories against the rules of a swap: commands, loads that end as they like, observations that come late, and
a controller that dies between any two steps.

A history is a string of bytes, one for each choice: hypothesis makes thousands of them and shortens the one that fails.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from slipway.controller import decide
from slipway.controller.decide import Flip, Forget, MarkFailed, MarkProven, MarkRetired, Seen, Step, Told
from slipway.controller.observe import seen_of
from slipway.spec.serve import ModelSpec
from slipway.store.records import DeploymentRecord, VersionRecord
from slipway.testing.supervisor import FakeSupervisor
from slipway.wire.messages import Observed, Plan

NAMES = ("iris",)  # deployments share nothing but the plan, and one meets itself more often than two


class Controller:
    """What dies with the process: what it told, and what it heard last."""

    def __init__(self) -> None:
        self.observed: Observed | None = None
        self.told: dict[str, Told] = {}
        self.last: Plan | None = None


class History:
    def __init__(self, choices: bytes) -> None:
        self._choices = iter(choices)
        self.deployments: dict[str, DeploymentRecord] = {}
        self.versions: dict[str, dict[int, VersionRecord]] = {}
        self.fake = FakeSupervisor()
        self.controller = Controller()
        self.number = 0
        self.proven: set[tuple[str, int, float]] = set()
        self.served: set[str] = set()  # deployments whose live version took requests, and that nobody stopped since
        self.declared = 0.0
        self.in_flight: list[Observed] = []

    # --- people -----------------------------------------------------------------------------------------------------

    def _changeable(self, name: str) -> DeploymentRecord | None:
        found = self.deployments.get(name)
        return found if found is not None and not found.deleting else None

    def deploy(self, name: str) -> None:
        hold, breaks, fetched = self._choose(5) == 0, self._choose(4) == 0, self._choose(3) > 0
        if name in self.deployments and self.deployments[name].deleting:
            return
        self.declared += 1
        number = max(self.versions.get(name, {}), default=0) + 1
        record = VersionRecord(
            deployment=name, number=number, source="", digest="", size_bytes=0, settings={"breaks": breaks},
            state=decide.FETCHED if fetched else decide.PENDING, progress=0.0, error="", platform="",
            created_at=self.declared, created_by="",
        )  # fmt: skip
        self.versions.setdefault(name, {})[number] = record
        old = self.deployments.get(name) or DeploymentRecord(
            name=name, spec={}, revision=0, live=0, target=0, hold=False, deleting=False, created_at=0.0,
            updated_at=0.0, updated_by="",
        )  # fmt: skip
        self.deployments[name] = replace(old, target=number, hold=hold, revision=old.revision + 1)
        if breaks:
            self.fake._broken[name, f"v{number}"] = ("load_failure", "it breaks")
        else:
            self.fake._broken.pop((name, f"v{number}"), None)

    def roll_back(self, name: str) -> None:
        old = self._changeable(name)
        if old is None:
            return
        fit = [one for one in self.versions[name].values() if one.state not in (decide.FAILED, decide.PENDING)]
        if not fit:
            return
        goal = fit[self._choose(len(fit))]
        if goal.number != old.live:
            self.versions[name][goal.number] = replace(goal, state=decide.FETCHED)
        self.deployments[name] = replace(old, target=goal.number, hold=False)

    def promote(self, name: str) -> None:
        old = self._changeable(name)
        if old is not None:
            self.deployments[name] = replace(old, hold=False)

    def enable(self, name: str) -> None:
        enabled = self._choose(3) > 0
        old = self._changeable(name)
        if old is not None:
            self.deployments[name] = replace(old, spec={} if enabled else {"enabled": False})
            self.served.discard(name)

    def delete(self, name: str) -> None:
        old = self._changeable(name)
        if old is not None:
            self.deployments[name] = replace(old, deleting=True)
            self.served.discard(name)

    def fetch(self, name: str) -> None:
        for number, one in self.versions.get(name, {}).items():
            if one.state == decide.PENDING:
                self.versions[name][number] = replace(one, state=decide.FETCHED)

    # --- machines ---------------------------------------------------------------------------------------------------

    def processes_move(self) -> None:
        self.fake.step()

    def replica_dies(self) -> None:
        if not self.fake.versions:
            return
        key = sorted(self.fake.versions)[self._choose(len(self.fake.versions))]
        self.fake.die(*key)
        if self.fake.versions[key].live:
            self.served.discard(key[0])

    def supervisor_says(self) -> None:
        self.in_flight.append(copy.deepcopy(self.fake.observed()))

    def controller_hears(self) -> None:
        if self.in_flight:
            self.controller.observed = self.in_flight.pop(0)

    def controller_dies(self) -> None:
        self.controller = Controller()
        self.in_flight = [copy.deepcopy(self.fake.observed())]  # what it is told first is true when it is told

    def controller_steps(self, name: str) -> None:
        """One step only: it may die before the next."""
        for step in self._due(name)[:1]:
            self._take(name, step)

    def controller_plans(self) -> None:
        if self.controller.observed is not None:
            self._plan()

    def controller_turns(self) -> None:
        """As it does when nothing comes between: hear, take the steps that are due, plan."""
        if self.in_flight:
            self.controller.observed = self.in_flight.pop(0)
            self._turn()

    def all_is_quiet_for_a_while(self) -> None:
        self.in_flight.clear()
        self._rest()

    # --- how it works -----------------------------------------------------------------------------------------------

    def _due(self, name: str) -> list[Step]:
        deployment, controller = self.deployments.get(name), self.controller
        if deployment is None or controller.observed is None:
            return []
        seen = seen_of(controller.observed).get(name, Seen(controller.observed.plan, {}))
        told = decide.told_to(name, controller.told, controller.last)
        return decide.advance(deployment, self.versions[name], seen, told=told)

    def _take(self, name: str, step: Step) -> None:
        deployment, versions = self.deployments[name], self.versions[name]
        if isinstance(step, Flip):
            its = versions[step.version]
            assert (name, its.number, its.created_at) in self.proven, "traffic for a version that was never ready"
            assert its.state == decide.FETCHED
            self.deployments[name] = replace(deployment, live=step.version)
        elif isinstance(step, MarkFailed):
            assert step.version != deployment.live
            versions[step.version] = replace(versions[step.version], state=decide.FAILED, error=step.error)
            if deployment.target == step.version:
                self.deployments[name] = replace(deployment, target=deployment.live)
        elif isinstance(step, MarkRetired):
            assert step.version not in (deployment.live, deployment.target)
            versions[step.version] = replace(versions[step.version], state=decide.RETIRED)
        elif isinstance(step, MarkProven):
            versions[step.version] = replace(versions[step.version], platform=step.platform)
        elif isinstance(step, Forget):
            assert deployment.deleting
            assert not [key for key in self.fake.versions if key[0] == name], "forgotten while it runs"
            del self.deployments[name], self.versions[name]
            self.controller.told.pop(name, None)

    def _plan(self) -> bool:
        controller = self.controller
        assert controller.observed is not None
        planned, absent = decide.plan_of(
            (self.deployments[name] for name in sorted(self.deployments)),
            {name: versions.values() for name, versions in self.versions.items()},
            spec_of=lambda deployment, version: ModelSpec(deployment.name, "x:Y", f"v{version.number}"),
        )
        last = controller.last
        if last is not None and (last.versions, last.absent) == (planned, absent):
            return False
        self.number += 1
        plan = controller.last = Plan(self.number, planned, absent)
        self._check_followed(plan)
        controller.told = decide.told_of(controller.told, plan, self.deployments)
        self.fake.heard(plan)
        return True

    def _turn(self) -> bool:
        moved = False
        for name in NAMES:
            while steps := self._due(name):
                moved = True
                self._take(name, steps[0])
        return self._plan() or moved

    def _rest(self) -> None:
        for _ in range(60):
            for name in NAMES:
                self.fetch(name)
            moved = self.fake.step()
            self.no_gap()
            self.controller.observed = copy.deepcopy(self.fake.observed())
            if not self._turn() and not moved:
                return
        raise AssertionError("it never comes to rest")

    def _check_followed(self, plan: Plan) -> None:
        """Nothing goes that gateways still send requests to."""
        followed = next((one for one in self.fake.plans if one.number == self.fake.follows), None)
        planned = {(one.spec.name, one.spec.version) for one in plan.versions}
        for one in followed.versions if followed else []:
            name = one.spec.name
            deployment = self.deployments.get(name)
            serves = deployment is not None and not deployment.deleting and decide.is_enabled(deployment)
            if one.live and serves and (name, one.spec.version) in self.fake.versions:
                assert (name, one.spec.version) in planned, "it is dropped while gateways send it requests"

    # --- what must be true at any moment ------------------------------------------------------------------------------

    def no_gap(self) -> None:
        """Whoever took requests goes on to, until another does; a version that failed never does."""
        serving = {key[0] for key, one in self.fake.versions.items() if one.live and one.takes_requests}
        for key, one in self.fake.versions.items():
            name, number = key[0], int(key[1][1:])
            if one.was_ready and name in self.deployments and number in self.versions[name]:
                self.proven.add((name, number, self.versions[name][number].created_at))
            if one.live and name in self.deployments and number in self.versions[name]:
                assert self.versions[name][number].state != decide.FAILED
        # A replica may die after it was seen ready, and before anybody can know.
        died = {key[0] for key, one in self.fake.versions.items() if one.live and one.restarts and one.stage != "ready"}
        missing = self.served - serving - died
        assert not missing, f"nothing takes the requests of {missing}"
        self.served |= {
            name for name in serving if name in self.deployments and not self.deployments[name].deleting
            and decide.is_enabled(self.deployments[name])
        }  # fmt: skip

    def one_live_version_each(self) -> None:
        live = [key[0] for key, one in self.fake.versions.items() if one.live]
        assert len(live) == len(set(live))

    def come_to_rest(self) -> None:
        """Left alone, everything comes to be as it was declared."""
        self._rest()
        for name, deployment in self.deployments.items():
            self._check_rest(name, deployment)
        assert {key[0] for key in self.fake.versions} <= set(self.deployments), "something runs that nobody declared"

    def _check_rest(self, name: str, deployment: DeploymentRecord) -> None:
        assert not deployment.deleting, "it should be gone"
        runs: dict[str, Any] = {key[1]: one for key, one in self.fake.versions.items() if key[0] == name}
        if not decide.is_enabled(deployment):
            assert not runs
            return
        if deployment.hold and deployment.target != deployment.live:
            wanted = {number for number in (deployment.live, deployment.target) if number}
        else:
            assert deployment.live == deployment.target
            wanted = {deployment.live} - {0}
        assert set(runs) == {f"v{number}" for number in wanted}
        if deployment.live:
            assert runs[f"v{deployment.live}"].live
        for number, version in self.versions[name].items():
            expected = decide.FETCHED if number in wanted else (decide.RETIRED, decide.FAILED)
            assert version.state in expected

    # --- one after the other ----------------------------------------------------------------------------------------

    def _choose(self, options: int) -> int:
        return next(self._choices, 0) % options

    def live_through(self) -> None:
        people = [self.deploy, self.roll_back, self.promote, self.enable, self.delete, self.fetch]
        machines = [self.processes_move, self.supervisor_says, self.controller_turns] * 3
        machines += [self.controller_hears, self.controller_plans, self.controller_dies, self.replica_dies]
        machines += [self.all_is_quiet_for_a_while]
        for choice in self._choices:
            if choice < 64:
                people[choice % len(people)](NAMES[0])
            elif choice < 84:
                self.controller_steps(NAMES[0])
            else:
                machines[choice % len(machines)]()
            self.no_gap()
            self.one_live_version_each()
        self.come_to_rest()


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.binary(min_size=40, max_size=160))
def test_any_history_of_commands_crashes_and_failures_keeps_the_rules_of_a_swap(choices: bytes) -> None:
    History(choices).live_through()
