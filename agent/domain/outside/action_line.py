"""The one line of the log on an action: what was done with what, how long it took, and why.

    web: deployed 1a2b3c4 in 4.2 s: its files changed [changed]
    web: deploying 1a2b3c4 failed after 12.3 s: web-app-1 is unhealthy [changed]
    held: web: exceeds teardown_limit: 3 of 4 stacks [teardown-limit]

What ends each is the code of its reason.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum

from msgspec import Struct

from agent.domain.outcome import Action, Cause, CauseKind, Outcome, Reason, Status, short


class Severity(IntEnum):
    """How much a line matters, in the numbers of Python's logging."""

    DEBUG = 10
    INFO = 20
    WARNING = 30
    ERROR = 40


class Deed(Struct, frozen=True, kw_only=True):
    """An action as it was begun.

    ``stack`` is the one it is about, ``image`` that of a container which is evicted, ``actor`` the
    person who ordered it.
    """

    action: Action
    subject: str
    reason: Reason
    detail: str | None = None
    causes: tuple[Cause, ...] = ()
    revision: str | None = None
    stack: str | None = None
    image: str | None = None
    actor: str | None = None


class Line(Struct, frozen=True):
    """What is said, and how much it matters."""

    severity: Severity
    text: str


_OF_STACKS = {Action.DEPLOY, Action.RESTART, Action.ROLLBACK, Action.REMOVE_STACK}
_OF_COMMITS = {Action.DEPLOY, Action.ROLLBACK, Action.ACCEPT}
_DONE = {
    Action.DEPLOY: "deployed",
    Action.RESTART: "repaired",
    Action.ROLLBACK: "rolled back to",
    Action.REMOVE_STACK: "removed",
    Action.EVICT: "evicted",
    Action.ACCEPT: "accepted",
}
_DOING = {Action.ROLLBACK: "rolling back to", Action.ACCEPT: "accepting"}
_DONE_FOR = {
    Reason.UNDONE: "brought back",
    Reason.MOUNTED: "reloaded",
    Reason.NAMESPACE: "reloaded",
    Reason.FOLLOWS: "reloaded",
    Reason.LOCAL_EDIT: "put back to",
    Reason.SERVICE_LEFT: "removed",
    Reason.IN_THE_WAY: "removed",
    Reason.LEFT: "removed",
    Reason.KEEP_EXPIRED: "removed",
    Reason.DECLARED_AGAIN: "given back",
}
"""Where the reason says better what was done than the action does."""
_TROUBLE = {
    Reason.INTERFERENCE, Reason.LOCAL_EDIT, Reason.ROLLED_BACK, Reason.NO_PROJECT,
    Reason.UNKNOWN_PROJECT, Reason.UNKNOWN_SERVICE, Reason.UNKNOWN_CONTAINER,
    Reason.SWARM_BACK, Reason.PAUSED, Reason.CRASH_LOOP, Reason.TASK_UNHEALTHY, Reason.TASK_ENDED,
    Reason.NO_NODE, Reason.NO_IMAGE, Reason.REJECTED, Reason.TIMEOUT,
}  # fmt: skip
"""What somebody should look at, although what was done about it has succeeded."""
_CAUSES = 3
_OF_FAILURES = {Reason.FAILED, Reason.ROLLED_BACK}
"""Holds whose details an action has told when it failed."""
_SHORTEST_S = 0.05
"""A shorter duration is not worth a word."""


def stack_of(action: Action, subject: str, reason: Reason) -> str | None:
    """The stack that an action is about, as far as its kind tells."""
    return subject if action in _OF_STACKS and reason is not Reason.UNDONE else None


def begun(deed: Deed) -> Line:
    """That it begins, for those who want to read more."""
    return Line(
        Severity.DEBUG, f"{_doing(deed)}: {deed.reason.message(deed.detail)} [{deed.reason}]"
    )


def ended(deed: Deed, outcome: Outcome, duration_s: float, *, told: str | None = None) -> Line:
    """How it ended. ``told`` is the last error that the log has of its subject."""
    if deed.action is Action.HOLD:
        return _held(deed, outcome, told)
    took = f"{duration_s:.1f} s" if duration_s >= _SHORTEST_S else ""
    if outcome.status is Status.SUCCEEDED:
        done = _DONE_FOR.get(deed.reason) or _DONE.get(deed.action, "done")
        text = f"{_subject(deed)}: {done}{_revision(deed)}" + (f" in {took}" if took else "")
        text += f": {_why(deed, told)}{_volumes(deed.causes)}"
        severity = Severity.WARNING if deed.reason in _TROUBLE else Severity.INFO
    else:
        failed = outcome.status is Status.FAILED
        verb = "failed" if failed else f"was {outcome.status}"
        text = f"{_doing(deed)} {verb}" + (f" after {took}" if took else "")
        text += f" and {outcome.attempts} tries" if outcome.attempts > 1 else ""
        text += f": {outcome.error}" if outcome.error else ""
        severity = Severity.ERROR if failed else Severity.INFO
    return Line(severity, f"{text}{_actor(deed)} [{deed.reason}]")


def _held(deed: Deed, outcome: Outcome, told: str | None) -> Line:
    """That it is held; or, where it succeeded, that a person has ended that."""
    if outcome.status is Status.SUCCEEDED:
        text = f"{deed.subject}: {deed.reason.message(deed.detail)}"
        return Line(Severity.INFO, f"{text}{_actor(deed)} [{deed.reason}]")
    if outcome.status is not Status.HELD:
        text = f"{deed.subject}: {deed.reason.text}: {outcome.status}: {outcome.error}"
        return Line(Severity.ERROR, f"{text} [{deed.reason}]")
    again = _said(outcome.error, told) or (deed.reason in _OF_FAILURES and bool(told))
    why = deed.reason.text if again else deed.reason.message(outcome.error)
    quiet = again or deed.reason is Reason.SUSPENDED
    severity = Severity.INFO if quiet else Severity.WARNING
    return Line(severity, f"held: {deed.subject}: {why} [{deed.reason}]")


def _why(deed: Deed, told: str | None) -> str:
    detail = deed.detail
    if deed.reason is Reason.DRIFTED:
        detail = ", ".join(cause.message for cause in deed.causes[:_CAUSES])
    return deed.reason.message(None if _said(detail, told) else detail)


def _said(words: str | None, told: str | None) -> bool:
    return bool(words and told and words in told)


def _doing(deed: Deed) -> str:
    doing = _DOING.get(deed.action) or deed.action.text
    return f"{_subject(deed)}: {doing}{_revision(deed)}"


def _subject(deed: Deed) -> str:
    return f"{deed.subject} ({short(deed.image)})" if deed.image else deed.subject


def _revision(deed: Deed) -> str:
    """Of an eviction the commit that did not declare it is no object."""
    if deed.revision is None or deed.action is Action.EVICT:
        return ""
    at = "" if deed.action in _OF_COMMITS else " at"
    return f"{at} {deed.revision[:7]}"


def _actor(deed: Deed) -> str:
    return f"; ordered by {deed.actor}" if deed.actor else ""


def _volumes(causes: Iterable[Cause]) -> str:
    kept = [cause.name for cause in causes if cause.kind is CauseKind.VOLUME and cause.name]
    return f"; volumes kept: {', '.join(kept)}" if kept else ""
