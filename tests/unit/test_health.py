"""How a container is, said once for the gate, drift, plan, adoption and status."""

from __future__ import annotations

import pytest

from agent.domain.container import KEPT_PREFIX, Container
from agent.domain.release import health
from agent.domain.release.health import Health
from tests.unit.builders import container
from tests.values import replace

JOB = container("web-job-1", "web", "job", state="exited", exit_code=0)
APP = container("web-app-1", "web", "app")
RECENT = replace(APP, recently_started=True)


def checked(word: str) -> Container:
    return replace(APP, health=word)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (APP, Health.HEALTHY),
        (RECENT, Health.RECENT),
        (checked("healthy"), Health.HEALTHY),
        (replace(RECENT, health="healthy"), Health.HEALTHY),
        (checked("starting"), Health.STARTING),
        (checked("unhealthy"), Health.UNHEALTHY),
        (replace(APP, state="restarting"), Health.RESTARTING),
        (replace(APP, state="paused"), Health.PAUSED),
        (replace(APP, state="created"), Health.STOPPED),
        (replace(APP, state="dead"), Health.STOPPED),
        (replace(APP, state="exited", exit_code=0), Health.EXITED),
        (replace(APP, state="exited", exit_code=137), Health.EXITED),
    ],
)
def test_a_container_is_in_one_way(found: Container, expected: Health) -> None:
    assert health.of(found, one_shot=False) is expected


def test_a_one_shot_finishes_only_well() -> None:
    assert health.of(JOB, one_shot=True) is Health.FINISHED
    assert health.of(replace(JOB, exit_code=1), one_shot=True) is Health.EXITED
    assert health.of(APP, one_shot=True) is Health.HEALTHY


def test_who_knows_better_says_what_is_recent() -> None:
    assert health.of(APP, one_shot=False, recent=True) is Health.RECENT
    assert health.of(RECENT, one_shot=False, recent=False) is Health.HEALTHY


@pytest.mark.parametrize(
    ("found", "now", "steady"),
    [
        ([], False, False),
        ([APP, JOB], True, True),
        ([RECENT], True, False),
        ([checked("starting")], False, False),
        ([checked("unhealthy")], False, False),
        ([APP, replace(JOB, exit_code=1)], False, False),
        ([APP, replace(APP, name=f"{KEPT_PREFIX}x", state="exited", exit_code=1)], True, True),
        ([container("x")], False, False),  # of no service
    ],
)
def test_a_project_is_healthy_when_all_of_it_is(
    found: list[Container], now: bool, steady: bool
) -> None:
    assert health.all_healthy(found) is now
    assert health.all_healthy(found, steady=True) is steady
