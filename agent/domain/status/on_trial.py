"""A version of the agent on trial, as people and programs are told of it."""

from __future__ import annotations

from datetime import datetime, timedelta

from msgspec import Struct


class OnTrial(Struct, frozen=True, kw_only=True):
    """``until`` (ISO 8601) is when ``previous`` comes back if no cycle of ``version`` is clean by
    then, and later by the time in which the engine or the remotes do not answer; None: ``version``
    has not begun to work, or does not say when.
    """

    version: str
    previous: str
    until: str | None

    @property
    def line(self) -> str:
        """For people; with the time as it is in ``until``."""
        said = f"version {self.version} of the agent is on trial"
        if self.until is None:
            return f"{said}: {self.previous} comes back unless a cycle is clean"
        return (
            f"{said} until {self.until}: {self.previous} comes back unless a cycle is clean by then"
            " (later while Docker or the remotes do not answer)"
        )


def until(ready: str | None, lasts_s: float) -> str | None:
    """The end of a trial whose version was ``ready`` to work then; None where that is no time."""
    try:
        at = datetime.fromisoformat(ready or "")
    except ValueError:
        return None
    end = at + timedelta(seconds=lasts_s)
    return end.isoformat(timespec="milliseconds").replace("+00:00", "Z")
