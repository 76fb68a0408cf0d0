"""The keys of this host: made where there are none, and made anew where they are another's.

identity.json beside them: of this machine ──▶ used; with another name, a person says why
          of another one with another name ───▶ set aside with the journal, new ones are made
             of another one with this name ───▶ a person says whether they are kept
host/OTHER/age.pub in the repository is ours ─▶ set aside, a new one is made; but if it was made
                                                here, or is one of several, a person says so

Nothing is set aside while an agent works with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path

from msgspec import Struct

from agent.adapters import private_file
from agent.adapters.host import identity_file, key_file, lock
from agent.adapters.probes import deploy_key
from agent.adapters.secrets import age_key
from agent.control.onboarding import leave
from agent.control.onboarding.dialog import Dialog
from agent.domain.config import Config, Secrets
from agent.domain.errors import ConfigError, HeldError
from agent.domain.onboarding.identity import Identity

FILES = ("deploy_key", "deploy_key.pub", "age.key")
"""What setup makes beside the configuration."""
_JOURNAL = "journal.db"
_BESIDE_JOURNAL = ("-wal", "-shm")
"""They go first: what SQLite has left there would be read into a new journal."""


class Wish(Struct, frozen=True, kw_only=True):
    """What a person said of the keys that are here: ``keep`` them as this machine's, or set them
    aside for ``new`` ones.
    """

    keep: bool = False
    new: bool = False


class HostKeys(Struct, frozen=True, kw_only=True):
    """Public halves: of the deploy keys, by the name of the remote; of the age key, None where
    only systemd knows it or no secrets are configured. ``made_here`` is whether the age key was
    made on this machine, as far as is known.
    """

    deploy_keys: Mapping[str, str]
    age_keys: tuple[str, ...] | None
    made_here: bool


def ensure(config: Config, directory: Path, dialog: Dialog, wish: Wish) -> HostKeys:
    """Have the keys that ``config`` names, and the note beside them in ``directory``.

    Raises :class:`CommitdError`. Blocks.
    """
    noted, machine = identity_file.read(directory), identity_file.this_machine()
    if noted and machine and not wish.keep:
        if noted.machine != machine:
            _refuse_two_of_one_name(config, noted, wish)
            dialog.say(
                f"This machine is not the one on which its keys were made ({noted.host}): a clone."
            )
            _set_aside_all(config, noted.host, dialog, journal=True)
        elif noted.host != config.host:
            raise HeldError(
                f"the keys here are those of {noted.host}, made on a machine with the same number:"
                f" this is a clone that kept it, or {noted.host} has another name now",
                hint="a clone: rm /etc/machine-id && systemd-machine-id-setup, reboot, and again;"
                " another name: --keep-keys",
            )
        elif wish.new:
            _set_aside_all(config, noted.host, dialog, journal=False)
    elif wish.new:
        _set_aside_all(config, "before", dialog, journal=False)
    if (noted and noted.machine != machine and not wish.keep) or wish.new:
        # What is made from here on is this machine's, also for a setup that goes on after a kill.
        _note(config, directory, HostKeys(deploy_keys={}, age_keys=None, made_here=True))
    for ssh_key in _deploy_keys(config).values():
        if deploy_key.ensure(ssh_key, f"commitd@{config.host}"):
            dialog.say(f"Made a deploy key: {ssh_key}. It stays on this host.")
        key_file.refuse_open(ssh_key, ssh_key.stat().st_mode)
    made = _make_age_key(config.secrets, dialog) if config.secrets else False
    known = noted.age_keys if noted and noted.machine == machine else ()
    found = _public(config, known, made=made)
    _note(config, directory, found)
    return found


def renew_age_key(config: Config, directory: Path, other: str, dialog: Dialog) -> HostKeys:
    """Make another age key, as this one is that of the host ``other``; all keys then."""
    if config.secrets is None or key_file.is_credential(config.secrets):
        message = f"the age key is that of {other}, and systemd hands it to the service"
        raise ConfigError(message, hint="make another one, and name it in the unit's drop-in")
    _refuse_in_use(config, other)
    aside = _aside(Path(config.secrets.age_key), other)
    dialog.say(f"The age key is that of {other}, by its age.pub in the repository: now {aside}.")
    made = _make_age_key(config.secrets, dialog)
    found = _public(config, (), made=made)
    _note(config, directory, found)
    return found


def _refuse_two_of_one_name(config: Config, noted: Identity, wish: Wish) -> None:
    """Either a backup was restored here, or there are two hosts that run what one is to run."""
    if noted.host == config.host and not wish.new:
        raise HeldError(
            f"the keys here were made on another machine, which is {noted.host} as well",
            hint=f"restored here, or it is the same machine: --keep-keys; a new {noted.host} that"
            " gets keys of its own: --new-keys; a host of another name: --host NAME",
        )


def _refuse_in_use(config: Config, whose: str) -> None:
    if lock.running_agent(config):
        raise HeldError(
            f"the agent works here with the keys of {whose}, which would be set aside",
            hint="systemctl stop commitd, then again; --keep-keys if they are this machine's",
        )


def _set_aside_all(config: Config, whose: str, dialog: Dialog, *, journal: bool) -> None:
    """Every key that the configuration names, known to the note or not; then the journal.

    No agent begins to work with them meanwhile.
    """
    _refuse_in_use(config, whose)
    there = config.state_dir.is_dir()
    with lock.only_agent(config) if there else nullcontext():
        _set_aside_keys(config, whose, dialog)
        if journal:
            _set_aside_journal(config, whose, dialog)


def _set_aside_keys(config: Config, whose: str, dialog: Dialog) -> None:
    for ssh_key in dict.fromkeys(_deploy_keys(config).values()):
        if ssh_key.exists():
            dialog.say(f"Its deploy key is now {_aside(ssh_key, whose)}.")
    secrets = config.secrets
    if secrets and key_file.is_credential(secrets):
        dialog.say(
            "! The age key is handed over by systemd, and stays: make another one by hand,"
            " and name it in the unit's drop-in."
        )
    elif secrets and Path(secrets.age_key).exists():
        dialog.say(f"Its age key is now {_aside(Path(secrets.age_key), whose)}.")


def _set_aside_journal(config: Config, whose: str, dialog: Dialog) -> None:
    file = config.state_dir / _JOURNAL
    if file.exists():
        for path in leave.Leaving(config).strays(frozenset()):
            dialog.say(
                f"! {config.state_dir}/repo/{path} was decrypted by {whose}, and from now on is in"
                " no record: delete it once no container mounts it."
            )
        aside = _aside(file, whose, _BESIDE_JOURNAL)
        dialog.say(f"Its journal, which says that it is enrolled and what it ran, is now {aside}.")


def _make_age_key(secrets: Secrets, dialog: Dialog) -> bool:
    made = key_file.ensure_key(secrets)
    if made:
        dialog.say(f"Made an age key: {secrets.age_key}. It stays on this host.")
    return made


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
    public = next(iter(found.deploy_keys.values()), None)
    now = Identity(
        machine=machine,
        host=config.host,
        deploy_key=deploy_key.fingerprint(public) if public else None,
        age_keys=found.age_keys or (),
    )
    if identity_file.read(directory) != now:
        identity_file.write(directory, now)


def _public(config: Config, known: Sequence[str], *, made: bool) -> HostKeys:
    """``known`` are age keys that were noted as this machine's before."""
    secrets = config.secrets
    age_keys = _recipients(secrets) if secrets else None
    return HostKeys(
        deploy_keys={name: deploy_key.public(at) for name, at in _deploy_keys(config).items()},
        age_keys=age_keys,
        made_here=made or bool({*known} & {*(age_keys or ())}),
    )


def _recipients(secrets: Secrets) -> tuple[str, ...] | None:
    """The public halves of the age key; None where only systemd knows it."""
    if key_file.is_credential(secrets):
        return None
    return tuple(age_key.recipients(key_file.read_key(secrets)))


def _deploy_keys(config: Config) -> dict[str, Path]:
    """By the names of the remotes; one for all is usual."""
    return {remote.name: remote.ssh_key for remote in config.remotes if remote.ssh_key}
