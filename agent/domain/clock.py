"""Time that has passed, for what ends by itself: keeping, suspensions, grants, what is remembered.

The wall clock can be wrong at boot, and somebody, or a time server, can set it by days. So what
ends is counted by the time that the machine has run (CLOCK_BOOTTIME, which nobody can set), added
up over its boots::

    ran  ────────┬── boot 1 ──┬── boot 2 ──────┬── …     never back, never by a leap
    wall ────────┴─────?──────┴───── -1 h ─────┴── +40 d

``ran`` begins as what the wall clock says when a journal is made, so that both are alike on a
machine that is never off. Time in which it is off does not count: nobody could have reacted.
While the two clocks have just parted, or the machine has just booted, what cannot be undone waits
all the same.
"""

from __future__ import annotations

from typing import Self

from msgspec import Struct
from msgspec.structs import replace

UNSETTLED_S = 300.0
"""For how long nothing that cannot be undone is done for a time that is over, in seconds."""
LEAP_S = 60.0
"""As much as the clocks part at once is no drift and no slewing."""
_SAME_S = 2.0
"""Less than this changes no time that is shown."""


class Reading(Struct, frozen=True):
    """Both clocks at one moment: ``wall`` in seconds since the epoch, ``boot`` since the boot."""

    wall: float
    boot: float


class Course(Struct, frozen=True, kw_only=True):
    """How the clocks have gone until they were last noted, at ``wall`` and ``boot``.

    ``ran`` was the time then. ``ahead`` is how far the wall clock is shown ahead of it. ``leapt``
    is the ``boot`` at which the clocks were last found to have parted; None: not since the boot.
    """

    ran: float
    wall: float
    boot: float
    ahead: float = 0.0
    leapt: float | None = None

    @classmethod
    def begin(cls, now: Reading) -> Self:
        """Of a machine of which nothing is known."""
        return cls(ran=now.wall, wall=now.wall, boot=now.boot)

    def at(self, now: Reading) -> float:
        """The time that has passed: never less than what was noted, and never too much.

        A boot that nobody has noted is only seen once the machine ran for less long than before;
        else some of its time is missing.
        """
        same_boot = now.boot >= self.boot
        return self.ran + (now.boot - self.boot if same_boot else now.boot)

    def leap(self, now: Reading) -> float:
        """By how much the wall clock has gone ahead of the other one since they were noted."""
        return (now.wall - self.wall) - (self.at(now) - self.ran)

    def noted(self, now: Reading) -> Self:
        """With what is known now. A boot is no leap: how long it was off nobody knows."""
        leapt = self.leapt
        if now.boot < self.boot:
            leapt = None
        elif abs(self.leap(now)) > LEAP_S:
            leapt = now.boot
        ran = self.at(now)
        ahead = now.wall - ran
        if abs(ahead - self.ahead) < _SAME_S:
            ahead = self.ahead
        return replace(self, ran=ran, wall=now.wall, boot=now.boot, ahead=ahead, leapt=leapt)

    def unsettled(self, now: Reading) -> str | None:
        """Why what cannot be undone waits, or None."""
        course = self.noted(now)
        if now.boot < UNSETTLED_S:
            return f"the machine was started {_span(now.boot)} ago"
        if course.leapt is not None and now.boot - course.leapt < UNSETTLED_S:
            return f"the clock was set {_span(now.boot - course.leapt)} ago"
        return None

    def shown(self, ran: float) -> float:
        """What the wall clock will say at that time, in seconds since the epoch."""
        return ran + self.ahead


def _span(seconds: float) -> str:
    return f"{seconds:.0f} s"
