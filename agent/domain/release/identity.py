"""Which containers are a stack's own: by ID, those that the agent had Compose make.

Labels are a claim. Whoever may use the engine's socket can copy them, and Compose believes them: of
two containers of a service that needs one it keeps the one with the lower number, whoever made it::

    a container that says it is of a service of a stack, and is no one-off
      ├─ its ID is known ─────────────────────────────────▶ own
      ├─ nothing is known, or Compose works on it just now ▶ not judged: it may be one of these
      ├─ one of its service that is known is missing ──────▶ a substitute: somebody recreated it
      ├─ it does not run, and has the name of a new half ──▶ one too, in a moment
      └─ all that are known of its service are there ──────▶ a rival: it took nobody's place

A rival is evicted, and goes before Compose works on the stack. A substitute has the volumes of the
one whose place it took: it is drift, and Compose makes it anew, which keeps them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from msgspec import Struct

from agent.domain.container import Container

Own = frozenset[tuple[str, str]]
"""Services and IDs of the containers that are a stack's own."""


class Known(Struct, frozen=True):
    """What is known of one stack. ``before`` are the IDs of all that was there when Compose began
    to work on it; None: no Compose does. What is not among them and there later, Compose made.
    """

    own: Own
    before: frozenset[str] | None = None


def claims(containers: Iterable[Container]) -> list[tuple[tuple[str, str], Container]]:
    """The containers of one project that say they are of one of its services."""
    return [((c.service, c.id), c) for c in containers if c.service and not c.one_off]


def own_now(known: Known | None, containers: Iterable[Container]) -> Own:
    """Those of a project's ``containers`` that count as its own, and those that are missing.

    Without any knowledge it is all of them: an older agent, or a person, made them. What was
    evicted then only counts where there is nothing else of its service. What Compose does not take
    for a service's container it has not made either.
    """
    said = [(pair, container) for pair, container in claims(containers) if container.counted]
    if known is None:
        better = {service for (service, _), container in said if not container.kept}
        return frozenset(pair for pair, c in said if not c.kept or pair[0] not in better)
    if known.before is None:
        return known.own
    return known.own | {pair for pair, _ in said if pair[1] not in known.before}


def own_after(known: Known, containers: Iterable[Container], services: Collection[str]) -> Own:
    """Those of a project's ``containers`` that are its own once Compose has ended.

    Of what came meanwhile only its ``services`` count. Services that left keep what they had: until
    the new release is healthy, the way back may need them. One that is missing is still known while
    there is something else in its place that Compose has not made: else that would look like a
    rival, and a declared service would lose it.
    """
    containers = list(containers)
    now, said = own_now(known, containers), claims(containers)
    own = frozenset(pair for pair in now if pair[0] in services or pair in known.own)
    there = {pair for pair, _ in said}
    taken = {pair[0] for pair, c in said if pair not in own and c.counted and not c.kept}
    return frozenset(pair for pair in own if pair in there or pair[0] in taken)


def rivals(own: Own | None, containers: Iterable[Container]) -> list[Container]:
    """Those of a project's ``containers`` that took nobody's place; None: nothing is known.

    One that was evicted and is kept takes no place any more, whatever has become of the others.
    """
    own = own or frozenset()
    said = claims(containers)
    whole, known = _whole(own, said), {service for service, _ in own}
    return [
        container
        for pair, container in said
        if pair not in own
        and (pair[0] in whole or (container.kept and pair[0] in known))
        and not _half(container)
    ]


def substitutes(own: Own | None, containers: Iterable[Container]) -> list[Container]:
    """Those of a project's ``containers`` that are in the place of one that is missing.

    Also those of a service of which nothing was ever made, and those that are about to be.
    """
    if own is None:
        return []
    containers = list(containers)
    others = {container.id for container in rivals(own, containers)}
    return [c for pair, c in claims(containers) if pair not in own and c.id not in others]


def halves(own: Own, containers: Iterable[Container]) -> list[Container]:
    """The substitutes for which those whose place they are to take have not gone yet.

    Whoever recreates them may be about to remove those; to remove a half amid that would leave
    nothing, and the volumes to nobody. So it is waited for a while, and only then it was left.
    """
    said = claims(containers)
    whole = _whole(own, said)
    return [c for pair, c in said if pair not in own and pair[0] in whole and _half(c)]


def _half(container: Container) -> bool:
    return container.temporary and not container.alive


def _whole(own: Own, said: Iterable[tuple[tuple[str, str], Container]]) -> set[str]:
    """The services all of whose known containers are there."""
    missing = own - {pair for pair, _ in said}
    return {service for service, _ in own} - {service for service, _ in missing}
