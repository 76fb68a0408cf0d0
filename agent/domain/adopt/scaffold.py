"""A new repository: the files of it, made from templates."""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Mapping, Sequence
from typing import Self

from msgspec import Struct

from agent.domain.config import is_host_name
from agent.domain.errors import ConfigError, PermanentError
from agent.domain.recipients import access, rules

_REVISION = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_URL = re.compile(r"[A-Za-z0-9:/._~\[\]-]+")
_LEFT = re.compile(r"@[A-Z]+@")

_OF_A_HOST = "host/"
_WORKFLOW = "dot-github/workflows/review.yml"
_CHECKOUTS = {
    ".github/workflows/review.yml": (
        "actions/checkout@3d3c42e5aac5ba805825da76410c181273ba90b1 # v7.0.1"
    ),
    # The last line that also runs on Node 20, which older runners of Gitea bring.
    ".gitea/workflows/review.yml": (
        "actions/checkout@34e114876b0b11c390a56381ad16ebd13914f8d5 # v4.3.1"
    ),
}
"""The same workflow for two servers, and what each checks out with."""


class TemplateSource(Struct, frozen=True):
    """Where a CI job finds commitd: a Git repository that needs no login, and a whole commit ID."""

    url: str
    revision: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """``https://HOST/PATH@COMMIT``. Raises :class:`ConfigError`."""
        url, _, revision = text.rpartition("@")
        parts = urllib.parse.urlsplit(url)
        why = None
        if not _REVISION.fullmatch(revision):
            why = "does not end in @ and a whole commit ID: a branch or a tag can be moved"
        elif parts.scheme != "https" or not parts.hostname or not parts.path.strip("/"):
            why = "is not an https:// address of a Git repository"
        elif not _URL.fullmatch(url):
            why = "has more in it than https://HOST/PATH: a login would be readable by everybody"
        if why:
            hint = "write https://git.example.com/ops/commitd.git@ and git rev-parse HEAD of it"
            raise ConfigError(f"the source of commitd {why}", where="--source", hint=hint)
        return cls(url, revision)


def render(
    templates: Mapping[str, str],
    *,
    hosts: Sequence[str],
    people: Sequence[str] = (),
    source: TemplateSource | None = None,
) -> dict[str, str]:
    """Paths in the repository to contents.

    ``templates`` are named as they lie beside the code: ``dot-`` for a leading dot, and ``host/``
    for a file that every host gets. ``people`` are the public keys of those who edit secrets.
    Without a ``source`` the review fails, and says where to put it. Raises :class:`ConfigError`.
    """
    for host in hosts:
        if not is_host_name(host):
            hint = "letters, digits, '.', '_' and '-'"
            raise ConfigError(f"{host!r} cannot be the name of a host", where="--host", hint=hint)
    for person in people:
        _check_person(person)
    words = {
        "SOURCE": source.url if source else "",
        "REVISION": source.revision if source else "",
        "PEOPLE": "\n".join(people),
    }
    files: dict[str, str] = {}
    for name, text in sorted(templates.items()):
        if name == _WORKFLOW:
            for path, checkout in _CHECKOUTS.items():
                files[path] = _fill(text, {**words, "CHECKOUT": checkout, "WORKFLOW": path})
        elif name.startswith(_OF_A_HOST):
            for host in hosts:
                path = f"host/{host}/{name.removeprefix(_OF_A_HOST)}"
                files[path] = _fill(text, {**words, "HOST": host})
        else:
            files[re.sub(r"(^|/)dot-", r"\1.", name)] = _fill(text, words)
    whole = access.Access({path: text.encode() for path, text in files.items()})
    files[rules.PATH] = rules.write(whole.files[rules.PATH], whole).decode()
    return files


def _fill(text: str, words: Mapping[str, str]) -> str:
    return _LEFT.sub(lambda match: words[match[0].strip("@")], text)


def _check_person(key: str) -> None:
    """It may be the private half of a key, so it is not shown."""
    try:
        found = access.keys(key.encode(), "--age")
    except PermanentError as err:
        raise ConfigError(err.message, where="--age", hint=err.hint) from None
    if len(found) != 1 or "\n" in key:
        raise ConfigError(
            "this is not one public age key", where="--age", hint="age1…, from age-keygen -y FILE"
        )
