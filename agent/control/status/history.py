"""What was done on this host: looked up, and followed as it happens."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from typing import Any

from msgspec.structs import asdict

from agent.adapters.state.database import iso
from agent.adapters.state.journal import Journal, open_journal
from agent.control.source import remote_status
from agent.control.status import names
from agent.control.status.status import list_containers
from agent.domain.config import Config, duration
from agent.domain.errors import ConfigError, did_you_mean
from agent.domain.outcome import Action

Document = Mapping[str, Any]
"""One action as ``history --json`` shows it."""

MOST_AT_ONCE = 1000
"""Actions that the agent hands out, who has other things to do."""
_ALL = 1_000_000
_LOOK_S = 1.0


def outages(config: Config) -> list[dict[str, Any]]:
    """When remotes did not answer for a minute or more, the oldest first. Blocks."""
    with closing(open_journal(config)) as journal:
        return [asdict(each) for each in remote_status.last_outages(journal)]


def moment(text: str) -> datetime:
    """A time (ISO 8601), or how long ago (``2h``), in UTC. Raises :class:`ValueError`."""
    with suppress(ValueError, OverflowError):
        return datetime.now(UTC) - timedelta(seconds=duration(text))
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        message = f"{text!r} is neither how long ago (2h) nor a date (2026-01-31)"
        raise ValueError(message) from None


class History:
    """Actions with ``subject``, of some kinds, in some time and for some commit; of all without.

    Raises :class:`ConfigError` for a subject that nothing on this host is called: an empty answer
    to a mistyped name would say that nothing was done. Blocks.
    """

    def __init__(
        self,
        config: Config,
        *,
        subject: str | None,
        actions: Collection[Action],
        since: datetime | None,
        until: datetime | None,
        commit: str,
    ) -> None:
        self._journal = open_journal(config)
        if subject:
            _refuse_unknown(subject, config, self._journal)
        self._wanted: dict[str, Any] = {
            "subject": subject,
            "actions": actions,
            "since": since and iso(since),
            "until": until and iso(until),
            "commit": commit,
        }

    def newest(self, limit: int) -> list[Document]:
        """The newest first."""
        return [each.as_json() for each in self._journal.history(limit=limit, **self._wanted)]

    def follow(self, begun: Iterable[Document]) -> Iterator[Document]:
        """Those that have ``begun``, oldest first, then each new one, and each that has ended.

        For ever; waits between two looks.
        """
        new, going_on = sorted(begun, key=lambda each: int(each["id"])), set[int]()
        last = 0 if new else max((each.id for each in self._journal.history(limit=1)), default=0)
        while True:
            for each in new:
                yield each
                last = max(last, each["id"])
                going_on.discard(each["id"])
                if each["status"] == "running":
                    going_on.add(each["id"])
            time.sleep(_LOOK_S)
            ended = [each for each in self._journal.entries(going_on) if each.status != "running"]
            later = self._journal.history(limit=_ALL, after=last, **self._wanted)
            new = [each.as_json() for each in (*ended, *reversed(later))]


def _refuse_unknown(name: str, config: Config, journal: Journal) -> None:
    known = {config.host, *names.subjects(journal)}
    if name in known or journal.history(subject=name, limit=1):
        return
    found = list_containers(config) or ()
    if name not in {word for c in found for word in (c.name, c.project)}:
        raise ConfigError(
            f"nothing on this host is called {name!r}",
            hint=did_you_mean(name, known, "commitd status lists what runs here"),
        )
