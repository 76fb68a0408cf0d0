"""Reading a stack before anything of it is touched."""

from __future__ import annotations

from contextlib import suppress

from agent.control.release.deployment import Deployment
from agent.control.retry import Attempts
from agent.control.stack.operations import Stacks
from agent.control.stack.ready import Ready
from agent.domain.errors import CommitdError
from agent.domain.outcome import Cause, CauseKind, Outcome, Phase
from agent.domain.release.release import Release
from agent.domain.revision import Revision


async def read(run: Deployment, stacks: Stacks, attempts: Attempts) -> Outcome | None:
    """Have ``run.ready`` be what its files say; how it ended if that fails."""
    name = run.stack.name
    with run.entry.phase(Phase.READ):
        async with run.batch.places.taken(reading=True):
            outcome, run.ready = await attempts.tries(
                run.entry, name, lambda: stacks.prepare(run.stack, ran=not run.other)
            )
    if run.ready is None:
        return outcome
    if causes := _images(run.ready, run.before, run.batch.revision):
        with suppress(CommitdError):  # it would only say more of why
            await run.entry.add_causes(causes)
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
