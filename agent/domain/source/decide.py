"""Which commit to follow: the heads of all remotes against what was applied.

Forward only: a host never moves to a commit that does not descend from the applied one, unless
every remote shows the same rewritten head, the configuration follows any history, or a person
accepted that very commit. A remote that is behind is stale and never applied.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from msgspec import Struct


class Answer(StrEnum):
    """What a remote said when it was asked for the head of the branch."""

    HEAD = "head"
    DOWN = "down"
    EMPTY = "empty"
    NO_BRANCH = "no such branch"


class Relation(StrEnum):
    """How a remote's head stands to the applied commit."""

    SAME = "same"
    AHEAD = "ahead"
    BEHIND = "behind"
    DIVERGED = "diverged"
    UNKNOWN = "unknown"


class Head(Struct, frozen=True, kw_only=True):
    """One remote's answer. ``sha`` is set for HEAD; ``last`` is the head it showed before."""

    remote: str
    answer: Answer
    sha: str | None = None
    error: str | None = None
    last: str | None = None


class Ancestry(Struct, frozen=True):
    """For the commits in question: pairs (ancestor, descendant), a commit not its own."""

    pairs: frozenset[tuple[str, str]]

    def relation(self, head: str | None, applied: str | None) -> Relation:
        """How ``head`` stands to ``applied``."""
        if head is None or applied is None:
            return Relation.UNKNOWN
        if head == applied:
            return Relation.SAME
        if (applied, head) in self.pairs:
            return Relation.AHEAD
        if (head, applied) in self.pairs:
            return Relation.BEHIND
        return Relation.DIVERGED


class Accept(Struct, frozen=True):
    """Move to ``sha``; ``rewrite`` when it does not descend from the applied commit."""

    sha: str
    remote: str
    rewrite: bool = False


class Stay(Struct, frozen=True):
    """Keep the applied commit; ``remote`` is the one that confirms it, if any does."""

    detail: str
    remote: str | None = None


class Wait(Struct, frozen=True):
    """Keep the applied commit and say so: ``sha`` was seen and is not followed."""

    sha: str
    remote: str
    detail: str


Decision = Accept | Stay | Wait


def decide(
    heads: Sequence[Head],
    ancestry: Ancestry,
    applied: str | None,
    *,
    follow: bool = False,
    approved: frozenset[str] = frozenset(),
) -> Decision:
    """What to do about ``heads``, which are in order of preference.

    ``approved`` are commits that a person accepted on the host. Of several remotes the first that
    answers is followed, or one whose head descends from that remote's.
    """
    shown = [(head.sha, head.remote) for head in heads if head.sha is not None]
    if not shown:
        return Stay(_silence(heads))
    if applied is None:
        return _forward(shown, ancestry, None)
    if not follow:
        for sha, remote in shown:
            if sha in approved and _rewritten(ancestry, sha, applied):
                return Accept(sha, remote, rewrite=True)
    line = [(s, r) for s, r in shown if not _rewritten(ancestry, s, applied)]
    off_line = [(s, r) for s, r in shown if _rewritten(ancestry, s, applied)]
    if follow:
        sha, remote = shown[0]
        if _rewritten(ancestry, sha, applied):
            return Accept(sha, remote, rewrite=True)
        return _forward(line, ancestry, applied)
    if not off_line:
        return _forward(line, ancestry, applied)
    sha, remote = off_line[0]
    if line:
        others = ", ".join(r for _, r in line)
        return Wait(
            sha,
            remote,
            f"{remote} shows {sha[:7]}, which does not continue {applied[:7]} as {others} does",
        )
    return _rewrite(heads, off_line, ancestry, applied)


def _rewritten(ancestry: Ancestry, sha: str, applied: str) -> bool:
    return ancestry.relation(sha, applied) is Relation.DIVERGED


def _forward(shown: Sequence[tuple[str, str]], ancestry: Ancestry, applied: str | None) -> Decision:
    """Choose among heads that all stand on the applied line."""
    current = [(s, r) for s, r in shown if ancestry.relation(s, applied) is not Relation.BEHIND]
    if not current:
        return Stay(f"{shown[0][1]} is behind what is applied here")
    best, remote = current[0]
    for sha, name in current[1:]:
        relation = ancestry.relation(sha, best)
        if relation is Relation.AHEAD:
            best, remote = sha, name
        elif relation is Relation.DIVERGED:
            return Wait(
                sha,
                name,
                f"{remote} shows {best[:7]} and {name} shows {sha[:7]}: they have diverged",
            )
    relation = ancestry.relation(best, applied)
    if applied is None or relation is Relation.AHEAD:
        return Accept(best, remote)
    return Stay("up to date", remote)


def _rewrite(
    heads: Sequence[Head],
    off_line: Sequence[tuple[str, str]],
    ancestry: Ancestry,
    applied: str,
) -> Decision:
    """Every remote that answers has left the applied line."""
    sha, remote = off_line[0]
    how = f"run commitd approve {sha[:7]} on the host to follow it"
    if any(other != sha for other, _ in off_line):
        return Wait(sha, remote, f"the remotes show different rewritten histories; {how}")
    if len(off_line) < 2:  # noqa: PLR2004  one voice is no agreement
        return Wait(sha, remote, f"only {remote} shows the rewritten history {sha[:7]}; {how}")
    for head in heads:
        old = head.sha is None and head.last is not None
        if old and not _rewritten(ancestry, head.last or applied, applied):
            return Wait(sha, remote, f"{head.remote} last showed the old history; {how}")
    return Accept(sha, remote, rewrite=True)


def absent(heads: Sequence[Head], branch: str) -> list[tuple[str, str]]:
    """The remotes that answer without ``branch``, each with what is wrong there."""
    found: list[tuple[str, str]] = []
    for head in heads:
        if head.answer in {Answer.EMPTY, Answer.NO_BRANCH}:
            before = f"; it showed {head.last[:7]} before" if head.last else ""
            found.append((head.remote, without(head.answer, branch) + before))
    return found


def without(answer: Answer, branch: str) -> str:
    """What an answer without a head says of ``branch``."""
    if answer is Answer.EMPTY:
        return f"the repository is empty, without a branch {branch!r}"
    return f"there is no branch {branch!r}"


def _silence(heads: Sequence[Head]) -> str:
    return "; ".join(f"{head.remote}: {head.error or head.answer}" for head in heads)
