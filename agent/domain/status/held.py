"""The holds as they are at this moment: the newest cycle's, less what has been settled since.

A hold stays in the journal until a cycle finds it gone, and a cycle can be long. Meanwhile a person
may have approved, retried or enrolled, or a newer commit may have come.
"""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import replace

from agent.domain.outcome import Reason
from agent.domain.reconcile import plan
from agent.domain.status.facts import Facts

NOW = "trying again now"
APPROVED = "approved; it is done in the next cycle"

_FAILURES = {Reason.FAILED, Reason.BACKOFF}
_APPROVABLE = {Reason.CLIFF, Reason.RENAMED}
_OF_CONTAINERS = {Reason.NOT_ENROLLED, Reason.REPORT_ONLY, Reason.VOLUMES, Reason.EVICTION}


class Held(Struct, frozen=True, kw_only=True):
    """One hold. ``settled`` when it only waits for the next cycle, for the reason it gives."""

    subject: str
    reason: Reason
    detail: str
    since: str
    needs_person: bool
    settled: bool = False

    @property
    def message(self) -> str:
        """Why, for people."""
        return self.detail if self.settled else self.reason.message(self.detail)


def current(facts: Facts) -> tuple[Held, ...]:
    """What is held now, and the suspensions as they are ordered, which need no cycle."""
    found = [
        settled
        for hold in facts.holds
        if (settled := _now(Held(**hold), facts)) and hold["reason"] != Reason.SUSPENDED
    ]
    for suspension in facts.suspensions:
        hold = plan.suspended(suspension, facts.host)
        since = suspension.since
        found.append(
            Held(
                subject=hold.subject,
                reason=hold.reason,
                detail=hold.detail,
                since=since,
                needs_person=False,
            )
        )
    return tuple(found)


def _now(hold: Held, facts: Facts) -> Held | None:
    """The hold as it is now; None when it is over, though no cycle has ended since."""
    name, digest = hold.subject, facts.stacks.get(hold.subject)
    if any(action.subject == name for action in facts.working):
        return None
    if hold.reason in _FAILURES:
        attempt, release = facts.attempts.get(name), facts.releases.get(name)
        if attempt is None:
            up = release is not None and release.digest == digest
            return None if up else _again(hold, facts)
        return hold if attempt.digest == (digest or "") else None
    if hold.reason == Reason.ROLLED_BACK:
        failed, _ = facts.rollbacks.get(name, (None, ""))
        if failed is None:
            return _again(hold, facts)
        return hold if failed == digest else None
    if hold.reason in _APPROVABLE | {Reason.DATA} and facts.applied in facts.approved:
        agreed = facts.applied in facts.without_data or not _of_data(hold, facts)
        return _settled(hold, APPROVED) if agreed else hold
    if hold.reason == Reason.HISTORY:
        shown = {remote["head"] for remote in facts.remotes if remote["name"] == name}
        return _settled(hold, APPROVED) if shown & facts.approved else hold
    if hold.reason == Reason.BRANCH:
        back = {remote["name"] for remote in facts.remotes if not remote["error"]}
        return None if name in back else hold
    if hold.reason in {Reason.NOT_ENROLLED, Reason.JOURNAL} and facts.enrolled:
        return None
    if hold.reason in _OF_CONTAINERS and facts.containers is not None:
        return hold if any(c.name == name and c.alive for c in facts.containers) else None
    return hold


def _of_data(hold: Held, facts: Facts) -> bool:
    """Whether it may wait for data under an old name, or for the stack that does."""
    return hold.reason is Reason.DATA or (
        hold.reason is Reason.RENAMED and any(h["reason"] == Reason.DATA for h in facts.holds)
    )


def _again(hold: Held, facts: Facts) -> Held:
    return _settled(hold, NOW if facts.running else "it is tried again once the agent runs")


def _settled(hold: Held, detail: str) -> Held:
    return replace(hold, detail=detail, needs_person=False, settled=True)
