"""What a service runs beside its own containers: ``pre_start``, ``post_start`` and ``pre_stop``.

Each entry of ``pre_start`` (Compose 5.3 and later) is a container of its own that must end with 0
before the service is started. It has an image and nearly all keys of a service, and takes what it
leaves out from its service. The others (2.30 and later) are commands in the service's container.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from msgspec import Struct

KEY = "pre_start"
COMMANDS = ("post_start", "pre_stop")
KEYS = (KEY, *COMMANDS)


class Hook(Struct, frozen=True):
    """An entry of one of these keys in a service, as a file or a model has it."""

    service: str
    key: str
    index: int
    spec: Mapping[str, Any]

    @property
    def name(self) -> str:
        """For people, and for what is kept by service elsewhere."""
        return named(self.service, self.key, self.index)


def named(service: str, key: str, index: int) -> str:
    """The same from its parts."""
    return f"{service}: {key}[{index}]"


def of_service(name: str, service: Mapping[Any, Any], *keys: str) -> Iterator[Hook]:
    """The hooks under ``keys`` of one service, whatever else stands there."""
    for key in keys:
        entries = service.get(key)
        for i, entry in enumerate(entries if isinstance(entries, list) else ()):
            if isinstance(entry, Mapping):
                yield Hook(name, key, i, entry)


def containers(services: Mapping[str, Mapping[str, Any]]) -> list[Hook]:
    """Those of a model that are containers of their own; by service."""
    return [h for name, raw in sorted(services.items()) for h in of_service(name, raw, KEY)]
