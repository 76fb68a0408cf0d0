"""Stopped containers that no start brings back, because what they are bound to is not there.

The engine binds a container to a network and to whose namespaces it shares by ID, when it is made.
If that was removed while the container was stopped, the start fails for ever, also once there is a
new one of the same name. Only a new container is bound to that.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from agent.domain.container import Container

_BUILT_IN = frozenset({"bridge", "host", "none"})
"""The engine finds these by name, and may make them anew at its start."""
_SAID = re.compile(r"network \S+ not found|No such container")


def refusal(
    container: Container, error: str, networks: Mapping[str, float], there: Collection[str]
) -> str | None:
    """Why the inspected ``container`` cannot be started as it is; None: nothing is known of it.

    ``error`` is what the engine said of its last start. ``networks`` are those that exist, by name,
    and when they were made (seconds since the epoch), ``there`` the IDs and names of containers.
    """
    if missing := container.joins - set(there):
        return f"{min(missing)[:12]}, whose namespaces it shares, is gone"
    for name in sorted((container.networks or frozenset()) - _BUILT_IN):
        made = networks.get(name)
        if made is None or made > container.created:  # its own was there before it
            return f"its network {name} was removed"
    return f"the engine says: {error}" if _SAID.search(error) else None
