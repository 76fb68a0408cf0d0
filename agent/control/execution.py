"""Carrying out a plan: what makes room, then evictions beside deploys, then removals."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from agent.adapters.guard import brief
from agent.adapters.tasks import task_group
from agent.control.parts import Parts
from agent.domain.errors import CancelledError, CommitdError
from agent.domain.outcome import Outcome, Reason, Status
from agent.domain.reconcile import renamed
from agent.domain.reconcile.actions import Deploy, Evict, Hold, Plan
from agent.domain.repository.desired import DesiredState

log = logging.getLogger("commitd")


class Execution:
    """Of the plans of one loop, never two at a time.

    ``due`` are the stacks that the cycle is about to deploy.
    """

    def __init__(self, parts: Parts) -> None:
        self._p = parts
        self.due: set[str] = set()

    async def run(
        self, todo: Plan, desired: DesiredState, seen: frozenset[str], *, doubt: bool
    ) -> tuple[list[Outcome], list[Hold]]:
        """Evict and deploy side by side; take down only after that, but what makes room before."""
        outcomes: list[Outcome] = []
        refused: list[Hold] = []

        async def evict() -> None:
            refused.extend(await self.evict(todo.evictions, outcomes))

        if not todo.empty:
            await self._p.housekeeper.stop()
        first = [each for each in todo.removals if each.first]
        outcomes += await self._p.converger.remove(first, desired.revision)

        async def deploy(deploys: list[Deploy]) -> None:
            self.due -= {each.stack.name for each in deploys}  # they are busy from now on
            outcomes.extend(
                await self._p.converger.deploy(deploys, desired.revision, seen=seen, doubt=doubt)
            )

        async with task_group() as group:
            group.start_soon(evict)
            # What drifted does not wait for the images of what changed.
            drifted = [each for each in todo.deploys if each.reason is Reason.DRIFTED]
            others = [each for each in todo.deploys if each.reason is not Reason.DRIFTED]
            for some in (drifted, others):
                if some:
                    group.start_soon(deploy, some)
        up = {outcome.subject for outcome in outcomes if outcome.status is Status.SUCCEEDED}
        then = [each for each in todo.removals if not each.first]
        ready = [each for each in then if each.after is None or each.after in up]
        waiting = [each for each in then if each not in ready]
        refused += [renamed.stays(r.project, r.after or "", desired.revision) for r in waiting]
        if ready:
            outcomes += await self._p.converger.remove(ready, desired.revision)
        return outcomes, refused

    async def evict(self, evictions: Iterable[Evict], outcomes: list[Outcome]) -> list[Hold]:
        """End what nobody declared; why it stays where it does. A failure goes to ``outcomes``."""
        refused: list[Hold] = []
        async with task_group() as group:
            for eviction in evictions:
                group.start_soon(self._evict, eviction, outcomes, refused)
        return refused

    async def _evict(self, action: Evict, outcomes: list[Outcome], refused: list[Hold]) -> None:
        try:
            hold = await self._p.evictor.evict(action.container.id, patient=False)
        except CancelledError:  # another manager leads by now
            return
        except CommitdError as err:
            hold = Hold(action.container.name, Reason.EVICTION, str(err))
        except Exception as err:
            log.exception("unexpected error; continuing with the other actions")
            hold = Hold(action.container.name, Reason.EVICTION, brief(err))
        if hold and hold.reason is Reason.EVICTION:
            outcomes.append(Outcome(subject=hold.subject, status=Status.FAILED, error=hold.detail))
        refused.extend([hold] if hold else [])
