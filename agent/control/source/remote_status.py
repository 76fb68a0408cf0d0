"""What each remote said last, kept over restarts, and how it stands to the applied commit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import anyio.to_thread
from msgspec import Struct
from msgspec.structs import asdict, replace

from agent.adapters.host.runtime_file import RuntimeFile
from agent.adapters.state.async_journal import AsyncJournal
from agent.adapters.state.database import kept_as
from agent.adapters.state.journal import Journal
from agent.domain.source import outages
from agent.domain.source.decide import Answer, Head, Relation
from agent.domain.source.outages import Outage, Outages

_KEY = "remotes"
_OUTAGES = "outages"
_FILE = "remotes.json"


class Seen(Struct, frozen=True, kw_only=True):
    """The last answer of one remote.

    ``head`` is the last one it showed, also while it is down; ``lag`` counts the commits of the
    applied line that it has not got (None: unknown); ``down_since`` is None while it answers.
    ``took_s`` is how long the last answer took, in seconds; None: there was none.
    """

    name: str
    reachable: bool = False
    answer: Answer | None = None
    head: str | None = None
    relation: Relation = Relation.UNKNOWN
    lag: int | None = None
    error: str | None = None
    down_since: str | None = None
    checked_at: str | None = None
    took_s: float | None = None


class Remotes:
    """The remotes in order of preference.

    What they said goes to the journal when it changes, and with the time of asking to a file in
    the runtime directory each time: an idle agent writes to no disk.
    """

    def __init__(
        self,
        seen: Mapping[str, Seen],
        journal: AsyncJournal,
        runtime_dir: Path,
        known: Outages = (),
    ) -> None:
        """``seen`` is what the journal remembers of them, as :func:`recall` tells it.

        ``known`` are their outages, as :func:`last_outages` tells them.
        """
        self._journal = journal
        self._file = RuntimeFile(runtime_dir / _FILE, "what the remotes said")
        self._seen = dict(seen)
        self._asked: set[str] = set()
        self._kept: dict[str, Any] | None = None
        self._outages = self._kept_outages = known

    def tell(
        self,
        name: str,
        answer: Answer,
        *,
        sha: str | None,
        error: str | None,
        at: str,
        took_s: float | None = None,
    ) -> bool:
        """Take in one answer, which took so many seconds; whether it is news."""
        before = self._seen[name]
        down = answer is Answer.DOWN
        after = replace(
            before,
            reachable=not down,
            answer=answer,
            head=sha or before.head,
            error=error,
            down_since=(before.down_since or at) if down else None,
            checked_at=at,
            took_s=took_s,
        )
        if after.head != before.head:
            after = replace(after, relation=Relation.UNKNOWN, lag=None)
        self._seen[name] = after
        self._outages = outages.told(
            self._outages, name, down_since=after.down_since, at=at, error=error
        )
        first = name not in self._asked
        self._asked.add(name)
        return first or (before.answer, before.head, before.reachable) != (
            after.answer,
            after.head,
            after.reachable,
        )

    def heads(self) -> list[Head]:
        """What is known now, in order of preference; who was not asked yet is down."""
        heads: list[Head] = []
        for name, seen in self._seen.items():
            if name not in self._asked or seen.answer is None:
                heads.append(
                    Head(
                        remote=name,
                        answer=Answer.DOWN,
                        error=f"{name}: not asked yet",
                        last=seen.head,
                    )
                )
            elif seen.answer is Answer.HEAD:
                heads.append(Head(remote=name, answer=Answer.HEAD, sha=seen.head, last=seen.head))
            else:
                heads.append(
                    Head(remote=name, answer=seen.answer, error=seen.error, last=seen.head)
                )
        return heads

    def shown(self) -> frozenset[str]:
        """The commits that remotes showed last."""
        return frozenset(seen.head for seen in self._seen.values() if seen.head)

    def all_asked(self) -> bool:
        """Whether every remote was heard, or found silent, since the start."""
        return self._asked == set(self._seen)

    def relate(self, name: str, head: str | None, relation: Relation, lag: int | None) -> None:
        """Note how ``head`` stands to the applied commit, if the remote still shows that one."""
        if self._seen[name].head == head:
            self._seen[name] = replace(self._seen[name], relation=relation, lag=lag)

    @property
    def seen(self) -> Mapping[str, Seen]:
        """The last answer of each remote."""
        return dict(self._seen)

    async def save(self) -> None:
        """Write down what was said."""
        lasting = {
            n: asdict(replace(seen, checked_at=None, took_s=None)) for n, seen in self._seen.items()
        }
        if lasting != self._kept:
            await self._journal.put(_KEY, lasting)
            self._kept = lasting
        await self._keep_outages()
        await anyio.to_thread.run_sync(self._file.write, self._all())

    async def keep(self) -> None:
        """Have the times of the last answers survive a restart of the machine."""
        self._kept = None
        await self._journal.put(_KEY, self._all())
        await self._keep_outages()

    async def _keep_outages(self) -> None:
        if (now := self._outages) is not self._kept_outages:
            await self._journal.put(_OUTAGES, [asdict(each) for each in now])
            self._kept_outages = now

    def _all(self) -> dict[str, Any]:
        return {name: asdict(seen) for name, seen in self._seen.items()}


def recall(journal: Journal, names: Sequence[str]) -> dict[str, Seen]:
    """What the journal remembers of the remotes called ``names``."""
    return _parse(journal.get(_KEY) or {}, names)


def last_outages(journal: Journal) -> Outages:
    """When remotes did not answer, the oldest first; what another version wrote is left out."""
    try:
        return tuple(kept_as(Outage, each) for each in journal.get(_OUTAGES) or ())
    except (TypeError, AttributeError):
        return ()


def last_answers(journal: Journal, names: Sequence[str], runtime_dir: Path) -> dict[str, Seen]:
    """The same with the time of asking, if the agent has run since the machine started."""
    try:
        return _parse(RuntimeFile(runtime_dir / _FILE, "").read(), names)
    except (OSError, ValueError, LookupError, TypeError, AttributeError):  # or of another version
        return recall(journal, names)


def named(journal: Journal, names: Sequence[str], runtime_dir: Path, rev: str) -> str:
    """``rev``, or the commit that the remote of this name showed last."""
    if rev not in names:
        return rev
    return last_answers(journal, names, runtime_dir)[rev].head or rev


def _parse(stored: Mapping[str, Mapping[str, Any]], names: Sequence[str]) -> dict[str, Seen]:
    found = {name: Seen(name=name) for name in names}
    for name in found.keys() & stored.keys():
        values = dict(stored[name])
        values["relation"] = Relation(values["relation"])
        answer = values.get("answer")  # an older agent's journal has none
        values["answer"] = Answer(answer) if answer else None
        found[name] = Seen(**values)
    return found
