"""Stacks that have a new name, and what of their data stays under the old one.

    leaving: applied, not declared ┐
    new: declared, no release ─────┴─names──▶ old → new ──sure──▶ those that are one stack for sure
                                                                      │
    what this host has of their data (HostState.left) ────────────────┴─holds──▶ the new one waits

A volume that Compose names after the stack, and a directory beside its Compose file, are not those
of the new name: it would start empty, be healthy, and the old one would go. A volume that the new
one takes over by its name is there for both, and two programs at once may destroy it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from agent.domain.errors import PermanentError
from agent.domain.outcome import Reason
from agent.domain.reconcile.actions import Hold
from agent.domain.reconcile.host_state import HostState, LeftData, applied, labelled
from agent.domain.release.release import Release
from agent.domain.repository import image_reference
from agent.domain.repository.desired import Stack
from agent.domain.revision import Revision
from agent.domain.shortened import some_of

_MOST = 5
"""Places of data that are named."""


def names(leaving: Iterable[str], situation: HostState) -> dict[str, str]:
    """Leaving stacks to the new ones that they seem to have become, each new one once.

    By most of their files; else, for the file itself may have changed too, by their services.
    Being wrong only makes one wait for the other.
    """
    releases = situation.releases
    new = {stack.name: stack for stack in situation.desired.stacks if stack.name not in releases}
    old = {name: releases[name] for name in leaving if name in releases}
    found: dict[str, str] = {}
    for alike in (_same_files, _same_services):
        for name, release in old.items():
            match = next((n for n, stack in new.items() if alike(release, stack)), None)
            if match is not None and name not in found:
                found[name] = match
                del new[match]
    return found


def pairs(situation: HostState) -> dict[str, Stack]:
    """The new stacks that seem to have been another before, by that one's name."""
    desired = situation.desired
    leaving = sorted((applied(situation) | labelled(situation)) - desired.names)
    stacks = {stack.name: stack for stack in desired.stacks}
    return {old: stacks[new] for old, new in names(leaving, situation).items()}


def sure(release: Release, stack: Stack) -> bool:
    """Whether they are one stack: by most files, or by all services and what these run.

    A person has to decide on its data, so that the same names of services are not enough.
    """
    return _same_files(release, stack) or _same_images(release, stack)


def waiting(situation: HostState) -> dict[str, str]:
    """Old names to new ones that must not be started before a person has seen to the data.

    Who approves a commit, maybe for what else it removes, has not said that a stack may start
    empty. For a volume that both names use it is enough: the old one goes, and nothing is left.
    """
    sha = situation.desired.revision.sha
    if sha in situation.without_data:
        return {}
    approved = sha in situation.approved
    return {
        data.old: new
        for new, data in situation.left.items()
        if not approved or data.paths or data.volumes
    }


def hold(new: str, situation: HostState) -> Hold | None:
    """Why a new stack is not started yet, because of the data that it had under another name."""
    data = situation.left.get(new)
    if data is None or data.old not in waiting(situation):
        return None
    approve = f"commitd approve {situation.desired.revision.short}"
    if data.shared and not (data.paths or data.volumes):
        detail = (
            f"it seems to be {data.old} under a new name, and uses its volume "
            f"{some_of(data.shared, _MOST)}, which both at once may destroy; "
            f"to let {data.old} go first, run: {approve}"
        )
    else:
        detail = (
            f"{said(new, data)}; it starts once that is there, or without it: {approve} "
            f"--without-data ({data.old} goes first then)"
        )
    return Hold(new, Reason.DATA, detail, needs_person=True)


def said(new: str, data: LeftData) -> str:
    """Where the data is, and how to move it."""
    places: list[str] = []
    if data.paths:
        where = some_of(data.paths, _MOST)
        places.append(f"{where} in the checkout (stop {data.old}, then mv it to stacks/{new})")
    if data.volumes:
        key = data.volumes[0].removeprefix(f"{data.old}_")
        places.append(
            f"the volume {some_of(data.volumes, _MOST)} "
            f"(give it its name in the Compose file, volumes: "
            f"{{{key}: {{name: {data.volumes[0]}}}}}, or copy it to {new}_{key})"
        )
    return (
        f"it seems to be {data.old} under a new name, and would start without its data: "
        f"{' and '.join(places)}"
    )


def stays(name: str, successor: str, revision: Revision) -> Hold:
    """A stack that seems to have a new name runs on under the old one until the new one is up."""
    return Hold(
        name,
        Reason.RENAMED,
        f"it seems to be {successor} now, and stays until that is up; if {successor} cannot start "
        f"while {name} runs, let it go first: commitd approve {revision.short}",
        needs_person=True,
    )


def keeps_data(name: str, successor: str) -> Hold:
    """The same while the new one waits for the data of the old one."""
    detail = f"it seems to be {successor} now, and stays until that has its data and is up"
    return Hold(name, Reason.RENAMED, detail, needs_person=True)


def possible(old: Stack, new: Stack) -> LeftData | None:
    """What of its data a stack may leave behind that is called ``new`` now, on any host."""
    before, after = f"stacks/{old.name}/", f"stacks/{new.name}/"
    own, kept = _beside(new), _beside(old)
    volumes = [suffix for suffix in new.own_volumes if suffix in old.own_volumes]
    data = LeftData(
        old=old.name,
        paths=tuple(
            f"{before}{path}" for path in sorted(own & kept) if not _tracked(new, f"{after}{path}")
        ),
        volumes=tuple(f"{old.name}{suffix}" for suffix in volumes),
    )
    return data if data.paths or data.volumes else None


def belongs(stack: Stack, path: str) -> bool:
    """Whether what is at ``path`` of its directory may be mounted by the stack."""
    place = f"stacks/{stack.name}/{path}/"
    return any(
        mount.path in {None, ""}
        or place.startswith(f"{mount.path}/")
        or f"{mount.path}/".startswith(place)
        for mount in stack.mounts
    )


def _beside(stack: Stack) -> set[str]:
    """What a stack mounts from its own directory, as paths from there."""
    place = f"stacks/{stack.name}/"
    paths = {mount.path or "" for mount in stack.mounts}
    return {path.removeprefix(place) for path in paths if path.startswith(place)}


def _tracked(stack: Stack, path: str) -> bool:
    return any(each == path or each.startswith(f"{path}/") for each in stack.tracked)


def _same_files(release: Release, stack: Stack) -> bool:
    before = own_files(release.stack, release.inputs)
    same = before & own_files(stack.name, stack.versions)
    return bool(before) and len(same) * 2 >= len(before)


def _same_services(release: Release, stack: Stack) -> bool:
    services = frozenset(service.name for service in release.services)
    return bool(services) and not stack.more and services == stack.services


def _same_images(release: Release, stack: Stack) -> bool:
    """Whether the services are called the same and run the same programs, of any version."""
    images: Mapping[str, str] = {n: mention.text for n, mention in stack.images.items()}
    return _same_services(release, stack) and all(
        _repository(service.image) == _repository(images.get(service.name, ""))
        for service in release.services
    )


def _repository(image: str) -> str:
    try:
        return image_reference.parse(image).name
    except PermanentError:
        return image


def own_files(name: str, inputs: Iterable[tuple[str, str]]) -> set[tuple[str, str]]:
    """Files below the stack's own directory: path from there, and Git object."""
    prefix = f"stacks/{name}/"
    return {(path.removeprefix(prefix), oid) for path, oid in inputs if path.startswith(prefix)}
