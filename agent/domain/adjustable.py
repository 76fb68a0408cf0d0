"""Settings of a container that can be changed while it runs, and how a change by hand is undone.

``docker update`` changes limits and the restart policy, ``docker network connect`` and
``disconnect`` its networks. Compose takes no notice but of a network that is missing: what the
container was made with is all in its config hash, which stays. So they are compared with what was
seen when the release was last right.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

Settings = tuple[tuple[str, int | str], ...]
"""Names and values, sorted. What nobody asked for is left out (no limit, no restart). Of a network
the value is the container's aliases and fixed addresses in it."""

NETWORK = "network "
"""Begins the names of networks."""
RESTART = "RestartPolicy"


class Remedy(Struct, frozen=True):
    """What undoes a change: values to ``update``, networks to ``disconnect`` from.

    Or ``recreate``: the engine cannot take a limit off again, nor give aliases back.
    """

    update: Mapping[str, int | str]
    disconnect: tuple[str, ...] = ()
    recreate: bool = False


def networks(settings: Settings) -> frozenset[str]:
    """The names of the networks among them."""
    return frozenset(key.removeprefix(NETWORK) for key, _ in settings if key.startswith(NETWORK))


def differences(recorded: Settings, now: Settings) -> list[tuple[str, str | None, str | None]]:
    """Names with their values before and after, None where there is none."""
    old, new = dict(recorded), dict(now)
    return [
        (key, _text(old.get(key)), _text(new.get(key)))
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key)
    ]


def can_change_back(name: str, before: int | str | None) -> bool:
    """Whether the engine can give a running container this value again; None: there was none."""
    if name.startswith(NETWORK):
        return before is None
    return before is not None or name == RESTART


def remedy(recorded: Settings, now: Settings) -> Remedy:
    """How ``now`` becomes ``recorded`` again, without a new container where that is possible."""
    old = dict(recorded)
    names = [name for name, _, _ in differences(recorded, now)]
    if not all(can_change_back(name, old.get(name)) for name in names):
        return Remedy({}, recreate=True)
    extra = tuple(name.removeprefix(NETWORK) for name in names if name.startswith(NETWORK))
    return Remedy({n: old.get(n, "no") for n in names if not n.startswith(NETWORK)}, extra)


def _text(value: int | str | None) -> str | None:
    return None if value is None else str(value)
