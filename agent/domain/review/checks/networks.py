"""Address pools that two networks of one host claim: the engine makes only the first of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from agent.domain.finding import Finding
from agent.domain.resources import subnets as pools
from agent.domain.resources.subnets import Pool
from agent.domain.review.checks.hosts import Here


@dataclass(frozen=True, slots=True)
class _Claim:
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
            yield _Claim(here, key, str(network.get("name", key)), pool, where)


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
