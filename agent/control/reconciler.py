"""The loop: one cycle at a time from remotes to journal, one verdict line each.

ask remotes ▶ decide ▶ look, reset ▶ read ▶ decrypt ▶ list ▶ plan ▶ converge ▶ record
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from anyio.abc import TaskGroup
from msgspec.structs import replace

from agent.adapters.guard import Guard, brief
from agent.adapters.state.journal import CLIFF
from agent.control.execution import Execution
from agent.control.parts import Parts
from agent.control.reconcile import left_data, new_holds
from agent.control.reconcile.observe import exempt_ones, situation
from agent.control.reconcile.planner import Planner
from agent.control.source.follower import Followed
from agent.control.status import names
from agent.domain.errors import CommitdError, ConfigError
from agent.domain.outcome import Outcome, Reason
from agent.domain.reconcile import host_state, plan
from agent.domain.reconcile.actions import Deploy, Hold, Plan, one_of_a_kind
from agent.domain.reconcile.exemptions import Exemptions
from agent.domain.reconcile.host_state import HostState
from agent.domain.repository.desired import DesiredState
from agent.domain.revision import Revision
from agent.domain.status.verdict import Verdict

if TYPE_CHECKING:
    from agent.control.swarm.records import Turn

log = logging.getLogger("commitd")

_FOUND_LATER = (Reason.RATE, Reason.VOLUMES, Reason.RENAMED, Reason.EVICTION)
"""Holds that only come up while a plan is carried out."""


class Reconciler:
    """Runs cycles. Never two at a time."""

    def __init__(self, parts: Parts) -> None:
        self._p = parts
        self._followed = Followed(None, None)
        self._planner = Planner()
        self._basis: HostState | None = None
        self._exempt: list[dict[str, str]] | None = None
        self._repairs = Guard("repairing", log)
        self._execution = Execution(parts)
        self.repairing = 0
        """Repairs beside the cycle that are under way."""

    async def cycle(self) -> Verdict:
        """Bring the host to what the remotes declare, as far as that is safe.

        Raises nothing that belongs to one stack; raises :class:`CommitdError` when engine, journal
        or clone fail.
        """
        self._basis = None
        self._p.judge.begins()
        turn = await self._turn()
        if turn and turn.leader:
            return await self._stand_by(turn)
        await self._look_on_trial()
        seen = self._p.remotes.shown()
        exemptions = await self._orders()
        followed = await (self._stay() if exemptions.host else self._follow())
        holds = [*self._p.standing_holds, *followed.holds, *(turn.holds if turn else ())]
        desired = followed.desired
        if desired is None:
            await self._write_holds(holds, None)
            return await self._p.judge.ended(())
        if not exemptions.host:
            desired = await self._p.restorer.effective(desired)
            digests = {stack.name: stack.digest for stack in desired.stacks}
            await self._p.journal.track_inputs(digests)
        situation = await self._situation(desired, followed.doubt, exemptions)
        if turn and turn.doubt:
            locked = {**situation.locked, **turn.locked}
            situation = replace(situation, doubt=situation.doubt or turn.doubt, locked=locked)
        todo = self._planner.plan(situation)
        if self._p.trial:
            self._p.trial.examine(todo, situation)
        self._p.protection.publish(self._planner.protected(situation))
        self._basis = situation
        self._execution.due = {deploy.stack.name for deploy in todo.deploys}
        holds += todo.holds
        if turn and not exemptions.host:
            await self._share_cliff(situation, todo)
        if not todo.empty:
            # Before anything is done: a cliff that was seen once stays one, whatever happens now.
            await self._write_holds(holds, desired, final=False)
        if self._exempt != (exempt := exempt_ones(todo)):
            await self._p.journal.put("exempt", exempt)
            self._exempt = exempt
        doubt = (host_state.doubt_about(situation) or situation.begun_anew) is not None
        outcomes, refused = await self._execution.run(todo, desired, seen, doubt=doubt)
        now, more = await self._shrink(situation, outcomes)
        refused += more
        known = {(hold.subject, hold.reason) for hold in holds}
        holds += [h for h in one_of_a_kind(refused) if (h.subject, h.reason) not in known]
        await self._write_holds(holds, desired)
        if not exemptions.host:
            if outcomes:  # a release may have been the last that needed a secret
                await self._p.secrets.tidy(*await self._needing(desired, exemptions))
            if not self._p.standing_holds:  # what is kept here a clone has copied with the journal
                await self._p.quarantine.sweep(situation.containers)
            if not outcomes:
                self._p.housekeeper.idle()
        found = await self._p.judge.ended(now.containers, repairing=self.repairing > 0)
        return found.with_errors({o.subject: o.error for o in outcomes if o.error})

    async def _turn(self) -> Turn | None:
        """What this manager of a Swarm is now; None on a host. Raises :class:`CommitdError`."""
        if self._p.manager is None:
            return None
        try:
            turn = await self._p.manager.begin()
        except ConfigError:  # as on a worker, which a leader can be made
            await self._p.secrets.lead(leads=False)
            raise
        await self._p.secrets.lead(leads=turn.leader is None)
        if turn.anew:  # what this one had found is the past
            self._followed = Followed(None, None)
            self._p.follower.look_again()
        return turn

    async def _stand_by(self, turn: Turn) -> Verdict:
        """Another manager acts: have the checkout up to date, and do nothing else."""
        self._p.protection.withdraw()
        followed = await (self._stay() if (await self._orders()).host else self._follow())
        holds = [*self._p.standing_holds, *turn.holds, *followed.holds]
        await self._write_holds(holds, followed.desired)
        return await self._p.judge.ended(())

    async def _share_cliff(self, situation: HostState, todo: Plan) -> None:
        """Before anything is done: who leads next holds what is held here, as this one does."""
        held = {hold.subject for hold in todo.holds if hold.reason is Reason.CLIFF}
        if held != situation.cliff:
            await self._p.journal.put(CLIFF, sorted(held))

    async def _look_on_trial(self) -> None:
        """What this version would do at the applied commit, before it follows or does anything."""
        trial = self._p.trial
        if trial is None or not trial.open or trial.looked:
            return
        exemptions = await self._orders()
        followed = await self._p.follower.stay()
        if followed.desired is not None:
            desired = await self._p.restorer.effective(followed.desired)
            situation = await self._situation(desired, None, exemptions)
            trial.examine(self._planner.plan(situation), situation)
        trial.looked = True

    async def repair(
        self,
        group: TaskGroup,
        ended: Callable[[], None],
        *,
        anyway: bool,
        over: Callable[[], bool],
    ) -> Verdict | None:
        """Begin to put right what drifts while a cycle waits for others; how the host is meanwhile.

        By what that cycle found declared; never raises, for the next cycle looks at it all again.
        In ``group``, and ``ended`` is called after it. Only if something happened to a stack that
        nobody works on, or ``anyway``; once that cycle is ``over``, nothing is begun.
        """
        basis, worked_on = self._basis, self._p.converger.busy | self._execution.due
        disturbed = self._p.protection.disturbed - worked_on
        if basis is None or over() or not (disturbed or anyway):
            return None
        self._p.protection.disturbed.clear()
        try:
            await self._p.remotes.save()  # or status would not know of them for as long
            now = await self._look_again(basis)
            if over():
                return None
            todo = plan.plan(now)
            drifted = [
                deploy
                for deploy in todo.deploys
                if deploy.reason is Reason.DRIFTED
                and deploy.stack.name not in self._p.converger.busy | self._execution.due
                and (self._p.trial is None or self._p.trial.allows(deploy, now))
            ]
            if drifted:
                self.repairing += 1
                group.start_soon(self._put_right, drifted, basis.desired.revision, ended)
            found = await self._p.judge.midway(now.containers)
        except Exception as err:  # noqa: BLE001  it is logged, and the cycle continues
            self._repairs.note(err, "; what drifted is left to the next cycle")
            return None
        self._repairs.recovered()
        return found

    async def _put_right(
        self, drifted: list[Deploy], revision: Revision, ended: Callable[[], None]
    ) -> None:
        try:
            await self._p.converger.repair(drifted, revision)
        except Exception as err:  # noqa: BLE001  as above
            self._repairs.note(err, "; what drifted is left to the next cycle")
        finally:
            self.repairing -= 1
            ended()

    async def _look_again(self, basis: HostState) -> HostState:
        journal = self._p.journal
        return replace(
            basis,
            containers=await self._p.observer.containers(),
            releases=await journal.releases(),
            attempts=await journal.attempts(),
            exemptions=await self._p.protection.exemptions(),
            now=journal.now(),
            stopped=frozenset(self._p.protection.stopped),
        )

    async def _orders(self) -> Exemptions:
        """What people take out of the agent's hands now; what is over is said once."""
        over, exemptions = await self._p.protection.orders()
        for stack in over:
            log.info("the suspension of %s is over", stack or "this host")
        return exemptions

    async def _stay(self) -> Followed:
        """A suspended host keeps its commit, its files included."""
        if self._followed.desired is None:
            self._followed = await self._p.follower.stay()
        # Until the first full look after it: nobody asked the remotes all the while.
        return replace(self._followed, holds=(), doubt="this host is suspended")

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
            log.exception("unexpected error; continuing with the applied revision")
            return self._in_doubt(brief(err))
        return self._followed

    def _in_doubt(self, why: str) -> Followed:
        hold = Hold(self._p.config.host, Reason.LIST_IN_DOUBT, why)
        return replace(self._followed, holds=(hold,), doubt=why)

    # --- plan ---

    async def _situation(
        self, desired: DesiredState, doubt: str | None, exemptions: Exemptions
    ) -> HostState:
        locked = {} if exemptions.host else await self._unlock(desired, exemptions)
        self._p.protection.disturbed.clear()  # before: what happens from now on may not be listed
        listed = await self._p.observer.containers()
        found = await self._p.journal.run(situation, self._p.config, desired, listed, exemptions)
        swarm = self._p.config.docker.mode == "swarm"
        found = await left_data.look(self._p.engine, self._p.repository.root, found, swarm=swarm)
        stopped = frozenset(self._p.protection.stopped)
        found = replace(found, doubt=doubt, locked=locked, stopped=stopped)
        await self._p.ledger.learn(found)
        return found

    async def _unlock(
        self, desired: DesiredState, exemptions: Exemptions
    ) -> Mapping[str, tuple[Reason, str]]:
        """Bring the plaintext up to date, but not that of stacks which are suspended."""
        return await self._p.secrets.refresh(*await self._needing(desired, exemptions))

    async def _needing(
        self, desired: DesiredState, exemptions: Exemptions
    ) -> tuple[DesiredState, frozenset[str]]:
        """What is declared of the stacks that are ours, and the others whose plaintext stays."""
        releases = await self._p.journal.releases()
        ours = tuple(s for s in desired.stacks if not exemptions.suspension(s.name))
        kept = frozenset(releases) | frozenset(desired.broken)
        kept |= {each.stack for each in exemptions.suspensions if each.stack}
        return replace(desired, stacks=ours), kept - {stack.name for stack in ours}

    # --- converge ---

    async def _shrink(
        self, before: HostState, outcomes: list[Outcome]
    ) -> tuple[HostState, list[Hold]]:
        """After the new state was observed, protect just that, and end what is outside of it.

        While a stack was in flight, any service might have been about to belong to it.
        """
        if not outcomes:
            return before, []
        now = await self._look_again(before)
        self._p.protection.publish(host_state.protected(now))
        undeclared, refused = plan.evictions(now)
        refused += await self._execution.evict(undeclared, outcomes)
        return now, refused

    async def _write_holds(
        self, holds: list[Hold], desired: DesiredState | None, *, final: bool = True
    ) -> None:
        """Those that are not there any more are over; what is only found later, when ``final``."""
        later = () if final else _FOUND_LATER
        new = await self._p.journal.keep_holds(holds, found_later=later)
        revision = desired.revision.sha if desired else None
        if new:
            stacks = await self._p.journal.run(names.stacks)
            await new_holds.record(self._p.journal, new, revision, stacks)
