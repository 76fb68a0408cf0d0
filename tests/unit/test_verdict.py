"""The one verdict on a host: state, line, troubles and exit code."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.domain.outcome import Reason
from agent.domain.reconcile.exemptions import Suspension
from agent.domain.release.release import Release
from agent.domain.status import verdict
from agent.domain.status.facts import Facts, LastLook
from agent.domain.status.verdict import State, judge
from tests.unit.builders import SHA, attempt, container, release, running, service
from tests.unit.judged import DOWN, GITEA, LONG_AGO, LOOKED, SILENT, action, facts, hold
from tests.values import replace

WEB, DB = release("web"), release("db")
BOTH = {"web": "d1", "db": "d1"}
ILL = replace(running(WEB)[0], health="unhealthy")
ON_WEB = Suspension("web", None, "disk swap", "2026-01-02T03:04:05Z")
ON_HOST = Suspension(None, 0.0, "", "2026-01-02T03:04:06Z")
CLIFF = hold("old", Reason.CLIFF, person=True)
IN_SYNC, AT = "in sync with 1a2b3c4 (gitea)", "at 1a2b3c4 (gitea)"
ONE_WAITS = "1 waiting for a person"
FAR = "; as far as is known:"
QUIET = "(no remote answers since 2026-01-02T09:10:00.000Z)"
BEHIND = {**GITEA, "head": "b" * 40, "relation": "behind", "lag": 2}
LATER = "2026-01-02T08:00:01.000Z"
ROGUE = [*running(WEB), container("rogue")]


@pytest.mark.parametrize(
    ("host", "state", "line"),
    [
        (facts([WEB]), State.IN_SYNC, "in sync with 1a2b3c4 (gitea)"),
        (facts([], stacks={}), State.IN_SYNC, "in sync with 1a2b3c4 (gitea)"),
        (facts(), State.FAILED, "at 1a2b3c4 (gitea); not in sync: web"),
        (facts(attempts=[attempt("web")]), State.FAILED, "at 1a2b3c4 (gitea); failed: web"),
        (facts([WEB], [ILL]), State.FAILED, "at 1a2b3c4 (gitea); degraded: web"),
        (
            facts(stacks={}, broken={"web": "x"}, holds=[hold("web", Reason.INVALID)]),
            State.FAILED,
            "at 1a2b3c4 (gitea); held: web",
        ),
        (
            facts([WEB], ROGUE, holds=[hold("undeclared", Reason.RATE)]),
            State.FAILED,
            "at 1a2b3c4 (gitea); held: undeclared",
        ),
        (
            facts([WEB], ROGUE, holds=[hold("rogue", Reason.EVICTION)]),
            State.FAILED,
            "at 1a2b3c4 (gitea); failed: rogue",
        ),
        (facts([WEB], holds=[CLIFF]), State.WAITING, "at 1a2b3c4 (gitea); 1 waiting for a person"),
        # All that is wrong is told, the worst first, and each thing once.
        (
            facts(
                [WEB, release("old")],
                [ILL],
                stacks={**BOTH, "new": "d1"},
                attempts=[attempt("db")],
                holds=[CLIFF, hold("db", Reason.BACKOFF), hold("gitea", Reason.FETCH)],
            ),
            State.FAILED,
            f"{AT}; failed: db; not in sync: new; degraded: web; held: gitea; {ONE_WAITS}",
        ),
        # What is only reported is no failure.
        (
            facts([WEB], ROGUE, holds=[hold("rogue", Reason.REPORT_ONLY)]),
            State.IN_SYNC,
            "in sync with 1a2b3c4 (gitea); only reported: rogue",
        ),
        # Which remote it is from is said while that one answers.
        (facts([WEB], remotes=[]), State.IN_SYNC, "in sync with 1a2b3c4"),
        (facts([WEB], remotes=[BEHIND]), State.IN_SYNC, "in sync with 1a2b3c4 (behind: gitea)"),
        (
            facts([WEB], remotes=[BEHIND, {**GITEA, "name": "github"}]),
            State.IN_SYNC,
            "in sync with 1a2b3c4 (github)",
        ),
        (
            facts([WEB], remotes=[DOWN, {**GITEA, "name": "github"}]),
            State.IN_SYNC,
            "in sync with 1a2b3c4 (github)",
        ),
    ],
)
def test_the_line_says_how_the_host_is(host: Facts, state: State, line: str) -> None:
    found = judge(host)
    assert (found.state, found.line) == (state, line)


NEW = {"sha": SHA, "at": "2026-01-02T09:14:01.000Z"}
OLD = release("web", "d0")
BACK = {"web": ("d1", "it crashed")}
TURNS = dict.fromkeys("abcdefg", "d1")


@pytest.mark.parametrize(
    ("host", "state", "line"),
    [
        # What has not begun yet waits for its turn: nothing is wrong with it.
        (
            facts([WEB], stacks=BOTH, working=[action("deploy", "web")]),
            State.WORKING,
            f"{AT}; deploying web (8 s); next: db",
        ),
        (
            facts(stacks=TURNS, working=[action("deploy", "a")]),
            State.WORKING,
            f"{AT}; deploying a (8 s); next: b, c, d, e, f and 1 more",
        ),
        (replace(facts(), attempted=NEW), State.WORKING, f"{AT}; next: web"),
        (replace(facts([WEB]), attempted=NEW), State.IN_SYNC, IN_SYNC),
        # What fails, or is ill, is wrong all the same.
        (
            facts([WEB], [ILL], stacks=BOTH, working=[action("deploy", "db")]),
            State.FAILED,
            f"{AT}; deploying db (8 s); degraded: web",
        ),
    ],
)
def test_what_is_about_to_be_done_is_not_called_wrong(host: Facts, state: State, line: str) -> None:
    found = judge(host)
    assert (found.state, found.line) == (state, line)


def test_a_stack_that_went_back_says_to_what() -> None:
    found = judge(facts([OLD], rollbacks=BACK))
    assert (found.state, found.line) == (
        State.FAILED, f"{AT}; web rolled back to {OLD.revision[:7]}",
    )  # fmt: skip
    [trouble] = found.troubles
    assert str(trouble) == f"rolled back: web: {Reason.ROLLED_BACK.text}: it crashed"


def test_a_stack_whose_way_back_failed_has_not_gone_back() -> None:
    found = judge(facts([replace(OLD, dirty=True)], rollbacks=BACK))
    assert found.line == f"{AT}; failed: web"


@pytest.mark.parametrize(
    ("host", "state", "line"),
    [
        (
            facts([WEB], working=[action("deploy", "web")]),
            State.WORKING,
            "at 1a2b3c4 (gitea); deploying web (8 s)",
        ),
        (
            facts(
                attempts=[attempt("db")],
                stacks=BOTH,
                working=[
                    action("rollback", "web", seconds=70),
                    action("restart", "web", seconds=1),
                    action("evict", "x", seconds=0),
                    action("restart", "me", seconds=-3),
                ],
            ),
            State.FAILED,
            f"{AT}; rolling back web (70 s); evicting x (0 s); bringing back me (0 s); failed: db",
        ),
        (
            facts(stacks={}, working=[action("deploy", f"s{n}") for n in range(9)]),
            State.WORKING,
            f"{AT}; deploying s0 (8 s), s1 (8 s), s2 (8 s), s3 (8 s), s4 (8 s) and 4 more",
        ),
    ],
)
def test_what_goes_on_is_said_with_its_time(host: Facts, state: State, line: str) -> None:
    found = judge(host)
    assert (found.state, found.line, found.exit_code) == (state, line, 1)


@pytest.mark.parametrize(
    ("host", "line"),
    [
        (
            facts([WEB], running_agent=False),
            f"not known: the agent has not looked since {LOOKED} (it does not run){FAR} {IN_SYNC}",
        ),
        (
            facts(running_agent=False, look=LastLook()),
            f"not known: the agent has never looked (it does not run){FAR} {AT}; not in sync: web",
        ),
        (
            replace(facts([WEB]), containers=None),
            f"not known: the engine does not answer; the agent has not looked since {LOOKED}",
        ),
        (  # an agent that hangs
            facts([WEB], look=LastLook(LONG_AGO)),
            f"not known: the agent has not looked since {LONG_AGO}{FAR} {IN_SYNC}",
        ),
        (
            facts([WEB], remotes=[SILENT, {**SILENT, "down_since": LATER}]),
            f"not known: no remote has answered since {LATER}{FAR} in sync with 1a2b3c4",
        ),
        (  # nobody asks any more
            facts([WEB], remotes=[{**GITEA, "checked_at": LONG_AGO}]),
            f"not known: no remote has answered since {LONG_AGO}{FAR} {IN_SYNC}",
        ),
        (
            facts([WEB], remotes=[{**SILENT, "down_since": None}]),
            f"not known: no remote has answered yet{FAR} in sync with 1a2b3c4",
        ),
        (
            facts([WEB], remotes=[SILENT], suspensions=[ON_HOST]),
            f"not known: no remote has answered since {LONG_AGO}{FAR} suspended at 1a2b3c4",
        ),
    ],
)
def test_what_is_not_known_is_said_with_when_it_was_last_seen(host: Facts, line: str) -> None:
    found = judge(host)
    assert (found.state, found.line, found.exit_code) == (State.UNKNOWN, line, 4)


@pytest.mark.parametrize(
    ("host", "state", "line"),
    [
        (  # it is heard of a newer commit soon enough
            facts([WEB], remotes=[DOWN]),
            State.IN_SYNC,
            f"in sync with 1a2b3c4 {QUIET}",
        ),
        (facts([WEB], remotes=[SILENT, GITEA]), State.IN_SYNC, "in sync with 1a2b3c4 (gitea)"),
        (  # what is wrong here is known all the same
            facts([WEB], [ILL], remotes=[SILENT]),
            State.FAILED,
            f"at 1a2b3c4; degraded: web (no remote has answered since {LONG_AGO})",
        ),
        (  # a long deploy is no agent that hangs
            facts([WEB], look=LastLook(LONG_AGO), working=[action("deploy", "web")]),
            State.WORKING,
            "at 1a2b3c4 (gitea); deploying web (8 s)",
        ),
        (
            facts([WEB], look=LastLook(LOOKED, "the clone is broken")),
            State.FAILED,
            f"reconcile failed: the clone is broken (it last worked at {LOOKED})",
        ),
        (
            replace(facts(stacks={}, remotes=[DOWN]), declared=None),
            State.FAILED,
            f"nothing was ever applied here: refused {QUIET}",
        ),
    ],
)
def test_what_is_known_is_said_although_not_all_is_well(
    host: Facts, state: State, line: str
) -> None:
    found = judge(host)
    assert (found.state, found.line) == (state, line)


@pytest.mark.parametrize(
    ("host", "state", "line"),
    [
        (
            facts([WEB], [], suspensions=[ON_WEB]),
            State.IN_SYNC,
            "in sync with 1a2b3c4 (gitea); suspended: web",
        ),
        (facts([], suspensions=[ON_HOST, ON_WEB]), State.SUSPENDED, "suspended at 1a2b3c4 (gitea)"),
        (
            facts([WEB], holds=[CLIFF], suspensions=[ON_HOST]),
            State.WAITING,
            "at 1a2b3c4 (gitea); 1 waiting for a person; suspended",
        ),
        (
            facts([WEB], stacks=BOTH, suspensions=[ON_WEB]),
            State.FAILED,
            "at 1a2b3c4 (gitea); not in sync: db; suspended: web",
        ),
    ],
)
def test_what_is_suspended_is_named_beside_what_else_is_wrong(
    host: Facts, state: State, line: str
) -> None:
    found = judge(host)
    assert (found.state, found.line) == (state, line)


@pytest.mark.parametrize("reason", [Reason.ORDER, Reason.AFTER, Reason.SECRET, Reason.TREE])
def test_what_waits_for_others_is_not_in_sync(reason: Reason) -> None:
    found = judge(facts([WEB], holds=[hold("web", reason, "b is not up")]))
    assert (found.line, found.exit_code) == ("at 1a2b3c4 (gitea); held: web", 1)
    assert [str(trouble) for trouble in found.troubles] == [
        f"held: web: {reason.text}: b is not up"
    ]


def test_who_has_just_tried_knows_better_why_it_failed() -> None:
    found = judge(facts(attempts=[attempt("web")], holds=[hold("rogue", Reason.RATE)]))
    told = found.with_errors({"web": "no such image; rollback failed", "rogue": "x"})
    assert [str(trouble) for trouble in told.troubles] == [
        "failed: web: no such image; rollback failed",
        f"held: rogue: {Reason.RATE.text}: why",
    ]


def test_what_is_not_well_names_its_containers() -> None:
    two = release("web", services=[service("app"), service("job", one_shot=True)])
    there = [container("web-app", "web", "app", health="unhealthy")]
    there += [container("web-job", "web", "job", state="exited", exit_code=0)]
    [trouble] = judge(facts([two], there)).troubles
    assert str(trouble) == "degraded: web: web-app is unhealthy"


@given(
    st.tuples(
        st.booleans(),
        st.sampled_from([LOOKED, LONG_AGO, None]),
        st.sampled_from([None, "broken"]),
    ),
    st.lists(st.sampled_from([GITEA, DOWN, SILENT]), min_size=1, max_size=3),
    st.sampled_from([[WEB], []]),
    st.booleans(),
)
def test_success_is_never_shown_without_a_look_that_succeeded(
    agent: tuple[bool, str | None, str | None],
    remotes: list[Mapping[str, Any]],
    released: list[Release],
    away: bool,
) -> None:
    runs, looked, error = agent
    host = facts(released, running_agent=runs, look=LastLook(looked, error), remotes=remotes)
    found = judge(replace(host, containers=None) if away else host)
    seen = runs and looked == LOOKED and error is None and not away and bool(released)
    heard = any(remote is not SILENT for remote in remotes)
    assert (found.exit_code == 0) == (seen and heard)
    assert found.line.startswith(IN_SYNC[:7]) == (found.exit_code == 0)
    assert verdict.exit_code(found.state) == found.exit_code


def test_each_trouble_has_the_code_of_its_reason() -> None:
    found = judge(facts([WEB], ROGUE, holds=[hold("rogue", Reason.EVICTION), CLIFF]))
    assert [(each.subject, each.reason) for each in found.troubles] == [
        ("rogue", Reason.EVICTION),
        ("old", Reason.CLIFF),
    ]


def test_a_cycle_that_ended_with_an_error_is_told_from_one_that_found_something_wrong() -> None:
    attempts = [attempt("web")]
    assert not judge(facts(attempts=attempts)).broken_off
    found = judge(facts(attempts=attempts, look=LastLook(LOOKED, "the clone is broken")))
    assert found.broken_off
    assert [each.subject for each in found.troubles] == ["web"]


STANDBY = replace(facts([WEB], [ILL]), standby="node2")


def test_a_manager_that_stands_by_says_who_leads_and_nothing_of_what_runs() -> None:
    found = judge(STANDBY)
    assert (found.state, found.exit_code, found.troubles) == (State.STANDBY, 0, ())
    assert found.line == "standby: leader is node2; checked out 1a2b3c4 (gitea)"


def test_a_manager_that_stands_by_and_cannot_follow_says_so() -> None:
    rewritten = hold("gitea", Reason.HISTORY, person=True)
    assert judge(replace(STANDBY, holds=(rewritten,))).state is State.WAITING
    assert judge(replace(STANDBY, remotes=(SILENT,))).state is State.UNKNOWN
    assert judge(replace(STANDBY, look=LastLook(LOOKED, "no leader"))).state is State.FAILED
