"""Configs and secrets that Compose itself writes into a container, where nobody sees them change.

Those with ``content:`` and ``environment:`` are neither mounted nor part of the hash by which
Compose tells what to recreate: with other words in them, ``up`` leaves the old container as it is.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Callable, Mapping
from typing import Any

from agent.domain.repository import dotenv


def digest(
    service: Mapping[str, Any], model: Mapping[str, Any], value: Callable[[str], str], salt: str
) -> str:
    """Names what one service of a resolved model is given that way; empty if nothing is.

    ``value`` is what the variable with a name depends on. Without the host's own ``salt`` a weak
    secret could be guessed from what the journal shows.
    """
    said: list[tuple[str, str]] = []
    for kind in ("configs", "secrets"):
        known = model.get(kind) or {}
        for use in service.get(kind) or []:
            source = known.get(use["source"]) or {}
            if source.get("content") is not None:
                said.append((use["source"], str(source["content"])))
            elif source.get("environment"):
                said.append((use["source"], value(str(source["environment"]))))
    text = json.dumps(sorted(said)).encode()
    return hmac.new(salt.encode(), text, hashlib.sha256).hexdigest() if said else ""


def passage(text: str, key: str) -> str:
    """The lines of an env file that define ``key``; empty if it does not."""
    found = dotenv.keys(text)
    lines = text.split("\n")
    ends = [line for _, line in found[1:]] + [len(lines) + 1]
    return "\n".join(
        line
        for (name, start), end in zip(found, ends, strict=True)
        if name == key
        for line in lines[start - 1 : max(start, end - 1)]
    )
