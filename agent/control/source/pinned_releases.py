"""Stacks as they were at older commits: where newer releases have failed, and until they are gone.

The containers of a stack that left mount its files for as long as they run, which may be long where
a person has to decide. Files that Git has taken away would be missing at their next start.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec.structs import replace

from agent.adapters.git.repository import Repository
from agent.adapters.state.async_journal import AsyncJournal
from agent.adapters.state.journal import Journal
from agent.domain.errors import CommitdError, PermanentError
from agent.domain.finding import Fault
from agent.domain.repository.desired import DesiredState, Stack


def active_overlays(journal: Journal, desired: DesiredState) -> dict[str, str]:
    """Stacks whose files stay as they were while their input is the one that failed. Blocks."""
    digests = {stack.name: stack.digest for stack in desired.stacks}
    return {
        name: rollback.revision
        for name, rollback in journal.rollbacks().items()
        if digests.get(name) == rollback.digest
    }


def kept_files(journal: Journal, desired: DesiredState) -> dict[str, str]:
    """The same, and stacks that left with all their files and are not gone yet. Blocks."""
    there = desired.names | desired.present
    left = {n: r.revision for n, r in journal.releases().items() if n not in there}
    return left | active_overlays(journal, desired)


async def applicable(
    repository: Repository, sha: str, active: Mapping[str, str]
) -> tuple[dict[str, str], dict[str, Fault]]:
    """Which of ``active`` can be checked out over ``sha``, and what is wrong with the others.

    The older files may lie where the host has data now.
    """
    if not await _problem(repository, sha, active):
        return dict(active), {}
    there: dict[str, str] = {}
    lost: dict[str, Fault] = {}
    for name, revision in active.items():
        if problem := await _problem(repository, sha, {**there, name: revision}):
            message = f"its files of the last healthy release cannot be restored: {problem}"
            lost[name] = Fault(message, f"stacks/{name}")
        else:
            there[name] = revision
    return there, lost


async def _problem(repository: Repository, sha: str, active: Mapping[str, str]) -> str | None:
    if not active:
        return None
    try:
        faults = await repository.look(await repository.overlaid(sha, active))
    except CommitdError as err:
        return str(err)
    return str(faults[0]) if faults else None


async def with_rollbacks(
    desired: DesiredState, journal: AsyncJournal, repository: Repository
) -> DesiredState:
    """``desired``, but with older stacks where newer ones failed; changes nothing.

    One whose files are not to be had any more is broken: what runs of it is left as it is.
    """
    active = await journal.run(active_overlays, desired)
    if not active:
        return desired
    rollbacks = await journal.rollbacks()
    older: dict[str, Stack] = {}
    lost: dict[str, Fault] = {}
    for name, revision in active.items():
        try:
            older[name] = await stack_at(repository, desired.host, name, revision)
        except CommitdError as err:
            lost[name] = Fault(f"it cannot be kept at {revision[:7]}: {err}", f"stacks/{name}")
    return replace(
        desired,
        stacks=tuple(older.get(s.name, s) for s in desired.stacks if s.name not in lost),
        broken={**desired.broken, **lost},
        rolled_back={
            name: f"{rollbacks[name].reason}; back to {active[name][:7]}" for name in older
        },
    )


async def stack_at(repository: Repository, host: str, name: str, revision: str) -> Stack:
    """A stack as it was at an older commit. Raises :class:`PermanentError`."""
    try:
        desired, _ = await repository.declared(revision, host)
    except CommitdError as err:
        raise PermanentError(f"{revision[:7]} cannot be read any more: {err}") from None
    found = next((stack for stack in desired.stacks if stack.name == name), None)
    if found is None:
        raise PermanentError(f"{name} cannot be read at {revision[:7]}")
    return found
