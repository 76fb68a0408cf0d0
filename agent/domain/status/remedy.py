"""The command with which a person ends a hold, where one command does."""

from __future__ import annotations

from shlex import quote

from agent.domain.outcome import Reason
from agent.domain.status.facts import Facts
from agent.domain.status.held import Held

_SHORT = 12
_ENROLL = {Reason.NOT_ENROLLED, Reason.JOURNAL}
_RETRY = {Reason.FAILED, Reason.BACKOFF, Reason.ROLLED_BACK}
_APPROVE = {Reason.CLIFF, Reason.RENAMED}


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
