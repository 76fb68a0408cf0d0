"""The networks and volumes that a stack declares, against those that the engine has.

Compose makes each of them once. A volume it never changes: it asks, and nobody answers. A network
that was made with other settings it makes anew, for which it first stops what is in it; where
something else is in it as well it fails then, and what it has stopped stays down. Versions before
2.31 change neither. So they are compared before anything is touched:

    DeclaredResources (of the model)  ┐
    networks, volumes (of the engine) ┴┬▶ Problem …   what Compose will not, or cannot, do
                                       └▶ diverged    networks that Compose will make anew

Those of the engine are as its API describes them. No message has a value of ``driver_opts`` in it:
passwords stand there.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from enum import StrEnum
from typing import Any

from msgspec import Struct

from agent.domain.container import CONFIG_HASH, PROJECT
from agent.domain.resources import options, subnets

Raw = Mapping[str, Any]

_HTML = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}
"""What Go escapes in JSON beyond what Python does."""


class ResourceKind(StrEnum):
    """The value is what people call it; with an ``s`` it is the key in a Compose file."""

    NETWORK = "network"
    VOLUME = "volume"


class DeclaredResources(Struct, frozen=True, kw_only=True):
    """One of a stack's model. ``key`` is what its services call it, ``name`` what the engine does.

    ``services`` are those that use it. ``settings`` are as the model has them.
    """

    kind: ResourceKind
    key: str
    name: str
    external: bool
    settings: Mapping[str, Any]
    services: frozenset[str] = frozenset()

    @property
    def digest(self) -> str:
        """What Compose would label a network with that it makes now."""
        text = json.dumps(self.settings, separators=(",", ":"), ensure_ascii=False)
        text = "".join(_HTML.get(char, char) for char in text)
        return hashlib.sha256(text.encode()).hexdigest()


class Problem(Struct, frozen=True):
    """Why a stack must not be started; ``passing`` when that can end without a change in Git."""

    about: DeclaredResources
    message: str
    hint: str
    passing: bool = False


def declared(model: Mapping[str, Any]) -> tuple[DeclaredResources, ...]:
    """Those of a model as ``docker compose config --format json`` prints it, sorted.

    Compose makes those that a service uses; versions before 2.28 print others too.
    """
    services = model.get("services") or {}
    found: list[DeclaredResources] = []
    for kind in ResourceKind:
        for key, value in sorted((model.get(f"{kind}s") or {}).items()):
            settings = undoubled(value or {})
            users = {name for name, service in services.items() if key in _used(kind, service)}
            if not users:
                continue
            found.append(
                DeclaredResources(
                    kind=kind,
                    key=key,
                    name=str(settings.get("name", key)),
                    external=bool(settings.get("external")),
                    settings=settings,
                    services=frozenset(users),
                )
            )
    return tuple(found)


def _used(kind: ResourceKind, service: Mapping[str, Any]) -> Collection[str]:
    """The keys of the networks or volumes that a service of a model names."""
    if kind is ResourceKind.NETWORK:
        return service.get("networks") or {}
    mounts = service.get("volumes") or []
    return {str(each.get("source")) for each in mounts if each.get("type") == "volume"}


def absent(
    wanted: Iterable[DeclaredResources], networks: Iterable[Raw], volumes: Iterable[Raw]
) -> list[DeclaredResources]:
    """Those that the engine does not have."""
    there = {
        # An external network may be named by its ID.
        ResourceKind.NETWORK: {
            word for network in networks for word in (network["Name"], network["Id"])
        },
        ResourceKind.VOLUME: {volume["Name"] for volume in volumes},
    }
    return [each for each in wanted if each.name not in there[each.kind]]


def twice(wanted: Iterable[DeclaredResources], networks: Iterable[Raw]) -> dict[str, list[Raw]]:
    """Networks of the stack of which there are several by one name, the oldest first."""
    names = {each.name for each in wanted if each.kind is ResourceKind.NETWORK}
    found: dict[str, list[Raw]] = {}
    for network in sorted(networks, key=lambda each: (str(each.get("Created")), each["Id"])):
        if network["Name"] in names:
            found.setdefault(network["Name"], []).append(network)
    return {name: several for name, several in found.items() if len(several) > 1}


def superfluous(
    several: Iterable[Raw], users: Mapping[str, Collection[str]], ours: Collection[str]
) -> list[Raw]:
    """Which of ``several`` networks of one name can go: nothing is in them, and ``ours`` made them.

    ``users`` are the names of the running containers by network ID, ``ours`` Compose projects. One
    is left.
    """
    several = list(several)
    empty = [
        network
        for network in several
        if not users[network["Id"]] and labels(network).get(PROJECT) in ours
    ]
    return empty if len(empty) < len(several) else empty[1:]


def ambiguous(
    each: DeclaredResources, several: Iterable[Raw], users: Mapping[str, Collection[str]]
) -> Problem:
    """What to do about several networks of one name that are not ours to remove."""
    told = []
    for network in several:
        who = ", ".join(sorted(users[network["Id"]])) or "nothing"
        made_by = labels(network).get(PROJECT)
        origin = f"made for {made_by}" if made_by else "made by hand"
        told.append(f"{network['Id'][:12]} ({origin}, {who} in it)")
    return Problem(
        each,
        f"there are {len(told)} networks called {each.name}, and the engine does not know which is "
        f"meant: {', '.join(told)}",
        "take the containers out of all but one of them, and remove the others with "
        "docker network rm ID",
        passing=True,
    )


def missing(wanted: Iterable[DeclaredResources]) -> Iterator[Problem]:
    """Of those that are :func:`absent`, the ones that somebody else has to make."""
    for each in wanted:
        if each.external:
            yield Problem(
                each,
                f"there is no {each.kind} {each.name}, which is declared as external",
                f"make it with docker {each.kind} create {each.name}, or let one stack of this "
                f"host declare it with name: {each.name}, and come after: that stack",
                passing=True,
            )


def volumes_that_differ(
    project: str, wanted: Iterable[DeclaredResources], volumes: Iterable[Raw]
) -> Iterator[Problem]:
    """Volumes that were made with other settings than are declared now."""
    there = {volume["Name"]: volume for volume in volumes}
    for each in wanted:
        found = (
            there.get(each.name) if each.kind is ResourceKind.VOLUME and not each.external else None
        )
        if found and (what := _different_volume(project, each, found)):
            yield Problem(
                each,
                f"{', '.join(what)} of the volume {each.name} cannot be changed: it was made "
                "with something else, and its data is in it",
                "undo the change; or give the volume a new name: and copy the data; or, when its "
                f"data is saved, commitd suspend {project}, docker compose -p {project} down, "
                f"docker volume rm {each.name}, commitd resume {project}, commitd retry "
                f"{project}",
            )


def diverged(
    wanted: Iterable[DeclaredResources], networks: Iterable[Raw]
) -> Iterator[tuple[DeclaredResources, Raw, list[str]]]:
    """Networks that were made with other settings than are declared now, and with which others."""
    there = {network["Name"]: network for network in networks}
    for each in wanted:
        found = (
            there.get(each.name)
            if each.kind is ResourceKind.NETWORK and not each.external
            else None
        )
        if found is None:
            continue
        what = options.network_differences(each.settings, found)
        made_with = digest(found)
        if made_with is None:  # values that are not written out may be the engine's own
            what = [key for key in what if key in each.settings]
        if what if made_with is None else made_with != each.digest:
            yield each, found, what or ["the settings"]


def digest(network: Raw) -> str | None:
    """Of what a network was made with; None: by hand, or by a Compose before 2.31."""
    found: str | None = labels(network).get(CONFIG_HASH)
    return found


def labels(found: Raw) -> Mapping[str, str]:
    """Of a network or a volume."""
    return found.get("Labels") or {}


def network_in_use(
    project: str, each: DeclaredResources, what: Iterable[str], users: Mapping[str, str | None]
) -> Problem | None:
    """Why a network that has :func:`diverged` cannot be made anew.

    ``users`` are the running containers in it, by name, with their projects.
    """
    others = {name: owner for name, owner in users.items() if owner != project}
    if not others:
        return None
    stacks = sorted({owner for owner in others.values() if owner})
    who = f"the stack {' and '.join(stacks)} ({', '.join(sorted(others))})"
    if not stacks:
        who = f"the container {', '.join(sorted(others))}"
    return Problem(
        each,
        f"{', '.join(what)} of the network {each.name} cannot be changed, because {who} is in it",
        f"declare the same everywhere, or let one stack declare {each.name} and the others name it "
        f"with external: true; to change it, take {' and '.join(stacks) or 'the container'} out "
        "of it first, or give the network another name:",
        passing=True,
    )


def never_changed(project: str, each: DeclaredResources, what: Iterable[str]) -> Problem:
    """Why a network stays as it is that an older Compose has made, or a person."""
    return Problem(
        each,
        f"Compose does not change {', '.join(what)} of the network {each.name}, because it was "
        "made by hand or by a version before 2.31",
        f"undo the change, or have it made anew: commitd suspend {project}, docker compose -p "
        f"{project} down, commitd resume {project}, commitd retry {project} (volumes stay)",
    )


def overlaps(made: Iterable[DeclaredResources], networks: Iterable[Raw]) -> Iterator[Problem]:
    """Fixed subnets of networks that are to be ``made`` which another network has already."""
    taken = [(network["Name"], pool) for network in networks for pool in subnets.made(network)]
    for each in made:
        for _, wanted in (
            subnets.declared(each.settings) if each.kind is ResourceKind.NETWORK else ()
        ):
            for name, pool in taken:
                if name != each.name and subnets.clash(wanted, pool):
                    yield Problem(
                        each,
                        f"the subnet {wanted.subnet} of the network {each.name} overlaps with "
                        f"{pool.subnet} of the network {name}",
                        "take another subnet, or remove the other network",
                        passing=True,
                    )


def _different_volume(project: str, each: DeclaredResources, volume: Raw) -> list[str]:
    found = options.volume_differences(each.settings, volume)
    # Labels of a volume that somebody else has made are not for the stack to say.
    own = labels(volume).get(PROJECT) == project
    return [key for key in found if key != "labels" or own]


def undoubled(value: Any) -> Any:
    """A value as Compose has it before it doubles every ``$`` of the values that it prints."""
    if isinstance(value, str):
        return value.replace("$$", "$")
    if isinstance(value, Mapping):
        return {key: undoubled(each) for key, each in value.items()}
    return [undoubled(each) for each in value] if isinstance(value, list) else value
