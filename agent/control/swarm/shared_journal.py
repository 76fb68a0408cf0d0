"""The one place from which what managers share goes to the Swarm: after the journal has it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

from agent.adapters.state.async_journal import AsyncJournal
from agent.adapters.state.journal import APPROVED_AGENT, CLIFF, Journal

_Args = ParamSpec("_Args")
_Result = TypeVar("_Result")
_Share = Callable[[], Awaitable[None]]


class SharedJournal(AsyncJournal):
    """A journal that calls others back once something was written that managers share."""

    def __init__(self, journal: Journal) -> None:
        super().__init__(journal)
        self._shares: list[_Share] = []  # also of those that are urgent

    def shared_by(self, share: _Share) -> None:
        """Call ``share`` from now on; it raises nothing."""
        self._shares.append(share)

    async def run(
        self,
        work: Callable[Concatenate[Journal, _Args], _Result],
        *args: _Args.args,
        **kwargs: _Args.kwargs,
    ) -> _Result:
        """As :meth:`AsyncJournal.run` does it; what is shared is, once this returns."""
        found = await super().run(work, *args, **kwargs)
        if work in _SHARED or (work is Journal.put and args[0] in _SHARED_KEYS):
            for share in self._shares:
                await share()
        return found


_SHARED: frozenset[Any] = frozenset(
    {
        Journal.keep_release, Journal.forget_release, Journal.mark_dirty, Journal.keep_started,
        Journal.keep_attempt, Journal.forget_attempts, Journal.roll_back, Journal.end_rollback,
        Journal.end_approvals, Journal.exempt, Journal.resume,
    }
)  # fmt: skip
_SHARED_KEYS = frozenset({"declared", "enrolled", APPROVED_AGENT, CLIFF})
