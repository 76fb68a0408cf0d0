"""What ends by itself ends when its time has passed, whatever somebody sets the clock to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.adapters.state import schema
from agent.adapters.state.evictions import Evicted
from agent.adapters.state.journal import Journal
from agent.domain.clock import LEAP_S, UNSETTLED_S, Course, Reading
from agent.domain.outcome import Action, EvictionAction, Outcome, Reason, Status
from agent.domain.reconcile.exemptions import Suspension
from tests.values import replace

if TYPE_CHECKING:
    from pathlib import Path

DAY_S, HOUR_S = 86400.0, 3600.0
WALL, UP = 1_800_000_000.0, 50_000.0
"""A machine that has been on for a while."""
START = Course.begin(Reading(WALL, UP))


def later(s: float, *, set_by: float = 0.0) -> Reading:
    """So many seconds after the start, the clock having been set."""
    return Reading(WALL + s + set_by, UP + s)


# --- pure -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("set_by", [0.0, 40 * DAY_S, -40 * DAY_S, 3650 * DAY_S, -WALL])
def test_setting_the_clock_passes_no_time(set_by: float) -> None:
    assert START.at(later(10.0, set_by=set_by)) == WALL + 10.0
    noted = START.noted(later(10.0, set_by=set_by))
    assert noted.at(later(20.0, set_by=set_by)) == WALL + 20.0


def test_a_boot_goes_on_from_what_was_noted_and_counts_the_time_since() -> None:
    off = replace(START, ran=WALL + 5.0)
    assert off.at(Reading(WALL + 9 * DAY_S, 30.0)) == WALL + 35.0
    booted = off.noted(Reading(WALL + 9 * DAY_S, 30.0))
    assert booted.at(Reading(WALL + 9 * DAY_S, UP + 30.0)) == WALL + 35.0 + UP


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("run"), st.floats(0, 1e6)),
        st.tuples(st.just("set"), st.floats(-1e9, 1e9)),
        st.tuples(st.just("boot"), st.floats(0, 1e6)),
        st.tuples(st.just("note"), st.just(0.0)),
    ),
    max_size=12,
)


@given(STEPS)
def test_time_never_goes_back_and_never_passes_faster_than_the_machine_runs(
    steps: list[tuple[str, float]],
) -> None:
    """If every boot is noted, as an agent does when it starts; what was not is lost by a boot."""
    course, wall, boot, ran = START, WALL, UP, 0.0
    before = course.at(Reading(wall, boot))
    for kind, much in steps:
        if kind == "run":
            wall, boot, ran = wall + much, boot + much, ran + much
        elif kind == "set":
            wall += much
        elif kind == "boot":
            wall, boot = wall + much, 0.0
            before = course.ran
        if kind in {"boot", "note"}:
            course = course.noted(Reading(wall, boot))
        now = course.at(Reading(wall, boot))
        assert now >= before - 1e-3
        assert now <= WALL + ran + 1e-3
        before = now


@pytest.mark.parametrize(
    ("set_by", "waits"),
    [
        (40 * DAY_S, True),
        (-40 * DAY_S, True),
        (LEAP_S + 1, True),
        (LEAP_S - 1, False),
        (-(LEAP_S - 1), False),
        (0.0, False),
    ],
)
def test_what_cannot_be_undone_waits_some_minutes_after_a_leap(set_by: float, waits: bool) -> None:
    """Also if only a later look, or the next agent, notices it."""
    found = START.unsettled(later(10.0, set_by=set_by))
    assert (found is not None) is waits
    noted = START.noted(later(10.0, set_by=set_by))
    assert (noted.unsettled(later(9 + UNSETTLED_S, set_by=set_by)) is not None) is waits
    assert noted.unsettled(later(11 + UNSETTLED_S, set_by=set_by)) is None


def test_what_cannot_be_undone_waits_some_minutes_after_a_boot() -> None:
    booted = START.noted(Reading(WALL + DAY_S, 20.0))
    assert booted.unsettled(Reading(WALL + DAY_S, 20.0)) == "the machine was started 20 s ago"
    assert booted.unsettled(Reading(WALL + DAY_S + 1, UNSETTLED_S - 1))
    settled = Reading(WALL + DAY_S + UNSETTLED_S, UNSETTLED_S + 20.0)
    assert booted.unsettled(settled) is None


@given(st.lists(st.floats(-1.9, 1.9), min_size=1, max_size=8))
def test_an_end_is_shown_at_the_same_time_while_the_clock_is_only_slewed(
    drift: list[float],
) -> None:
    course = START
    for number, by in enumerate(drift):
        course = course.noted(later(600.0 * number, set_by=by))
    assert course.shown(WALL + DAY_S) == WALL + DAY_S


def test_an_end_is_shown_as_the_clock_will_say_it() -> None:
    course = START.noted(later(10.0, set_by=HOUR_S))
    assert course.shown(WALL + DAY_S) == WALL + DAY_S + HOUR_S
    off = START.noted(Reading(WALL + DAY_S, 0.0))  # off for a day
    assert off.shown(WALL + HOUR_S) == WALL + DAY_S + HOUR_S


# --- with the journal -----------------------------------------------------------------------------

KEPT = Evicted(
    id="ab12" + "0" * 60,
    name="rogue",
    image="img",
    action=EvictionAction.REMOVED,
    reason=Reason.NO_PROJECT,
    at="2026-01-01T00:00:00Z",
    remove_at=WALL + DAY_S,
)


class Machine:
    """Both clocks, set by the test."""

    def __init__(self) -> None:
        self.reading = Reading(WALL, UP)

    def __call__(self) -> Reading:
        return self.reading

    def goes_on(self, s: float) -> None:
        self.reading = Reading(self.reading.wall + s, self.reading.boot + s)

    def is_set(self, by: float) -> None:
        self.reading = replace(self.reading, wall=self.reading.wall + by)

    def boots(self, off_s: float) -> None:
        self.reading = Reading(self.reading.wall + off_s, 1.0)


def _due(journal: Journal) -> list[str]:
    return [e.name for e in journal.kept() if (e.remove_at or 0) <= journal.now()]


def test_a_clock_set_40_days_ahead_ends_no_suspension_no_grant_and_no_keeping(
    tmp_path: Path,
) -> None:
    machine = Machine()
    journal = Journal(tmp_path / "journal.db", clocks=machine)
    journal._begin(Action.EVICT, "rogue", Reason.NO_PROJECT, ended=(KEPT, {}))
    journal.suspend(Suspension("web", journal.now() + 2 * HOUR_S, "", "t"))
    journal.exempt("c1", journal.now() + HOUR_S)
    assert journal.first_seen("c2", journal.now()) == WALL
    for by in (40 * DAY_S, -80 * DAY_S):
        machine.is_set(by)
        journal.note_time()
        assert _due(journal) == []
        assert journal.end_orders(journal.now()) == []
        assert [each.stack for each in journal.suspensions(journal.now())] == ["web"]
        assert journal.granted(journal.now()).keys() == {"c1"}
        assert (journal.next_due(journal.now()) or 0) - journal.now() == HOUR_S
        assert journal.unsettled() == "the clock was set 0 s ago"
        assert Journal(tmp_path / "journal.db", clocks=machine).now() == journal.now()
    machine.goes_on(2 * HOUR_S)
    assert journal.end_orders(journal.now()) == ["web"]
    machine.goes_on(DAY_S)
    assert _due(journal) == ["rogue"]
    assert journal.unsettled() is None


def test_the_time_that_the_machine_is_off_counts_for_nothing(tmp_path: Path) -> None:
    machine = Machine()
    journal = Journal(tmp_path / "journal.db", clocks=machine)
    journal._begin(Action.EVICT, "rogue", Reason.NO_PROJECT, ended=(KEPT, {}))
    journal.close()
    machine.boots(9 * DAY_S)
    journal = Journal(tmp_path / "journal.db", clocks=machine)
    assert (_due(journal), journal.unsettled()) == ([], "the machine was started 1 s ago")
    (suspended,) = [journal.shown(journal.now() + HOUR_S)]
    assert suspended == pytest.approx(machine.reading.wall + HOUR_S)
    machine.goes_on(DAY_S)
    assert _due(journal) == ["rogue"]


def test_what_a_verb_writes_beside_the_agent_is_of_the_same_time(tmp_path: Path) -> None:
    machine = Machine()
    agent = Journal(tmp_path / "journal.db", clocks=machine)
    machine.is_set(-40 * DAY_S)
    agent.note_time()
    machine.goes_on(5.0)
    verb = Journal(tmp_path / "journal.db", clocks=machine)
    verb.suspend(Suspension("web", verb.now() + HOUR_S, "", "t"))
    (found,) = agent.suspensions(agent.now())
    assert found.until == pytest.approx(machine.reading.wall + HOUR_S, abs=3)
    machine.goes_on(HOUR_S - 1)
    assert agent.end_orders(agent.now()) == []
    machine.goes_on(1)
    assert agent.end_orders(agent.now()) == ["web"]


def test_history_is_forgotten_by_the_time_that_passed_and_never_after_a_leap(
    tmp_path: Path,
) -> None:
    machine = Machine()
    journal = Journal(tmp_path / "journal.db", clocks=machine)
    over = replace(KEPT, id="over", remove_at=None, action=EvictionAction.REPORTED)
    journal.report(over, {})
    for name in ("old", "open"):
        number = journal._begin(Action.DEPLOY, name, Reason.NEW)
        if name == "old":
            journal._finish(number, Outcome(subject=name, status=Status.SUCCEEDED), 0.0)
    machine.is_set(3650 * DAY_S)
    machine.goes_on(UNSETTLED_S + 1)
    journal.note_time()
    assert journal.prune() == 0
    machine.goes_on(31 * DAY_S)
    journal.note_time()
    assert journal.prune() == 1  # what was reported
    machine.goes_on(150 * DAY_S)
    machine.is_set(-3650 * DAY_S)
    assert journal.prune() == 0  # it was set just now
    journal.note_time()
    machine.goes_on(UNSETTLED_S + 1)
    assert journal.prune() == 1
    assert [entry.subject for entry in journal.history()] == ["open"]


def test_a_journal_of_the_version_before_keeps_its_ends_and_all_of_its_history(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, machine = tmp_path / "journal.db", Machine()
    with monkeypatch.context() as patch:
        number = schema.MIGRATIONS.index(schema.RAN)
        patch.setattr(schema, "MIGRATIONS", schema.MIGRATIONS[:number])
        older = Journal(path, clocks=machine)
        older._do("INSERT INTO suspensions VALUES ('web', ?, '', 't')", (WALL + HOUR_S,))
        older._do("DELETE FROM meta WHERE key = 'clock'")
        older._do(
            "INSERT INTO actions (at, action, subject, reason, cause, status)"
            " VALUES ('2020-01-01', 'deploy', 'web', 'new', '[]', 'succeeded')"
        )
        older.close()
    journal = Journal(path, clocks=machine)
    assert [each.until for each in journal.suspensions(journal.now())] == [WALL + HOUR_S]
    assert journal.prune() == 0
    assert [entry.subject for entry in journal.history()] == ["web"]
    machine.goes_on(HOUR_S)
    assert journal.end_orders(journal.now()) == ["web"]
