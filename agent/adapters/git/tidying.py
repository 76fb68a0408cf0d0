"""Repacking the clone while nothing else is to be done, so that it does not grow for ever.

What no ref reaches goes: commits of a rewritten history, our own ones with overlays of before, what
older agents had fetched and refused. Commits that the journal names get a ref first.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection

import anyio

from agent.adapters.git.git import Git, broken

KEPT = "refs/commitd/kept"
_REPACK_S = 600.0
_NICE = 15
_MODEST = ("-c", "pack.threads=1", "-c", "pack.windowMemory=32m", "-c", "pack.deltaCacheSize=16m")


class Tidying:
    """Of the clone that ``git`` runs on. Ends at once when somebody wants to write there.

    ``end`` ends the processes of Git that are kept: they know what was dropped, and hold packs
    that were repacked, until then.
    """

    def __init__(self, git: Git, end: Callable[[], Awaitable[None]]) -> None:
        self._git = git
        self._end = end
        self._scope: anyio.CancelScope | None = None
        self._ended = anyio.Event()

    async def run(self, kept: Collection[str]) -> bool:
        """Repack, and drop what neither a ref nor ``kept`` (commits) reaches; whether to the end.

        Raises :class:`TransientError`.
        """
        if self._scope is not None:
            return False
        self._ended = anyio.Event()
        try:
            with anyio.CancelScope() as self._scope:
                await self._keep(kept)
                await self._git_at_ease(*_MODEST, "repack", "-a", "-d", "-n", "--quiet")
                await self._git_at_ease("prune", "--expire=now")
                return True
        finally:
            with anyio.CancelScope(shield=True):
                await self._end()
            self._scope = None
            self._ended.set()
        return False

    async def stop(self) -> None:
        """Cut it short, if it is under way, and wait for that. Nothing is lost by it."""
        if self._scope is not None:
            self._scope.cancel()
            await self._ended.wait()

    async def needed(self) -> bool:
        """Whether there is anything to tidy: more than one pack, or objects in none."""
        said = await self._git.check("count-objects", "-v")
        numbers = dict(line.split(": ", 1) for line in said.decode().splitlines() if ": " in line)
        return int(numbers["count"]) > 0 or int(numbers["packs"]) > 1

    async def _keep(self, kept: Collection[str]) -> None:
        said = await self._git.check("for-each-ref", "--format=%(refname)", KEPT)
        there = set(said.decode().split())
        wanted = {f"{KEPT}/{sha}" for sha in kept}
        lines = [f"delete {name}" for name in sorted(there - wanted)]
        for name in sorted(wanted - there):
            sha = name.rpartition("/")[2]
            if await self._git.holds(sha):
                lines.append(f"create {name} {sha}")
        if lines:
            text = "".join(f"{line}\n" for line in lines)
            await self._git.check("update-ref", "--stdin", stdin=text.encode())

    async def _git_at_ease(self, *words: str) -> None:
        result = await self._git.run(*words, timeout_s=_REPACK_S, nice=_NICE)
        if result.code != 0:
            raise broken("the clone cannot be repacked", result)
