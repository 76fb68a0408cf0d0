"""What ``config`` of Compose 2.24 to 2.27 prints other than later versions: mended here.

It names the files of ``env_file:`` instead of putting their values into ``environment:``, prints
the services of profiles that are not active, and leaves pairs as the list that a file has. ``up``
of these versions does as later ones do, so that is what the agent has to know and to give. Compose
itself reads the env files here as well: their grammar is its own.
"""

from __future__ import annotations

import json
import os
import posixpath
import secrets
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import anyio.to_thread

from agent.domain.errors import PermanentError
from agent.domain.repository import dotenv

_EMPTY = Path(os.devnull)
Ask = Callable[[Sequence[bytes], bytes], Awaitable[dict[str, Any]]]
"""The model of a Compose file, with more texts of values that win over the stack's own."""


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


async def merge_env_files(model: dict[str, Any], ask: Ask, root: Path = Path("/")) -> None:
    """Replace each ``env_file:`` in ``model`` by its values.

    Raises what ``ask`` raises, and :class:`PermanentError` for a file that is not below ``root``:
    Compose may be held back from that, and the agent must not read it in its place.
    """
    for name, service in (model.get("services") or {}).items():
        entries = service.pop("env_file", None) or []
        names = [entry["path"].replace("$$", "$") for entry in entries]
        paths = [Path(posixpath.normpath(each)) for each in names]
        if not all(path.is_relative_to(root) or path == _EMPTY for path in paths):
            raise PermanentError(f"{name}: env_file: it leads out of the repository")
        given = service.get("environment") or {}
        if found := await _values(paths, ask):
            service["environment"] = {**found, **given}


async def _values(paths: Sequence[Path], ask: Ask) -> dict[str, str]:
    """What the files together set, ``$`` doubled as in any model.

    Each value has a second name beside its own, which is in no other file and can be asked for.
    """
    mark = f"COMMITD_{secrets.token_hex(8)}"
    texts = await anyio.to_thread.run_sync(_texts, paths)
    if not texts:
        return {}
    names: dict[str, str] = {}
    named = [dotenv.with_second_names(text, mark, names) for text in texts]
    # A name alone passes on what the stack's own values say, if they do.
    passed = [key for text in texts for key in dotenv.passed_on(text) if key.isidentifier()]
    labels = {key: f"${{{key}-{mark}}}" for key in passed}
    labels |= {key: f"${{{name}}}" for key, name in names.items()}
    if not labels:
        return {}
    asked = {str(i): label for i, label in enumerate(labels.values())}
    content = {"services": {"values": {"image": "none", "labels": asked}}}
    answer = await ask([text.encode() for text in named], json.dumps(content).encode())
    found = [str(answer["services"]["values"]["labels"][key]) for key in asked]
    return {key: value for key, value in zip(labels, found, strict=True) if value != mark}


def _texts(paths: Sequence[Path]) -> list[str]:
    """Those of the files that are there. Blocks."""
    return [path.read_text(errors="replace") for path in paths if path.is_file()]
