"""What the volumes of a Compose document are called, as far as it says so by itself."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

_PROJECT = re.compile(r"\$(?:COMPOSE_PROJECT_NAME|\{COMPOSE_PROJECT_NAME\})")


def suffixes(data: dict[Any, Any]) -> Iterator[str]:
    """Of volumes that are called after the stack, what follows its name: ``_data``."""
    for key, name, external in _volumes(data):
        text = name or f"${{COMPOSE_PROJECT_NAME}}_{key}"
        found = _PROJECT.match(text)
        if found and not external and "$" not in text[found.end() :]:
            yield text[found.end() :]


def names(data: dict[Any, Any]) -> Iterator[str]:
    """Those that are written out, also of external volumes."""
    for key, name, external in _volumes(data):
        found = name or (key if external else "")
        if found and "$" not in found:
            yield found


def _volumes(data: dict[Any, Any]) -> Iterator[tuple[str, str, bool]]:
    """Key, name, and whether somebody else makes it."""
    found = data.get("volumes")
    for key, value in found.items() if isinstance(found, dict) else ():
        volume = value if isinstance(value, dict) else {}
        external = volume.get("external") not in {None, False}
        yield str(key), str(volume.get("name") or ""), external
