"""Who comes in at this gateway, and what for: the newest Access, applied to callers.

What is expensive (to verify a credential) belongs to `auth`; what repeats is remembered here, as passes that a door may
keep. A new Access ends all passes at once: whoever comes next is looked up again, which is cheap where nothing that
concerns him has changed.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

from slipway.auth.credentials import Credentials
from slipway.auth.policy import predict_allowed
from slipway.auth.scopes import check_known, describe, may
from slipway.auth.verify import Verifier
from slipway.errors import Forbidden, NotReady, SetupError, SlipwayError
from slipway.gateway.limits import FILE_NAME, LimitTable, refusal
from slipway.infer.guard import ANY, DEPLOY, KNOWN, PREDICT, SEE, Allowance, Identity, Pass, Presented, Told
from slipway.spec.access import Access, Caller, DeploymentAccess
from slipway.spec.deployment import RequestLimits
from slipway.wire.messages import AccessSeen

log = logging.getLogger(__name__)
MAX_PASSES = 4096
MAX_RIGHTS = 1024


class AccessGuard:
    """Implements `infer.guard.Guard`. On duty, and without a word for anybody, until it was told its first Access.

    Lives on the event loop's thread. `now`: seconds since 1970. `limits_folder`: where the gateways of this server
    share what is used up; '' where there is but one.
    """

    def __init__(self, *, limits_folder: str = "", now: Callable[[], float] = time.time) -> None:
        self.on_duty = True
        self._now = now
        self._limits_folder = limits_folder
        self._limits: dict[str, RequestLimits] = {}
        self._table: LimitTable | None = None
        self._verifier: Verifier | None = None
        self._deployments: dict[str, DeploymentAccess] = {}
        self._public = False
        self._epoch = 0
        self._passes: dict[tuple[str, str, str], Pass] = {}
        self._used: dict[str, float] = {}

    @property
    def told(self) -> bool:
        """It has its rules."""
        return self._verifier is not None

    @property
    def is_open(self) -> bool:
        return self._verifier is not None and not self._verifier.required

    def apply(self, access: Access) -> None:
        """The whole new truth. It holds from the next request on."""
        if self._verifier is None:
            self._verifier = Verifier(access)
        elif self._verifier.access == access:
            return
        else:
            self._verifier.update(access)
        self._forget_passes()
        self._epoch += 1
        self._deployments = {deployment.name: deployment for deployment in access.deployments}
        self._public = any(deployment.auth.public for deployment in access.deployments)
        self._limits = {
            deployment.name: deployment.limits
            for deployment in access.deployments
            if deployment.limits.requests_per_s > 0 or deployment.limits.rows_per_day > 0
        }
        if self._limits and self._table is None:
            self._table = self._open_table()
        self.on_duty = access.required or bool(self._limits)

    def seen(self) -> AccessSeen | None:
        """Who was let in and who was not since the last time; None where nobody came."""
        if self._verifier is None:
            return None
        used, refused = self._verifier.drain()
        self._harvest()
        used |= self._used
        self._used = {}
        used.pop("anonymous", None)
        return AccessSeen(used, refused) if used or refused else None

    def close(self) -> None:
        if self._verifier is not None:
            self._verifier.close()
        if self._table is not None:
            self._table.close()

    # --- Guard ----------------------------------------------------------------------------------------------------

    def holds(self, passed: Pass) -> bool:
        now = self._now()
        if passed.epoch != self._epoch or now >= passed.until:
            return False
        passed.used = now
        return True

    def identify(self, presented: Presented) -> Pass | None:
        shown = presented[:3]
        passed = self._passes.get(shown)
        if passed is not None and self.holds(passed):
            return passed
        if self._verifier is None:
            raise NotReady("this server was not told yet who may use it; try again shortly", retry_after_s=1.0)
        now = self._now()
        credentials = Credentials(*presented)
        if self._verifier.needs_time(credentials, now=now):
            return None
        caller = self._verifier.verify(credentials, now=now)
        passed = Pass(
            caller,
            certificate=presented.certificate,
            epoch=self._epoch,
            until=caller.expires_at or float("inf"),
        )
        if len(self._passes) >= MAX_PASSES:
            self._forget_passes()
        self._passes[shown] = passed
        passed.used = now
        return passed

    def find_out(self, presented: Presented, told: Told) -> Asking:
        assert self._verifier is not None  # identify has looked
        return Asking(self._verifier.submit(Credentials(*presented), now=self._now()), told)

    def check(self, passed: Pass, right: str, model: str = "") -> None:
        if (right, model) in passed.rights:
            return
        caller = _caller(passed.caller)
        if right == KNOWN or (right == ANY and not self._public):
            check_known(caller)
        elif right == ANY:
            pass
        elif right == DEPLOY:
            if not may(caller, "deploy", model):
                check_known(caller)
                raise Forbidden(
                    f"{describe(caller)} may not load or unload {model!r}: that takes the scope deploy:NAME"
                )
        elif not self._may_predict(caller, model) and not (right == SEE and may(caller, "deploy", model)):
            check_known(caller)
            raise Forbidden(
                f"{describe(caller)} may not use model {model[:128]!r}: that takes the scope predict:NAME, or to be "
                "among those that its auth.allow lets in"
            )
        if len(passed.rights) >= MAX_RIGHTS:
            passed.rights.clear()
            passed.free.clear()
        passed.rights.add((right, model))
        if right == PREDICT and model not in self._limits:
            passed.free.add(model)

    def sees(self, caller: Identity | None, model: str) -> bool:
        if caller is None or not self.on_duty:
            return True
        known = _caller(caller)
        return self._may_predict(known, model) or may(known, "deploy", model)

    def count(self, passed: Pass, model: str) -> Allowance | None:
        limits = self._limits.get(model)
        if limits is None or limits.requests_per_s <= 0:
            return None
        return self._take(passed.caller, model, limits, requests=1, rows=0)

    def spend(self, caller: Identity, model: str, rows: int) -> Allowance | None:
        limits = self._limits.get(model)
        if limits is None or limits.rows_per_day <= 0:
            return None
        return self._take(caller, model, limits, requests=0, rows=rows)

    def refund(self, caller: Identity, model: str, rows: int) -> None:
        self.spend(caller, model, -rows)

    def _take(
        self, caller: Identity, model: str, limits: RequestLimits, *, requests: int, rows: int
    ) -> Allowance | None:
        assert self._table is not None  # made with the first limits
        now_ns = int(self._now() * 1e9)
        standing = self._table.take(caller.id, model, limits, now_ns=now_ns, requests=requests, rows=rows)
        if standing is None:
            return None
        if not standing.admitted:
            error = refusal(standing, limits, deployment=model)
            error.limit, error.remaining, error.reset_s = standing.limit, standing.remaining, standing.reset_s
            raise error
        return Allowance(standing.limit, standing.remaining, standing.reset_s)

    def _open_table(self) -> LimitTable:
        if self._limits_folder:
            try:
                return LimitTable(Path(self._limits_folder) / FILE_NAME)
            except SetupError as error:
                log.error("limits hold for this gateway alone, not for all together: %s", error.message)
        return LimitTable(None)

    # --- its own --------------------------------------------------------------------------------------------------

    def _may_predict(self, caller: Caller, model: str) -> bool:
        try:
            predict_allowed(self._deployments.get(model) or DeploymentAccess(model), caller)
        except SlipwayError:
            return False
        return True

    def _forget_passes(self) -> None:
        self._harvest()
        self._passes.clear()

    def _harvest(self) -> None:
        """When each caller came last, off his passes."""
        for passed in self._passes.values():
            if passed.used:
                last = self._used.get(passed.caller.id, 0.0)
                self._used[passed.caller.id] = max(last, passed.used)
                passed.used = 0.0


class Asking:
    """A credential that is verified in a thread; `told` is called on the loop, unless the client went first."""

    def __init__(self, future: Future[Caller], told: Told) -> None:
        self._told: Told | None = told
        self._loop = asyncio.get_running_loop()
        future.add_done_callback(self._found)

    def cancel(self) -> None:
        self._told = None

    def _found(self, future: Future[Caller]) -> None:
        try:
            self._loop.call_soon_threadsafe(self._tell, future)
        except RuntimeError:
            pass  # the loop has ended, and with it whoever asked

    def _tell(self, future: Future[Caller]) -> None:
        told, self._told = self._told, None
        if told is None:
            return
        error = future.exception()
        if error is not None and not isinstance(error, SlipwayError):
            log.error("a credential could not be verified", exc_info=error)
            error = SlipwayError("an internal error; the server's log has the details")
        told(error)


def _caller(identity: Identity) -> Caller:
    assert isinstance(identity, Caller)  # all that this guard lets in are
    return identity
