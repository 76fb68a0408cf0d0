"""The keys of this host: made where there are none, and made anew where they are another's.

identity.json beside them: of this machine ──▶ used; with another name, a person says why
                           of another one ───▶ set aside with the journal, new ones are made
host/OTHER/age.pub in the repository is ours ─▶ set aside, a new one is made
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from msgspec import Struct

from agent.adapters import private_file
from agent.adapters.host import identity_file, key_file, lock
from agent.adapters.probes import deploy_key
from agent.adapters.secrets import age_key
from agent.control.onboarding.dialog import Dialog
from agent.domain.config import Config, Secrets
from agent.domain.errors import ConfigError, HeldError
from agent.domain.onboarding.identity import Identity

FILES = ("deploy_key", "deploy_key.pub", "age.key")
"""What setup makes beside the configuration."""
_JOURNAL = "journal.db"
_BESIDE_JOURNAL = ("-wal", "-shm")
"""They go first: what SQLite has left there would be read into a new journal."""


class HostKeys(Struct, frozen=True, kw_only=True):
    """Public halves: of the deploy key, None where no remote needs one; of the age key, None where
    only systemd knows it or no secrets are configured.
    """

    deploy_key: str | None
    age_keys: tuple[str, ...] | None


def ensure(config: Config, directory: Path, dialog: Dialog, *, keep: bool, named: bool) -> HostKeys:
    """Have the keys that ``config`` names, and the note beside them in ``directory``.

    ``keep`` takes those of another machine for this one's; ``named`` is whether a person has just
    said what this host is called. Raises :class:`CommitdError`. Blocks.
    """
    noted, machine = identity_file.read(directory), identity_file.this_machine()
    if noted and machine and noted.machine != machine and not keep:
        _refuse_two_of_one_name(config, noted, named=named)
        _set_aside_all(config, noted, dialog)
    if noted and noted.machine == machine and noted.host != config.host and not keep:
        raise HeldError(
            f"the keys here are those of {noted.host}, made on a machine with the same number:"
            f" this is a clone that kept it, or {noted.host} has another name now",
            hint="a clone: rm /etc/machine-id && systemd-machine-id-setup, reboot, and again;"
            " another name: --keep-keys",
        )
    if ssh_key := _deploy_key(config):
        if deploy_key.ensure(ssh_key, f"commitd@{config.host}"):
            dialog.say(f"Made a deploy key: {ssh_key}. It stays on this host.")
        key_file.refuse_open(ssh_key, ssh_key.stat().st_mode)
    if config.secrets and key_file.ensure_key(config.secrets):
        dialog.say(f"Made an age key: {config.secrets.age_key}. It stays on this host.")
    found = _public(config)
    _note(config, directory, found)
    return found


def renew_age_key(config: Config, directory: Path, other: str, dialog: Dialog) -> HostKeys:
    """Make another age key, as this one is that of the host ``other``; all keys then."""
    if config.secrets is None or key_file.is_credential(config.secrets):
        message = f"the age key is that of {other}, and systemd hands it to the service"
        raise ConfigError(message, hint="make another one, and name it in the unit's drop-in")
    aside = _aside(Path(config.secrets.age_key), other)
    dialog.say(f"The age key is that of {other}, by its age.pub in the repository: now {aside}.")
    key_file.ensure_key(config.secrets)
    dialog.say(f"Made an age key: {config.secrets.age_key}. It stays on this host.")
    found = _public(config)
    _note(config, directory, found)
    return found


def _refuse_two_of_one_name(config: Config, noted: Identity, *, named: bool) -> None:
    """A copied configuration would make a second host that runs what the first one runs."""
    if noted.host == config.host and not named:
        raise HeldError(
            f"the keys here were made on another machine, which is {noted.host} as well",
            hint="--host NAME is the name of this one, the same if it takes the other's place;"
            " --keep-keys if it is the same machine",
        )


def _set_aside_all(config: Config, noted: Identity, dialog: Dialog) -> None:
    if lock.running_agent(config):
        raise HeldError(
            f"the agent works here with the keys of {noted.host}, which is another machine",
            hint="systemctl stop commitd, then again; --keep-keys if they are this machine's",
        )
    dialog.say(f"This machine is not the one on which its keys were made ({noted.host}): a clone.")
    ssh_key = _deploy_key(config)
    if ssh_key and ssh_key.exists() and noted.deploy_key == _fingerprint(ssh_key):
        dialog.say(f"Its deploy key is now {_aside(ssh_key, noted.host)}.")
    secrets = config.secrets
    own = _recipients(secrets) if secrets and Path(secrets.age_key).exists() else ()
    if secrets and set(own or ()) & set(noted.age_keys):
        dialog.say(f"Its age key is now {_aside(Path(secrets.age_key), noted.host)}.")
    journal = config.state_dir / _JOURNAL
    if journal.exists():
        aside = _aside(journal, noted.host, _BESIDE_JOURNAL)
        dialog.say(f"Its journal, which says that it is enrolled and what it ran, is now {aside}.")


def _aside(path: Path, whose: str, ends: Sequence[str] = ()) -> Path:
    try:
        return private_file.set_aside(path, whose, ends)
    except OSError as err:
        message = f"it cannot be set aside: {err.strerror}"
        raise ConfigError(message, where=str(path)) from None


def _note(config: Config, directory: Path, found: HostKeys) -> None:
    machine = identity_file.this_machine()
    if machine is None:
        return
    public = found.deploy_key
    now = Identity(
        machine=machine,
        host=config.host,
        deploy_key=deploy_key.fingerprint(public) if public else None,
        age_keys=found.age_keys or (),
    )
    if identity_file.read(directory) != now:
        identity_file.write(directory, now)


def _public(config: Config) -> HostKeys:
    ssh_key, secrets = _deploy_key(config), config.secrets
    public = deploy_key.public(ssh_key) if ssh_key else None
    return HostKeys(deploy_key=public, age_keys=_recipients(secrets) if secrets else None)


def _recipients(secrets: Secrets) -> tuple[str, ...] | None:
    """The public halves of the age key; None where only systemd knows it."""
    if key_file.is_credential(secrets):
        return None
    return tuple(age_key.recipients(key_file.read_key(secrets)))


def _deploy_key(config: Config) -> Path | None:
    """The first that a remote names; one is usual."""
    return next((remote.ssh_key for remote in config.remotes if remote.ssh_key), None)


def _fingerprint(path: Path) -> str | None:
    with suppress(ConfigError):
        return deploy_key.fingerprint(deploy_key.public(path))
    return None
