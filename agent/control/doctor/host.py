"""Looks at the machine: its programs, its disks, its clock, its files."""

from __future__ import annotations

import grp
import os
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from datetime import datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import urlsplit

import anyio.to_thread

from agent.adapters.engine import about
from agent.adapters.engine.engine import Engine
from agent.adapters.host import directories, services, sight
from agent.adapters.outside import http
from agent.adapters.secrets.sops import BinarySops
from agent.adapters.state.journal import open_journal
from agent.control.doctor import named_files
from agent.control.status import versions as programs
from agent.domain.config import Config
from agent.domain.doctor import clock, disk, engine, files, versions
from agent.domain.doctor.finding import Code, Finding, Level, problem, unknown
from agent.domain.errors import CommitdError, ConfigError, UnreachableError

_DATE_S = 1.0
"""What a date of HTTP leaves out."""
_JOURNALS = (Path("/var/log/journal"), Path("/run/log/journal"))


async def tools(config: Config | None) -> list[Finding]:
    """Git, Compose and, where it is a program, SOPS."""
    found = await programs.read()
    named = found.programs
    pinned = config.secrets.sops if config and config.secrets else None
    return [
        versions.judge(Code.GIT, versions.GIT, named["git"]),
        versions.judge(Code.COMPOSE, versions.COMPOSE, named["docker-compose"]),
        *([await _sops(pinned.binary, pinned.sha256)] if pinned and pinned.binary else []),
    ]


async def _sops(binary: Path, sha256: str | None) -> Finding:
    if not await anyio.to_thread.run_sync(os.access, binary, os.X_OK):
        return problem(
            Code.SOPS,
            f"secrets.sops.binary: {binary} cannot be run",
            "put it there, or name another with its sha256:",
        )
    try:
        await anyio.to_thread.run_sync(BinarySops(binary, sha256 or "").verify)
    except ConfigError as err:
        return problem(Code.SOPS, err.fact, err.hint or "commitd setup --sops")
    said = await programs.first_line(str(binary), "--version", "--disable-version-check")
    return versions.judge(Code.SOPS, versions.SOPS, said and said.removeprefix("sops "))


def socket(address: str) -> list[Finding]:
    """The engine's socket, and who may use it."""
    path = Path(address.removeprefix("unix://"))
    try:
        seen = path.stat()
    except FileNotFoundError:
        return [engine.socket(str(path), None, 0, group="")]
    except OSError as err:
        return [unknown(Code.DOCKER_SOCKET, f"{path}: {err.strerror}", _by_root(err))]
    try:
        group = grp.getgrgid(seen.st_gid).gr_name
    except KeyError:
        group = str(seen.st_gid)
    return [engine.socket(str(path), seen.st_mode, seen.st_uid, group=group)]


async def docker(address: str, mode: str) -> list[Finding]:
    """The engine itself; of its Swarm only where ``docker.mode`` is not that."""
    try:
        async with Engine(address) as asked:
            said = await about.ask(asked)
    except UnreachableError as err:
        path = address.removeprefix("unix://")
        denied = os.path.exists(path) and not os.access(path, os.W_OK)  # noqa: ASYNC240, PTH110
        return [engine.unreachable(Code.DOCKER, err.message.rpartition(": ")[2], denied=denied)]
    return [
        versions.judge(Code.DOCKER, versions.DOCKER, said.version),
        *([engine.swarm(said.swarm, control=said.control)] if mode != "swarm" else []),
        *await anyio.to_thread.run_sync(room, "Docker's data", Path(said.root)),
    ]


def room(what: str, path: Path) -> list[Finding]:
    """Space and inodes where ``path`` is. Blocks."""
    try:
        seen = sight.space(path)
    except OSError as err:
        return [unknown(Code.SPACE, f"{what} ({path}): {err.strerror}", _by_root(err))]
    return [disk.space(what, str(path), seen), disk.inodes(what, str(path), seen)]


def _by_root(err: OSError) -> str:
    """What to do where this user may not look; nothing helps against other errors."""
    return "sudo commitd doctor" if isinstance(err, PermissionError) else ""


def journal_room() -> list[Finding]:
    """Where the system's journal, with the agent's log in it, is kept."""
    path = next((each for each in _JOURNALS if each.is_dir()), None)
    if path is None:
        return [unknown(Code.SPACE, "the system's journal is at none of its usual places")]
    return room("the system's journal", path)


def own_directories(config: Config) -> Iterator[Finding]:
    """``state_dir`` and ``runtime_dir``."""
    for what, path, passable in (
        ("state_dir", config.state_dir, False),
        ("runtime_dir", config.runtime_dir, True),
    ):
        seen = sight.file(path, directory=True)
        yield files.directory(what, str(path), seen, passable=passable)
    if config.secrets and config.secrets.store == "runtime" and config.runtime_dir.exists():
        kind = directories.file_system(config.runtime_dir)
        swarm = config.docker.mode == "swarm"
        yield files.volatile(str(config.runtime_dir), kind, needed=swarm)


async def time_of_others(config: Config) -> list[Finding]:
    """The clock against each server that tells the time: those of HTTP."""
    places = {
        _origin(remote.url): remote.ca_file
        for remote in config.remotes
        if remote.scheme in {"https", "http"}
    }
    if told := config.commit_status:
        places.setdefault(_origin(told.url), told.ca_file)
    found = []
    for place, ca_file in places.items():
        if compared := await _against(place, ca_file):
            found.append(compared)
    return found or await anyio.to_thread.run_sync(_told_here, config)


async def _against(place: str, ca_file: Path | None) -> Finding | None:
    before = time.time()
    try:
        reply = await http.ask("HEAD", place, {}, ca_file=ca_file)
        told = parsedate_to_datetime(reply.headers["date"]).timestamp()
    except (CommitdError, LookupError, ValueError):
        return None  # the remote itself is looked at elsewhere
    took = time.time() - before
    middle = before + took / 2
    return clock.against(
        urlsplit(place).hostname or place, middle - told - _DATE_S / 2, (took + _DATE_S) / 2
    )


def _told_here(config: Config) -> list[Finding]:
    """What there is to know of it without a server."""
    behind = _by_commit(config)
    said = services.clock_is_synchronized()
    if said is None or behind.level is not Level.UNKNOWN:
        return [behind]
    return [clock.synchronized(said)]


def _by_commit(config: Config) -> Finding:
    ahead_s = 0.0
    with suppress(CommitdError, LookupError, ValueError, TypeError):
        with closing(open_journal(config)) as journal:
            declared = journal.get("declared")
        if declared:
            at = datetime.fromisoformat(declared["revision"]["committed_at"])
            ahead_s = at.timestamp() - time.time()
    return clock.by_commit(ahead_s)


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}/"


def config_file(path: Path) -> Iterator[Finding]:
    """Whether only root can change the configuration."""
    seen = sight.file(path)
    yield files.judge(Code.TRUST_FILE, "the configuration", str(path), seen)


def files_of(config: Config) -> Iterator[Finding]:
    """The files that the configuration names: closed, of root, and where it says."""
    for what, path in named_files.secret(config):
        yield files.judge(Code.SECRET_FILE, what, str(path), sight.file(path))
    for what, path in named_files.trusted(config):
        yield files.judge(Code.TRUST_FILE, what, str(path), sight.file(path))


def docker_address(config: Config | None) -> str:
    """Where the engine listens. Raises :class:`ConfigError`."""
    return directories.docker_host(config or Config(host="", remotes=()))
