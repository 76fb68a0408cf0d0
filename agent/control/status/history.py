"""What was done on this host: looked up, and followed as it happens."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from typing import Any

from msgspec import Struct
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
"""One action as ``history --json`` shows it; of an event also its ``phase``."""

MOST_AT_ONCE = 1000
"""Actions that the agent hands out with one answer, who has other things to do."""
_EVENTS = 1000


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


class Wanted(Struct, frozen=True, kw_only=True):
    """Actions with ``subject``, of some kinds, in some time and for some commit; without, all."""

    subject: str | None = None
    actions: Sequence[Action] = ()
    since: datetime | None = None
    until: datetime | None = None
    commit: str = ""

    def matches(self, entry: Document) -> bool:
        """Whether the action is one of them."""
        return (
            (not self.subject or entry["subject"] == self.subject)
            and (not self.actions or entry["action"] in self.actions)
            and (self.since is None or entry["at"] >= iso(self.since))
            and (self.until is None or entry["at"] < iso(self.until))
            and str(entry["revision"] or "").startswith(self.commit)
        )


def newest(config: Config, wanted: Wanted, limit: int, before: int = 0) -> list[Document]:
    """The newest first, of those whose number is below ``before`` (0: of all).

    Raises :class:`ConfigError` for a subject that nothing on this host is called: an empty answer
    to a mistyped name would say that nothing was done. Blocks.
    """
    with closing(open_journal(config)) as journal:
        if wanted.subject:
            _refuse_unknown(wanted.subject, config, journal)
        found = journal.history(
            limit=limit,
            before=before,
            subject=wanted.subject,
            actions=wanted.actions,
            since=iso(wanted.since) if wanted.since else None,
            until=iso(wanted.until) if wanted.until else None,
            commit=wanted.commit,
        )
    return [each.as_json() for each in found]


def events(config: Config, after: int | None) -> tuple[int, list[Document]]:
    """The next events after number ``after``, oldest first; without, none, but where they begin.

    With the number of the last one. Blocks.
    """
    with closing(open_journal(config)) as journal:
        if after is None:
            return journal.newest_event(), []
        found = journal.events(after=after, limit=_EVENTS)
    return (found[-1].seq if found else after), [event.as_json() for event in found]


class Following:
    """What is shown of events that come in batches, after ``begun`` (newest first) was shown.

    Each action as it begins, and again as it has ended; only that of one that was over before
    anybody could look.
    """

    def __init__(self, wanted: Wanted, begun: Iterable[Document]) -> None:
        self._wanted = wanted
        self._shown = {each["id"]: each["status"] != "running" for each in begun}
        """Whether each of these was over."""

    def news(self, batch: Sequence[Document]) -> Iterator[Document]:
        """The actions that are to be shown of it."""
        over = {event["id"] for event in batch if event["phase"] == "end"}
        for event in batch:
            number, ends = event["id"], event["phase"] == "end"
            told = self._shown.get(number, False) if ends else number in over | self._shown.keys()
            if not told and self._wanted.matches(event):
                yield {key: value for key, value in event.items() if key != "phase"}


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
