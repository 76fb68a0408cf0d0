"""The status of this host: the journal, what remotes said, and a look at the engine."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from contextlib import closing
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from msgspec.structs import asdict

from agent.adapters.host import lock
from agent.adapters.state.database import iso
from agent.adapters.state.journal import STANDBY, Journal, open_journal
from agent.control.reconcile import listed
from agent.control.reconcile.listed import Listing
from agent.control.source import remote_status
from agent.control.source.remote_status import Seen
from agent.control.status import looks, on_trial
from agent.domain.config import Config
from agent.domain.container import Container
from agent.domain.errors import CommitdError, UnreachableError
from agent.domain.outcome import EvictionAction, Reason
from agent.domain.status import report
from agent.domain.status.facts import Facts, LastLook, Ongoing

if TYPE_CHECKING:  # a host does without it
    from agent.domain.swarm.model import SwarmNode

_UNDECLARED = 50


def now(config: Config, outside: Iterable[Mapping[str, str]] = ()) -> dict[str, Any]:
    """The document of ``status --json``; ``outside`` is what only the running agent knows.

    Raises :class:`CommitdError`. Blocks.
    """
    with closing(open_journal(config)) as journal:
        return status(config, journal, outside)


def status(
    config: Config, journal: Journal, outside: Iterable[Mapping[str, str]] = ()
) -> dict[str, Any]:
    """The same, by a journal that is open. Blocks."""
    names = [remote.name for remote in config.remotes]
    running = lock.running_agent(config) is not None
    listing, error = _look(config, journal)
    answered = error is not None and not isinstance(error, UnreachableError)
    found = facts(
        journal,
        config,
        answers=remote_status.last_answers(journal, names, config.runtime_dir),
        containers=listing.containers if listing else None,
        running=running,
        look=looks.last(journal, config.runtime_dir),
        working=working(journal) if running else (),
        nodes=listing.nodes if listing else (),
        no_manager=error.message if error and answered else None,
    )
    ours = found.standby is None
    undeclared = (*_reported(journal, found), *_exempt(journal, found)) if ours else ()
    return report.status(
        found,
        undeclared=undeclared,
        changed_at=journal.changed_at(),
        engine_error=str(error) if error else None,
        outside=outside,
        trial=on_trial.now(),
    )


def facts(
    journal: Journal,
    config: Config,
    *,
    answers: Mapping[str, Seen],
    containers: tuple[Container, ...] | None,
    running: bool,
    look: LastLook,
    working: tuple[Ongoing, ...] = (),
    nodes: tuple[SwarmNode, ...] = (),
    no_manager: str | None = None,
) -> Facts:
    """All that a verdict is made of, for the commands, the API and the agent itself. Blocks."""
    now = time.time()
    holds = tuple(journal.holds())
    return Facts(
        host=config.host,
        now=now,
        enrolled=journal.get("enrolled") is not None
        # Then it is another machine's consent.
        and not any(hold["reason"] == Reason.OTHER_MACHINE for hold in holds),
        declared=journal.get("declared"),
        attempted=journal.get("attempted"),
        remotes=tuple(
            asdict(answers[remote.name]) | {"patience": _patience(config, remote.poll)}
            for remote in config.remotes
        ),
        releases=journal.releases(),
        attempts=journal.attempts(),
        holds=holds,
        suspensions=journal.suspensions(journal.now()),
        rollbacks={n: (r.digest, r.reason) for n, r in journal.rollbacks().items()},
        approved=journal.approved(),
        without_data=journal.approved_without_data(),
        containers=containers,
        running=running,
        look=look,
        patience=_patience(config, min(config.resync, *(r.poll for r in config.remotes))),
        working=working,
        standby=journal.get(STANDBY) if config.docker.mode == "swarm" else None,
        nodes=nodes,
        no_manager=no_manager,
    )


def _patience(config: Config, every: float) -> float:
    """For how long something that is asked ``every`` so often (seconds) is taken for known."""
    return max(config.stale_after, 2 * every)


def working(journal: Journal) -> tuple[Ongoing, ...]:
    """What the running agent has begun: it closed what the one before it left open."""
    return tuple(
        Ongoing(
            action=each.action,
            subject=each.subject,
            reason=each.reason,
            message=each.message,
            since=each.at,
        )
        for each in journal.unfinished()
    )


def _evicted(journal: Journal) -> list[dict[str, Any]]:
    kept = {record.id for record in journal.kept()}
    return [
        {
            "id": record.id,
            "name": record.name,
            "image": record.image,
            "action": record.action,
            "reason": record.reason,
            "message": record.message,
            "at": record.at,
            "undoable": record.id in kept,
        }
        for record in journal.evicted(_UNDECLARED)
    ]


def _reported(journal: Journal, found: Facts) -> list[dict[str, Any]]:
    """Those that were ended or reported, and those that were there before and are only reported."""
    known = _evicted(journal)
    names = {each["name"] for each in known if each["action"] == EvictionAction.REPORTED}
    holds = {h["subject"]: h for h in found.holds if h["reason"] == Reason.REPORT_ONLY}
    return [
        *(
            _shown(c, EvictionAction.REPORTED, Reason.REPORT_ONLY, holds[c.name]["since"])
            for c in found.containers or ()
            if c.name in holds.keys() - names and c.alive
        ),
        *known,
    ]


def _exempt(journal: Journal, found: Facts) -> list[dict[str, Any]]:
    """As the newest cycle saw them, and those that were brought back since."""
    known = [{**each, "undoable": False} for each in journal.get("exempt") or ()]
    back = journal.granted(journal.now()).keys() - {each["id"] for each in known}
    return known + [
        _shown(c, EvictionAction.EXEMPT, Reason.UNDONE, iso(datetime.fromtimestamp(c.created, UTC)))
        for c in found.containers or ()
        if c.id in back and c.alive
    ]


def _shown(container: Container, action: EvictionAction, reason: Reason, at: str) -> dict[str, Any]:
    return {
        "id": container.id,
        "name": container.name,
        "image": container.image,
        "action": action,
        "reason": reason,
        "message": reason.text,
        "at": at,
        "undoable": False,
    }


def list_containers(config: Config, journal: Journal | None = None) -> tuple[Container, ...] | None:
    """What runs, or None when the engine does not answer; ``journal`` as for :func:`listed.now`."""
    listing, _ = _look(config, journal)
    return listing.containers if listing else None


def _look(config: Config, journal: Journal | None) -> tuple[Listing | None, CommitdError | None]:
    """The listing, or why there is none."""
    try:
        return listed.now(config, journal), None
    except CommitdError as err:
        return None, err
