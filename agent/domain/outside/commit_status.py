"""What a forge is told of a commit on this host: a state and one sentence.

    accepted ─▶ pending ─┬▶ a stack failed ─▶ failure: which and why, at once
                         └▶ each cycle's end ─┬▶ success: "deployed web", "nothing to do here"
                                              ├▶ failure: the first trouble of the verdict
                                              └▶ pending: what waits for a person
    refused ─▶ failure: the hold that says why

It is about the newest commit only: the one that is applied, or a newer one that remotes show and
that is refused. What is not known now changes nothing that was told, and neither does a repair of
what was deployed well.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Literal

from msgspec import Struct

from agent.domain.outcome import Reason
from agent.domain.shortened import some_of
from agent.domain.status.facts import Facts
from agent.domain.status.held import Held
from agent.domain.status.stack_state import StackState
from agent.domain.status.verdict import HostTrouble, State, Verdict, VerdictKind

LONGEST = 140
"""Characters of a sentence that GitHub takes."""
_NAMED = 5
_REFUSALS = (Reason.SIGNATURE, Reason.LIST_IN_DOUBT, Reason.TREE)
_BROKEN = {VerdictKind.FAILED, VerdictKind.BACK, VerdictKind.HELD, VerdictKind.DEGRADED}


class Report(Struct, frozen=True, kw_only=True):
    """What is told of a commit; ``text`` is one line of at most :data:`LONGEST` characters."""

    revision: str
    state: Literal["pending", "success", "failure"]
    text: str


class Done(Struct, frozen=True, kw_only=True):
    """The stacks that were deployed for a commit, and those that were removed for it."""

    deployed: Collection[str] = ()
    removed: Collection[str] = ()


def accepted(revision: str) -> Report:
    """The commit is the one to be deployed now."""
    return Report(revision=revision, state="pending", text="being deployed")


def failed(revision: str, stack: str, error: str) -> Report:
    """A stack could not be deployed; others may still be."""
    said = fitting(str(HostTrouble(VerdictKind.FAILED, stack, error)))
    return Report(revision=revision, state="failure", text=said)


def subject(facts: Facts, holds: Iterable[Held]) -> str | None:
    """The commit that is to be told of; None while there is none."""
    applied, tried = facts.applied, (facts.attempted or {}).get("sha")
    heads = {remote["name"]: remote["head"] for remote in facts.remotes if remote["head"]}
    if tried in heads.values():
        return str(tried)
    if heads and applied not in heads.values():
        left = (hold.subject for hold in holds if hold.reason is Reason.HISTORY)
        return next((heads[name] for name in left if name in heads), applied)
    return applied


def report(
    facts: Facts,
    holds: Sequence[Held],
    stacks: Sequence[StackState],
    verdict: Verdict,
    *,
    ended: bool,
    done: Done,
    before: Report | None,
) -> Report | None:
    """What to tell of the commit after one judgement; None: what was told ``before`` stays.

    ``ended``: a cycle has ended with it. ``done`` is what was done for the commit.
    """
    revision = subject(facts, holds)
    if revision is None or verdict.state is State.UNKNOWN:
        return None
    if facts.standby is not None:  # the leader tells
        return None
    if any(suspension.stack is None for suspension in facts.suspensions):
        return None
    if revision != facts.applied:
        tried = revision == (facts.attempted or {}).get("sha")
        refused = _refused(revision, holds, _REFUSALS if tried else (Reason.HISTORY,))
        return refused or _unless_told(accepted(revision), before)
    if not ended:
        return _unless_told(accepted(revision), before)
    good = before is not None and before.revision == revision and before.state == "success"
    if facts.look.error:
        said = fitting(f"reconcile failed: {facts.look.error}")
        return None if good else Report(revision=revision, state="failure", text=said)
    names = {stack.name for stack in stacks}
    troubles = [trouble for trouble in verdict.troubles if trouble.subject in names]
    kinds = {trouble.kind for trouble in troubles}
    if bad := next((each for each in troubles if each.kind in _BROKEN), None):
        return Report(revision=revision, state="failure", text=fitting(str(bad)))
    if VerdictKind.OFF in kinds:
        return None if good else accepted(revision)
    if troubles:
        return Report(revision=revision, state="pending", text=fitting(str(troubles[0])))
    said = "; ".join(_said(done, [stack.name for stack in stacks if stack.sync == "suspended"]))
    return Report(revision=revision, state="success", text=fitting(said))


def fitting(text: str) -> str:
    """The text as one line that every forge takes."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 1]}…"


def _refused(revision: str, holds: Iterable[Held], reasons: Collection[Reason]) -> Report | None:
    """Why the commit is not followed, by the hold that says so."""
    for hold in holds:
        if hold.reason in reasons and not hold.settled:
            said = fitting(f"not followed: {hold.message}")
            return Report(revision=revision, state="failure", text=said)
    return None


def _unless_told(report: Report, before: Report | None) -> Report | None:
    return None if before is not None and before.revision == report.revision else report


def _said(done: Done, suspended: Collection[str]) -> Iterator[str]:
    if done.deployed:
        yield f"deployed {_listed(done.deployed)}"
    if done.removed:
        yield f"removed {_listed(done.removed)}"
    if not (done.deployed or done.removed):
        yield "nothing to do here"
    if suspended:
        yield f"suspended: {_listed(suspended)}"


def _listed(names: Collection[str]) -> str:
    return some_of(sorted(names), _NAMED)
