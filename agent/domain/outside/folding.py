"""Many happenings, few messages: what was sent to one target, and what is to be sent next.

    take    ─▶ an action that has ended              ┐
    observe ─▶ what is wrong at the end of a cycle   ├▶ Memory: troubles, pending happenings
    tick    ─▶ a trouble has lasted, or is over      ┘       │
                                                     load ─▶ one Batch: one message

- A trouble is one message when it begins and one when it has ended. The same trouble again, however
  often it is tried, is none. One that flaps has ended after it was absent for longer each time.
- Happenings of one kind that come together are one message: each kind waits a little for more,
  successes for the end of the cycle. After a few messages in a row the next of that kind waits,
  twice as long each time while more keeps coming.
- What waits is bounded: the first of each kind in full, of the others how many.

Times are seconds of a clock that never goes back; nothing here reads one. A memory is kept by its
owner, so that a restart repeats nothing and loses nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TypeVar

from msgspec import Struct
from msgspec.structs import replace

from agent.domain.backoff import Backoff
from agent.domain.outside.happenings import Happening, held
from agent.domain.outside_config import Kind

MOST_ITEMS = 20
"""Happenings that one message describes; of further ones it says how many."""
MOST_OPEN = 500
"""Troubles remembered at a time; further ones are sent when some of these have ended."""
PATIENCE_S = 30.0
"""Seconds that a trouble of a remote, of health or of a cycle must last before it is sent."""
SETTLE_S = 30.0
"""Seconds without it before its recovery is sent; doubled after each relapse."""
RELAPSE_S = 3600.0
"""Seconds after its end within which the same trouble counts as a relapse."""
GAP_S = 10.0
"""Between two messages of one kind, after the first ones in a row."""
_SETTLE_MOST_S, _GAP_MOST_S = 1800.0, 300.0
ROW_S = 60.0
"""What follows the last message of its kind sooner is in a row with it."""

_WAITS: Mapping[Kind, tuple[float, float]] = {Kind.EVICTED: (3.0, 30.0)}
"""For so many seconds without another one, but no longer than that after the first."""
_AT_ONCE: Mapping[Kind, int] = {Kind.EVICTED: 1}
_USUALLY_AT_ONCE = 5
"""Messages in a row without a gap: who pushes one mistake after the other hears of each."""
_ENDS = {Kind.DEPLOYED, Kind.RECOVERED, Kind.REMOTE_BACK}
_SHORT = (0.2, 1.0)
_URGENT = (
    Kind.FAILED, Kind.ROLLED_BACK, Kind.HELD, Kind.REMOTE_DOWN, Kind.EVICTED, Kind.DEPLOYED,
    Kind.RECOVERED, Kind.REMOTE_BACK,
)  # fmt: skip

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


class Item(Struct, frozen=True):
    """A happening, and how often."""

    happening: Happening
    times: int = 1


class Pending(Struct, frozen=True, kw_only=True):
    """Happenings of one kind that wait: the first ones, and how many more there are.

    ``whole``: the cycle that they belong to has ended.
    """

    first: float
    last: float
    items: tuple[Item, ...] = ()
    more: int = 0
    whole: bool = False


class Batch(Struct, frozen=True, kw_only=True):
    """What one message tells. ``tries`` is how often it was sent in vain."""

    kind: Kind
    items: tuple[Item, ...]
    more: int = 0
    tries: int = 0

    @property
    def count(self) -> int:
        """How many happenings there are."""
        return sum(item.times for item in self.items) + self.more


class Open(Struct, frozen=True, kw_only=True):
    """A trouble: when it was first seen, whether it was sent (``told``), since when it is ``fine``.

    ``closed``: its recovery was sent; it is kept for ``RELAPSE_S`` to recognise a relapse.
    """

    happening: Happening
    since: float
    told: bool = False
    fine: float | None = None
    relapses: int = 0
    closed: bool = False


class Pace(Struct, frozen=True):
    """When the last message of a kind was made, and how many followed each other closely."""

    at: float
    row: int


class Memory(Struct, frozen=True, kw_only=True):
    """All that is known of one target. ``seq`` is the last event that was taken, ``at`` when it
    was kept last.
    """

    seq: int
    at: float = 0.0
    open: Mapping[str, Open] = {}
    pending: Mapping[Kind, Pending] = {}
    paces: Mapping[Kind, Pace] = {}
    outbox: Batch | None = None


def take(memory: Memory, happening: Happening, kinds: Collection[Kind], now: float) -> Memory:
    """Something was done."""
    if happening.kind in {Kind.FAILED, Kind.ROLLED_BACK}:
        return _trouble(memory, happening, kinds, now)
    if happening.kind is Kind.DEPLOYED and happening.kind in kinds:
        ended = (happening.key, held(happening.key))
        known = [memory.open[key] for key in ended if key in memory.open]
        if any(each.told and not each.closed for each in known):
            happening = replace(happening, said=f"{happening.said}; {_OVER}")
        memory = replace(memory, open=_without(memory.open, *ended))
    return _add(memory, happening, kinds, now)


_OVER = "it is no longer in trouble"


def _trouble(memory: Memory, found: Happening, kinds: Collection[Kind], now: float) -> Memory:
    """An action that failed: sent, unless the same failure was sent already."""
    known = memory.open.get(found.key)
    if known and known.told and not known.closed and _same(known.happening, found):
        if known.fine is not None:
            known = replace(known, fine=None, relapses=known.relapses + 1)
        return replace(memory, open={**memory.open, found.key: known})
    relapses = _relapses(known, now)
    opened = Open(happening=found, since=now, told=True, relapses=relapses)
    memory = replace(memory, open=_bounded({**memory.open, found.key: opened}))
    if found.kind is Kind.ROLLED_BACK and found.kind in kinds:
        memory = _withdraw(memory, found.key)  # one message for both
    return _add(memory, found, kinds, now)


def _same(known: Happening, found: Happening) -> bool:
    """Whether it is the same input, and nothing better or worse came of it."""
    return known.version == found.version and (
        known.kind == found.kind or (known.kind, found.kind) == (Kind.ROLLED_BACK, Kind.FAILED)
    )


def _withdraw(memory: Memory, key: str) -> Memory:
    """Take back a failure of this key that was not sent yet: that of the rollback says why."""
    waiting = memory.pending.get(Kind.FAILED)
    if waiting is None or waiting.more:
        return memory
    left = tuple(item for item in waiting.items if item.happening.key != key)
    pending = _without(memory.pending, Kind.FAILED)
    if left:
        pending = {**pending, Kind.FAILED: replace(waiting, items=left)}
    return replace(memory, pending=pending)


def observe(
    memory: Memory,
    troubles: Mapping[str, Happening],
    kinds: Collection[Kind],
    now: float,
    *,
    unknown: Collection[str] | None = (),
) -> Memory:
    """A cycle has ended, with these troubles by key.

    Of ``unknown`` keys nothing follows; None: of none but remotes, because nobody could look.
    """
    found = dict(memory.open)
    for key, happening in troubles.items():
        known = found.get(key)
        if known is None or known.closed:
            if known is not None or len(found) < MOST_OPEN:
                found[key] = Open(happening=happening, since=now, relapses=_relapses(known, now))
        elif known.fine is not None:
            found[key] = replace(known, fine=None, relapses=known.relapses + 1)
    for key, known in memory.open.items():
        remote = known.happening.kind is Kind.REMOTE_DOWN
        looked = remote if unknown is None else key not in unknown
        if key in troubles or known.closed:
            continue
        if not known.told:
            del found[key]  # it has passed, or is found again
        elif not looked:
            found[key] = replace(known, fine=None)  # nor has it been fine for any time
        elif known.fine is None:
            found[key] = replace(known, fine=now)
    pending = memory.pending
    if waiting := pending.get(Kind.DEPLOYED):
        pending = {**pending, Kind.DEPLOYED: replace(waiting, whole=True)}
    return tick(replace(memory, open=found, pending=pending), kinds, now)


def tick(memory: Memory, kinds: Collection[Kind], now: float) -> Memory:
    """Time has passed: queue troubles, and recoveries, that have lasted long enough."""
    for key, known in memory.open.items():
        if known.closed:
            if now - (known.fine or 0.0) > RELAPSE_S:
                memory = replace(memory, open=_without(memory.open, key))
        elif not known.told and now >= known.since + _patience(known):
            memory = replace(memory, open={**memory.open, key: replace(known, told=True)})
            memory = _add(memory, known.happening, kinds, now)
        elif known.fine is not None and now >= known.fine + _settle(known):
            over = replace(known, closed=True, fine=now)
            memory = replace(memory, open={**memory.open, key: over})
            memory = _add(memory, _recovered(known.happening), kinds, now)
    return memory


def _patience(known: Open) -> float:
    return PATIENCE_S if known.happening.passing else 0.0


def _settle(known: Open) -> float:
    return Backoff(first_s=SETTLE_S, longest_s=_SETTLE_MOST_S).wait_s(known.relapses + 1)


def _relapses(known: Open | None, now: float) -> int:
    """How often it has come again; one that was over for long begins anew."""
    if known is None or (known.closed and now - (known.fine or 0.0) > RELAPSE_S):
        return 0
    return known.relapses + 1 if known.closed else known.relapses


def _recovered(trouble: Happening) -> Happening:
    remote = trouble.kind is Kind.REMOTE_DOWN
    return Happening(
        kind=Kind.REMOTE_BACK if remote else Kind.RECOVERED,
        subject=trouble.subject,
        said="answers again" if remote else f"recovered: {_OVER}",
        cause=f"before: it {trouble.said}",
        commit=None if remote else trouble.commit,
        key=trouble.key,
    )


def due_at(memory: Memory) -> float | None:
    """When something follows from time alone: :func:`tick` and :func:`load` have work then."""
    times = [
        known.fine + _settle(known)
        for known in memory.open.values()
        if known.fine is not None and not known.closed
    ]
    times += [known.since + _patience(known) for known in memory.open.values() if not known.told]
    if memory.outbox is None:
        times += [at for kind in memory.pending if (at := _ready_at(memory, kind)) is not None]
    return min(times, default=None)


def _ready_at(memory: Memory, kind: Kind) -> float | None:
    """From when on a message of this kind can be made; None: it waits for the end of a cycle."""
    waiting, pace = memory.pending[kind], memory.paces.get(kind)
    if kind is Kind.DEPLOYED and not waiting.whole:
        return None
    quiet, longest = _WAITS.get(kind, _SHORT)
    at = waiting.first if waiting.whole else min(waiting.last + quiet, waiting.first + longest)
    at = max(at, pace.at + _gap(kind, pace)) if pace else at
    if kind not in _ENDS:
        return at
    begun = [_ready_at(memory, other) for other in memory.pending if other not in _ENDS]
    return max([at, *filter(None, begun)])  # no recovery before its trouble


def _gap(kind: Kind, pace: Pace) -> float:
    further = pace.row - _AT_ONCE.get(kind, _USUALLY_AT_ONCE) + 1
    return Backoff(first_s=GAP_S, longest_s=_GAP_MOST_S).wait_s(further) if further > 0 else 0.0


def load(memory: Memory, now: float) -> Memory:
    """Put the most urgent message that can be made into an empty outbox."""
    if memory.outbox is not None:
        return memory
    for kind in _URGENT:
        if kind not in memory.pending:
            continue
        at = _ready_at(memory, kind)
        if at is not None and now >= at:
            waiting, pace = memory.pending[kind], memory.paces.get(kind)
            close = pace is not None and now - pace.at < max(ROW_S, 4 * _gap(kind, pace))
            row = pace.row + 1 if pace and close else 1
            return replace(
                memory,
                outbox=Batch(kind=kind, items=waiting.items, more=waiting.more),
                pending=_without(memory.pending, kind),
                paces={**memory.paces, kind: Pace(now, row)},
            )
    return memory


def _add(memory: Memory, found: Happening, kinds: Collection[Kind], now: float) -> Memory:
    """Queue it, if this target has subscribed to its kind."""
    if found.kind not in kinds:
        return memory
    waiting = memory.pending.get(found.kind) or Pending(first=now, last=now)
    items = list(waiting.items)
    alike = (found.subject, found.said)
    for i, item in enumerate(items):
        if (item.happening.subject, item.happening.said) == alike:
            items[i] = Item(found, item.times + 1)
            break
    else:
        if len(items) < MOST_ITEMS:
            items.append(Item(found))
        else:
            waiting = replace(waiting, more=waiting.more + 1)
    waiting = replace(waiting, items=tuple(items), last=now, whole=False)
    return replace(memory, pending={**memory.pending, found.kind: waiting})


def _bounded(found: dict[str, Open]) -> dict[str, Open]:
    """Without the first that were over, then without the first, when there are too many."""
    while len(found) > MOST_OPEN:
        del found[next((key for key, known in found.items() if known.closed), next(iter(found)))]
    return found


def _without(mapping: Mapping[_Key, _Value], *keys: _Key) -> dict[_Key, _Value]:
    return {each: value for each, value in mapping.items() if each not in keys}
