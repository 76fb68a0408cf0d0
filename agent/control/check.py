"""Checking a whole repository: the layout alone, then each stack of each host as Compose has it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import anyio.to_thread

from agent.adapters import compose_program, scratch, sources
from agent.adapters.compose import Compose
from agent.adapters.sources import Source
from agent.control import offline
from agent.control.offline import Models
from agent.domain import census, recipients
from agent.domain.census import NOWHERE, Census
from agent.domain.checks import hosts, merge, stacks, values
from agent.domain.checks.hosts import Here
from agent.domain.checks.merge import Found
from agent.domain.checks.places import Places
from agent.domain.errors import ConfigError
from agent.domain.finding import Finding, Level
from agent.domain.model import Stack

TIMEOUT_S = 60.0
"""Of one call of Compose."""
_NO_ENGINE = "unix:///nonexistent"
"""Resolving asks none, and must not find one."""


@dataclass(frozen=True, slots=True)
class Report:
    """Findings by file and line, and what was looked at."""

    findings: list[Finding]
    hosts: int
    stacks: int

    @property
    def errors(self) -> int:
        """How many findings forbid a merge."""
        return sum(finding.level is Level.ERROR for finding in self.findings)

    @property
    def warnings(self) -> int:
        """How many are only worth knowing."""
        return len(self.findings) - self.errors


async def check(root: Path) -> Report:
    """Judge the repository in ``root`` as it is on disk. Raises :class:`CommitdError`."""
    source = await sources.on_disk(root, census.wanted)
    found = await anyio.to_thread.run_sync(
        census.take, source.tree, source.contents, source.revision
    )
    program, problems = await program_here()
    models = await resolved(source, found, program) if program else None
    per_stack = await anyio.to_thread.run_sync(_judge, found, models)
    secrets = await anyio.to_thread.run_sync(recipients.judge, _files(found))
    findings = merge.arranged([*found.findings, *problems, *secrets, *per_stack])
    names = {stack.name for _, stack in found.placed}
    return Report(findings, len(found.hosts), len(names))


def _files(found: Census) -> dict[str, bytes]:
    """All but links."""
    return {path: found.contents[path] for path in found.contents if found.files.regular(path)}


async def program_here() -> tuple[Compose | None, list[Finding]]:
    """Compose, or the warning that it is not here."""
    try:
        return await compose_program.find(_NO_ENGINE, TIMEOUT_S), []
    except ConfigError as err:
        said = f"{err.message}: the stacks are not resolved, only their files are judged"
        return None, [Finding(Level.WARNING, "no-compose", ".", said, err.hint)]


async def resolved(source: Source, found: Census, program: Compose) -> Models:
    """The models of all stacks of all hosts; their files are gone again by then."""
    with scratch.laid_out(source.tree, source.contents) as root:
        return await offline.resolve(found, root, program, found.placed, parallel())


def parallel() -> int:
    """How many Compose processes keep this machine busy and no more."""
    return len(os.sched_getaffinity(0))


def _judge(found: Census, models: Models | None) -> list[Finding]:
    runs: dict[str, set[str]] = {}
    for host, stack in found.placed:
        runs.setdefault(stack.name, set()).add(host)
    everything = [*_each_stack(found, models), *_each_host(found, models)]
    merged = merge.merge(everything, {name: frozenset(on) for name, on in runs.items()})
    files = {path for _, stack in found.placed for path in census.plain(stack)}
    for path in sorted(files):
        merged += values.cut_values(path, found.contents[path].decode())
    return merged


def _each_stack(found: Census, models: Models | None) -> Iterator[Found]:
    for host, stack in found.placed:
        for finding in _one(found, models, host, stack):
            yield host, stack.name, finding


def _one(found: Census, models: Models | None, host: str, stack: Stack) -> Iterator[Finding]:
    places = Places(found.files, stack)
    yield from values.lone_dollars(places)
    yield from values.not_raw(places)
    yield from values.encrypted(places)
    place = (host, stack.name)
    if models is None:
        yield from values.malformed(places)
        yield from stacks.pins(stack, stacks.written(places), places)
    elif place in models.climbing:
        yield from stacks.elsewhere(models.climbing[place])
        yield from stacks.pins(stack, stacks.written(places), places)
    elif place in models.failed:
        error = models.failed[place]
        malformed = values.malformed(places) if "interpolation" in error.message else []
        yield from malformed or [stacks.unresolved(error, str(models.root), places)]
        yield from stacks.pins(stack, stacks.written(places), places)
    else:
        answer = models.found[place]
        if host != NOWHERE:  # a host may set what is missing
            yield from values.unset(answer.unset, places)
        yield from stacks.judge(stack, answer.model, str(models.root), places)


def _each_host(found: Census, models: Models | None) -> Iterator[Found]:
    for host, state in found.hosts.items():
        places = {stack.name: Places(found.files, stack) for stack in state.stacks}
        together = [
            Here(stack.name, models.found[host, stack.name].model, places[stack.name])
            for stack in state.stacks
            if models and (host, stack.name) in models.found
        ]
        judged = [*hosts.disorder(state, places)]
        for judge in (hosts.ports, hosts.container_names, hosts.external):
            judged += judge(together)
        for name, finding in judged:
            yield host, name, finding
