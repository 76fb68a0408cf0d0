"""What consumers beside the work get of it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from msgspec import Struct, field

from agent.adapters.state.async_journal import AsyncJournal
from agent.control.outside.trouble import Trouble
from agent.control.retry import LastWords
from agent.control.status.standing import Standings
from agent.domain.config import Config


class Running(Struct, frozen=True, kw_only=True):
    """The agent, for as long as it works with one configuration and holds the host's lock.

    ``journal.news`` tells of each action, ``standings`` of each judgement on the host. ``alive`` is
    whether the loop gets on within the time that its work may take, ``ready`` whether it knows how
    the host is. ``wake`` has it ask the remotes, and look at everything, now. ``stream_age`` is for
    how many seconds it has listened to the engine's events; None: it does not. ``trouble`` is what
    of telling others does not work. ``leave`` has it end, once it has finished what it is at, so
    that systemd starts it again.
    """

    config: Config
    journal: AsyncJournal
    standings: Standings
    words: LastWords
    alive: Callable[[], bool]
    ready: Callable[[], bool]
    wake: Callable[[], None]
    stream_age: Callable[[], float | None] = lambda: None
    trouble: Trouble = field(default_factory=Trouble)
    leave: Callable[[], None] = lambda: None


Consumer = Callable[[Running], AbstractAsyncContextManager[None]]
"""Works beside the agent until its block ends. It raises nothing."""
