"""Many happenings, few messages: none is lost, none is told twice."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from agent.domain.outside import folding
from agent.domain.outside.folding import Batch, Memory
from agent.domain.outside.happenings import Happening, held
from agent.domain.outside_config import Kind

ALL = tuple(Kind)


def deployed(name: str) -> Happening:
    return Happening(kind=Kind.DEPLOYED, subject=name, said="deployed", key=name)


def evicted(name: str) -> Happening:
    return Happening(kind=Kind.EVICTED, subject=name, said="was removed")


def failed(name: str, version: str = "d1", kind: Kind = Kind.FAILED) -> Happening:
    return Happening(kind=kind, subject=name, said="failed", key=name, version=version)


def unhealthy(name: str) -> Happening:
    return Happening(
        kind=Kind.FAILED, subject=name, said="is not healthy", key=name, version="d1", passing=True
    )


def down(name: str) -> Happening:
    return Happening(
        kind=Kind.REMOTE_DOWN, subject=name, said="is down", key=f"remote {name}", passing=True
    )


class Target:
    """One that takes each message at once, kept and read again after each step."""

    def __init__(self, kinds: Iterable[Kind] = ALL) -> None:
        self.memory = Memory(seq=0)
        self.kinds = tuple(kinds)
        self.now = 1000.0
        self.told: list[Batch] = []

    def take(self, *happened: Happening) -> None:
        for each in happened:
            self._keep(folding.take(self.memory, each, self.kinds, self.now))
        self._send()

    def cycle(self, *troubles: Happening, unknown: Iterable[str] | None = ()) -> None:
        found = {each.key: each for each in troubles}
        skipped = None if unknown is None else tuple(unknown)
        self._keep(folding.observe(self.memory, found, self.kinds, self.now, unknown=skipped))
        self._send()

    def wait(self, seconds: float) -> None:
        """Each moment at which something is due on the way."""
        end = self.now + seconds
        while (due := folding.due_at(self.memory)) is not None and due <= end:
            self.now = max(self.now, due) + 0.001
            self._keep(folding.tick(self.memory, self.kinds, self.now))
            self._send()
        self.now = end

    def lines(self) -> list[str]:
        return [f"{batch.kind.value} {batch.count}" for batch in self.told]

    def _send(self) -> None:
        while (loaded := folding.load(self.memory, self.now)).outbox is not None:
            self.told.append(loaded.outbox)
            self._keep(replace(loaded, outbox=None))

    def _keep(self, memory: Memory) -> None:
        kept = msgspec.json.decode(msgspec.json.encode(msgspec.to_builtins(memory)))
        self.memory = msgspec.convert(kept, Memory)
        assert self.memory == memory


def test_the_successes_of_a_cycle_are_one_message_when_it_has_ended() -> None:
    target = Target()
    target.take(deployed("web"), deployed("db"))
    target.wait(100)
    assert target.told == []
    target.take(deployed("dns"))
    target.cycle()
    assert target.lines() == ["deployed 3"]


def test_a_failure_is_told_at_once_and_however_often_it_is_tried_once() -> None:
    target = Target()
    for _ in range(50):
        target.take(failed("web"))
        target.cycle(failed("web"))
        target.wait(5)
    assert target.lines() == ["failed 1"]


def test_one_mistake_after_the_other_is_told_at_once() -> None:
    target = Target()
    for number in range(5):
        target.take(failed("web", f"d{number}"))
        target.wait(1)
        assert len(target.told) == number + 1


def test_the_failure_of_another_input_is_another_one() -> None:
    target = Target()
    target.take(failed("web", "d1"))
    target.wait(60)
    target.take(failed("web", "d2"))
    target.wait(60)
    assert target.lines() == ["failed 1", "failed 1"]


def test_a_rollback_is_told_with_its_failure_or_after_it() -> None:
    target = Target()
    target.take(failed("web"), failed("web", kind=Kind.ROLLED_BACK))
    target.cycle(failed("web"))
    target.wait(600)
    target.take(failed("db"))
    target.wait(5)
    target.take(failed("db", kind=Kind.ROLLED_BACK))
    target.cycle(failed("web"), failed("db"))
    target.wait(600)
    assert target.lines() == ["rolled-back 1", "failed 1", "rolled-back 1"]


def test_a_stack_that_comes_and_goes_is_one_message_and_one_recovery() -> None:
    target = Target()
    for _ in range(20):
        target.take(failed("web"))
        target.cycle(failed("web"))
        target.wait(10)
        target.cycle()
        target.wait(10)
    target.cycle()
    target.wait(3600)
    assert target.lines() == ["failed 1", "recovered 1"]


def test_one_that_comes_and_goes_for_a_day_is_told_less_and_less() -> None:
    target = Target()
    for _ in range(24 * 30):
        target.take(failed("web"))
        target.cycle(failed("web"))
        target.wait(60)
        target.cycle()
        target.wait(60)
    assert len(target.told) < 16


def test_what_passes_in_a_moment_is_not_told() -> None:
    target = Target()
    target.cycle(down("gitea"), unhealthy("web"))
    target.wait(10)
    target.cycle()
    target.wait(3600)
    assert target.told == []
    target.cycle(down("gitea"))
    target.wait(31)
    target.cycle(down("gitea"))
    target.wait(60)
    target.cycle()
    target.wait(60)
    assert target.lines() == ["remote-down 1", "remote-back 1"]


def test_a_storm_is_one_message_with_its_count() -> None:
    target = Target()
    for number in range(100):
        target.take(evicted(f"rogue-{number}"))
        target.wait(0.1)
    target.wait(60)
    assert target.lines() == ["evicted 100"]
    [batch] = target.told
    assert (len(batch.items), batch.more) == (20, 80)


def test_a_deployment_ends_a_trouble_and_says_so() -> None:
    target = Target()
    target.take(failed("web"))
    target.wait(60)
    target.take(deployed("web"))
    target.cycle()
    target.wait(3600)
    assert target.lines() == ["failed 1", "deployed 1"]
    assert target.told[-1].items[0].happening.said == "deployed; it is no longer in trouble"


def test_what_a_person_has_agreed_to_is_told_with_what_came_of_it() -> None:
    target = Target()
    waiting = Happening(kind=Kind.HELD, subject="web", said="waits", key=held("web"))
    target.cycle(waiting)
    target.wait(60)
    target.take(deployed("web"))
    target.cycle()
    target.wait(3600)
    assert target.lines() == ["held 1", "deployed 1"]


def test_who_hears_of_no_deployment_hears_of_the_recovery() -> None:
    target = Target([Kind.FAILED, Kind.RECOVERED])
    target.take(failed("web"))
    target.wait(60)
    target.take(deployed("web"))
    target.cycle()
    target.wait(3600)
    assert target.lines() == ["failed 1", "recovered 1"]


@pytest.mark.parametrize("unknown", [("web",), None])
def test_what_nobody_could_look_at_has_not_recovered(unknown: tuple[str, ...] | None) -> None:
    target = Target()
    target.take(failed("web"))
    target.cycle(unknown=unknown)
    target.wait(3600)
    assert target.lines() == ["failed 1"]


def test_while_a_service_takes_nothing_what_happens_is_gathered() -> None:
    target = Target()
    stuck = replace(target.memory, outbox=Batch(kind=Kind.EVICTED, items=()))
    for number in range(1000):
        stuck = folding.take(stuck, evicted(f"rogue-{number}"), ALL, 1000 + number)
    assert folding.due_at(stuck) is None
    assert folding.load(stuck, 9999) == stuck
    assert len(msgspec.json.encode(stuck)) < 10_000
    target.memory, target.now = replace(stuck, outbox=None), 9999.0
    target.take()
    assert target.lines() == ["evicted 1000"]


NAMES = st.sampled_from(["web", "db", "dns"])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("deployed"), NAMES),
        st.tuples(st.just("evicted"), NAMES),
        st.tuples(st.just("failed"), NAMES),
        st.tuples(st.just("rolled-back"), NAMES),
        st.tuples(st.just("cycle"), st.sets(NAMES)),
        st.tuples(st.just("wait"), st.floats(0, 2000)),
    ),
    max_size=60,
)


@given(STEPS)
def test_nothing_is_lost_nothing_is_told_twice(steps: list[tuple[str, object]]) -> None:
    target, done = Target(), Counter[Kind]()
    wrong: set[str] = set()
    for what, value in steps:
        match what, value:
            case "wait", float(seconds):
                target.wait(seconds)
            case "cycle", set(names):
                wrong = names
                target.cycle(*map(unhealthy, names))
            case "deployed" | "evicted", str(name):
                done[Kind(what)] += 1
                target.take(deployed(name) if what == "deployed" else evicted(name))
            case _, name:
                target.take(failed(str(name), kind=Kind(what)))
    for _ in range(20):  # until all is told that is to be told
        target.cycle(*map(unhealthy, wrong))
        target.wait(1800)
    told = Counter[Kind]()
    for batch in target.told:
        told[batch.kind] += batch.count
    assert {kind: told[kind] for kind in (Kind.DEPLOYED, Kind.EVICTED)} == {
        kind: done[kind] for kind in (Kind.DEPLOYED, Kind.EVICTED)
    }
    assert target.memory.pending == {}
    assert target.memory.outbox is None
    for name in ("web", "db", "dns"):
        story = [
            -1 if batch.kind in {Kind.RECOVERED, Kind.DEPLOYED} else 1
            for batch in target.told
            for item in batch.items
            for _ in range(item.times)
            if item.happening.subject == name and _tells_of_trouble(item.happening)
        ]
        assert (story[-1:] == [1]) == (name in wrong)
        # No end is told that had no beginning.
        assert all(count >= 0 for count in itertools.accumulate(story))


def _tells_of_trouble(happening: Happening) -> bool:
    return happening.kind is not Kind.EVICTED and happening.said != "deployed"


@given(st.lists(st.sampled_from(["failed", "fine", "evicted", "deployed"]), max_size=400))
def test_messages_are_bounded_by_time_whatever_happens(steps: list[str]) -> None:
    target = Target()
    for what in steps:
        if what == "evicted":
            target.take(evicted("rogue"))
        elif what == "deployed":
            target.take(deployed("web"))
            target.cycle()
        elif what == "failed":
            target.take(failed("db"))
            target.cycle(failed("db"))
        else:
            target.cycle()
        target.wait(1)
    longest = Counter(batch.kind for batch in target.told)
    # Five at once, then 10, 20, 40, 80, 160, 300 s later.
    assert all(count <= 11 for count in longest.values())
