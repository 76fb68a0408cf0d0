from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.domain.repository import dependencies

NAMES = "abcdef"
EDGES = st.dictionaries(st.sampled_from(NAMES), st.frozensets(st.sampled_from(NAMES)))


@pytest.mark.parametrize(
    ("after", "faults"),
    [
        ({}, {}),
        ({"a": "", "b": "a", "c": "ab"}, {}),
        ({"a": "z"}, {"a": "it comes after z, which this host does not run"}),
        ({"a": "zy"}, {"a": "it comes after y, which this host does not run"}),
        ({"a": "x"}, {}),
        ({"a": "a"}, {"a": "it waits for itself, through a"}),
        (
            {"a": "b", "b": "a", "c": "a", "d": ""},
            {
                "a": "it waits for itself, through a and b",
                "b": "it waits for itself, through a and b",
            },
        ),
        (
            {"a": "b", "b": "c", "c": "a"},
            dict.fromkeys("abc", "it waits for itself, through a and b and c"),
        ),
        (
            {"a": "bz", "b": "a"},
            {
                "a": "it comes after z, which this host does not run",
                "b": "it waits for itself, through a and b",
            },
        ),
    ],
)
def test_what_cannot_be_put_in_order_is_said_of_the_stacks_to_blame(
    after: Mapping[str, str], faults: Mapping[str, str]
) -> None:
    """`x` is declared, but cannot be read."""
    assert dependencies.faults({k: tuple(v) for k, v in after.items()}, {*after, "x"}) == faults


@given(EDGES)
def test_who_has_no_fault_is_not_on_a_circle_and_needs_only_who_is_here(
    after: dict[str, AbstractSet[str]],
) -> None:
    faults = dependencies.faults(after, after.keys())
    for name, needed in after.items():
        absent = not needed <= after.keys()
        assert (name in faults) == (absent or name in dependencies.reachable(needed, after))


@given(EDGES)
def test_reachable_ends_and_is_closed(after: dict[str, AbstractSet[str]]) -> None:
    found = dependencies.reachable("a", after)
    assert "a" in found
    assert all(after.get(name, set()) <= found for name in found)


@pytest.mark.parametrize(
    ("after", "turned"),
    [
        ({}, {}),
        ({"a": (), "b": ("a",)}, {"a": ("b",), "b": ()}),
        ({"a": (), "b": ("a",), "c": ("a", "b")}, {"a": ("b", "c"), "b": ("c",), "c": ()}),
        ({"b": ("stays",)}, {"b": ()}),
    ],
)
def test_what_others_need_goes_down_after_them(
    after: Mapping[str, tuple[str, ...]], turned: Mapping[str, tuple[str, ...]]
) -> None:
    assert dependencies.turned(after) == turned
