"""Which commit a line or a file comes from, asked of the clone; bounded, and never a failure."""

from __future__ import annotations

import re

from agent.adapters.git.git import Git
from agent.domain.errors import TransientError
from agent.domain.revision import Revision

TIMEOUT_S = 10.0
"""A long history takes its time; who asks why something runs does not wait for ever."""


class Blame:
    """Looks back from ``sha`` in a clone. What cannot be told in time is None."""

    def __init__(self, git: Git, sha: str) -> None:
        self._git = git
        self._sha = sha
        self._known: dict[tuple[str, ...], Revision | None] = {}

    async def line(self, where: str) -> Revision | None:
        """The commit that put the line at ``where`` (``file:line``) there as it is now."""
        path, _, number = where.rpartition(":")
        if not number.isdigit():
            return await self.file(where)
        lines = ("-L", f"{number},{number}")
        said = await self._ask("blame", "--porcelain", *lines, self._sha, "--", path)
        sha = said.partition(" ")[0].lstrip("^")
        return await self._revision("-1", sha, "--") if sha else None

    async def file(self, path: str) -> Revision | None:
        """The last commit that touched the file."""
        return await self._revision("-1", self._sha, "--", path)

    async def dropped(self, word: str, path: str) -> Revision | None:
        """The last commit that changed a line of the file with this word in it."""
        # Git would take a name's characters for a pattern; of these only the hyphen has a say.
        pattern = rf"(^|[^a-z0-9_-]){re.escape(word)}($|[^a-z0-9_-])"
        return await self._revision(
            "-1", "--extended-regexp", f"-G{pattern}", self._sha, "--", path
        )

    async def _revision(self, *words: str) -> Revision | None:
        if words not in self._known:
            said = await self._ask("log", "--format=%H%x00%an <%ae>%x00%cI%x00%s", *words)
            sha, author, committed_at, subject = [*said.rstrip("\n").split("\0"), "", "", ""][:4]
            found = (
                Revision(sha=sha, author=author, committed_at=committed_at, subject=subject)
                if sha
                else None
            )
            self._known[words] = found
        return self._known[words]

    async def _ask(self, *words: str) -> str:
        try:
            result = await self._git.run(*words, timeout_s=TIMEOUT_S)
        except TransientError:
            return ""
        return result.out.decode(errors="replace") if result.code == 0 else ""
