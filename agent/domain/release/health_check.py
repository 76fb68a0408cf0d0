"""What the health checks of a release declare, and how long it may take because of that.

The engine calls a container unhealthy once ``retries`` probes in a row have failed, of which none
in the start period counts; until then it is starting, and may still become healthy. The defaults
are the engine's own (https://docs.docker.com/reference/dockerfile/#healthcheck).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any, Self

from msgspec import Struct

LONGEST_S = 3600.0
"""No health check makes a release be waited for longer than this; ``health_timeout`` may."""

_INTERVAL_S, _TIMEOUT_S, _RETRIES = 30.0, 30.0, 3
_TIMES = ("interval", "timeout", "start_period", "start_interval")
_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "μs": 1e-6}
_UNITS["ns"] = 1e-9
_PART = re.compile(r"(\d+\.?\d*|\.\d+)(h|ms|m|s|us|µs|μs|ns)")


class HealthCheck(Struct, frozen=True, kw_only=True):
    """One, complete with defaults; times in seconds."""

    interval: float = _INTERVAL_S
    timeout: float = _TIMEOUT_S
    retries: int = _RETRIES
    start_period: float = 0.0
    start_interval: float = 0.0

    @classmethod
    def of(
        cls,
        interval: float,
        timeout: float,
        retries: int,
        start_period: float,
        start_interval: float,
    ) -> Self:
        """With the engine's default for each that is 0."""
        return cls(
            interval=interval or _INTERVAL_S,
            timeout=timeout or _TIMEOUT_S,
            retries=retries or _RETRIES,
            start_period=start_period,
            start_interval=start_interval if start_period else 0.0,
        )

    @property
    def declared_s(self) -> float:
        """So long after its start the container may become healthy before it is unhealthy."""
        probes_s = (self.interval + self.timeout) * self.retries
        return self.start_period + self.start_interval + probes_s


def in_model(service: Mapping[str, Any]) -> HealthCheck | None:
    """That of one service of the model that Compose prints; None where it declares none.

    What the image declares, and what a service that only changes its times takes from it, is not
    in the model. Raises :class:`ValueError` for what is no duration.
    """
    raw = service.get("healthcheck")
    if not isinstance(raw, Mapping) or raw.get("disable") or not raw.get("test"):
        return None
    if list(raw["test"])[:1] == ["NONE"]:
        return None
    times = {key: duration(str(raw.get(key) or "0s")) for key in _TIMES}
    return HealthCheck.of(
        times["interval"],
        times["timeout"],
        int(raw.get("retries") or 0),
        times["start_period"],
        times["start_interval"],
    )


def duration(text: str) -> float:
    """Seconds, from Go's way of writing them (``1m30s``). Raises :class:`ValueError`."""
    parts = _PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        if text == "0":
            return 0.0
        raise ValueError(f"{text!r} is not a duration")
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


def longest(own: Mapping[str, float], needs: Mapping[str, Collection[str]]) -> float:
    """How long the slowest service may take when each starts only after those it ``needs``.

    ``own`` is how long each takes by itself, in seconds.
    """
    known: dict[str, float] = {}

    def until(name: str, path: frozenset[str]) -> float:
        if name not in known:
            before = [until(n, path | {name}) for n in needs.get(name, ()) if n not in path]
            known[name] = own.get(name, 0.0) + max(before, default=0.0)
        return known[name]

    return min(LONGEST_S, max((until(name, frozenset()) for name in own), default=0.0))
