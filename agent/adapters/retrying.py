"""The one policy for trying again at once: what fails in passing, a few times, ever later."""

from __future__ import annotations

import random
from collections.abc import Callable

import anyio
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_attempt

from agent.domain.backoff import Backoff
from agent.domain.errors import BusyError, TransientError

TRIES = 3
_PAUSES = Backoff(first_s=1.0, longest_s=10.0, jitter=0.5)


def in_passing(error: BaseException) -> bool:
    """Whether the same thing may work in a moment."""
    return isinstance(error, TransientError)


def retrying(
    tries: int = TRIES,
    pauses: Backoff = _PAUSES,
    worth: Callable[[BaseException], bool] = in_passing,
) -> AsyncRetrying:
    """Tries for ``async for``: the last error is raised, any other if it is ``worth`` no other try.

    A server that asks for more patience than ``pauses`` gets it.
    """

    def wait_s(state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        asked_s = error.retry_after_s if isinstance(error, BusyError) else None
        own_s = pauses.wait_s(state.attempt_number, random.random())  # noqa: S311  spreads load
        return max(asked_s or 0.0, own_s)

    return AsyncRetrying(
        retry=retry_if_exception(worth),
        stop=stop_after_attempt(tries),
        wait=wait_s,
        reraise=True,
        sleep=anyio.sleep,
    )
