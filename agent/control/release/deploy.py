"""Deploying the stacks of a plan, each in a pipeline of its own.

What is slow for one, a registry, a start, a release that is healthy late, delays only
that one and those that come ``after`` it. Nothing of it is touched before its images are here::

    begun ─▶ read ─▶ images pulled ─▶ those before it up ──┬▶ all there: looked at ─────┐
               │        │    │            │                 └▶ made, started, waited for ─┤
               ▼        ▼    ▼            ▼                         │      │              ▼
            failed failed cancelled      held                    failed  cancelled   succeeded

Reading and making run Compose and take one of its places each; who waits for a registry, for
another stack, for a start or for health takes none. A newer commit ends the waiting
for a registry and for health (cancelled), and the next cycle decides anew. What follows from an
end: :mod:`agent.control.release.aftermath`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping

from agent.adapters.state.action_log import was_told
from agent.adapters.tasks import task_group
from agent.control.health.awaited import STOPPING
from agent.control.release.aftermath import Aftermath
from agent.control.release.deployment import Completion, Deployment, DeployTools
from agent.control.release.starting import Batch
from agent.control.stack.places import Places
from agent.domain.errors import CommitdError
from agent.domain.outcome import Action, Outcome, Phase, Reason, Status
from agent.domain.reconcile.actions import Deploy
from agent.domain.revision import Revision

log = logging.getLogger("commitd.deploy")


class Deployer:
    """Each stack on its own, in parallel, each failure its own.

    ``done`` hears of each stack that is not worked on any more.
    """

    def __init__(self, tools: DeployTools, done: Callable[[str], None]) -> None:
        self._t = tools
        self._done = done
        self._aftermath = Aftermath(tools)
        self._ends: dict[str, Completion] = {}

    async def deploy(
        self,
        deploys: Collection[Deploy],
        revision: Revision,
        places: Places,
        *,
        seen: frozenset[str],
        doubt: bool,
    ) -> list[Outcome]:
        """Bring all stacks to their declared state; never raises for one of them.

        ``seen`` are the commits that the remotes showed when this was decided.
        """
        if self._t.steps.stopping():
            return [
                Outcome(subject=each.stack.name, status=Status.CANCELLED, error=STOPPING)
                for each in deploys
            ]
        batch = Batch(revision, places, seen, doubt)
        # At once: what is put right and what changes are deployed side by side.
        needed = {name for each in deploys for name in each.stack.settings.after}
        names = [each.stack.name for each in deploys]
        ends = {name: Completion(awaited=name in needed) for name in names}
        self._ends |= ends
        all_ends = dict(self._ends)
        outcomes: dict[str, Outcome] = {}

        async def one(deploy: Deploy) -> None:
            # What was up already waits for nothing that changes.
            others = ends if deploy.reason is Reason.DRIFTED else all_ends
            outcomes[deploy.stack.name] = await self._carry_out(deploy, batch, others)

        try:
            async with task_group() as group:
                for deploy in deploys:
                    group.start_soon(one, deploy)
        finally:
            for name, end in ends.items():
                end.came.set()
                self._ends.pop(name, None)
        return [outcomes[each.stack.name] for each in deploys]

    async def _carry_out(
        self, deploy: Deploy, batch: Batch, ends: Mapping[str, Completion]
    ) -> Outcome:
        """One stack from its begin in the journal to its outcome; never raises."""
        name = deploy.stack.name
        outcome = Outcome(subject=name, status=Status.CANCELLED, error=STOPPING)
        try:
            outcome = await self._deploy(deploy, batch, ends)
        except CommitdError as err:  # what cannot be written down is not done
            if not was_told(err):
                log.error("%s: %s", name, err)  # noqa: TRY400  the message is for operators
            outcome = Outcome(subject=name, status=Status.FAILED, error=str(err))
        except Exception as err:
            if not was_told(err):
                log.exception("%s: unexpected", name)
            outcome = Outcome(
                subject=name, status=Status.FAILED, error=f"unexpected {type(err).__name__}"
            )
        finally:
            ends[name].well = outcome.status is Status.SUCCEEDED
            ends[name].came.set()
            self._done(name)
        return outcome

    async def _deploy(
        self, deploy: Deploy, batch: Batch, ends: Mapping[str, Completion]
    ) -> Outcome:
        name, services = deploy.stack.name, None
        before = (await self._t.journal.releases()).get(name)
        async with self._t.journal.recording(
            Action.RESTART if deploy.reason is Reason.DRIFTED else Action.DEPLOY,
            name,
            deploy.reason,
            causes=deploy.causes,
            revision=batch.revision.sha,
        ) as entry:
            entry.outcome = Outcome(
                subject=name, status=Status.CANCELLED, error=STOPPING
            )  # if it is cut short
            run = Deployment(deploy=deploy, entry=entry, before=before, batch=batch)
            outcome, revived = None, None
            if not _waits(run, ends):
                outcome, revived = await self._t.steps.revive(run)
            if outcome is None:
                outcome = await self._t.steps.prepare(run)
            if outcome is None:
                with entry.phase(Phase.WAIT):
                    outcome = await _wait_for_others(run, ends)
            if outcome is None:
                outcome, services = await self._t.attempts.tries(
                    entry, name, lambda: self._t.steps.up(run)
                )
            entry.outcome = outcome
        if revived:
            await self._aftermath.keep_revived(run, revived)
        elif services is not None:
            await self._aftermath.keep(run, services)
        elif outcome.status is Status.FAILED:
            outcome = await self._aftermath.fail(run, outcome)
            await self._t.steps.clear(name)
        return outcome


def _waits(run: Deployment, ends: Mapping[str, Completion]) -> bool:
    """Whether it or another stack waits: one has to be healthy before the next is started."""
    return ends[run.stack.name].awaited or not ends.keys().isdisjoint(run.stack.settings.after)


async def _wait_for_others(run: Deployment, ends: Mapping[str, Completion]) -> Outcome | None:
    """Those that must be up before; what came of this one if they are not."""
    for needed in run.stack.settings.after:
        if needed in ends:
            await ends[needed].came.wait()
            if not ends[needed].well:
                return Outcome(
                    subject=run.stack.name, status=Status.HELD, error=f"{needed} is not healthy"
                )
    return None
