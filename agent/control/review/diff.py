"""Comparing two commits of a clone: what the newer one would do to each host."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import anyio.to_thread
from msgspec import Struct
from msgspec.structs import replace

from agent.adapters.clone import sources
from agent.adapters.clone.clone import Clone
from agent.adapters.clone.sources import Source
from agent.adapters.compose import workdir
from agent.adapters.compose.compose import Compose
from agent.control.review import check, offline_resolve
from agent.control.review.offline_resolve import Models
from agent.control.stack.ready import Ready
from agent.domain.reconcile.actions import Plan
from agent.domain.reconcile.effects import Side
from agent.domain.repository import layout
from agent.domain.repository.desired import Stack
from agent.domain.review import host_diff, repository_scan
from agent.domain.review.alike import Place
from agent.domain.review.host_diff import HostChange, Sides
from agent.domain.review.repository_scan import RepositoryScan


class Comparison(Struct, frozen=True, kw_only=True):
    """Full SHAs of both commits, the hosts that change and those that do not, by name.

    ``warning`` says what could not be looked at, or why no host takes ``head``.
    """

    base: str
    head: str
    hosts: tuple[HostChange, ...]
    unchanged: tuple[str, ...]
    warning: str | None = None


class _Commit(Struct, frozen=True):
    """``sides`` are stacks of hosts as far as they are known, or why they are not."""

    source: Source
    scan: RepositoryScan
    sides: Mapping[Place, Side | str] | None = None

    def side(self, host: str, stack: str) -> Side | str | None:
        """The stack in this commit, if it is there."""
        state = self.scan.hosts.get(host)
        if state is None or all(each.name != stack for each in state.stacks):
            return None
        return "Docker Compose is not here" if self.sides is None else self.sides[host, stack]


async def compare(start: Path, base: str, head: str) -> Comparison:
    """From ``base`` to ``head``, as Git names commits of the clone around ``start``.

    Raises :class:`CommitdError`.
    """
    clone = await anyio.to_thread.run_sync(Clone.around, start, "--dir DIR")
    before, after = await _read(clone.root, base), await _read(clone.root, head)
    plans = {
        host: host_diff.planned(before.scan.hosts.get(host), state)
        for host, state in sorted(after.scan.hosts.items())
    }
    program, warnings = await check.program_here()
    if program:
        before = await _resolved(before, plans, program)
        after = await _resolved(after, plans, program)
    found = await anyio.to_thread.run_sync(_hosts, before, after, plans)
    said = [_refused(after.scan), *(warning.message for warning in warnings)]
    changed = {host.name for host in found}
    return Comparison(
        base=before.source.revision.sha,
        head=after.source.revision.sha,
        hosts=tuple(found),
        unchanged=tuple(host for host in plans if host not in changed),
        warning="; ".join(filter(None, said)) or None,
    )


def _refused(scan: RepositoryScan) -> str | None:
    """Why every host holds the whole commit."""
    fault = next((f for f in scan.findings if f.rule == "checkout"), None)
    if fault is None:
        return None
    return f"no host takes this commit as it is: {fault.where}: {fault.message}"


async def _read(root: Path, rev: str) -> _Commit:
    source = await sources.at(root, rev)
    taken = await anyio.to_thread.run_sync(
        repository_scan.take, source.tree, source.contents, source.revision
    )
    return _Commit(source, taken)


async def _resolved(commit: _Commit, plans: Mapping[str, Plan], program: Compose) -> _Commit:
    """The commit with the models of those stacks that are to be deployed anywhere."""
    wanted = {(host, d.stack.name) for host, todo in plans.items() for d in todo.deploys}
    places = [each for each in commit.scan.placed if (each[0], each[1].name) in wanted]
    scan = commit.scan
    async with (
        workdir.laid_out(commit.source.tree, commit.source.contents) as root,
        program.seeing(root) as confined,
    ):
        models = await offline_resolve.resolve(scan, root, confined, places, check.parallel())
        sides = await anyio.to_thread.run_sync(_sides, scan, models, places)
    return _Commit(commit.source, scan, sides)


def _sides(
    scan: RepositoryScan, models: Models, places: Iterable[tuple[str, Stack]]
) -> dict[Place, Side | str]:
    found: dict[Place, Side | str] = {}
    for host, stack in places:
        place = host, stack.name
        if error := models.failed.get(place):
            found[place] = error.message.replace(f"{models.root}/", "")
        else:
            invocation = offline_resolve.invocation(scan, models.root, stack)
            known = Ready.of(invocation, models.found[place].model).side()
            found[place] = replace(known, hidden=())  # numbers in the place of secrets
    return found


def _hosts(before: _Commit, after: _Commit, plans: Mapping[str, Plan]) -> list[HostChange]:
    found: list[HostChange] = []
    present = layout.hosts(after.source.tree)
    for host in sorted({*before.scan.hosts, *present}):
        if host in plans:
            sides: dict[str, Sides] = {
                deploy.stack.name: (
                    before.side(host, deploy.stack.name),
                    after.side(host, deploy.stack.name),
                )
                for deploy in plans[host].deploys
            }
            old, new = before.scan.hosts.get(host), after.scan.hosts[host]
            moved = _moved(before, after, host)
            change = host_diff.of_host(old, new, plans[host], sides, moved)
            if change and old is None and host in layout.hosts(before.source.tree):
                change = replace(change, note="its list of stacks could not be read before")
            found += [change] if change else []
        elif host in before.scan.hosts:
            why = "its list of stacks cannot be read" if host in present else "it is gone"
            found.append(HostChange(host, (), f"{why}: the agent there changes nothing any more"))
    return found


def _moved(before: _Commit, after: _Commit, host: str) -> dict[str, str]:
    """Of each stack that is added or removed here: where from, or where to."""

    def on(commit: _Commit, stack: str) -> set[str]:
        return {h for h, state in commit.scan.hosts.items() if stack in state.names}

    found: dict[str, str] = {}
    for stack in sorted({*_names(before, host), *_names(after, host)}):
        old, new = on(before, stack), on(after, stack)
        if host in new - old and old - new:
            found[stack] = f", moved from {_listed(old - new)}"
        elif host in old - new and new - old:
            found[stack] = f", moved to {_listed(new - old)}"
    return found


def _names(commit: _Commit, host: str) -> frozenset[str]:
    state = commit.scan.hosts.get(host)
    return state.names if state else frozenset()


def _listed(hosts: Iterable[str]) -> str:
    return ", ".join(sorted(hosts))
