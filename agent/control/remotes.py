"""Asking the remotes for their heads and remembering what each one said."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import anyio.to_thread

from agent.adapters.git import Repository
from agent.adapters.journal import Journal, utcnow
from agent.domain.config import Remote
from agent.domain.errors import CommitdError, PermanentError
from agent.domain.source import Ancestry, Answer, Head, Relation

log = logging.getLogger("commitd.remotes")

_KEY = "remotes"
_FILE = "remotes.json"


@dataclass(frozen=True, slots=True)
class Seen:
    """The last answer of one remote. ``down_since`` is None while it answers."""

    name: str
    reachable: bool = False
    head: str | None = None
    relation: Relation = Relation.UNKNOWN
    error: str | None = None
    down_since: str | None = None
    checked_at: str | None = None


class Remotes:
    """The remotes in order of preference.

    What they said goes to the journal when it changes, and with the time of asking to a file in
    the runtime directory each time: an idle agent writes to no disk.
    """

    def __init__(
        self,
        remotes: Sequence[Remote],
        repository: Repository,
        journal: Journal,
        runtime_dir: Path,
    ) -> None:
        self._remotes = remotes
        self._repository = repository
        self._journal = journal
        self._file = runtime_dir / _FILE
        self._seen = recall(journal, [remote.name for remote in remotes])

    async def ask(self) -> list[Head]:
        """Fetch from the first remote that answers; the answers of those that were asked."""
        heads: list[Head] = []
        for remote in self._remotes:
            head = await self._ask(remote)
            heads.append(head)
            if head.answer is Answer.HEAD:
                break
        return heads

    async def record(self, ancestry: Ancestry, applied: str | None) -> None:
        """Write down what was said, and how each head stands to the applied commit."""
        for name, seen in self._seen.items():
            known = seen.head == applied or any(seen.head in pair for pair in ancestry.pairs)
            if known or seen.head is None:
                relation = ancestry.relation(seen.head, applied)
                self._seen[name] = replace(seen, relation=relation)
        await anyio.to_thread.run_sync(self._write)

    def _write(self) -> None:
        lasting = {n: asdict(replace(seen, checked_at=None)) for n, seen in self._seen.items()}
        self._journal.put(_KEY, lasting)
        temporary = self._file.with_suffix(".tmp")
        temporary.write_text(json.dumps({name: asdict(seen) for name, seen in self._seen.items()}))
        temporary.rename(self._file)

    async def _ask(self, remote: Remote) -> Head:
        before = self._seen[remote.name]
        now = utcnow()
        try:
            sha = await self._repository.fetch(remote)
        except PermanentError as err:
            seen = replace(before, reachable=True, error=str(err), down_since=None, checked_at=now)
            head = Head(remote.name, Answer.NO_BRANCH, error=str(err), last=before.head)
        except CommitdError as err:
            since = before.down_since or now
            seen = replace(
                before, reachable=False, error=str(err), down_since=since, checked_at=now
            )
            head = Head(remote.name, Answer.DOWN, error=str(err), last=before.head)
        else:
            seen = Seen(remote.name, reachable=True, head=sha, checked_at=now)
            head = Head(remote.name, Answer.HEAD, sha, last=before.head)
        if seen.error != before.error:
            log.warning("%s", seen.error or f"{remote.name} answers again")
        self._seen[remote.name] = seen
        return head


def recall(journal: Journal, names: Sequence[str]) -> dict[str, Seen]:
    """What the journal remembers of the remotes called ``names``."""
    return _parse(journal.get(_KEY) or {}, names)


def last_answers(journal: Journal, names: Sequence[str], runtime_dir: Path) -> dict[str, Seen]:
    """The same with the time of asking, if the agent has run since the machine started."""
    try:
        return _parse(json.loads((runtime_dir / _FILE).read_text()), names)
    except (OSError, ValueError):
        return recall(journal, names)


def _parse(stored: Mapping[str, Mapping[str, Any]], names: Sequence[str]) -> dict[str, Seen]:
    return {
        name: Seen(**{**stored[name], "relation": Relation(stored[name]["relation"])})
        if name in stored
        else Seen(name)
        for name in names
    }
