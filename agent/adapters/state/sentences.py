"""Journals of versions that wrote sentences where codes are now.

What they say is kept: a sentence that is known becomes its code, of any other the text stays as
the detail of :attr:`Reason.OTHER`.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Mapping

from msgspec.structs import asdict

from agent.domain.outcome import Action, Cause, CauseKind, Reason

_REASONS = {
    "declared and not there yet": Reason.NEW,
    "its files changed": Reason.CHANGED,
    "what runs is not what was deployed": Reason.DRIFTED,
    "it failed, and looks well by now": Reason.LATE,
    "no longer declared": Reason.LEFT,
    "its stack left": Reason.LEFT,
    "its service left the stack": Reason.SERVICE_LEFT,
    "its order cannot be kept": Reason.ORDER,
    "it comes after a stack that is not up": Reason.AFTER,
    "its new release was not healthy": Reason.ROLLED_BACK,
    "its new name is not up yet": Reason.RENAMED,
    "a person suspended it": Reason.SUSPENDED,
    "a person resumed it": Reason.RESUMED,
    "brought back by commitd undo": Reason.UNDONE,
    "it belongs here again": Reason.DECLARED_AGAIN,
    "its time was over": Reason.KEEP_EXPIRED,
    "belongs to no Compose project": Reason.NO_PROJECT,
    "its project is not declared": Reason.UNKNOWN_PROJECT,
    "its project declares no such service": Reason.UNKNOWN_SERVICE,
    "this host is not enrolled": Reason.NOT_ENROLLED,
    "what is declared is in doubt": Reason.LIST_IN_DOUBT,
    "it would take down too much at once": Reason.CLIFF,
    "its files are invalid": Reason.INVALID,
    "a secret it needs cannot be decrypted": Reason.SECRET,
    "it failed and waits for its next try": Reason.BACKOFF,
    "it failed and waits for a change": Reason.FAILED,
    "too many containers were ended in a short time": Reason.RATE,
    "evicting it failed": Reason.EVICTION,
    "ending it would delete volumes": Reason.VOLUMES,
    "undeclared containers are only reported": Reason.REPORT_ONLY,
    "the remote's history does not continue the applied one": Reason.HISTORY,
    "the branch to follow is not there": Reason.BRANCH,
    "its signature is missing or not trusted": Reason.SIGNATURE,
    "the commit cannot be checked out safely": Reason.TREE,
    "a new commit cannot be fetched": Reason.FETCH,
    "the remote has a new commit": Reason.NEW_HEAD,
    "tracked files were edited on the host": Reason.LOCAL_EDIT,
}
_OF_SERVICES = {
    "files that are mounted into it changed": Reason.MOUNTED,
    "undone from outside during the health gate": Reason.INTERFERENCE,
    "a container whose namespaces it shares was started again": Reason.NAMESPACE,
    "a service that it depends on was started again": Reason.FOLLOWS,
    "its networks or limits were changed by hand": Reason.BY_HAND,
}
_OF_SERVICE = re.compile(rf"(.+?): ({'|'.join(_OF_SERVICES)})(?:: (\S+))?")
"""Services, what happened, and what was done about it."""
_IN_THE_WAY = re.compile(r"its service left the stack, which wants its (.+)")


_SERVICE = r"(?P<stack>[a-z0-9][a-z0-9_-]*)/(?P<service>[\w.-]+)"
_CAUSES = (
    (CauseKind.VOLUME, re.compile(r"volume (?P<name>.+)")),
    (CauseKind.CONTAINER, re.compile(r"container (?P<name>[0-9a-f]{12})")),
    (CauseKind.RELEASE, re.compile(r"release")),
    (CauseKind.ADOPTED, re.compile(r"(?P<stack>[a-z0-9][a-z0-9_-]*) containers")),
    (CauseKind.DEPLOYMENT, re.compile(r"(?P<stack>[a-z0-9][a-z0-9_-]*) deploy")),
    (CauseKind.IMAGE, re.compile(f"{_SERVICE} image")),
    (CauseKind.CONFIG, re.compile(f"{_SERVICE} settings")),
    (CauseKind.CONTAINERS, re.compile(f"{_SERVICE} containers")),
    (CauseKind.STATE, re.compile(f"{_SERVICE} state")),
    (CauseKind.NAMESPACE, re.compile(f"{_SERVICE} namespace")),
    (CauseKind.CONTAINER_NAME, re.compile(f"{_SERVICE} name")),
    (CauseKind.NETWORK, re.compile(f"{_SERVICE} network (?P<name>.+)")),
    (CauseKind.FILE, re.compile(r"(?P<name>(?:stacks|host|global)/.+)")),
    (CauseKind.SETTING, re.compile(f"{_SERVICE} (?P<name>[A-Z][A-Za-z]+)")),
)
"""How the ``path`` of a cause was written; the first that fits."""
_BY_REASON = {
    Reason.NEW_HEAD: (CauseKind.COMMIT, re.compile(r"(?P<name>.+)")),
    Reason.LOCAL_EDIT: (CauseKind.FILE, re.compile(r"(?P<name>.+)")),
    Reason.INTERFERENCE: (CauseKind.STATE, re.compile(_SERVICE)),
    Reason.NAMESPACE: (CauseKind.RESTARTED, re.compile(f"{_SERVICE}|(?P<name>.+)")),
    Reason.FOLLOWS: (CauseKind.RESTARTED, re.compile(_SERVICE)),
}
"""What some actions wrote that nothing else did."""


def to_codes(db: sqlite3.Connection) -> None:
    """Put codes in the place of sentences, in a transaction of the caller."""
    for row in db.execute("SELECT id, action, reason, cause FROM actions").fetchall():
        action = Action(row["action"])
        reason, detail = _reason(row["reason"], action)
        causes = [asdict(_cause(old, action, reason)) for old in json.loads(row["cause"])]
        db.execute(
            "UPDATE actions SET reason = ?, detail = ?, cause = ? WHERE id = ?",
            (reason, detail, json.dumps(causes), row["id"]),
        )
    for row in db.execute("SELECT id, reason FROM evicted").fetchall():
        reason, detail = _reason(row["reason"])
        db.execute(
            "UPDATE evicted SET reason = ?, detail = ? WHERE id = ?", (reason, detail, row["id"])
        )
    for row in db.execute("SELECT subject, reason FROM holds").fetchall():
        reason, _ = _reason(row["reason"])
        db.execute(
            "UPDATE OR REPLACE holds SET reason = ? WHERE subject = ? AND reason = ?",
            (reason, row["subject"], row["reason"]),
        )
    db.execute("DELETE FROM meta WHERE key = 'exempt'")  # written anew in each cycle


def _reason(text: str, action: Action | None = None) -> tuple[Reason, str | None]:
    if action is Action.ROLLBACK:
        return Reason.ROLLED_BACK, text
    if text in _REASONS:
        return _REASONS[text], None
    if found := _OF_SERVICE.fullmatch(text):
        services, what, how = found.groups()
        return _OF_SERVICES[what], f"{how} {services}" if how else services
    if found := _IN_THE_WAY.fullmatch(text):
        return Reason.IN_THE_WAY, found[1]
    return Reason.OTHER, text


def _cause(old: Mapping[str, str | None], action: Action, reason: Reason) -> Cause:
    text = old["path"] or ""
    known = [_BY_REASON[reason]] if reason in _BY_REASON else []
    if action is Action.REMOVE_STACK and text.endswith("/stacks.yaml"):
        known = [(CauseKind.LIST, re.compile(r"(?P<name>.+)"))]
    found = (
        (kind, match) for kind, shape in (*known, *_CAUSES) if (match := shape.fullmatch(text))
    )
    kind, fields = next(found, (CauseKind.UNKNOWN, None))
    moved = {"before": old["before"], "after": old["after"], "commit": old.get("commit")}
    return Cause(kind=kind, **moved, **(fields.groupdict() if fields else {"name": text}))
