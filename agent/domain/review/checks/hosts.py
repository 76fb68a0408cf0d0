"""What the stacks of one host take from each other: ports, names, networks, volumes, order."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from msgspec import Struct

from agent.domain.finding import Finding, Level
from agent.domain.release.expected import scale
from agent.domain.repository import dependencies
from agent.domain.repository.desired import DesiredState, Stack
from agent.domain.resources.ports import ALL
from agent.domain.resources.ports import address as address_of
from agent.domain.review.checks.places import Places

Model = Mapping[str, Any]

_NUMBER = re.compile(r"[0-9]{1,5}")
_MOST_NAMES = 100


class Here(Struct, frozen=True):
    """One stack of the host: its name, its model, and where its files say what."""

    stack: str
    model: Model
    places: Places

    @property
    def swarm(self) -> bool:
        """Whether it runs in a Swarm."""
        return self.places.stack.policy.swarm

    @property
    def services(self) -> list[tuple[str, Mapping[str, Any]]]:
        """Its active services by name."""
        return sorted((self.model.get("services") or {}).items())

    def error(self, rule: str, where: str, message: str, hint: str) -> tuple[str, Finding]:
        """A finding of this stack."""
        return self.stack, Finding(
            level=Level.ERROR, rule=rule, where=where, message=message, hint=hint
        )


class _Binding(Struct, frozen=True, kw_only=True):
    here: Here
    service: str
    ip: str
    port: int
    protocol: str


def ports(stacks: Iterable[Here]) -> Iterator[tuple[str, Finding]]:
    """Ports that two services publish on the same address, each with the stack that is second."""
    stacks = list(stacks)
    clashes: dict[tuple[str, str, str, str, str], list[_Binding]] = {}
    by_port: dict[tuple[int, str], list[_Binding]] = {}
    for binding in (found for here in stacks for found in _bindings(here)):
        by_port.setdefault((binding.port, binding.protocol), []).append(binding)
    yield from _full(stacks, by_port)
    for bound in by_port.values():
        for first, second in _meeting(bound):
            pair = (first.here.stack, first.service, second.here.stack, second.service)
            clashes.setdefault((*pair, second.protocol), []).extend((first, second))
    for (one, service, _, its, protocol), found in sorted(clashes.items()):
        first, second = found[0], found[1]
        taken = ranges({binding.port for binding in found})
        message = f"{its}: the port {taken}/{protocol} is published by {one}/{service} as well "
        message += f"({_port_place(first)})"
        hint = "publish one of them on another port or address"
        yield second.here.error("ports", _port_place(second), message, hint)


def _published(here: Here) -> Iterator[tuple[str, Model, str, str, str]]:
    """Service, its model, and the ports, address and protocol that it publishes."""
    for name, service in here.services:
        if service.get("network_mode") == "host":
            continue  # Docker drops its ports
        for port in service.get("ports") or []:
            ip, protocol = str(port.get("host_ip") or ""), str(port.get("protocol") or "tcp")
            yield name, service, str(port.get("published") or ""), ip, protocol


def _bindings(here: Here) -> Iterator[_Binding]:
    for name, service, published, ip, protocol in _published(here):
        if _NUMBER.fullmatch(published) and int(published):
            binding = _Binding(
                here=here, service=name, ip=ip, port=int(published), protocol=protocol
            )
            # One more says it all; tasks of a Swarm share a port, or are on nodes of their own.
            yield from [binding] * (1 if here.swarm else min(scale(service), 2))


def _full(
    stacks: Iterable[Here], by_port: Mapping[tuple[int, str], list[_Binding]]
) -> Iterator[tuple[str, Finding]]:
    """Ranges for one port of a container, of which the engine takes what is free: too little."""
    for here in stacks:
        for name, service, published, ip, protocol in _published(here):
            low, dash, high = published.partition("-")
            if not (dash and _NUMBER.fullmatch(low) and _NUMBER.fullmatch(high)):
                continue
            numbers = range(int(low), int(high) + 1)
            asked = [
                _Binding(here=here, service=name, ip=ip, port=number, protocol=protocol)
                for number in numbers
            ]
            taken = [
                pair[0]
                for binding in asked
                for pair in _meeting([*by_port.get((binding.port, protocol), ()), binding])
                if pair[1] is binding
            ]
            if taken and len(numbers) - len(taken) < scale(service):
                others = dict.fromkeys(f"{each.here.stack}/{each.service}" for each in taken)
                message = (
                    f"{name}: of {published}/{protocol} only {len(numbers) - len(taken)} are "
                    f"free for {scale(service)}: {', '.join(others)} publish the others"
                )
                hint = "publish a longer range, or another"
                yield here.error("ports", _port_place(asked[0]), message, hint)


def _meeting(bound: Iterable[_Binding]) -> Iterator[tuple[_Binding, _Binding]]:
    """Of bindings of one port: each that cannot be, behind the first one that is in its way."""
    anybody: dict[int, _Binding] = {}
    everywhere: dict[int, _Binding] = {}
    there: dict[str, _Binding] = {}
    for binding in bound:
        version, address = address_of(binding.ip)
        if version == ALL:
            first = next(iter(anybody.values()), None)
        elif not address:
            first = everywhere.get(ALL) or anybody.get(version)
        else:
            first = everywhere.get(ALL) or everywhere.get(version) or there.get(address)
        if first:
            yield first, binding
        anybody.setdefault(version, binding)
        if address:
            there.setdefault(address, binding)
        else:
            everywhere.setdefault(version, binding)


def _port_place(binding: _Binding) -> str:
    """The entry of ``ports:`` that has the port in it, if it is written out."""
    at = ("services", binding.service, "ports")
    for name, service, document in binding.here.places.services():
        entries = service.get("ports") if name == binding.service else None
        for i, entry in enumerate(entries if isinstance(entries, list) else []):
            text = str(entry.get("published", "")) if isinstance(entry, dict) else str(entry)
            host = text.partition("/")[0].rpartition(":")[0].rpartition(":")[2] or text
            low, _, high = host.partition("-")
            high = high if _NUMBER.fullmatch(high) else low
            if _NUMBER.fullmatch(low) and int(low) <= binding.port <= int(high):
                return f"{document.name}:{document.line((*at, i))}"
    return binding.here.places.of(*at)


def ranges(numbers: Iterable[int]) -> str:
    """As people write them: ``80, 8000-8010``."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(f"{r[0]}-{r[-1]}" if len(r) > 1 else str(r[0]) for r in runs)


def container_names(stacks: Iterable[Here]) -> Iterator[tuple[str, Finding]]:
    """Names of containers that two services want; the engine has each only once."""
    taken: dict[str, str] = {}
    for here in stacks:
        for name, service in here.services:
            own = service.get("container_name")
            numbers = range(1, min(scale(service), _MOST_NAMES) + 1)
            subject = f"{here.stack}/{name}"
            for wanted in [str(own)] if own else [f"{here.stack}-{name}-{n}" for n in numbers]:
                if (first := taken.setdefault(wanted, subject)) != subject:
                    where = here.places.of("services", name, "container_name")
                    message = f"{name}: the name {wanted!r} is that of {first} as well"
                    hint = "change container_name:, or what one of the services is called"
                    yield here.error("container-name", where, message, hint)


def service_names(stacks: Iterable[Here]) -> Iterator[tuple[str, Finding]]:
    """Names of services in a Swarm that two stacks make: ``b_c`` of ``a`` is ``c`` of ``a_b``."""
    wanted: dict[str, list[tuple[Here, str]]] = {}
    for here in stacks:
        for name, _ in here.services:
            wanted.setdefault(f"{here.stack}_{name}", []).append((here, name))
    for full, both in sorted(wanted.items()):
        for here, name in both if len(both) > 1 else ():
            others = ", ".join(f"{each.stack}/{own}" for each, own in both if each is not here)
            where = here.places.of("services", name)
            message = f"{name}: the Swarm would call it {full}, as it would {others}"
            hint = "give one of the services or stacks another name"
            yield here.error("service-name", where, message, hint)


_ALWAYS_THERE = frozenset({"bridge", "host", "ingress", "none"})
"""Networks that an engine, or a Swarm, has by itself."""


def external(stacks: Iterable[Here]) -> Iterator[tuple[str, Finding]]:
    """External networks and volumes that no stack of the host makes."""
    stacks = list(stacks)
    for kind, word in (("networks", "network"), ("volumes", "volume")):
        made = {
            str((value or {}).get("name", key))
            for here in stacks
            for key, value in (here.model.get(kind) or {}).items()
            if not (value or {}).get("external")
        }
        for here in stacks:
            for key, value in sorted((here.model.get(kind) or {}).items()):
                name = str((value or {}).get("name", key))
                if word == "network" and name in _ALWAYS_THERE:
                    continue
                if (value or {}).get("external") and name not in made:
                    hint = (
                        f"declare it with name: {name} in one stack, or make it on the host with "
                        f"docker {word} create {name}"
                    )
                    message = f"no stack here makes the external {word} {name!r}"
                    where = here.places.of(kind, key)
                    yield (
                        here.stack,
                        Finding(
                            level=Level.WARNING,
                            rule="external",
                            where=where,
                            message=message,
                            hint=hint,
                        ),
                    )


def disorder(
    stacks: Iterable[Stack], state: DesiredState, places: Mapping[str, Places]
) -> Iterator[tuple[str, Finding]]:
    """Orders of ``stacks`` that cannot be kept on this host."""
    after = {stack.name: stack.settings.after for stack in stacks}
    for name, detail in dependencies.faults(after, state.names).items():
        where = places[name].of("x-commitd", "after")
        message = detail.replace("this host", state.host)
        hint = "change after: in x-commitd, or what the host runs"
        yield (
            name,
            Finding(level=Level.ERROR, rule="after", where=where, message=message, hint=hint),
        )
