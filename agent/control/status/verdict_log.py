"""The line of the log on how the host is: whenever that is another one, and nothing twice."""

from __future__ import annotations

import logging
from collections.abc import Collection

from agent.domain.status.verdict import State, Verdict

log = logging.getLogger("commitd")

_OF_ACTIONS = {State.FAILED, State.WAITING}


class VerdictLog:
    """Of one agent. A warning, unless lines on actions have told of all that is wrong."""

    def __init__(self) -> None:
        self._line: str | None = None
        self._told: set[str] = set()

    def note(self, found: Verdict, troubled: Collection[str]) -> None:
        """A cycle has ended so; warnings and errors since the last one were about ``troubled``."""
        wrong = {trouble.subject for trouble in found.troubles}
        self._told = (self._told | {*troubled}) & wrong
        if found.line != self._line:
            told = found.state in _OF_ACTIONS and wrong and self._told == wrong
            quiet = not found.exit_code or found.state is State.WORKING or told
            log.log(logging.INFO if quiet else logging.WARNING, "%s", found.line)
        self._line = found.line
