from __future__ import annotations

import pytest

from agent.adapters.engine.containers import from_inspect
from agent.domain.container import SERVICE as SERVICE_LABEL
from agent.domain.release.health import (
    CRASHES,
    Ages,
    ContainerView,
    Expected,
    HealthFinding,
    Known,
    Trouble,
    judge,
    made_by_compose,
)
from tests.unit.builders import container
from tests.values import replace

STEADY_S = 10.0
DIGEST = f"sha256:{'0' * 64}"
PINNED = f"registry:5000/app:1@{DIGEST}"
SERVICE = Expected(image=PINNED, scale=1, one_shot=False)
JOB = replace(SERVICE, one_shot=True)


def sight(
    service: str = "app",
    number: int = 1,
    *,
    state: str = "running",
    image: str = PINNED,
    exit_code: int | None = None,
    health: str | None = None,
    restarts: int = 0,
    up_s: float = STEADY_S,
) -> ContainerView:
    name = f"web-{service}-{number}"
    found = container(name, "web", service, state=state, exit_code=exit_code, health=health)
    return ContainerView(
        container=replace(found, image=image),
        restarts=restarts,
        up_s=up_s if state == "running" else 0.0,
    )


def judged(service: Expected, *views: ContainerView) -> list[HealthFinding]:
    return judge({"app": service}, views, STEADY_S)


@pytest.mark.parametrize(
    ("service", "seen", "trouble", "final"),
    [
        (SERVICE, sight(), None, False),
        (SERVICE, sight(up_s=STEADY_S - 0.1), Trouble.RECENT, False),
        (SERVICE, sight(health="healthy", up_s=0.1), None, False),
        (SERVICE, sight(health="starting"), Trouble.STARTING, False),
        (SERVICE, sight(health="unhealthy"), Trouble.UNHEALTHY, False),
        (SERVICE, sight(restarts=CRASHES - 1), None, False),
        (SERVICE, sight(restarts=CRASHES), Trouble.CRASH_LOOP, False),
        (SERVICE, sight(state="restarting", restarts=CRASHES), Trouble.CRASH_LOOP, False),
        (SERVICE, sight(state="restarting", restarts=1), Trouble.STOPPED, False),
        (SERVICE, sight(state="created"), Trouble.STOPPED, False),
        (SERVICE, sight(state="paused"), Trouble.PAUSED, False),
        (SERVICE, sight(state="exited", exit_code=0), Trouble.EXITED, True),
        (SERVICE, sight(state="exited", exit_code=137), Trouble.EXITED, True),
        (JOB, sight(state="exited", exit_code=0), None, False),
        (JOB, sight(state="exited", exit_code=0, health="unhealthy"), None, False),
        (JOB, sight(state="exited", exit_code=3), Trouble.EXITED, True),
        (JOB, sight(), None, False),
        (JOB, sight(up_s=0.1), Trouble.RECENT, False),
        (SERVICE, sight(image=f"registry:5000/app@{DIGEST}"), None, False),
        (SERVICE, sight(image=f"other/name:2@{DIGEST}"), None, False),
        (SERVICE, sight(image="registry:5000/app:1"), Trouble.IMAGE, True),
        (SERVICE, sight(image=f"registry:5000/app:1@sha256:{'1' * 64}"), Trouble.IMAGE, True),
        (replace(SERVICE, image="app:1"), sight(image="app:1"), None, False),
        (replace(SERVICE, image="app:1"), sight(image="app:2"), Trouble.IMAGE, True),
        (replace(SERVICE, image=""), sight(image="built"), None, False),
    ],
)
def test_each_state_of_a_container_has_its_own_name(
    service: Expected, seen: ContainerView, trouble: Trouble | None, final: bool
) -> None:
    found = [(finding.trouble, finding.final) for finding in judged(service, seen)]
    assert found == ([] if trouble is None else [(trouble, final)])


@pytest.mark.parametrize(
    ("scale", "there", "says"),
    [
        (1, 0, "app was removed from outside (0 of 1 containers)"),
        (2, 1, "app was removed from outside (1 of 2 containers)"),
        (1, 2, "app was made more often than its file says (2 of 1 containers)"),
        (0, 1, "app was made more often than its file says (1 of 0 containers)"),
        (0, 0, None),
        (3, 3, None),
    ],
)
def test_there_are_as_many_containers_as_the_file_says(
    scale: int, there: int, says: str | None
) -> None:
    found = judged(replace(SERVICE, scale=scale), *(sight(number=i) for i in range(there)))
    assert [str(finding) for finding in found] == ([says] if says else [])
    assert all(finding.outside and not finding.final for finding in found)


def test_what_no_waiting_mends_comes_first_and_all_is_named() -> None:
    """Who was never started waits for others."""
    expected = dict.fromkeys(("a", "aa", "b", "c", "d"), SERVICE)
    found = judge(
        expected,
        [
            sight("a", health="starting"),
            sight("b", state="exited", exit_code=3),
            sight("aa", state="created"),
            sight("d", health="unhealthy"),
        ],
        STEADY_S,
    )
    assert [str(finding) for finding in found] == [
        "web-b-1 has ended with 3",
        "c was removed from outside (0 of 1 containers)",
        "web-a-1 is not healthy yet",
        "web-d-1 is unhealthy",
        "web-aa-1 does not run (created)",
    ]


@pytest.mark.parametrize(
    ("service", "seen", "trouble"),
    [
        (SERVICE, sight(state="exited", exit_code=0), Trouble.HALTED),
        (SERVICE, sight(state="exited", exit_code=137), Trouble.HALTED),
        (JOB, sight(state="exited", exit_code=0), Trouble.HALTED),
        (SERVICE, sight(state="paused"), Trouble.PAUSED),
        (SERVICE, sight(image="registry:5000/app:1"), Trouble.REPLACED),
        (SERVICE, sight(), None),  # it goes on, whatever it was told
    ],
)
def test_what_somebody_else_did_to_a_container_is_not_blamed_on_its_release(
    service: Expected, seen: ContainerView, trouble: Trouble | None
) -> None:
    known = Known(stopped={"id-web-app-1"}, made={"id-others"})
    found = judge({"app": service}, [seen], STEADY_S, known)
    assert [each.trouble for each in found] == ([trouble] if trouble else [])
    assert all(each.outside and not each.final and each.service == "app" for each in found)


def test_what_somebody_put_in_a_place_that_compose_was_about_to_fill_is_not_of_its_making() -> None:
    """It bears the labels, so that Compose takes it for its own; its image tells."""
    services = {"app": replace(SERVICE, scale=2), "built": replace(SERVICE, image="")}
    views = [sight(), sight(number=2, image="registry:5000/web:2"), sight("built", image="any")]
    containers = [view.container for view in views]
    assert made_by_compose(services, containers, containers) == containers
    made = made_by_compose(services, containers, containers[:1])
    assert [each.name for each in made] == ["web-app-1", "web-built-1"]
    [finding] = judge(services, views, STEADY_S, Known(made={each.id for each in made}))
    assert (finding.trouble, finding.subject) == (Trouble.REPLACED, "web-app-2")


def test_of_two_containers_of_a_service_the_bad_one_is_named() -> None:
    [finding] = judged(replace(SERVICE, scale=2), sight(), sight(number=2, restarts=CRASHES))
    assert str(finding) == f"web-app-2 crashes again and again ({CRASHES} times)"
    assert finding.container is not None
    assert finding.container.name == "web-app-2"


def test_containers_of_services_that_are_not_expected_are_not_judged() -> None:
    assert judged(SERVICE, sight(), sight("left", state="exited", exit_code=1)) == []


def test_a_stack_without_services_is_well() -> None:
    assert judge({}, [], STEADY_S) == []


@pytest.mark.parametrize("health", [None, {"Status": "none"}, {"Status": ""}])
def test_what_has_no_health_check_is_not_well_before_it_is_steady(
    health: dict[str, str] | None,
) -> None:
    """Engines say differently that there is none."""
    shown = from_inspect(
        {
            "Id": "id",
            "Name": "/s-web-1",
            "State": {"Status": "running", "Health": health},
            "Config": {"Image": "web:1", "Labels": {SERVICE_LABEL: "web"}},
            "HostConfig": {"RestartPolicy": {"Name": "no"}},
        }
    )
    expected = {"web": Expected(image="web:1", scale=1, one_shot=False)}
    [finding] = judge(expected, [ContainerView(container=shown, up_s=1.0)], 10.0)
    assert finding.trouble is Trouble.RECENT


def test_a_clock_that_is_set_back_amid_a_deploy_makes_nothing_younger() -> None:
    ages = Ages()
    started = replace(sight(), up_s=2.0, container=replace(sight().container, started=1000.0))
    assert ages.of(started, 50.0).up_s == 2.0
    # The wall clock says that it was started in the future, and then an hour ago.
    assert ages.of(replace(started, up_s=0.001), 60.0).up_s == 12.0
    assert ages.of(replace(started, up_s=3600.0), 65.0).up_s == 17.0
    again = replace(started, up_s=0.5, container=replace(started.container, started=1070.0))
    assert ages.of(again, 70.0).up_s == 0.5
    assert ages.of(replace(again, up_s=0.0), 71.0).up_s == 0.0
