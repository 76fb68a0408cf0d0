"""A few tries of one piece of work, written down, and how long to wait after they failed."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from agent.adapters.lru import Lru
from agent.adapters.retrying import retrying
from agent.adapters.state.async_journal import AsyncJournal, Recording
from agent.adapters.state.database import utcnow
from agent.domain.backoff import Backoff
from agent.domain.errors import (
    CommitdError,
    HeldError,
    InterferenceError,
    PermanentError,
    TransientError,
)
from agent.domain.outcome import Outcome, Reason, Status
from agent.domain.reconcile.exemptions import Exemptions
from agent.domain.release.release import Attempt

_Result = TypeVar("_Result")

LastWords = Lru[str, tuple[str, str]]
"""When (ISO 8601) a container of a stack has failed, and what it said that no log may hold."""
_REMEMBERED = 100

BACKOFF = Backoff(first_s=5.0, longest_s=300.0, jitter=0.2, quiet_s=600.0)
"""Of what failed at once, several times."""


class Attempts:
    """What fails in passing is tried again at once, then later and later."""

    def __init__(self, journal: AsyncJournal) -> None:
        self._journal = journal
        self.words: LastWords = Lru(_REMEMBERED)

    async def tries(
        self, entry: Recording, subject: str, work: Callable[[], Awaitable[_Result]]
    ) -> tuple[Outcome, _Result | None]:
        """Do ``work``, with a few tries; how it ended, and its result if it succeeded.

        What nobody expected of it is logged with the end of ``entry``.
        """
        tries = 0
        result: _Result | None = None
        error: CommitdError | None = None
        try:
            async for attempt in retrying():
                tries = attempt.retry_state.attempt_number
                with attempt:
                    await self.refuse_suspended(subject)
                    result = await work()
        except CommitdError as err:
            error = err
        except Exception as err:  # noqa: BLE001  it is logged
            error, entry.unexpected = TransientError(f"unexpected {type(err).__name__}"), err
        if error and error.words:
            self.words.put(subject, (utcnow(), error.words))
        outcome = Outcome(
            subject=subject,
            status=Status.of(error),
            error=str(error) if error else None,
            permanent=isinstance(error, PermanentError),
            attempts=tries,
            interference=isinstance(error, InterferenceError),
            reason=Reason(error.code) if error and error.code else None,
        )
        return outcome, result

    async def refuse_suspended(self, subject: str) -> None:
        """A person may have taken it out of our hands since the plan was made.

        Raises :class:`HeldError` then.
        """
        found = await self._journal.suspensions(self._journal.now())
        if Exemptions(suspensions=found).suspension(subject):
            raise HeldError("it was suspended meanwhile")

    async def keep_failure(
        self, before: Attempt | None, subject: str, digest: str, error: str, *, permanent: bool
    ) -> None:
        """Remember a failure, one more than ``before`` if that was of the same kind."""
        now = self._journal.now()
        again = before if before and before.digest == digest else None
        count = BACKOFF.count(again.count, now - again.next_at) if again else 1
        wait_s = BACKOFF.wait_s(count, random.random())  # noqa: S311  spreads load
        await self._journal.keep_attempt(
            Attempt(
                stack=subject,
                digest=digest,
                count=count,
                next_at=now + wait_s,
                permanent=permanent,
                error=error,
            )
        )
