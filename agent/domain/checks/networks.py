"""Address pools that two networks of one host claim: the engine makes only the first of them."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from agent.domain.checks.hosts import Here
from agent.domain.finding import Finding, Level

_Pool = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class _Claim:
    """The network ``key`` of a stack, by the ``name`` that the engine knows it by.

    ``part`` is the ``ip_range`` that addresses are taken from, if there is one.
    """

    here: Here
    key: str
    name: str
    pool: _Pool
    part: str
    bridge: bool
    where: str


def subnets(stacks: Iterable[Here]) -> Iterator[tuple[str, Finding]]:
    """Fixed subnets that overlap, each with the stack that is second."""
    claims = [claim for here in stacks for claim in _claims(here)]
    order = {id(claim): number for number, claim in enumerate(claims)}
    for one, other in _overlapping(claims):
        first, second = sorted((one, other), key=lambda claim: order[id(claim)])
        yield (
            second.here.stack,
            Finding(
                Level.ERROR,
                "subnets",
                second.where,
                f"{second.key}: {second.pool} overlaps with {first.pool} of "
                f"{first.here.stack}/{first.key} ({first.where})",
                "give one of them another subnet; or let both stacks use one network, which one "
                "of them makes and the other names as external",
            ),
        )


def _claims(here: Here) -> Iterator[_Claim]:
    for key, network in sorted((here.model.get("networks") or {}).items()):
        ipam = (network or {}).get("ipam") or {}
        driver = network.get("driver") or "bridge" if network else "bridge"
        # Other drivers may have pools of their own; networks of a swarm have.
        if not network or network.get("external") or driver == "overlay":
            continue
        if (ipam.get("driver") or "default") != "default":
            continue
        for i, entry in enumerate(ipam.get("config") or []):
            try:
                pool = ipaddress.ip_network(str(entry.get("subnet")), strict=False)
            except ValueError:
                continue
            if pool.version == 6 and not network.get("enable_ipv6"):  # noqa: PLR2004
                continue
            where = here.places.of("networks", key, "ipam", "config", i, "subnet")
            part, name = str(entry.get("ip_range") or ""), str(network.get("name", key))
            yield _Claim(here, key, name, pool, part, driver == "bridge", where)


def _overlapping(claims: Iterable[_Claim]) -> Iterator[tuple[_Claim, _Claim]]:
    """Each claim with the one around it; of two pools that overlap one holds the other."""
    around: list[_Claim] = []
    for claim in sorted(claims, key=_place):
        while around and not _holds(around[-1].pool, claim.pool):
            around.pop()
        meeting = [each for each in around if each.name != claim.name]
        if meeting and _clash(meeting[-1], claim):
            yield meeting[-1], claim
        around.append(claim)


def _place(claim: _Claim) -> tuple[int, int, int]:
    pool = claim.pool
    return pool.version, int(pool.network_address), pool.prefixlen


def _holds(outer: _Pool, inner: _Pool) -> bool:
    return outer.version == inner.version and outer.overlaps(inner)


def _clash(one: _Claim, other: _Claim) -> bool:
    """Parts of one pool are shared out; but bridges want each pool for themselves."""
    shared = one.pool == other.pool and one.part and other.part
    return not shared or (one.bridge and other.bridge)
