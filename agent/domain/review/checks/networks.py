"""Networks and volumes of one host that stacks cannot have side by side.

Of address pools that two networks claim the engine makes only the first; a network or a volume that
several stacks declare as their own is made as one of them declares it. Two stacks can do so without
knowing: the volume ``b_data`` of the stack ``a`` and ``data`` of ``a_b`` are both ``a_b_data``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from msgspec import Struct

from agent.domain.finding import Finding, Level
from agent.domain.resources import provision
from agent.domain.resources import subnets as pools
from agent.domain.resources.provision import DeclaredResources, ResourceKind
from agent.domain.resources.subnets import Pool
from agent.domain.review.checks.hosts import Here


class _Claim(Struct, frozen=True, kw_only=True):
    """The network ``key`` of a stack, by the ``name`` that the engine knows it by."""

    here: Here
    key: str
    name: str
    pool: Pool
    where: str


def subnets(stacks: Iterable[Here]) -> Iterator[tuple[str, Finding]]:
    """Fixed subnets that overlap, each with the stack that is second."""
    claims = [claim for here in stacks for claim in _claims(here)]
    order = {id(claim): number for number, claim in enumerate(claims)}
    for one, other in _overlapping(claims):
        first, second = sorted((one, other), key=lambda claim: order[id(claim)])
        yield second.here.error(
            "subnets",
            second.where,
            f"{second.key}: {second.pool.subnet} overlaps with {first.pool.subnet} of "
            f"{first.here.stack}/{first.key} ({first.where})",
            "give one of them another subnet; or let both stacks use one network, which one "
            "of them makes and the other names as external",
        )


def _claims(here: Here) -> Iterator[_Claim]:
    for key, network in sorted((here.model.get("networks") or {}).items()):
        for i, pool in pools.declared(network or {}):
            where = here.places.of("networks", key, "ipam", "config", i, "subnet")
            yield _Claim(
                here=here, key=key, name=str(network.get("name", key)), pool=pool, where=where
            )


def _overlapping(claims: Iterable[_Claim]) -> Iterator[tuple[_Claim, _Claim]]:
    """Each claim with the one around it; of two pools that overlap one holds the other."""
    around: list[_Claim] = []
    for claim in sorted(claims, key=_place):
        while around and not _holds(around[-1].pool, claim.pool):
            around.pop()
        meeting = [each for each in around if each.name != claim.name]
        if meeting and pools.clash(meeting[-1].pool, claim.pool):
            yield meeting[-1], claim
        around.append(claim)


def _place(claim: _Claim) -> tuple[int, int, int]:
    subnet = claim.pool.subnet
    return subnet.version, int(subnet.network_address), subnet.prefixlen


def _holds(outer: Pool, inner: Pool) -> bool:
    return outer.subnet.version == inner.subnet.version and outer.subnet.overlaps(inner.subnet)


def declared_twice(stacks: Iterable[Here]) -> Iterator[tuple[str, Finding]]:
    """Each with the stack that is second: Compose makes it for the first, as that declares it.

    A volume so shared is one set of files that two programs take for their own.
    """
    first: dict[tuple[ResourceKind, str], tuple[Here, DeclaredResources]] = {}
    for here in stacks:
        for each in provision.declared(here.model):
            if each.external:
                continue
            owner, original = first.setdefault((each.kind, each.name), (here, each))
            if owner is not here:
                yield here.stack, _shared(owner, original, here, each)


def _shared(
    owner: Here, original: DeclaredResources, here: Here, each: DeclaredResources
) -> Finding:
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
        return Finding(
            level=Level.ERROR,
            rule="shared",
            where=where,
            message=f"{message}, with other settings",
            hint=hint,
        )
    if each.kind is ResourceKind.NETWORK and each.key != original.key:
        message += f", which calls it {original.key}"
        return Finding(level=Level.ERROR, rule="shared", where=where, message=message, hint=hint)
    if each.kind is ResourceKind.VOLUME:
        message += ": both would use the same data"
        hint = (
            f"give one of them another name; if they are meant to share it, or only read it, {hint}"
        )
        return Finding(level=Level.ERROR, rule="shared", where=where, message=message, hint=hint)
    return Finding(level=Level.WARNING, rule="shared", where=where, message=message, hint=hint)
