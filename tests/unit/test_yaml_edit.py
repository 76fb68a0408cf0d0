from __future__ import annotations

import pytest

from agent.domain.documents import Path
from agent.domain.errors import PermanentError
from agent.domain.repository import yaml_edit

A: Path = ("services", "web", "a")


@pytest.mark.parametrize(
    ("before", "value", "after"),
    [
        ("{a: x}", "./y", "{a: ./y}"),
        ("{a: x}", "127.0.0.1:5000/y:1", "{a: 127.0.0.1:5000/y:1}"),
        ("{a: x}", "12:30", '{a: "12:30"}'),
        ("{a: 'x'}  # why", "${P}", '{a: "${P}"}  # why'),
        ('{a: "x\\ty", b: x}', "z", "{a: z, b: x}"),
        ("\n    a: x  # why\n    b: x", "y: z", '\n    a: "y: z"  # why\n    b: x'),
        ("\n    a: &n x\n    b: *n", "y", "\n    a: &n y\n    b: *n"),
        ("\n    a: !!str 1", "y", "\n    a: !!str y"),
        ("{a: x}", '[{"path": "p"}]', '{a: [{"path": "p"}]}'),
    ],
)
def test_one_value_changes_and_nothing_else(before: str, value: str, after: str) -> None:
    content = f"# top\nservices:\n  web: {before}\n".encode()
    result = yaml_edit.rewrite(content, "c.yaml", {A: value})
    assert result.decode() == f"# top\nservices:\n  web: {after}\n"


def test_what_a_merge_brings_is_changed_where_it_stands() -> None:
    content = b"x: &x {a: 1.0}\nservices: {web: {<<: *x, b: 2}}\n"
    result = yaml_edit.rewrite(content, "c.yaml", {A: "z"})
    assert result == b"x: &x {a: z}\nservices: {web: {<<: *x, b: 2}}\n"


def test_one_value_for_two_services_cannot_become_two() -> None:
    content = b"x: &x {a: 1}\nservices: {web: {<<: *x}, db: {<<: *x}}\n"
    with pytest.raises(PermanentError, match=r"c.yaml:1: two services share this value"):
        yaml_edit.rewrite(content, "c.yaml", {A: "y", ("services", "db", "a"): "z"})


@pytest.mark.parametrize("spelled", ["|\n      x", ">-\n      x", "x\n      y", ""])
def test_what_is_spelled_over_lines_is_refused_with_its_line(spelled: str) -> None:
    with pytest.raises(PermanentError, match=r"^c.yaml:[34]: "):
        yaml_edit.rewrite(f"services:\n  web:\n    a: {spelled}\n".encode(), "c.yaml", {A: "y"})
