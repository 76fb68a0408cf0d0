"""Every file outside a stack's directory that its Compose files read, and what they may not name.

    main ──▶ _project ───────▶ _service ──extends──▶ _base ──▶ _service …
             a whole file      and its hooks         of another file
                ▲
                └── _include ◀── each entry of include:

Each name on the way is noted in ``NamedFiles``, from the directory that compose-go resolves it
from: in an included file its project directory (that of the first file of the entry, unless it is
given), in an extended file its own, and of that file only what the service takes that is extended.
``chain`` is how the walk got here, files and ``file#service``: it ends circles, and what has a
``#`` at its end is only extended. ``scope`` are the env files of the includes on the way, which
finish the variables of a file besides the stack's own values. Paths are cleaned as text before
links are followed.
"""

from __future__ import annotations

import posixpath
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from agent.domain import documents
from agent.domain.documents import Document
from agent.domain.errors import PermanentError
from agent.domain.finding import Fault
from agent.domain.repository import (
    artefacts,
    compose_paths,
    hooks,
    image_refs_yaml,
    own_volumes,
    refused_keys,
)
from agent.domain.repository.artefacts import Kind
from agent.domain.repository.compose_paths import Include, PathKind, PathMention, Scope
from agent.domain.repository.named_files import NamedFiles, Place
from agent.domain.repository.referenced import References, Refused
from agent.domain.repository.tree import Snapshot

MAX_LEVELS = 32
MAX_FILES = 100
MAX_WAYS = 1000
"""How often files are looked at: one that is included twice has other values the second time."""
MAX_TOTAL_BYTES = documents.MAX_BYTES
"""Of all Compose files of one stack together."""


def follow(snapshot: Snapshot, compose: str, *, build: bool = False) -> References:
    """What the stack with the Compose file ``compose`` reads; ``build`` allows ``build:``."""
    directory = posixpath.dirname(compose)
    walk = _Walk(snapshot, directory, build=build)
    walk.main(compose)
    names = walk.names
    # What a link in the stack's own directory leads to belongs to the stack as well.
    found = snapshot.closure([directory, *names.named])
    own = f"{directory}/"
    return References(
        paths=frozenset(path for path in found if not path.startswith(own)),
        faults=tuple(dict.fromkeys(names.faults)),
        compose=tuple(walk.files),
        env_files=frozenset(names.env_files),
        images=walk.images(),
        variables=tuple(dict.fromkeys(names.variables)),
        secrets=frozenset(names.secrets),
        secret_env_files=frozenset(names.secret_env_files),
        raw=frozenset(names.raw),
        refused=tuple(names.refused),
        mounts=tuple(dict.fromkeys(names.mounts)),
        own_volumes=tuple(walk.own_volumes),
        named_volumes=tuple(walk.named_volumes),
    )


class _Way(Struct, frozen=True):
    """How the walk came to a document, in the words of the module.

    Names in it start from ``base``. ``compose_base`` is where Compose takes that to be for a few
    keys: it forgets the levels between, so that from the third level on they may differ.
    """

    base: str
    chain: tuple[str, ...]
    scope: Scope
    compose_base: str


class _Walk:
    """Through the Compose files of one stack; ``files`` are those, in the order of reading.

    Volumes are told apart as in :mod:`own_volumes`.
    """

    def __init__(self, snapshot: Snapshot, directory: str, *, build: bool) -> None:
        self.names = NamedFiles(snapshot)
        self.files: dict[str, None] = {}
        self._snapshot = snapshot
        self._directory = directory
        self._build = build
        self._done: set[tuple[str, str, str, Scope]] = set()
        self._images: dict[str, image_refs_yaml.ImageMention] = {}
        self._more: dict[str, image_refs_yaml.ImageMention] = {}
        self._links: dict[str, str] = {}
        self._top: dict[str, str] = {}
        self.own_volumes: dict[str, None] = {}
        self.named_volumes: dict[str, None] = {}

    def main(self, compose: str) -> None:
        """Follow the stack's own Compose file."""
        document = self._open(compose, None)
        if document:
            self._project(document, _Way(self._directory, (compose,), (), self._directory))

    def images(self) -> dict[str, image_refs_yaml.ImageMention]:
        """Of each service its own, else that of the one it extends; of others by their names."""
        found: dict[str, image_refs_yaml.ImageMention] = {}
        for name, first in self._top.items():
            link: str | None = first
            for _ in range(MAX_LEVELS):
                if link is None or link in self._images:
                    break
                link = self._links.get(link)
            if link in self._images:
                found[name] = self._images[link]
        return found | self._more

    def _project(self, document: Document, way: _Way) -> None:
        """All of one file."""
        once = (document.name, way.base, way.compose_base, way.scope)
        if once in self._done or len(self._done) > MAX_WAYS:
            return
        self._done.add(once)
        data = document.data
        for mention in compose_paths.of_project(data):
            self.names.note(document, mention, way.base, way.scope)
        services = data.get("services")
        for name, service in services.items() if isinstance(services, dict) else ():
            if isinstance(service, dict):
                if {"image", "extends"} & service.keys():  # or an older file says it
                    self._top[str(name)] = f"{document.name}#{name}"
                self._service(document, str(name), service, way)
        self.own_volumes.update(dict.fromkeys(own_volumes.suffixes(data)))
        self.named_volumes.update(dict.fromkeys(own_volumes.names(data)))
        self.names.faults += refused_keys.of_project(document)
        for entry in compose_paths.includes(data):
            self._include(document, entry, way)

    def _include(self, document: Document, entry: Include, way: _Way) -> None:
        base, scope = way.base, way.scope
        files = [(self.names.note(document, mention, base), mention) for mention in entry.files]
        values = [m for m in entry.env_files if m.name != "/dev/null"]
        given = entry.directory or next(iter(values), None)
        if given and base != way.compose_base:
            self.names.refuse(
                (document, given, base),
                "Compose looks for it in the wrong directory in an include this deep",
                "include the file from the stack's own Compose file",
            )
        directory = posixpath.dirname(files[0][0]) if files and files[0][0] is not None else None
        if entry.directory:
            # With one that is refused, check has Compose look from here.
            directory = self.names.note(document, entry.directory, base) or base
        env_files = [self.names.note(document, mention, base) for mention in values]
        if directory is None:
            return
        if not entry.env_files:
            # Nobody names it, and Compose reads it.
            default = posixpath.join(directory, ".env")
            self.names.named.add(default)
            env_files = [default] if self._is_file(default) else []
        if found := tuple(path for path in env_files if path is not None):
            scope = (*scope, found)
        away = posixpath.relpath(f"/{directory}", f"/{base}")
        seen = posixpath.normpath(posixpath.join(self._directory, away))
        for path, mention in files:
            if path is not None and (included := self._open(path, (document, mention, base))):
                if self._ends((document, mention, base), included.name, way.chain):
                    continue
                self._project(included, _Way(directory, (*way.chain, included.name), scope, seen))

    def _is_file(self, path: str) -> bool:
        return self._snapshot.resolve(path)[0] in self._snapshot.tree

    def _service(self, document: Document, name: str, service: dict[Any, Any], way: _Way) -> None:
        """One service and what it extends in other files."""
        at = ("services", name)
        here, inherited = f"{document.name}#{name}", "#" in way.chain[-1]
        for each in artefacts.of_service(name, service):
            where = f"{document.name}:{document.line(each.path)}"
            image = image_refs_yaml.ImageMention(each.reference, where)
            if each.kind is Kind.IMAGE:
                self._images[here] = image
            elif not (inherited and each.name in self._more):
                self._more[each.name] = image
        wrong = refused_keys.of_service(document, name, service, build=self._build)
        self.names.faults += wrong
        for mention in compose_paths.of_service(service, at):
            if mention.kind is not PathKind.BUILD or self._build:
                self._note(document, mention, way)
        for hook in hooks.of_service(name, service, hooks.KEY):
            for mention in compose_paths.of_service(hook.spec, (*at, hook.key, hook.index)):
                self._note(document, mention, way)
        if not (extended := compose_paths.extends(service, at)):
            return
        file, wanted = extended
        self._links[here] = f"{document.name}#{wanted}"
        if file is None:
            # In a file that is read as a whole, every service has its turn anyway.
            if inherited:
                mention = PathMention(kind=PathKind.EXTENDS, name=wanted, at=at)
                self._base((document, mention, way.base), document, wanted, way)
            return
        path = self.names.note(document, file, way.base)
        if path is not None and (other := self._open(path, (document, file, way.base))):
            self._links[here] = f"{other.name}#{wanted}"
            there = replace(way, base=posixpath.dirname(path))
            self._base((document, file, way.base), other, wanted, there)

    def _note(self, document: Document, mention: PathMention, way: _Way) -> None:
        """Compose reads seccomp profiles last of all, from the stack's own directory."""
        base = self._directory if mention.kind is PathKind.PROFILE else way.base
        self.names.note(document, mention, base, way.scope)

    def _base(self, by: Place, other: Document, name: str, way: _Way) -> None:
        """The service ``name`` of ``other``, which the one at ``by`` extends."""
        link = f"{other.name}#{name}"
        once = (link, way.base, "", way.scope)
        if self._ends(by, link, way.chain) or once in self._done:
            return
        self._done.add(once)
        services = other.data.get("services")
        service = services.get(name) if isinstance(services, dict) else None
        if isinstance(service, dict):
            self._service(other, name, service, replace(way, chain=(*way.chain, link)))

    def _ends(self, by: Place, link: str, chain: tuple[str, ...]) -> bool:
        """Whether the way that led here must not be gone on, which is a fault."""
        if link in chain:
            way = " → ".join([*chain[chain.index(link) :], link][:5])
            self.names.refuse(by, f"goes in a circle: {way}", "take one of them out")
        elif len(chain) >= MAX_LEVELS:
            self.names.refuse(by, f"more than {MAX_LEVELS} levels deep", "flatten it")
        elif len(self._done) >= MAX_WAYS:
            self.names.refuse(by, f"more than {MAX_WAYS} ways to read the files", "flatten it")
        else:
            return False
        return True

    def _open(self, path: str, by: Place | None) -> Document | None:
        """The Compose file at ``path``, unless there is a fault in it or it is one too many."""
        real, _ = self._snapshot.resolve(path)
        if real is None or real not in self._snapshot.tree:
            return None
        self.files[real] = None
        size = sum(self._snapshot.tree[file].size for file in self.files)
        if by and (len(self.files) > MAX_FILES or size > MAX_TOTAL_BYTES):
            del self.files[real]
            message = f"more than {MAX_FILES} Compose files, or {MAX_TOTAL_BYTES:,} bytes of them"
            self.names.refuse(by, message, "make the stack smaller")
            return None
        try:
            document = self._snapshot.document(real)
        except PermanentError as err:
            fault = Fault(err.message, err.where or real, err.hint, "syntax")
        else:
            if isinstance(document.data, dict):
                return document
            fault = Fault("not a Compose file", f"{real}:1", "write services: with a name")
        self.names.faults.append(fault)
        self.names.refused += (
            [Refused(document=by[0].name, mention=by[1], base=by[2], fault=fault)] if by else []
        )
        return None
