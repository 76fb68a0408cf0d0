"""Takes webhooks; loaded with its library once somebody connects.

    POST /hooks/gitea   X-Gitea-Signature: HEX               Gitea, Forgejo
    POST /hooks/github  X-Hub-Signature-256: sha256=HEX      GitHub

Both are the HMAC-SHA256 of the body by a secret that the forge shares with this host. Nothing in
the body is believed, or even read: it is hashed as it comes, and forgotten. A hook that is signed
only has the remotes asked now, a little earlier than they would be anyway; many of them together do
so once every ``GAP_S``.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import re
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
import anyio.to_thread
from aiohttp import web

from agent.adapters.host.token_file import read_token
from agent.control.outside.running import Running
from agent.domain.errors import CommitdError
from agent.surface.api.connections import Connections
from agent.surface.api.errors import ApiError, as_json
from agent.surface.api.runner import serve

log = logging.getLogger("commitd.hooks")

LARGEST = 1_000_000
"""Bytes of a body."""
BODY_S = 10.0
"""For all of a body to come."""
GAP_S = 2.0
"""Between two times that the remotes are asked because of hooks."""
_HEX = re.compile(r"[0-9a-f]{64}")


async def answer(running: Running, listener: socket.socket, where: str) -> None:
    """Answer on ``listener``, which is at ``where``, until cancelled."""
    connections, wake = Connections(where), Wake(running.wake)
    try:
        await serve(application(running, connections, wake), connections, listener, where)
    finally:
        wake.close()


def application(running: Running, connections: Connections, wake: Wake) -> web.Application:
    """The routes of those forges for which there is a secret."""
    app = web.Application(middlewares=[connections.answering, as_json])
    if hooks := running.config.hooks:
        for forge, file, header, prefix in (
            ("gitea", hooks.gitea_secret_file, "X-Gitea-Signature", ""),
            ("github", hooks.github_secret_file, "X-Hub-Signature-256", "sha256="),
        ):
            if file:
                taking = _taking(f"hooks.{forge}_secret_file", file, header, prefix, wake)
                app.router.add_post(f"/hooks/{forge}", taking)
    return app


class Wake:
    """Calls ``wake`` at once, and for all further wishes within ``GAP_S`` once more after it."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._gap: asyncio.TimerHandle | None = None
        self._again = False

    def __call__(self) -> None:
        """Somebody wishes it."""
        if self._gap is not None:
            self._again = True
            return
        self._again = False
        self._gap = asyncio.get_running_loop().call_later(GAP_S, self._after_gap)
        self._wake()

    def close(self) -> None:
        """Nobody is woken any more."""
        if self._gap is not None:
            self._gap.cancel()

    def _after_gap(self) -> None:
        self._gap = None
        if self._again:
            self()


def _taking(
    what: str, file: Path, header: str, prefix: str, wake: Wake
) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def take(request: web.Request) -> web.Response:
        shown = request.headers.getall(header, [])
        given = shown[0].removeprefix(prefix) if len(shown) == 1 else ""
        if not _HEX.fullmatch(given):
            raise _not_signed(header)
        if (request.content_length or 0) > LARGEST:
            raise _too_large()
        try:
            secret = await anyio.to_thread.run_sync(read_token, file, what)
        except CommitdError as err:
            log.warning("%s: a hook cannot be checked: %s", request.path, err)
            raise ApiError(503, "this host cannot check hooks now") from None
        digest = await _digest(request, secret)
        if not hmac.compare_digest(digest.encode(), given.encode()):
            log.warning("%s: a hook has a wrong signature", request.path)
            raise _not_signed(header)
        log.debug("a hook from %s", request.remote)
        wake()
        return web.Response(status=204)

    return take


async def _digest(request: web.Request, secret: bytes) -> str:
    """Of the body as it comes, in hexadecimal digits; none of it is kept."""
    found, size = hmac.new(secret, digestmod=hashlib.sha256), 0
    with anyio.move_on_after(BODY_S):
        async for piece in request.content.iter_any():
            size += len(piece)
            if size > LARGEST:
                raise _too_large()
            found.update(piece)
        return found.hexdigest()
    raise ApiError(408, "the body did not come in time")


def _not_signed(header: str) -> ApiError:
    return ApiError(401, "a hook needs a signature by the secret", f"it is shown in {header}")


def _too_large() -> ApiError:
    return ApiError(413, f"a body has {LARGEST} bytes at most")
