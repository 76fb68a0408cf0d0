"""Holds that are new are written down, as all else that the agent decides."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from agent.adapters.state.async_journal import AsyncJournal
from agent.domain.outcome import Action, Outcome, Status
from agent.domain.reconcile.actions import Hold


async def record(
    journal: AsyncJournal, new: Iterable[Hold], revision: str | None, stacks: Collection[str]
) -> None:
    """An action for each; ``revision`` is the commit in force, ``stacks`` the names of all stacks.

    Raises :class:`CommitdError`.
    """
    for hold in new:
        async with journal.recording(
            Action.HOLD,
            hold.subject,
            hold.reason,
            revision=revision,
            stack=hold.subject if hold.subject in stacks else None,
            actor=hold.actor,
        ) as entry:
            entry.outcome = Outcome(
                subject=hold.subject, status=Status.HELD, error=hold.detail, attempts=0
            )
