"""What a journal has of what managers share: read for the records, and taken from them.

Each function is one trip to the journal, and blocks.
"""

from __future__ import annotations

import msgspec
from msgspec.structs import replace

from agent.adapters.state.journal import APPROVED_AGENT, CLIFF, SALT, Journal
from agent.adapters.state.releases import Rollback
from agent.domain.release.identity import Known
from agent.domain.revision import Revision
from agent.domain.swarm import records
from agent.domain.swarm.records import Approval, ClusterRecord, RolledBack, StackRecord

NOTED = "swarm-records"
"""Where the journal keeps which version of each record it was last the same as: ID and version."""
ORDERS = "swarm-orders"
"""Where it keeps which orders the record had that it noted, in words."""
SWARM = "swarm"
"""Where it keeps the ID of the Swarm that it is about."""


def stacks(journal: Journal) -> frozenset[str]:
    """Those of which something is remembered."""
    return frozenset({*journal.releases(), *journal.attempts(), *journal.rollbacks()})


def forget(journal: Journal, stack: str) -> None:
    """Remember nothing of it any more.

    A function of its own, as the journal's would be shared: with the records that are read now.
    """
    journal.forget_release(stack)


def enter(journal: Journal, cluster: str) -> bool:
    """Work in the Swarm of this ID from now on; whether the journal was another one's until now.

    Then what is known of stacks there, and what people agreed to there, is forgotten.
    """
    before = journal.get(SWARM)
    if before == cluster:
        return False
    if before is not None:
        for key in ("enrolled", NOTED, ORDERS):
            journal.forget(key)
        journal.take_approvals({})
        for stack in stacks(journal):
            forget(journal, stack)
    journal.put(SWARM, cluster)  # the last: what is cut short is done again
    return before is not None


def collected(journal: Journal, own: str, host: str) -> tuple[ClusterRecord, list[StackRecord]]:
    """What the records should be: of the cluster ``host``, by its leader ``own``."""
    releases, attempts, rollbacks = journal.releases(), journal.attempts(), journal.rollbacks()
    stacks = []
    for stack in sorted({*releases, *attempts, *rollbacks}):
        attempt, back = attempts.get(stack), rollbacks.get(stack)
        if attempt:
            attempt = replace(attempt, next_at=journal.shown(attempt.next_at))
        stacks.append(
            StackRecord(
                stack=stack,
                release=releases.get(stack),
                attempt=attempt,
                rollback=RolledBack(back.digest, back.revision, back.reason) if back else None,
                started=journal.started(stack),
            )
        )
    return _cluster(journal, own, host), stacks


def _cluster(journal: Journal, own: str, host: str) -> ClusterRecord:
    declared, without_data = journal.get("declared"), journal.approved_without_data()
    revision = msgspec.convert(declared["revision"], Revision) if declared else None
    return ClusterRecord(
        salt=journal.salt(),
        host=host,
        leader=own,
        enrolled=journal.get("enrolled"),
        applied=revision,
        cliff=tuple(journal.get(CLIFF) or ()),
        approvals=tuple(Approval(sha, sha in without_data) for sha in sorted(journal.approved())),
        suspensions=journal.suspensions(journal.now()),
        granted=journal.granted(journal.now()),
        agent=journal.get(APPROVED_AGENT),
    )


def take_stack(journal: Journal, record: StackRecord) -> None:
    """Remember of a stack what the record says, and nothing else."""
    stack, release, attempt = record.stack, record.release, record.attempt
    journal.forget_release(stack)
    if release:
        if release.own is not None:
            journal.keep_made(stack, Known(release.own))
        journal.keep_release(release)
        if release.dirty:
            journal.mark_dirty(stack)
    if record.started:
        journal.keep_started(stack, record.started)
    if attempt:
        journal.keep_attempt(replace(attempt, next_at=_ran(journal, attempt.next_at)))
    if record.rollback:
        back = record.rollback
        journal.roll_back(stack, Rollback(back.digest, back.revision, back.reason))


def take_orders(journal: Journal, record: ClusterRecord, host: str) -> frozenset[str]:
    """Have what people ordered on another manager count here, and what waits for their order.

    Returns, in words, what was ordered here, was in no record yet, and does not count any more.
    """
    given = records.orders(_cluster(journal, record.leader, host))
    lost = given - records.orders(record) - frozenset(journal.get(ORDERS) or ())
    journal.put(SALT, record.salt)
    journal.put(CLIFF, record.cliff)
    for key, value in (("enrolled", record.enrolled), (APPROVED_AGENT, record.agent)):
        if value is None:
            journal.forget(key)
        else:
            journal.put(key, value)
    journal.take_approvals({each.sha: each.without_data for each in record.approvals})
    suspended = {each.stack for each in record.suspensions}
    for suspension in journal.suspensions(journal.now()):
        if suspension.stack not in suspended:
            journal.resume(suspension.stack)
    for suspension in record.suspensions:
        until = None if suspension.until is None else _ran(journal, suspension.until)
        journal.suspend(replace(suspension, until=until))
    for identifier, until in record.granted.items():
        journal.exempt(identifier, _ran(journal, until))
    return lost


def take_applied(journal: Journal, applied: Revision | None) -> None:
    """Go on from the commit that the leader before enforced: the clone here may be older.

    As after an older clone was put back: see Follower. A clone that is ahead of it stays ahead.
    """
    declared = journal.get("declared")
    if applied is None or (declared and declared["revision"]["sha"] == applied.sha):
        return
    revision = msgspec.to_builtins(applied)
    journal.put("declared", {"revision": revision, "stacks": {}, "broken": {}, "notes": {}})
    journal.put("attempted", revision)


def _ran(journal: Journal, wall: float) -> float:
    """A time of the wall clock as this machine's journal counts."""
    return wall - journal.shown(0.0)
