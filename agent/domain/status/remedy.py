"""What ends a hold: time, somebody, or a command that a person can copy."""

from __future__ import annotations

from collections.abc import Iterable
from shlex import quote

from agent.domain.outcome import Reason
from agent.domain.status.facts import Facts
from agent.domain.status.held import Held
from agent.domain.status.stack_state import StackState

_SHORT = 12
_ENROLL = {Reason.NOT_ENROLLED, Reason.JOURNAL}
_RETRY = {Reason.FAILED, Reason.BACKOFF, Reason.ROLLED_BACK}
_APPROVE = {Reason.CLIFF, Reason.RENAMED}
_BY_SOMEBODY = {
    Reason.FAILED, Reason.ROLLED_BACK, Reason.INVALID, Reason.ORDER, Reason.LIST_IN_DOUBT,
    Reason.TREE, Reason.VOLUMES,
}  # fmt: skip
"""What no order on the host has to end, but a commit or a look of somebody has to."""
_STANDS_STILL = {"failed", "held"}


def ends_alone(hold: Held, stacks: Iterable[StackState]) -> bool:
    """Whether the hold ends though nobody does anything: no decision, no commit, no look."""
    if hold.needs_person:
        return False
    if hold.settled or hold.reason not in _BY_SOMEBODY:
        return True
    return any(each.name == hold.subject and each.sync not in _STANDS_STILL for each in stacks)


def command(hold: Held, facts: Facts) -> str | None:
    """What ends the hold when it is run on the host; None where a commit or a look has to.

    Data under an old name has none either: it is moved first, or a person decides to go without.
    """
    if hold.settled:
        return None
    if hold.reason in _ENROLL:
        return "commitd enroll"
    if hold.reason is Reason.OTHER_MACHINE:
        return "commitd setup"
    if hold.reason in _RETRY:
        return f"commitd retry {quote(hold.subject)}"
    if hold.reason in _APPROVE and facts.applied:
        return f"commitd approve {quote(facts.applied[:_SHORT])}"
    if hold.reason is Reason.HISTORY:
        heads = {remote["name"]: remote["head"] for remote in facts.remotes}
        head = heads.get(hold.subject)
        return f"commitd approve {quote(head[:_SHORT])}" if head else None
    if hold.reason is Reason.SUSPENDED:
        of_stack = any(each.stack == hold.subject for each in facts.suspensions)
        return f"commitd resume {quote(hold.subject)}" if of_stack else "commitd resume"
    if hold.reason is Reason.VOLUMES:
        return f"docker stop {quote(hold.subject)}"
    return None
