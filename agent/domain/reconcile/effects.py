"""What a deploy does to each service: what Compose and the agent will see to, told beforehand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from agent.domain import adjustable
from agent.domain.outcome import Reason
from agent.domain.reconcile.actions import Deploy
from agent.domain.release import reload
from agent.domain.release.health import Expected
from agent.domain.release.release import Release

Files = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Effect:
    """What happens to one service. ``image`` is from and to, where that changes.

    ``action`` is start, recreate, restart, signal, rename, update, remove or none.
    """

    service: str
    action: str
    reason: str | None = None
    image: tuple[str | None, str | None] | None = None

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        image = {"from": self.image[0], "to": self.image[1]} if self.image else None
        return {
            "name": self.service,
            "action": self.action,
            "reason": self.reason,
            "image": image,
        }


@dataclass(frozen=True, slots=True)
class Sight:
    """All that is known of one deploy; ``unknown`` says why that is not all, or None.

    ``refused`` is why it would not be done at all.
    """

    services: tuple[Effect, ...] = ()
    unknown: str | None = None
    refused: str | None = None


@dataclass(frozen=True, slots=True)
class Model:
    """A stack as Compose resolves it: its services, their config hashes and mounted files.

    ``reactions`` are what services get of which those files alone change.
    """

    services: Mapping[str, Expected]
    hashes: Mapping[str, str]
    files: Mapping[str, Files]
    reactions: Mapping[str, str] = field(default_factory=dict)


def drifted(deploy: Deploy, release: Release) -> list[Effect]:
    """A repair, by what was found to differ."""
    found: list[Effect] = []
    for service in release.services:
        prefix = f"{release.stack}/{service.name} "
        causes = {
            c.path.removeprefix(prefix): c for c in deploy.causes if c.path.startswith(prefix)
        }
        if cause := causes.get("settings"):
            effect = Effect(service.name, "recreate", "its settings are not those of its release")
        elif cause := causes.get("containers"):
            few = int(cause.after or 0) < int(cause.before or 0)
            said = f"{cause.after} of {cause.before} containers are there"
            effect = Effect(service.name, "start" if few else "remove", said)
        elif cause := causes.get("state"):
            effect = Effect(service.name, "start", f"it does not run: {cause.after}")
        elif cause := causes.get("namespace"):
            gone = str(cause.after).endswith("is gone")
            effect = Effect(service.name, "recreate" if gone else "restart", cause.after)
        elif cause := causes.get("name"):
            effect = Effect(service.name, "rename", f"it is called {cause.after}")
        elif causes:
            what, cause = min(causes.items())
            said = f"its {what} is {cause.after or 'none'}, not {cause.before or 'none'}"
            stays = adjustable.can_change_back(what, cause.before)
            effect = Effect(service.name, "update" if stays else "recreate", said)
        else:
            effect = Effect(service.name, "none")
        found.append(effect)
    return found


def begun(after: Model) -> list[Effect]:
    """A stack that is new here."""
    return [
        Effect(name, "start", "it is new", (None, service.image))
        for name, service in sorted(after.services.items())
        if service.scale
    ]


def changed(release: Release, before: Mapping[str, str] | None, after: Model) -> list[Effect]:
    """A new release over an older one.

    ``before`` are the config hashes of the older one's files, resolved as those in ``after`` were;
    None: they cannot be had any more.
    """
    old = {service.name: service for service in release.services}
    found: list[Effect] = []
    for name in sorted(old.keys() | after.services.keys()):
        was, now = old.get(name), after.services.get(name)
        if now is None or not now.scale:
            if was:
                found.append(Effect(name, "remove", "it left the stack", (was.image, None)))
        elif was is None:
            found.append(Effect(name, "start", "it is new", (None, now.image)))
        elif was.image != now.image:
            found.append(Effect(name, "recreate", "its image changes", (was.image, now.image)))
        elif before is None or before.get(name) != after.hashes.get(name):
            sure = before is not None
            said = "its settings change" if sure else "its settings may change"
            found.append(Effect(name, "recreate", said))
        elif was.scale != now.scale:
            action = "start" if was.scale < now.scale else "remove"
            found.append(Effect(name, action, f"{now.scale} containers instead of {was.scale}"))
        else:
            found.append(_mounted(name, was.files, after))
    return _with_followers(found, after.services)


def _with_followers(found: list[Effect], services: Mapping[str, Expected]) -> list[Effect]:
    """And those that start again because one that they need does."""
    own = [
        reload.Step(e.service, e.action, Reason.MOUNTED)
        for e in found
        if e.action not in {"none", "rename", "remove"}
    ]
    needs = {name: service.needs for name, service in services.items()}
    steps = {step.service: step for step in reload.sequence(own, {}, needs) if step.owner}
    return [
        Effect(e.service, step.how, f"after {step.owner}: {step.reason}", e.image)
        if (step := steps.get(e.service)) and e.action != "start"
        else e
        for e in found
    ]


def _mounted(name: str, was: Files | None, after: Model) -> Effect:
    """Compose does nothing here; files that are mounted may have changed all the same."""
    moved = sorted({path for path, _ in set(was or ()) ^ set(after.files.get(name, ()))})
    if not moved:
        return Effect(name, "none")
    action = after.reactions[name].partition(":")[0]
    more = f" and {len(moved) - 1} more" if len(moved) > 1 else ""
    return Effect(name, action, f"{moved[0]}{more} changes, mounted into it")
