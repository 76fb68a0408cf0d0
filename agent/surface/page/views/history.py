"""What was done, narrowed by who asks, under a picture of all of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from msgspec import Struct

from agent.surface.page.views import actions, timeline

PERIODS = (
    ("", "all that is remembered"),
    ("24h", "24 hours"),
    ("7d", "7 days"),
    ("30d", "30 days"),
)


class Asked(Struct, frozen=True, kw_only=True):
    """By what the list is narrowed; empty: by nothing."""

    subject: str = ""
    action: str = ""
    since: str = ""
    host: str = ""

    def query(self, before: int | str) -> str:
        """The same as parameters, for what was done before the action of that number.

        Of more than one host: as :func:`agent.surface.page.views.merged.places` has it.
        """
        said = {
            "host": self.host, "subject": self.subject, "action": self.action, "since": self.since
        }  # fmt: skip
        filled = {key: value.encode(errors="replace") for key, value in said.items() if value}
        return "?" + urlencode({**filled, "before": before}, safe=":,*")


class History(Struct, frozen=True, kw_only=True):
    """All that the page shows. ``host`` is whose history it is; empty: of all ``hosts``.

    ``blank`` is why there are no pictures, if there should be some;
    ``own`` is the host whose agent shows this, ``silent`` are hosts that did not answer, and why.
    ``older`` are the parameters of the next page; None: there is none. ``newest``: this is the
    first one. ``unpictured`` is until when (ISO 8601) nothing is in the pictures, because too much
    was done since; None: all of the month is.
    """

    host: str
    wanted: Asked
    stacks: tuple[str, ...]
    kinds: tuple[tuple[str, str], ...]
    periods: tuple[tuple[str, str], ...]
    lines: tuple[actions.Line, ...]
    older: str | None
    newest: bool
    pictures: tuple[timeline.Timeline, ...]
    unpictured: str | None
    own: str
    hosts: tuple[str, ...] = ()
    silent: tuple[tuple[str, str], ...] = ()
    blank: str | None = None


def history(
    host: str,
    wanted: Asked,
    *,
    found: Sequence[Mapping[str, Any]],
    full: bool,
    page: bool = False,
    month: Sequence[Mapping[str, Any]],
    outages: Sequence[Mapping[str, Any]],
    stacks: Iterable[str],
    full_month: bool = False,
    hosts: Iterable[str] = (),
    now: datetime,
) -> History:
    """The page of one host, with what was ``found`` and all of the last ``month`` for the pictures.

    ``full``: more was found than is shown; ``page``: what is newer is on another page;
    ``full_month``: more may have been done in the month.
    """
    return History(
        host=host,
        wanted=wanted,
        stacks=tuple(sorted(stacks)),
        kinds=actions.ACTIONS,
        periods=PERIODS,
        lines=tuple(map(actions.line, found)),
        older=wanted.query(found[-1]["id"]) if full else None,
        newest=not page,
        pictures=pictures(month, outages, now),
        unpictured=month[-1]["at"] if full_month and month else None,
        own=host,
        hosts=tuple(hosts),
    )


def pictures(
    month: Sequence[Mapping[str, Any]], outages: Sequence[Mapping[str, Any]], now: datetime
) -> tuple[timeline.Timeline, ...]:
    """Of all that was done in the last month."""
    return timeline.day(now, month, outages), timeline.month(now, month, outages)
