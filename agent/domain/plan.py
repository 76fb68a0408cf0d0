"""What to do, from what is declared, what runs and what was done before. No clock, no I/O."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from agent.domain import drift, ownership
from agent.domain.model import (
    WORKING_DIR,
    Attempt,
    Cause,
    Container,
    Deploy,
    DesiredState,
    Evict,
    Hold,
    Plan,
    Protected,
    Reason,
    Release,
    RemoveStack,
    Stack,
)

LONGEST_WAIT_S = 600.0
"""Longer than any backoff, in seconds."""
APPROVAL_TRAILER = ("commitd-approve", "removals")


@dataclass(frozen=True, slots=True)
class Situation:
    """All that a plan depends on, read once.

    ``desired`` is the state of the checked-out commit. ``doubt`` says why what is declared is
    not fully known; then nothing is removed. ``locked`` maps stacks that must not be
    deployed now to the reason and the detail (a secret that does not decrypt). ``cliff`` are the
    stacks whose removal was held as a cliff the last time. ``now`` is in seconds since the
    epoch, ``stacks_dir`` the absolute path of the checkout's ``stacks``.
    """

    desired: DesiredState
    containers: tuple[Container, ...]
    releases: Mapping[str, Release]
    now: float
    stacks_dir: str
    enrolled: bool = False
    doubt: str | None = None
    locked: Mapping[str, tuple[Reason, str]] = field(default_factory=dict)
    attempts: Mapping[str, Attempt] = field(default_factory=dict)
    approved: frozenset[str] = frozenset()
    cliff: frozenset[str] = frozenset()
    teardown_limit: float = 0.5
    report_only: bool = False
    helpers: frozenset[str] = frozenset()


def protected(situation: Situation) -> Protected:
    """Applied ∪ desired ∪ leaving: what no eviction may touch. Published before any start.

    Stacks that leave go down as a whole, or wait as a whole for a person. A service list narrows
    a project only while what was applied is what is declared, and stands; else it is about to be
    deployed, and any service may be about to belong to it.
    """
    desired = {stack.name: stack for stack in situation.desired.stacks}
    services: dict[str, frozenset[str] | None] = dict.fromkeys(
        situation.desired.names | _applied(situation) | _labelled(situation)
    )
    for name, release in situation.releases.items():
        stack = desired.get(name)
        mine = [c for c in situation.containers if c.project == name]
        if stack and stack.digest == release.digest and not drift.compare(release, mine):
            services[name] = stack.services | {service.name for service in release.services}
    return Protected(services, doubt_about(situation))


def doubt_about(situation: Situation) -> str | None:
    """Why nothing may be removed, or None."""
    if situation.doubt:
        return situation.doubt
    if situation.desired.list_faults:
        return str(situation.desired.list_faults[0])
    return None


def plan(situation: Situation) -> Plan:
    """The actions that bring the host to what is declared, sorted by name."""
    by_project: dict[str, list[Container]] = {}
    for container in sorted(situation.containers, key=lambda c: (c.name, c.id)):
        if container.project:
            by_project.setdefault(container.project, []).append(container)
    holds = [
        Hold(name, Reason.INVALID, str(fault))
        for name, fault in sorted(situation.desired.broken.items())
    ]
    holds += [
        Hold(fault.where, Reason.LIST_IN_DOUBT, str(fault))
        for fault in situation.desired.list_faults
    ]
    deploys: list[Deploy] = []
    for stack in situation.desired.stacks:
        match _deploy(stack, situation, by_project.get(stack.name, [])):
            case Deploy() as deploy:
                deploys.append(deploy)
            case Hold() as hold:
                holds.append(hold)
            case None:
                pass
    removals, removal_holds = _removals(situation)
    evictions, eviction_holds = _evictions(situation)
    return Plan(
        deploys=tuple(deploys),
        removals=tuple(removals),
        evictions=tuple(evictions),
        holds=(*holds, *removal_holds, *eviction_holds),
    )


def _deploy(
    stack: Stack, situation: Situation, containers: list[Container]
) -> Deploy | Hold | None:
    release = situation.releases.get(stack.name)
    if release is None:
        deploy = Deploy(stack, Reason.NEW)
    elif release.digest != stack.digest:
        causes = moved(release.inputs, stack.inputs, situation.desired.revision.sha)
        deploy = Deploy(stack, Reason.CHANGED, causes)
    elif differences := drift.compare(release, containers):
        deploy = Deploy(stack, Reason.DRIFTED, differences)
    else:
        return None
    if stack.name in situation.locked:
        reason, detail = situation.locked[stack.name]
        return Hold(stack.name, reason, detail)
    attempt = situation.attempts.get(stack.name)
    if attempt and attempt.digest == stack.digest:
        if attempt.permanent and deploy.reason is not Reason.DRIFTED:
            return Hold(stack.name, Reason.FAILED, attempt.error)
        if _waits(attempt, situation.now):
            return Hold(stack.name, Reason.BACKOFF, attempt.error)
    return deploy


def _waits(attempt: Attempt, now: float) -> bool:
    """Whether its next try is still ahead; what seems further than any backoff is a wrong clock."""
    return 0 < attempt.next_at - now <= LONGEST_WAIT_S


def moved(
    before: Iterable[tuple[str, str]], after: Iterable[tuple[str, str]], commit: str
) -> tuple[Cause, ...]:
    """The inputs that differ, each with its Git object before and after."""
    old, new = dict(before), dict(after)
    return tuple(
        Cause(path, old.get(path), new.get(path), commit)
        for path in sorted(old.keys() | new.keys())
        if old.get(path) != new.get(path)
    )


def _applied(situation: Situation) -> frozenset[str]:
    """Stacks that the agent brought up here, or of which a failed try left containers.

    A try that failed before it made anything says nothing about containers of the same name: a
    person may have started those.
    """
    tried = frozenset(situation.attempts) & _from_here(situation)
    return frozenset(situation.releases) | tried


def _from_here(situation: Situation) -> frozenset[str]:
    """Projects of running containers that were made from this checkout."""
    return frozenset(
        project
        for c in situation.containers
        if c.alive
        and (project := c.project)
        and c.labels.get(WORKING_DIR) == f"{situation.stacks_dir}/{project}"
    )


def _labelled(situation: Situation) -> frozenset[str]:
    """Running stacks of this checkout that neither the commit nor the journal knows."""
    if not situation.enrolled or situation.report_only:
        return frozenset()
    return _from_here(situation) - (situation.desired.names | _applied(situation))


def _removals(situation: Situation) -> tuple[list[RemoveStack], list[Hold]]:
    """Stacks that left: by what the journal says was applied, then by the labels on the engine."""
    applied = _applied(situation) - situation.desired.names
    labelled = _labelled(situation)
    leaving = sorted(applied | labelled)
    if not leaving:
        return [], []
    if doubt := doubt_about(situation):
        return [], [Hold(name, Reason.LIST_IN_DOUBT, doubt) for name in leaving]
    total = len(_applied(situation) | labelled)
    if not _allowed(situation, leaving, total):
        detail = (
            f"{len(leaving)} of {total} stacks would go down ({', '.join(leaving)}); "
            f"to let them, run: commitd approve {situation.desired.revision.short}"
        )
        return [], [Hold(name, Reason.CLIFF, detail, needs_person=True) for name in leaving]
    sha = situation.desired.revision.sha
    list_path = f"host/{situation.desired.host}/stacks.yaml"
    removals: list[RemoveStack] = []
    holds: list[Hold] = []
    for name in leaving:
        attempt = situation.attempts.get(name)
        if attempt and name in situation.releases and _waits(attempt, situation.now):
            holds.append(Hold(name, Reason.BACKOFF, attempt.error))
        else:
            cause = Cause(list_path, name, None, sha)
            removals.append(RemoveStack(name, Reason.LEFT, (cause,)))
    return removals, holds


def _allowed(situation: Situation, leaving: Collection[str], total: int) -> bool:
    """One stack may always go unless it is the last; more only up to the limit, or approved.

    What was held as a cliff stays one, although stacks that came meanwhile make it look smaller.
    """
    revision = situation.desired.revision
    approved = revision.sha in situation.approved or any(
        (key.lower(), value.lower()) == APPROVAL_TRAILER for key, value in revision.trailers
    )
    if approved:
        return True
    if situation.cliff and situation.cliff <= set(leaving):
        return False
    return len(leaving) < total and len(leaving) <= max(1, situation.teardown_limit * total)


def _evictions(situation: Situation) -> tuple[list[Evict], list[Hold]]:
    shield = protected(situation)
    evictions: list[Evict] = []
    holds: list[Hold] = []
    for container in sorted(situation.containers, key=lambda c: (c.name, c.id)):
        if not container.alive:
            continue
        owner = ownership.classify(container, shield, situation.helpers)
        if not isinstance(owner, ownership.Undeclared):
            continue
        if hold := refusal(container, shield, situation.enrolled, situation.report_only):
            holds.append(hold)
        else:
            evictions.append(Evict(container, owner.reason))
    return evictions, holds


def refusal(
    container: Container, shield: Protected, enrolled: bool, report_only: bool
) -> Hold | None:
    """Why an undeclared container is left running all the same, or None."""
    if shield.doubt:
        return Hold(container.name, Reason.LIST_IN_DOUBT, shield.doubt)
    if not enrolled:
        return Hold(
            container.name,
            Reason.NOT_ENROLLED,
            "it was here first; run commitd enroll to see what would go and to agree",
            needs_person=True,
        )
    if report_only:
        return Hold(container.name, Reason.REPORT_ONLY, "undeclared.mode is report")
    return None
