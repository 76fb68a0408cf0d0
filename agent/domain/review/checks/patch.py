"""What stands in for the faulty parts of a stack's files, so that Compose can read all others.

    what the layout refuses ──begin──▶ Patch ──▶ Compose ──▶ the model
                                        ▲           │ what Compose refuses, one thing at a time
                                        └─ without ─┘

It is only for looking further, in a throw-away directory: a stack with faults reaches no host. A
key is hidden by an ``x-`` before its name, a file that must not be read is another, empty one, and
secrets are placeholders, so that no plaintext is read that should have been encrypted.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from msgspec import Struct, field
from msgspec.structs import replace

from agent.domain import lfs
from agent.domain.compose import placeholders
from agent.domain.documents import Path
from agent.domain.errors import PermanentError
from agent.domain.repository import dotenv, interpolation, named_files, yaml_edit
from agent.domain.repository.compose_paths import PathKind, PathMention
from agent.domain.repository.desired import EnvFile, Stack
from agent.domain.repository.referenced import Refused
from agent.domain.repository.secret_files import is_secret
from agent.domain.repository.tree import PLAIN, Snapshot, Tree, TreeEntry
from agent.domain.review.checks import values
from agent.domain.review.checks.places import Places
from agent.domain.review.checks.refused import Refusal

_IMAGE = f"commitd.invalid/unknown:1@sha256:{'0' * 64}"
"""Of a service whose image is unknown."""
_VALUE = "10000"
_NAME = re.compile(r"[A-Za-z_]\w*")
_UNREAD = frozenset({PathKind.BIND, PathKind.BUILD, PathKind.CONFIG, PathKind.SECRET})
_INSTEAD = {
    **dict.fromkeys((PathKind.ENV_FILE, PathKind.LABEL_FILE, PathKind.INCLUDE_ENV), "/dev/null"),
    PathKind.DIRECTORY: ".",
    PathKind.PROFILE: "seccomp:unconfined",
}
"""What is always there to be named, or names no file."""


class Patch(Struct, frozen=True, kw_only=True):
    """``stack`` without what cannot be read of it, and ``files`` instead of those of the tree.

    ``secrets`` are variables with placeholders. A variable without a value may have one in what
    was taken out, if it is in ``maybe`` or not ``sure``. It is ``loose`` once parts are missing
    that others may refer to; the services in ``bare`` lack what may have named their image.
    """

    stack: Stack
    files: Mapping[str, bytes]
    secrets: Mapping[str, str] = field(default_factory=dict)
    maybe: frozenset[str] = frozenset()
    sure: bool = True
    loose: bool = False
    bare: frozenset[str] = frozenset()

    def causes(self, refusal: Refusal) -> bool:
        """Whether Compose may have refused nothing but what is missing by now."""
        return (refusal.relative and self.loose) or bool(self.bare & {*refusal.imageless})

    def over(self, files: Snapshot) -> tuple[Tree, dict[str, bytes]]:
        """The tree of what the stack reads, and the contents, for Compose."""
        own = {path: files.tree[path] for path, _ in self.stack.inputs}
        contents: dict[str, bytes] = {}
        for path in own:
            try:
                contents[path] = files.content(path)
            except PermanentError:  # large: nothing that Compose reads to resolve
                continue
        new = {path: TreeEntry(path, PLAIN, "", len(data)) for path, data in self.files.items()}
        return {**own, **new}, {**contents, **self.files}

    def texts(self, files: Snapshot) -> Callable[[str], str]:
        """What each file holds, by path."""
        return lambda path: _text(self, files, path)


def begin(files: Snapshot, places: Places) -> Patch | None:
    """What lets Compose read a stack as far as it may; None where that is nothing."""
    read = places.read
    if len(read.faults) >= named_files.ENOUGH:
        return None
    patch: Patch | None = _environment(places.stack, files)
    for refused in read.refused:
        patch = _not_followed(patch, files, refused)
    return patch


def without(patch: Patch, refusal: Refusal, files: Snapshot, places: Places) -> Patch | None:
    """The patch for another try, after Compose has refused something; None: there is no other."""
    before = patch
    for path, line in refusal.lines:
        lines = _text(patch, files, path).split("\n")
        if path in files.tree and 0 < line <= len(lines):
            maybe = patch.maybe | {*_NAME.findall(lines[line - 1])}
            lines[line - 1] = ""
            patch = replace(_put(patch, path, "\n".join(lines)), maybe=maybe)
    patch = replace(patch, secrets={**patch.secrets, **dict.fromkeys(refusal.variables, _VALUE)})
    for document in places.documents if refusal.dollars else ():
        patch = _put(patch, document.name, values.doubled(_text(patch, files, document.name)))
    for key in refusal.keys:
        patch = _hidden(patch, files, places, key)
    for service in refusal.imageless:
        patch = _with_image(patch, files, places, service)
    return None if patch == before else patch


def without_variables(patch: Patch, files: Snapshot, where: Iterable[str]) -> Patch | None:
    """The patch for another try, without the files that variables at ``where`` put elsewhere."""
    places = set(where)
    gone = [each for each in patch.stack.variables if each.where in places]
    kept = tuple(each for each in patch.stack.variables if each.where not in places)
    found: Patch | None = replace(patch, stack=replace(patch.stack, variables=kept))
    for each in gone:
        document = each.where.rpartition(":")[0]
        mention = PathMention(kind=each.kind, name=each.name, at=each.at)
        found = _not_followed(
            found, files, Refused(document=document, mention=mention, base=each.base)
        )
    return found


def _environment(stack: Stack, files: Snapshot) -> Patch:
    """The values that can be read, and placeholders for secrets, encrypted or not."""
    instead: dict[str, bytes] = {p: b"" for p, _ in stack.inputs if is_secret(p)}
    kept: list[EnvFile] = []
    given: list[dotenv.EnvValues] = []
    sure = True
    for file in stack.environment:
        real, _ = files.resolve(file.path)
        try:
            content = files.content(real) if real and real in files.tree else None
        except PermanentError:
            content = None
        if content is None or lfs.is_pointer(content):
            sure = False
        elif file.secret:
            names, complete = placeholders.guessed(content)
            sure = sure and complete
            good = {k: v for k, v in names.items() if not interpolation.refused(k)}
            instead[file.path] = "".join(f"{k}={v}\n" for k, v in good.items()).encode()
            given.append(dotenv.EnvValues(secret=good))
            kept.append(file)
        else:
            text = content.decode(errors="replace")
            text = dotenv.without(text, interpolation.refused)
            instead[file.path] = text.encode()
            names_here = frozenset(key for key, _ in dotenv.keys(text))
            given.append(dotenv.EnvValues(names_here))
            kept.append(file)
    secrets = dotenv.secret_environment(given)
    stack = replace(stack, environment=tuple(kept))
    return Patch(stack=stack, files=instead, secrets=secrets, sure=sure)


def _not_followed(patch: Patch | None, files: Snapshot, refused: Refused) -> Patch | None:
    """With an empty file in the place of one that must not be read."""
    document, kind, at = refused.document, refused.mention.kind, refused.mention.at
    if patch is None or kind in _UNREAD:
        return patch  # Compose does not look into these
    before = _text(patch, files, document).encode()
    try:
        if kind in _INSTEAD:
            after = yaml_edit.rewrite(before, document, {at: _INSTEAD[kind]})
        elif kind is PathKind.EXTENDS and at[-1] != "file":  # a service of the same file
            after = yaml_edit.hide(before, document, (*at, "extends")) or before
            patch = replace(patch, bare=patch.bare | {str(at[-1])})
        else:
            stub = f".commitd-{len(patch.files)}.yaml"
            after = yaml_edit.rewrite(before, document, {at: f"./{stub}"})
            extends = kind is PathKind.EXTENDS
            text = _base(files.document(document).data, at) if extends else "services: {}\n"
            patch = _put(patch, f"{refused.base}/{stub}".lstrip("/"), text)
            patch = replace(patch, loose=patch.loose or not extends)
    except (PermanentError, TypeError, LookupError):
        return None
    return _put(patch, document, after.decode())


def _base(data: Any, at: Path) -> str:
    """A Compose file with the service that the one at ``at`` extends."""
    for step in at[:-1]:
        data = data[step]
    return f"services: {{{json.dumps(data['service'])}: {{image: '{_IMAGE}'}}}}\n"


def _hidden(patch: Patch, files: Snapshot, places: Places, key: Path) -> Patch:
    """Without that key of the Compose files, wherever it is written."""
    for document in places.documents:
        if key in document.lines:
            content = yaml_edit.hide(_text(patch, files, document.name).encode(), "", key)
            if content is not None:
                patch = _put(patch, document.name, content.decode())
                if len(key) == 1:
                    patch = replace(patch, loose=True)
                elif key[-1] in {"image", "build", "extends"}:
                    patch = replace(patch, bare=patch.bare | {str(key[1])})
    return patch


def _with_image(patch: Patch, files: Snapshot, places: Places, service: str) -> Patch:
    key: Path = ("services", service)
    for document in places.documents:
        if key in document.lines:
            text = _text(patch, files, document.name).encode()
            content = yaml_edit.insert(text, "", key, f"image: {_IMAGE}")
            if content is not None:
                return _put(patch, document.name, content.decode())
    return patch


def _put(patch: Patch, path: str, text: str) -> Patch:
    return replace(patch, files={**patch.files, path: text.encode()})


def _text(patch: Patch, files: Snapshot, path: str) -> str:
    try:
        content = patch.files[path] if path in patch.files else files.content(path)
    except (PermanentError, KeyError):
        return ""
    return content.decode(errors="replace")
