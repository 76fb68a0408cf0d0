"""``x-commitd``: what a stack says in its own Compose file about how it is to be deployed."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from msgspec import Struct, field

from agent.domain import config, documents
from agent.domain.errors import PermanentError
from agent.domain.outcome import Reload
from agent.domain.repository.fleet_policy import nearest

KEY = "x-commitd"
HEALTH_TIMEOUT_S = 120.0

_KEYS = ("after", "health_timeout", "rollback", "on_change", "secret_owner")
_SIGNAL = re.compile(r"signal:[A-Z0-9]+")
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")
_OWNER = re.compile(r"(\d{1,9}):(\d{1,9})")
ALL = ""
"""In ``secret_owner``: all of the stack's secrets."""


class Settings(Struct, frozen=True, kw_only=True):
    """Of one stack, complete with defaults.

    ``after`` are stacks of the same host that must be healthy first. ``health_timeout`` is in
    seconds. ``on_change`` maps a service to what happens when only files changed that are mounted
    into it: restart (the default), recreate, ``signal:NAME`` or none. ``secret_owner`` maps secret
    files, by their paths in the stack's directory, to the user and the group on the host that
    their plaintext belongs to; ``""`` stands for all others.
    """

    after: tuple[str, ...] = ()
    health_timeout: float = HEALTH_TIMEOUT_S
    rollback: bool = True
    on_change: Mapping[str, str] = field(default_factory=dict)
    secret_owner: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    def reload(self, service: str) -> str:
        """What a service gets when only its mounted files changed."""
        return self.on_change.get(service, Reload.RESTART)

    def owner(self, secret: str) -> tuple[int, int] | None:
        """Whom the plaintext of a secret file shall belong to; None: to the agent."""
        return self.secret_owner.get(secret, self.secret_owner.get(ALL))


def read(document: documents.Document, services: Collection[str]) -> Settings:
    """The settings of a Compose file. Raises :class:`PermanentError` with ``file:line``.

    ``services`` are those the file names, or empty when it includes others.
    """
    settings, errors = survey(document, services)
    if errors:
        raise errors[0]
    return settings


def survey(
    document: documents.Document, services: Collection[str]
) -> tuple[Settings, list[PermanentError]]:
    """The same, with all errors instead of the first; what is wrong keeps its default."""
    data = document.data.get(KEY)
    if data is None:
        return Settings(), []
    at: documents.Path = (KEY,)
    if not isinstance(data, dict):
        hint = f"known keys: {', '.join(_KEYS)}"
        return Settings(), [document.error(at, f"{KEY} must be a mapping", hint)]
    errors = [
        document.error((*at, key), f"unknown key {key!r}", nearest(str(key), _KEYS))
        for key in data
        if key not in _KEYS
    ]
    timeout = data.get("health_timeout")
    health_timeout = HEALTH_TIMEOUT_S
    try:
        health_timeout = HEALTH_TIMEOUT_S if timeout is None else float(config.duration(timeout))
        if health_timeout < 1:
            message = "health_timeout must be at least 1s"
            errors.append(document.error((*at, "health_timeout"), message))
    except ValueError:
        place = (*at, "health_timeout")
        message = f"{document.written(place)} is not a duration: write 10s, 5m or 24h"
        errors.append(document.error(place, message))
    rollback = data.get("rollback", True)
    if not isinstance(rollback, bool):
        errors.append(document.error((*at, "rollback"), "rollback must be true or false"))
    after, wrong_names = _after(document, data.get("after"))
    on_change, wrong_reactions = _on_change(document, data.get("on_change"), services)
    owners, wrong_owners = _secret_owner(document, data.get("secret_owner"))
    found = Settings(
        after=after,
        health_timeout=health_timeout,
        rollback=rollback is True,
        on_change=on_change,
        secret_owner=owners,
    )
    return found, [*errors, *wrong_names, *wrong_reactions, *wrong_owners]


def _after(
    document: documents.Document, names: object
) -> tuple[tuple[str, ...], list[PermanentError]]:
    at = (KEY, "after")
    found = [] if names is None else names
    if not isinstance(found, list):
        hint = "write after: [traefik]"
        return (), [document.error(at, "after must be a list of stacks", hint)]
    good = [name for name in found if isinstance(name, str) and _NAME.fullmatch(name)]
    errors = [
        document.error(
            (*at, i),
            f"{document.written((*at, i))} cannot be the name of a stack",
            document.as_text((*at, i)),
        )
        for i, name in enumerate(found)
        if name not in good
    ]
    return tuple(dict.fromkeys(good)), errors


def _on_change(
    document: documents.Document, reloads: object, services: Collection[str]
) -> tuple[dict[str, str], list[PermanentError]]:
    at = (KEY, "on_change")
    found = {} if reloads is None else reloads
    if not isinstance(found, dict):
        hint = "write on_change: {web: restart}"
        return {}, [document.error(at, "on_change must map services", hint)]
    errors: list[PermanentError] = []
    result: dict[str, str] = {}
    for service, reload in found.items():
        if services and service not in services:
            hint = nearest(str(service), services)
            errors.append(document.error((*at, service), f"there is no service {service!r}", hint))
        # YAML reads null where people mean none.
        text = Reload.NONE if reload is None else str(reload)
        if text in set(Reload) - {Reload.SIGNAL} or _SIGNAL.fullmatch(text):
            result[str(service)] = text
        else:
            hint = "write restart, recreate, signal:HUP or none"
            message = f"{document.written((*at, service))} is no reaction"
            errors.append(document.error((*at, service), message, hint))
    return result, errors


def _secret_owner(
    document: documents.Document, owners: object
) -> tuple[dict[str, tuple[int, int]], list[PermanentError]]:
    at: documents.Path = (KEY, "secret_owner")
    found: dict[str, tuple[int, int]] = {}
    errors: list[PermanentError] = []
    named = owners if isinstance(owners, dict) else {} if owners is None else {ALL: owners}
    for name, owner in named.items():
        if isinstance(owner, str) and (match := _OWNER.fullmatch(owner)):
            found[str(name)] = int(match[1]), int(match[2])
        else:
            place = (*at, name) if isinstance(owners, dict) else at
            message, hint = "expected a numeric user and group", 'write secret_owner: "1000:1000"'
            errors.append(document.error(place, message, hint))
    return found, errors
