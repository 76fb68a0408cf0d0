"""Parts of a service's spec, as the engine's API writes it; empty where it says nothing of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Spec = Mapping[str, Any]


def template(spec: Spec) -> Spec:
    """What its tasks are made from."""
    return spec.get("TaskTemplate") or {}


def container(spec: Spec) -> Spec:
    """What the containers of its tasks are made from."""
    return template(spec).get("ContainerSpec") or {}


def without_restarts(spec: Spec) -> dict[str, Any]:
    """It without the number that grows whenever somebody has its tasks started anew."""
    kept = {key: value for key, value in template(spec).items() if key != "ForceUpdate"}
    return {**spec, "TaskTemplate": kept}
