"""Tasks side by side: what goes wrong in one of them comes out as one error, never as a group.

Before Python 3.11.4 whatever is raised inside ``except*`` is wrapped in a new group. So nothing in
the agent uses ``except*``, and every task group is this one; the unit tests see to that.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

import anyio
import anyio.to_thread
from anyio.abc import TaskGroup

from agent.domain.errors import CommitdError

_Result = TypeVar("_Result")


async def to_the_end(work: Callable[[], _Result]) -> _Result:
    """Do ``work``, which blocks, in a thread; being cancelled comes after it."""
    done: list[_Result] = []
    with anyio.CancelScope(shield=True):
        done.append(await anyio.to_thread.run_sync(work))
    return done[0]


@asynccontextmanager
async def task_group() -> AsyncIterator[TaskGroup]:
    """A task group of anyio that raises one error: the leading one of its tasks and its body."""
    failed: BaseException | None = None
    try:
        async with anyio.create_task_group() as group:  # noqa: TID251  the one place
            yield group
    except BaseExceptionGroup as errors:
        failed = leading(errors)
    if failed is not None:  # outside of the handler, or it would drag the group along
        raise failed


def leading(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """The one to raise: what ends the process before a mistake of ours before a known error.

    Of equals the first. The others are named in its notes, which a traceback shows.
    """
    first, *others = sorted(_flat(errors), key=_rank)  # stable
    for other in others:
        first.add_note(f"at the same time: {type(other).__name__}: {other}")
    return first


def _flat(error: BaseException) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [each for inner in error.exceptions for each in _flat(inner)]
    return [error]


def _rank(error: BaseException) -> int:
    if not isinstance(error, Exception):
        return 0
    return 2 if isinstance(error, CommitdError) else 1
