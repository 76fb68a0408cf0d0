"""How long to wait before the next try: longer after each failure in a row."""

from __future__ import annotations

import math

from msgspec import Struct

_MOST_DOUBLINGS = 64
"""More would exceed what a number holds; every wait is at its longest long before."""


class Backoff(Struct, frozen=True, kw_only=True):
    """In seconds: first ``first_s``, then ``factor`` times as long each time, up to ``longest_s``.

    A wait is up to ``jitter`` of itself longer or shorter, so that many do not try at once. What
    goes without a failure for longer than ``quiet_s`` begins anew.
    """

    first_s: float
    longest_s: float
    factor: float = 2.0
    jitter: float = 0.0
    quiet_s: float = math.inf

    def wait_s(self, failures: int, chance: float = 0.5) -> float:
        """After so many ``failures`` in a row, from 1; ``chance`` is random, from 0 to 1."""
        grown_s = self.first_s * self.factor ** min(failures - 1, _MOST_DOUBLINGS)
        return min(self.longest_s, grown_s) * (1 + self.jitter * (2 * chance - 1))

    def count(self, failures: int, quiet_s: float) -> int:
        """Failures in a row with one more, after ``quiet_s`` seconds without."""
        return 1 if quiet_s > self.quiet_s else failures + 1
