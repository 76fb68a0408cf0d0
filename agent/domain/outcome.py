"""The codes of what the agent does and why. Programs get the code, people its text.

A code is a promise: it is in the journal, in JSON and in ``docs/reference/codes.md``, and does not
change with the wording.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import StrEnum
from typing import Self

from msgspec import Struct

from agent.domain.errors import CancelledError, CommitdError, HeldError, PermanentError

_CODE = re.compile(r"[a-z]+(-[a-z]+)*")


def checked_code(text: str) -> str:
    """The text, which is a code of this or another version. Raises :class:`ValueError`."""
    if not _CODE.fullmatch(text):
        raise ValueError(f"{text!r} is no code")
    return text


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

    @classmethod
    def read(cls, code: str, *, otherwise: Self) -> Self:
        """The member of a ``code`` that was kept; ``otherwise`` where another version has written.

        Raises :class:`ValueError` for what is no code at all.
        """
        try:
            return cls(code)
        except ValueError:
            checked_code(code)
            return otherwise


class Action(Coded):
    """A kind of entry in the journal; its text is what happens while it is not finished."""

    DEPLOY = "deploy", "deploying"
    RESTART = "restart", "repairing"
    ROLLBACK = "rollback", "rolling back"
    REMOVE_STACK = "remove-stack", "removing"
    EVICT = "evict", "evicting"
    HOLD = "hold", "holding"
    ACCEPT = "accept", "checking out a commit for"
    OTHER = "other", "doing what another version of commitd knows with"


class Phase(Coded):
    """A part of a deploy that is measured; its text is what happens meanwhile."""

    READ = "read", "Compose reads its files, and the policy judges them"
    PULL = "pull", "its images are pulled"
    WAIT = "wait", "the stacks that it comes after become healthy"
    CREATE = "create", "its networks, volumes and containers are made and started"
    GATE = "gate", "it becomes healthy; what waits for others of its services starts"


class EvictionAction(Coded):
    """What was done with a container that nobody declared."""

    REMOVED = "removed", "stopped, and removed when its time is over"
    STOPPED = "stopped", "stopped, and kept"
    REPORTED = "reported", "left running and reported"
    EXEMPT = "exempt", "left running: a rule exempts it"


class Reload(Coded):
    """What a service gets of which only mounted files changed (``on_change``); weakest first."""

    NONE = "none", "left as it is"
    SIGNAL = "signal", "sent a signal"
    RESTART = "restart", "restarted"
    RECREATE = "recreate", "recreated"

    @classmethod
    def of(cls, how: str) -> Self:
        """The kind of what a file asks for, which names the signal (``signal:HUP``)."""
        return cls(how.partition(":")[0])


class Pins(Coded):
    """What becomes of an image that is not named by its digest."""

    REQUIRE = "require", "refused"
    WARN = "warn", "deployed with a warning"


class Reason(Coded):
    """Why the agent does something, or does not; its text is about the subject of the sentence."""

    NEW = "new", "declared and not deployed yet"
    CHANGED = "changed", "its files changed"
    DRIFTED = "drifted", "what runs is not what was deployed"
    INTERRUPTED = "interrupted", "its deployment was interrupted and goes on in the next cycle"
    LATE = "healthy-late", "it became healthy after its deadline"
    LEFT = "not-declared", "no longer declared"
    SERVICE_LEFT = "service-not-declared", "its service is no longer in the stack"
    IN_THE_WAY = "in-the-way", "it is not, or no longer, of the stack, which needs what it has"
    MOUNTED = "mounted-files-changed", "mounted files changed"
    INTERFERENCE = "interference", "undone from outside during the health gate"
    NAMESPACE = "namespace-restarted", "a container whose namespaces it shares was started again"
    FOLLOWS = "dependency-restarted", "a service that it depends on was started again"
    BY_HAND = "changed-by-hand", "its networks or limits were changed by hand"
    ORDER = "order-impossible", "its order cannot be kept"
    AFTER = "dependency-not-up", "it comes after a stack that is not up"
    ROLLED_BACK = "release-unhealthy", "its new release was not healthy"
    SWARM_BACK = "swarm-rolled-back", "the Swarm itself went back to the release before"
    PAUSED = "update-paused", "its update is paused"
    CRASH_LOOP = "crash-loop", "its tasks fail again and again"
    TASK_UNHEALTHY = "task-unhealthy", "its health check fails again and again"
    TASK_ENDED = "task-failed", "its tasks have failed, and no more of them are started"
    NO_NODE = "no-suitable-node", "no node can run it"
    NO_IMAGE = "image-not-found", "a node cannot get its image"
    REJECTED = "task-rejected", "a node refuses its task"
    TIMEOUT = "health-timeout", "it was not healthy in time"
    RENAMED = "new-name-not-up", "its new name is not up yet"
    DATA = "data-under-old-name", "its data is under its old name"
    SUSPENDED = "suspended", "a person suspended it"
    RESUMED = "resumed", "a person resumed it"
    APPROVED = "approved", "a person approved the commit"
    RETRIED = "retried", "a person has it tried again"
    ENROLLED = "enrolled", "a person enrolled this host"
    DISMISSED = "dismissed", "a person had the agent leave this host"
    UNDONE = "brought-back", "brought back by commitd undo"
    DECLARED_AGAIN = "declared-again", "it is declared again"
    KEEP_EXPIRED = "keep-expired", "its keep time is over"
    NO_PROJECT = "no-project", "belongs to no stack"
    UNKNOWN_PROJECT = "unknown-project", "its project is not declared"
    UNKNOWN_SERVICE = "unknown-service", "its stack declares no such service"
    UNKNOWN_CONTAINER = "unknown-container", "no deploy made it, whatever its labels say"
    ALLOWED = "allow-rule", "allowed by a rule"
    HELPER = "agent-helper", "a helper of the agent"
    SWARM = "swarm-task", "a Swarm task"
    ONE_OFF = "one-off", "a one-off, a hook or one half of a recreate, of a declared stack"
    NOT_ENROLLED = "not-enrolled", "this host is not enrolled"
    OTHER_MACHINE = "keys-of-another-machine", "its keys were made on another machine"
    JOURNAL = "journal-set-aside", "the journal could not be read"
    LIST_IN_DOUBT = "declaration-in-doubt", "what is declared is in doubt"
    CLIFF = "teardown-limit", "exceeds teardown_limit"
    INVALID = "invalid-files", "its files are invalid"
    SECRET = "secret-not-decrypted", "a secret it needs cannot be decrypted"
    BACKOFF = "retry-pending", "it failed and waits for its next try"
    FAILED = "failed", "it failed and waits for a change"
    RATE = "eviction-rate", "too many were stopped within a minute"
    EVICTION = "eviction-failed", "evicting it failed"
    VOLUMES = "would-delete-volumes", "stopping it would delete volumes"
    REPORT_ONLY = "report-only", "what is undeclared is only reported"
    HISTORY = "history-rewritten", "the remote's history does not continue the applied one"
    BRANCH = "branch-missing", "the branch to follow is not there"
    SIGNATURE = "signature-not-trusted", "its signature is missing or not trusted"
    TREE = "unsafe-checkout", "the commit cannot be checked out safely"
    FETCH = "fetch-failed", "a new commit cannot be fetched"
    UNJUDGED = "commit-not-judged", "a new commit is still being fetched or looked at"
    NEW_HEAD = "new-commit", "the remote has a new commit"
    LOCAL_EDIT = "local-edits", "tracked files were edited on the host"
    ENGINE_AWAY = "engine-away", "the engine does not answer"
    LEADER_IDLE = "leader-idle", "no agent acts where the Swarm is led"
    RECORD = "swarm-record", "what managers share of it cannot be read or written"
    NOTHING_TO_RUN = "nothing-to-run", "it has nothing to run"
    NO_EFFECT = "no-effect", "something in its files has no effect"
    AGENT_UPGRADED = "agent-upgraded", "a new version of the agent has shown that it is healthy"
    AGENT_UNHEALTHY = "agent-unhealthy", "a new version of the agent was not healthy"
    OTHER = "other", "written by another version of commitd"

    def message(self, detail: str | None = None) -> str:
        """For people, with the ``detail`` of this one case."""
        if self is Reason.OTHER and detail:
            return detail
        return f"{self.text}: {detail}" if detail else self.text


class CauseKind(Coded):
    """What moved."""

    FILE = "file", "file"
    COMMIT = "commit", "commit"
    LIST = "list", "list"
    RELEASE = "release", "release"
    IMAGE = "image", "image"
    CONFIG = "config-hash", "settings"
    CONTAINERS = "containers", "containers"
    REPLACED = "replaced", "container"
    STATE = "state", "state"
    NAMESPACE = "namespace", "namespace of"
    RESTARTED = "restarted", "restarted"
    CONTAINER_NAME = "container-name", "name"
    NETWORK = "network", "network"
    SETTING = "setting", "setting"
    CONTAINER = "container", "container"
    SERVICE = "service", "service"
    VOLUME = "volume", "volume"
    ADOPTED = "adopted", "containers"
    DEPLOYMENT = "deployment", "deployment"
    UNKNOWN = "unknown", "unknown"


_PLAIN = {
    CauseKind.COMMIT,
    CauseKind.LIST,
    CauseKind.RESTARTED,
    CauseKind.SETTING,
    CauseKind.UNKNOWN,
}
"""Kinds whose names say what they are."""


class Cause(Struct, frozen=True, kw_only=True):
    """One thing that moved, of a ``stack`` or one of its services where it has one.

    ``name`` is the path of a file, ``remote/branch`` of a commit, a network, a setting, a volume,
    a Swarm's service, the beginning of a container's ID, or the service or container that is
    followed. ``before`` and
    ``after`` are its values: of files the Git object, and the mode if that is not 100644.
    """

    kind: CauseKind
    before: str | None
    after: str | None
    stack: str | None = None
    service: str | None = None
    name: str | None = None
    commit: str | None = None

    @property
    def subject(self) -> str:
        """What moved, for people."""
        if self.kind is CauseKind.FILE:
            return self.name or ""
        owner = "/".join(filter(None, (self.stack, self.service)))
        what = "" if self.kind in _PLAIN else self.kind.text
        return " ".join(filter(None, (owner, what, self.name)))

    @property
    def message(self) -> str:
        """What moved, from where to where, for people."""
        return f"{self.subject}: {short(self.before)} → {short(self.after)}"

    def as_json(self) -> dict[str, str | None]:
        """As ``history --json`` and ``plan --json`` show it."""
        return {
            "kind": self.kind,
            "stack": self.stack,
            "service": self.service,
            "name": self.name,
            "from": self.before,
            "to": self.after,
            "commit": self.commit,
            "message": self.message,
        }


class Total(Struct, frozen=True, kw_only=True):
    """How many actions of one kind have ended so, and how many seconds they took together."""

    action: Action
    reason: Reason
    status: str
    count: int
    seconds: float


def kept_volumes(names: Iterable[str]) -> tuple[Cause, ...]:
    """Volumes that lose their container and stay."""
    return tuple(
        Cause(kind=CauseKind.VOLUME, name=name, before="kept", after="kept") for name in names
    )


_LONG = re.compile(r"\b([0-9a-f]{12})[0-9a-f]{28,}\b")


def short(value: str | None) -> str:
    """A value as people read it: hashes and digests cut to twelve characters."""
    return _LONG.sub(r"\1", value) if value else "none"


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


class Outcome(Struct, frozen=True, kw_only=True):
    """How one action on one subject ended; ``error`` holds no secret.

    ``reason`` says what was wrong with what was deployed, if it is known more exactly.

    After ``interference`` by somebody else nothing follows about what was deployed.
    """

    subject: str
    status: Status
    error: str | None = None
    permanent: bool = False
    attempts: int = 1
    interference: bool = False
    reason: Reason | None = None

    @classmethod
    def of(cls, subject: str, error: CommitdError) -> Self:
        """Of what ended with this error before anything was touched."""
        return cls(
            subject=subject,
            status=Status.of(error),
            error=str(error),
            permanent=isinstance(error, PermanentError),
        )
