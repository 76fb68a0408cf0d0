"""The agent's own refs: by them the clone knows what is applied, across restarts and kills."""

from __future__ import annotations

from collections.abc import Mapping

from agent.adapters.git.git import LOCAL_TIMEOUT_S, Git
from agent.adapters.git.session import Pipe
from agent.domain.errors import TransientError

APPLIED = "refs/commitd/applied"
"""The commit whose tree is checked out whole; moved only after a reset succeeded."""

ACCEPTED = "refs/commitd/accepted"
"""The commit that was judged last and found good."""

PENDING = "refs/commitd/pending"
"""The commit that a reset has begun to check out."""

OURS = (APPLIED, ACCEPTED, PENDING)


class Refs:
    """Those of the clone that ``git`` runs on, written by one Git that stays."""

    def __init__(self, git: Git) -> None:
        self._session = git.session("update-ref", "--stdin")

    async def write(self, refs: Mapping[str, str | None]) -> None:
        """Set each ref to its commit, or delete it for None; all or none, and on disk.

        Raises :class:`TransientError`.
        """
        lines = [f"update {ref} {sha}" if sha else f"delete {ref}" for ref, sha in refs.items()]
        text = "\n".join(["start", *lines, "commit", ""]).encode()

        def question(pipe: Pipe) -> None:
            pipe.write(text)
            for step in (b"start: ok", b"commit: ok"):
                if (said := pipe.line()) != step:
                    raise TransientError(f"git update-ref said {said[:60]!r}")

        await self._session.ask(question, LOCAL_TIMEOUT_S)

    async def end(self) -> None:
        """Let that Git go; who writes again starts another."""
        await self._session.end()
