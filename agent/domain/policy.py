"""What a stack may not ask of the host, seen on the model that Compose resolved.

Compose runs a ``provider:`` as a program of the repository on the host, and ``build:`` runs the
repository's instructions with the engine's rights.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def refusals(services: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Why ``services`` (of ``compose config --format json``) must not be started; sorted."""
    found: list[str] = []
    for name, service in sorted(services.items()):
        if service.get("provider"):
            found.append(f"{name}: provider: would run a program of the repository on the host")
        if service.get("build"):
            found.append(f"{name}: build: is not allowed; push an image and name it by its digest")
    return found
