"""The whole repository at once: what each host shall run, what no host runs, and every fault.

A host reads only what is its own. This is for people and CI, who look at all of them before a
commit gets there.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping

from msgspec import Struct

from agent.domain.config import is_host_name
from agent.domain.errors import PermanentError
from agent.domain.finding import Fault, Finding, Level
from agent.domain.repository import checkout_safety, layout
from agent.domain.repository.desired import DesiredState, Stack
from agent.domain.repository.tree import SYMLINK, Snapshot, Tree
from agent.domain.revision import Revision

NOWHERE = ""
"""Stands for a host in the place of stacks that no host runs."""

_WORD = re.compile(r"[\w.-]+")
_COMMENT = re.compile(r"#.*")
_STACK_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")


class RepositoryScan(Struct, frozen=True, kw_only=True):
    """``hosts`` are those whose list can be read, by name; ``unused`` the stacks that no host runs.

    ``faulty`` are the stacks of each host, or of ``NOWHERE``, that hosts refuse and that can be
    looked at nevertheless. ``files`` holds everything that was read.
    """

    files: Snapshot
    contents: Mapping[str, bytes]
    hosts: Mapping[str, DesiredState]
    unused: tuple[Stack, ...]
    findings: tuple[Finding, ...]
    faulty: Mapping[str, tuple[Stack, ...]]

    @property
    def placed(self) -> list[tuple[str, Stack]]:
        """Every good stack with each host that runs it, or with NOWHERE; sorted."""
        found = [(host, stack) for host, state in self.hosts.items() for stack in state.stacks]
        found += [(NOWHERE, stack) for stack in self.unused]
        return _sorted(found)

    @property
    def misplaced(self) -> list[tuple[str, Stack]]:
        """The same of the stacks with faults."""
        return _sorted((host, stack) for host, stacks in self.faulty.items() for stack in stacks)


def _sorted(found: Iterable[tuple[str, Stack]]) -> list[tuple[str, Stack]]:
    return sorted(found, key=lambda each: (each[1].name, each[0]))


def take(tree: Tree, contents: Mapping[str, bytes], revision: Revision) -> RepositoryScan:
    """Read everything. ``contents`` maps the paths of :func:`tree.small` to bytes."""
    links = {
        path: contents[path].decode(errors="replace")
        for path, entry in tree.items()
        if entry.mode == SYMLINK and path in contents
    }
    found = [
        Finding(
            level=Level.ERROR,
            rule="checkout",
            where=fault.where,
            message=fault.message,
            hint=fault.hint,
        )
        for fault in checkout_safety.faults(tree, links)
    ]
    if not layout.hosts(tree):
        found.append(_no_host(tree))
    files = Snapshot(tree, contents)
    hosts: dict[str, DesiredState] = {}
    faulty: dict[str, tuple[Stack, ...]] = {}
    for host in layout.hosts(tree):
        if not is_host_name(host):
            message = f"{host!r} cannot be the name of a host"
            hint = "letters, digits, '.', '_' and '-'"
            found.append(
                Finding(
                    level=Level.ERROR,
                    rule="layout",
                    where=f"host/{host}",
                    message=message,
                    hint=hint,
                )
            )
        # Just what the agent there would have at hand.
        own = files.part(layout.wanted(tree, host))
        try:
            seen = layout.survey(own, revision, host)
        except PermanentError as err:
            where = err.where or f"host/{host}"
            found.append(
                Finding(
                    level=Level.ERROR,
                    rule="layout",
                    where=where,
                    message=err.message,
                    hint=err.hint,
                )
            )
        else:
            hosts[host], faulty[host] = seen.desired, seen.faulty
            found += _findings(seen.faults)
    used = {name for state in hosts.values() for name in state.names}
    left = [name for name in layout.stacks(tree) if name not in used]
    found += _unlisted(left, files, every_list=len(hosts) == len(layout.hosts(tree)))
    alone = [layout.alone(files, name) for name in left if _STACK_NAME.fullmatch(name)]
    for _, faults in alone:
        found += _findings(faults)
    unused = tuple(stack for stack, faults in alone if stack and not faults)
    faulty[NOWHERE] = tuple(stack for stack, faults in alone if stack and faults)
    return RepositoryScan(
        files=files,
        contents=contents,
        hosts=hosts,
        unused=unused,
        findings=tuple(dict.fromkeys(found)),
        faulty=faulty,
    )


def _unlisted(names: list[str], files: Snapshot, *, every_list: bool) -> Iterator[Finding]:
    """What is wrong with stacks only because no host lists them; not ``every_list`` is known."""
    meant = _meant(files, layout.stacks(files.tree))
    for name in names:
        if not _STACK_NAME.fullmatch(name):
            message = f"{name!r} cannot be the name of a stack"
            hint = "lower-case letters, digits, - and _"
            yield Finding(
                level=Level.ERROR, rule="layout", where=f"stacks/{name}", message=message, hint=hint
            )
        elif every_list and name not in meant:
            message = f"no host runs the stack {name!r}"
            hint = "add it to a host's stacks.yaml, or git rm it"
            yield Finding(
                level=Level.WARNING,
                rule="unused",
                where=f"stacks/{name}",
                message=message,
                hint=hint,
            )


def _findings(faults: Iterable[Fault]) -> list[Finding]:
    """All but what is said of secrets that are none: ``recipients`` looks closer."""
    return [
        Finding(
            level=Level.ERROR,
            rule=fault.rule,
            where=fault.where,
            message=fault.message,
            hint=fault.hint,
        )
        for fault in faults
        if fault.rule != "plain-secret"
    ]


def _no_host(tree: Tree) -> Finding:
    places = {path.partition("/")[0] for path in tree if "/" in path}
    near = difflib.get_close_matches("host", sorted(places - {"host"}), 1)
    hint = f"is {near[0]}/ meant to be host/?" if near else "add host/NAME/stacks.yaml"
    message = "there is no host, so that no agent finds anything here"
    return Finding(level=Level.ERROR, rule="layout", where="host", message=message, hint=hint)


def _meant(files: Snapshot, stacks: list[str]) -> set[str]:
    """Stacks that the entries of lists may mean which are no names of stacks."""
    found: set[str] = set()
    for host in layout.hosts(files.tree):
        path = f"host/{host}/stacks.yaml"
        try:
            text = files.content(path).decode(errors="replace") if path in files.tree else ""
        except PermanentError:  # too large
            continue
        for word in {*_WORD.findall(_COMMENT.sub("", text.lower()))}:
            found.update([word] if word in stacks else difflib.get_close_matches(word, stacks, 1))
    return found


def plain(stack: Stack) -> list[str]:
    """Paths of the env files that are no secrets."""
    return [file.path for file in stack.environment if not file.secret]
