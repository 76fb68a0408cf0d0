"""One commit, as people read it."""

from __future__ import annotations

import re

from msgspec import Struct

_APPROVAL = ("commitd-approve", "removals")
_LISTED = re.compile(r"^\*\s", re.MULTILINE)
"""How forges begin the message of each commit that they squash."""


class Revision(Struct, frozen=True, kw_only=True):
    """One commit. ``committed_at`` is ISO 8601 with the committer's offset.

    ``trailers`` are those of the last block of its own message, as Git reads them. With
    ``squashed`` that message lists those of other commits, of which the last may have brought them.
    """

    sha: str
    author: str
    committed_at: str
    subject: str
    trailers: tuple[tuple[str, str], ...] = ()
    squashed: bool = False

    @property
    def short(self) -> str:
        """The seven characters people read."""
        return self.sha[:7]

    @property
    def asks_for_removals(self) -> bool:
        """Whether a trailer approves what the commit removes, whoever wrote it."""
        return any((key.lower(), value.lower()) == _APPROVAL for key, value in self.trailers)

    @property
    def approves_removals(self) -> bool:
        """Whether its author approved in its message what it removes."""
        return self.asks_for_removals and not self.squashed


def lists_commits(body: str) -> bool:
    """Whether the message of a commit, without its subject, lists those of squashed ones.

    GitHub, GitLab and Gitea begin each with an asterisk. ``git merge --squash`` indents them, so
    that Git finds no trailers among them.
    """
    return _LISTED.search(body) is not None
