"""The codes of what the agent does and why. Programs get the code, people its text.

A code is a promise: it is in the journal, in JSON and in ``docs/reference/codes.md``, and does not
change with the wording.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from agent.domain.errors import CancelledError, CommitdError, HeldError


class Reason(StrEnum):
    """Why the agent does something."""

    NEW = "declared and not there yet"
    CHANGED = "its files changed"
    DRIFTED = "what runs is not what was deployed"
    LATE = "it failed, and looks well by now"
    LEFT = "no longer declared"
    MOUNTED = "files that are mounted into it changed"
    UNDONE = "undone from outside during the health gate"
    NAMESPACE = "a container whose namespaces it shares was started again"
    FOLLOWS = "a service that it depends on was started again"
    BY_HAND = "its networks or limits were changed by hand"
    ORDER = "its order cannot be kept"
    AFTER = "it comes after a stack that is not up"
    ROLLED_BACK = "its new release was not healthy"
    RENAMED = "its new name is not up yet"
    SUSPENDED = "a person suspended it"
    NO_PROJECT = "belongs to no Compose project"
    UNKNOWN_PROJECT = "its project is not declared"
    UNKNOWN_SERVICE = "its project declares no such service"
    NOT_ENROLLED = "this host is not enrolled"
    LIST_IN_DOUBT = "what is declared is in doubt"
    CLIFF = "it would take down too much at once"
    INVALID = "its files are invalid"
    SECRET = "a secret it needs cannot be decrypted"  # noqa: S105  a reason
    BACKOFF = "it failed and waits for its next try"
    FAILED = "it failed and waits for a change"
    RATE = "too many containers were ended in a short time"
    EVICTION = "evicting it failed"
    VOLUMES = "ending it would delete volumes"
    REPORT_ONLY = "undeclared containers are only reported"
    HISTORY = "the remote's history does not continue the applied one"
    BRANCH = "the branch to follow is not there"
    SIGNATURE = "its signature is missing or not trusted"
    TREE = "the commit cannot be checked out safely"
    FETCH = "a new commit cannot be fetched"
    NEW_HEAD = "the remote has a new commit"
    LOCAL_EDIT = "tracked files were edited on the host"


@dataclass(frozen=True, slots=True)
class Cause:
    """One thing that moved: a file (by Git object), a commit, an image or a container's state."""

    path: str
    before: str | None
    after: str | None
    commit: str | None = None

    def as_json(self) -> dict[str, str | None]:
        """As ``history --json`` and ``plan --json`` show it."""
        return {
            "path": self.path,
            "from": self.before,
            "to": self.after,
            "commit": self.commit,
        }


class Status(StrEnum):
    """How an action ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    SKIPPED = "skipped"
    HELD = "held"
    CANCELLED = "cancelled"

    @classmethod
    def of(cls, error: CommitdError | None) -> Status:
        """Of what ended with this error, or without one."""
        if error is None:
            return cls.SUCCEEDED
        if isinstance(error, HeldError):
            return cls.HELD
        return cls.CANCELLED if isinstance(error, CancelledError) else cls.FAILED


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one action on one subject ended; ``error`` holds no secret.

    After ``interference`` by somebody else nothing follows about what was deployed.
    """

    subject: str
    status: Status
    error: str | None = None
    permanent: bool = False
    attempts: int = 1
    interference: bool = False


class Coded(StrEnum):
    """An enum whose value is a stable code in kebab case; ``text`` says it to people."""

    _value_: str
    text: str

    def __new__(cls, code: str, text: str = "") -> Self:
        """A member is written ``NAME = "the-code", "the text"``."""
        member = str.__new__(cls, code)
        member._value_ = code
        member.text = text
        return member


class Action(Coded):
    """A kind of entry in the journal; its text is what goes on while it is not finished."""

    DEPLOY = "deploy", "deploying"
    RESTART = "restart", "repairing"
    ROLLBACK = "rollback", "rolling back"
    REMOVE_STACK = "remove-stack", "removing"
    EVICT = "evict", "evicting"
    HOLD = "hold", "holding"
    ACCEPT = "accept", "checking out a commit for"


class EvictionAction(Coded):
    """What was done with a container that nobody declared."""

    REMOVED = "removed", "stopped, and removed when its time is over"
    STOPPED = "stopped", "stopped, and kept"
    REPORTED = "reported", "left running and reported"
    EXEMPT = "exempt", "left running: a rule exempts it"
