"""Whether the time that a stack gets to become healthy is one in which it can."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from agent.domain.finding import Finding, Level
from agent.domain.release import expected, health_check
from agent.domain.repository.desired import Stack
from agent.domain.repository.stack_settings import KEY
from agent.domain.review.checks.places import Places

Model = Mapping[str, Any]


def judge(stack: Stack, model: Model, places: Places) -> Iterator[Finding]:
    """``health_timeout`` where the health checks of services that wait for each other say more."""
    if not places.has(KEY, "health_timeout"):
        return
    own: dict[str, float] = {}
    for name, service in (model.get("services") or {}).items():
        try:
            check = health_check.in_model(service)
        except ValueError:  # nothing that Compose would print
            continue
        own[name] = check.declared_s if check else 0.0
    declared_s = health_check.longest(own, expected.needs(model))
    given_s = stack.settings.health_timeout
    if given_s < declared_s:
        slowest = max(own, key=lambda name: own[name])
        yield Finding(
            Level.WARNING,
            "health-timeout",
            places.of(KEY, "health_timeout"),
            f"health_timeout is {given_s:g} s, but the health checks may take {declared_s:g} s "
            f"before they call a service unhealthy ({slowest}: {own[slowest]:g} s): "
            "so long is waited all the same",
            "leave health_timeout out, or shorten start_period, interval, timeout or retries",
        )
