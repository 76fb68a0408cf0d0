"""The journal: what was done and why, and what the agent must remember. One SQLite file.

Everything that is done is written before it is done, and its outcome after; a killed agent leaves
an open entry, which the next one closes as cancelled. Nothing in it is secret. All methods block:
on an event loop :mod:`agent.adapters.state.async_journal` stands for it, and it
alone writes actions.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Collection, Iterable, Mapping
from contextlib import closing, suppress
from datetime import timedelta
from typing import Any

from agent.adapters.state.actions import Actions, entry_of
from agent.adapters.state.database import utcnow
from agent.adapters.state.overrides import OperatorOverrides
from agent.adapters.state.releases import Releases
from agent.domain.config import Config
from agent.domain.outcome import Reason
from agent.domain.reconcile.actions import Hold

ACTIONS_KEPT = timedelta(days=180)
EVICTED_KEPT = timedelta(days=30)
"""How long the journal remembers finished actions, and containers that are not kept (any more); of
the time that the machine has run."""

APPROVED_AGENT = "agent-approved"
"""Where the version of the agent is kept that a person has agreed to."""
STANDBY = "standby"
"""Where a manager of a Swarm keeps which other one leads; null: it does itself."""
CLIFF = "cliff"
"""Where a Swarm's manager keeps which stacks are held as a cliff, by it or by the leader before."""
SALT = "salt"
"""Where :meth:`Journal.salt` is kept: random, in hexadecimal digits."""


class Journal(Releases, Actions, OperatorOverrides):
    """The journal of one host."""

    def salt(self) -> str:
        """The host's own, for digests of what nobody may see; made when first asked for."""
        found = self.get(SALT)
        if found is None:
            found = secrets.token_hex(16)
            self.put(SALT, found)
        return str(found)

    def next_due(self, now: float) -> float | None:
        """When, as :meth:`now` counts, the next wait, suspension or exemption is over by itself."""
        rows = self._rows(
            "SELECT MIN(at) AS at FROM (SELECT next_at AS at FROM attempts WHERE NOT permanent"
            " UNION SELECT until FROM suspensions UNION SELECT until FROM undone) WHERE at > ?",
            (now,),
        )
        due: float | None = rows[0]["at"]
        return due

    # --- holds ---

    def keep_holds(self, holds: Iterable[Hold], *, found_later: Collection[str] = ()) -> list[Hold]:
        """Remember ``holds`` as all there are, but for reasons that are ``found_later``.

        Returns those that are new or have a new detail.
        """
        wanted = {(hold.subject, hold.reason.value): hold for hold in holds}
        known = {
            (row["subject"], row["reason"]): row["detail"]
            for row in self._rows("SELECT * FROM holds")
        }
        new = [hold for key, hold in wanted.items() if known.get(key) != hold.detail]
        over = {key for key in known.keys() - wanted.keys() if key[1] not in found_later}
        if not new and not over:
            return []
        with self._write() as db:
            for key in over:
                db.execute("DELETE FROM holds WHERE subject = ? AND reason = ?", key)
            for hold in new:
                db.execute(
                    "INSERT INTO holds VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE"
                    " SET detail = excluded.detail, needs_person = excluded.needs_person",
                    (
                        hold.subject,
                        hold.reason.value,
                        hold.detail,
                        int(hold.needs_person),
                        utcnow(),
                    ),
                )
        return new

    def holds(self) -> list[dict[str, Any]]:
        """Current holds: subject, reason, detail, needs_person, since."""
        rows = self._rows("SELECT * FROM holds ORDER BY needs_person DESC, subject")
        return [
            {
                **dict(row),
                "reason": Reason.read(row["reason"], otherwise=Reason.OTHER),
                "needs_person": bool(row["needs_person"]),
            }
            for row in rows
        ]

    # --- plaintext, helpers ---

    def plaintext(self) -> dict[str, str]:
        """Secret files that are decrypted: path of the ciphertext to its Git object."""
        return {row["path"]: row["oid"] for row in self._rows("SELECT * FROM plaintext")}

    def keep_plaintext(self, oids: Mapping[str, str]) -> None:
        """The plaintext of these ciphertexts is in place, by path; "" where that is unknown."""
        with self._write() as db:
            db.executemany("INSERT OR REPLACE INTO plaintext VALUES (?, ?)", oids.items())

    def forget_plaintext(self, path: str) -> None:
        """The plaintext is gone."""
        with self._write() as db:
            db.execute("DELETE FROM plaintext WHERE path = ?", (path,))

    def keep_helper(self, container_id: str) -> None:
        """A helper container is about to start."""
        with self._write() as db:
            db.execute("INSERT OR REPLACE INTO helpers VALUES (?)", (container_id,))

    def forget_helper(self, container_id: str) -> None:
        """The helper is gone."""
        with self._write() as db:
            db.execute("DELETE FROM helpers WHERE id = ?", (container_id,))

    def helpers(self) -> list[str]:
        """Helpers that were not seen to end."""
        return [row["id"] for row in self._rows("SELECT id FROM helpers")]

    def verify(self) -> None:
        """Read all that the agent depends on. Raises :class:`DamagedError` for what is not whole.

        A bit that has changed within a row shows where that row makes no sense any more. A code or
        a key that only another version knows is none.
        """
        self.check_pages()
        try:
            self.releases(), self.attempts(), self.rollbacks(), self.suspensions(0.0)
            self.holds(), self.evicted(), self.granted(0.0)
            for row in self._rows("SELECT value FROM meta"):
                json.loads(row["value"])
            if declared := self.get("declared"):
                str(declared["revision"]["sha"])
            with closing(self._each("SELECT * FROM actions")) as rows:
                for row in rows:
                    entry_of(row)
        except (ValueError, LookupError, TypeError, AttributeError) as err:
            raise self.damaged(err) from None

    def prune(self) -> int:
        """Forget what is long over, but not while the clocks are unsettled; how much it was.

        Actions that go on and containers that are still kept stay, however old.
        """
        if self.unsettled():
            return 0
        now = self.now()
        with self._write() as db:
            actions = self._forget_actions(db, now - ACTIONS_KEPT.total_seconds())
            evicted = db.execute(
                "DELETE FROM evicted WHERE (over OR action = 'reported') AND ran < ?",
                (now - EVICTED_KEPT.total_seconds(),),
            )
        return actions + evicted.rowcount


def open_journal(config: Config, *, read_only: bool = True, new: bool = False) -> Journal:
    """The journal of this host for a verb; where there is none, only ``new`` makes one."""
    path, begin = config.state_dir / "journal.db", True
    with suppress(PermissionError):  # which the journal says better
        begin = not worked_before(config)
        read_only = read_only or not ((new and begin) or path.exists())
    return Journal(path, read_only=read_only, upgrade=False, begin=begin)


def worked_before(config: Config) -> bool:
    """Whether an agent has worked on this host: then a journal that is not there was lost."""
    clones = (config.state_dir / "git", config.state_dir / "repo" / ".git")
    return any(clone.exists() for clone in clones)
