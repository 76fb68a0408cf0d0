"""Is what runs already the release that is declared? Then it is taken over as it is.

Of a stack without a recorded release the agent does not know its containers: it is new here, or the
journal is lost. Pinning an image changes nothing but its name, yet Compose recreates for that. So
Compose is asked what it would do if the images still had the names that the containers were made
with, and the images themselves are compared by what they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from agent.domain import drift
from agent.domain.container import Container
from agent.domain.gate import Expected

_MARK = "DRY-RUN MODE -"
_RUNNING = "Running"
_HARMLESS = frozenset({_RUNNING, "Waiting", "Healthy", "Exited"})
_STARTS = frozenset({"Starting", "Started", *_HARMLESS})
"""What Compose may do to a container that has finished: the agent does not do it."""
_WORDS = 3


@dataclass(frozen=True, slots=True)
class Resident:
    """A container that is there, as it was inspected.

    ``image_id`` is what it was made from, ``binds`` are the host's paths that are mounted into it,
    ``started_at`` is in seconds since the epoch.
    """

    container: Container
    image_id: str
    binds: frozenset[str]
    started_at: float


def made_with(residents: Iterable[Resident]) -> dict[str, str]:
    """The image that each service's containers were made with, by name."""
    return {r.container.service: r.container.image for r in residents if r.container.service}


def refusal(
    stack: str,
    expected: Mapping[str, Expected],
    residents: Sequence[Resident],
    *,
    image_ids: Mapping[str, str],
    changed_at: Mapping[str, float],
    steps: Iterable[str],
) -> str | None:
    """Why ``residents`` are not what is declared; None: there is nothing to bring up.

    ``residents`` are the project's containers without one-offs. ``image_ids`` maps the images of
    ``expected`` to those that are here, ``changed_at`` services to when the repository's files that
    are mounted into them were last written. ``steps`` is what Compose says in a dry run.
    """
    by_service: dict[str | None, list[Resident]] = {}
    for resident in residents:
        by_service.setdefault(resident.container.service, []).append(resident)
    running: set[str] = set()
    finished: set[str] = set()
    for name, service in sorted(expected.items()):
        found = by_service.get(name, [])
        if service.inline:
            return f"{name} has configs that nobody can read back from its containers"
        if len(found) != service.scale:
            return f"{name} has {len(found)} of {service.scale} containers"
        if len({r.container.image for r in found}) > 1:
            return f"the containers of {name} are of different images"
        for resident in found:
            container = resident.container
            if why := _differs(stack, service, resident, image_ids, changed_at.get(name, 0.0)):
                return f"{container.name} {why}"
            (running if container.alive else finished).add(container.name)
    return _would_do(steps, running, finished)


def _differs(
    stack: str,
    service: Expected,
    resident: Resident,
    image_ids: Mapping[str, str],
    changed_at: float,
) -> str | None:
    container = resident.container
    if not drift.settled(container, finishes=service.finishes):
        return f"is {container.state}"
    if drift.right_name(stack, service.container_name, container) != container.name:
        return "has another name than Compose gives"
    if image_ids.get(service.image) != resident.image_id:
        return f"was made from another image than {service.image}"
    if missing := set(service.mounts) - resident.binds:
        return f"does not mount {min(missing)}"
    if changed_at >= resident.started_at:
        return "was started before the files that it mounts were written"
    return None


def _would_do(steps: Iterable[str], running: set[str], finished: set[str]) -> str | None:
    """What Compose would do beyond leaving all as it is. What is not understood counts."""
    left: set[str] = set()
    for line in steps:
        words = line.partition(_MARK)[2].split()
        if not words:
            continue
        kind, name, verb = (words + [""] * _WORDS)[:_WORDS]
        if kind != "Container" or verb not in (_STARTS if name in finished else _HARMLESS):
            return f"Compose would do more: {' '.join(words[:_WORDS])}"
        if verb == _RUNNING or name in finished:
            left.add(name)
    if unsaid := (running | finished) - left:
        return f"Compose does not say that it leaves {min(unsaid)} alone"
    return None
