"""What to do, from what is declared, what runs and what was done before. No clock, no I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

from agent.domain.container import Container
from agent.domain.outcome import Cause, CauseKind, Reason
from agent.domain.reconcile import ownership, removal, renamed
from agent.domain.reconcile.actions import Deploy, Evict, Exempted, Hold, Plan, ProtectionSet
from agent.domain.reconcile.exemptions import Suspension
from agent.domain.reconcile.host_state import HostState, protected, waits
from agent.domain.release import drift, health
from agent.domain.release.health import Health
from agent.domain.repository import dependencies
from agent.domain.repository.desired import Stack


def plan(situation: HostState, protection: ProtectionSet | None = None) -> Plan:
    """The actions that bring the host to what is declared, sorted by name.

    ``protection`` is what :func:`host_state.protected` says of it, if that is known.
    """
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
    if situation.begun_anew:
        lost = situation.begun_anew
        holds.append(Hold(situation.desired.host, Reason.JOURNAL, lost, needs_person=True))
    suspensions = situation.exemptions.suspensions
    holds += [suspended(each, situation.desired.host) for each in suspensions]
    if situation.exemptions.host:
        return Plan(holds=tuple(holds))
    holds += [
        Hold(name, Reason.ROLLED_BACK, detail)
        for name, detail in sorted(situation.desired.rolled_back.items())
    ]
    disorder = dependencies.faults(
        {stack.name: stack.settings.after for stack in situation.desired.stacks},
        situation.desired.names,
    )
    holds += [Hold(name, Reason.ORDER, detail) for name, detail in disorder.items()]
    deploys: list[Deploy] = []
    for stack in situation.desired.stacks:
        if stack.name in disorder or situation.exemptions.suspension(stack.name):
            continue
        match _deploy(stack, situation, by_project.get(stack.name, [])):
            case Deploy() as deploy:
                if data := renamed.hold(stack.name, situation):
                    holds.append(data)
                else:
                    deploys.append(deploy)
            case Hold() as hold:
                holds.append(hold)
            case None:
                pass
    deploys, waiting = _in_order(deploys, situation, by_project)
    holds += waiting
    removals, removal_holds = removal.removals(situation, deploys)
    undeclared, eviction_holds, exempt = _evictions(situation, protection or protected(situation))
    return Plan(
        deploys=tuple(deploys),
        removals=tuple(removals),
        evictions=tuple(undeclared),
        holds=(*holds, *removal_holds, *eviction_holds),
        exempt=tuple(exempt),
    )


def suspended(suspension: Suspension, host: str) -> Hold:
    """How a suspension shows, so that nobody forgets it."""
    end = "it is resumed"
    if suspension.until is not None:
        at = datetime.fromtimestamp(suspension.until, UTC).isoformat(timespec="seconds")
        end = at.replace("+00:00", "Z")
    by = f", by {suspension.actor}" if suspension.actor else ""
    detail = f"until {end}{by}" + (f": {suspension.reason}" if suspension.reason else "")
    subject = suspension.stack or host
    return Hold(subject, Reason.SUSPENDED, detail, actor=suspension.actor)


def _in_order(
    deploys: list[Deploy], situation: HostState, containers: Mapping[str, list[Container]]
) -> tuple[list[Deploy], list[Hold]]:
    """Those whose predecessors are up, or come up in the same plan; the others wait."""
    holds: list[Hold] = []
    found = list(deploys)
    while True:
        coming = {deploy.stack.name for deploy in found}
        for deploy in found:
            if deploy.reason is Reason.DRIFTED:
                continue  # it was up already
            missing = next(
                (
                    name
                    for name in deploy.stack.settings.after
                    if name not in coming and not _up(name, situation, containers.get(name, []))
                ),
                None,
            )
            if missing:
                holds.append(Hold(deploy.stack.name, Reason.AFTER, f"{missing} is not up"))
                found.remove(deploy)
                break  # others may wait for this one
        else:
            return found, holds


def _up(name: str, situation: HostState, containers: list[Container]) -> bool:
    release = situation.releases.get(name)
    if release is None or drift.compare(release, containers, situation.stopped):
        return False
    return not any(health.of(c, one_shot=True) is Health.UNHEALTHY for c in containers)


def _of_services(differences: tuple[Cause, ...]) -> tuple[Cause, ...]:
    """Those of a Swarm, where one that has other settings is there all the same."""
    changed = {each.service for each in differences if each.kind is CauseKind.CONFIG}
    return tuple(
        each
        for each in differences
        if each.kind is not CauseKind.CONTAINERS or each.service not in changed
    )


def _deploy(
    stack: Stack, situation: HostState, containers: list[Container]
) -> Deploy | Hold | None:
    release = situation.releases.get(stack.name)
    if release is None:
        deploy = Deploy(stack, Reason.NEW)
    elif release.digest != stack.digest:
        causes = moved(release.inputs, stack.versions, situation.desired.revision.sha)
        deploy = Deploy(stack, Reason.CHANGED, causes)
    elif differences := drift.compare(release, containers, situation.stopped):
        causes = _of_services(differences) if stack.policy.swarm else differences
        deploy = Deploy(stack, Reason.DRIFTED, causes)
    elif release.dirty:
        cause = Cause(
            kind=CauseKind.DEPLOYMENT, stack=stack.name, before="finished", after="interrupted"
        )
        deploy = Deploy(stack, Reason.DRIFTED, (cause,))
    else:
        return None
    if stack.name in situation.locked:
        reason, detail = situation.locked[stack.name]
        return Hold(stack.name, reason, detail)
    attempt = situation.attempts.get(stack.name)
    if attempt and attempt.digest == stack.digest:
        if attempt.permanent and deploy.reason is not Reason.DRIFTED:
            late = stack.name in situation.started and health.all_healthy(containers, steady=True)
            if late and not waits(attempt, situation.now):
                return Deploy(stack, Reason.LATE, deploy.causes)
            return Hold(stack.name, Reason.FAILED, attempt.error)
        if waits(attempt, situation.now):
            return Hold(stack.name, Reason.BACKOFF, attempt.error)
    return deploy


def moved(
    before: Iterable[tuple[str, str]], after: Iterable[tuple[str, str]], commit: str
) -> tuple[Cause, ...]:
    """The inputs that differ, each with its Git object, and mode, before and after."""
    old, new = dict(before), dict(after)
    return tuple(
        Cause(
            kind=CauseKind.FILE,
            name=path,
            before=old.get(path),
            after=new.get(path),
            commit=commit,
        )
        for path in sorted(old.keys() | new.keys())
        if old.get(path) != new.get(path)
    )


def evictions(situation: HostState) -> tuple[list[Evict], list[Hold]]:
    """Only what is to be ended, and what is not; for a look after the stacks are up."""
    return _evictions(situation, protected(situation))[:2]


def _evictions(
    situation: HostState, protection: ProtectionSet
) -> tuple[list[Evict], list[Hold], list[Exempted]]:
    found: list[Evict] = []
    holds: list[Hold] = []
    exempt: list[Exempted] = []
    for container in sorted(situation.containers, key=lambda c: (c.name, c.id)):
        if not container.alive:
            continue
        match ownership.classify(container, protection, situation.exemptions):
            case ownership.Exempt(reason, where) if reason is not Reason.HELPER:
                exempt.append(Exempted(container, reason, where))
            case ownership.Undeclared(reason):
                hold = refusal(container, protection, reason, report_only=situation.report_only)
                if hold:
                    holds.append(hold)
                else:
                    found.append(Evict(container, reason))
            case _:
                pass
    return found, holds, exempt


def grace_left(since: float, now: float, grace_s: float) -> float:
    """For how many seconds a container is left alone that is undeclared ``since`` then.

    That it starts anew, by itself or not, begins nothing anew. A clock that was set back gives no
    second grace.
    """
    return since + grace_s - now if 0 <= now - since < grace_s else 0.0


def refusal(
    container: Container, protection: ProtectionSet, reason: Reason, *, report_only: bool
) -> Hold | None:
    """Why a container that is undeclared for a ``reason`` is left running all the same, or None."""
    if protection.doubt:
        return Hold(container.name, Reason.LIST_IN_DOUBT, protection.doubt)
    # All that Compose counts was the stack's own when it was deployed first: a rival of that kind
    # came later, so it was not here first.
    later = reason is Reason.UNKNOWN_CONTAINER and container.counted
    if not protection.enrolled and (protection.begun_anew or not later):
        first = "it was here first"
        if later:
            first = "the journal was begun anew and does not know what was here first"
        return Hold(
            container.name,
            Reason.NOT_ENROLLED,
            f"{first}; run commitd enroll to see what would go and to agree",
            needs_person=True,
        )
    if report_only:
        return Hold(container.name, Reason.REPORT_ONLY, "undeclared.mode is report")
    return None
