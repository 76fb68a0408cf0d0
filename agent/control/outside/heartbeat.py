"""Asking for a URL after each good cycle, so that somebody notices when nobody asks any more.

After a bad one it is the same URL with ``/fail`` behind it, as healthchecks has it. Cycles may come
each second, which nobody has to hear: how it is, is said again after ``EVERY_S``, and a change
after ``CHANGE_S``. One that ends while something is still being put right is neither.
"""

from __future__ import annotations

import logging
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

import anyio
import anyio.to_thread

from agent.adapters.guard import Guard
from agent.adapters.host.url_file import read_url
from agent.adapters.outside import http
from agent.adapters.tasks import task_group
from agent.control.outside.running import Running
from agent.control.status.standing import Standing
from agent.domain.errors import CommitdError, ConfigError, UnreachableError
from agent.domain.status.verdict import State

log = logging.getLogger("commitd.heartbeat")

EVERY_S, CHANGE_S = 30.0, 5.0
_LIMIT_S = 10.0
_NAME = "heartbeat"
_SUCCESS, _REDIRECT, _REFUSED = 200, 300, 400


@asynccontextmanager
async def beating(running: Running) -> AsyncIterator[None]:
    """Ask while the block runs."""
    async with task_group() as group:
        beat = partial(_beat, running, Guard(_NAME, log))
        group.start_soon(Guard("the heartbeat", log).until_done, beat)
        try:
            yield
        finally:
            group.cancel_scope.cancel()


async def _beat(running: Running, guard: Guard) -> None:
    section = running.config.heartbeat
    number, said, at = 0, None, -math.inf
    while section is not None:
        standing = await running.standings.after(number, ended=True)
        early_s = at + CHANGE_S - anyio.current_time()
        if early_s > 0 and _is_good(standing) is not said:  # the next cycle may be long in coming
            await anyio.sleep(early_s)
            newest = running.standings.latest
            standing = newest if newest and newest.cycle is not None else standing
        number, good, now = standing.number, _is_good(standing), anyio.current_time()
        if good is None or (good is said and now - at < EVERY_S):
            continue
        said, at = good, now
        try:
            await _ask(section.url_file, good=good)
        except CommitdError as err:
            running.trouble.set(_NAME, str(err))
            guard.note(err)
        else:
            running.trouble.clear(_NAME)
            guard.recovered()


def _is_good(standing: Standing) -> bool | None:
    """None: something is still being done."""
    found = standing.verdict
    return None if found.state is State.WORKING else found.exit_code == 0


async def _ask(file: Path, *, good: bool) -> None:
    """Once. Raises :class:`CommitdError`, which shows no more of the URL than its host."""
    written = await anyio.to_thread.run_sync(read_url, file, _NAME)
    url = _parsed(written)
    if url is None:
        message = f"{_NAME}: the file holds no URL that begins with https:// or http://"
        raise ConfigError(message, where=str(file))
    path = url.path if good else f"{url.path.rstrip('/')}/fail"
    reply = await http.ask("GET", url._replace(path=path).geturl(), {}, within_s=_LIMIT_S)
    if _REDIRECT <= reply.status < _REFUSED:
        hint = "write the URL that it leads to"
        raise UnreachableError(
            f"{reply.status}: it leads elsewhere, which is not followed", hint=hint
        )
    if not _SUCCESS <= reply.status < _REDIRECT:
        raise UnreachableError(f"the server answers {reply.status}")


def _parsed(written: str) -> SplitResult | None:
    try:
        url = urlsplit(written)
        usable = url.scheme in {"http", "https"} and url.hostname and url.port != 0
    except ValueError:  # the address or the port
        return None
    return url if usable else None
