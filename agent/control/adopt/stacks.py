"""The stacks of a Swarm, as somebody deployed them with ``docker stack deploy``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import anyio.to_thread

from agent.adapters.clone import running_stacks
from agent.adapters.compose import workdir
from agent.adapters.compose.compose import Compose
from agent.adapters.compose.invocation import Invocation
from agent.adapters.engine.engine import Engine
from agent.control.adopt.running import Found, Judged
from agent.control.stack.ready import accept
from agent.control.swarm.leadership import Leadership
from agent.domain.adopt import convert_stack, stack_comparison
from agent.domain.adopt.convert import Converted
from agent.domain.adopt.convert_stack import ConvertedStack
from agent.domain.compose.policy import Effect, summary
from agent.domain.errors import CommitdError
from agent.domain.repository.desired import Stack
from agent.domain.repository.tree import Tree
from agent.domain.swarm import stack_file
from agent.domain.swarm.model import SwarmService


class RunningStacks:
    """Seen by one of the managers, whichever leads."""

    swarm = True

    def __init__(self, compose: Compose, engine: Engine) -> None:
        self._compose = compose
        self._engine = engine
        self._stacks: dict[str, tuple[SwarmService, ...]] = {}
        self._converted: dict[str, ConvertedStack] = {}

    async def find(self) -> Found:
        """By the labels of services. Raises :class:`CommitdError`, also where no manager is."""
        await Leadership(self._engine).look()
        self._stacks, loose = await running_stacks.find(self._engine)
        return Found(
            names=list(self._stacks),
            loose=loose,
            managed=running_stacks.managed(self._stacks),
            kind="stack",
            hint="docker stack ls lists them",
        )

    def place(self, name: str) -> str:
        """The stack's services."""
        return f"docker stack services {name}"

    async def convert(self, name: str) -> tuple[Converted, Mapping[str, str]]:
        """From the specs of its services. Raises :class:`CommitdError`."""
        origin = await running_stacks.read(self._engine, name, self._stacks[name])
        converted = await anyio.to_thread.run_sync(convert_stack.convert, origin)
        self._converted[name] = converted
        return converted, origin.pins

    async def judge(
        self,
        stacks: Iterable[Stack],
        *,
        tree: Tree,
        contents: Mapping[str, bytes],
        opened: Mapping[str, bytes],
    ) -> dict[str, Judged]:
        """What its file will say of programs and variables, and what has to change."""
        found: dict[str, Judged] = {}
        async with (
            workdir.laid_out(tree, contents, opened) as root,
            self._compose.seeing(root) as confined,
        ):
            for stack in stacks:
                try:
                    call = await anyio.to_thread.run_sync(Invocation.of, stack, root, opened)
                    ready = await accept(confined, call)
                    draft = stack_file.read(stack.name, ready.model, str(call.checkout))
                    found[stack.name] = self._judged(stack.name, draft)
                except CommitdError as err:
                    found[stack.name] = Judged(refused=str(err).replace(f"{root}/", ""))
        return found

    def _judged(self, name: str, draft: stack_file.Draft) -> Judged:
        if refused := summary(draft.violations, Effect.REFUSED):
            return Judged(refused=refused)
        moved = {key: list(why) for key, why in self._converted[name].moved_tasks.items()}
        for service in self._stacks[name]:
            section = draft.document["services"].get(service.short_name) or {}
            if other := stack_comparison.different(service.spec, section):
                moved.setdefault(service.short_name, []).append(f"other {', '.join(other)}")
        said = [f"{key} gets new tasks: {', '.join(why)}" for key, why in sorted(moved.items())]
        return Judged(changes="; ".join(said) or None)
