from __future__ import annotations

from typing import Any

import pytest

from agent.adapters.engine.containers import health_check_of
from agent.domain.release.health_check import LONGEST_S, HealthCheck, duration, in_model, longest
from agent.domain.review import repository_scan
from agent.domain.review.checks import stacks
from agent.domain.review.checks.places import Places
from tests.unit.builders import revision, tree


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0s", 0.0),
        ("0", 0.0),
        ("135s", 135.0),
        ("2m15s", 135.0),
        ("1h0m0.5s", 3600.5),
        ("1.5h", 5400.0),
        ("200ms", 0.2),
        (".5s", 0.5),
        ("1000000ns", 0.001),
        ("3µs", 3e-6),
    ],
)
def test_durations_are_read_as_go_writes_them(text: str, seconds: float) -> None:
    assert duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "5", "s", "1d", "1m x", "-1s", "1s2"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        duration(text)


@pytest.mark.parametrize(
    ("raw", "declared_s"),
    [
        ({"test": ["CMD", "true"]}, 180.0),
        ({"test": ["CMD", "true"], "interval": "2m15s", "timeout": "5s", "retries": 1}, 140.0),
        ({"test": ["CMD", "true"], "start_period": "3m0s", "interval": "1s", "timeout": "1s"}, 186),
        (
            {"test": ["CMD", "true"], "start_period": "1m", "start_interval": "5s", "retries": 1},
            125,
        ),
        ({"test": ["NONE"]}, None),
        ({"test": ["CMD", "true"], "disable": True}, None),
        ({"interval": "5s"}, None),
        (None, None),
    ],
)
def test_what_a_model_declares_is_how_long_a_container_may_be_starting(
    raw: dict[str, Any] | None, declared_s: float | None
) -> None:
    found = in_model({"healthcheck": raw} if raw is not None else {})
    assert (found.declared_s if found else None) == declared_s


def test_the_engine_says_what_it_runs_in_nanoseconds_and_nothing_for_its_defaults() -> None:
    raw = {"Test": ["CMD", "true"], "Interval": 135 * 10**9, "StartPeriod": 180 * 10**9}
    found = health_check_of({"Config": {"Healthcheck": raw}})
    assert found == HealthCheck(interval=135.0, start_period=180.0)
    for without in ({}, {"Healthcheck": None}, {"Healthcheck": {"Test": ["NONE"]}}):
        assert health_check_of({"Config": without}) is None


def test_services_that_start_one_after_the_other_may_take_their_times_together() -> None:
    own = {"db": 60.0, "cache": 5.0, "api": 30.0, "web": 10.0, "alone": 80.0}
    needs = {"api": {"db", "cache"}, "web": {"api", "elsewhere"}, "db": (), "cache": ()}
    assert longest(own, needs) == 100.0
    assert longest({}, {}) == 0.0
    assert longest({"a": 1.0, "b": 2.0}, {"a": {"b"}, "b": {"a"}}) == 3.0  # Compose refuses it
    assert longest({"forever": 1e9}, {}) == LONGEST_S


@pytest.mark.parametrize(
    ("settings", "warned"),
    [
        ("health_timeout: 2m", True),
        ("health_timeout: 4m", False),  # 10 s of web after 200 s of db
        ("rollback: true", False),
    ],
)
def test_a_time_that_is_shorter_than_the_health_checks_is_warned_of(
    settings: str, warned: bool
) -> None:
    path = "stacks/web/compose.yaml"
    text = f"x-commitd:\n  {settings}\nservices: {{web: {{image: x}}, db: {{image: x}}}}\n"
    taken = repository_scan.take(tree({path: text}), {path: text.encode()}, revision())
    (stack,) = taken.unused
    check = {"test": ["CMD", "true"], "interval": "5s", "timeout": "5s", "retries": 1}
    model = {
        "services": {
            "web": {"healthcheck": check, "depends_on": {"db": {"condition": "service_healthy"}}},
            "db": {"healthcheck": {**check, "start_period": "3m10s"}},
        }
    }
    found = list(stacks.health_timeout(stack, model, Places(taken.files, stack)))
    assert [(f.rule, f.where) for f in found] == (
        [("health-timeout", f"{path}:2")] if warned else []
    )
    assert all("may take 210 s" in f.message and "db: 200 s" in f.message for f in found)
