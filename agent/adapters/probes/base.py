"""Warm probes: what is the head of the branch, asked over a connection that is kept.

A probe answers the poller's question for a fraction of what ``git ls-remote`` costs: no process
here, no handshake. It reads names only; what it says is a reason to fetch, never the thing
fetched.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio

from agent.adapters.git.git import Channel
from agent.domain.config import Remote
from agent.domain.errors import UnreachableError
from agent.domain.source.git_protocol import RefAnswer, plain

CONNECT_S = 10.0
"""For reaching the server and proving who is who."""
ASK_S = 15.0
"""For one ask altogether, with connecting and, once, connecting again."""
CLOSE_S = 2.0
"""For parting; what has not closed by then is dropped."""


class StaleError(UnreachableError):
    """A kept connection turned out to be of no use any more, as after the server's restart."""


class Probe(ABC):
    """Asks one remote for one branch; one ask at a time, from one event loop."""

    def __init__(self, remote: Remote, branch: str) -> None:
        self.remote = remote
        self.branch = branch

    async def ask(self) -> RefAnswer:
        """The head of the branch now.

        Takes at most ``ASK_S`` seconds. Raises :class:`UnreachableError`, as
        :class:`BusyError` when the server asks for patience; then the connection is gone and the
        next ask makes another. No message holds a secret.
        """
        done = False
        try:
            with anyio.fail_after(ASK_S):
                try:
                    said = await self._ask()
                except StaleError:
                    # Servers end idle connections when they like; that is no reason to call
                    # the remote down. A new connection is never stale, so this ends.
                    await self._drop()
                    said = await self._ask()
            done = True
        except UnreachableError as err:
            err.where = self.remote.name
            raise
        except TimeoutError:
            raise UnreachableError(
                f"no answer within {ASK_S:g} s", where=self.remote.name
            ) from None
        finally:
            if not done:
                await self._drop()
        return said

    @asynccontextmanager
    async def channel(self) -> AsyncIterator[Channel | None]:
        """For one fetch over the connection that is kept; None where that cannot be.

        When the connection breaks meanwhile, Git reads an end.
        """
        yield None

    async def aclose(self) -> None:
        """Part from the server, within ``CLOSE_S`` seconds; another ask connects again."""
        await self._drop()

    @abstractmethod
    async def _ask(self) -> RefAnswer:
        """Ask, on the connection there is or a new one. Raises UnreachableError or TimeoutError."""

    @abstractmethod
    async def _drop(self) -> None:
        """Forget the connection, whatever state it is in; bounded, and never raises."""


def reason(err: OSError) -> str:
    """What the system says about ``err``, in its own words: libraries put theirs there too."""
    return os.strerror(err.errno) if err.errno else plain(str(err).encode(errors="replace"))
