"""The time by which all in the journal ends that ends by itself: see :mod:`agent.domain.clock`.

How the clocks went is one value in the journal. Between two boots every process that reads it
counts the same time; the agent notes it at its start, in each cycle that finds a leap, and now and
then.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from msgspec.structs import asdict

from agent.adapters.state.database import Database, kept_as
from agent.domain.clock import Course, Reading

_COURSE = "clock"
_KEEP_S = 600.0
"""As much time may be forgotten when the machine boots."""


def both_clocks() -> Reading:
    """What the machine says now."""
    return Reading(time.time(), time.clock_gettime(time.CLOCK_BOOTTIME))


class PassingTime(Database):
    """The part of the journal that tells the time."""

    def __init__(
        self,
        path: Path,
        *,
        read_only: bool = False,
        upgrade: bool = True,
        begin: bool = True,
        clocks: Callable[[], Reading] = both_clocks,
    ) -> None:
        """As :class:`Database` does."""
        super().__init__(path, read_only=read_only, upgrade=upgrade, begin=begin)
        self._clocks = clocks
        try:
            self._course = self._kept()
            if not read_only:
                self.note_time()
        except (TypeError, ValueError) as err:
            self.close()
            raise self.damaged(err) from None
        except BaseException:
            self.close()
            raise

    def now(self) -> float:
        """Seconds; as those since the epoch on a machine that is never off or set."""
        return self._course.at(self._clocks())

    def shown(self, ran: float) -> float:
        """What the wall clock says at that time, in seconds since the epoch."""
        return self._course.shown(ran)

    def unsettled(self) -> str | None:
        """Why nothing that cannot be undone is done now for a time that is over, or None."""
        return self._course.unsettled(self._clocks())

    def note_time(self) -> None:
        """Notice a boot and a leap of the clock; for whoever writes, from time to time."""
        kept, self._course = self._kept(), self._course.noted(self._clocks())
        noticed = self._course.boot < kept.boot or self._course.leapt != kept.leapt
        if noticed or self._course.ran - kept.ran >= _KEEP_S or self.get(_COURSE) is None:
            self.put(_COURSE, asdict(self._course))

    def _kept(self) -> Course:
        kept = self.get(_COURSE)
        return kept_as(Course, kept) if kept else Course.begin(self._clocks())
