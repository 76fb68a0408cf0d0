"""Plans of cycles: most find just what the one before them has found, and it is decided once."""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import replace

from agent.domain.reconcile import host_state, plan
from agent.domain.reconcile.actions import Plan, ProtectionSet
from agent.domain.reconcile.host_state import HostState


class _Decided(Struct):
    situation: HostState
    protection: ProtectionSet
    plan: Plan | None = None


class Planner:
    """The same answers as ``host_state`` and ``plan`` give, which depend on nothing else."""

    def __init__(self) -> None:
        self._last: _Decided | None = None

    def protected(self, situation: HostState) -> ProtectionSet:
        """What must not be touched."""
        return self._decided(situation).protection

    def plan(self, situation: HostState) -> Plan:
        """What to do."""
        decided = self._decided(situation)
        if decided.plan is None:
            decided.plan = plan.plan(situation, decided.protection)
        return decided.plan

    def _decided(self, situation: HostState) -> _Decided:
        if self._last is None or not _alike(self._last.situation, situation):
            self._last = _Decided(situation, host_state.protected(situation))
        return self._last


def _alike(before: HostState, now: HostState) -> bool:
    """Whether all is the same that is decided by. Only what has failed waits for a time."""
    if before is now:
        return True
    if before.desired is not now.desired:  # equal ones can differ in what they do not compare
        return False
    return before == (now if now.attempts else replace(now, now=before.now))
