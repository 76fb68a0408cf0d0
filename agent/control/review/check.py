"""Checking a whole repository: the layout alone, then each stack of each host as Compose has it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import anyio.to_thread
from msgspec import Struct

from agent.adapters.clone import sources
from agent.adapters.clone.clone import Clone
from agent.adapters.clone.sources import Source
from agent.adapters.compose import locate, workdir
from agent.adapters.compose.compose import Compose
from agent.adapters.tasks import task_group
from agent.control.review import offline_resolve, partial, renames
from agent.control.review.partial import PartialModel
from agent.domain import lfs
from agent.domain.compose import policy
from agent.domain.errors import ConfigError
from agent.domain.finding import Finding, Level
from agent.domain.recipients import audit
from agent.domain.repository.desired import Stack
from agent.domain.review import repository_scan
from agent.domain.review.alike import Place
from agent.domain.review.checks import hosts, merge, networks, pointers, stacks, values
from agent.domain.review.checks.hosts import Here
from agent.domain.review.checks.merge import Found
from agent.domain.review.checks.places import Places
from agent.domain.review.repository_scan import NOWHERE, RepositoryScan

TIMEOUT_S = 60.0
"""Of one call of Compose."""
_NO_ENGINE = "unix:///nonexistent"
"""Resolving asks none, and must not find one."""


_SAID_BEFORE = {
    "policy": ("policy", "paths"),
    pointers.RULE: ("syntax", "env-file", "plain-secret"),
}
"""What the layout calls it, where it is not called the same."""

Looks = Mapping[Place, PartialModel] | None
"""At every stack that can be looked at; None without Compose."""


class Report(Struct, frozen=True):
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


async def check(start: Path) -> Report:
    """Judge the clone around ``start`` as it is on disk. Raises :class:`CommitdError`."""
    clone = await anyio.to_thread.run_sync(Clone.around, start, "commitd check PATH")
    source = await sources.on_disk(clone.root)
    found = await anyio.to_thread.run_sync(
        repository_scan.take, source.tree, source.contents, source.revision
    )
    program, problems = await program_here()
    said: list[Finding] = []
    async with task_group() as tasks:
        tasks.start_soon(_beside, clone.root, source, found, said)
        looks = await _looks(source, found, program) if program else None
    known = [*found.findings, *problems, *said]
    per_stack = await anyio.to_thread.run_sync(_judge, found, looks, _pointers(source), known)
    findings = merge.arranged([*known, *per_stack])
    names = {stack.name for _, stack in _all(found)}
    return Report(findings, len(found.hosts), len(names))


async def _beside(root: Path, source: Source, found: RepositoryScan, said: list[Finding]) -> None:
    """What asks no Compose, added to ``said``."""
    said += await anyio.to_thread.run_sync(audit.judge, _files(found))
    said += await renames.findings(root, source, found)


def _pointers(source: Source) -> frozenset[str]:
    """The files that hosts get no more of than what Git LFS leaves in Git."""
    read = {path for path, content in source.contents.items() if lfs.is_pointer(content)}
    return source.elsewhere | read


def _files(found: RepositoryScan) -> dict[str, bytes]:
    """All but links."""
    return {path: found.contents[path] for path in found.contents if found.files.regular(path)}


def _all(found: RepositoryScan) -> list[tuple[str, Stack]]:
    """Every stack that can be looked at, with each host, good ones first."""
    return [*found.placed, *found.misplaced]


async def program_here() -> tuple[Compose | None, list[Finding]]:
    """Compose, or the warning that it is not here; or that it sees more than the repository."""
    try:
        program = await locate.find(_NO_ENGINE, TIMEOUT_S)
    except ConfigError as err:
        said = f"{err.message}: the stacks are not resolved, only their files are judged"
        return None, [_of_the_machine("no-compose", said, err.hint)]
    hindrance = await program.hindrance()
    return program, [_of_the_machine("no-sandbox", *hindrance)] if hindrance else []


def _of_the_machine(rule: str, said: str, hint: str | None) -> Finding:
    return Finding(level=Level.WARNING, rule=rule, where=".", message=said, hint=hint)


async def _looks(
    source: Source, found: RepositoryScan, program: Compose
) -> dict[Place, PartialModel]:
    """A look at all stacks of all hosts; their files are gone again by then."""
    async with (
        workdir.laid_out(source.tree, source.contents) as root,
        program.seeing(root) as confined,
    ):
        models = await offline_resolve.resolve(found, root, confined, found.placed, parallel())
    good = {
        place: PartialModel(root=str(models.root), model=answer.model, unset=answer.unset)
        for place, answer in models.found.items()
    }
    failed = [(host, stack) for host, stack in found.placed if (host, stack.name) not in good]
    again = await partial.resolve(found, program, [*failed, *found.misplaced], parallel())
    return {**good, **again}


def parallel() -> int:
    """How many Compose processes keep this machine busy and no more."""
    return len(os.sched_getaffinity(0))


def _judge(
    found: RepositoryScan, looks: Looks, lost: frozenset[str], known: list[Finding]
) -> list[Finding]:
    runs: dict[str, set[str]] = {}
    for host, stack in _all(found):
        runs.setdefault(stack.name, set()).add(host)
    told = {(finding.rule, finding.where) for finding in known}
    places = _places(found)
    everything = [*_each_stack(found, looks, lost, told, places), *_each_host(found, looks, places)]
    merged = merge.merge(everything, {name: frozenset(on) for name, on in runs.items()})
    files = {path for _, stack in _all(found) for path in repository_scan.plain(stack)}
    for path in sorted(files & found.contents.keys()):
        merged += values.cut_values(path, found.contents[path].decode(errors="replace"))
    return merged


def _places(found: RepositoryScan) -> dict[Place, Places]:
    """Those of every stack on every host; its files are read once."""
    first: dict[tuple[str, bool], Places] = {}
    places: dict[Place, Places] = {}
    for host, stack in _all(found):
        key = stack.compose, stack.policy.builds
        places[host, stack.name] = mine = Places(found.files, stack, first.get(key))
        first.setdefault(key, mine)
    return places


def _each_stack(
    found: RepositoryScan,
    looks: Looks,
    lost: frozenset[str],
    told: set[tuple[str, str]],
    places: Mapping[Place, Places],
) -> Iterator[Found]:
    for host, stack in _all(found):
        for finding in _one(looks, host, places[host, stack.name], lost):
            # Of its own files the layout has said so already, that of variables it cannot see.
            kinds = _SAID_BEFORE.get(finding.rule, (finding.rule,))
            if not any((kind, finding.where) in told for kind in kinds):
                yield host, stack.name, finding


def _one(looks: Looks, host: str, places: Places, lost: frozenset[str]) -> Iterator[Finding]:
    stack = places.stack
    yield from stacks.without_effect(stack)
    if stack.policy.swarm:
        yield from stacks.meaningless(places)
    yield from values.lone_dollars(places)
    yield from values.not_raw(places)
    yield from values.unreadable(places)
    yield from values.encrypted(places)
    yield from pointers.read(places, lost)
    if looks is None:
        yield from values.malformed(places)
    look = looks[host, stack.name] if looks else PartialModel(root="", model=None)
    yield from look.findings
    if look.model is None:
        yield from stacks.judged(policy.unpinned(stack, stacks.written(places)), places)
        return
    if host != NOWHERE:  # a host may set what is missing
        yield from values.unset(look.unset, places)
    yield from stacks.judge(stack, look.model, look.root, places)
    yield from pointers.mounted(look.model, look.root, places, lost)


def _each_host(
    found: RepositoryScan, looks: Looks, everywhere: Mapping[Place, Places]
) -> Iterator[Found]:
    for host, state in found.hosts.items():
        here = sorted([*state.stacks, *found.faulty[host]], key=lambda stack: stack.name)
        places = {stack.name: everywhere[host, stack.name] for stack in here}
        together = [
            Here(stack.name, look.model, places[stack.name])
            for stack in here
            if looks and (look := looks[host, stack.name]).model is not None
        ]
        judged = [*hosts.disorder(here, state, places)]
        for judge in (hosts.ports, networks.subnets, networks.declared_twice):
            judged += judge(together)
        judged += (hosts.service_names if state.swarm else hosts.container_names)(together)
        whole = all(looks[host, stack.name].whole for stack in here) if looks else False
        if whole and len(together) == len(state.names) and not state.list_faults:
            judged += hosts.external(together)  # else what is not known may make them
        for name, finding in judged:
            yield host, name, finding
