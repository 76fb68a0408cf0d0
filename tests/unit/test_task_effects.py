"""What a change of a service does to its tasks in a Swarm."""

from __future__ import annotations

from typing import Any

import pytest

from agent.domain.reconcile import task_effects

_OLD: dict[str, Any] = {"image": "a", "deploy": {"replicas": 3, "labels": {"a": "b"}}}
_INGRESS, _NODE = {"target": 80, "mode": "ingress"}, {"target": 80, "mode": "host"}


@pytest.mark.parametrize(
    ("new", "files", "action", "message"),
    [
        ({}, (), "none", None),
        ({"depends_on": {"b": {}}}, (), "none", None),
        ({"deploy": {"replicas": 1, "labels": {"a": "b"}}}, (), "scale", "1 replicas instead of 3"),
        ({"deploy": {"replicas": 3}}, (), "update", "its tasks stay"),
        ({"ports": [_INGRESS]}, (), "update", "its tasks stay"),
        (
            {"ports": [_NODE]},
            (),
            "recreate",
            "its ports of nodes change, so it gets new tasks",
        ),
        (
            {"deploy": {**_OLD["deploy"], "resources": {"limits": {"memory": "1m"}}}},
            (),
            "recreate",
            "its settings change, so it gets new tasks",
        ),
        ({"user": "1"}, (), "recreate", "its settings change, so it gets new tasks"),
        (
            {},
            ("stacks/web/b", "stacks/web/a"),
            "recreate",
            "stacks/web/a and 1 more changes, so it gets new tasks",
        ),
    ],
)
def test_a_service_keeps_its_tasks_where_nothing_of_them_changes(
    new: dict[str, Any], files: tuple[str, ...], action: str, message: str | None
) -> None:
    assert task_effects.action(_OLD, {**_OLD, **new}, files) == (action, message)
