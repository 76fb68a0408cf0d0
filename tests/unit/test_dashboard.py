"""The dashboard and the alerts use series and labels that there are; promtool has its own test."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from agent.domain.outcome import Action, Phase, Reason, Status
from agent.domain.outside import metrics
from agent.domain.status.verdict import State

_REFERENCE = Path(__file__).parents[2] / "docs/reference"
_DASHBOARD = json.loads((_REFERENCE / "grafana-dashboard.json").read_text())
_ALERTS = [
    rule
    for group in yaml.safe_load((_REFERENCE / "alerts.yaml").read_text())["groups"]
    for rule in group["rules"]
]
_LABELS = {family.name: {*family.labels, "instance", "job"} for family in metrics.FAMILIES}
_OF_PROMETHEUS = {"instance", "job"}
_VALUES: dict[str, dict[str, set[Any]]] = {
    "commitd_host_state": {"state": set(State)},
    "commitd_stack_sync": {"state": set(metrics._SYNC)},
    "commitd_stack_health": {"state": set(metrics._HEALTH)},
    "commitd_stack_phase_duration_seconds": {"phase": set(Phase)},
    "commitd_actions_total": {"action": set(Action), "status": set(Status)},
    "commitd_holds": {"reason": set(Reason)},
}
_EXPRESSIONS = [
    *(target["expr"] for panel in _DASHBOARD["panels"] for target in panel["targets"]),
    *(rule["expr"] for rule in _ALERTS),
]


def _labels(expression: str) -> set[str]:
    """Of all series in it."""
    names = re.findall(r"\b(?:commitd_\w+|up)\b", expression)
    return set().union(*(_LABELS.get(name, _OF_PROMETHEUS) for name in names))


@pytest.mark.parametrize("expression", _EXPRESSIONS)
def test_an_expression_asks_for_labels_and_values_that_there_are(expression: str) -> None:
    for name, inside in re.findall(r"\b(commitd_\w+|up)\{([^}]*)\}", expression):
        for label, sign, value in re.findall(r'(\w+)(=~|!=|=)"([^"]*)"', inside):
            assert label in _LABELS.get(name, _OF_PROMETHEUS)
            known = _VALUES.get(name, {}).get(label)
            if known is not None and label not in _OF_PROMETHEUS:
                assert set(value.split("|") if sign == "=~" else [value]) <= known
    for by in re.findall(r"\bby \(([^)]*)\)", expression):
        assert set(by.split(", ")) <= _labels(expression)


@pytest.mark.parametrize("rule", _ALERTS, ids=lambda rule: rule["alert"])
def test_an_alert_names_labels_that_its_series_have(rule: dict[str, Any]) -> None:
    by = re.match(r"(?:max|count) by \(([^)]*)\)", rule["expr"])
    there = set(by[1].split(", ")) if by else _labels(rule["expr"])
    for text in rule["annotations"].values():
        assert set(re.findall(r"\$labels\.(\w+)", text)) <= there


def test_panels_are_told_apart_and_lie_beside_each_other() -> None:
    panels = _DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for one, other in itertools.combinations([panel["gridPos"] for panel in panels], 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        below = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or below
        assert one["x"] + one["w"] <= 24


@pytest.mark.parametrize("panel", _DASHBOARD["panels"], ids=lambda panel: panel["title"])
def test_a_panel_names_labels_that_its_series_have(panel: dict[str, Any]) -> None:
    there: set[str] = set()
    for target in panel["targets"]:
        there = _labels(target["expr"])
        assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) <= there
        assert target["datasource"]["uid"] == "${datasource}"
    for change in panel.get("transformations", ()):
        names = {*change["options"]["excludeByName"], *change["options"]["renameByName"]}
        assert names - {"Time", "Value", "__name__"} <= there
