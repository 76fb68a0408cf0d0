"""A look at the repository as this host can read it: each remote, and what it says of the host."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

from agent.adapters.git import peek
from agent.adapters.host import directories
from agent.adapters.probes.connect import probe
from agent.domain.config import Config, Remote
from agent.domain.errors import CommitdError
from agent.domain.onboarding.todo import Sight
from agent.domain.source.decide import Answer

_WANTED = re.compile(r"host/[^/]+/(?:age\.pub|stacks\.yaml)")


async def look(config: Config) -> Sight:
    """Ask each remote, and read the files of the first that has the branch."""
    why: dict[str, str | None] = {}
    files = None
    with tempfile.TemporaryDirectory(prefix="commitd-setup-") as place:
        askpass = directories.install_askpass(Path(place))
        for remote in config.remotes:
            try:
                await _ask(config, remote)
                if files is None:
                    files = await peek.files(remote, config.branch, askpass, _WANTED)
                why[remote.name] = None
            except CommitdError as err:
                why[remote.name] = f"{err.message} ({err.hint})" if err.hint else err.message
    return Sight(remotes=why, files=files)


async def _ask(config: Config, remote: Remote) -> None:
    """Whether the remote answers as the agent asks it, and has the branch."""
    asked = probe(remote, config.branch)
    try:
        answer = await asked.ask()
    finally:
        await asked.aclose()
    if answer.answer is Answer.EMPTY:
        raise CommitdError("the repository is empty")
    if answer.answer is not Answer.HEAD:
        raise CommitdError(f"it has no branch {config.branch}")
