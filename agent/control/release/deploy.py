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
from contextlib import suppress
from functools import partial

from msgspec import Struct

from agent.adapters.engine import words
from agent.adapters.state.action_log import was_told
from agent.adapters.state.async_journal import AsyncJournal
from agent.adapters.tasks import task_group
from agent.control.health.awaited import STOPPING
from agent.control.release.adoption import NOTHING, Adopter
from agent.control.release.aftermath import Aftermath
from agent.control.release.apply import Applier
from agent.control.release.deployment import Completion, Deployment
from agent.control.release.failing import StartError
from agent.control.release.pull import Puller
from agent.control.release.rollback import Restorer
from agent.control.release.starting import Batch, Before
from agent.control.retry import Attempts
from agent.control.stack.operations import Stacks
from agent.control.stack.places import Places
from agent.control.stack.ready import Ready, running_services
from agent.control.stack.remover import Remover
from agent.control.stack.revival import Revived, Reviver
from agent.domain.errors import CancelledError, CommitdError, PermanentError
from agent.domain.outcome import Action, Cause, CauseKind, Outcome, Phase, Reason, Status
from agent.domain.reconcile.actions import Deploy
from agent.domain.release.release import Release, Service
from agent.domain.repository.image_reference import pinned
from agent.domain.repository.tree import Inputs
from agent.domain.revision import Revision

log = logging.getLogger("commitd.deploy")


class DeployTools(Struct, frozen=True, kw_only=True):
    """What a deploy works with."""

    stacks: Stacks
    remover: Remover
    applier: Applier
    puller: Puller
    restorer: Restorer
    adopter: Adopter
    journal: AsyncJournal
    attempts: Attempts
    reviver: Reviver


class Deployer:
    """Each stack on its own, in parallel, each failure its own.

    ``done`` hears of each stack that is not worked on any more.
    """

    def __init__(self, tools: DeployTools, done: Callable[[str], None]) -> None:
        self._t = tools
        self._done = done
        self._aftermath = Aftermath(
            stacks=tools.stacks,
            applier=tools.applier,
            puller=tools.puller,
            restorer=tools.restorer,
            journal=tools.journal,
            attempts=tools.attempts,
        )
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
        if self._t.applier.stopping():
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
            outcome, revived = await self._revive(run, ends)
            if outcome is None:
                outcome = await self._prepare(run)
            if outcome is None:
                with entry.phase(Phase.WAIT):
                    outcome = await _wait_for_others(run, ends)
            if outcome is None:
                outcome, services = await self._t.attempts.tries(entry, name, lambda: self._up(run))
            entry.outcome = outcome
        if revived:
            await self._aftermath.keep_revived(run, revived)
        elif services is not None:
            await self._aftermath.keep(run, services)
        elif outcome.status is Status.FAILED:
            outcome = await self._aftermath.fail(run, outcome)
            with suppress(CommitdError):  # the next start of their services removes them
                await self._t.remover.clear_hooks(name)
        return outcome

    async def _revive(
        self, run: Deployment, ends: Mapping[str, Completion]
    ) -> tuple[Outcome | None, Revived | None]:
        """What was only stopped, started as it is; no outcome: it takes all that follows.

        Where stacks wait for each other, one has to be healthy before the next is started.
        """
        after, states = run.stack.settings.after, {cause.kind for cause in run.deploy.causes}
        waits = ends[run.stack.name].awaited or not ends.keys().isdisjoint(after)
        if run.before is None or waits or states != {CauseKind.STATE}:
            return None, None
        secrets = None if run.changed else await self._t.stacks.hidden(run.stack)
        revived, error = None, None
        try:
            with words.concealed(secrets):
                revived = await self._t.reviver.revive(run.before)
            if not revived:
                return None, None
        except CommitdError as err:
            error = err
        status, message = Status.of(error), str(error) if error else None
        return Outcome(subject=run.stack.name, status=status, error=message), revived

    async def _prepare(self, run: Deployment) -> Outcome | None:
        """Read it and pull its images, with nothing touched; how it ended if that fails."""
        entry, name = run.entry, run.stack.name
        with entry.phase(Phase.READ):
            async with run.batch.places.taken(reading=True):
                outcome, run.ready = await self._t.attempts.tries(
                    entry, name, lambda: self._t.stacks.prepare(run.stack, ran=not run.other)
                )
        if run.ready is None:
            return outcome
        if causes := _images(run.ready, run.before, run.batch.revision):
            with suppress(CommitdError):  # it would only say more of why
                await run.entry.add_causes(causes)
        with run.entry.phase(Phase.PULL):
            return await self._pull(run, run.ready)

    async def _pull(self, run: Deployment, ready: Ready) -> Outcome | None:
        """Its images, and those of the release before: a rollback needs them."""
        name, cancel_reason = run.stack.name, partial(self._t.applier.cancel_reason, run.batch)
        try:
            with words.concealed(ready.invocation.hidden):
                await self._t.puller.fetch(ready.images, cancel_reason)
                if run.before and run.changed:
                    await self._pull_older(name, run.before, cancel_reason)
        except CancelledError as err:
            return Outcome(subject=name, status=Status.CANCELLED, error=str(err))
        except CommitdError as err:
            return Outcome(
                subject=name,
                status=Status.FAILED,
                error=str(err),
                permanent=isinstance(err, PermanentError),
            )
        return None

    async def _pull_older(
        self, name: str, before: Release, cancel_reason: Callable[[], CancelledError | None]
    ) -> None:
        older = {i for s in before.services for i in (s.image, *s.hooks) if pinned(i)}
        try:
            await self._t.puller.fetch(older, cancel_reason)
        except CancelledError:
            raise
        except CommitdError as err:
            log.warning("%s: rollback unavailable: %s", name, err)

    async def _up(self, run: Deployment) -> tuple[Service, ...]:
        if run.ready is None:
            raise PermanentError("it was not read")
        with words.concealed(run.ready.invocation.hidden):
            return await self._bring_up(run, run.ready)

    async def _bring_up(self, run: Deployment, ready: Ready) -> tuple[Service, ...]:
        first = run.before is None and ready.services
        if first and (there := await self._there(run, ready)):
            with run.entry.phase(Phase.GATE):
                return await self._t.applier.adopt_release(ready, there, run.batch)
        older: dict[str, Inputs | None] = {}
        if await self._t.journal.started(run.stack.name) == run.stack.digest:
            older = {name: ready.files(name) for name in ready.services}
        elif run.before:
            known = not run.before.dirty
            older = {s.name: s.files if known else None for s in run.before.services}
        try:
            before = Before(
                files=older,
                release=run.before,
                left=run.services_before if not run.batch.doubt else (),
                changed=run.other,
                touching=run.touch,
            )
            return await self._t.applier.run(
                ready, before, run.batch, doubt=run.batch.doubt, phase=run.entry.phase
            )
        except StartError:
            now = await self._t.stacks.containers(run.stack.name)
            run.stopped = run.running - running_services(now)
            raise

    async def _there(self, run: Deployment, ready: Ready) -> Ready | None:
        """The stack as its containers call its images, if all of it is there as declared."""
        name, journal = run.stack.name, self._t.journal
        tried = name in await journal.attempts()
        if tried and await journal.started(name) != run.stack.digest:
            return None  # a try that failed may have left anything
        called: Ready = ready
        why: str | None = NOTHING
        try:
            if await self._t.stacks.containers(name):
                async with run.batch.places.taken():
                    called, why = await self._t.adopter.look(ready)
        except CommitdError as err:  # bringing it up is always right
            called, why = ready, str(err)
        if why:
            log.debug("%s: applying: %s", name, words.shown(why))
            return None
        cause = Cause(
            kind=CauseKind.ADOPTED,
            stack=name,
            before="there",
            after="taken over",
            commit=run.batch.revision.sha,
        )
        with suppress(CommitdError):  # it would only say more of why
            await run.entry.add_causes([cause])
        return called


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


def _images(ready: Ready, before: Release | None, revision: Revision) -> list[Cause]:
    """The images that are others than those of the release before."""
    older = {service.name: service.image for service in before.services} if before else {}
    return [
        Cause(
            kind=CauseKind.IMAGE,
            stack=ready.stack.name,
            service=name,
            before=older[name],
            after=service.image,
            commit=revision.sha,
        )
        for name, service in sorted(ready.services.items())
        if name in older and older[name] != service.image
    ]
