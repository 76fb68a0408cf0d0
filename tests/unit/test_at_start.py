"""Which stacks the engine starts, and in which order."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from agent.domain.compose import at_start
from agent.domain.repository import dependencies

SCHEMA = Path(__file__).parent / "compose-spec/compose-spec.json"


def keys_of_a_service() -> set[str]:
    kinds = json.loads(SCHEMA.read_text())["$defs"]

    def keys(kind: dict[str, Any]) -> set[str]:
        parts = [kinds[each["$ref"].rpartition("/")[2]] for each in kind.get("allOf", ())]
        return {*kind.get("properties", {})}.union(*map(keys, parts))

    return keys(kinds["service"])


def test_of_every_key_of_a_service_it_is_known_whether_compose_does_more_at_its_start() -> None:
    assert keys_of_a_service() == at_start.PLAIN | at_start.MORE
    assert not at_start.PLAIN & at_start.MORE


@pytest.mark.parametrize("key", [*sorted(at_start.MORE), "from_a_later_version"])
def test_compose_starts_what_it_does_more_for_and_what_nobody_knows(key: str) -> None:
    assert at_start.plain({"services": {"app": {"image": "x", "x-note": 1}}})
    assert not at_start.plain({"services": {"a": {"image": "x"}, "b": {"image": "x", key: []}}})


def test_who_needs_others_is_started_after_these() -> None:
    needs = {"web": ("app", "elsewhere"), "app": ("db", "cache"), "db": (), "cache": (), "x": ()}
    assert dependencies.levels(needs) == [["cache", "db", "x"], ["app"], ["web"]]
    assert dependencies.levels({"a": ("b",), "b": ("a",)}) == [["a", "b"]]
    assert dependencies.levels({}) == []
