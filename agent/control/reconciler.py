"""The loop: one cycle at a time from remotes to journal, one verdict line each.

ask remotes ▶ decide ▶ look, reset ▶ read ▶ decrypt ▶ list ▶ plan ▶ converge ▶ record
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import anyio
import anyio.to_thread

from agent.adapters.engine import Engine
from agent.adapters.git import Repository, Signature
from agent.adapters.journal import Journal
from agent.control.converge import Converger
from agent.control.evict import Evictor
from agent.control.remotes import Remotes
from agent.control.secrets import SecretKeeper
from agent.domain import layout, plan, source
from agent.domain.config import Config
from agent.domain.errors import CommitdError, PermanentError
from agent.domain.model import (
    Cause,
    DesiredState,
    Evict,
    Hold,
    Outcome,
    Plan,
    Protected,
    Reason,
    Status,
)

log = logging.getLogger("commitd")


@dataclass(frozen=True, slots=True)
class Verdict:
    """How one cycle ended: one line, what it means for an exit code, and each thing's reason."""

    line: str
    failed: bool = False
    waiting: bool = False
    reasons: tuple[str, ...] = ()


class Protection:
    """What must not be evicted, as last published. Readers get it without waiting."""

    def __init__(self) -> None:
        self._current = Protected({}, "the first full look is not done yet")

    def publish(self, protected: Protected) -> None:
        """From now on this counts."""
        self._current = protected

    def current(self) -> Protected:
        """What counts now."""
        return self._current


@dataclass(frozen=True, slots=True)
class Parts:
    """What the loop works with."""

    config: Config
    repository: Repository
    remotes: Remotes
    engine: Engine
    journal: Journal
    secrets: SecretKeeper
    converger: Converger
    evictor: Evictor
    protection: Protection


class Reconciler:
    """Runs cycles. Never two at a time."""

    def __init__(self, parts: Parts) -> None:
        self._p = parts
        self._desired: DesiredState | None = None
        self._signature: Signature = {}
        self._confirmed: str | None = None

    async def cycle(self, *, ask: bool = True) -> Verdict:
        """Bring the host to what the remotes declare, as far as that is safe.

        With ``ask`` false the remotes are left in peace. Raises nothing that belongs to one
        stack; raises :class:`CommitdError` when engine, journal or clone fail.
        """
        holds: list[Hold] = []
        if ask:
            holds += await self._follow()
        await self._discard_edits()
        desired = self._desired
        if desired is None:
            await self._write_holds(holds)
            detail = "; ".join(hold.detail for hold in holds) or "no commit was ever fetched"
            return Verdict(f"nothing to enforce: {detail}", failed=True)
        doubt = next((h.detail for h in holds if h.reason is Reason.LIST_IN_DOUBT), None)
        situation = await self._situation(desired, doubt)
        self._p.protection.publish(plan.protected(situation))
        if situation.locked:
            log.debug("locked: %s", situation.locked)
        todo = plan.plan(situation)
        outcomes, refused = await self._execute(todo, desired)
        holds += [*todo.holds, *refused]
        await self._write_holds(holds)
        await self._shrink(situation, outcomes)
        await self._p.evictor.remove_expired()
        return _verdict(desired, self._confirmed, todo, outcomes, holds)

    # --- pull ---

    async def _follow(self) -> list[Hold]:
        """Ask the remotes and move to the commit they agree on; why not, if not."""
        heads = await self._p.remotes.ask()
        applied = await self._p.repository.applied()
        shas = {head.sha for head in heads if head.sha} | ({applied} if applied else set())
        ancestry = await self._p.repository.ancestry(shas) if len(shas) > 1 else _ALONE
        try:
            return await self._decide(heads, ancestry, applied)
        finally:
            await self._p.remotes.record(ancestry, await self._p.repository.applied())

    async def _decide(
        self, heads: list[source.Head], ancestry: source.Ancestry, applied: str | None
    ) -> list[Hold]:
        approved = await anyio.to_thread.run_sync(self._p.journal.approved)
        decision = source.decide(
            heads,
            ancestry,
            applied,
            follow=self._p.config.history == "follow",
            approved=approved,
        )
        holds: list[Hold] = []
        match decision:
            case source.Accept(sha=sha, remote=remote):
                return await self._advance(sha, remote, applied)
            case source.Wait(detail=detail, remote=remote):
                holds = [Hold(remote, Reason.HISTORY, detail, needs_person=True)]
            case source.Stay(remote=remote, detail=detail):
                answered = any(head.sha for head in heads)
                self._confirmed = remote or (detail if answered else "no remote answers")
        if applied:
            await self._load(applied)
        return holds

    async def _advance(self, sha: str, remote: str, applied: str | None) -> list[Hold]:
        """Look at the commit, then make it the checkout; on any doubt keep what is there."""
        repository = self._p.repository
        revision = await repository.revision(sha)
        await anyio.to_thread.run_sync(
            self._p.journal.put, "attempted", {**asdict(revision), "remote": remote}
        )
        if applied:
            await self._load(applied)
        if faults := await repository.look(sha):
            return [Hold(fault.where, Reason.TREE, f"{sha[:7]}: {fault}") for fault in faults]
        try:
            desired = await self._read(sha)
        except PermanentError as err:
            # Without a readable list nobody knows what is declared: the last good commit stays.
            return [Hold(self._p.config.host, Reason.LIST_IN_DOUBT, f"{sha[:7]}: {err}")]
        cause = (Cause(f"{remote}/{self._p.config.branch}", applied, sha, sha),)
        number = await anyio.to_thread.run_sync(
            lambda: self._p.journal.begin(
                "accept", self._p.config.host, Reason.NEW_HEAD.value, cause=cause, revision=sha
            )
        )
        started = time.monotonic()
        try:
            await repository.reset(sha)
        except CommitdError as err:
            self._p.journal.finish(number, Status.FAILED, error=str(err))
            raise
        self._p.journal.finish(number, Status.SUCCEEDED, duration_s=time.monotonic() - started)
        log.info(
            "%s: accepted %s by %s from %s",
            revision.short,
            revision.subject,
            revision.author,
            remote,
        )
        await self._take(desired)
        self._confirmed = remote
        return []

    async def _load(self, applied: str) -> None:
        """Read the checked-out commit, if that was not done before."""
        if self._desired is None or self._desired.revision.sha != applied:
            await self._take(await self._read(applied))

    async def _read(self, sha: str) -> DesiredState:
        repository, host = self._p.repository, self._p.config.host
        tree = await repository.tree(sha)
        contents = await repository.contents(layout.wanted(tree, host))
        return layout.read(tree, contents, await repository.revision(sha), host)

    async def _take(self, desired: DesiredState) -> None:
        self._desired = desired
        tree = await self._p.repository.tree(desired.revision.sha)
        # Edits that were made while no agent ran are not in any signature yet.
        if await self._p.repository.local_edits():
            self._signature = {}
        else:
            self._signature = await self._p.repository.signature(tree)
        await anyio.to_thread.run_sync(self._p.journal.put, "declared", declared(desired))

    async def _discard_edits(self) -> None:
        """The remote is the truth: tracked files that were edited here become the commit's."""
        if self._desired is None:
            return
        repository, sha = self._p.repository, self._desired.revision.sha
        if self._signature and await repository.signature(self._signature) == self._signature:
            return
        edits = await repository.local_edits()
        if edits:
            number = await anyio.to_thread.run_sync(
                lambda: self._p.journal.begin(
                    "accept",
                    self._p.config.host,
                    Reason.LOCAL_EDIT.value,
                    cause=[Cause(path, "edited", "as committed", sha) for path in edits],
                    revision=sha,
                )
            )
            await repository.reset(sha)
            self._p.journal.finish(number, Status.SUCCEEDED)
            log.warning("local edits were discarded: %s", ", ".join(edits))
        tree = await repository.tree(sha)
        self._signature = await repository.signature(tree)

    # --- plan ---

    async def _situation(self, desired: DesiredState, doubt: str | None) -> plan.Situation:
        journal, config = self._p.journal, self._p.config
        releases = await anyio.to_thread.run_sync(journal.releases)
        kept = frozenset(releases) | frozenset(desired.broken)
        locked = await self._p.secrets.refresh(desired, kept - {s.name for s in desired.stacks})
        return plan.Situation(
            desired=desired,
            containers=await self._p.engine.containers(),
            releases=releases,
            now=time.time(),
            stacks_dir=str(self._p.repository.root / "stacks"),
            enrolled=journal.get("enrolled") is not None,
            doubt=doubt,
            locked=locked,
            attempts=await anyio.to_thread.run_sync(journal.attempts),
            approved=await anyio.to_thread.run_sync(journal.approved),
            cliff=frozenset(
                hold["subject"]
                for hold in await anyio.to_thread.run_sync(journal.holds)
                if hold["reason"] == Reason.CLIFF.value
            ),
            teardown_limit=config.teardown_limit,
            report_only=config.undeclared.mode == "report",
            helpers=self._p.engine.helpers.ids(),
        )

    # --- converge ---

    async def _execute(self, todo: Plan, desired: DesiredState) -> tuple[list[Outcome], list[Hold]]:
        """Evict and deploy side by side; take down only after that."""
        outcomes: list[Outcome] = []
        refused: list[Hold] = []

        async def evict(action: Evict) -> None:
            try:
                hold = await self._p.evictor.evict(action.container.id)
            except CommitdError as err:
                outcomes.append(Outcome(action.container.name, Status.FAILED, str(err)))
            else:
                refused.extend([hold] if hold else [])

        async with anyio.create_task_group() as group:
            for eviction in todo.evictions:
                group.start_soon(evict, eviction)
            if todo.deploys:
                outcomes += await self._p.converger.deploy(todo.deploys, desired.revision)
        if todo.removals:
            outcomes += await self._p.converger.remove(todo.removals, desired.revision)
        return outcomes, refused

    async def _shrink(self, situation: plan.Situation, outcomes: list[Outcome]) -> None:
        """After the new state was observed, protect just that."""
        if outcomes:
            releases = await anyio.to_thread.run_sync(self._p.journal.releases)
            self._p.protection.publish(plan.protected(replace(situation, releases=releases)))

    async def _write_holds(self, holds: list[Hold]) -> None:
        new = await anyio.to_thread.run_sync(self._p.journal.replace_holds, holds)
        for hold in new:
            log.warning("held: %s: %s: %s", hold.subject, hold.reason.value, hold.detail)
            await anyio.to_thread.run_sync(self._record_hold, hold)

    def _record_hold(self, hold: Hold) -> None:
        revision = self._desired.revision.sha if self._desired else None
        number = self._p.journal.begin("hold", hold.subject, hold.reason.value, revision=revision)
        self._p.journal.finish(number, Status.HELD, attempts=0, error=hold.detail)


_ALONE = source.Ancestry(frozenset())


def declared(desired: DesiredState) -> Mapping[str, object]:
    """What ``status`` needs to know of a commit without reading it again."""
    return {
        "revision": asdict(desired.revision),
        "stacks": {stack.name: stack.digest for stack in desired.stacks},
        "broken": {name: str(fault) for name, fault in desired.broken.items()},
    }


def stacks_directory(config: Config) -> Path:
    """Where the stacks of the checkout are."""
    return config.state_dir / "repo" / "stacks"


def _verdict(
    desired: DesiredState,
    remote: str | None,
    todo: Plan,
    outcomes: list[Outcome],
    holds: list[Hold],
) -> Verdict:
    failed = [o for o in outcomes if o.status is Status.FAILED]
    faulty = {Reason.INVALID, Reason.SECRET, Reason.FAILED, Reason.LIST_IN_DOUBT, Reason.TREE}
    faulty |= {Reason.BACKOFF}
    broken = sorted({hold.subject for hold in holds if hold.reason in faulty})
    waiting = [hold for hold in holds if hold.needs_person]
    revision = desired.revision.short + (f" ({remote})" if remote else "")
    parts = []
    if failed:
        parts.append(f"failed: {', '.join(o.subject for o in failed)}")
    if broken:
        parts.append(f"held: {', '.join(broken)}")
    if waiting:
        parts.append(f"{len(waiting)} waiting for a person")
    done = len(outcomes) - len(failed) + len(todo.evictions)
    if not parts:
        line = f"in sync with {revision}"
        line += f"; {done} done" if done else ""
    else:
        line = f"at {revision}; {'; '.join(parts)}"
    reasons = [f"failed: {o.subject}: {o.error}" for o in failed]
    reasons += [f"held: {hold.subject}: {hold.reason.value}: {hold.detail}" for hold in holds]
    return Verdict(line, bool(failed or broken), bool(waiting), tuple(reasons))
