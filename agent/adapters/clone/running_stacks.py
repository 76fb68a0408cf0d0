"""Stacks of a Swarm as people deployed them: found by their label, read from the managers.

Raises what Engine raises.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote

from agent.adapters.engine import images
from agent.adapters.engine.engine import Engine
from agent.adapters.swarm import cluster
from agent.domain.adopt.running_stack import RunningConfig, RunningNetwork, RunningStack
from agent.domain.container import Container
from agent.domain.errors import CommitdError
from agent.domain.repository import image_reference as references
from agent.domain.swarm import claims
from agent.domain.swarm.model import OURS, SwarmService
from agent.domain.swarm.spec import container


async def find(engine: Engine) -> tuple[dict[str, tuple[SwarmService, ...]], list[Container]]:
    """The services of each stack, by its name, and those that belong to none."""
    found: dict[str, tuple[SwarmService, ...]] = {}
    loose = []
    for service in await cluster.services(engine):
        if service.stack:
            found[service.stack] = (*found.get(service.stack, ()), service)
        elif not service.kept:
            loose.append(claims.claimed(service))
    return dict(sorted(found.items())), loose


def managed(stacks: Mapping[str, tuple[SwarmService, ...]]) -> list[str]:
    """Those that an agent has deployed."""
    return [name for name, found in stacks.items() if any(OURS in s.labels for s in found)]


async def read(engine: Engine, name: str, services: tuple[SwarmService, ...]) -> RunningStack:
    """All that decides on the tasks of the stack; changes nothing."""
    networks = {each for service in services for each in service.networks}
    configs = {
        str(each["ConfigID"]) for service in services for each in _container(service, "Configs")
    }
    return RunningStack(
        name=name,
        services=services,
        networks={each: await _network(engine, each) for each in sorted(networks)},
        configs={each: await _config(engine, each) for each in sorted(configs)},
        pins=await _pins(engine, {service.image for service in services}),
    )


def _container(service: SwarmService, key: str) -> Iterable[Mapping[str, Any]]:
    return container(service.spec).get(key) or ()


async def _network(engine: Engine, identifier: str) -> RunningNetwork:
    async with engine.asking("look at a network") as docker:
        raw = await docker.get(f"networks/{quote(identifier, safe='')}", scope="swarm")
    return RunningNetwork(
        name=raw["Name"],
        driver=raw["Driver"],
        labels=raw.get("Labels") or {},
        options=raw.get("Options") or {},
        subnets=tuple(
            each["Subnet"]
            for each in (raw.get("IPAM") or {}).get("Config") or ()
            if each.get("Subnet")
        ),
        attachable=bool(raw.get("Attachable")),
        internal=bool(raw.get("Internal")),
        ipv6=bool(raw.get("EnableIPv6")),
    )


async def _config(engine: Engine, identifier: str) -> RunningConfig:
    async with engine.asking("look at a config") as docker:
        spec = (await docker.get(f"configs/{quote(identifier, safe='')}"))["Spec"]
    return RunningConfig(
        name=spec["Name"],
        labels=spec.get("Labels") or {},
        content=base64.b64decode(spec.get("Data") or ""),
        template=(spec.get("Templating") or {}).get("Name"),
    )


async def _pins(engine: Engine, named: Iterable[str]) -> dict[str, str]:
    """Of images that name no digest, as far as this node has them from their registry."""
    pins: dict[str, str] = {}
    for said in named:
        try:
            wanted = references.parse(said)
        except CommitdError:
            continue
        if wanted.digest:
            continue
        known = [references.parse(each) for each in await images.digests(engine, said)]
        for each in known:
            if each.digest and (each.registry, each.repository) == (
                wanted.registry,
                wanted.repository,
            ):
                pins[said] = wanted.at(each.digest)
    return pins
