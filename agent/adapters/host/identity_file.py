"""The note beside the keys that says which machine they belong to."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from agent.adapters import private_file
from agent.domain.config import Config
from agent.domain.errors import ConfigError
from agent.domain.onboarding import identity
from agent.domain.onboarding.identity import Identity

NAME = "identity.json"
_MACHINE_ID = "/etc/machine-id"


def this_machine() -> str | None:
    """What stands for this machine; None where it has no number. Blocks."""
    try:
        return identity.machine(Path(_MACHINE_ID).read_text())
    except (OSError, UnicodeDecodeError):
        return None


def read(directory: Path) -> Identity | None:
    """The note in that directory; None where there is none. Blocks."""
    with suppress(OSError):
        return identity.read((directory / NAME).read_bytes())
    return None


def write(directory: Path, noted: Identity) -> None:
    """Put the note there. Raises :class:`ConfigError`. Blocks."""
    path = directory / NAME
    try:
        private_file.replace(path, identity.written(noted))
    except OSError as err:
        raise ConfigError(f"it cannot be written: {err.strerror}", where=str(path)) from None


def of_another_machine(config: Config) -> Identity | None:
    """What was noted beside the keys that are in use, if it was on another machine. Blocks."""
    machine = this_machine()
    for directory in _beside_keys(config):
        noted = read(directory)
        if noted and machine and noted.machine != machine:
            return noted
    return None


def unreadable(config: Config) -> tuple[Path, str | None] | None:
    """A note beside the keys in use that is there and says nothing: its path, and why it cannot be
    read; None: it can, and is no note. Blocks.
    """
    for directory in _beside_keys(config):
        path = directory / NAME
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            continue
        except OSError as err:
            return path, err.strerror or type(err).__name__
        if identity.read(content) is None:
            return path, None
    return None


def _beside_keys(config: Config) -> list[Path]:
    keys = [remote.ssh_key for remote in config.remotes if remote.ssh_key]
    if config.secrets and config.secrets.age_key.startswith("/"):
        keys.append(Path(config.secrets.age_key))
    return [*dict.fromkeys(key.parent for key in keys)]
