from __future__ import annotations

import pytest
from msgspec.structs import replace

from agent.domain.container import ONEOFF, REPLACE, Container
from agent.domain.release import revival
from agent.domain.release.health import Need
from agent.domain.release.release import Release, Service
from tests.unit.builders import container, release, running, service

APP = replace(service("app"), plain=True, needs=(("db", Need()),))
DB = replace(service("db"), plain=True, needs=())


def of(*services: Service) -> tuple[Release, list[Container]]:
    """A release whose containers, all of which run, are known by ID."""
    found = release("web", services=services)
    there = running(found)
    own = frozenset((c.service or "", c.id) for c in there)
    return replace(found, own=own), there


def but(there: list[Container], *names: str, **changed: object) -> list[Container]:
    """The same with those of the services ``names`` as ``changed``."""
    return [replace(c, **changed) if c.service in names else c for c in there]


def names(waves: revival.Waves | None) -> list[list[str]] | None:
    return waves if waves is None else [[c.service or "" for c in wave] for wave in waves]


@pytest.mark.parametrize(
    ("state", "code"), [("exited", 137), ("exited", 0), ("exited", 3), ("paused", None)]
)
def test_what_was_stopped_killed_or_paused_is_started_after_what_it_needs(
    state: str, code: int | None
) -> None:
    found, there = of(APP, DB)
    down = but(there, "app", "db", state=state, exit_code=code)
    assert names(revival.waves(found, down, ())) == [["db"], ["app"]]
    assert names(revival.waves(found, but(there, "db", state=state, exit_code=code), ())) == [
        ["db"]
    ]
    assert revival.waves(found, there, ()) == ()


def test_what_finished_is_started_only_if_somebody_stopped_it() -> None:
    found, there = of(replace(service("job", one_shot=True), plain=True, needs=()))
    ended = but(there, "job", state="exited", exit_code=0)
    assert revival.waves(found, ended, ()) == ()
    assert names(revival.waves(found, ended, {ended[0].id})) == [["job"]]


def test_what_shared_namespaces_and_ended_by_itself_may_have_ended_with_others() -> None:
    found, there = of(replace(APP, joins=True), DB)
    down = but(there, "app", state="exited", exit_code=137)
    assert revival.waves(found, down, ()) is None
    [app] = [c.id for c in down if c.service == "app"]
    assert names(revival.waves(found, down, {app})) == [["app"]]


def test_services_that_need_each_other_in_a_circle_are_started_together() -> None:
    found, there = of(APP, replace(DB, needs=(("app", Need()),)))
    down = but(there, "app", "db", state="exited", exit_code=1)
    assert names(revival.waves(found, down, ())) == [["app", "db"]]


@pytest.mark.parametrize(
    ("need", "other", "waves"),
    [
        (Need(healthy=True), {"health": "healthy"}, [["app"]]),
        (Need(healthy=True), {"health": "starting"}, None),
        (Need(healthy=True), {"health": None}, None),
        (Need(healthy=True), {"state": "exited", "exit_code": 137}, None),
        (Need(completed=True), {"state": "exited", "exit_code": 0}, [["app"]]),
        (Need(completed=True), {}, None),
        (Need(restart=True), {}, [["app"]]),
        (Need(shares=True), {}, [["app"]]),
    ],
)
def test_a_condition_that_does_not_hold_now_takes_compose(
    need: Need, other: dict[str, object], waves: list[list[str]] | None
) -> None:
    one_shot = need.completed
    found, there = of(replace(APP, needs=(("db", need),)), replace(DB, one_shot=one_shot))
    there = but(but(there, "db", **other), "app", state="exited", exit_code=137)
    assert names(revival.waves(found, there, ())) == waves


def test_all_that_compose_does_beside_a_start_takes_compose() -> None:
    found, there = of(APP, DB)
    down = but(there, "app", state="exited", exit_code=137)
    half = container("0123456789ab_web-app-0", "web", "app", state="created", labels={REPLACE: "x"})
    unknown = replace(APP, needs=None)
    hooks = replace(APP, plain=False)
    joined = replace(DB, needs=(("app", Need(shares=True)),))
    for case, now in (
        (replace(found, own=None), down),
        (replace(found, dirty=True), down),
        (replace(found, services=(unknown, DB)), down),
        (replace(found, services=(APP, replace(DB, needs=None))), down),
        (replace(found, services=(hooks, DB)), down),
        (replace(found, services=(APP, joined)), down),
        (found, but(there, "app", state="created")),
        (found, but(there, "app", state="dead")),
        (found, [c for c in down if c.service == "app"]),
        (found, but(down, "db", labels={})),
        (found, but(down, "app", id="another")),
        (found, [*down, half]),
    ):
        assert revival.waves(case, now, ()) is None
    paused = but(there, "app", state="paused")
    assert names(revival.waves(replace(found, services=(hooks, joined)), paused, ())) == [["app"]]


def test_a_rival_takes_compose_before_which_it_goes_unless_it_was_evicted_already() -> None:
    found, there = of(APP, DB)
    down = but(there, "app", state="exited", exit_code=137)
    forged = container("forged", "web", "app", labels={ONEOFF: "False"})
    ended = replace(forged, state="exited", exit_code=0)
    kept = replace(ended, name="commitd-evicted-forged-1")
    for rival in (forged, ended, replace(kept, state="running")):
        assert revival.waves(found, [*down, rival], ()) is None
    assert names(revival.waves(found, [*down, kept], ())) == [["app"]]
