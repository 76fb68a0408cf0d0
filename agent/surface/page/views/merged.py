"""The histories of many hosts as one, the newest first.

Each host numbers its actions itself. So where a page ends is told for each host: ``nas:12,media:7``
are the numbers below which the next page goes on. Nothing is left out then, and nothing is twice,
even of one that did not answer meanwhile.
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from itertools import islice

from msgspec.structs import replace

from agent.surface.page.views.actions import Line

_PLACE = re.compile(r"([A-Za-z0-9._-]{1,253}):([0-9]{1,18})")


def merged(
    lists: Mapping[str, Sequence[Line]], before: Mapping[str, int], limit: int
) -> tuple[tuple[Line, ...], str | None]:
    """The newest ``limit`` of all, each with its host; where the next page begins, or None.

    Each list begins below the number of its host in ``before``, and has one line more than
    ``limit``, if there are so many.
    """
    named = [[replace(line, host=name) for line in lines] for name, lines in lists.items()]
    found = tuple(islice(heapq.merge(*named, key=_moment, reverse=True), limit))
    if sum(map(len, named)) <= limit:
        return found, None
    ends = dict(before) | {line.host: line.id for line in found}
    return found, ",".join(f"{name}:{number}" for name, number in ends.items() if number)


def places(written: str, names: Collection[str]) -> dict[str, int]:
    """For each of these hosts below which number its part of a page begins; 0: at its newest.

    Raises :class:`ValueError`. A host that is not known any more is left out.
    """
    found = dict.fromkeys(names, 0)
    for part in filter(None, written.split(",")):
        place = _PLACE.fullmatch(part)
        if not place:
            raise ValueError(f"{part[:40]!r} is no host with the number of an action")
        if place[1] in found:
            found[place[1]] = int(place[2])
    return found


def _moment(line: Line) -> datetime:
    return datetime.fromisoformat(line.at)
