"""Deploying the stacks of a plan: read all, pull all, bring each up in its order, or go back."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import anyio
import anyio.to_thread

from agent.adapters.database import utcnow
from agent.adapters.journal import Journal
from agent.adapters.tasks import task_group
from agent.control.adopt import Adopter
from agent.control.attempts import Attempts
from agent.control.bring_up import BringUp
from agent.control.on_its_way import End, Run
from agent.control.pull import Puller
from agent.control.ready import Ready, running_services
from agent.control.remover import Remover
from agent.control.restore import Restorer
from agent.control.stacks import Stacks
from agent.control.starting import STOPPING, Batch, Before, Files, StartError
from agent.domain.errors import CommitdError, PermanentError
from agent.domain.images import pinned
from agent.domain.model import (
    Cause,
    Deploy,
    Outcome,
    Reason,
    Release,
    Revision,
    Service,
    Stack,
    Status,
)
from agent.domain.plan import moved

log = logging.getLogger("commitd.deploy")

_IN_PASSING = 2
"""As many rounds may fail in passing before the last healthy release comes back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """What a deploy works with."""

    stacks: Stacks
    remover: Remover
    bring_up: BringUp
    puller: Puller
    restorer: Restorer
    adopter: Adopter
    journal: Journal
    attempts: Attempts


class Deployer:
    """Each stack on its own, in parallel, each failure its own.

    ``done`` hears of each stack that is not worked on any more.
    """

    def __init__(self, tools: Tools, done: Callable[[str], None]) -> None:
        self._t = tools
        self._done = done
        self._ends: dict[str, End] = {}

    async def deploy(
        self,
        deploys: Collection[Deploy],
        revision: Revision,
        limiter: anyio.CapacityLimiter,
        *,
        seen: frozenset[str],
        doubt: bool,
    ) -> list[Outcome]:
        """Bring all stacks to their declared state; never raises for one of them.

        ``seen`` are the commits that the remotes showed when this was decided.
        """
        if self._t.bring_up.stopping():
            return [Outcome(each.stack.name, Status.CANCELLED, STOPPING) for each in deploys]
        batch = Batch(revision, limiter, seen, doubt)
        # At once: what is put right and what changes are deployed side by side.
        ends = {each.stack.name: End() for each in deploys}
        self._ends |= ends
        all_ends = dict(self._ends)
        runs: dict[str, Run] = {}
        outcomes: list[Outcome] = []
        try:
            for deploy in deploys:
                try:
                    runs[deploy.stack.name] = await self._begin(deploy, batch, ends)
                except CommitdError as err:  # what cannot be written down is not done
                    outcomes.append(Outcome(deploy.stack.name, Status.FAILED, str(err)))
                    ends[deploy.stack.name].came.set()
            await _each(runs, self._read)
            await self._pull(runs)
            await _each(
                runs,
                # What was up already waits for nothing that changes.
                lambda r: self._carry_out(
                    r, ends if r.deploy.reason is Reason.DRIFTED else all_ends
                ),
            )
        finally:
            for name, end in ends.items():
                end.came.set()
                self._ends.pop(name, None)
            for run in runs.values():
                if run.outcome is None:  # cut short: the agent ends
                    cut = Outcome(run.stack.name, Status.CANCELLED, STOPPING)
                    await self._t.attempts.finish(run.number, cut, run.started)
        return [*outcomes, *(run.outcome for run in runs.values() if run.outcome)]

    async def _begin(self, deploy: Deploy, batch: Batch, ends: Mapping[str, End]) -> Run:
        stack, journal = deploy.stack, self._t.journal

        def write() -> tuple[int, Release | None]:
            before = journal.releases().get(stack.name)
            number = journal.begin(
                "restart" if deploy.reason is Reason.DRIFTED else "deploy",
                stack.name,
                deploy.reason.value,
                cause=deploy.causes,
                revision=batch.revision.sha,
            )
            return number, before

        number, before = await anyio.to_thread.run_sync(write)
        log.info("%s: deploying %s: %s", stack.name, batch.revision.short, deploy.reason.value)
        return Run(deploy, ends[stack.name], number, before, batch, time.monotonic())

    async def _read(self, run: Run) -> None:
        async with run.batch.limiter:
            outcome, run.ready = await self._t.attempts.tries(
                run.stack.name, lambda: self._t.stacks.prepare(run.stack)
            )
        if run.ready is None:
            run.outcome = outcome
        elif causes := _images(run.ready, run.before, run.batch.revision):
            with suppress(CommitdError):  # it would only say more of why
                await anyio.to_thread.run_sync(self._t.journal.add_causes, run.number, causes)

    async def _pull(self, runs: dict[str, Run]) -> None:
        """All images of all stacks, before any container is touched.

        Those of the releases before as well, while they run: else there would be no way back.
        """
        wanted = {name: run.ready.images for name, run in runs.items() if run.ready}
        for name, error in (await self._t.puller.fetch(wanted)).items():
            log.error("%s: %s", name, error)
            permanent = isinstance(error, PermanentError)
            runs[name].outcome = Outcome(name, Status.FAILED, str(error), permanent)
        older = {
            name: {i for s in run.before.services for i in (s.image, *s.hooks) if pinned(i)}
            for name, run in runs.items()
            if run.before and run.changed and run.outcome is None
        }
        for name, error in (await self._t.puller.fetch(older)).items():
            log.warning("%s: there is no way back: %s", name, error)

    async def _carry_out(self, run: Run, ends: Mapping[str, End]) -> None:
        """From what is read and pulled to the end, whatever that is."""
        name = run.stack.name
        try:
            services: tuple[Service, ...] | None = None
            run.outcome = run.outcome or await _wait_for_others(run, ends)
            if run.outcome is None:
                outcome, services = await self._t.attempts.tries(name, lambda: self._up(run))
                run.outcome = outcome
            await self._t.attempts.finish(run.number, run.outcome, run.started)
            if services is not None:
                await anyio.to_thread.run_sync(self._keep, run, services)
            elif run.outcome.status is Status.FAILED:
                await self._fail(run, run.outcome)
                with suppress(CommitdError):  # the next start of their services removes them
                    await self._t.remover.clear_hooks(name)
        except Exception as err:
            log.exception("%s: unexpected", name)
            run.outcome = Outcome(name, Status.FAILED, f"unexpected {type(err).__name__}")
        finally:
            run.end.well = run.outcome is not None and run.outcome.status is Status.SUCCEEDED
            run.end.came.set()
            self._done(name)

    async def _up(self, run: Run) -> tuple[Service, ...]:
        if run.ready is None:
            raise PermanentError("it was not read")
        first = run.before is None and run.ready.services
        if first and (there := await self._there(run, run.ready)):
            return await self._t.bring_up.take_over(run.ready, there, run.batch)
        older: dict[str, Files | None] = {}
        if await anyio.to_thread.run_sync(self._t.journal.started, run.stack.name) == (
            run.stack.digest
        ):
            older = {name: run.ready.files(name) for name in run.ready.services}
        elif run.before:
            known = not run.before.disturbed
            older = {s.name: s.files if known else None for s in run.before.services}
        try:
            before = Before(
                files=older,
                left=run.services_before if not run.batch.doubt else (),
                changed=run.other,
                touching=run.touch,
            )
            return await self._t.bring_up.run(run.ready, before, run.batch, doubt=run.batch.doubt)
        except StartError:
            now = await self._t.stacks.containers(run.stack.name)
            run.stopped = run.running - running_services(now)
            raise

    async def _there(self, run: Run, ready: Ready) -> Ready | None:
        """The stack as its containers call its images, if all of it is there as declared."""
        name, journal = run.stack.name, self._t.journal
        tried = name in await anyio.to_thread.run_sync(journal.attempts)
        if tried and await anyio.to_thread.run_sync(journal.started, name) != run.stack.digest:
            return None  # a try that failed may have left anything
        try:
            async with run.batch.limiter:
                called, why = await self._t.adopter.look(ready)
        except CommitdError as err:  # bringing it up is always right
            called, why = ready, str(err)
        if why:
            log.info("%s: it is brought up: %s", name, why)
            return None
        log.info("%s: it runs already as it is declared: nothing is recreated", name)
        cause = Cause(f"{name} containers", "there", "taken over", run.batch.revision.sha)
        with suppress(CommitdError):  # it would only say more of why
            await anyio.to_thread.run_sync(self._t.journal.add_causes, run.number, [cause])
        return called

    def _keep(self, run: Run, services: tuple[Service, ...]) -> None:
        """Remember the release; repairs in a row count towards a backoff. Blocks."""
        stack, before = run.stack, run.before
        same = before is not None and not run.changed
        sha = before.revision if before and same else run.batch.revision.sha
        failures = self._t.journal.attempts().get(stack.name)  # which the release ends
        self._t.journal.keep_release(_release(stack, sha, services))
        if run.deploy.reason is not Reason.DRIFTED:
            return
        if before and before.disturbed:  # what was cut short goes on: that is no new drift
            if failures:
                self._t.journal.keep_attempt(failures)
        else:
            what = ", ".join(cause.path for cause in run.deploy.causes[:3])
            error = f"it was put right and drifted again: {what}"
            self._t.attempts.keep_failure(
                failures, stack.name, stack.digest, error, permanent=False
            )

    # --- when it fails ---

    async def _fail(self, run: Run, outcome: Outcome) -> None:
        """Go back to what was well, if there is such a thing; else remember the failure."""
        stack, error = run.stack, outcome.error or "it failed"
        failures = (await anyio.to_thread.run_sync(self._t.journal.attempts)).get(stack.name)
        again = failures.count if failures and failures.digest == stack.digest else 0
        # What fails in passing is no fault of the release, unless it goes on failing, or what ran
        # before is down as long as it is tried.
        passing = again < _IN_PASSING or outcome.interference
        lasting = outcome.permanent or bool(run.stopped) or not passing
        back = None
        if run.before and run.touched and run.changed and stack.settings.rollback and lasting:
            back = await self._roll_back(run, run.before, error)
        if back:
            run.outcome = replace(outcome, error=f"{error}; {back[1]}")
            if back[0]:
                return

        def write() -> None:
            self._t.attempts.keep_failure(
                failures, stack.name, stack.digest, error, permanent=outcome.permanent
            )

        await anyio.to_thread.run_sync(write)

    async def _roll_back(self, run: Run, before: Release, error: str) -> tuple[bool, str]:
        """Bring the last healthy release back; whether there was a way, and how it went."""
        name, started = run.stack.name, time.monotonic()
        cause = Cause("release", run.stack.digest[:12], before.digest[:12], before.revision)
        number = await anyio.to_thread.run_sync(
            lambda: self._t.journal.begin(
                "rollback",
                name,
                error,
                cause=[cause, *moved(run.stack.versions, before.inputs, before.revision)],
                revision=before.revision,
            )
        )
        log.warning("%s: back to %s", name, before.revision[:7])  # why was logged just before
        restored: Stack | None = None

        async def work() -> tuple[Service, ...]:
            nonlocal restored
            restored = await self._t.restorer.restore(before, run.stack, error)
            ready = await self._t.stacks.prepare(restored)
            for failure in (await self._t.puller.fetch({name: ready.images})).values():
                raise failure
            failed = run.ready
            older = {each: failed.files(each) for each in failed.services} if failed else {}
            left = Before(files=older, left=older.keys())
            return await self._t.bring_up.run(ready, left, run.batch, doubt=True)

        outcome, services = await self._t.attempts.tries(name, work)
        await self._t.attempts.finish(number, outcome, started)
        if services is not None and restored is not None:
            release = _release(restored, before.revision, services)
            await anyio.to_thread.run_sync(self._t.journal.keep_release, release)
            return True, f"it is back at {before.revision[:7]}"
        if restored is None:
            return False, f"and there is no way back: {outcome.error}"
        return True, f"and going back failed: {outcome.error}"


async def _each(runs: dict[str, Run], work: Callable[[Run], Coroutine[Any, Any, None]]) -> None:
    async with task_group() as group:
        for run in runs.values():
            group.start_soon(work, run)


async def _wait_for_others(run: Run, ends: Mapping[str, End]) -> Outcome | None:
    """Those that must be up before; what came of this one if they are not."""
    for needed in run.stack.settings.after:
        if needed in ends:
            await ends[needed].came.wait()
            if not ends[needed].well:
                return Outcome(run.stack.name, Status.HELD, f"{needed} did not come up")
    return None


def _images(ready: Ready, before: Release | None, revision: Revision) -> list[Cause]:
    """The images that are others than those of the release before."""
    older = {service.name: service.image for service in before.services} if before else {}
    return [
        Cause(f"{ready.stack.name}/{name} image", older[name], service.image, revision.sha)
        for name, service in sorted(ready.services.items())
        if name in older and older[name] != service.image
    ]


def _release(stack: Stack, revision: str, services: tuple[Service, ...]) -> Release:
    return Release(
        stack.name,
        stack.digest,
        revision,
        stack.versions,
        services,
        utcnow(),
        stack.settings.after,
    )
