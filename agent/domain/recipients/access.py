"""Who runs what, who has which key, and so who shall be able to read which secret.

    host/*/stacks.yaml ──▶ stacks ─┐
    stacks/*/compose.yaml ─────────┴▶ readers ─┐      the hosts that need a secret
    host/*/age.pub ──▶ host_keys ──────────────┼▶ wanted      its recipients, to be compared with
    global/age.pub ──▶ persons ────────────────┘              those that the file has now

A host needs the secrets in ``global/``, in its own directory, of the stacks in its list, and those
that the Compose files of these stacks name elsewhere. Persons need all. Each step is done once,
when it is asked for; what cannot be read is among the ``problems`` from then on.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from agent.domain import documents
from agent.domain.errors import PermanentError
from agent.domain.repository import references
from agent.domain.repository.layout import COMPOSE_NAMES
from agent.domain.repository.secret_files import is_secret
from agent.domain.repository.tree import PLAIN, Snapshot, TreeEntry

PERSONS_PATH = "global/age.pub"

_KEY = re.compile(r"age1[a-z0-9]{20,}|ssh-(?:ed25519|rsa) [A-Za-z0-9+/=]+")
_PRIVATE = "AGE-SECRET-KEY-"


def host_key_path(host: str) -> str:
    """Where the public key of ``host`` is."""
    return f"host/{host}/age.pub"


def keys(content: bytes, path: str) -> dict[str, int]:
    """The recipients in a file of one a line, with their lines; ``#`` begins a comment.

    Raises :class:`PermanentError` for a line that is none. It shows nothing of it: it may be the
    private half.
    """
    found: dict[str, int] = {}
    for number, raw in enumerate(content.decode(errors="replace").splitlines(), 1):
        line = raw.partition("#")[0].strip()
        if not line:
            continue
        where = f"{path}:{number}"
        if _PRIVATE in line.upper():
            raise PermanentError(
                "this is the private half of a key, and everybody can read it here",
                where=where,
                hint="make a new key; commit what age-keygen -y prints of it, and change all "
                "secrets that this one could read",
            )
        # What follows an SSH key is its owner's remark.
        if not (match := _KEY.match(line)) or line[match.end() :][:1].strip():
            raise PermanentError(
                "this is no age recipient", where=where, hint="write age1…, one a line"
            )
        found.setdefault(match[0], number)
    return found


@dataclass(frozen=True)
class Access:
    """What the files of one commit, by path, say about hosts, their keys and their secrets.

    ``problems`` are key files that cannot be read, as far as they were asked for.
    """

    files: Mapping[str, bytes]
    problems: list[PermanentError] = field(default_factory=list)

    @cached_property
    def hosts(self) -> tuple[str, ...]:
        """All that have a list of stacks or a key."""
        marks = ("stacks.yaml", "age.pub")
        parts = [path.split("/") for path in self.files if path.startswith("host/")]
        return tuple(sorted({p[1] for p in parts if len(p) == 3 and p[2] in marks}))  # noqa: PLR2004

    @cached_property
    def host_keys(self) -> dict[str, dict[str, int]]:
        """The recipients of each host that has some.

        More than one where it is a Swarm, of each manager, and while a key is replaced.
        """
        found = {host: self._keys(host_key_path(host)) for host in self.hosts}
        return {host: own for host, own in found.items() if own}

    @cached_property
    def persons(self) -> tuple[str, ...]:
        """The recipients that shall be able to read every secret."""
        return tuple(self._keys(PERSONS_PATH))

    def _keys(self, path: str) -> dict[str, int]:
        try:
            return keys(self.files.get(path, b""), path)
        except PermanentError as err:
            self.problems.append(err)
            return {}

    @cached_property
    def secrets(self) -> tuple[str, ...]:
        """All files that are called secret."""
        return tuple(sorted(filter(is_secret, self.files)))

    @cached_property
    def stacks(self) -> dict[str, frozenset[str] | None]:
        """What is on the list of each host; None where the list cannot be read."""
        return {host: self._list(host) for host in self.hosts}

    def _list(self, host: str) -> frozenset[str] | None:
        path = f"host/{host}/stacks.yaml"
        if path not in self.files:
            return frozenset()
        try:
            data = documents.load(self.files[path], path).data
        except PermanentError:
            return None
        if isinstance(data, dict):
            data = data.get("stacks")
        if not isinstance(data, list) or not all(isinstance(name, str) for name in data):
            return None
        return frozenset(data)

    @cached_property
    def readers(self) -> dict[str, frozenset[str]]:
        """The hosts that need each secret, as far as their lists can be read."""
        needed = {host: set(self._needs(host)) for host in self.hosts}
        return {
            path: frozenset(host for host, paths in needed.items() if path in paths)
            for path in self.secrets
        }

    def _needs(self, host: str) -> Iterator[str]:
        places = ("global/", f"host/{host}/", *(f"stacks/{s}/" for s in self.stacks[host] or ()))
        yield from (path for path in self.secrets if path.startswith(places))
        for stack in self.stacks[host] or ():
            yield from self._named_elsewhere.get(stack, ())

    @cached_property
    def _named_elsewhere(self) -> dict[str, frozenset[str]]:
        """Secrets outside the directory of each stack that its Compose files name."""
        tree = {
            path: TreeEntry(path, PLAIN, "", len(content)) for path, content in self.files.items()
        }
        snapshot = Snapshot(tree, self.files)
        used = sorted({stack for listed in self.stacks.values() for stack in listed or ()})
        return {
            stack: references.follow(snapshot, compose, build=True).secrets
            for stack in used
            for name in COMPOSE_NAMES
            if (compose := f"stacks/{stack}/{name}") in tree
        }

    def wanted(self, path: str) -> tuple[str, ...]:
        """The recipients that ``path`` should have: its hosts' in order, then the persons'."""
        return self.keys_of(self.readers[path])

    def keys_of(self, hosts: frozenset[str]) -> tuple[str, ...]:
        """The recipients of ``hosts``, in order, then the persons'."""
        found = [key for host in sorted(hosts) for key in self.host_keys.get(host, ())]
        return tuple(dict.fromkeys([*found, *self.persons]))
