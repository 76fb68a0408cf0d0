"""Every file outside a stack's directory that its Compose files read, and what they may not name.

Names are resolved as compose-go does it: those of an included file from its project directory
(that of the first file of the entry, unless it is given), those of an extended file from its own
directory, and of that file only what the service takes that is extended. Paths are cleaned as
text before links are followed.
"""

from __future__ import annotations

import posixpath
import re
from typing import Any

from agent.domain import documents
from agent.domain.documents import Document, Path
from agent.domain.errors import PermanentError, did_you_mean
from agent.domain.finding import Fault
from agent.domain.repository import (
    compose_paths,
    hooks,
    image_refs_yaml,
    refused_keys,
    secret_files,
)
from agent.domain.repository.compose_paths import Include, Kind, Mention, Variable
from agent.domain.repository.hooks import Hook
from agent.domain.repository.referenced import References, Refused
from agent.domain.repository.tree import PLAINTEXT_PREFIX, Snapshot

MAX_LEVELS = 32
MAX_FILES = 100
MAX_TOTAL_BYTES = documents.MAX_BYTES
"""Of all Compose files of one stack together."""

_REMOTE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://|[\w.-]+@[\w.-]+:|github\.com/|.*\.git$|.*#")
COMPOSE = frozenset({Kind.INCLUDE, Kind.EXTENDS})
"""How Compose files name each other."""
_FILES_ONLY = frozenset({*COMPOSE, Kind.INCLUDE_ENV, Kind.ENV_FILE, Kind.LABEL_FILE})
_SHOWN = 80
ENOUGH = 50
"""Faults that are looked for; one is enough to hold a stack."""
_Place = tuple[Document, Mention, str]
"""A mention in a document, and the directory it is relative to."""


def follow(snapshot: Snapshot, compose: str, *, build: bool = False) -> References:
    """What the stack with the Compose file ``compose`` reads; ``build`` allows ``build:``."""
    directory = posixpath.dirname(compose)
    walk = _Walk(snapshot, directory, build=build)
    walk.main(compose)
    # What a link in the stack's own directory leads to belongs to the stack as well.
    found = snapshot.closure([directory, *walk.named])
    own = f"{directory}/"
    return References(
        paths=frozenset(path for path in found if not path.startswith(own)),
        faults=tuple(dict.fromkeys(walk.faults)),
        compose=tuple(walk.files),
        env_files=frozenset(walk.env_files),
        images=walk.images(),
        variables=tuple(dict.fromkeys(walk.variables)),
        secrets=frozenset(walk.secrets),
        secret_env_files=frozenset(walk.secret_env_files),
        raw=frozenset(walk.raw),
        refused=tuple(walk.refused),
    )


class _Walk:
    """``named`` are paths of files and directories, before links are followed."""

    def __init__(self, snapshot: Snapshot, directory: str, *, build: bool) -> None:
        self.named: set[str] = set()
        self.secrets: set[str] = set()
        self.secret_env_files: set[tuple[str, bool]] = set()
        self.faults: list[Fault] = []
        self.refused: list[Refused] = []
        self.variables: list[Variable] = []
        self._snapshot = snapshot
        self._directory = directory
        self._build = build
        self.files: dict[str, None] = {}
        self.env_files: set[str] = set()
        self.raw: set[str] = set()
        self._done: set[tuple[str, ...]] = set()
        self._images: dict[str, image_refs_yaml.Mention] = {}
        self._hooks: dict[str, image_refs_yaml.Mention] = {}
        self._links: dict[str, str] = {}
        self._top: dict[str, str] = {}

    def main(self, compose: str) -> None:
        """Follow the stack's own Compose file."""
        document = self._open(compose, None)
        if document:
            self._project(document, self._directory, self._directory, (compose,))

    def images(self) -> dict[str, image_refs_yaml.Mention]:
        """Of each service its own, else that of the one it extends; of hooks by their names."""
        found: dict[str, image_refs_yaml.Mention] = {}
        for name, first in self._top.items():
            link: str | None = first
            for _ in range(MAX_LEVELS):
                if link is None or link in self._images:
                    break
                link = self._links.get(link)
            if link in self._images:
                found[name] = self._images[link]
        return found | self._hooks

    def _project(
        self, document: Document, base: str, compose_base: str, chain: tuple[str, ...]
    ) -> None:
        """All of one file. ``compose_base`` is where Compose takes ``base`` to be for a few keys:
        it forgets the levels between, so that from the third level on they may differ.
        """
        if (document.name, base, compose_base) in self._done:
            return
        self._done.add((document.name, base, compose_base))
        data = document.data
        for mention in compose_paths.of_project(data):
            self._note(document, mention, base)
        services = data.get("services")
        for name, service in services.items() if isinstance(services, dict) else ():
            if isinstance(service, dict):
                if {"image", "extends"} & service.keys():  # or an older file says it
                    self._top[str(name)] = f"{document.name}#{name}"
                self._service(document, name, service, base, chain)
        self.faults += refused_keys.of_project(document)
        for entry in compose_paths.includes(data):
            self._include(document, entry, base, compose_base, chain)

    def _include(
        self,
        document: Document,
        entry: Include,
        base: str,
        compose_base: str,
        chain: tuple[str, ...],
    ) -> None:
        files = [(self._note(document, mention, base), mention) for mention in entry.files]
        values = [m for m in entry.env_files if m.name != "/dev/null"]
        given = entry.directory or next(iter(values), None)
        if given and base != compose_base:
            self._refuse(
                (document, given, base),
                "Compose looks for it in the wrong directory in an include this deep",
                "include the file from the stack's own Compose file",
            )
        directory = posixpath.dirname(files[0][0]) if files and files[0][0] is not None else None
        if entry.directory:
            directory = self._note(document, entry.directory, base)
        for mention in values:
            self._note(document, mention, base)
        if directory is None:
            return
        if not entry.env_files:
            # Nobody names it, and Compose reads it.
            self.named.add(posixpath.join(directory, ".env"))
        away = posixpath.relpath(f"/{directory}", f"/{base}")
        seen = posixpath.normpath(posixpath.join(self._directory, away))
        for path, mention in files:
            if path is not None and (included := self._open(path, (document, mention, base))):
                if self._ends((document, mention, base), included.name, chain):
                    continue
                self._project(included, directory, seen, (*chain, included.name))

    def _service(
        self,
        document: Document,
        name: object,
        service: dict[Any, Any],
        base: str,
        chain: tuple[str, ...],
    ) -> None:
        """One service and what it extends in other files."""
        at = ("services", str(name))
        here = f"{document.name}#{name}"
        if isinstance(image := service.get("image"), str):
            where = f"{document.name}:{document.line((*at, 'image'))}"
            self._images[here] = image_refs_yaml.Mention(image, where)
        self.faults += refused_keys.of_service(document, str(name), service, build=self._build)
        for mention in compose_paths.of_service(service, at):
            if mention.kind is not Kind.BUILD or self._build:
                self._note(document, mention, base)
        for hook in hooks.of_service(str(name), service, hooks.KEY):
            self._hook(document, hook, at, base, inherited="#" in chain[-1])
        if not (extended := compose_paths.extends(service, at)):
            return
        file, wanted = extended
        self._links[here] = f"{document.name}#{wanted}"
        if file is None:
            # In a file that is read as a whole, every service has its turn anyway.
            if "#" in chain[-1]:
                by = document, Mention(Kind.EXTENDS, wanted, at), base
                self._base(by, document, wanted, base, chain)
            return
        path = self._note(document, file, base)
        if path is not None and (other := self._open(path, (document, file, base))):
            self._links[here] = f"{other.name}#{wanted}"
            self._base((document, file, base), other, wanted, posixpath.dirname(path), chain)

    def _hook(
        self, document: Document, hook: Hook, at: Path, base: str, *, inherited: bool
    ) -> None:
        """A container that runs before a service, which may be only extended."""
        here = (*at, hook.key, hook.index)
        image = hook.spec.get("image")
        if isinstance(image, str) and not (inherited and hook.name in self._hooks):
            where = f"{document.name}:{document.line((*here, 'image'))}"
            self._hooks[hook.name] = image_refs_yaml.Mention(image, where)
        for mention in compose_paths.of_service(hook.spec, here):
            self._note(document, mention, base)

    def _base(
        self, by: _Place, other: Document, name: str, base: str, chain: tuple[str, ...]
    ) -> None:
        """The service ``name`` of ``other``, which the one at ``by`` extends."""
        link = f"{other.name}#{name}"
        if self._ends(by, link, chain) or (link, base) in self._done:
            return
        self._done.add((link, base))
        services = other.data.get("services")
        service = services.get(name) if isinstance(services, dict) else None
        if isinstance(service, dict):
            self._service(other, name, service, base, (*chain, link))

    def _ends(self, by: _Place, link: str, chain: tuple[str, ...]) -> bool:
        """Whether the way that led here must not be gone on, which is a fault."""
        if link in chain:
            way = " → ".join([*chain[chain.index(link) :], link][:5])
            self._refuse(by, f"goes in a circle: {way}", "take one of them out")
        elif len(chain) >= MAX_LEVELS:
            self._refuse(by, f"more than {MAX_LEVELS} levels deep", "flatten it")
        else:
            return False
        return True

    def _open(self, path: str, by: _Place | None) -> Document | None:
        """The Compose file at ``path``, unless there is a fault in it or it is one too many."""
        real, _ = self._snapshot.resolve(path)
        if real is None or real not in self._snapshot.tree:
            return None
        self.files[real] = None
        size = sum(self._snapshot.tree[file].size for file in self.files)
        if by and (len(self.files) > MAX_FILES or size > MAX_TOTAL_BYTES):
            del self.files[real]
            message = f"more than {MAX_FILES} Compose files, or {MAX_TOTAL_BYTES:,} bytes of them"
            self._refuse(by, message, "make the stack smaller")
            return None
        try:
            document = self._snapshot.document(real)
        except PermanentError as err:
            fault = Fault(err.message, err.where or real, err.hint, "syntax")
        else:
            if isinstance(document.data, dict):
                return document
            fault = Fault("not a Compose file", f"{real}:1", "write services: with a name")
        self.faults.append(fault)
        self.refused += [Refused(by[0].name, by[1], by[2], fault)] if by else []
        return None

    def _note(self, document: Document, mention: Mention, base: str) -> str | None:
        """Where ``mention`` leads, remembered as read; None if nowhere, or nobody knows where."""
        kind, place = mention.kind, (document, mention, base)
        known, variable = compose_paths.literal(mention.name)
        context_elsewhere = kind is Kind.BUILD and mention.name.startswith(compose_paths.NO_CONTEXT)
        if len(self.faults) >= ENOUGH or context_elsewhere:
            return None
        if fault := _outside(kind, mention.name, known):
            self._refuse(place, *fault, outside=True)
        if fault or known.startswith(("/", "~")):
            return None
        if variable:
            # What follows is known to Compose alone. All that it can be there, short of a value
            # that climbs, counts as read.
            known, slash, _ = known.rpartition("/")
            if kind is Kind.BIND and not slash:
                return None
        path = posixpath.normpath(posixpath.join(base, known))
        if path == ".." or path.startswith("../"):
            hint = "keep the file in the repository"
            if kind is Kind.BIND:
                hint = "name data of the host by its absolute path"
            message = f"{_shown(mention.name)} leaves the repository"
            self._refuse(place, message, hint, outside=True)
            return None
        return self._read(place, "" if path == "." else path, variable=variable)

    def _read(self, place: _Place, path: str, *, variable: bool) -> str | None:
        """``path``, which ``place`` names, or begins to name with a variable; None if unusable."""
        document, mention, base = place
        if mention.kind is not Kind.DIRECTORY:
            self.named.add(path)
        if variable:
            if mention.kind in {*_FILES_ONLY, Kind.DIRECTORY}:
                where = f"{document.name}:{document.line(mention.at)}"
                found = Variable(
                    kind=mention.kind,
                    name=mention.name,
                    base=base,
                    within=path,
                    where=where,
                    at=mention.at,
                )
                self.variables.append(found)
            return None
        if mention.kind in {Kind.ENV_FILE, Kind.INCLUDE_ENV}:
            self.env_files.add(path)
            if mention.raw:
                self.raw.add(path)
        return path if self._there(place, path) else None

    def _there(self, by: _Place, path: str) -> bool:
        """Whether the tree has what is named, as what it has to be; if not it may be a fault."""
        mention = by[1]
        real, _ = self._snapshot.resolve(path)
        place, _, last = path.rpartition("/")
        secret = posixpath.join(place, last.removeprefix(PLAINTEXT_PREFIX))
        decrypted = last.startswith(PLAINTEXT_PREFIX) and secret_files.is_secret(secret)
        if real is None and decrypted and mention.kind not in COMPOSE:
            # The agent makes it of the secret beside it.
            real, _ = self._snapshot.resolve(secret)
            self.named.add(secret)
            self.secrets.update({secret, real or secret})
            if mention.kind is Kind.ENV_FILE:
                self.secret_env_files.add((secret, mention.raw))
        said = _shown(mention.name)
        if real is None and mention.required:
            near = [p.rpartition("/")[2] for p in self._snapshot.below(place)[:1000]]
            hint = "commit it, or take the name out"
            if mention.kind is Kind.ENV_FILE:
                hint = "commit it, or write {path: …, required: false}"
            hint = did_you_mean(last, near, hint)
            self._refuse(by, f"there is no {said} in the repository", hint)
        elif real is not None and real not in self._snapshot.tree and mention.kind in _FILES_ONLY:
            self._refuse(by, f"{said} is a directory", "name a file in it")
        elif real in self._snapshot.tree and mention.kind is Kind.DIRECTORY:
            self._refuse(by, f"{said} is no directory", "name a directory")
        else:
            return real is not None
        return False

    def _refuse(self, by: _Place, message: str, hint: str, *, outside: bool = False) -> None:
        document, mention, base = by
        where = f"{document.name}:{document.line(mention.at)}"
        fault = Fault(f"{mention.kind}: {message}", where, hint, "paths")
        self.refused.append(Refused(document.name, mention, base, fault, outside))
        self.faults.append(fault)


def _outside(kind: Kind, name: str, known: str) -> tuple[str, str] | None:
    """What is wrong with a name that leads elsewhere by itself, and a hint.

    ``known`` is its beginning, up to the first variable.
    """
    if kind in {*COMPOSE, Kind.BUILD} and _REMOTE.match(name):
        hint = "commit the file and name it by its path"
        return f"{_shown(name)} is not in this repository", hint
    allowed = kind is Kind.BIND or (kind is Kind.ENV_FILE and known == "/dev/null")
    if known.startswith(("/", "~")) and not allowed:
        hint = "commit the file and name it by a relative path"
        return f"{_shown(name)} is a path of the host", hint
    return None


def _shown(name: str) -> str:
    return repr(name[:_SHOWN])
