from __future__ import annotations

import pytest

from agent.domain.container import CONFIG_HASH, NUMBER, Container, CutOff
from agent.domain.release import drift, health
from tests.unit.builders import container, release, running, service
from tests.values import replace

RELEASE = release(
    "web", services=[service("app", scale=2), service("db"), service("job", one_shot=True)]
)
GOOD = running(RELEASE)


def but(name: str, *instead: Container) -> list[Container]:
    """The good containers with the one called ``name`` replaced."""
    return [c for c in GOOD if c.name != name] + list(instead)


def db(state: str = "running", exit_code: int | None = None) -> Container:
    return container("web-db-0", "web", "db", state=state, exit_code=exit_code)


def named(name: str) -> Container:
    """The container of db, its number 1 by its label."""
    return container(name, "web", "db", labels={NUMBER: "1"})


def job(state: str, exit_code: int | None = None) -> Container:
    return container("web-job-0", "web", "job", state=state, exit_code=exit_code)


@pytest.mark.parametrize(
    "containers",
    [
        GOOD,
        GOOD[::-1],
        but("web-job-0", job("exited", 0)),
        but("web-db-0", db("restarting")),
        but("web-db-0", named("web-db-1")),
        but("web-db-0", named("commitd-evicted-web-db-1-0123456789ab")),
        [*GOOD, container("run", "web", "db", one_off=True, state="exited", exit_code=1)],
        # Ended by eviction and kept, or waiting for enrolment: not a reason to deploy again.
        [*GOOD, container("commitd-evicted-x", "web", "rogue", state="exited")],
        [*GOOD, container("x", "web", "rogue")],
        [*GOOD, container("x", "web")],
    ],
)
def test_a_release_stands_while_its_services_run(containers: list[Container]) -> None:
    assert drift.compare(RELEASE, containers) == ()


@pytest.mark.parametrize(
    ("containers", "cause"),
    [
        (but("web-db-0"), ("web/db containers", "1", "0")),
        (but("web-app-1"), ("web/app containers", "2", "1")),
        (but("web-db-0", db("exited", 137)), ("web/db state", "running", "exited 137")),
        (but("web-db-0", db("exited", 0)), ("web/db state", "running", "exited 0")),
        (but("web-db-0", db("created")), ("web/db state", "running", "created")),
        (but("web-db-0", db("paused")), ("web/db state", "running", "paused")),
        (but("web-db-0", named("mine")), ("web/db name", "web-db-1", "mine")),
        (
            but("web-db-0", replace(db(), cut_off=CutOff("vpn", gone=False))),
            ("web/db namespace of vpn", "joined", drift.RESTARTED),
        ),
        (but("web-db-0", db("dead")), ("web/db state", "running", "dead")),
        (but("web-job-0", job("exited", 1)), ("web/job state", "running", "exited 1")),
        (but("web-job-0", job("created")), ("web/job state", "running", "created")),
        ([*GOOD, container("x", "web", "db")], ("web/db containers", "1", "2")),
    ],
)
def test_what_is_not_as_deployed_is_named(
    containers: list[Container], cause: tuple[str, str, str]
) -> None:
    found = drift.compare(RELEASE, containers)
    assert [(c.subject, c.before, c.after) for c in found] == [cause]


def test_a_service_with_other_settings_is_drift() -> None:
    changed = container("web-db-0", "web", "db", labels={CONFIG_HASH: "by hand"})
    found = drift.compare(RELEASE, but("web-db-0", changed))
    assert [(c.subject, c.before, c.after) for c in found] == [
        ("web/db settings", "hash-of-db", "by hand"),
        ("web/db containers", "1", "0"),
    ]


@pytest.mark.parametrize(
    ("found", "well"),
    [
        ([], False),
        ([container("a", "p", "s")], True),
        ([replace(container("a", "p", "s"), recently_started=True)], False),
        ([replace(container("a", "p", "s", health="healthy"), recently_started=True)], True),
        ([container("a", "p", "s", health="starting")], False),
        ([container("a", "p", "s", state="restarting")], False),
        ([container("a", "p", "s", state="created")], False),
        ([container("a", "p", "s"), container("b", "p", "i", state="exited", exit_code=0)], True),
        ([container("a", "p", "s"), container("b", "p", "i", state="exited", exit_code=1)], False),
    ],
)
def test_what_may_be_well_after_all_is_steady_or_healthy(
    found: list[Container], well: bool
) -> None:
    assert health.all_healthy(found, steady=True) is well


def test_a_release_of_which_nothing_runs_names_every_service() -> None:
    found = drift.compare(RELEASE, [])
    assert [c.subject for c in found] == [
        "web/app containers",
        "web/db containers",
        "web/job containers",
    ]
