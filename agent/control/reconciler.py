"""The loop: one cycle at a time from remotes to journal, one verdict line each.

ask remotes ▶ decide ▶ look, reset ▶ read ▶ decrypt ▶ list ▶ plan ▶ converge ▶ record
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, replace

import anyio
import anyio.to_thread

from agent.adapters.engine import Engine
from agent.adapters.journal import Journal
from agent.adapters.repository import Repository
from agent.control.converge import Converger
from agent.control.evict import Evictor
from agent.control.follower import Followed, Follower
from agent.control.remotes import Remotes
from agent.control.secrets import SecretKeeper
from agent.domain import plan
from agent.domain.config import Config
from agent.domain.errors import CommitdError
from agent.domain.model import (
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
    follower: Follower
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
        self._followed = Followed(None, None)

    async def cycle(self) -> Verdict:
        """Bring the host to what the remotes declare, as far as that is safe.

        Raises nothing that belongs to one stack; raises :class:`CommitdError` when engine, journal
        or clone fail.
        """
        followed = await self._follow()
        holds = list(followed.holds)
        desired = followed.desired
        if desired is None:
            await self._write_holds(holds, None)
            detail = "; ".join(hold.detail for hold in holds) or "no commit was ever fetched"
            return Verdict(f"nothing to enforce: {detail}", failed=True)
        situation = await self._situation(desired, followed.doubt)
        self._p.protection.publish(plan.protected(situation))
        todo = plan.plan(situation)
        holds += todo.holds
        # Before anything is done: a cliff that was seen once stays one, whatever happens now.
        await self._write_holds(holds, desired)
        doubt = plan.doubt_about(situation) is not None
        outcomes, refused = await self._execute(todo, desired, doubt=doubt)
        if refused:
            holds += refused
            await self._write_holds(holds, desired)
        await self._shrink(situation, outcomes)
        await self._p.evictor.tend(situation.containers)
        return _verdict(desired, followed.confirmed, todo, outcomes, holds)

    async def _follow(self) -> Followed:
        """Where the remotes lead. Trouble on the way there puts what is declared in doubt."""
        try:
            self._followed = await self._p.follower.follow()
        except CommitdError as err:
            if self._followed.desired is None:
                raise
            return self._in_doubt(str(err))
        except Exception as err:
            if self._followed.desired is None:
                raise
            log.exception("unexpected; what was applied goes on being enforced")
            return self._in_doubt(f"unexpected {type(err).__name__}, see the log")
        return self._followed

    def _in_doubt(self, why: str) -> Followed:
        hold = Hold(self._p.config.host, Reason.LIST_IN_DOUBT, why)
        return replace(self._followed, holds=(hold,), doubt=why)

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

    async def _execute(
        self, todo: Plan, desired: DesiredState, *, doubt: bool
    ) -> tuple[list[Outcome], list[Hold]]:
        """Evict and deploy side by side; take down only after that."""
        outcomes: list[Outcome] = []
        refused: list[Hold] = []

        async def evict(action: Evict) -> None:
            try:
                hold = await self._p.evictor.evict(action.container.id, patient=False)
            except CommitdError as err:
                outcomes.append(Outcome(action.container.name, Status.FAILED, str(err)))
            except Exception as err:
                log.exception("unexpected; the other actions go on")
                error = f"unexpected {type(err).__name__}, see the log"
                outcomes.append(Outcome(action.container.name, Status.FAILED, error))
            else:
                refused.extend([hold] if hold else [])

        async with anyio.create_task_group() as group:
            for eviction in todo.evictions:
                group.start_soon(evict, eviction)
            if todo.deploys:
                outcomes += await self._p.converger.deploy(
                    todo.deploys, desired.revision, doubt=doubt
                )
        if todo.removals:
            outcomes += await self._p.converger.remove(todo.removals, desired.revision)
        return outcomes, refused

    async def _shrink(self, situation: plan.Situation, outcomes: list[Outcome]) -> None:
        """After the new state was observed, protect just that."""
        if outcomes:
            releases = await anyio.to_thread.run_sync(self._p.journal.releases)
            self._p.protection.publish(plan.protected(replace(situation, releases=releases)))

    async def _write_holds(self, holds: list[Hold], desired: DesiredState | None) -> None:
        new = await anyio.to_thread.run_sync(self._p.journal.replace_holds, holds)
        for hold in new:
            log.warning("held: %s: %s: %s", hold.subject, hold.reason.value, hold.detail)
            await anyio.to_thread.run_sync(self._record_hold, hold, desired)

    def _record_hold(self, hold: Hold, desired: DesiredState | None) -> None:
        revision = desired.revision.sha if desired else None
        number = self._p.journal.begin("hold", hold.subject, hold.reason.value, revision=revision)
        self._p.journal.finish(number, Status.HELD, attempts=0, error=hold.detail)


def _verdict(
    desired: DesiredState,
    remote: str | None,
    todo: Plan,
    outcomes: list[Outcome],
    holds: list[Hold],
) -> Verdict:
    failed = [o for o in outcomes if o.status is Status.FAILED]
    faulty = {Reason.INVALID, Reason.SECRET, Reason.FAILED, Reason.LIST_IN_DOUBT, Reason.TREE}
    faulty |= {Reason.BACKOFF, Reason.FETCH, Reason.RATE}
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
    done = sum(o.status is Status.SUCCEEDED for o in outcomes) + len(todo.evictions)
    if not parts:
        line = f"in sync with {revision}"
        line += f"; {done} done" if done else ""
    else:
        line = f"at {revision}; {'; '.join(parts)}"
    reasons = [f"failed: {o.subject}: {o.error}" for o in failed]
    reasons += [f"held: {hold.subject}: {hold.reason.value}: {hold.detail}" for hold in holds]
    return Verdict(line, bool(failed or broken), bool(waiting), tuple(reasons))
