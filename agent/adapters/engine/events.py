"""What the engine says of what happens to containers and services: what is asked for, and read."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Mapping
from typing import Any

from msgspec import Struct

from agent.adapters.engine.client import objects
from agent.adapters.http1 import Answer, CutOffError
from agent.domain.container import Container
from agent.domain.errors import UnreachableError

_WATCHED = ("start", "die", "destroy", "rename", "update", "oom", "pause", "kill")
_NETWORK = "network"
ALL = {"type": ["container", _NETWORK], "event": [*_WATCHED, "connect", "disconnect"]}
"""Filters of a stream for all that matters to the agent."""
OF_CONTAINERS = {
    "type": ["container"],
    "event": [*_WATCHED, "create", "unpause", "health_status"],
}
"""And for all that happens to containers, how they are by their health checks included."""
OF_SWARM = {"type": ["service", "node"], "scope": ["swarm"]}
"""And for all that happens to the services and the nodes of a Swarm, which its managers hear."""
_NANO = 1e9
_NO_END = {"1", "10", "12", "28"}
"""HUP, USR1, USR2 and WINCH tell a process something, and do not end it."""


class Event(Struct, frozen=True, kw_only=True):
    """Something happened to a container, or to another ``kind``; ``labels`` as they were then.

    ``at`` is when, in seconds since the epoch by the engine's clock. ``network`` is the one that it
    was connected to or disconnected from; then nothing else but its ``id`` is known of it.
    """

    action: str
    id: str
    name: str
    image: str
    labels: Mapping[str, str]
    network: str | None = None
    at: float = math.inf
    kind: str = "container"

    def container(self) -> Container:
        """What is known of the container from the event alone."""
        return Container(
            id=self.id, name=self.name, image=self.image, state="running", labels=self.labels
        )

    @property
    def stops(self) -> bool:
        """Whether somebody tells the container to end; what ends by itself has no such event."""
        return self.action == "kill" and self.labels.get("signal") not in _NO_END


async def read(answer: Answer) -> AsyncIterator[Event]:
    """Those of a stream, until it ends; what is none is left out.

    Raises :class:`UnreachableError` for a stream that cannot be read.
    """
    try:
        async for raw in objects(answer):
            if event := _event(raw):
                yield event
    except CutOffError:
        return
    except (OSError, ValueError) as err:  # of lines too long, of what is no JSON
        kind = type(err).__name__
        raise UnreachableError(f"the engine's event stream cannot be read: {kind}") from None


def _event(raw: Any) -> Event | None:
    try:
        actor = raw["Actor"]
        attributes = actor["Attributes"]
        if raw["Type"] == _NETWORK:
            network = str(attributes["name"])
            return Event(
                action=str(raw["Action"]),
                id=str(attributes["container"]),
                name="",
                image="",
                labels={},
                network=network,
            )
        return Event(
            action=str(raw["Action"]),
            id=str(actor["ID"]),
            name=str(attributes.get("name", "")),
            image=str(attributes.get("image", "")),
            labels=attributes,
            at=raw.get("timeNano", math.inf) / _NANO,
            kind=str(raw["Type"]),
        )
    except (KeyError, TypeError, AttributeError):
        return None
