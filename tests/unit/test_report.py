from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest

from agent.domain import report
from agent.domain.container import Container
from agent.domain.exempt import Suspension
from agent.domain.model import Attempt, Release
from agent.domain.report import Facts
from tests.unit.builders import SHA, attempt, container, release, running, service

GITEA = {
    "name": "gitea", "reachable": True, "head": SHA, "relation": "same",
    "checked_at": "t", "error": None, "down_since": None, "lag": 0,
}  # fmt: skip
SILENT = {**GITEA, "reachable": False, "error": "refused", "down_since": "2026-01-02T03:04:05.678Z"}
HELD = {"subject": "web", "reason": "R", "detail": "why", "since": "t", "needs_person": True}


def facts(
    released: Iterable[Release] = (),
    containers: Iterable[Container] | None = None,
    *,
    stacks: dict[str, str] | None = None,
    broken: dict[str, str] | None = None,
    holds: Iterable[dict[str, Any]] = (),
    attempts: Iterable[Attempt] = (),
    suspensions: Iterable[Suspension] = (),
    rollbacks: dict[str, tuple[str, str]] | None = None,
) -> Facts:
    """Without ``containers``, all that was released runs."""
    made = list(released)
    found = [c for r in made for c in running(r)] if containers is None else containers
    return Facts(
        host="media",
        enrolled=True,
        declared={
            "revision": {"sha": SHA, "author": "Ada", "committed_at": "t", "subject": "s"},
            "stacks": {"web": "d1"} if stacks is None else stacks,
            "broken": broken or {},
        },
        attempted={"sha": "f" * 40},
        remotes=(GITEA,),
        releases={r.stack: r for r in made},
        attempts={a.stack: a for a in attempts},
        holds=tuple(holds),
        undeclared=({"id": "1"},),
        suspensions=tuple(suspensions),
        rollbacks=rollbacks or {},
        containers=tuple(found),
        changed_at="2026-01-02T03:04:05.000Z",
    )


WEB = release("web")
FAILED = attempt("web")


def test_the_document_has_the_promised_shape() -> None:
    assert report.status(facts([WEB], holds=[HELD])) == {
        "host": "media",
        "enrolled": True,
        "verdict": "at 1a2b3c4 (gitea); 1 waiting for a person",
        "since": "2026-01-02T03:04:05.000Z",
        "revision": {
            "applied": SHA, "attempted": "f" * 40, "remote": "gitea", "author": "Ada",
            "committed_at": "t", "subject": "s",
        },
        "remotes": [GITEA],
        "stacks": [
            {
                "name": "web", "sync": "held", "health": "healthy", "revision": SHA,
                "reason": "why",
                "services": [
                    {"name": "web", "image": "img", "state": "running", "health": None}
                ],
            }
        ],
        "undeclared": [{"id": "1"}],
        "holds": [{"subject": "web", "reason": "R: why", "since": "t", "needs_person": True}],
    }  # fmt: skip


def test_a_host_that_is_as_declared_says_so_and_where_from() -> None:
    assert report.status(facts([WEB]))["verdict"] == "in sync with 1a2b3c4 (gitea)"


@pytest.mark.parametrize(
    ("given", "sync", "reason"),
    [
        (facts([WEB]), "synced", None),
        (facts(), "pending", "not deployed yet"),
        (facts([release("web", "d0")]), "pending", "its files changed"),
        (facts([WEB], []), "pending", "what runs is not what was deployed"),
        (facts([WEB], stacks={}), "pending", "no longer declared, about to go"),
        (facts([WEB], stacks={}, holds=[HELD]), "held", "why"),
        (facts([WEB], stacks={}, broken={"web": "no file"}), "held", "no file"),
        (facts(attempts=[FAILED]), "failed", "no such image"),
        (facts([release("web", "d0")], attempts=[FAILED]), "failed", "no such image"),
        (facts([WEB], attempts=[FAILED]), "synced", None),
        (facts(attempts=[replace(FAILED, digest="d0")]), "pending", "not deployed yet"),
        (facts(holds=[HELD]), "held", "why"),
        (facts([WEB], holds=[{**HELD, "subject": "gitea"}]), "synced", None),
    ],
)
def test_each_stack_says_whether_it_is_as_declared(
    given: Facts, sync: str, reason: str | None
) -> None:
    stack = report.status(given)["stacks"][0]
    assert (stack["name"], stack["sync"], stack["reason"]) == ("web", sync, reason)


TWO = release("web", services=[service("app"), service("job", finishes=True)])


def app(state: str = "running", health: str | None = None) -> Container:
    return container("web-app", "web", "app", state=state, health=health)


def job(state: str, exit_code: int | None = None) -> Container:
    return container("web-job", "web", "job", state=state, exit_code=exit_code)


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
        ([app()], "degraded"),
        ([], "missing"),
        ([container("x", "web", "app", one_off=True)], "missing"),
        ([container("x", "other", "app")], "missing"),
    ],
)
def test_each_stack_says_how_it_is(containers: list[Container], health: str) -> None:
    assert report.status(facts([TWO], containers))["stacks"][0]["health"] == health


@pytest.mark.parametrize(
    ("given", "verdict"),
    [
        (replace(facts([WEB]), containers=None), "the engine does not answer"),
        (replace(facts(stacks={}), declared=None), "nothing was ever applied here"),
        (replace(facts([WEB]), remotes=()), "in sync with 1a2b3c4"),
        (facts(), "at 1a2b3c4 (gitea); not in sync: web"),
        (
            facts([WEB], [replace(running(WEB)[0], health="unhealthy")]),
            "at 1a2b3c4 (gitea); degraded: web",
        ),
        (
            facts([WEB], holds=[{**HELD, "subject": "rogue", "needs_person": False}]),
            "at 1a2b3c4 (gitea); held: rogue",
        ),
        (facts([], stacks={}), "in sync with 1a2b3c4 (gitea)"),
        (
            replace(
                facts([WEB]), remotes=(SILENT, {**SILENT, "down_since": "2026-01-02T03:04:06Z"})
            ),
            "in sync with 1a2b3c4 (gitea) (no remote answers since 2026-01-02T03:04:06)",
        ),
        (replace(facts([WEB]), remotes=(SILENT, GITEA)), "in sync with 1a2b3c4 (gitea)"),
        (
            replace(facts([WEB]), remotes=({**SILENT, "down_since": None},)),
            "in sync with 1a2b3c4 (gitea)",
        ),
    ],
)
def test_the_verdict_names_the_worst_first(given: Facts, verdict: str) -> None:
    assert report.status(given)["verdict"] == verdict


def test_an_engine_that_does_not_answer_is_not_called_in_sync_or_healthy() -> None:
    stack = report.status(replace(facts([WEB]), containers=None))["stacks"][0]
    assert (stack["sync"], stack["reason"]) == ("pending", "the engine does not answer")
    assert stack["health"] == "missing"


def test_stacks_and_services_come_in_the_order_of_their_names() -> None:
    made = [release(name, services=[service("z"), service("a")]) for name in "cab"]
    document = report.status(facts(made, stacks=dict.fromkeys("bc", "d1")))
    assert [stack["name"] for stack in document["stacks"]] == ["a", "b", "c"]
    assert [s["name"] for s in document["stacks"][0]["services"]] == ["a", "z"]


# --- suspensions ---

SINCE = "2026-01-02T03:04:05"
ON_WEB = Suspension("web", None, "disk swap", "2026-01-02T03:04:05Z")
ON_HOST = Suspension(None, 0.0, "", "2026-01-02T03:04:06Z")
WEB_DETAIL = "since 2026-01-02T03:04:05Z, until it is resumed: disk swap"
HOST_DETAIL = "since 2026-01-02T03:04:06Z, until 1970-01-01T00:00:00+00:00"
STALE = {
    "subject": "web", "reason": "a person suspended it", "detail": "of the last cycle",
    "since": "t", "needs_person": False,
}  # fmt: skip


@pytest.mark.parametrize(
    "given",
    [
        facts([WEB], suspensions=[ON_WEB]),
        facts(suspensions=[ON_WEB]),
        facts([WEB], [], suspensions=[ON_WEB]),
        facts([WEB], stacks={}, suspensions=[ON_WEB]),
        facts([WEB], stacks={}, broken={"web": "no file"}, suspensions=[ON_WEB]),
        facts(attempts=[FAILED], suspensions=[ON_WEB]),
        facts([WEB], holds=[HELD], suspensions=[ON_WEB]),
        facts([WEB], holds=[STALE], suspensions=[ON_WEB]),
    ],
)
def test_a_suspended_stack_says_just_that(given: Facts) -> None:
    stack = report.status(given)["stacks"][0]
    assert (stack["sync"], stack["reason"]) == ("suspended", WEB_DETAIL)


def test_all_stacks_of_a_suspended_host_are_suspended() -> None:
    made = [release("db"), WEB]
    document = report.status(facts(made, stacks={"web": "d1"}, suspensions=[ON_HOST]))
    assert [stack["sync"] for stack in document["stacks"]] == ["suspended"] * 2
    assert {stack["reason"] for stack in document["stacks"]} == {HOST_DETAIL}
    document = report.status(facts(made, stacks={"web": "d1"}, suspensions=[ON_WEB]))
    assert [stack["sync"] for stack in document["stacks"]] == ["pending", "suspended"]


def test_a_suspension_shows_among_the_holds_before_any_cycle_and_not_after_its_end() -> None:
    document = report.status(facts([WEB], suspensions=[ON_HOST, ON_WEB]))
    shown = {"reason": f"a person suspended it: {HOST_DETAIL}", "needs_person": False}
    assert document["holds"] == [
        {**shown, "subject": "media", "since": ON_HOST.since},
        {
            **shown,
            "subject": "web",
            "reason": f"a person suspended it: {WEB_DETAIL}",
            "since": ON_WEB.since,
        },
    ]
    # What the last cycle wrote about it is not said a second time, nor when it is over.
    assert len(report.status(facts([WEB], holds=[STALE], suspensions=[ON_WEB]))["holds"]) == 1
    assert report.status(facts([WEB], holds=[STALE, HELD]))["holds"] == [
        {"subject": "web", "reason": "R: why", "since": "t", "needs_person": True}
    ]


@pytest.mark.parametrize(
    ("given", "verdict"),
    [
        (facts([WEB], suspensions=[ON_WEB]), "in sync with 1a2b3c4 (gitea); suspended: web"),
        (facts([WEB], [], suspensions=[ON_WEB]), "in sync with 1a2b3c4 (gitea); suspended: web"),
        (
            facts([WEB], holds=[STALE], suspensions=[ON_WEB]),
            "in sync with 1a2b3c4 (gitea); suspended: web",
        ),
        (facts([WEB], suspensions=[ON_HOST]), "suspended at 1a2b3c4 (gitea)"),
        (facts([], suspensions=[ON_HOST, ON_WEB]), "suspended at 1a2b3c4 (gitea)"),
        (
            facts([WEB], holds=[HELD], suspensions=[ON_HOST]),
            "at 1a2b3c4 (gitea); 1 waiting for a person",
        ),
        (
            facts([WEB], stacks={"web": "d1", "db": "d1"}, suspensions=[ON_WEB]),
            "at 1a2b3c4 (gitea); not in sync: db",
        ),
        (
            facts(
                [WEB, release("db")],
                [container("db-web", "db", "web", health="unhealthy")],
                stacks={"web": "d1", "db": "d1"},
                suspensions=[ON_WEB],
            ),
            "at 1a2b3c4 (gitea); degraded: db",
        ),
        (
            facts(
                [WEB],
                holds=[{**HELD, "subject": "rogue", "needs_person": False}],
                suspensions=[ON_WEB],
            ),
            "at 1a2b3c4 (gitea); held: rogue",
        ),
        (
            replace(facts([WEB], suspensions=[ON_HOST]), containers=None),
            "the engine does not answer",
        ),
        (
            replace(facts([WEB], suspensions=[ON_WEB]), remotes=(SILENT,)),
            f"in sync with 1a2b3c4 (gitea); suspended: web (no remote answers since {SINCE})",
        ),
    ],
)
def test_the_verdict_names_what_is_suspended_and_what_else_is_wrong(
    given: Facts, verdict: str
) -> None:
    assert report.status(given)["verdict"] == verdict


def test_a_stack_without_anything_to_run_misses_nothing() -> None:
    nothing = release("web", services=())
    [stack] = report.status(facts([nothing]))["stacks"]
    found = (stack["sync"], stack["health"], stack["reason"])
    assert found == ("synced", "healthy", "it has nothing to run")
