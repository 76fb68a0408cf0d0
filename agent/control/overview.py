"""The status of this host: the journal, what remotes said, and a look at the engine."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from agent.adapters import containers, host
from agent.adapters.journal import Journal
from agent.control import remotes
from agent.domain import namespaces, report
from agent.domain.config import Config
from agent.domain.container import Container
from agent.domain.errors import CommitdError
from agent.domain.model import Release

_UNDECLARED = 50


def status(config: Config, journal: Journal) -> dict[str, Any]:
    """The document of ``status --json``. Blocks."""
    names = [remote.name for remote in config.remotes]
    answers = remotes.last_answers(journal, names, config.runtime_dir)
    return report.status(
        report.Facts(
            host=config.host,
            enrolled=journal.get("enrolled") is not None,
            declared=journal.get("declared"),
            attempted=journal.get("attempted"),
            remotes=tuple(asdict(answers[name]) for name in names),
            releases=journal.releases(),
            attempts=journal.attempts(),
            holds=tuple(journal.holds()),
            undeclared=(*_evicted(journal), *(journal.get("exempt") or ())),
            suspensions=journal.suspensions(time.time()),
            rollbacks={n: (r.digest, r.reason) for n, r in journal.rollbacks().items()},
            containers=list_containers(config, journal.releases().values()),
            changed_at=journal.changed_at(),
        )
    )


def _evicted(journal: Journal) -> list[dict[str, Any]]:
    return [
        {key: value for key, value in asdict(evicted).items() if key != "remove_at"}
        for evicted in journal.evicted(_UNDECLARED)
    ]


def list_containers(
    config: Config, releases: Iterable[Release] = ()
) -> tuple[Container, ...] | None:
    """What the engine lists, or None when it does not answer.

    With ``releases``, also which of their containers are cut off from those they belong to.
    """
    try:
        return containers.list_now(host.docker_host(config), namespaces.joining(releases))
    except CommitdError:
        return None
