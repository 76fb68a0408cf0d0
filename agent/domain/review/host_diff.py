"""What a newer commit would do to a host that has the older one in place and is healthy.

The function that plans on a real host decides here as well, so that a review sees what will happen:
what is deployed, what is taken down, what waits for a person.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct, field

from agent.domain.outcome import CauseKind, Reason
from agent.domain.reconcile import effects, renamed
from agent.domain.reconcile.actions import Deploy, Hold, Plan
from agent.domain.reconcile.effects import Side, StackEffects
from agent.domain.reconcile.host_state import HostState
from agent.domain.reconcile.plan import plan
from agent.domain.release.release import Release, Service
from agent.domain.repository.desired import DesiredState, Stack

Sides = tuple[Side | str | None, Side | str | None]
"""A stack before and after: None where it is not declared, a text says why that is unknown."""


class StackChange(Struct, frozen=True, kw_only=True):
    """One stack on one host. ``action`` is deploy, remove or hold; ``message`` says why.

    ``inputs`` are the paths that differ of what it is made of. ``effects`` are on those services
    alone that change.
    """

    name: str
    action: str
    reason: Reason
    message: str
    inputs: tuple[str, ...] = ()
    effects: StackEffects = field(default_factory=StackEffects)


class HostChange(Struct, frozen=True):
    """One host for which something changes; ``note`` is about the host as a whole."""

    name: str
    stacks: tuple[StackChange, ...]
    note: str | None = None


def planned(before: DesiredState | None, after: DesiredState) -> Plan:
    """The plan of a host that runs ``before``, for ``after``."""
    found = plan(_situation(before, after))
    if before is None:
        return found
    # What was held already is no news.
    known = {(hold.subject, hold.reason) for hold in plan(_situation(before, before)).holds}
    news = tuple(hold for hold in found.holds if (hold.subject, hold.reason) not in known)
    return Plan(
        deploys=found.deploys, removals=found.removals, evictions=found.evictions, holds=news
    )


def _situation(before: DesiredState | None, after: DesiredState) -> HostState:
    releases = {stack.name: _release(stack) for stack in (before.stacks if before else ())}
    return HostState(
        desired=after, containers=(), releases=releases, now=0.0, stacks_dir="/", enrolled=True
    )


def left_data(before: DesiredState | None, after: DesiredState) -> dict[str, str]:
    """New stacks that had another name before, and what of their data a host may keep under that.

    Whether there is any the host knows: there the new one waits for a person then.
    """
    old = {stack.name: stack for stack in (before.stacks if before else ())}
    found: dict[str, str] = {}
    for name, new in renamed.pairs(_situation(before, after)).items():
        data = renamed.possible(old[name], new)
        if data and renamed.sure(_release(old[name]), new):
            found[new.name] = renamed.said(new.name, data)
    return found


def _release(stack: Stack) -> Release:
    # None of its services has a container, so that none is missing.
    images = {name: mention.text for name, mention in stack.images.items()}
    services = tuple(
        Service(name=name, image=images.get(name, ""), scale=0, config_hash="", one_shot=False)
        for name in sorted(stack.services)
    )
    return Release(
        stack=stack.name,
        digest=stack.digest,
        revision="",
        inputs=stack.versions,
        services=services,
        at="",
        after=stack.settings.after,
    )


def of_host(
    before: DesiredState | None,
    after: DesiredState,
    todo: Plan,
    sides: Mapping[str, Sides],
    moved: Mapping[str, str],
) -> HostChange | None:
    """What ``todo`` means for the host of ``after``; None when nothing changes there.

    ``sides`` has the stacks that are deployed; ``moved`` says of stacks where they come from or go
    to.
    """
    stacks = [
        _deploy(deploy, sides[deploy.stack.name], _why(deploy, before, moved))
        for deploy in todo.deploys
    ]
    for removal in todo.removals:
        message = f"{removal.reason.text}{moved.get(removal.project, '')}"
        stacks.append(
            StackChange(
                name=removal.project, action="remove", reason=removal.reason, message=message
            )
        )
    stacks += [_hold(hold) for hold in todo.holds]
    stacks += [
        StackChange(
            name=name,
            action="hold",
            reason=Reason.DATA,
            message=Reason.DATA.message(f"{said}; the host waits for it"),
        )
        for name, said in left_data(before, after).items()
    ]
    note = "a new host" if before is None else None
    if before and before.allow != after.allow:
        note = "what may run beside its stacks changes"
    if not stacks and note is None:
        return None
    return HostChange(after.host, tuple(sorted(stacks, key=lambda s: (s.name, s.action))), note)


def _why(deploy: Deploy, before: DesiredState | None, moved: Mapping[str, str]) -> str:
    name = deploy.stack.name
    if before and name in before.broken:
        return "it could not be read before"
    if deploy.reason is Reason.NEW:
        return f"new here{moved.get(name, '')}"
    if deploy.reason is Reason.CHANGED and not deploy.causes:
        return "what it may do changed (commitd.yaml)"
    return deploy.reason.text


def _deploy(deploy: Deploy, sides: Sides, message: str) -> StackChange:
    before, after = sides
    unknown = next((side for side in sides if isinstance(side, str)), None)
    if isinstance(before, str) or not isinstance(after, Side):
        found = StackEffects(unknown=unknown)
    else:
        services = tuple(effect for effect in effects.changed(before, after) if effect)
        other = effects.definitions(before, after) if before else ()
        found = StackEffects(services=services, other=other, asks=effects.asked(before, after))
    inputs = tuple(c.name for c in deploy.causes if c.kind is CauseKind.FILE and c.name)
    return StackChange(
        name=deploy.stack.name,
        action="deploy",
        reason=deploy.reason,
        message=message,
        inputs=inputs,
        effects=found,
    )


def _hold(hold: Hold) -> StackChange:
    return StackChange(name=hold.subject, action="hold", reason=hold.reason, message=hold.message)
