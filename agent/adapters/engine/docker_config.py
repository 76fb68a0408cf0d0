"""Who a person is to a registry: what ``docker login`` has left in Docker's configuration."""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread

from agent.adapters import process
from agent.domain.errors import CommitdError, PermanentError
from agent.domain.repository.image_reference import HUB

HELPER_S = 30.0
"""For a credential helper to answer; some ask a person first."""
_HUB_KEY = "https://index.docker.io/v1/"
_HUB_NAMES = {HUB, "index.docker.io", "registry-1.docker.io"}
_HELPER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_TOKEN_USER = "<token>"  # noqa: S105  what helpers say in place of a name
_NONE_THERE = b"credentials not found"


@dataclass(frozen=True, slots=True)
class Login:
    """A name and a password; without a name, an identity token that buys others."""

    username: str | None
    secret: str = field(repr=False)

    @property
    def basic(self) -> str:
        """The value of ``Authorization`` that says both."""
        pair = f"{self.username}:{self.secret}".encode()
        return f"Basic {base64.b64encode(pair).decode()}"


class DockerConfig:
    """``config.json`` of Docker's command line; read when first needed, each helper asked once."""

    def __init__(self, path: Path | None = None) -> None:
        directory = os.environ.get("DOCKER_CONFIG")
        self.path = path or (Path(directory) if directory else Path.home() / ".docker") / (
            "config.json"
        )
        self._data: dict[str, Any] | None = None
        self._known: dict[str, Login | None] = {}
        self._lock = anyio.Lock()

    async def login(self, registry: str) -> Login | None:
        """The login for ``registry``, as in ``docker.io`` or ``host:5000``; None: there is none.

        Raises :class:`PermanentError` when the configuration cannot be read or a helper fails; no
        message holds what they contain.
        """
        async with self._lock:
            if registry not in self._known:
                self._known[registry] = await self._find(registry)
            return self._known[registry]

    async def _find(self, registry: str) -> Login | None:
        if self._data is None:
            self._data = await anyio.to_thread.run_sync(self._read)
        helper = _of(self._data, "credHelpers", registry) or self._data.get("credsStore")
        if helper:
            return await self._helped(helper, registry)
        entry = _of(self._data, "auths", registry)
        return self._stored(entry, registry) if isinstance(entry, dict) else None

    def _read(self) -> dict[str, Any]:
        try:
            data = json.loads(self.path.read_bytes())
        except FileNotFoundError:
            return {}
        except OSError as err:
            raise self._broken(f"cannot be read: {err.strerror}") from None
        except ValueError:
            raise self._broken("is not valid JSON") from None
        if not isinstance(data, dict):
            raise self._broken("is not what Docker writes")
        return data

    def _stored(self, entry: Mapping[str, Any], registry: str) -> Login | None:
        if token := entry.get("identitytoken"):
            return Login(None, str(token))
        username, secret = entry.get("username"), entry.get("password")
        if auth := entry.get("auth"):
            try:
                pair = base64.b64decode(auth, validate=True).decode().rstrip("\0")
            except (TypeError, ValueError):
                raise self._broken(f"has an auth for {registry} that is not base64") from None
            username, _, secret = pair.partition(":")
        return Login(str(username), str(secret)) if username and secret else None

    async def _helped(self, helper: object, registry: str) -> Login | None:
        if not isinstance(helper, str) or not _HELPER.fullmatch(helper):
            raise self._broken(f"names a credential helper for {registry} that cannot be one")
        program = f"docker-credential-{helper}"
        try:
            result = await process.run(
                [program, "get"],
                env=os.environ,  # helpers of clouds and desktops live from it
                timeout_s=HELPER_S,
                stdin=server_of(registry).encode(),
                max_output=1024 * 1024,
            )
        except CommitdError as err:
            raise PermanentError(
                err.message,
                hint=f"{self.path} says to ask it for {registry}; install it, or change that",
            ) from None
        if _NONE_THERE in result.out:
            return None
        try:
            answer = json.loads(result.out) if result.code == 0 else None
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise PermanentError(
                f"{program} does not give the login for {registry}", hint=f"docker login {registry}"
            )
        username, secret = answer.get("Username"), answer.get("Secret")
        if not username or not secret:
            return None
        return Login(None if username == _TOKEN_USER else str(username), str(secret))

    def _broken(self, what: str) -> PermanentError:
        hint = "mend it, or remove it and use docker login"
        return PermanentError(f"Docker's configuration {what}", where=str(self.path), hint=hint)


def server_of(registry: str) -> str:
    """The address that logins for ``registry`` go by; Docker Hub's is another than its name."""
    return _HUB_KEY if registry == HUB else registry


def _of(data: Mapping[str, Any], table: str, registry: str) -> Any:
    """The entry for ``registry``, however its address is written there; None: there is none."""
    entries = data.get(table)
    if not isinstance(entries, dict):
        return None
    for key, entry in entries.items():
        host = key.partition("://")[2] or key
        host = host.partition("/")[0]
        if (HUB if host in _HUB_NAMES else host) == registry:
            return entry
    return None
