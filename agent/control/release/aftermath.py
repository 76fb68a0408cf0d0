"""What follows from how a deploy ended: a release is remembered, or the last one comes back.

failed ─┬▶ for good, or what ran is down, or in passing three times ─▶ rollback ─▶ it is back
│                                                                 │ or not
└▶ in passing, or undone from outside ─▶ tried again later ◀──────┘ (if in passing)
"""

from __future__ import annotations

from msgspec.structs import replace

from agent.adapters.state.async_journal import Recording
from agent.adapters.state.database import utcnow
from agent.control.release.deployment import Deployment, DeployTools
from agent.control.stack.revival import Revived
from agent.domain.outcome import Action, Cause, CauseKind, Outcome, Reason
from agent.domain.reconcile.plan import moved
from agent.domain.release import namespaces
from agent.domain.release.release import Release, Service
from agent.domain.repository.desired import Stack

_IN_PASSING = 2
"""As many rounds may fail in passing before the last healthy release comes back."""


class Aftermath:
    """What is remembered, and what comes back."""

    def __init__(self, tools: DeployTools) -> None:
        self._t = tools
        self.journal = tools.journal
        self.attempts = tools.attempts

    async def keep(self, run: Deployment, services: tuple[Service, ...]) -> None:
        """Remember the release; repairs in a row count towards a backoff."""
        stack, before = run.stack, run.before
        sha = before.revision if before and not run.changed else run.batch.revision.sha
        failures = (await self.journal.attempts()).get(stack.name)  # which the release ends
        await self.journal.keep_release(_release(stack, sha, services))
        self.attempts.words.drop(stack.name)
        if run.deploy.reason is not Reason.DRIFTED:
            await self._repair_joining()
            return
        if before and before.dirty:  # what was cut short goes on: that is no new drift
            if failures:
                await self.journal.keep_attempt(failures)
        else:
            what = ", ".join(cause.subject for cause in run.deploy.causes[:3])
            error = f"it drifted again after a repair: {what}"
            await self.attempts.keep_failure(
                failures, stack.name, stack.digest, error, permanent=False
            )

    async def keep_revived(self, run: Deployment, revived: Revived) -> None:
        """The release is as it was; only what ended by itself counts towards a backoff."""
        self.attempts.words.drop(run.stack.name)
        if revived.why:
            stack = run.stack
            failures = (await self.journal.attempts()).get(stack.name)
            await self.attempts.keep_failure(
                failures, stack.name, stack.digest, revived.why, permanent=False
            )

    async def _repair_joining(self) -> None:
        """Others that lost their namespaces by this deploy did nothing: they do not wait.

        Of whom each joins namespaces, only an inspect of its containers would say; so all that
        join some are repaired at once, as often as something is deployed.
        """
        failures, releases = await self.journal.attempts(), await self.journal.releases()
        for name in {stack for stack, _ in namespaces.joining(releases.values())}:
            failed = failures.get(name)
            if failed and failed.digest == releases[name].digest and not failed.permanent:
                await self.journal.forget_attempts(name)

    async def fail(self, run: Deployment, outcome: Outcome) -> Outcome:
        """Go back to what was well, if there is such a thing; else remember the failure.

        The outcome, with what came of that.
        """
        stack, error = run.stack, outcome.error or "it failed"
        failures = (await self.journal.attempts()).get(stack.name)
        again = failures.count if failures and failures.digest == stack.digest else 0
        # What fails in passing is no fault of the release, unless it goes on failing, or what ran
        # before is down as long as it is tried.
        passing = again < _IN_PASSING or outcome.interference
        lasting = outcome.permanent or bool(run.stopped) or not passing
        back = None
        if run.before and run.touched and run.changed and stack.settings.rollback and lasting:
            back = await self._roll_back(run, run.before, error, outcome.reason)
        if back:
            outcome = replace(outcome, error=f"{error}; {back[1]}")
            if back[0]:
                return outcome
        await self.attempts.keep_failure(
            failures, stack.name, stack.digest, error, permanent=outcome.permanent
        )
        return outcome

    async def _roll_back(
        self, run: Deployment, before: Release, error: str, reason: Reason | None
    ) -> tuple[bool, str]:
        """Bring the last healthy release back; whether there was a way, and how it went."""
        name = run.stack.name
        cause = Cause(
            kind=CauseKind.RELEASE,
            stack=name,
            before=run.stack.digest[:12],
            after=before.digest[:12],
            commit=before.revision,
        )
        causes = [cause, *moved(run.stack.versions, before.inputs, before.revision)]
        restored: Stack | None = None

        async def work(entry: Recording) -> tuple[Service, ...]:
            nonlocal restored
            restored = await self._t.restorer.restore(before, run.stack, error)
            return await self._t.steps.back(run, restored, before, entry)

        async with self.journal.recording(
            Action.ROLLBACK,
            name,
            reason or Reason.ROLLED_BACK,
            detail=error,
            causes=causes,
            revision=before.revision,
        ) as entry:
            outcome, services = await self.attempts.tries(entry, name, lambda: work(entry))
            entry.outcome = outcome
        if services is not None and restored is not None:
            release = _release(restored, before.revision, services)
            await self.journal.keep_release(release)
            return True, f"rolled back to {before.revision[:7]}"
        if restored is None:
            return False, f"rollback unavailable: {outcome.error}"
        return True, f"rollback {outcome.status}: {outcome.error}"


def _release(stack: Stack, revision: str, services: tuple[Service, ...]) -> Release:
    return Release(
        stack=stack.name,
        digest=stack.digest,
        revision=revision,
        inputs=stack.versions,
        services=services,
        at=utcnow(),
        after=stack.settings.after,
    )
