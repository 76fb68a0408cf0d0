"""Orders of a person on this host: each is written to the journal, and the agent acts on it.

With who gave it (``actor``), as :mod:`agent.adapters.host.peer` names users.
"""

from __future__ import annotations

import anyio.to_thread

from agent.adapters.git.repository import Repository
from agent.adapters.host import directories
from agent.adapters.state.async_journal import AsyncJournal
from agent.adapters.state.database import utcnow
from agent.adapters.state.journal import APPROVED_AGENT, Journal, open_journal
from agent.control.source import remote_status
from agent.control.status import names
from agent.control.status.status import list_containers, working
from agent.domain.config import Config
from agent.domain.errors import ConfigError, DeniedError, did_you_mean
from agent.domain.outcome import Action, Reason
from agent.domain.reconcile.exemptions import Suspension
from agent.domain.status.facts import Ongoing

AGENT = "agent"
"""What is approved in place of a commit: the version of the agent that the applied one asks for."""


def suspend(
    config: Config,
    stack: str | None,
    *,
    for_s: float | None,
    reason: str,
    actor: str,
) -> list[Ongoing]:
    """Take a stack (None: the host) out of the agent's hands; what of that it still finishes.

    It lasts for ``for_s`` seconds (None: until it is resumed). Raises
    :class:`ConfigError` for an unknown stack.
    """
    directories.prepare_directories(config)  # also before the agent's first cycle
    journal = open_journal(config, read_only=False, new=True)
    if stack is not None:
        _refuse_unknown(stack, config, journal)
    until = None if for_s is None else journal.now() + for_s
    journal.suspend(Suspension(stack, until, reason, utcnow(), actor))
    return [each for each in working(journal) if stack in {None, each.subject}]


def _refuse_unknown(stack: str, config: Config, journal: Journal) -> None:
    """A mistyped name would leave the stack that was meant in the agent's hands."""
    known = names.stacks(journal)
    known |= {c.project for c in list_containers(config) or () if c.project}
    if stack not in known:
        raise ConfigError(
            f"there is no stack {stack!r} on this host",
            hint=did_you_mean(stack, known, "commitd status lists them"),
        )


async def resume(config: Config, stack: str | None, *, actor: str) -> None:
    """Give a stack (None: the host) back to the agent.

    Raises :class:`ConfigError` when it is not suspended.
    """
    journal = open_journal(config, read_only=False)
    subject = stack or config.host
    if not journal.resume(stack):
        others = [each.stack or config.host for each in journal.suspensions(journal.now())]
        raise ConfigError(
            f"{subject} is not suspended",
            hint=f"suspended: {', '.join(others)}" if others else "nothing is",
        )
    await note(journal, subject, Reason.RESUMED, stack=stack, actor=actor)


async def note(
    journal: Journal,
    subject: str,
    reason: Reason,
    *,
    actor: str,
    stack: str | None = None,
    revision: str | None = None,
    detail: str | None = None,
) -> None:
    """Write down an order that ends a wait."""
    async with AsyncJournal(journal).recording(
        Action.HOLD,
        subject,
        reason,
        detail=detail,
        stack=stack,
        revision=revision,
        actor=actor,
    ):
        pass


async def retry(config: Config, stack: str, *, actor: str) -> None:
    """Try a stack again although its files have not changed.

    Raises :class:`ConfigError` when it has not failed.
    """
    journal = await anyio.to_thread.run_sync(_retried, config, stack)
    await note(journal, stack, Reason.RETRIED, stack=stack, actor=actor)


def _retried(config: Config, stack: str) -> Journal:
    journal = open_journal(config, read_only=False)
    if not journal.retry(stack):
        failed = sorted({*journal.attempts(), *journal.rollbacks()})
        raise ConfigError(
            f"{stack} has not failed",
            hint=did_you_mean(stack, failed, f"failed: {', '.join(failed) or 'none'}"),
        )
    return journal


async def _approve_agent(config: Config, *, actor: str) -> str:
    journal = open_journal(config, read_only=False)
    asked = (journal.get("declared") or {}).get("agent")
    if asked is None:
        raise ConfigError(
            "the applied commit asks for no version of the agent",
            hint="agent: in global/commitd.yaml or in that of the host",
        )
    journal.put(APPROVED_AGENT, asked)
    detail = f"version {asked['version']} of the agent"
    await note(journal, config.host, Reason.APPROVED, actor=actor, detail=detail)
    return AGENT


async def approve(config: Config, rev: str, *, without_data: bool, actor: str) -> tuple[str, bool]:
    """Accept a commit that waits for a person, or the version of the agent that one asks for.

    Raises :class:`CommitdError`.

    Returns its whole SHA, and whether stacks may go on waiting for data under an old name, because
    it is not accepted that they start ``without_data``.
    """
    if rev == AGENT:
        return await _approve_agent(config, actor=actor), False
    try:
        remotes = [remote.name for remote in config.remotes]
        if rev in remotes:
            rev = remote_status.named(open_journal(config), remotes, config.runtime_dir, rev)
        sha = await Repository.to_read(config).resolve(rev)
    except PermissionError:
        raise DeniedError("this user may not read it", where=str(config.state_dir)) from None
    journal = open_journal(config, read_only=False)
    journal.approve(sha, without_data=without_data)
    await note(journal, config.host, Reason.APPROVED, revision=sha, actor=actor)
    waits = any(hold["reason"] is Reason.DATA for hold in journal.holds())
    return sha, waits and not without_data
