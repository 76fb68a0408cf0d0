"""One commit, as people read it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Revision:
    """One commit. ``committed_at`` is ISO 8601 with the committer's offset."""

    sha: str
    author: str
    committed_at: str
    subject: str
    trailers: tuple[tuple[str, str], ...] = ()

    @property
    def short(self) -> str:
        """The seven characters people read."""
        return self.sha[:7]
