"""What the tests of the probes share: remotes as the agent reads them, asks, and hard clocks."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import anyio
import pytest
import yaml

from agent.adapters.probes import base, http, ssh
from agent.adapters.probes.base import Probe
from agent.adapters.probes.connect import probe
from agent.domain import config as configuration
from agent.domain.errors import UnreachableError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.domain.config import Remote
    from agent.domain.source.git_protocol import RefAnswer
    from tests.sandbox import GitServer

T = TypeVar("T")


def remote_of(settings: dict[str, Any], **changes: Any) -> Remote:
    """An entry of `remotes:`, changed, as the agent reads it; None takes a setting away."""
    entry = {key: value for key, value in (settings | changes).items() if value is not None}
    text = yaml.safe_dump({"host": "media", "remotes": [entry]})
    return configuration.parse(text.encode(), "config.yaml", hostname="media").remotes[0]


def with_probe(remote: Remote, use: Callable[[Probe], Awaitable[T]], branch: str = "main") -> T:
    """What `use` makes of a probe that is closed after."""

    async def main() -> T:
        asked = probe(remote, branch)
        try:
            return await use(asked)
        finally:
            await asked.aclose()

    return anyio.run(main)


def ask(remote: Remote, branch: str = "main") -> RefAnswer:
    """One ask on a new connection."""
    return with_probe(remote, lambda asked: asked.ask(), branch)


def refusal(remote: Remote, branch: str = "main") -> UnreachableError:
    """The error of one ask on a new connection."""
    with pytest.raises(UnreachableError) as caught:
        ask(remote, branch)
    return caught.value


async def refused(asked: Probe) -> UnreachableError:
    """The error of one ask."""
    with pytest.raises(UnreachableError) as caught:
        await asked.ask()
    return caught.value


def links(server: GitServer) -> set[int]:
    """The connections to this server that are open now, as numbers."""
    return {id(link) for link in server.proxy._links}


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Fail when the block takes longer, which is far more than it needs: nothing else ends it."""
    began = time.monotonic()
    yield
    assert time.monotonic() - began < seconds


@contextmanager
def hurried(
    *, ask_s: float = base.ASK_S, connect_s: float = base.CONNECT_S, close_s: float = base.CLOSE_S
) -> Iterator[None]:
    """Less of the agent's patience in the block: what is tested is that it ends, not when.

    Only for those who are to lose it: an answer may take its time on a busy machine.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(base, "ASK_S", ask_s)
        patch.setattr(ssh, "CLOSE_S", close_s)
        for module in (ssh, http):
            patch.setattr(module, "CONNECT_S", connect_s)
        yield
