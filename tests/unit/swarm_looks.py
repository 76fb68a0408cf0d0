"""Recorded answers of real Swarms: what their managers listed, look by look."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from agent.adapters.swarm.cluster import node_of, service_of, task_of
from agent.domain.swarm import health
from agent.domain.swarm.course import Course, Look
from agent.domain.swarm.finding import Finding

_PLACE = Path(__file__).with_name("swarm-looks")
_TICK_S = 0.5

Judged = list[tuple[float, list[Finding]]]


def names() -> list[str]:
    return sorted(path.stem for path in _PLACE.glob("*.json"))


def read(name: str) -> dict[str, Any]:
    raw: dict[str, Any] = json.loads((_PLACE / f"{name}.json").read_text())
    return raw


def judged(name: str, *, steady_s: float = 1.0, ends: float | None = None) -> Judged:
    """What each look found, and when after the deploy; looks go on until it ``ends``."""
    raw = read(name)
    course, found = Course(began=raw["began"]), []
    for look in looks(raw, ends):
        course, findings = health.judge(course, raw["images"], look, steady_s)
        found.append((look.now, findings))
    return found


def looks(raw: dict[str, Any], ends: float | None = None) -> Iterator[Look]:
    """All of a recording, and one each half second while nothing changes."""
    services: dict[str, Any] = {}
    tasks: dict[str, Any] = {}
    nodes = [node_of(each) for each in raw["nodes"]]
    upcoming = list(raw["looks"])
    now = upcoming[0]["at"]
    ends = raw["ends"] if ends is None else ends
    while now <= ends:
        while upcoming and upcoming[0]["at"] <= now:
            changes = upcoming.pop(0)
            services |= {
                each["ID"]: _whole(each, raw["specs"]) for each in _of(changes, "services")
            }
            tasks |= {each["ID"]: _whole(each, raw["specs"]) for each in _of(changes, "tasks")}
            for gone in _of(changes, "gone"):
                del tasks[gone]
        yield Look(
            services=[service_of(each) for each in services.values()],
            tasks=[task_of(each) for each in tasks.values()],
            nodes=nodes,
            now=now,
            wall=raw["wall"] + now,
        )
        now += _TICK_S


def _of(changes: dict[str, Any], key: str) -> list[Any]:
    found: list[Any] = changes.get(key, [])
    return found


def _whole(raw: dict[str, Any], specs: list[Any]) -> dict[str, Any]:
    kept: dict[str, Any] = {key: specs[raw[key]] for key in ("Spec", "PreviousSpec") if key in raw}
    return {**raw, **kept}
