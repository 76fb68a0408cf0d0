"""Models of stacks as Compose resolved them, so that it need not do that again for the same input.

    input ──digest──▶ known? ─▶ the model, judged anew each time
                         └▶ Compose resolves it ──┬▶ no secret can be in it: kept
                                                  └▶ else: not kept

For a try that follows another, a repair, a rollback. What depends on what: see :func:`_facts`. Only
in memory, and less than a secret needs: what is decrypted is in no model that is kept, so that it
lives no longer here than its own deploy takes, and no digest of it can be guessed from outside.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio.to_thread
from msgspec.structs import replace

from agent.adapters.compose.compose import Compose, Resolved
from agent.adapters.compose.invocation import Invocation
from agent.adapters.lru import Lru

_MOST = 256
_LARGEST = 64 * 1024
"""Characters; a model of twenty services has half of it."""
_HARMLESS = {"HOME", "DOCKER_CONFIG"}
"""Of the agent's own variables; those of builders may hold a login."""


class KeptModels:
    """Of one agent; they end with its process."""

    def __init__(self, compose: Compose) -> None:
        self._compose = compose
        self._key = secrets.token_bytes(32)
        self._kept: Lru[bytes, tuple[str, Resolved]] = Lru(_MOST)

    async def resolve(self, call: Invocation) -> Resolved:
        """As :meth:`Compose.resolve`, which is asked only if it has to be."""
        before = await anyio.to_thread.run_sync(self._digest, call)
        if kept := self._kept.get(before):
            model, rest = kept
            return replace(rest, model=json.loads(model))
        found = await self._compose.resolve(call)
        text = await anyio.to_thread.run_sync(_text, call, found)
        if text is not None:
            self._kept.put(before, (text, replace(found, model={})))
        return found

    def _digest(self, call: Invocation) -> bytes:
        """Of all that the model depends on, by a key that nobody knows. Blocks."""
        facts = "\0".join(map(repr, _facts(call, self._compose.binary)))
        return hmac.digest(self._key, facts.encode(errors="surrogateescape"), hashlib.sha256)


def _facts(call: Invocation, binary: Path) -> Iterator[Any]:
    """Files by their Git objects: all that Compose reads is below the root, and an input.

    Env files of a rollback are elsewhere, and called by their objects. The program is replaced by
    an upgrade while the agent runs.
    """
    stack = call.stack
    yield from (stack.name, stack.compose, stack.digest, stack.versions, stack.environment)
    yield from (stack.policy, stack.variables, stack.sealed)
    yield from (call.root, call.checkout, call.profiles, call.env_files, sorted(call.names))
    yield from (sorted(call.secrets.items()), call.hidden, call.salt)
    with suppress(OSError):
        there = binary.stat()
        yield (there.st_dev, there.st_ino, there.st_size, there.st_mtime_ns)


def _text(call: Invocation, found: Resolved) -> str | None:
    """The model to be kept; None: a secret may be in it, or it is too large.

    What is decrypted into files can be read by Compose in other ways than the agent reads it.
    """
    stack = call.stack
    if stack.sealed or stack.env_files or found.own.keys() - _HARMLESS:
        return None
    if any(hidden in text for text in _texts(found.model) for hidden in call.hidden if hidden):
        return None
    text = json.dumps(found.model)
    return text if len(text) <= _LARGEST else None


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, each in value.items():
            yield str(key)
            yield from _texts(each)
    elif isinstance(value, list):
        for each in value:
            yield from _texts(each)
    else:
        yield str(value).replace("$$", "$")
