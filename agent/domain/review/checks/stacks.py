"""What one stack asks of the host that runs it, seen on its model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from agent.domain import documents
from agent.domain.compose import host_mounts, policy
from agent.domain.compose.host_mounts import AgentPlaces
from agent.domain.compose.policy import Effect, Violation
from agent.domain.finding import Finding, Level
from agent.domain.release import expected, health_check
from agent.domain.repository import artefacts, ignored
from agent.domain.repository.artefacts import Artefact
from agent.domain.repository.desired import Stack
from agent.domain.repository.stack_settings import KEY
from agent.domain.review.checks.places import Places
from agent.domain.swarm import stack_file
from agent.domain.swarm.violations import RULE

Model = Mapping[str, Any]

_NOT_IN_A_SWARM = {
    "on_change": "in a Swarm no service mounts files of the repository",
    "secret_owner": "in a Swarm nobody mounts decrypted files; secrets: have uid and gid",
}
_NO_DATA = (
    "keep data in a volume, or at an absolute path: it stays behind when the stack is renamed"
)


def judge(stack: Stack, model: Model, root: str, places: Places) -> Iterator[Finding]:
    """All of it; ``root`` is the absolute path that stands for the repository in ``model``."""
    found = policy.judge(stack, model, root)
    yield from judged(found, places, root)
    if stack.policy.swarm:
        refused = {each.path for each in found if each.effect is Effect.REFUSED}
        said = stack_file.judge(stack.name, model, root)
        yield from judged((each for each in said if each.path not in refused), places, root)
    else:
        yield from _data(stack, model, root, places)
    yield from _reloads(stack, model, places)
    yield from health_timeout(stack, model, places)


def meaningless(places: Places) -> Iterator[Finding]:
    """Settings of the stack that mean nothing in a Swarm, where no service mounts the checkout."""
    for key, why in _NOT_IN_A_SWARM.items():
        if places.has(KEY, key):
            yield Finding(
                level=Level.WARNING,
                rule=RULE,
                where=places.of(KEY, key),
                message=f"{key} has no effect: {why}",
                hint="leave it out; new content of configs: and secrets: rolls who uses it",
            )


def without_effect(stack: Stack) -> Iterator[Finding]:
    """What stands in its files, and Compose is not told of."""
    for note in stack.notes:
        level = Level.ERROR if note.rule == ignored.OVERRIDE else Level.WARNING
        yield Finding(
            level=level, rule=note.rule, where=note.where, message=note.message, hint=note.hint
        )


def written(places: Places) -> list[Artefact]:
    """What is known without Compose of the images that services name: those written out."""
    found: dict[str, Artefact] = {}
    for name, service, _ in places.services():
        found |= {each.name: each for each in artefacts.of_service(name, service)}
    return [each for each in found.values() if "$" not in each.reference]


def judged(violations: Iterable[Violation], places: Places, root: str = "") -> Iterator[Finding]:
    """What policy says, in the words and at the places of the files; ``root`` as above."""
    for each in violations:
        if each.effect is Effect.ASKED:
            continue
        level = Level.ERROR if each.effect is Effect.REFUSED else Level.WARNING
        message = each.message.replace(f"{root}/", "") if root else each.message
        yield Finding(
            level=level,
            rule=each.rule,
            where=each.where or places.of(*each.path),
            message=message,
            hint=each.hint,
        )


def _data(stack: Stack, model: Model, root: str, places: Places) -> Iterator[Finding]:
    """Data that containers keep in the checkout, beside the files of Git."""
    for mount in host_mounts.of(model):
        at = host_mounts.place(mount.source, root, AgentPlaces())
        if at and not mount.read_only and not host_mounts.covered(stack.tracked, at):
            yield Finding(
                level=Level.WARNING,
                rule="data-in-tree",
                where=mount_place(mount.path[1:-2], mount.target, places),
                message=f"{mount.name}: can write to {at}, inside the checkout",
                hint=_NO_DATA,
            )


def mount_place(path: tuple[str | int, ...], target: str, places: Places) -> str:
    """``file:line`` of the mount at ``target`` of what is at ``path`` below ``services``."""
    for document in places.documents:
        mounts = documents.value(document.data, ("services", *path, "volumes"))
        for i, mount in enumerate(mounts if isinstance(mounts, list) else []):
            written = mount.get("target") if isinstance(mount, dict) else mount
            if isinstance(written, str) and target in written.split(":"):
                return f"{document.name}:{document.line(('services', *path, 'volumes', i))}"
    return places.of("services", *path, "volumes")


def _reloads(stack: Stack, model: Model, places: Places) -> Iterator[Finding]:
    """``on_change:`` of stacks that include others, whose services only Compose knows."""
    known = {*(model.get("services") or {}), *(name for name, _, _ in places.services())}
    for service in sorted(set(stack.settings.on_change) - known):
        where, message = places.of(KEY, "on_change", service), f"there is no service {service!r}"
        hint = f"there are {', '.join(sorted(known))}"
        yield Finding(level=Level.ERROR, rule="settings", where=where, message=message, hint=hint)


def health_timeout(stack: Stack, model: Model, places: Places) -> Iterator[Finding]:
    """``health_timeout`` where the health checks of services that wait for each other say more."""
    if not places.has(KEY, "health_timeout"):
        return
    own: dict[str, float] = {}
    for name, service in (model.get("services") or {}).items():
        try:
            check = health_check.in_model(service)
        except ValueError:  # nothing that Compose would print
            continue
        own[name] = check.declared_s if check else 0.0
    declared_s = health_check.longest(own, expected.needs(model))
    given_s = stack.settings.health_timeout
    if given_s < declared_s:
        slowest = max(own, key=lambda name: own[name])
        yield Finding(
            level=Level.WARNING,
            rule="health-timeout",
            where=places.of(KEY, "health_timeout"),
            message=f"health_timeout is {given_s:g} s, but the health checks may take "
            f"{declared_s:g} s before they call a service unhealthy "
            f"({slowest}: {own[slowest]:g} s): commitd waits that long",
            hint="leave health_timeout out, or shorten start_period, interval, timeout or retries",
        )
