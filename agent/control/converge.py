"""Doing what the plan says: every stack on its own, in parallel, each failure its own."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

import anyio
import anyio.to_thread
from tenacity import (
    AsyncRetrying,
    retry_if_exception_type,
    stop_after_attempt,
    wait_exponential,
    wait_random,
)

from agent.adapters.database import utcnow
from agent.adapters.engine import Engine
from agent.adapters.journal import Journal
from agent.control.stacks import Stacks
from agent.domain.errors import CommitdError, HeldError, PermanentError, TransientError
from agent.domain.exempt import Exemptions
from agent.domain.model import (
    Attempt,
    Cause,
    Deploy,
    Outcome,
    Reason,
    Release,
    RemoveStack,
    Revision,
    Service,
    Status,
)

log = logging.getLogger("commitd.converge")

_Action = TypeVar("_Action", Deploy, RemoveStack)
_Result = TypeVar("_Result")

TRIES = 3
FIRST_BACKOFF_S = 5.0
LONGEST_BACKOFF_S = 300.0
QUIET_S = 600.0
"""A stack that was left alone this long starts its backoff anew."""


class Converger:
    """Executes deploys and removals; writes each down before and after.

    ``pulse`` is told whenever a step begins or ends; once ``stopping``, nothing more is begun.
    """

    def __init__(
        self,
        stacks: Stacks,
        engine: Engine,
        journal: Journal,
        *,
        parallel: int,
        pulse: Callable[[], None],
        stopping: Callable[[], bool],
    ) -> None:
        self._stacks = stacks
        self._engine = engine
        self._journal = journal
        self._pulse = pulse
        self._stopping = stopping
        self._limiter = anyio.CapacityLimiter(parallel)
        self._repairs = anyio.CapacityLimiter(1)
        self.busy: set[str] = set()
        """Stacks that are being worked on, or are about to be."""

    async def deploy(
        self, deploys: Iterable[Deploy], revision: Revision, *, doubt: bool
    ) -> list[Outcome]:
        """Bring all stacks to their declared state; never raises for one of them.

        In ``doubt`` about what is declared, services that left their stack stay: nothing is ended.
        """
        return await self._each(deploys, lambda deploy: self._deploy(deploy, revision, doubt=doubt))

    async def repair(self, deploys: Iterable[Deploy], revision: Revision) -> list[Outcome]:
        """Put right what drifted while others take their time: not behind them in the queue."""
        return await self._each(
            deploys, lambda deploy: self._deploy(deploy, revision, doubt=True), self._repairs
        )

    async def remove(self, removals: Iterable[RemoveStack], revision: Revision) -> list[Outcome]:
        """Take the stacks down; never raises for one of them."""
        return await self._each(removals, lambda removal: self._remove(removal, revision))

    async def _each(
        self,
        actions: Iterable[_Action],
        work: Callable[[_Action], Awaitable[Outcome]],
        limiter: anyio.CapacityLimiter | None = None,
    ) -> list[Outcome]:
        outcomes: list[Outcome] = []

        async def one(action: _Action) -> None:
            subject = _subject(action)
            try:
                async with limiter or self._limiter:
                    if self._stopping():
                        outcome = Outcome(subject, Status.CANCELLED, "the agent is stopping")
                    else:
                        outcome = await work(action)
            except CommitdError as err:
                log.error("%s: %s", subject, err)  # noqa: TRY400  the message is for operators
                outcome = Outcome(subject, Status.FAILED, str(err))
            except Exception as err:
                log.exception("%s: unexpected", subject)
                outcome = Outcome(subject, Status.FAILED, f"unexpected {type(err).__name__}")
            finally:
                self.busy.discard(subject)
            outcomes.append(outcome)
            self._pulse()

        async with anyio.create_task_group() as group:
            for action in actions:
                self.busy.add(_subject(action))
                group.start_soon(one, action)
        return sorted(outcomes, key=lambda outcome: outcome.subject)

    async def _deploy(self, deploy: Deploy, revision: Revision, *, doubt: bool) -> Outcome:
        stack = deploy.stack
        number = await anyio.to_thread.run_sync(
            lambda: self._journal.begin(
                "restart" if deploy.reason is Reason.DRIFTED else "deploy",
                stack.name,
                deploy.reason.value,
                cause=deploy.causes,
                revision=revision.sha,
            )
        )
        log.info("%s: deploying %s: %s", stack.name, revision.short, deploy.reason.value)
        outcome, services = await self._attempt(
            number, stack.name, lambda: self._stacks.bring_up(stack, revision, doubt=doubt)
        )
        await anyio.to_thread.run_sync(self._settle, deploy, revision, outcome, services)
        return outcome

    async def _remove(self, removal: RemoveStack, revision: Revision) -> Outcome:
        project = removal.project
        volumes = await self._stacks.volumes(project)
        kept = tuple(Cause(f"volume {name}", "kept", "kept") for name in volumes)
        number = await anyio.to_thread.run_sync(
            lambda: self._journal.begin(
                "remove-stack",
                project,
                removal.reason.value,
                cause=removal.causes + kept,
                revision=revision.sha,
            )
        )
        log.info("%s: taking it down: %s", project, removal.reason.value)
        outcome, _ = await self._attempt(
            number, project, lambda: self._stacks.take_down(project, revision)
        )
        if outcome.status is Status.SUCCEEDED:
            await anyio.to_thread.run_sync(self._journal.forget_release, project)
            if volumes:
                log.info("%s: its volumes are kept: %s", project, ", ".join(volumes))
        elif outcome.status is Status.FAILED:
            await anyio.to_thread.run_sync(self._settle_removal, project, outcome)
        return outcome

    async def _attempt(
        self, number: int, subject: str, work: Callable[[], Awaitable[_Result]]
    ) -> tuple[Outcome, _Result | None]:
        """Run ``work`` with a few tries and write down how it ended."""
        started = time.monotonic()
        tries = 0
        result: _Result | None = None
        error: CommitdError | None = None
        status = Status.CANCELLED
        try:
            async for attempt in AsyncRetrying(
                retry=retry_if_exception_type(TransientError),
                stop=stop_after_attempt(TRIES),
                wait=wait_exponential(multiplier=0.5, max=10) + wait_random(0, 1),
                reraise=True,
                sleep=anyio.sleep,
            ):
                tries = attempt.retry_state.attempt_number
                with attempt:
                    await anyio.to_thread.run_sync(self._refuse_suspended, subject)
                    result = await work()
            status = Status.SUCCEEDED
        except HeldError as err:
            status, error = Status.CANCELLED, err
            log.info("%s: %s", subject, err)
        except CommitdError as err:
            status, error = Status.FAILED, err
            log.error("%s: %s", subject, err)  # noqa: TRY400  the message is for operators
        except Exception as err:
            status, error = Status.FAILED, TransientError(f"unexpected {type(err).__name__}")
            log.exception("%s: unexpected", subject)
        finally:
            said = str(error) if error else None
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(
                    lambda: self._finish(
                        number, subject, status, tries=tries, started=started, error=said
                    )
                )
        permanent = isinstance(error, PermanentError)
        return Outcome(subject, status, str(error) if error else None, permanent, tries), result

    def _refuse_suspended(self, subject: str) -> None:
        """A person may have taken it out of our hands since the plan was made."""
        now = Exemptions(suspensions=self._journal.suspensions(time.time()))
        if now.suspension(subject):
            raise HeldError("it was suspended meanwhile")

    def _finish(
        self,
        number: int,
        subject: str,
        status: Status,
        *,
        tries: int,
        started: float,
        error: str | None,
    ) -> None:
        """Write down how it ended; what was done stays done when that cannot be written."""
        duration_s = time.monotonic() - started
        try:
            self._journal.finish(number, status, attempts=tries, duration_s=duration_s, error=error)
        except CommitdError as err:
            log.error("%s: %s, but %s", subject, status.value, err)  # noqa: TRY400

    def _settle(
        self,
        deploy: Deploy,
        revision: Revision,
        outcome: Outcome,
        services: tuple[Service, ...] | None,
    ) -> None:
        """Remember the release or the failure; repairs in a row count towards a backoff too."""
        stack = deploy.stack
        before = self._journal.attempts().get(stack.name)  # which the release ends
        if outcome.status is Status.SUCCEEDED and services is not None:
            self._journal.keep_release(
                Release(stack.name, stack.digest, revision.sha, stack.inputs, services, utcnow())
            )
            if deploy.reason is not Reason.DRIFTED:
                return
            error = "it was put right and drifted again"
        elif outcome.status is Status.FAILED:
            error = outcome.error or "it failed"
        else:
            return
        self._keep_failure(before, stack.name, stack.digest, error, permanent=outcome.permanent)

    def _settle_removal(self, project: str, outcome: Outcome) -> None:
        """No digest and never for good: what leaves has no input that could change."""
        before = self._journal.attempts().get(project)
        self._keep_failure(before, project, "", outcome.error or "it failed", permanent=False)

    def _keep_failure(
        self, before: Attempt | None, subject: str, digest: str, error: str, *, permanent: bool
    ) -> None:
        now = time.time()
        fresh = before is None or before.digest != digest or now - before.next_at > QUIET_S
        count = 1 if fresh or before is None else before.count + 1
        self._journal.keep_attempt(
            Attempt(subject, digest, count, now + backoff(count), permanent, error)
        )


def _subject(action: Deploy | RemoveStack) -> str:
    return action.stack.name if isinstance(action, Deploy) else action.project


def backoff(count: int) -> float:
    """Seconds to wait after ``count`` failures in a row, with jitter."""
    longest: float = min(LONGEST_BACKOFF_S, FIRST_BACKOFF_S * 2.0 ** (min(count, 10) - 1))
    return longest * random.uniform(0.8, 1.2)  # noqa: S311  spreads load, protects nothing
