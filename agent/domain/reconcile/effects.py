"""What happens to the services of a stack: told beforehand, by ``plan`` and by ``diff``.

    a commit ──Compose──▶ Side ┐
                               ├─changed──▶ ServiceEffect …  a release or commit over an older one
    a commit ──Compose──▶ Side ┘
    Deploy (drift), Release ───drifted──▶ ServiceEffect …    a repair

What of a service makes Compose recreate it is what its config hash is made of: all keys of the
model but :data:`_KEPT`. Values of variables never show, only their names.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Self

from msgspec import Struct, field, to_builtins
from msgspec.structs import replace

from agent.domain import adjustable
from agent.domain.compose import redact
from agent.domain.outcome import CauseKind, Reason
from agent.domain.reconcile import task_effects
from agent.domain.reconcile.actions import Deploy
from agent.domain.release import drift, reload
from agent.domain.release.health import Expected
from agent.domain.release.release import Release
from agent.domain.release.reload import Mounted
from agent.domain.repository.desired import Stack

Model = Mapping[str, Any]

_KEPT = frozenset({"build", "depends_on", "profiles", "pull_policy", "scale"})
"""Keys that Compose leaves out when it decides whether a container is still right."""
_TOP = ("configs", "networks", "secrets", "volumes")


class Delta(Struct, frozen=True):
    """What came, went, and is another now; each sorted."""

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed)


class ServiceEffect(Struct, frozen=True, kw_only=True):
    """What happens to one service, and the ``message`` that says why.

    ``action`` is start, recreate, rebuild, restart, ``signal:NAME``, rename, update, scale (of a
    Swarm), remove or none. ``image`` is from what to what, None where it stays. ``environment`` has
    names only, ``other`` the further keys of the service, ``files`` those of the repository that it
    mounts or is built from. It ``follows`` the service that starts again and that it depends on.
    """

    name: str
    action: str = "none"
    message: str | None = None
    image: tuple[str | None, str | None] | None = None
    environment: Delta = field(default_factory=Delta)
    ports: Delta = field(default_factory=Delta)
    volumes: Delta = field(default_factory=Delta)
    other: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    follows: str | None = None

    def __bool__(self) -> bool:
        """Whether anything about the service changes."""
        return self != ServiceEffect(name=self.name)


class StackEffects(Struct, frozen=True, kw_only=True):
    """All that is known of one deploy; ``unknown`` says why that is not all, or None.

    ``other`` are the networks, volumes, configs and secrets that differ (``networks.edge``).
    ``refused`` is why it would not be done at all. ``asks`` are what of the host it reaches that it
    did not reach before.
    """

    services: tuple[ServiceEffect, ...] = ()
    other: tuple[str, ...] = ()
    unknown: str | None = None
    refused: str | None = None
    asks: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """For programs, the same in ``plan --json`` and ``diff --json``."""
        services = [to_builtins(effect) for effect in self.services]
        for service in services:
            if service["image"]:
                service["image"] = dict(zip(("from", "to"), service["image"], strict=True))
        return {
            "services": services,
            "other": list(self.other),
            "unknown": self.unknown,
            "asks": list(self.asks),
        }


class Side(Struct, frozen=True, kw_only=True):
    """A stack before or after: its services by name, and what each sees of the repository.

    ``model`` is what Compose resolves it to, with paths from the repository's root (``./``). It is
    empty where it cannot be had any more: of ``services`` then only images and scale are known.
    ``asks`` are what it reaches beyond the walls of its containers. The values in ``hidden`` must
    not show.
    """

    services: Mapping[str, Expected]
    model: Model = field(default_factory=dict)
    mounted: Mapping[str, Mounted] = field(default_factory=dict)
    stack: Stack | None = None
    asks: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()

    @classmethod
    def recorded(cls, release: Release) -> Self:
        """A release as it was observed, whose files are not to be had."""
        return cls(
            services={
                s.name: Expected(image=s.image, scale=s.scale, one_shot=s.one_shot)
                for s in release.services
            }
        )

    @property
    def running(self) -> dict[str, Expected]:
        """The services that have containers."""
        return {name: service for name, service in self.services.items() if service.scale}

    @property
    def in_swarm(self) -> bool:
        """Whether its services run in a Swarm."""
        return self.stack is not None and self.stack.policy.swarm

    def service(self, name: str) -> Model:
        """The service in the model."""
        found: Model = self.model["services"][name]
        return found

    def built(self, name: str) -> dict[str, str]:
        """The repository's files in the directory that the service is built from."""
        context = str((self.service(name).get("build") or {}).get("context") or "")
        if self.stack is None or not self.stack.policy.builds or not context.startswith("./"):
            return {}
        return dict(reload.files_below(self.stack.versions, {context.removeprefix("./")}))


def relative(model: Model, root: str) -> Model:
    """The model with paths from the repository's root."""
    text = json.dumps(model).replace(f"{root}/", "./").replace(f'"{root}"', '"./"')
    found: Model = json.loads(text)
    return found


def changed(before: Side | None, after: Side) -> tuple[ServiceEffect, ...]:
    """What a stack's new state does to each service; sorted by name. None: it is new here."""
    old = before.running if before else {}
    found: dict[str, ServiceEffect] = {}
    for name in sorted(old.keys() | after.running.keys()):
        was, now = old.get(name), after.running.get(name)
        if now is None:
            image = (was.image if was else None, None)
            effect = ServiceEffect(
                name=name, action="remove", message="it left the stack", image=image
            )
        elif was is None or before is None:
            effect = ServiceEffect(
                name=name, action="start", message="it is new", image=(None, now.image)
            )
        else:
            image_change = (was.image, now.image) if was.image != now.image else None
            effect = replace(_service(name, before, after), image=image_change)
            if image_change:
                effect = replace(effect, action="recreate", message="its image changes")
        found[name] = effect
    if after.in_swarm:  # where nothing waits for anything
        return tuple(found.values())
    return _with_followers(found, after.running)


def _service(name: str, before: Side, after: Side) -> ServiceEffect:
    """A service that stays, but for its image."""
    if not before.model:
        return ServiceEffect(name=name, action="recreate", message="its settings may change")
    old, new = before.service(name), after.service(name)
    keys = {key for key in old.keys() | new.keys() if old.get(key) != new.get(key)}
    built = _moved(before.built(name), after.built(name))
    action, message, files = _action(name, keys, built, before, after)
    hidden = (*before.hidden, *after.hidden)
    return ServiceEffect(
        name=name,
        action=action,
        message=message,
        environment=_delta(old.get("environment") or {}, new.get("environment") or {}, hidden),
        ports=_delta(_ports(old), _ports(new), hidden),
        volumes=_delta(_volumes(old), _volumes(new), hidden),
        other=tuple(sorted(keys - {"image", "environment", "ports", "volumes"})),
        files=built or files,
    )


def _action(
    name: str, keys: set[str], built: tuple[str, ...], before: Side, after: Side
) -> tuple[str, str | None, tuple[str, ...]]:
    """What is done, why, and the mounted files that changed."""
    was, now = before.services[name], after.services[name]
    older, mounted = before.mounted[name].files, after.mounted[name]
    files = _moved(dict(older), dict(mounted.files))
    if after.in_swarm:
        return *task_effects.action(before.service(name), after.service(name), files), files
    hashed = keys - _KEPT
    if hashed and not (hashed == {"deploy"} and _same_but_replicas(name, before, after)):
        return "recreate", "its settings change", files
    if built or (after.stack and after.stack.policy.builds and "build" in keys):
        return "rebuild", "what it is built from changes", files
    if was.scale != now.scale:
        action = "start" if was.scale < now.scale else "remove"
        return action, f"{now.scale} containers instead of {was.scale}", files
    if not files or after.stack is None:
        return "none", None, files
    action = mounted.reload(after.stack.settings.reload(name), older)
    more = f" and {len(files) - 1} more" if len(files) > 1 else ""
    return action, f"{files[0]}{more} changes, mounted into it", files


def _same_but_replicas(name: str, before: Side, after: Side) -> bool:
    old, new = (
        {k: v for k, v in (side.service(name).get("deploy") or {}).items() if k != "replicas"}
        for side in (before, after)
    )
    return old == new


def _with_followers(
    found: dict[str, ServiceEffect], services: Mapping[str, Expected]
) -> tuple[ServiceEffect, ...]:
    """And those that start again because one that they need does."""
    own = [
        reload.Step(
            service=name,
            how="recreate" if e.action == "rebuild" else e.action,
            reason=Reason.MOUNTED,
        )
        for name, e in found.items()
        if e.action not in {"none", "remove", "start"}
    ]
    needs = {name: service.needs for name, service in services.items()}
    follow = {
        step.service: replace(
            found[step.service],
            action=step.how,
            message=f"after {step.owner}: {step.reason.text}",
            follows=step.owner,
        )
        for step in reload.sequence(own, {}, needs)
        if step.owner and found[step.service].action != "start"
    }
    return tuple((found | follow).values())


def definitions(before: Side, after: Side) -> tuple[str, ...]:
    """Networks, volumes, configs and secrets of the stack that differ: ``networks.edge``."""
    if not before.model:
        return ()
    return tuple(
        f"{kind}.{name}"
        for kind in _TOP
        for old, new in [(before.model.get(kind) or {}, after.model.get(kind) or {})]
        for name in _moved(old, new)
    )


def asked(before: Side | None, after: Side) -> tuple[str, ...]:
    """What the stack reaches now that it did not reach before; None: it is new here."""
    known = before.asks if before else ()
    hidden = (*(before.hidden if before else ()), *after.hidden)
    return tuple(redact.text(each, hidden) for each in after.asks if each not in known)


def drifted(deploy: Deploy, release: Release) -> tuple[ServiceEffect, ...]:
    """A repair, by what was found to differ."""
    return tuple(_repair(deploy, service.name) for service in release.services)


def _repair(deploy: Deploy, name: str) -> ServiceEffect:
    found = [cause for cause in deploy.causes if cause.service == name]
    causes = {cause.kind: cause for cause in found}
    if CauseKind.CONFIG in causes:
        action, message = "recreate", "its settings are not those of its release"
    elif cause := causes.get(CauseKind.REPLACED):
        action, message = "recreate", f"no deploy made {cause.name}"
    elif cause := causes.get(CauseKind.CONTAINERS):
        action = "start" if int(cause.after or 0) < int(cause.before or 0) else "remove"
        there = f"{cause.after} of {cause.before} containers are there"
        message = "the service is not there" if deploy.stack.policy.swarm else there
    elif cause := causes.get(CauseKind.STATE):
        action, message = "start", f"it does not run: {cause.after}"
    elif cause := causes.get(CauseKind.NAMESPACE):
        gone = cause.after == drift.GONE
        action = "recreate" if gone else "restart"
        message = f"{cause.name} {'is gone' if gone else 'was started again later'}"
    elif cause := causes.get(CauseKind.CONTAINER_NAME):
        action, message = "rename", f"it is called {cause.after}"
    elif found:
        cause = min(found, key=lambda each: each.name or "")
        network = adjustable.NETWORK if cause.kind is CauseKind.NETWORK else ""
        what = f"{network}{cause.name}"
        message = f"its {what} is {cause.after or 'none'}, not {cause.before or 'none'}"
        action = "update" if adjustable.can_change_back(what, cause.before) else "recreate"
    else:
        return ServiceEffect(name=name)
    return ServiceEffect(name=name, action=action, message=message)


def _moved(old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[str, ...]:
    """The keys with other values, those of one alone included."""
    return tuple(sorted(k for k in old.keys() | new.keys() if old.get(k) != new.get(k)))


def _delta(old: Mapping[str, Any], new: Mapping[str, Any], hidden: Iterable[str]) -> Delta:
    added, removed = new.keys() - old.keys(), old.keys() - new.keys()
    changed = set(_moved(old, new)) - added - removed
    return Delta(
        *(tuple(sorted(redact.text(k, hidden) for k in keys)) for keys in (added, removed, changed))
    )


def _ports(service: Model) -> dict[str, None]:
    found: dict[str, None] = {}
    for port in service.get("ports") or ():
        words = [str(port[key]) for key in ("host_ip", "published", "target") if port.get(key)]
        found[f"{':'.join(words)}/{port.get('protocol', 'tcp')}"] = None
    return found


def _volumes(service: Model) -> dict[str, None]:
    return {
        f"{mount.get('source') or mount.get('type')}:{mount.get('target')}"
        + (":ro" if mount.get("read_only") else ""): None
        for mount in service.get("volumes") or ()
    }
