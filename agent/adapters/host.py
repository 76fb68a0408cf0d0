"""The machine the agent runs on: its configuration file, its key, its lock, its directories."""

from __future__ import annotations

import fcntl
import os
import platform
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from agent.domain import bech32
from agent.domain import config as configuration
from agent.domain.config import Config, Secrets
from agent.domain.errors import ConfigError, DeniedError, HeldError

_CREDENTIAL = "credential:"
_OWN = frozenset({"journal.db", "commitd.sock"})
"""What is in a state or a runtime directory that an agent has used, and in no other."""
_KEY_MARK = b"AGE-SECRET-KEY-"
_WRONG_KEY = "put the right file there; or move it away, and commitd enroll makes a key"
_LONGEST_KEY = 32 * 1024
"""Bytes; a key takes 75, and SOPS gets all of them in memory."""


def config_path(option: str | None) -> Path:
    """The file to read: the option, ``COMMITD_CONFIG``, or the default."""
    return Path(option or os.environ.get("COMMITD_CONFIG") or configuration.DEFAULT_PATH)


def load_config(path: Path) -> Config:
    """Read and check the host's own file.

    Raises :class:`ConfigError`.
    """
    try:
        content = path.read_bytes()
    except PermissionError:
        raise DeniedError("this user may not read the configuration", where=str(path)) from None
    except OSError as err:
        raise ConfigError(
            f"the configuration cannot be read: {err.strerror}",
            where=str(path),
            hint="name another with --config or COMMITD_CONFIG",
        ) from None
    return configuration.parse(content, str(path), hostname=platform.node())


def check_files(config: Config) -> None:
    """Make sure that the files the configuration names can be used, and are not open to others.

    For the agent that works: who only looks needs no keys. Raises :class:`ConfigError`.
    """
    for remote in config.remotes:
        for name in (remote.ssh_key, remote.known_hosts, remote.token_file, remote.ca_file):
            if name is not None:
                _check_readable(name, f"remote {remote.name}")
        for name in (remote.ssh_key, remote.token_file):
            if name is not None:
                _check_private(name)
    for name in (config.signatures.allowed_signers, config.signatures.gpg_keyring):
        if name is not None:
            _check_readable(name, "signatures")
    if config.secrets:
        read_key(config.secrets)
        if config.secrets.sops.binary is not None:
            _check_readable(config.secrets.sops.binary, "secrets.sops.binary")


def read_key(secrets: Secrets) -> bytes:
    """The host's age identity. Raises :class:`ConfigError`; never shows a byte of it."""
    path = _key_path(secrets)
    try:
        # At once, as it may be replaced now; and without waiting, should it be a pipe.
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:  # noqa: PTH123
            mode = os.fstat(file.fileno()).st_mode
            key = file.read(_LONGEST_KEY + 1)
    except FileNotFoundError:
        hint = None if is_credential(secrets) else "commitd enroll makes a key"
        hint = "mend the link, or take it away" if path.is_symlink() else hint
        message = "secrets.age_key: there is no such file"
        raise ConfigError(message, where=str(path), hint=hint) from None
    except OSError as err:
        raise ConfigError(
            f"secrets.age_key: the file cannot be read: {err.strerror}", where=str(path)
        ) from None
    if not is_credential(secrets):
        _refuse_open(path, mode)
    if _KEY_MARK not in key or len(key) > _LONGEST_KEY:
        raise ConfigError(
            "this is not an age identity",
            where=str(path),
            hint=_WRONG_KEY,
        )
    for number, line in enumerate(key.splitlines(), 1):
        if line.strip().startswith(_KEY_MARK + b"1"):
            _refuse_damaged(line, f"{path}:{number}")
    return key


def _refuse_damaged(identity: bytes, where: str) -> None:
    """SOPS reads no identity of a file in which one is damaged, and does not say so."""
    try:
        bech32.decode(identity.decode(errors="replace").strip())
    except ValueError as err:
        raise ConfigError(
            f"this age identity is damaged: {err}", where=where, hint=_WRONG_KEY
        ) from None


def is_credential(secrets: Secrets) -> bool:
    """Whether systemd hands the key to the service, instead of a file that is always there."""
    return secrets.age_key.startswith(_CREDENTIAL)


def ensure_key(secrets: Secrets) -> bool:
    """Have a key where the configuration names a file; whether it was made just now.

    Raises :class:`ConfigError`. Nothing is ever written over, and no credential is made.
    """
    from agent.adapters import age_key  # noqa: PLC0415  its library is needed nowhere else

    path = _key_path(secrets)
    if is_credential(secrets) or path.exists() or path.is_symlink():
        return False
    age_key.make(path)
    return True


def _key_path(secrets: Secrets) -> Path:
    if not is_credential(secrets):
        return Path(secrets.age_key)
    directory = os.environ.get("CREDENTIALS_DIRECTORY")
    if not directory:
        raise ConfigError(
            f"{secrets.age_key} needs systemd, which gives the service its credentials",
            where="secrets.age_key",
            hint="add LoadCredential= to the unit, or name a file",
        )
    return Path(directory, secrets.age_key.removeprefix(_CREDENTIAL))


def _check_readable(path: Path, what: str) -> None:
    try:
        with path.open("rb"):
            pass
    except OSError as err:
        raise ConfigError(
            f"{what}: the file cannot be read: {err.strerror}", where=str(path)
        ) from None


def _check_private(path: Path) -> None:
    _refuse_open(path, path.stat().st_mode)


def _refuse_open(path: Path, st_mode: int) -> None:
    mode = stat.S_IMODE(st_mode)
    if mode & 0o077:
        raise ConfigError(
            f"others may read this secret file (mode {mode:04o})",
            where=str(path),
            hint=f"chmod 600 {path}",
        )


def docker_host(config: Config | None) -> str:
    """Where the engine listens, as a ``unix://`` address."""
    configured = config.docker.socket if config else None
    address = configured or os.environ.get("DOCKER_HOST") or "unix:///run/docker.sock"
    if not address.startswith("unix://"):
        raise ConfigError(
            f"DOCKER_HOST is {address!r}", hint="the agent only manages the engine of its own host"
        )
    return address


def prepare_directories(config: Config) -> None:
    """Make the state and runtime directories, closed to others. Raises :class:`ConfigError`."""
    for directory in (config.state_dir, config.runtime_dir):
        try:
            if directory.exists() and _of_others(directory):
                raise ConfigError(
                    "others use this directory too, and the agent would close it to them",
                    where=str(directory),
                    hint=f"name one of its own in the configuration, as {directory}/commitd",
                )
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            directory.chmod(0o700)
        except OSError as err:
            raise ConfigError(
                f"the directory cannot be used: {err.strerror}", where=str(directory)
            ) from None


def file_system(path: Path) -> str:
    """What kind ``path`` is on, such as ``tmpfs``; empty if that cannot be told."""
    device = path.stat().st_dev
    mark = f"{os.major(device)}:{os.minor(device)}"
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        words = line.split()
        if words[2] == mark:
            return words[words.index("-") + 1]
    return ""


def _of_others(directory: Path) -> bool:
    """Whether it is open to others and holds things, and none of them is the agent's."""
    if not directory.stat().st_mode & 0o077:
        return False
    names = {path.name for path in directory.iterdir()}
    return bool(names) and not names & _OWN


def install_askpass(config: Config) -> Path:
    """The program that Git asks for a token: it reads the file, so that no one else has to."""
    path = config.state_dir / "askpass"
    script = (
        "#!/bin/sh\n"
        'case "$1" in\n'
        'Username*) printf "%s\\n" "$COMMITD_USERNAME" ;;\n'
        '*) exec cat -- "$COMMITD_TOKEN_FILE" ;;\n'
        "esac\n"
    )
    if not path.exists() or path.read_text() != script:
        path.write_text(script)
        path.chmod(0o700)
    return path


@contextmanager
def only_agent(config: Config) -> Iterator[None]:
    """Hold the host's lock. Raises :class:`HeldError` when another agent has it."""
    path = config.state_dir / "lock"
    with path.open("a+") as file:
        try:
            _lock(file.fileno())
        except BlockingIOError:
            file.seek(0)
            raise HeldError(
                f"another agent works on this host (process {file.read().strip() or 'unknown'})",
                where=str(path),
                hint="commitd sync has it look now; systemctl stop commitd, to take its place",
            ) from None
        file.seek(0)
        file.truncate()
        file.write(str(os.getpid()))
        file.flush()
        yield
        file.seek(0)
        file.truncate()


def _lock(handle: int) -> None:
    """Take the lock; a moment's patience, for ``running_agent`` holds it while it looks."""
    for _ in range(9):
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.02)
        else:
            return
    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


def running_agent(config: Config) -> int | None:
    """The process ID of the agent that holds the lock, or None."""
    try:
        with (config.state_dir / "lock").open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                text = file.read().strip()
                return int(text) if text.isdigit() else None
    except FileNotFoundError:
        pass
    except PermissionError:
        raise DeniedError(
            "this user may not see whether the agent runs", where=str(config.state_dir)
        ) from None
    return None
