"""Is what runs already the release that is declared? Then it is taken over as it is.

Of a stack without a recorded release the agent does not know its containers: it is new here, or the
journal is lost. Pinning an image changes nothing but its name, yet Compose recreates for that. So
nothing is asked of Compose but a hash, and the facts are compared:

- what a service is configured to be, by the hash that Compose labels its containers with: that of
  the model in which its image has the name that they were made with, and in which a service whose
  namespaces it shares is the container that it shares them with (:func:`as_made`);
- the image, by what it is;
- networks and volumes, by their names and options, which are no part of that hash;
- how many containers there are, their names, their states, and when they were started.

What cannot be compared counts as different: then the stack is brought up as ever.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from msgspec import Struct, field

from agent.domain.container import CONFIG_HASH, Container
from agent.domain.release import drift, health
from agent.domain.release.health import Expected
from agent.domain.resources import options, provision
from agent.domain.resources.provision import DeclaredResources, Raw, ResourceKind

NAMESPACES = {"network_mode": "NetworkMode", "pid": "PidMode", "ipc": "IpcMode"}
"""Keys of a service that can name another one, and what the engine calls them."""


class Resident(Struct, frozen=True, kw_only=True):
    """A container that is there, as it was inspected.

    ``image_id`` is what it was made from, ``binds`` are the host's paths and ``volumes`` the names
    of the volumes that are mounted into it, ``networks`` the names of those it is connected to.
    ``shares`` are the IDs of the containers whose namespaces it runs in, by the service's key.
    ``started_at`` is in seconds since the epoch.
    """

    container: Container
    image_id: str
    binds: frozenset[str]
    started_at: float
    volumes: frozenset[str] = frozenset()
    networks: frozenset[str] = frozenset()
    shares: Mapping[str, str] = field(default_factory=dict)


class Place(Struct, frozen=True, kw_only=True):
    """What of the engine there is beside the containers, and what Compose says of the model.

    ``image_ids`` maps the images of the services to those that are here, ``hashes`` services to
    their config hash as made. ``networks`` and ``volumes`` are as the engine lists them;
    ``changed_at`` is when the repository's files that are mounted into a service were last written.
    """

    image_ids: Mapping[str, str]
    hashes: Mapping[str, str]
    networks: tuple[Raw, ...] = ()
    volumes: tuple[Raw, ...] = ()
    changed_at: Mapping[str, float] = field(default_factory=dict)


def made_with(residents: Iterable[Resident]) -> dict[str, str]:
    """The image that each service's containers were made with, by name."""
    return {r.container.service: r.container.image for r in residents if r.container.service}


def as_made(model: Mapping[str, Any], residents: Sequence[Resident]) -> dict[str, Any]:
    """``model`` with what Compose had in it when it made these containers."""
    made = copy.deepcopy(dict(model))
    images = made_with(residents)
    for name, service in (made.get("services") or {}).items():
        service["image"] = images.get(name, service.get("image"))
        for key, owner in _shared(service).items():
            found = next((r for r in residents if r.container.service == name), None)
            owners = {r.container.id for r in residents if r.container.service == owner}
            if found and found.shares.get(key) in owners:
                service[key] = f"container:{found.shares[key]}"
    return made


def refusal(
    stack: str,
    model: Mapping[str, Any],
    expected: Mapping[str, Expected],
    residents: Sequence[Resident],
    place: Place,
) -> str | None:
    """Why ``residents`` are not what is declared; None: there is nothing to bring up.

    ``model`` is what Compose resolves the stack to, ``expected`` its services that are to run,
    ``residents`` the project's containers without one-offs.
    """
    by_service: dict[str | None, list[Resident]] = {}
    for resident in residents:
        by_service.setdefault(resident.container.service, []).append(resident)
    for name, service in sorted(expected.items()):
        found = by_service.get(name, [])
        raw = model["services"][name]
        if service.inline:
            return f"{name} has configs that nobody can read back from its containers"
        if why := _unknown(raw):
            return f"{name} {why}"
        if len(found) != service.scale:
            return f"{name} has {len(found)} of {service.scale} containers"
        if len({r.container.image for r in found}) > 1:
            return f"the containers of {name} are of different images"
        for resident in found:
            why = _differs(stack, name, service, resident, place) or _elsewhere(
                model, name, resident, place
            )
            if why:
                return f"{resident.container.name} {why}"
    return None


def _differs(
    stack: str, name: str, service: Expected, resident: Resident, place: Place
) -> str | None:
    container = resident.container
    if health.of(container, one_shot=service.one_shot) in health.DOWN:
        return f"is {container.state}"
    if drift.right_name(stack, service.container_name, container) != container.name:
        return "has another name than Compose gives"
    if place.image_ids.get(service.image) != resident.image_id:
        return f"was made from another image than {service.image}"
    if missing := set(service.mounts) - resident.binds:
        return f"does not mount {min(missing)}"
    if not (own := container.labels.get(CONFIG_HASH)) or own != place.hashes.get(name):
        return "has another configuration than its file, as far as their hashes tell"
    if place.changed_at.get(name, 0.0) >= resident.started_at:
        return "was started before the files that it mounts were written"
    return None


def _elsewhere(model: Mapping[str, Any], name: str, resident: Resident, place: Place) -> str | None:
    """What of its networks and volumes is not as declared."""
    for each in provision.declared(model):
        if name not in each.services:
            continue
        there = place.networks if each.kind is ResourceKind.NETWORK else place.volumes
        found = next((r for r in there if each.name in {r["Name"], r.get("Id")}), None)
        if found is None:
            return f"needs the {each.kind} {each.name}, which is not there"
        if each.kind is ResourceKind.VOLUME:
            if each.name not in resident.volumes:
                return f"does not mount the volume {each.name}"
            what = [] if each.external else options.volume_differences(each.settings, found)
        else:
            # One that has finished is connected to none.
            if resident.container.alive and found["Name"] not in resident.networks:
                return f"is not connected to the network {each.name}"
            what = _network_differences(each, found)
        if what:
            return f"uses the {each.kind} {each.name}, whose {what[0]} is not as declared"
    return None


def _network_differences(each: DeclaredResources, found: Raw) -> list[str]:
    """By the hash of what Compose made it with, or by all that the engine tells."""
    if each.external:
        return []
    if provision.digest(found) is None:
        return options.network_differences(each.settings, found)
    return [key for _, _, keys in provision.diverged([each], [found]) for key in keys]


def _shared(service: Mapping[str, Any]) -> dict[str, str]:
    """The services whose namespaces this one runs in, by key."""
    words = {key: str(service.get(key) or "").partition(":") for key in NAMESPACES}
    return {key: name for key, (kind, _, name) in words.items() if kind == "service"}


def _unknown(service: Mapping[str, Any]) -> str | None:
    """What in a service Compose resolves in a way that cannot be followed here."""
    if service.get("volumes_from"):
        return "takes volumes from another service, which cannot be compared"
    if any(volume.get("type") == "image" for volume in service.get("volumes") or []):
        return "mounts an image, which cannot be compared"
    return None
