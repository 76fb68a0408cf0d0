"""Releases as the engine shows them second by second, and when they are given up."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import pytest

from agent.domain.release import patience
from agent.domain.release.health import CRASHES, PATIENCE, ContainerView, Expected, Trouble, judge
from agent.domain.release.health_check import HealthCheck
from agent.domain.release.patience import Course
from tests.unit.builders import container
from tests.values import replace

STEADY_S = 5.0
PATIENT_S = PATIENCE * STEADY_S
CHECK = HealthCheck(interval=2.0, timeout=1.0, retries=3)
SERVICE = Expected(image="", scale=1, one_shot=False)

Seen = Callable[[float], ContainerView]
"""What the engine shows of a container at one second."""


def runs() -> Seen:
    """Without a health check."""
    return lambda now: _sight(up_s=now)


def crashes(*, until: float = 1e9) -> Seen:
    """As the engine restarts it: after 0.1 s, then always twice as long; then it runs."""
    ends = [0.1 * (2**n - 1) for n in range(1, 40)]

    def seen(now: float) -> ContainerView:
        last = [end for end in ends if end <= min(now, until)]
        if now < until:
            return _sight(state="restarting", restarts=len(last))
        return _sight(restarts=len(last), up_s=now - until)

    return seen


def starts(*, until: float) -> Seen:
    """As its health check says, which lets it take its time."""
    return lambda now: _sight(health="starting" if now < until else "healthy", up_s=now)


def checked(healthy: Callable[[float], bool]) -> Seen:
    """Probed every two seconds."""

    def seen(now: float) -> ContainerView:
        streak, ever = 0, False
        for at in range(2, int(now) + 1, 2):
            streak = 0 if healthy(at) else streak + 1
            ever = ever or streak >= CHECK.retries or healthy(at)
        health = "unhealthy" if streak >= CHECK.retries else "healthy" if ever else "starting"
        return _sight(health=health, streak=streak, up_s=now)

    return seen


def _sight(
    *,
    state: str = "running",
    health: str | None = None,
    restarts: int = 0,
    streak: int = 0,
    up_s: float = 0.0,
) -> ContainerView:
    found = container("x", "web", "x", state=state, health=health)
    return ContainerView(
        container=found,
        restarts=restarts,
        up_s=up_s if state == "running" else 0.0,
        check=CHECK,
        streak=streak,
    )


def _named(service: str, sight: ContainerView) -> ContainerView:
    shown = sight.container
    found = container(service, "web", service, state=shown.state, health=shown.health)
    return replace(sight, container=found)


@dataclass(frozen=True)
class Release:
    """Services by name, what each needs, and when the stacks before it are well."""

    services: Mapping[str, Seen]
    needs: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    before_healthy: Callable[[float], bool] = lambda _: True


def ended(release: Release, seconds: int = 3600) -> tuple[float, str] | None:
    """When it was given up, and because of whom; or when it was well; None: still waiting."""
    course = Course(0.0, {name: release.needs.get(name, ()) for name in release.services})
    expected = dict.fromkeys(release.services, SERVICE)
    for now in range(seconds):
        views = [_named(name, seen(now)) for name, seen in release.services.items()]
        findings = judge(expected, views, STEADY_S)
        well = release.before_healthy(now)
        course = patience.follow(course, views, findings, now, before_healthy=well)
        findings = patience.tried(course, views, findings, now, STEADY_S)
        if not findings:
            return now, "well"
        if findings[0].final:
            return now, f"{findings[0].service} {findings[0].trouble.name}"
    return None


WELL_AT_40 = starts(until=40)


@pytest.mark.parametrize(
    ("release", "end"),
    [
        # What nothing else can mend is given up long before any deadline.
        (Release({"app": crashes()}), (26, "app CRASH_LOOP")),
        (Release({"app": checked(lambda _: False)}), (20, "app UNHEALTHY")),
        # Who crashes while its database starts is waited for, named by depends_on or not.
        (Release({"app": crashes(until=42), "db": WELL_AT_40}, {"app": ("db",)}), (62, "well")),
        (Release({"app": crashes(until=42), "db": WELL_AT_40}), (62, "well")),
        (Release({"app": crashes(until=42), "mid": runs(), "db": WELL_AT_40},
                 {"app": ("mid",), "mid": ("db",)}), (62, "well")),
        # Who goes on crashing after that is not.
        (Release({"app": crashes(), "db": WELL_AT_40}, {"app": ("db",)}), (103, "app CRASH_LOOP")),
        (Release({"app": crashes(), "db": runs()}, {"app": ("db",)}), (26, "app CRASH_LOOP")),
        # Nor is a database that crashes itself, whoever waits for it.
        (Release({"app": crashes(), "db": crashes()}, {"app": ("db",)}), (26, "db CRASH_LOOP")),
        (Release({"app": crashes(), "worker": crashes()}), (26, "app CRASH_LOOP")),
        # Unhealthy at 8, healthy at 12: that is what Docker calls normal.
        (Release({"app": checked(lambda now: now >= 11)}), (12, "well")),
        # Failed probes from before its database was well do not count.
        (Release({"app": checked(lambda now: now >= 44), "db": WELL_AT_40}, {"app": ("db",)}),
         (44, "well")),
        (Release({"app": checked(lambda _: False), "db": WELL_AT_40}, {"app": ("db",)}),
         (60, "app UNHEALTHY")),
        # The stacks that come before it count as well.
        (Release({"app": crashes()}, before_healthy=lambda now: now >= 30), (52, "app CRASH_LOOP")),
    ],
)  # fmt: skip
def test_trouble_is_final_once_it_goes_on_while_all_it_depends_on_is_well(
    release: Release, end: tuple[float, str]
) -> None:
    assert ended(release) == end


def test_whose_dependency_is_never_well_is_not_given_up_before_the_deadline() -> None:
    never = starts(until=1e9)
    assert ended(Release({"app": crashes(), "db": never}, {"app": ("db",)})) is None


def test_what_has_crashed_often_must_run_longer_to_be_well() -> None:
    [young] = judge({"x": SERVICE}, [_sight(restarts=CRASHES, up_s=PATIENT_S - 1)], STEADY_S)
    assert (young.trouble, young.final) == (Trouble.CRASH_LOOP, False)
    assert judge({"x": SERVICE}, [_sight(restarts=CRASHES, up_s=PATIENT_S)], STEADY_S) == []
    assert judge({"x": SERVICE}, [_sight(restarts=1, up_s=STEADY_S)], STEADY_S) == []
    assert judge({"x": SERVICE}, [_sight(restarts=9, health="healthy")], STEADY_S) == []
