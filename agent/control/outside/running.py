"""What consumers beside the work get of it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from msgspec import Struct

from agent.adapters.state.async_journal import AsyncJournal
from agent.control.retry import LastWords
from agent.domain.config import Config


class Running(Struct, frozen=True, kw_only=True):
    """The agent, for as long as it works with one configuration and holds the host's lock.

    ``journal.news`` tells of each action. ``alive`` is whether the loop gets on within the time
    that its work may take.
    """

    config: Config
    journal: AsyncJournal
    words: LastWords
    alive: Callable[[], bool]


Consumer = Callable[[Running], AbstractAsyncContextManager[None]]
"""Works beside the agent until its block ends. It raises nothing."""
