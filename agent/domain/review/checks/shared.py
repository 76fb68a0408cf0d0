"""Networks and volumes that several stacks of one host declare as their own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from agent.domain.finding import Finding, Level
from agent.domain.resources import provision
from agent.domain.resources.provision import Declared, Kind
from agent.domain.review.checks.hosts import Here


def declared_twice(stacks: Iterable[Here]) -> Iterator[tuple[str, Finding]]:
    """Each with the stack that is second: Compose makes it for the first, as that declares it."""
    first: dict[tuple[Kind, str], tuple[Here, Declared]] = {}
    for here in stacks:
        for each in provision.declared(here.model):
            if each.external:
                continue
            owner, original = first.setdefault((each.kind, each.name), (here, each))
            if owner is not here:
                yield here.stack, _finding(owner, original, here, each)


def _finding(owner: Here, original: Declared, here: Here, each: Declared) -> Finding:
    key = f"{each.kind}s"
    message = (
        f"the {each.kind} {each.name} is declared by {owner.stack} as well "
        f"({owner.places.of(key, original.key)})"
    )
    hint = (
        f"let one stack declare it and the others name it with external: true, and come after: "
        f"that stack; or make it on the host with docker {each.kind} create {each.name}, "
        "external: true in all of them"
    )
    where = here.places.of(key, each.key)
    if each.digest != original.digest:
        return Finding(Level.ERROR, "shared", where, f"{message}, with other settings", hint)
    if each.kind is Kind.NETWORK and each.key != original.key:
        message += f", which calls it {original.key}"
        return Finding(Level.ERROR, "shared", where, message, hint)
    return Finding(Level.WARNING, "shared", where, message, hint)
