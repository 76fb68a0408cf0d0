"""What ``config`` of Compose 2.24 to 2.27 prints other than later versions: mended here.

It names the files of ``env_file:`` instead of putting their values into ``environment:``, prints
the services of profiles that are not active, and leaves pairs as the list that a file has. ``up``
of these versions does as later ones do, so that is what the agent has to know. Compose itself reads
the env files here as well: their grammar is its own.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import anyio.to_thread

from agent.domain.repository import dotenv

Ask = Callable[[Sequence[Path], bytes], Awaitable[dict[str, Any]]]
"""The model of a Compose file, with more files of values that win over the stack's own."""


def as_mappings(model: dict[str, Any]) -> None:
    """Make mappings of the lists of ``KEY=value`` in ``model`` that the agent looks into."""
    for service in (model.get("services") or {}).values():
        for key, alone in (("environment", None), ("labels", "")):
            if isinstance(pairs := service.get(key), list):
                split = (str(pair).partition("=") for pair in pairs)
                service[key] = {name: value if sep else alone for name, sep, value in split}


def without_profiles(model: dict[str, Any]) -> None:
    """Take the services out of ``model`` that only a profile would start: the agent has none."""
    services: dict[str, Any] = model.get("services") or {}
    for name in [name for name, service in services.items() if service.get("profiles")]:
        del services[name]


async def merge_env_files(model: dict[str, Any], ask: Ask) -> None:
    """Replace each ``env_file:`` in ``model`` by its values. Raises what ``ask`` raises."""
    for service in (model.get("services") or {}).values():
        entries = service.pop("env_file", None) or []
        paths = [Path(entry["path"]) for entry in entries]
        given = service.get("environment") or {}
        if found := await _values(paths, ask):
            service["environment"] = {**found, **given}


async def _values(paths: Sequence[Path], ask: Ask) -> dict[str, str]:
    """What the files together set, ``$`` doubled as in any model."""
    names, there = await anyio.to_thread.run_sync(_keys, paths)
    if not names:
        return {}
    labels = {str(i): f"${{{name}}}" for i, name in enumerate(names)}
    content = {"services": {"values": {"image": "none", "labels": labels}}}
    answer = (await ask(there, json.dumps(content).encode()))["services"]["values"]["labels"]
    return {name: str(answer[str(i)]) for i, name in enumerate(names)}


def _keys(paths: Sequence[Path]) -> tuple[list[str], list[Path]]:
    """The variables that the files set, and those files that are there. Blocks."""
    there = [path for path in paths if path.is_file()]
    texts = (path.read_text(errors="replace") for path in there)
    found = dict.fromkeys(key for text in texts for key, _ in dotenv.keys(text))
    return [name for name in found if name.isascii() and name.isidentifier()], there
