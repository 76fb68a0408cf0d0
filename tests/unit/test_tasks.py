"""Task groups raise errors, not groups of errors, on any Python."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from agent.adapters.tasks import task_group
from agent.domain.errors import CommitdError, ConfigError, TransientError

_ROOT = Path(__file__).parents[2]


class _EndError(BaseException):
    """Such as ends a process."""


async def _fail_together(*errors: BaseException) -> None:
    """All in the same moment, in groups within groups."""
    first, *others = errors

    async def inner() -> None:
        async with task_group() as group:
            if others:
                group.start_soon(_fail_together, *others)
            raise first

    async with task_group() as group:
        group.start_soon(inner)


@pytest.mark.parametrize(
    ("errors", "leading"),
    [
        ([TransientError("a")], 0),
        ([TransientError("a"), ConfigError("b")], 0),
        ([TransientError("a"), KeyError("b")], 1),
        ([TransientError("a"), ConfigError("b"), KeyError("c"), _EndError("d")], 3),
    ],
)
def test_a_group_of_errors_comes_out_as_the_leading_one_however_deep_it_was(
    errors: list[BaseException], leading: int
) -> None:
    with pytest.raises(type(errors[leading])) as caught:
        anyio.run(_fail_together, *errors)
    assert caught.value is errors[leading]
    noted = "".join(getattr(caught.value, "__notes__", []))
    for other in errors:
        assert other is errors[leading] or str(other) in noted


def test_an_error_in_the_body_keeps_its_cause_and_cancels_the_tasks() -> None:
    cause = OSError("no disk")
    ended: list[str] = []

    async def body() -> None:
        async with task_group() as group:
            group.start_soon(_until_cancelled, ended.append)
            await anyio.wait_all_tasks_blocked()
            raise TransientError("a") from cause

    with pytest.raises(CommitdError) as caught:
        anyio.run(body)
    assert caught.value.__cause__ is cause
    assert ended == ["cancelled"]


async def _until_cancelled(note: Callable[[str], None]) -> None:
    try:
        await anyio.sleep_forever()
    finally:
        note("cancelled")


def test_nothing_is_caught_with_an_asterisk() -> None:
    """Until Python 3.11.3, what is raised there, also in a function it calls, becomes a group."""
    used = [
        f"{path.relative_to(_ROOT)}:{node.lineno}"
        for directory in ("agent", "tests")
        for path in (_ROOT / directory).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(), path.name))
        if isinstance(node, ast.TryStar)
    ]
    assert used == []
