"""One line of the log on each action, written where it is recorded, and nowhere else.

    begin ─▶ a line for --verbose      end ─▶ the line, with how it ended, once that is written

Errors that a line has told are marked as such (:func:`was_told`): whoever catches one says it no
second time. What was told of a subject is remembered, so that a hold for the same error is short.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from agent.adapters import log_context
from agent.adapters.lru import Lru
from agent.adapters.state.actions import JournalEntry
from agent.domain.outcome import Action, Outcome, Status
from agent.domain.outside import action_line
from agent.domain.outside.action_line import Deed, Line, Severity

log = logging.getLogger("commitd.action")

_REMEMBERED = 1000
_TOLD = "_told_by_the_log"


def was_told(err: BaseException) -> bool:
    """Whether the line of an action has said it already."""
    return _TOLD in vars(err)


class ActionLog:
    """Of one journal."""

    def __init__(self) -> None:
        self._errors: Lru[str, str] = Lru(_REMEMBERED)
        self._troubled: set[str] = set()

    @contextmanager
    def about(self, deed: Deed) -> Iterator[None]:
        """In the block, all that is logged is about that action."""
        with log_context.about(
            stack=deed.stack,
            subject=deed.subject,
            revision=deed.revision,
            reason=deed.reason.value,
            action=deed.action.value,
            actor=deed.actor,
        ):
            if deed.action is not Action.HOLD:  # which takes no time
                _write(action_line.begun(deed))
            yield

    def ended(
        self, deed: Deed, outcome: Outcome, duration_s: float, err: BaseException | None
    ) -> None:
        """Write its line. ``err`` is what its body raised or nobody expected."""
        line = action_line.ended(deed, outcome, duration_s, told=self._errors.get(deed.subject))
        with log_context.about(status=outcome.status.value, duration_s=round(duration_s, 3)):
            unexpected = err if err and str(outcome.error).startswith("unexpected ") else None
            _write(line, unexpected)
        if err is not None:
            vars(err)[_TOLD] = True
        if outcome.error:
            self._errors.put(deed.subject, outcome.error)
        if line.severity >= Severity.WARNING and len(self._troubled) < _REMEMBERED:
            self._troubled.add(deed.subject)

    def interrupted(self, entries: Iterable[JournalEntry], why: str) -> None:
        """Those that an agent before this one had begun, and that were closed for it."""
        for entry in entries:
            deed = Deed(
                action=entry.action,
                subject=entry.subject,
                reason=entry.reason,
                detail=entry.detail,
                causes=entry.cause,
                revision=entry.revision,
                stack=action_line.stack_of(entry.action, entry.subject, entry.reason),
            )
            with self.about(deed):
                outcome = Outcome(subject=entry.subject, status=Status.CANCELLED, error=why)
                self.ended(deed, outcome, 0.0, None)

    def take_troubled(self) -> set[str]:
        """The subjects that warnings and errors were about since the last time."""
        found, self._troubled = self._troubled, set()
        return found


def _write(line: Line, err: BaseException | None = None) -> None:
    log.log(line.severity, "%s", line.text, exc_info=err)
