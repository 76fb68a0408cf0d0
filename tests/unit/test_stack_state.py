"""How each stack is, and which holds still count."""

from __future__ import annotations

import pytest

from agent.domain.container import KEPT_PREFIX, Container
from agent.domain.outcome import Reason
from agent.domain.reconcile.exemptions import Suspension
from agent.domain.status import held, stack_state
from agent.domain.status.facts import Facts
from agent.domain.status.stack_state import StackState
from tests.unit.builders import SHA, attempt, container, release, service
from tests.unit.judged import GITEA, action, facts, hold
from tests.values import replace

WEB, OLD = release("web"), release("web", "d0")
FAILED = attempt("web")
LEFT = attempt("web", "")
HELD = hold("web", Reason.AFTER)
BACK = {"web": ("d1", "it crashed")}
DIRTY = replace(WEB, dirty=True)
GOING_ON = action("deploy", "web", Reason.CHANGED.text)


def states(given: Facts) -> tuple[StackState, ...]:
    return stack_state.states(given, held.current(given))


@pytest.mark.parametrize(
    ("given", "sync", "reason", "detail"),
    [
        (facts([WEB]), "synced", None, None),
        (facts(), "pending", Reason.NEW, None),
        (facts([OLD]), "pending", Reason.CHANGED, None),
        (facts([WEB], []), "pending", Reason.DRIFTED, None),
        (
            facts([WEB], stacks={}),
            "pending",
            Reason.LEFT,
            "it will be removed in the next cycle",
        ),
        (facts([WEB], stacks={}, attempts=[LEFT]), "failed", Reason.BACKOFF, "no such image"),
        (facts([WEB], stacks={}, holds=[HELD]), "held", Reason.AFTER, "why"),
        (facts([WEB], stacks={}, broken={"web": "no file"}), "held", Reason.INVALID, "no file"),
        (facts(attempts=[FAILED]), "failed", Reason.BACKOFF, "no such image"),
        (facts(attempts=[replace(FAILED, permanent=True)]), "failed", Reason.FAILED, FAILED.error),
        (facts([OLD], attempts=[FAILED]), "failed", Reason.BACKOFF, "no such image"),
        (facts([WEB], attempts=[FAILED]), "synced", None, None),
        (facts(attempts=[attempt("web", "d0")]), "pending", Reason.NEW, None),
        (facts(holds=[HELD]), "held", Reason.AFTER, "why"),
        (facts([WEB], holds=[hold("gitea", Reason.HISTORY)]), "synced", None, None),
        (facts([OLD], rollbacks=BACK), "failed", Reason.ROLLED_BACK, "it crashed"),
        # A repair that goes on failing.
        (
            facts([WEB], [], attempts=[FAILED], holds=[hold("web", Reason.BACKOFF)]),
            "failed",
            Reason.BACKOFF,
            "why",
        ),
        (facts([DIRTY]), "pending", Reason.INTERRUPTED, None),
        # What goes on counts more than how it ended the last time.
        (facts([OLD], attempts=[FAILED], working=[GOING_ON]), "pending", Reason.CHANGED, None),
        (facts([OLD], rollbacks=BACK, working=[GOING_ON]), "pending", Reason.CHANGED, None),
    ],
)
def test_each_stack_says_whether_it_is_as_declared(
    given: Facts, sync: str, reason: Reason | None, detail: str | None
) -> None:
    [stack] = states(given)
    assert (stack.name, stack.sync, stack.reason) == ("web", sync, reason)
    assert stack.message == (reason.message(detail) if reason else None)


TWO = release("web", services=[service("app"), service("job", one_shot=True)])


def app(state: str = "running", health: str | None = None) -> Container:
    return container("web-app", "web", "app", state=state, health=health)


def job(state: str, exit_code: int | None = None) -> Container:
    return container("web-job", "web", "job", state=state, exit_code=exit_code)


KEPT = container(f"{KEPT_PREFIX}x", "web", "app", state="exited", exit_code=1)


@pytest.mark.parametrize(
    ("containers", "health"),
    [
        ([app(), job("running")], "healthy"),
        ([app(health="healthy"), job("exited", 0)], "healthy"),
        ([app(health="starting"), job("exited", 0)], "progressing"),
        ([app(health="unhealthy"), job("exited", 0)], "degraded"),
        ([app("restarting"), job("exited", 0)], "degraded"),
        ([app("exited"), job("exited", 0)], "degraded"),
        ([app(), job("exited", 1)], "degraded"),
        ([app(), job("exited", 0), KEPT], "healthy"),
        ([app()], "degraded"),
        ([], "missing"),
        ([container("x", "web", "app", one_off=True)], "missing"),
        ([container("x", "other", "app")], "missing"),
    ],
)
def test_each_stack_says_how_it_is(containers: list[Container], health: str) -> None:
    assert states(facts([TWO], containers))[0].health == health


def test_a_stack_that_has_nothing_to_run_lacks_nothing() -> None:
    [stack] = states(facts([release("web", services=[])], []))
    found = (stack.sync, stack.health, stack.reason)
    assert found == ("synced", "healthy", Reason.NOTHING_TO_RUN)


# --- holds that are settled before a cycle has found so ---

CLIFF = hold("web", Reason.CLIFF, person=True)
FORK = hold("gitea", Reason.HISTORY, person=True)
GONE = hold("gitea", Reason.BRANCH, person=True)
ROGUE = container("rogue")


@pytest.mark.parametrize(
    ("given", "left"),
    [
        (facts(attempts=[FAILED], holds=[hold("web", Reason.FAILED)]), "why"),
        (facts(holds=[hold("web", Reason.FAILED)]), held.NOW),
        (facts(holds=[hold("web", Reason.BACKOFF)]), held.NOW),
        (
            facts(holds=[hold("web", Reason.FAILED)], running_agent=False),
            "it is tried again once the agent runs",
        ),
        (facts([WEB], holds=[hold("web", Reason.FAILED)]), None),  # it came up meanwhile
        (facts(attempts=[attempt("web", "d0")], holds=[hold("web", Reason.FAILED)]), None),
        (facts([OLD], rollbacks=BACK, holds=[hold("web", Reason.ROLLED_BACK)]), "why"),
        (facts([OLD], holds=[hold("web", Reason.ROLLED_BACK)]), held.NOW),
        (
            facts([OLD], rollbacks={"web": ("d9", "x")}, holds=[hold("web", Reason.ROLLED_BACK)]),
            None,
        ),
        (facts(holds=[hold("web", Reason.INVALID)]), "why"),  # its older files may be what is wrong
        (facts([WEB], stacks={}, holds=[CLIFF]), "why"),
        (facts([WEB], stacks={}, holds=[CLIFF], approved=[SHA]), held.APPROVED),
        (facts([WEB], holds=[FORK]), "why"),
        (
            facts([WEB], holds=[FORK], remotes=[{**GITEA, "head": "b" * 40}], approved=["b" * 40]),
            held.APPROVED,
        ),
        (facts([WEB], holds=[FORK], approved=["b" * 40]), "why"),
        (facts([WEB], holds=[GONE], remotes=[{**GITEA, "error": "no branch"}]), "why"),
        (facts([WEB], holds=[GONE]), None),
        (facts(holds=[HELD], working=[action("deploy", "web")]), None),
        (facts([WEB], [ROGUE], holds=[hold("rogue", Reason.REPORT_ONLY)]), "why"),
        (facts([WEB], holds=[hold("rogue", Reason.REPORT_ONLY)]), None),
        (facts([WEB], holds=[hold("rogue", Reason.VOLUMES, person=True)]), None),
        (facts([WEB], [ROGUE], holds=[hold("rogue", Reason.NOT_ENROLLED)], enrolled=False), "why"),
        (facts([WEB], [ROGUE], holds=[hold("rogue", Reason.NOT_ENROLLED)]), None),
    ],
)
def test_a_hold_that_was_settled_since_the_last_cycle_is_not_told_of_as_one(
    given: Facts, left: str | None
) -> None:
    found = held.current(given)
    assert [hold.detail for hold in found] == ([left] if left else [])
    assert not any(hold.needs_person for hold in found if hold.settled)


# --- suspensions ---

ON_WEB = Suspension("web", None, "disk swap", "2026-01-02T03:04:05Z")
ON_HOST = Suspension(None, 0.0, "", "2026-01-02T03:04:06Z")
WEB_DETAIL = "until it is resumed: disk swap"
HOST_DETAIL = "until 1970-01-01T00:00:00Z"
STALE = hold("web", Reason.SUSPENDED, "of the last cycle")


@pytest.mark.parametrize(
    "given",
    [
        facts([WEB], suspensions=[ON_WEB]),
        facts(suspensions=[ON_WEB]),
        facts([WEB], [], suspensions=[ON_WEB]),
        facts([WEB], stacks={}, suspensions=[ON_WEB]),
        facts([WEB], stacks={}, broken={"web": "no file"}, suspensions=[ON_WEB]),
        facts(attempts=[FAILED], suspensions=[ON_WEB]),
        facts([WEB], holds=[CLIFF], suspensions=[ON_WEB]),
        facts([WEB], holds=[STALE], suspensions=[ON_WEB]),
    ],
)
def test_a_suspended_stack_says_just_that(given: Facts) -> None:
    [stack] = states(given)
    assert (stack.sync, stack.message) == ("suspended", f"a person suspended it: {WEB_DETAIL}")


def test_all_stacks_of_a_suspended_host_are_suspended() -> None:
    made = [release("db"), WEB]
    found = states(facts(made, stacks={"web": "d1"}, suspensions=[ON_HOST]))
    assert [stack.sync for stack in found] == ["suspended"] * 2
    assert {stack.message for stack in found} == {f"a person suspended it: {HOST_DETAIL}"}
    found = states(facts(made, stacks={"web": "d1"}, suspensions=[ON_WEB]))
    assert [stack.sync for stack in found] == ["pending", "suspended"]


def test_a_suspension_is_held_before_any_cycle_and_not_after_its_end() -> None:
    found = held.current(facts([WEB], suspensions=[ON_HOST, ON_WEB]))
    assert [(each.subject, each.message, each.since) for each in found] == [
        ("media", f"a person suspended it: {HOST_DETAIL}", ON_HOST.since),
        ("web", f"a person suspended it: {WEB_DETAIL}", ON_WEB.since),
    ]
    # What the last cycle wrote about it is not said a second time, nor when it is over.
    assert len(held.current(facts([WEB], holds=[STALE], suspensions=[ON_WEB]))) == 1
    assert held.current(facts([WEB], holds=[STALE])) == ()
