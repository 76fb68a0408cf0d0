"""Sections of the host's own file that are about telling others: see :mod:`agent.domain.config`.

Nothing of it is on unless it is written down.
"""

from __future__ import annotations

import ipaddress
import re
import string
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import msgspec

from agent.domain.documents import Path as Place
from agent.domain.errors import did_you_mean

_ADDRESS = re.compile(r"(?:\[(?P<six>[0-9a-fA-F:.]+)\]|(?P<four>[0-9.]+)):(?P<port>[0-9]{1,5})")
_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?")
_TARGET = re.compile(r"[a-z0-9][a-z0-9_-]{0,40}")
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?")
_GROUP = re.compile(r"[a-z_][a-z0-9_-]*")
_REPOSITORY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*/[A-Za-z0-9_.-]+")

_MOST_PEERS = 100

Problem = tuple[Place, str, str | None]
"""Where in the file, what is wrong, and a hint."""


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A mapping of the file, none of whose keys is unknown."""


class Api(Section, frozen=True):
    """Who may ask: the token and the names of this host for TCP, who writes on the socket."""

    token_file: Path | None = None
    hosts: tuple[str, ...] = ()
    writers: str | None = None


class CommitStatus(Section, frozen=True):
    """The forge that is told how a commit fares here; ``url`` is what browsers open, or its API."""

    forge: Literal["gitea", "github"]
    url: str
    repository: str
    token_file: Path
    page_url: str | None = None
    ca_file: Path | None = None
    plain_http: bool = False

    @property
    def statuses(self) -> str:
        """The URL below which each commit has its statuses."""
        parts = urlsplit(self.url.rstrip("/"))
        base = self.url.rstrip("/")
        if self.forge == "gitea":
            base += "/api/v1"
        elif parts.hostname in _GITHUB:
            base = "https://api.github.com"
        elif not parts.path:
            base += "/api/v3"
        return f"{base}/repos/{self.repository}/statuses"


_GITHUB = {"github.com", "www.github.com", "api.github.com"}


class Hooks(Section, frozen=True):
    """Where forges call when something was pushed, and the secrets by which they are known."""

    listen: str
    gitea_secret_file: Path | None = None
    github_secret_file: Path | None = None


class Kind(StrEnum):
    """A kind of happening that people are told of."""

    DEPLOYED = "deployed"
    FAILED = "failed"
    ROLLED_BACK = "rolled-back"
    EVICTED = "evicted"
    HELD = "held"
    REMOTE_DOWN = "remote-down"
    REMOTE_BACK = "remote-back"
    RECOVERED = "recovered"


_KINDS = tuple(kind.value for kind in Kind)
FIELDS = (
    "host", "kind", "count", "subject", "said", "cause", "advice", "commit", "commit_subject",
    "author", "title", "text",
)  # fmt: skip
"""What a template may name in braces."""


class Target(Section, frozen=True):
    """Somebody who is told: by which service, of what, in which words."""

    name: str
    url_file: Path
    kinds: tuple[str, ...] = tuple(Kind)
    templates: Mapping[str, str] = {}

    @property
    def wanted(self) -> frozenset[Kind]:
        """The kinds it is told of."""
        return frozenset(map(Kind, self.kinds))


class Heartbeat(Section, frozen=True):
    """A page that is asked for after each cycle, so that its owner notices when nobody asks."""

    url_file: Path


class Peer(Section, frozen=True):
    """Another host that the page shows; ``url`` is where its agent listens."""

    name: str
    url: str
    token_file: Path | None = None
    ca_file: Path | None = None


def address(listen: str) -> tuple[str, int]:
    """The address and the port of ``listen``. Raises :class:`ValueError`."""
    found = _ADDRESS.fullmatch(listen)
    if not found:
        raise ValueError(f"{listen!r} is not an address with a port")
    host, port = ipaddress.ip_address(found["six"] or found["four"]), int(found["port"])
    if not 0 < port < 2**16:
        raise ValueError(f"{port} is not a port")
    return str(host), port


def problems(listen: str | None, api: Api) -> Iterator[Problem]:
    """What types cannot say."""
    if listen is not None:
        try:
            host, _ = address(listen)
        except ValueError as err:
            yield ("listen",), str(err), "write 127.0.0.1:8787 or [::1]:8787"
        else:
            if not ipaddress.ip_address(host).is_loopback and api.token_file is None:
                message = f"{listen} is open to other machines and needs a token"
                yield ("listen",), message, "set api.token_file, or listen on 127.0.0.1"
    elif api.token_file or api.hosts:
        what = "token_file" if api.token_file else "hosts"
        yield ("api", what), f"api.{what} is for TCP, where nothing listens", "set listen:"
    for i, name in enumerate(api.hosts):
        if not _NAME.fullmatch(name):
            message = f"{name!r} cannot be the name of a host"
            yield ("api", "hosts", i), message, "write the name alone, without scheme or port"
    if api.writers is not None and not _GROUP.fullmatch(api.writers):
        yield ("api", "writers"), f"{api.writers!r} cannot be the name of a group", None


def status_problems(section: CommitStatus | None) -> Iterator[Problem]:
    """The same of ``commit_status``."""
    if section is None:
        return
    for key, url in (("url", section.url), ("page_url", section.page_url)):
        if url is not None and (wrong := _url_problem(url)):
            yield ("commit_status", key), f"{key}: {wrong}", "write https://git.example.org"
    if section.url.startswith("http://") and not section.plain_http:
        message = "plain http:// shows the token to anyone on the way"
        yield ("commit_status", "url"), message, "use https://, or say plain_http: true"
    if not _REPOSITORY.fullmatch(section.repository) or ".." in section.repository:
        message = f"{section.repository!r} cannot be the name of a repository"
        yield ("commit_status", "repository"), message, "write OWNER/NAME"


def _url_problem(url: str) -> str | None:
    try:
        parts = urlsplit(url)
        (parts.hostname or "").encode("idna")
        _ = parts.port
    except ValueError:  # UnicodeError too
        return "this is no url"
    if parts.scheme not in {"https", "http"} or not parts.hostname:
        return "this is no url of http:// or https://"
    if not url.isascii() or not url.isprintable() or " " in url:
        return "the url holds odd characters"
    if parts.username or parts.password:
        return "the url holds a credential"
    return None


def hook_problems(section: Hooks | None, listen: str | None) -> Iterator[Problem]:
    """The same of ``hooks``, beside the ``listen`` of the API."""
    if section is None:
        return
    try:
        called = address(section.listen)
    except ValueError as err:
        yield ("hooks", "listen"), str(err), "write 127.0.0.1:8788 or [::1]:8788"
        return
    if listen is not None and called == address(listen):
        message = f"{section.listen} is where the API listens"
        yield ("hooks", "listen"), message, "hooks need a port of their own"
    if not (section.gitea_secret_file or section.github_secret_file):
        message = "hooks are known by a secret, and none is named"
        yield ("hooks",), message, "set gitea_secret_file or github_secret_file"


def notify_problems(targets: Sequence[Target]) -> Iterator[Problem]:
    """What types cannot say of ``notify``."""
    names = set()
    for i, target in enumerate(targets):
        if not _TARGET.fullmatch(target.name) or target.name in names:
            message = f"{target.name!r} cannot be the name of this target"
            yield ("notify", i, "name"), message, "use a different short lower-case word for each"
        names.add(target.name)
        if not target.kinds:
            yield ("notify", i, "kinds"), "kinds is empty", "leave it out for all of them"
        for j, kind in enumerate(target.kinds):
            if kind not in _KINDS:
                yield ("notify", i, "kinds", j), *_no_kind(kind)
        for kind, template in target.templates.items():
            place = ("notify", i, "templates", kind)
            if kind not in _KINDS:
                yield place, *_no_kind(kind)
            elif kind not in target.kinds:
                yield place, f"{kind} is not among the kinds that {target.name} is told of", None
            if problem := _template_problem(template):
                yield place, *problem


def _no_kind(kind: str) -> tuple[str, str]:
    known = f"known: {', '.join(_KINDS)}"
    return f"there is no kind {kind!r}", did_you_mean(kind, _KINDS, known)


def _template_problem(template: str) -> tuple[str, str | None] | None:
    """Only names in braces: nothing that reaches into what they stand for."""
    known = f"known: {', '.join(FIELDS)}"
    try:
        parts = list(string.Formatter().parse(template))
    except ValueError as err:
        return f"the template is not whole: {err}", "write {{ and }} for braces that are meant"
    for _, name, spec, conversion in parts:
        if name is not None and name not in FIELDS:
            return f"the template has an unknown field {{{name}}}", known
        if spec or conversion:
            return f"the template has a format behind {{{name}}}", "write the name alone"
    return None


def peer_problems(host: str, listen: str | None, peers: Sequence[Peer]) -> Iterator[Problem]:
    """The same of ``peers`` of the ``host``."""
    if peers and listen is None:
        yield ("peers",), "peers are shown on the page, and nothing listens", "set listen:"
    if len(peers) > _MOST_PEERS:
        yield ("peers",), f"{len(peers)} peers are more than {_MOST_PEERS}", None
    names = {host}
    for i, peer in enumerate(peers):
        if not _HOST.fullmatch(peer.name) or peer.name in names:
            message = f"{peer.name!r} cannot be the name of this peer"
            hint = "write the name of that host, each once, without this one"
            yield ("peers", i, "name"), message, hint
        names.add(peer.name)
        wrong = _url_problem(peer.url)
        if not wrong and ("?" in peer.url or "#" in peer.url):
            wrong = "the url holds more than an address and a path"
        if wrong:
            yield ("peers", i, "url"), f"url: {wrong}", "write http://nas.lan:8787"
        if peer.ca_file and not peer.url.startswith("https://"):
            yield ("peers", i, "ca_file"), "ca_file is for https://", None
