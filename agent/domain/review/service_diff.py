"""How two models of one stack differ, for people: names and images, and no value of a variable."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from agent.domain.outcome import Reason
from agent.domain.release import expected, reload
from agent.domain.repository.desired import Stack
from agent.domain.repository.tree import PLAINTEXT_PREFIX, Snapshot

Model = Mapping[str, Any]

_KEPT = frozenset({"build", "depends_on", "profiles", "pull_policy", "scale"})
"""Keys that Compose leaves out when it decides whether a container is still right."""
_TOP = ("configs", "networks", "secrets", "volumes")


@dataclass(frozen=True, slots=True)
class Delta:
    """What came, went, and is another now; each sorted."""

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed)


@dataclass(frozen=True, slots=True)
class ServiceChange:
    """One service. ``action``: add, remove, recreate, rebuild, keep, or what ``on_change`` says.

    ``image`` is from what to what, None where it stays. ``environment`` has names only, ``other``
    the further keys of the service, ``files`` those of the repository that it mounts or is built
    from. It ``follows`` the service that starts again and that it depends on.
    """

    name: str
    action: str
    image: tuple[str | None, str | None] | None = None
    environment: Delta = field(default_factory=Delta)
    ports: Delta = field(default_factory=Delta)
    volumes: Delta = field(default_factory=Delta)
    other: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    follows: str | None = None


@dataclass(frozen=True, slots=True)
class Side:
    """A stack in one commit; ``root`` is what stands for the repository in its model."""

    stack: Stack
    model: Model
    root: str
    files: Snapshot


def services(before: Side | None, after: Side) -> tuple[ServiceChange, ...]:
    """What becomes of each service, those that stay as they are left out; sorted by name."""
    old = _services(before) if before else {}
    new = _services(after)
    found: list[ServiceChange] = []
    for name in sorted(old.keys() | new.keys()):
        if name not in new:
            found.append(ServiceChange(name, "remove", (_image(old[name]), None)))
        elif name not in old or before is None:
            found.append(ServiceChange(name, "add", (None, _image(new[name]))))
        elif change := _service(name, old[name], new[name], before, after):
            found.append(change)
    return _with_followers(found, after)


def _with_followers(found: list[ServiceChange], after: Side) -> tuple[ServiceChange, ...]:
    """And those that start again because one that they need does."""
    changes = {change.name: change for change in found}
    own = [
        reload.Step(c.name, "recreate" if c.action == "rebuild" else c.action, Reason.MOUNTED)
        for c in found
    ]
    steps = reload.sequence(own, {}, expected.needs(after.model))
    for step in steps:
        if step.owner is not None:
            change = changes.get(step.service, ServiceChange(step.service, "keep"))
            if change.action != "add":
                changes[step.service] = replace(change, action=step.how, follows=step.owner)
    return tuple(changes[name] for name in sorted(changes))


def definitions(before: Side, after: Side) -> tuple[str, ...]:
    """Networks, volumes, configs and secrets of the stack that differ: ``networks.edge``."""
    old, new = _relative(before), _relative(after)
    return tuple(
        f"{kind}.{name}"
        for kind in _TOP
        for name in sorted({*(old.get(kind) or {}), *(new.get(kind) or {})})
        if (old.get(kind) or {}).get(name) != (new.get(kind) or {}).get(name)
    )


def _service(name: str, old: Model, new: Model, before: Side, after: Side) -> ServiceChange | None:
    keys = {key for key in {*old, *new} if old.get(key) != new.get(key)}
    files = _moved(_mounted(before, old), _mounted(after, new))
    built = _moved(_built(before, old), _built(after, new)) if after.stack.build else ()
    if not keys and not built and not files:
        return None
    action = "keep"
    if keys - _KEPT and not _only_replicas(keys - _KEPT, old, new):
        action = "recreate"
    elif built or (after.stack.build and "build" in keys):
        action = "rebuild"
    elif files:
        action = after.stack.settings.reaction(name)
    return ServiceChange(
        name,
        action,
        (_image(old), _image(new)) if "image" in keys else None,
        _named(old.get("environment"), new.get("environment")),
        _listed(map(_port, old.get("ports") or ()), map(_port, new.get("ports") or ())),
        _listed(map(_mount, old.get("volumes") or ()), map(_mount, new.get("volumes") or ())),
        tuple(sorted(keys - {"image", "environment", "ports", "volumes"})),
        built or files,
    )


def _only_replicas(keys: set[str], old: Model, new: Model) -> bool:
    def rest(service: Model) -> dict[str, Any]:
        return {k: v for k, v in (service.get("deploy") or {}).items() if k != "replicas"}

    return keys == {"deploy"} and rest(old) == rest(new)


def _relative(side: Side) -> dict[str, Any]:
    """The model with paths from the repository's root."""
    text = json.dumps(side.model).replace(f"{side.root}/", "./").replace(f'"{side.root}"', '"./"')
    found: dict[str, Any] = json.loads(text)
    return found


def _services(side: Side) -> dict[str, Model]:
    found: dict[str, Model] = _relative(side).get("services") or {}
    return found


def _image(service: Model) -> str | None:
    return str(service["image"]) if service.get("image") else None


def _named(old: Mapping[str, Any] | None, new: Mapping[str, Any] | None) -> Delta:
    before, after = old or {}, new or {}
    return Delta(
        tuple(sorted(after.keys() - before.keys())),
        tuple(sorted(before.keys() - after.keys())),
        tuple(sorted(k for k in before.keys() & after.keys() if before[k] != after[k])),
    )


def _listed(old: Iterable[str], new: Iterable[str]) -> Delta:
    before, after = set(old), set(new)
    return Delta(tuple(sorted(after - before)), tuple(sorted(before - after)))


def _port(port: Mapping[str, Any]) -> str:
    words = [str(port[key]) for key in ("host_ip", "published", "target") if port.get(key)]
    return f"{':'.join(words)}/{port.get('protocol', 'tcp')}"


def _mount(mount: Mapping[str, Any]) -> str:
    source = mount.get("source") or mount.get("type")
    return f"{source}:{mount.get('target')}" + (":ro" if mount.get("read_only") else "")


def _mounted(side: Side, service: Model) -> dict[str, str]:
    """The repository's files that are mounted into the service, secrets by their ciphertext."""
    named = [m.get("source") for m in service.get("volumes") or () if m.get("type") == "bind"]
    for kind in ("configs", "secrets"):
        defined = _relative(side).get(kind) or {}
        named += [(defined.get(use["source"]) or {}).get("file") for use in service.get(kind) or ()]
    places: set[str] = set()
    for path in named:
        if path and str(path).startswith("./"):
            place = str(path).removeprefix("./").replace(PLAINTEXT_PREFIX, "")
            places |= {place, side.files.resolve(place)[0] or place}
    return _inputs(side, places)


def _built(side: Side, service: Model) -> dict[str, str]:
    """The repository's files in the directory that the service is built from."""
    context = str((service.get("build") or {}).get("context") or "")
    return _inputs(side, {context.removeprefix("./")} if context.startswith("./") else set())


def _inputs(side: Side, places: set[str]) -> dict[str, str]:
    """Those inputs of the stack that are at or below ``places``."""
    return {
        path: oid
        for path, oid in side.stack.versions
        if any(not place or f"{path}/".startswith(f"{place}/") for place in places)
    }


def _moved(old: Mapping[str, str], new: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(sorted(p for p in old.keys() | new.keys() if old.get(p) != new.get(p)))
