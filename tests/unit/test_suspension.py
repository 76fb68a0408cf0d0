from __future__ import annotations

import pytest

from agent.domain.container import WORKING_DIR, Container
from agent.domain.outcome import Reason
from agent.domain.reconcile.actions import Evict, Exempted, Hold, Plan
from agent.domain.reconcile.exemptions import Exemptions, Suspension
from agent.domain.reconcile.host_state import HostState, protected
from agent.domain.reconcile.plan import plan
from tests.unit.builders import (
    NOW,
    STACKS_DIR,
    attempt,
    container,
    reasons,
    release,
    releases,
    running,
    situation,
    stack,
    stacks,
)
from tests.values import replace

SINCE = "2026-01-02T03:04:05Z"
HAND = Suspension("a", None, "", SINCE)
HELD = Hold("a", Reason.SUSPENDED, "until it is resumed")


def suspended(basis: HostState, *names: str | None) -> HostState:
    suspensions = tuple(replace(HAND, stack=name) for name in names)
    return replace(basis, exemptions=Exemptions(suspensions=suspensions))


def test_a_suspended_stack_is_neither_deployed_nor_repaired() -> None:
    for now in (
        situation(stacks("a")),
        situation([stack("a", "d2")], releases("a")),
        situation(stacks("a"), releases("a"), []),
        situation(stacks("a"), attempts=[attempt("a", permanent=True)]),
        replace(situation(stacks("a")), locked={"a": (Reason.SECRET, "no key")}),
    ):
        assert plan(suspended(now, "a")) == Plan(holds=(HELD,))
        assert plan(suspended(now, "b")).holds[0].subject == "b"


def test_other_stacks_go_on_while_one_is_suspended() -> None:
    now = situation([*stacks("ab"), stack("c", "d2")], releases("bcd"), teardown_limit=1.0)
    todo = plan(suspended(now, "a"))
    assert [deploy.stack.name for deploy in todo.deploys] == ["c"]
    assert [removal.project for removal in todo.removals] == ["d"]
    assert todo.holds == (HELD,)


STRANGERS = [
    container("a-miner-1", "a", "miner"),
    container("a-run-1", "a", "web", one_off=True),
    container("a-1", "a"),
]


@pytest.mark.parametrize("stranger", STRANGERS)
@pytest.mark.parametrize("declared", ["za", "z"])
def test_what_runs_in_a_suspended_project_is_spared(stranger: Container, declared: str) -> None:
    now = situation(stacks(declared), releases("z"), [*running(release("z")), stranger])
    todo = plan(suspended(now, "a"))
    assert todo.empty
    assert todo.holds == (HELD,)
    if declared == "z":
        assert todo.exempt == (Exempted(stranger, Reason.SUSPENDED),)


def test_a_project_of_this_checkout_that_is_suspended_is_not_taken_down() -> None:
    left = container("a-1", "a", "web", labels={WORKING_DIR: f"{STACKS_DIR}/a"})
    now = situation(stacks("z"), releases("z"), [*running(release("z")), left])
    assert [removal.project for removal in plan(now).removals] == ["a"]
    assert plan(suspended(now, "a")) == Plan(holds=(HELD,))


def test_a_suspension_spares_nothing_outside_its_project() -> None:
    rogue, other = container("rogue"), container("b-1", "b", "web")
    now = situation(stacks("a"), releases("a"), [*running(release("a")), rogue, other])
    todo = plan(suspended(now, "a"))
    assert todo.evictions == (
        Evict(other, Reason.UNKNOWN_PROJECT),
        Evict(rogue, Reason.NO_PROJECT),
    )


def test_a_suspended_host_is_only_looked_at() -> None:
    now = situation(
        [stack("a"), stack("b", "d2")],
        releases("bc"),
        [*running(release("b")), container("rogue"), container("a-x", "a", "x")],
        broken=["d"],
        list_faults=["'X' is no name"],
        trailers=[("Commitd-Approve", "removals")],
        cliff="bc",
    )
    todo = plan(suspended(now, None))
    assert todo.empty
    assert todo.exempt == ()
    assert [(hold.subject, hold.reason) for hold in todo.holds] == [
        ("d", Reason.INVALID),
        ("host/media/stacks.yaml:1", Reason.LIST_IN_DOUBT),
        ("media", Reason.SUSPENDED),
    ]


def test_a_suspended_host_and_a_suspended_stack_are_two_holds() -> None:
    assert reasons(plan(suspended(situation(stacks("a")), "a", None))) == {
        "a": Reason.SUSPENDED,
        "media": Reason.SUSPENDED,
    }


@pytest.mark.parametrize(
    ("until", "reason", "detail"),
    [
        (None, "", "until it is resumed"),
        (None, "disk swap", "until it is resumed: disk swap"),
        (NOW, "", "until 1970-01-01T00:16:40Z"),
        (NOW + 0.5, "swap", "until 1970-01-01T00:16:40Z: swap"),
    ],
)
def test_a_suspension_says_until_when_and_why(
    until: float | None, reason: str, detail: str
) -> None:
    suspensions = (Suspension("a", until, reason, SINCE),)
    now = replace(situation(stacks("a")), exemptions=Exemptions(suspensions=suspensions))
    assert plan(now).holds == (Hold("a", Reason.SUSPENDED, detail),)


def test_a_suspended_stack_is_still_protected_by_what_is_declared() -> None:
    """Were it resumed between two looks, nothing of it must have become a rogue."""
    now = situation(stacks("ab"), releases("b"), [])
    assert protected(suspended(now, "a", "b")) == protected(now)
    gone = situation(stacks("b"), releases("ab"))
    assert protected(suspended(gone, "a")).services["a"] is None
