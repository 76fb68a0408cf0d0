"""What each remote said last, kept over restarts, and how it stands to the applied commit."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import anyio.to_thread

from agent.adapters.journal import Journal
from agent.domain.source import Answer, Head, Relation

log = logging.getLogger("commitd.remotes")

_KEY = "remotes"
_FILE = "remotes.json"


@dataclass(frozen=True, slots=True)
class Seen:
    """The last answer of one remote.

    ``head`` is the last one it showed, also while it is down; ``lag`` counts the commits of the
    applied line that it has not got (None: unknown); ``down_since`` is None while it answers.
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


class Remotes:
    """The remotes in order of preference.

    What they said goes to the journal when it changes, and with the time of asking to a file in
    the runtime directory each time: an idle agent writes to no disk.
    """

    def __init__(self, names: Sequence[str], journal: Journal, runtime_dir: Path) -> None:
        self._journal = journal
        self._file = runtime_dir / _FILE
        self._seen = recall(journal, names)
        self._asked: set[str] = set()
        self._unwritable = False

    def tell(
        self, name: str, answer: Answer, *, sha: str | None, error: str | None, at: str
    ) -> bool:
        """Take in one answer; whether it is news."""
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
        )
        if after.head != before.head:
            after = replace(after, relation=Relation.UNKNOWN, lag=None)
        self._seen[name] = after
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
                    Head(name, Answer.DOWN, error=f"{name}: not asked yet", last=seen.head)
                )
            elif seen.answer is Answer.HEAD:
                heads.append(Head(name, Answer.HEAD, seen.head, last=seen.head))
            else:
                heads.append(Head(name, seen.answer, error=seen.error, last=seen.head))
        return heads

    def shown(self) -> frozenset[str]:
        """The commits that remotes showed last."""
        return frozenset(seen.head for seen in self._seen.values() if seen.head)

    def all_asked(self) -> bool:
        """Whether every remote was heard, or found silent, since the start."""
        return self._asked == set(self._seen)

    def relate(self, name: str, relation: Relation, lag: int | None) -> None:
        """Note how the remote's head stands to the applied commit."""
        self._seen[name] = replace(self._seen[name], relation=relation, lag=lag)

    async def save(self) -> None:
        """Write down what was said."""
        await anyio.to_thread.run_sync(self._write)

    def _write(self) -> None:
        lasting = {n: asdict(replace(seen, checked_at=None)) for n, seen in self._seen.items()}
        self._journal.put(_KEY, lasting)
        temporary = self._file.with_suffix(".tmp")
        said = json.dumps({name: asdict(seen) for name, seen in self._seen.items()})
        try:
            temporary.write_text(said)
            temporary.rename(self._file)
        except OSError as err:  # only for people to look at: it never stops a deploy
            if not self._unwritable:
                log.warning("what the remotes said cannot be shown: %s", err)
            self._unwritable = True
        else:
            self._unwritable = False


def recall(journal: Journal, names: Sequence[str]) -> dict[str, Seen]:
    """What the journal remembers of the remotes called ``names``."""
    return _parse(journal.get(_KEY) or {}, names)


def last_answers(journal: Journal, names: Sequence[str], runtime_dir: Path) -> dict[str, Seen]:
    """The same with the time of asking, if the agent has run since the machine started."""
    try:
        return _parse(json.loads((runtime_dir / _FILE).read_text()), names)
    except (OSError, ValueError, LookupError, TypeError, AttributeError):  # or of another version
        return recall(journal, names)


def _parse(stored: Mapping[str, Mapping[str, Any]], names: Sequence[str]) -> dict[str, Seen]:
    found = {name: Seen(name) for name in names}
    for name in found.keys() & stored.keys():
        values = dict(stored[name])
        values["relation"] = Relation(values["relation"])
        answer = values.get("answer")  # an older agent's journal has none
        values["answer"] = Answer(answer) if answer else None
        found[name] = Seen(**values)
    return found
