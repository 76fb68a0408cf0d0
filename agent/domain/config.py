"""The host's own file: what a commit must never be able to change.

``parse`` turns the text of ``config.yaml`` into a frozen :class:`Config`; it touches no file.
Durations are in seconds once parsed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import msgspec
from msgspec.structs import replace

from agent.domain import documents, outside_config, schema_errors
from agent.domain.errors import ConfigError, PermanentError
from agent.domain.outside_config import (
    Api,
    CommitStatus,
    Heartbeat,
    Hooks,
    Peer,
    Problem,
    Section,
    Target,
)

DEFAULT_PATH = Path("/etc/commitd/config.yaml")

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_LONGEST_S = 10 * 365 * 86400.0
_SHARE = re.compile(r"(\d+(?:\.\d+)?)%")
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")
_BRANCH = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./-]*")
_REMOTE_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")
_SCP_URL = re.compile(
    r"(?P<user>[A-Za-z0-9_.-]+)@(?P<host>[A-Za-z0-9_.-]+):(?P<path>/?[^-/:][^:]*)"
)
_PINNED = re.compile(r"[^@\s]+:[^@:/\s]+@sha256:[0-9a-f]{64}")
_AGE_KEY = re.compile(r"/.*|credential:[A-Za-z0-9_][A-Za-z0-9_.-]*")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_PORTS = {"ssh": 22, "https": 443, "http": 80}


class Seconds(float):
    """A length of time, written ``10s``, ``5m``, ``24h``."""

    __slots__ = ()


class Share(float):
    """A part of a whole between 0 and 1, written ``50%``."""

    __slots__ = ()


class Remote(Section, frozen=True):
    """One place the repository can be fetched from."""

    name: str
    url: str
    poll: Seconds = Seconds(10)
    ssh_key: Path | None = None
    known_hosts: Path | None = None
    username: str | None = None
    token_file: Path | None = None
    ca_file: Path | None = None
    plain_http: bool = False

    @property
    def scheme(self) -> str:
        """``ssh``, ``https``, ``http`` or ``file``."""
        return "ssh" if _SCP_URL.fullmatch(self.url) else urlsplit(self.url).scheme

    @property
    def address(self) -> tuple[str, int]:
        """The host and the port that it is asked at; no host for ``file``."""
        if match := _SCP_URL.fullmatch(self.url):
            return match["host"], _PORTS["ssh"]
        parts = urlsplit(self.url)
        return parts.hostname or "", parts.port or _PORTS.get(parts.scheme, 0)


class Signatures(Section, frozen=True):
    """Whose signature a commit must carry. Keys are on the host, never in the repository."""

    require: Literal["none", "head", "all"] = "none"
    allowed_signers: Path | None = None
    gpg_keyring: Path | None = None


class Sops(Section, frozen=True):
    """How SOPS runs: a container image pinned by digest, or a binary pinned by checksum."""

    image: str | None = None
    binary: Path | None = None
    sha256: str | None = None


class Secrets(Section, frozen=True):
    """The host's key, the program that uses it, and in which directory the plaintext is kept."""

    sops: Sops
    age_key: str = "/etc/commitd/age.key"
    store: Literal["state", "runtime"] = "state"


class Docker(Section, frozen=True):
    """Where the engine listens; None: DOCKER_HOST, then the standard socket.

    ``swarm``: the stacks are those of the Swarm that it is a manager of, and not of this machine.
    """

    socket: str | None = None
    mode: Literal["host", "swarm"] = "host"


class UndeclaredRules(Section, frozen=True):
    """What happens to a container that nobody declared."""

    mode: Literal["remove", "stop", "report"] = "remove"
    grace: Seconds = Seconds(0)
    stop_timeout: Seconds = Seconds(10)
    keep: Seconds = Seconds(24 * 3600)
    per_minute: int = 30


class Converge(Section, frozen=True):
    """How many stacks at a time, how long one may take, and how long is steady."""

    parallel: int = 4
    timeout: Seconds = Seconds(600)
    steady: Seconds = Seconds(5)


class Config(Section, frozen=True):
    """One host's configuration, complete with defaults."""

    host: str
    remotes: tuple[Remote, ...]
    branch: str = "main"
    history: Literal["forward-only", "follow"] = "forward-only"
    signatures: Signatures = Signatures()
    secrets: Secrets | None = None
    docker: Docker = Docker()
    undeclared: UndeclaredRules = UndeclaredRules()
    teardown_limit: Share = Share(0.5)
    converge: Converge = Converge()
    resync: Seconds = Seconds(300)
    stale_after: Seconds = Seconds(900)
    state_dir: Path = Path("/var/lib/commitd")
    runtime_dir: Path = Path("/run/commitd")
    listen: str | None = None
    api: Api = Api()
    commit_status: CommitStatus | None = None
    hooks: Hooks | None = None
    notify: tuple[Target, ...] = ()
    heartbeat: Heartbeat | None = None
    peers: tuple[Peer, ...] = ()
    log: Literal["text", "json"] = "text"
    self_update: bool = False


def is_host_name(name: str) -> bool:
    """Whether a host can be called that."""
    return bool(_HOST.fullmatch(name))


def parse(content: bytes, name: str, *, hostname: str) -> Config:
    """Read the file ``name``; ``hostname`` stands in for a missing ``host``.

    Raises :class:`ConfigError` that says ``file:line``, what is wrong and what to write.
    """
    try:
        document = documents.load(content, name)
    except PermanentError as err:
        raise ConfigError(err.message, where=err.where, hint=err.hint) from None
    data = document.data
    if not isinstance(data, dict):
        raise ConfigError(
            "the file holds no settings", where=f"{name}:1", hint="it needs at least remotes:"
        )
    data.setdefault("host", hostname)
    try:
        config = msgspec.convert(data, Config, dec_hook=_decode)
    except msgspec.ValidationError as err:
        raise schema_errors.explain(str(err), document, Config) from None
    _check(config, document)
    if config.docker.mode == "swarm" and config.secrets:  # plaintext is in memory alone there
        config = replace(config, secrets=replace(config.secrets, store="runtime"))
    return config


def duration(value: object) -> Seconds:
    """A length of time as people write it. Raises :class:`ValueError`."""
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if not match:
        raise ValueError(f"{value!r} is not a duration: write 10s, 5m or 24h")
    return Seconds(float(match[1]) * _UNITS[match[2]])


def lasting(value: object) -> Seconds:
    """The same of what ends by itself: clocks and calendars have an end, too."""
    seconds = duration(value)
    if seconds > _LONGEST_S:
        raise ValueError(f"{value!r} is longer than ten years")
    return seconds


def _decode(kind: type, value: object) -> object:
    if kind is Seconds:
        return duration(value)
    if kind is Share:
        match = _SHARE.fullmatch(value) if isinstance(value, str) else None
        if not match or float(match[1]) > 100:  # noqa: PLR2004  percent
            raise ValueError(f"{value!r} is not a share: write 50%")
        return Share(float(match[1]) / 100)
    if kind is Path:
        if not isinstance(value, str) or not value.startswith("/"):
            raise ValueError(f"{value!r} is not an absolute path")
        return Path(value)
    raise NotImplementedError(kind)  # what msgspec expects of a hook for other types


def _check(config: Config, document: documents.Document) -> None:
    """What types cannot say."""
    if problem := next(_problems(config), None):
        path, message, hint = problem
        raise ConfigError(message, where=f"{document.name}:{document.line(path)}", hint=hint)


def _problems(config: Config) -> Iterator[Problem]:
    if not is_host_name(config.host):
        yield ("host",), f"{config.host!r} cannot be the name of a host", None
    if not _BRANCH.fullmatch(config.branch) or ".." in config.branch or "//" in config.branch:
        yield ("branch",), f"{config.branch!r} cannot be the name of a branch", None
    yield from _remote_problems(config.remotes)
    for path, value, unit in (
        (("converge", "parallel"), config.converge.parallel, ""),
        (("converge", "timeout"), config.converge.timeout, "s"),
        (("undeclared", "per_minute"), config.undeclared.per_minute, ""),
        (("resync",), config.resync, "s"),
        (("stale_after",), config.stale_after, "s"),
    ):
        if value < 1:
            yield path, f"{path[-1]} must be at least 1{unit}", None
    if config.secrets:
        yield from _secret_problems(config.secrets)
    yield from outside_config.problems(config.listen, config.api)
    yield from outside_config.status_problems(config.commit_status)
    yield from outside_config.hook_problems(config.hooks, config.listen)
    yield from outside_config.notify_problems(config.notify)
    yield from outside_config.peer_problems(config.host, config.listen, config.peers)
    socket = config.docker.socket
    if socket is not None and not socket.startswith("unix:///"):
        message = f"{socket!r} is not a local socket"
        yield ("docker", "socket"), message, "write unix:///run/docker.sock"
    signatures = config.signatures
    if signatures.require != "none" and not (signatures.allowed_signers or signatures.gpg_keyring):
        message = "signatures are required but no key is trusted"
        yield ("signatures",), message, "set allowed_signers or gpg_keyring"


def _remote_problems(remotes: Sequence[Remote]) -> Iterator[Problem]:
    if not remotes:
        yield ("remotes",), "no remote is configured", "name at least one"
    names = set()
    for i, remote in enumerate(remotes):
        if not _REMOTE_NAME.fullmatch(remote.name) or remote.name in names:
            message = f"{remote.name!r} cannot be the name of this remote"
            yield ("remotes", i, "name"), message, "use a different short lower-case word for each"
        names.add(remote.name)
        if problem := _url_problem(remote):
            yield ("remotes", i, "url"), *problem
        if remote.poll < 1:
            yield ("remotes", i, "poll"), "poll must be at least 1s", None


def _secret_problems(secrets: Secrets) -> Iterator[Problem]:
    sops, path = secrets.sops, ("secrets", "sops")
    if (sops.image is None) == (sops.binary is None):
        hint = "image: NAME:TAG@sha256:… or binary: PATH"
        yield path, "say either image or binary", hint
    if sops.image is not None and not _PINNED.fullmatch(sops.image):
        yield (*path, "image"), "the image is not pinned", "write NAME:TAG@sha256:DIGEST"
    if sops.binary is not None and not _SHA256.fullmatch(sops.sha256 or ""):
        yield (*path, "binary"), "the binary is not pinned", "add sha256: of the file"
    if not _AGE_KEY.fullmatch(secrets.age_key):
        message = f"{secrets.age_key!r} is neither an absolute path nor a credential"
        hint = "write /etc/commitd/age.key or credential:age.key"
        yield ("secrets", "age_key"), message, hint


def _url_problem(remote: Remote) -> tuple[str, str | None] | None:
    url = remote.url
    try:
        parts = urlsplit(url)
        (parts.hostname or "").encode("idna")
        _ = parts.port  # which is a number, or an error
    except UnicodeError:
        return f"the host in {url!r} is no name that a host can have", None
    except ValueError:
        return f"{url!r} is not a url of a repository", _KINDS
    if any(c.isspace() or ord(c) < 33 for c in url):  # noqa: PLR2004  control characters
        return "the url holds white space", None
    ssh = None if remote.ssh_key and remote.known_hosts else _SSH_NEEDS
    if _SCP_URL.fullmatch(url):
        return ssh
    if parts.password or (parts.username and parts.scheme != "ssh"):
        return "the url holds a credential", "use username: and token_file:"
    if parts.scheme == "file":
        local = parts.path.startswith("/")
        return None if local else ("a file:// url needs an absolute path", None)
    if not parts.hostname or parts.hostname.startswith("-"):
        return f"{url!r} is not a url of a repository", _KINDS
    known = {"ssh": ssh, "https": None, "http": None if remote.plain_http else _HTTP_NEEDS}
    return known.get(parts.scheme, (f"{parts.scheme or url!r} is not supported", _KINDS))


_KINDS = "ssh://, git@host:path, https:// or file://"
_SSH_NEEDS = ("an ssh remote needs ssh_key and known_hosts", "name both files")
_HTTP_NEEDS = (
    "plain http:// lets anyone on the way change what runs here",
    "use https://, or say plain_http: true",
)
