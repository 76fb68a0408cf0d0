"""Which stacks go down: those that left the list, and what failed tries left behind.

applied, or labelled as of this checkout, and not declared
  ├─ more than teardown_limit, nobody approved ──▶ hold all of them (a cliff)
  ▼
each of these, and each that was tried, never healthy, is not declared, and does not run
  ├─ suspended ─────────────────────────────────▶ nothing
  ├─ what is declared is in doubt ──────────────▶ hold
  ├─ the journal was lost, nobody has enrolled ──▶ hold
  ├─ taking it down failed a moment ago ────────▶ hold until its next try
  ├─ seems renamed, the new name is not deployed ▶ hold (``renamed``)
  ▼
RemoveStack; a renamed one goes ``after`` its new name is up, or ``first`` if that was approved
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from agent.domain.container import WORKING_DIR, Container
from agent.domain.outcome import Cause, CauseKind, Reason
from agent.domain.reconcile import renamed
from agent.domain.reconcile.actions import Deploy, Hold, RemoveStack
from agent.domain.reconcile.host_state import (
    HostState,
    applied,
    doubt_about,
    labelled,
    never_healthy,
    waits,
)
from agent.domain.repository.desired import DesiredState, Stack
from agent.domain.revision import Revision


def removals(
    situation: HostState, deploys: Collection[Deploy]
) -> tuple[list[RemoveStack], list[Hold]]:
    """The stacks to take down, by name, and those that would go but for what holds them.

    ``deploys`` are those of the same plan: what is renamed waits for its new name.
    """
    desired = situation.desired
    known = applied(situation) | labelled(situation)
    leaving = sorted(known - desired.names)
    new_names = renamed.names(leaving, situation)
    waiting = renamed.waiting(situation)
    approved = _approved(situation)
    todo: list[RemoveStack] = []
    holds: list[Hold] = []
    if leaving and not approved and not _small(situation, leaving, len(known)):
        detail = (
            f"{len(leaving)} of {len(known)} stacks would go down ({', '.join(leaving)}); "
            f"to let them, run: commitd approve {desired.revision.short}"
            f"{_ignored(desired.revision)}"
        )
        holds += [Hold(name, Reason.CLIFF, detail, needs_person=True) for name in leaving]
        leaving = []
    # A new stack that cannot be read may be the new name of any of them.
    unread = next((n for n in sorted(desired.broken) if n not in situation.releases), None)
    successors = {} if approved else {name: new_names.get(name, unread) for name in leaving}
    successors |= waiting
    deployed = {deploy.stack.name for deploy in deploys}
    for name in sorted({*leaving, *(never_healthy(situation) - desired.names)}):
        attempt, successor = situation.attempts.get(name), successors.get(name)
        if situation.exemptions.suspension(name):
            continue
        if doubt := doubt_about(situation):
            holds.append(Hold(name, Reason.LIST_IN_DOUBT, doubt))
        elif situation.begun_anew:
            holds.append(Hold(name, Reason.JOURNAL, situation.begun_anew, needs_person=True))
        elif attempt and not attempt.digest and waits(attempt, situation.now):
            holds.append(Hold(name, Reason.BACKOFF, attempt.error))
        elif name in waiting:
            holds.append(renamed.keeps_data(name, waiting[name]))
        elif successor and successor not in deployed:
            holds.append(renamed.stays(name, successor, desired.revision))
        else:
            first = approved and name in new_names
            todo.append(_removal(name, successor, desired, first=first))
    return todo, holds


def left_over(containers: Iterable[Container], place: str, stack: Stack) -> frozenset[str]:
    """Services that a failed try has left behind: made from ``place``, and not in the files now.

    Empty where other files may name them.
    """
    if stack.more:
        return frozenset()
    found = {c.service for c in containers if c.service and c.labels.get(WORKING_DIR) == place}
    return frozenset(found) - stack.services


def of_stack(
    containers: Iterable[Container], services: Collection[str], place: str
) -> list[Container]:
    """Those of a project's ``containers`` that go with it: of ``services``, or made from ``place``.

    Others merely claim to be of the project, or were there before the agent.
    """
    return [c for c in containers if c.service in services or c.labels.get(WORKING_DIR) == place]


def own(
    containers: Iterable[Container], services: Collection[str] | None, granted: Collection[str]
) -> list[Container]:
    """Those of a project's ``containers`` that go with these of its services; None: with any.

    One that was ended is kept for its time, and one whose ID is in ``granted`` a person has back.
    """
    return [
        c
        for c in containers
        if (services is None or c.service in services)
        and not ((c.one_off and not c.hook) or c.id in granted or c.kept)
    ]


def _removal(
    name: str, successor: str | None, desired: DesiredState, *, first: bool
) -> RemoveStack:
    path = f"host/{desired.host}/stacks.yaml"
    cause = Cause(
        kind=CauseKind.LIST,
        name=path,
        before=name,
        after=successor,
        commit=desired.revision.sha,
    )
    return RemoveStack(
        project=name, reason=Reason.LEFT, causes=(cause,), after=successor, first=first
    )


def _only_renamed(leaving: Iterable[str], situation: HostState) -> int:
    """How many of them go on under a new name of this very commit, their Compose file unchanged.

    Also when the new one is up already and the old one's end was cut short.
    """
    desired, releases = situation.desired, situation.releases
    new: list[tuple[str, str]] = []
    for stack in desired.stacks:
        release = releases.get(stack.name)
        if release is None or release.revision == desired.revision.sha:
            files = renamed.own_files(stack.name, stack.versions)
            new += [each for each in files if each[0] == stack.compose.rpartition("/")[2]]
    count = 0
    for name in leaving:
        files = renamed.own_files(name, releases[name].inputs) if name in releases else set()
        match = next((each for each in new if each in files), None)
        if match:
            new.remove(match)
            count += 1
    return count


def _approved(situation: HostState) -> bool:
    revision = situation.desired.revision
    return revision.sha in situation.approved or revision.approves_removals


def _ignored(revision: Revision) -> str:
    """Why a trailer that is there does not count."""
    if not revision.asks_for_removals:
        return ""
    return " (its trailer does not count: the message is a list of squashed commits)"


def _small(situation: HostState, leaving: Collection[str], total: int) -> bool:
    """One stack may always go unless it is the last; more only up to the limit.

    Those that are only renamed do not count. What was held as a cliff stays one, although stacks
    that came meanwhile make it look smaller.
    """
    if situation.cliff and situation.cliff <= set(leaving):
        return False
    going = len(leaving) - _only_renamed(leaving, situation)
    return going == 0 or (going < total and going <= max(1, situation.teardown_limit * total))
