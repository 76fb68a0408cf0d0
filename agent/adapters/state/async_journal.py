"""The journal for those who must not block the event loop, and the one way to write an action.

An action is begun before anything is done, and finished however its body ends::

    begin ─▶ body ─┬▶ returns ───▶ succeeded, or as the body said
      │            ├▶ raises ────▶ what the error stands for, mostly failed
      ▼            └▶ cancelled ─▶ cancelled, or as the body said
    error: nothing is done

When the end cannot be written, nothing is undone: the error is logged, and the agent closes the
action as cancelled at its next start. An action is logged once its end is in the journal
(:mod:`agent.adapters.state.action_log`). Consumers outside read :attr:`AsyncJournal.news`.
"""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Any, Concatenate, ParamSpec, TypeVar

import anyio
import anyio.to_thread

from agent.adapters.state.action_log import ActionLog
from agent.adapters.state.actions import CUT_SHORT, Ended
from agent.adapters.state.journal import Journal
from agent.adapters.state.news import News
from agent.adapters.state.turns import Turns
from agent.domain.errors import CommitdError
from agent.domain.outcome import Action, Cause, Outcome, Phase, Reason, Status
from agent.domain.outside import action_line
from agent.domain.outside.action_line import Deed

log = logging.getLogger("commitd.journal")

_Args = ParamSpec("_Args")
_Result = TypeVar("_Result")


class Recording:
    """An action that has begun. ``outcome`` is for its body to say how it ended, if not plainly.

    ``unexpected`` is what nobody foresaw and the body did not raise: for the log.
    """

    def __init__(self, journal: AsyncJournal, number: int) -> None:
        self._journal = journal
        self.number = number
        self.phases: dict[Phase, float] = {}
        """How long each took so far, in seconds."""
        self.outcome: Outcome | None = None
        self.unexpected: BaseException | None = None

    @contextmanager
    def phase(self, phase: Phase) -> Iterator[None]:
        """Measure a part of it. What is tried several times adds up."""
        began = time.monotonic()
        try:
            yield
        finally:
            self.phases[phase] = self.phases.get(phase, 0.0) + time.monotonic() - began

    async def add_causes(self, causes: Iterable[Cause]) -> None:
        """Write down more of why it is done. Raises :class:`CommitdError`."""
        await self._journal.run(Journal.add_causes, self.number, causes)


def _coroutine(
    method: Callable[Concatenate[Journal, _Args], _Result],
) -> Callable[Concatenate[AsyncJournal, _Args], Coroutine[Any, Any, _Result]]:
    async def call(journal: AsyncJournal, /, *args: _Args.args, **kwargs: _Args.kwargs) -> _Result:
        return await journal.run(method, *args, **kwargs)

    return call


class AsyncJournal:
    """``journal``, in worker threads. Its methods do what those of :class:`Journal` do."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._turns, self._urgent = Turns(), False
        """SQLite does one thing at a time: who waits for that takes no thread."""
        self._thread = anyio.CapacityLimiter(1)
        self.news = News(journal.path)
        self.log = ActionLog()

    def urgent(self) -> AsyncJournal:
        """The same, for those who do not wait for others' turns: each write waits for the disk."""
        found = copy.copy(self)
        found._urgent = True  # noqa: SLF001  its own
        return found

    async def run(
        self,
        work: Callable[Concatenate[Journal, _Args], _Result],
        *args: _Args.args,
        **kwargs: _Args.kwargs,
    ) -> _Result:
        """Do ``work`` with the journal in one trip. Once begun it is not cut short."""
        bound = partial(work, self._journal, *args, **kwargs)
        async with self._turns.turn(urgent=self._urgent):
            return await anyio.to_thread.run_sync(bound, limiter=self._thread)

    @asynccontextmanager
    async def recording(
        self,
        action: Action,
        subject: str,
        reason: Reason,
        *,
        detail: str | None = None,
        causes: Iterable[Cause] = (),
        revision: str | None = None,
        ended: Ended | None = None,
        stack: str | None = None,
        actor: str | None = None,
    ) -> AsyncIterator[Recording]:
        """Write down that ``action`` begins, and how the body of the context ended.

        ``detail`` is of this one case; what ``ended`` says of a container is written with it.
        ``stack`` is the one that it is about, where its kind does not tell; ``actor`` the person
        who ordered it. Raises :class:`CommitdError` when its beginning cannot be written, and what
        the body raises.
        """
        deed = Deed(
            action=action,
            subject=subject,
            reason=reason,
            detail=detail,
            causes=tuple(causes),
            revision=revision,
            stack=stack or action_line.stack_of(action, subject, reason),
            image=ended[0].image if ended else None,
            actor=actor,
        )
        number = await self.run(
            Journal._begin,  # noqa: SLF001  nobody else may
            action,
            subject,
            reason,
            detail=detail,
            causes=deed.causes,
            revision=revision,
            ended=ended,
            actor=actor,
        )
        self.news.tell()
        entry, started = Recording(self, number), time.monotonic()
        with self.log.about(deed):
            async with self._ending(deed, entry, started):
                yield entry

    @asynccontextmanager
    async def _ending(self, deed: Deed, entry: Recording, started: float) -> AsyncIterator[None]:
        """Write down how the block ended, and log it."""
        subject, plain = deed.subject, Outcome(subject=deed.subject, status=Status.CANCELLED)
        raised: Exception | None = None
        try:
            yield
            plain = Outcome(subject=subject, status=Status.SUCCEEDED)
        except CommitdError as err:
            raised = err
            entry.outcome = Outcome(subject=subject, status=Status.of(err), error=str(err))
            raise
        except Exception as err:
            raised = err
            entry.outcome = Outcome(
                subject=subject, status=Status.FAILED, error=f"unexpected {type(err).__name__}"
            )
            raise
        finally:
            outcome, duration_s = entry.outcome or plain, time.monotonic() - started
            try:
                with anyio.CancelScope(shield=True):
                    await self.run(
                        Journal._finish,  # noqa: SLF001
                        entry.number,
                        outcome,
                        duration_s,
                        entry.phases,
                    )
                self.news.tell()
            except CommitdError as err:
                log.error("%s: %s, but %s", subject, outcome.status.value, err)  # noqa: TRY400
            finally:
                self.log.ended(deed, outcome, duration_s, raised or entry.unexpected)

    async def close_open_actions(self) -> None:
        """As :meth:`Journal.close_open_actions`, with a line of the log for each."""
        open_ones = await self.run(Journal.unfinished)
        if await self.run(Journal.close_open_actions):
            self.log.interrupted(open_ones, CUT_SHORT)

    def close(self) -> None:
        """Close the file, for those who read its news too. Blocks."""
        self.news.close()
        self._journal.close()

    def now(self) -> float:
        """As :meth:`Journal.now`; reads only the machine's clocks."""
        return self._journal.now()

    def shown(self, ran: float) -> float:
        """As :meth:`Journal.shown`."""
        return self._journal.shown(ran)

    def unsettled(self) -> str | None:
        """As :meth:`Journal.unsettled`."""
        return self._journal.unsettled()

    approved = _coroutine(Journal.approved)
    attempts = _coroutine(Journal.attempts)
    end_approvals = _coroutine(Journal.end_approvals)
    end_orders = _coroutine(Journal.end_orders)
    end_rollback = _coroutine(Journal.end_rollback)
    evicted_is_over = _coroutine(Journal.evicted_is_over)
    exempt = _coroutine(Journal.exempt)
    find_evicted = _coroutine(Journal.find_evicted)
    first_seen = _coroutine(Journal.first_seen)
    forget_attempts = _coroutine(Journal.forget_attempts)
    forget_helper = _coroutine(Journal.forget_helper)
    forget_made = _coroutine(Journal.forget_made)
    forget_plaintext = _coroutine(Journal.forget_plaintext)
    forget_release = _coroutine(Journal.forget_release)
    forget = _coroutine(Journal.forget)
    get = _coroutine(Journal.get)
    helpers = _coroutine(Journal.helpers)
    history = _coroutine(Journal.history)
    keep_attempt = _coroutine(Journal.keep_attempt)
    keep_helper = _coroutine(Journal.keep_helper)
    keep_holds = _coroutine(Journal.keep_holds)
    keep_made = _coroutine(Journal.keep_made)
    keep_modes = _coroutine(Journal.keep_modes)
    keep_plaintext = _coroutine(Journal.keep_plaintext)
    keep_release = _coroutine(Journal.keep_release)
    keep_started = _coroutine(Journal.keep_started)
    kept = _coroutine(Journal.kept)
    learn_evicted = _coroutine(Journal.learn_evicted)
    made = _coroutine(Journal.made)
    mark_dirty = _coroutine(Journal.mark_dirty)
    next_due = _coroutine(Journal.next_due)
    note_time = _coroutine(Journal.note_time)
    track_inputs = _coroutine(Journal.track_inputs)
    plaintext = _coroutine(Journal.plaintext)
    prune = _coroutine(Journal.prune)
    put = _coroutine(Journal.put)
    releases = _coroutine(Journal.releases)
    report = _coroutine(Journal.report)
    restart_policy = _coroutine(Journal.restart_policy)
    resume = _coroutine(Journal.resume)
    roll_back = _coroutine(Journal.roll_back)
    rollbacks = _coroutine(Journal.rollbacks)
    salt = _coroutine(Journal.salt)
    started = _coroutine(Journal.started)
    suspensions = _coroutine(Journal.suspensions)
    granted = _coroutine(Journal.granted)
    without_modes = _coroutine(Journal.without_modes)
