"""What a bench has found out, and the table that shows it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

HEADINGS = ("figure", "measured", "against", "ratio", "goal", "met")
_WIDEST = 64
_WORDS = {True: "met", False: "not met", None: ""}


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One row. `against` is what the same work costs otherwise; `met` None: there is no goal.

    `numbers` are for programs: every run's value by a name that ends with its unit.
    """

    what: str
    measured: str
    against: str = ""
    ratio: str = ""
    goal: str = ""
    met: bool | None = None
    numbers: Mapping[str, Sequence[float]] = field(default_factory=dict)

    @property
    def cells(self) -> tuple[str, ...]:
        """As the table shows it, in the order of its headings."""
        return (
            self.what, self.measured, self.against, self.ratio, self.goal, _WORDS[self.met]
        )  # fmt: skip


def one_in(factor: float) -> str:
    """How a ratio is written: the part of the other one's cost."""
    return f"1/{factor:.1f}"


def load() -> str:
    """How busy the machine was in the last minute; a busy one makes figures worse."""
    return f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"


def table(figures: Sequence[Figure]) -> str:
    """The rows under their headings, in columns as wide as they have to be.

    What is longer than a column gets pushes the rest of its own row.
    """
    rows = [HEADINGS, *(each.cells for each in figures)]
    columns = [[len(cell) for cell in column] for column in zip(*rows, strict=True)]
    widths = [max(length for length in each if length <= _WIDEST) for each in columns]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    return "\n".join([lines[0], "-" * (sum(widths) + 2 * len(widths)), *lines[1:]])
