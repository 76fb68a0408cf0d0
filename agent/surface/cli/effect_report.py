"""What happens to a service, in words: the same from ``plan`` and from ``diff``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agent.domain.outcome import short
from agent.domain.reconcile.effects import Delta, ServiceEffect, StackEffects
from agent.domain.shortened import some_of

MOST = 12
"""Items of one list that are shown."""
_DELTAS = ("environment", "ports", "volumes")


def read(document: Mapping[str, Any]) -> StackEffects:
    """What :meth:`StackEffects.as_json` has made JSON of."""
    return StackEffects(
        services=tuple(map(_effect, document["services"])),
        other=tuple(document["other"]),
        unknown=document["unknown"],
        asks=tuple(document["asks"]),
    )


def _effect(service: Mapping[str, Any]) -> ServiceEffect:
    deltas = {key: Delta(**{k: tuple(v) for k, v in service[key].items()}) for key in _DELTAS}
    lists = {key: tuple(service[key]) for key in ("other", "files")}
    image = tuple(service["image"].values()) if service["image"] else None
    return ServiceEffect(**{**service, **deltas, **lists, "image": image})


def details(effects: StackEffects) -> list[str]:
    """Everything about the services of one stack; what belongs to a service is indented by two."""
    lines = [f"not known: {effects.unknown}"] if effects.unknown else []
    if effects.other:
        lines.append(f"other: {some_of(effects.other, MOST)}")
    lines += [f"! reaches the host: {each}" for each in effects.asks]
    for effect in effects.services:
        lines.append(_headline(effect))
        lines += [f"  {what}: {said}" for what, said in _differences(effect)]
    return lines


def summary(effect: ServiceEffect) -> str:
    """What is done to a service, and what of it differs, in few words."""
    differs = [_image(effect)] if effect.image and all(effect.image) else []
    differs += [key for key in _DELTAS if getattr(effect, key)]
    differs += effect.other
    differs += ["mounted files"] if effect.files and effect.action != "rebuild" else []
    differs += [f"after {effect.follows}"] if effect.follows else []
    act = f"leave {effect.name}" if effect.action == "none" else f"{effect.action} {effect.name}"
    return f"{act} ({some_of(differs, MOST)})" if differs else act


def _headline(effect: ServiceEffect) -> str:
    if effect.action == "none":
        why = f" (on_change: none): {effect.message}" if effect.message else ""
        return f"leave {effect.name} as it is{why}"
    return f"{effect.action} {effect.name}: {effect.message}"


def _differences(effect: ServiceEffect) -> list[tuple[str, str]]:
    """What differs, by name, and how."""
    found = {"image": _image(effect)} if effect.image else {}
    found |= {key: _delta(getattr(effect, key)) for key in _DELTAS}
    found["other"] = some_of(effect.other, MOST)
    found["built from" if effect.action == "rebuild" else "mounted files"] = some_of(
        effect.files, MOST
    )
    return [(what, said) for what, said in found.items() if said]


def _image(effect: ServiceEffect) -> str:
    return " → ".join(map(short, effect.image or ()))


def _delta(delta: Delta) -> str:
    signs = (("+", delta.added), ("-", delta.removed), ("~", delta.changed))
    return some_of([f"{sign}{item}" for sign, items in signs for item in items], MOST)
