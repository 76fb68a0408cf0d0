"""Enrolling a host: its age key, what would be removed from it, and the consent of a person."""

from __future__ import annotations

import os

from msgspec import Struct

from agent.adapters.host import directories, identity_file, key_file
from agent.adapters.secrets import age_key
from agent.adapters.state.async_journal import AsyncJournal
from agent.adapters.state.database import utcnow
from agent.adapters.state.journal import open_journal
from agent.control.operator.orders import note
from agent.control.review import plan_view
from agent.control.status.status import list_containers
from agent.domain.config import Config
from agent.domain.errors import HeldError, UnreachableError
from agent.domain.outcome import Reason
from agent.domain.reconcile.actions import Plan


class HostKey(Struct, frozen=True):
    """The host's age key.

    ``recipients`` are its public halves; empty where the file does not say them, None where only
    systemd knows the key. ``made`` is whether it was made just now.
    """

    recipients: tuple[str, ...] | None
    made: bool = False


class Enrolment:
    """Of one host; ``since`` is when it was enrolled (ISO 8601), None before. Blocks."""

    def __init__(self, config: Config) -> None:
        """Make what is missing of the agent's directories. Raises :class:`CommitdError`."""
        directories.prepare_directories(config)
        self._config = config
        self._journal = open_journal(config, read_only=False, new=True)
        if noted := identity_file.of_another_machine(config):
            raise HeldError(
                f"the keys here were made on another machine, as {noted.host}, and the journal may"
                " be its own, too",
                hint="commitd setup first: with --new-keys, or --keep-keys if they are this one's",
            )
        self.since: str | None = self._journal.get("enrolled")

    def key(self) -> HostKey | None:
        """The host's key, made if it is not there; None where no secrets are configured.

        Raises :class:`ConfigError`, for one that is open to others too.
        """
        secrets = self._config.secrets
        if secrets is None:
            return None
        if key_file.is_credential(secrets) and "CREDENTIALS_DIRECTORY" not in os.environ:
            return HostKey(None)
        made = key_file.ensure_key(secrets)
        return HostKey(tuple(age_key.recipients(key_file.read_key(secrets))), made)

    async def plan(self, *, unseen: bool) -> tuple[Plan, str] | None:
        """The plan for the applied commit, and that commit; None: nothing was applied yet.

        Raises :class:`CommitdError` while it is not known for sure what would be removed. With
        nothing applied that is known where no container is, or does not matter: ``unseen``.
        """
        if paused := [each.stack for each in self._journal.suspensions(self._journal.now())]:
            subjects = ", ".join(stack or self._config.host for stack in paused)
            raise HeldError(
                f"{subjects} is suspended, so that what would go cannot be shown",
                hint="commitd resume first",
            )
        if self._journal.get("declared") is None:
            if not unseen:
                self._refuse_unless_empty()
            return None
        plan, sha = await plan_view.planned(self._config, self._journal, None)
        doubt = Reason.LIST_IN_DOUBT
        doubts = [hold.detail for hold in plan.holds if hold.reason is doubt]
        doubts += [h["detail"] for h in self._journal.holds() if h["reason"] == doubt]
        if doubts:
            raise HeldError(
                f"what Git declares is in doubt, so what would be removed is unknown: {doubts[0]}",
                hint="mend that first",
            )
        return plan, sha

    def _refuse_unless_empty(self) -> None:
        containers = list_containers(self._config)
        if containers is None:
            raise UnreachableError(
                "the engine does not answer, so what would be removed is unknown",
                hint="start Docker (systemctl start docker); --yes agrees unseen",
            )
        if containers:
            raise HeldError(
                "no commit was read yet, so what Git declares for this host is unknown",
                hint=f"{directories.look_now(self._config)} finds out; then commitd enroll",
            )

    async def agree(self, *, actor: str) -> None:
        """Enrol the host for ``actor``: what Git does not declare is removed from now on."""
        await AsyncJournal(self._journal).put("enrolled", utcnow())
        await note(self._journal, self._config.host, Reason.ENROLLED, actor=actor)
