"""What people have ordered on this host: approvals, suspensions, containers brought back."""

from __future__ import annotations

from collections.abc import Mapping

from agent.adapters.state.database import utcnow
from agent.adapters.state.passing_time import PassingTime
from agent.domain.reconcile.exemptions import Suspension

_HOST = ""
"""Stands for the whole host where a stack's name would be."""


class OperatorOverrides(PassingTime):
    """The part of the journal that commands write and the agent obeys.

    Times of an end are as :meth:`now` counts; what is over counts no more, and is forgotten by
    :meth:`end_orders`. Those that are read are as the wall clock shows them.
    """

    def approve(self, sha: str, *, without_data: bool = False) -> None:
        """A person on the host accepted this commit, with what it removes or rewrites.

        ``without_data``: also that renamed stacks start without what is under their old names. A
        second order replaces the first.
        """
        values = (sha, utcnow(), without_data)
        self._do("INSERT OR REPLACE INTO approvals VALUES (?, ?, ?)", values)

    def approved(self) -> frozenset[str]:
        """Accepted commits."""
        return frozenset(row["sha"] for row in self._rows("SELECT sha FROM approvals"))

    def approved_without_data(self) -> frozenset[str]:
        """Those of which also that was accepted that stacks start without their data."""
        rows = self._rows("SELECT sha FROM approvals WHERE without_data")
        return frozenset(row["sha"] for row in rows)

    def take_approvals(self, approved: Mapping[str, bool]) -> None:
        """Those of another manager in place of all here; whether each is ``without_data``."""
        before = self.approved_without_data()
        if approved == {sha: sha in before for sha in self.approved()}:
            return
        with self._write() as db:
            db.execute("DELETE FROM approvals")
            values = [(sha, utcnow(), without_data) for sha, without_data in approved.items()]
            db.executemany("INSERT INTO approvals VALUES (?, ?, ?)", values)

    def end_approvals(self, sha: str) -> None:
        """The host moves to ``sha``: what was approved of any other commit was for moves before.

        So it lets one rewrite through once, and what a commit removes while that is the applied
        one; a host that comes back to it asks again.
        """
        self._do("DELETE FROM approvals WHERE sha <> ?", (sha,))

    def suspend(self, suspension: Suspension) -> None:
        """Take a stack or the host out of the agent's hands; a second order replaces the first.

        Here ``until`` is as :meth:`now` counts.
        """
        self._do(
            "INSERT OR REPLACE INTO suspensions (stack, until, reason, since, actor)"
            " VALUES (?, ?, ?, ?, ?)",
            (
                suspension.stack or _HOST,
                suspension.until,
                suspension.reason,
                suspension.since,
                suspension.actor,
            ),
        )

    def resume(self, stack: str | None) -> bool:
        """Give it back; False when it was not suspended."""
        with self._write() as db:
            done = db.execute("DELETE FROM suspensions WHERE stack = ?", (stack or _HOST,))
        return done.rowcount > 0

    def suspensions(self, now: float) -> tuple[Suspension, ...]:
        """Those that hold at ``now``."""
        rows = self._rows(
            "SELECT stack, until, reason, since, actor FROM suspensions"
            " WHERE until IS NULL OR until > ? ORDER BY stack",
            (now,),
        )
        return tuple(
            Suspension(
                row["stack"] or None,
                None if row["until"] is None else self.shown(row["until"]),
                row["reason"],
                row["since"],
                row["actor"],
            )
            for row in rows
        )

    def exempt(self, container_id: str, until: float) -> None:
        """Leave this container alone until then, although nobody declared it."""
        self._do("INSERT OR REPLACE INTO undone VALUES (?, ?)", (container_id, until))

    def granted(self, now: float) -> dict[str, float]:
        """IDs of containers that were brought back, and until when they are left alone."""
        rows = self._rows("SELECT id, until FROM undone WHERE until > ?", (now,))
        return {row["id"]: self.shown(row["until"]) for row in rows}

    def end_orders(self, now: float) -> list[str | None]:
        """Forget what is over at ``now``; what is suspended no more (None: the host)."""
        rows = self._rows("SELECT stack FROM suspensions WHERE until <= ?", (now,))
        if rows or self._rows("SELECT id FROM undone WHERE until <= ?", (now,)):
            with self._write() as db:
                db.execute("DELETE FROM suspensions WHERE until <= ?", (now,))
                db.execute("DELETE FROM undone WHERE until <= ?", (now,))
        return [row["stack"] or None for row in rows]
