"""Where the names of files in Compose files lead, and which of them must not be followed.

A name ends in one of three ways: it is a path of the tree, which counts as read; it holds a
variable, so that only Compose can finish it (``variables``, judged by ``compose_paths.climbing``);
or it is refused, with a fault that says why. What decides on the meaning of other names is refused
with a variable in it: a file that is included or extended has to be judged before Compose reads it,
and the values that an include finishes its files with must be known to judge those.
"""

from __future__ import annotations

import posixpath
import re

from agent.domain.documents import Document
from agent.domain.errors import did_you_mean
from agent.domain.finding import Fault
from agent.domain.repository import compose_paths, secret_files
from agent.domain.repository.compose_paths import (
    NamedMount,
    PathKind,
    PathMention,
    Scope,
    Variable,
)
from agent.domain.repository.referenced import Refused
from agent.domain.repository.tree import PLAINTEXT_PREFIX, Snapshot

_REMOTE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://|[\w.-]+@[\w.-]+:|github\.com/|.*\.git$|.*#")
COMPOSE = frozenset({PathKind.INCLUDE, PathKind.EXTENDS})
"""How Compose files name each other."""
_LITERAL = frozenset({*COMPOSE, PathKind.INCLUDE_ENV, PathKind.DIRECTORY})
_FINISHED = frozenset({PathKind.ENV_FILE, PathKind.LABEL_FILE, PathKind.PROFILE})
_FILES_ONLY = frozenset({*COMPOSE, PathKind.INCLUDE_ENV, *_FINISHED})
_SHOWN = 80
ENOUGH = 50
"""Faults that are looked for; one is enough to hold a stack."""
Place = tuple[Document, PathMention, str]
"""A mention in a document, and the directory it is relative to."""


class NamedFiles:
    """What is named, as far as it was noted.

    ``named`` are paths of files and directories, before links are followed; ``mounts`` are those
    from the host, wherever they lead.
    """

    def __init__(self, snapshot: Snapshot) -> None:
        self.named: set[str] = set()
        self.secrets: set[str] = set()
        self.secret_env_files: set[tuple[str, bool]] = set()
        self.env_files: set[str] = set()
        self.raw: set[str] = set()
        self.variables: list[Variable] = []
        self.faults: list[Fault] = []
        self.refused: list[Refused] = []
        self.mounts: list[NamedMount] = []
        self._snapshot = snapshot

    def note(
        self, document: Document, mention: PathMention, base: str, scope: Scope = ()
    ) -> str | None:
        """Where ``mention`` leads, remembered as read; None if nowhere, or where is unknown.

        ``scope`` is what Compose finishes the document's variables with.
        """
        kind, place = mention.kind, (document, mention, base)
        known, variable = compose_paths.literal(mention.name)
        if kind is PathKind.BIND:
            self._mount(place, None if variable or known.startswith("~") else known)
        context_elsewhere = kind is PathKind.BUILD and mention.name.startswith(
            compose_paths.NO_CONTEXT
        )
        if len(self.faults) >= ENOUGH or context_elsewhere:
            return None
        if fault := _outside(kind, mention.name, known):
            self.refuse(place, *fault, outside=True)
        if fault or known.startswith(("/", "~")):
            return None
        if variable and kind in _LITERAL:
            what = "directory" if kind is PathKind.DIRECTORY else "file"
            said = f"{_shown(mention.name)} must not contain a variable: the {what} has to be known"
            self.refuse(place, f"{said} before Compose reads it", "write the name out")
            return None
        if variable:
            # What follows is known to Compose alone. All that it can be there, short of a value
            # that climbs, counts as read.
            known, slash, _ = known.rpartition("/")
            if kind is PathKind.BIND and not slash:
                return None
        path = posixpath.normpath(posixpath.join(base, known))
        if path == ".." or path.startswith("../"):
            hint = "keep the file in the repository"
            if kind is PathKind.BIND:
                hint = "name data of the host by its absolute path"
            message = f"{_shown(mention.name)} leaves the repository"
            self.refuse(place, message, hint, outside=True)
            return None
        return self._read(place, "" if path == "." else path, scope if variable else None)

    def _mount(self, by: Place, name: str | None) -> None:
        document, mention, base = by
        path = posixpath.normpath(posixpath.join(base, name)) if name is not None else None
        self.mounts.append(
            NamedMount(
                service=str(mention.at[1]) if mention.at[0] == "services" else "",
                path="" if path == "." else path,
                target=mention.target,
                where=f"{document.name}:{document.line(mention.at)}",
            )
        )

    def _read(self, place: Place, path: str, scope: Scope | None) -> str | None:
        """``path``, which ``place`` names; None if unusable.

        With ``scope`` it is only the beginning of the name, before a variable.
        """
        document, mention, base = place
        if mention.kind is not PathKind.DIRECTORY:
            self.named.add(path)
        if scope is not None:
            if mention.kind in _FINISHED:
                where = f"{document.name}:{document.line(mention.at)}"
                found = Variable(
                    kind=mention.kind,
                    name=mention.name,
                    base=base,
                    within=path,
                    where=where,
                    at=mention.at,
                    scope=scope,
                )
                self.variables.append(found)
            return None
        if mention.kind in {PathKind.ENV_FILE, PathKind.INCLUDE_ENV}:
            self.env_files.add(path)
            if mention.raw:
                self.raw.add(path)
        return path if self._there(place, path) else None

    def _there(self, by: Place, path: str) -> bool:
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
            if mention.kind is PathKind.ENV_FILE:
                self.secret_env_files.add((secret, mention.raw))
        said = _shown(mention.name)
        if real is None and mention.required:
            near = [p.rpartition("/")[2] for p in self._snapshot.below(place)[:1000]]
            hint = "commit it, or take the name out"
            if mention.kind is PathKind.ENV_FILE:
                hint = "commit it, or write {path: …, required: false}"
            hint = did_you_mean(last, near, hint)
            self.refuse(by, f"there is no {said} in the repository", hint)
        elif real is not None and real not in self._snapshot.tree and mention.kind in _FILES_ONLY:
            self.refuse(by, f"{said} is a directory", "name a file in it")
        elif real in self._snapshot.tree and mention.kind is PathKind.DIRECTORY:
            self.refuse(by, f"{said} is no directory", "name a directory")
        else:
            return real is not None
        return False

    def refuse(self, by: Place, message: str, hint: str, *, outside: bool = False) -> None:
        """Remember that what is named at ``by`` must not be followed."""
        document, mention, base = by
        where = f"{document.name}:{document.line(mention.at)}"
        fault = Fault(f"{mention.kind}: {message}", where, hint, "paths")
        self.refused.append(
            Refused(
                document=document.name, mention=mention, base=base, fault=fault, outside=outside
            )
        )
        self.faults.append(fault)


def _outside(kind: PathKind, name: str, known: str) -> tuple[str, str] | None:
    """What is wrong with a name that leads elsewhere by itself, and a hint.

    ``known`` is its beginning, up to the first variable.
    """
    if kind in {*COMPOSE, PathKind.BUILD} and _REMOTE.match(name):
        hint = "commit the file and name it by its path"
        if kind is PathKind.BUILD:
            hint = "commit the sources, or push the image"
        return f"{_shown(name)} is not in this repository", hint
    allowed = kind is PathKind.BIND or (kind is PathKind.ENV_FILE and known == "/dev/null")
    if known.startswith(("/", "~")) and not allowed:
        hint = "commit the file and name it by a relative path"
        return f"{_shown(name)} is a path of the host", hint
    return None


def _shown(name: str) -> str:
    return repr(name[:_SHOWN])
