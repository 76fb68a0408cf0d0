"""The whole repository at once: what each host shall run, what no host runs, and every fault.

A host reads only what is its own. This is for people and CI, who look at all of them before a
commit gets there.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from agent.domain import checkout, documents, layout
from agent.domain.config import is_host_name
from agent.domain.errors import PermanentError
from agent.domain.finding import Finding, Level
from agent.domain.model import DesiredState, Fault, Revision, Stack, Tree
from agent.domain.snapshot import GITLINK, SYMLINK, Snapshot

NOWHERE = ""
"""Stands for a host in the place of stacks that no host runs."""

MAX_BYTES = 48 * 1024 * 1024
"""Of all files that are read; of more, the largest are not."""
_STACK_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")


@dataclass(frozen=True, slots=True)
class Census:
    """``hosts`` are those whose list can be read, by name; ``unused`` the stacks that no host runs.

    ``files`` holds everything that was read.
    """

    files: Snapshot
    contents: Mapping[str, bytes]
    hosts: Mapping[str, DesiredState]
    unused: tuple[Stack, ...]
    findings: tuple[Finding, ...]

    @property
    def placed(self) -> list[tuple[str, Stack]]:
        """Every readable stack with each host that runs it, or with NOWHERE; sorted."""
        found = [(host, stack) for host, state in self.hosts.items() for stack in state.stacks]
        found += [(NOWHERE, stack) for stack in self.unused]
        return sorted(found, key=lambda each: (each[1].name, each[0]))


def wanted(tree: Tree) -> dict[str, str]:
    """Paths and Git objects of the files that :func:`take` looks at: all but what is large."""
    needed: dict[str, str] = {}
    total = 0
    for entry in sorted(tree.values(), key=lambda entry: (entry.size, entry.path)):
        total += entry.size
        if entry.size > documents.MAX_BYTES or total > MAX_BYTES:
            break
        if entry.mode != GITLINK:
            needed[entry.path] = entry.oid
    return needed


def take(tree: Tree, contents: Mapping[str, bytes], revision: Revision) -> Census:
    """Read everything. ``contents`` maps the paths of :func:`wanted` to bytes."""
    links = {
        path: contents[path].decode(errors="replace")
        for path, entry in tree.items()
        if entry.mode == SYMLINK and path in contents
    }
    found = [
        Finding(Level.ERROR, "checkout", fault.where, fault.message, fault.hint)
        for fault in checkout.faults(tree, links)
    ]
    if not layout.hosts(tree):
        found.append(_no_host(tree))
    hosts: dict[str, DesiredState] = {}
    for host in layout.hosts(tree):
        if not is_host_name(host):
            message = f"{host!r} cannot be the name of a host"
            hint = "letters, digits, '.', '_' and '-'"
            found.append(Finding(Level.ERROR, "layout", f"host/{host}", message, hint))
        # Just what the agent there would have at hand.
        needed = layout.wanted(tree, host)
        own = Snapshot(tree, {p: contents[p] for p in needed if p in contents})
        try:
            hosts[host], faults = layout.survey(own, revision, host)
        except PermanentError as err:
            found.append(
                Finding(Level.ERROR, "layout", err.where or f"host/{host}", err.message, err.hint)
            )
        else:
            found += _findings(faults)
    files = Snapshot(tree, contents)
    used = {name for state in hosts.values() for name in state.names}
    unused: list[Stack] = []
    for name in layout.stacks(tree):
        if name in used:
            continue
        found.append(_unused(name))
        if not _STACK_NAME.fullmatch(name):
            continue
        stack, faults = layout.alone(files, name)
        found += _findings(faults)
        unused += [stack] if stack else []
    return Census(files, contents, hosts, tuple(unused), tuple(dict.fromkeys(found)))


def _findings(faults: Iterable[Fault]) -> list[Finding]:
    """All but what is said of secrets that are none: ``recipients`` looks closer."""
    return [
        Finding(Level.ERROR, fault.rule, fault.where, fault.message, fault.hint)
        for fault in faults
        if fault.rule != "plain-secret"
    ]


def _no_host(tree: Tree) -> Finding:
    places = {path.partition("/")[0] for path in tree if "/" in path}
    near = difflib.get_close_matches("host", sorted(places - {"host"}), 1)
    return Finding(
        Level.ERROR,
        "layout",
        "host",
        "there is no host, so that no agent finds anything here",
        f"is {near[0]}/ meant to be host/?" if near else "add host/NAME/stacks.yaml",
    )


def _unused(name: str) -> Finding:
    if not _STACK_NAME.fullmatch(name):
        return Finding(
            Level.ERROR,
            "layout",
            f"stacks/{name}",
            f"{name!r} cannot be the name of a stack",
            "lower-case letters, digits, - and _",
        )
    return Finding(
        Level.WARNING,
        "unused",
        f"stacks/{name}",
        f"no host runs the stack {name!r}",
        "add it to a host's stacks.yaml, or git rm it",
    )


def plain(stack: Stack) -> list[str]:
    """Paths of the env files that are no secrets."""
    return [file.path for file in stack.environment if not file.secret]
