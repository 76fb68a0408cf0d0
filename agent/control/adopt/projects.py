"""The Compose projects of an engine, as somebody started them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import anyio.to_thread

from agent.adapters.clone import running_projects
from agent.adapters.clone.running_projects import Project
from agent.adapters.compose.compose import Compose
from agent.adapters.engine.engine import Engine
from agent.control.adopt.managed import managed
from agent.control.adopt.running import Found, Judged
from agent.control.release.adoption import Adopter
from agent.control.release.dry_run import MOUNTS, rehearse
from agent.domain.adopt import convert
from agent.domain.adopt.convert import Converted
from agent.domain.repository.desired import Stack
from agent.domain.repository.tree import Tree


class RunningProjects:
    """``state`` is the state directory of this host's agent."""

    swarm = False

    def __init__(self, compose: Compose, engine: Engine, state: Path) -> None:
        self._compose = compose
        self._engine = engine
        self._state = state
        self._projects: dict[str, Project] = {}

    async def find(self) -> Found:
        """By the labels of containers. Raises :class:`CommitdError`."""
        projects, loose = await running_projects.find(self._engine)
        self._projects = {project.name: project for project in projects}
        return Found(
            names=list(self._projects),
            loose=loose,
            managed=await anyio.to_thread.run_sync(managed, projects, self._state),
            kind="project",
            hint="docker compose ls lists them",
        )

    def place(self, name: str) -> str:
        """Its directory."""
        return str(self._projects[name].directory)

    async def convert(self, name: str) -> tuple[Converted, Mapping[str, str]]:
        """From its own files. Raises :class:`CommitdError`."""
        origin = await running_projects.read(self._compose, self._engine, self._projects[name])
        return convert.convert(origin), origin.pins

    async def judge(
        self,
        stacks: Iterable[Stack],
        *,
        tree: Tree,
        contents: Mapping[str, bytes],
        opened: Mapping[str, bytes],
    ) -> dict[str, Judged]:
        """Its containers are compared as the agent does before it adopts them."""
        adopter = Adopter(self._compose, self._engine)
        found = await rehearse(
            self._compose, adopter, stacks, tree=tree, contents=contents, opened=opened
        )
        # Nothing that is mounted goes there: it would be an empty directory.
        mounts = (
            "it would mount a directory of the repository in the place of its own "
            "(write its mounts as absolute paths)"
        )
        return {
            name: Judged(refused=mounts) if why == MOUNTS else Judged(changes=why)
            for name, why in found.items()
        }
