"""What the agent knows at the moment at which somebody asks for its metrics."""

from __future__ import annotations

import time
from functools import cache
from importlib import metadata

import anyio.to_thread

from agent.adapters.state.journal import Journal
from agent.control.outside.running import Running
from agent.domain.errors import CommitdError
from agent.domain.outside.metrics import Observed, Record


async def observe(running: Running) -> Observed:
    """All of it. Nothing is asked of the engine or of a remote for that."""
    try:
        record = await running.journal.news.read(_record)
    except CommitdError:
        record = None
    standing = running.standings.latest
    return Observed(
        host=running.config.host,
        version=await anyio.to_thread.run_sync(_version),
        now=time.time(),
        ready=running.ready(),
        stream_age=running.stream_age(),
        cycle=running.standings.cycle,
        facts=standing.facts if standing else None,
        holds=standing.holds if standing else (),
        stacks=standing.stacks if standing else (),
        record=record,
        failing=tuple(running.trouble.current),
    )


def _record(journal: Journal) -> Record:
    return Record(totals=tuple(journal.totals()), phases=journal.phases())


@cache
def _version() -> str:
    return metadata.version("commitd")
