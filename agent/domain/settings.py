"""``x-commitd``: what a stack says in its own Compose file about how it is to be deployed."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from agent.domain import config, documents

KEY = "x-commitd"
HEALTH_TIMEOUT_S = 120.0

_KEYS = ("after", "health_timeout", "rollback", "on_change")
_REACTIONS = ("restart", "recreate", "none")
_SIGNAL = re.compile(r"signal:[A-Z0-9]+")
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")


@dataclass(frozen=True, slots=True)
class Settings:
    """Of one stack, complete with defaults.

    ``after`` are stacks of the same host that must be healthy first. ``health_timeout`` is in
    seconds. ``on_change`` maps a service to what happens when only files changed that are mounted
    into it: restart (the default), recreate, ``signal:NAME`` or none.
    """

    after: tuple[str, ...] = ()
    health_timeout: float = HEALTH_TIMEOUT_S
    rollback: bool = True
    on_change: Mapping[str, str] = field(default_factory=dict)

    def reaction(self, service: str) -> str:
        """What a service gets when only its mounted files changed."""
        return self.on_change.get(service, "restart")


def read(document: documents.Document, services: Collection[str]) -> Settings:
    """The settings of a Compose file. Raises :class:`PermanentError` with ``file:line``.

    ``services`` are those the file names, or empty when it includes others.
    """
    data = document.data.get(KEY)
    if data is None:
        return Settings()
    at: documents.Path = (KEY,)
    if not isinstance(data, dict):
        raise document.error(at, f"{KEY} must be a mapping", f"known keys: {', '.join(_KEYS)}")
    for key in data:
        if key not in _KEYS:
            raise document.error((*at, key), f"unknown key {key!r}", _nearest(str(key), _KEYS))
    timeout = data.get("health_timeout")
    try:
        health_timeout = HEALTH_TIMEOUT_S if timeout is None else float(config.duration(timeout))
    except ValueError as err:
        raise document.error((*at, "health_timeout"), str(err)) from None
    if health_timeout < 1:
        raise document.error((*at, "health_timeout"), "health_timeout must be at least 1s")
    rollback = data.get("rollback", True)
    if not isinstance(rollback, bool):
        raise document.error((*at, "rollback"), "rollback must be true or false")
    return Settings(
        _after(document, data.get("after")),
        health_timeout,
        rollback,
        _on_change(document, data.get("on_change"), services),
    )


def _after(document: documents.Document, names: object) -> tuple[str, ...]:
    at = (KEY, "after")
    found = [] if names is None else names
    if not isinstance(found, list):
        raise document.error(at, "after must be a list of stacks", "write after: [traefik]")
    for i, name in enumerate(found):
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise document.error((*at, i), f"{name!r} cannot be the name of a stack")
    return tuple(dict.fromkeys(found))


def _on_change(
    document: documents.Document, reactions: object, services: Collection[str]
) -> dict[str, str]:
    at = (KEY, "on_change")
    found = {} if reactions is None else reactions
    if not isinstance(found, dict):
        raise document.error(at, "on_change must map services", "write on_change: {web: restart}")
    for service, reaction in found.items():
        if services and service not in services:
            raise document.error(
                (*at, service), f"there is no service {service!r}", _nearest(str(service), services)
            )
        text = (
            "none" if reaction is None else str(reaction)
        )  # YAML reads null where people mean none
        if text not in _REACTIONS and not _SIGNAL.fullmatch(text):
            raise document.error(
                (*at, service),
                f"{text!r} is no reaction",
                "write restart, recreate, signal:HUP or none",
            )
    return {
        str(service): "none" if reaction is None else str(reaction)
        for service, reaction in found.items()
    }


def _nearest(word: str, known: Collection[str]) -> str:
    near = difflib.get_close_matches(word, list(known), 1)
    return f"did you mean {near[0]!r}?" if near else f"there are {', '.join(sorted(known))}"
