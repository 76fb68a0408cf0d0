"""The values that travel through the agent, all frozen.

Tree ──layout.read──▶ DesiredState ┐
Engine ──list──▶ Container … ──────┼─plan.plan──▶ Plan ──converge──▶ Outcome … ──▶ journal
Journal ──read──▶ Release …, Attempt … ┘
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from agent.domain import adjustable
from agent.domain.container import Container
from agent.domain.errors import CancelledError, CommitdError, HeldError
from agent.domain.exempt import AllowRule
from agent.domain.image_strings import Mention
from agent.domain.mentions import Variable
from agent.domain.settings import Settings


@dataclass(frozen=True, slots=True)
class Revision:
    """One commit. ``committed_at`` is ISO 8601 with the committer's offset."""

    sha: str
    author: str
    committed_at: str
    subject: str
    trailers: tuple[tuple[str, str], ...] = ()

    @property
    def short(self) -> str:
        """The seven characters people read."""
        return self.sha[:7]


@dataclass(frozen=True, slots=True)
class TreeEntry:
    """One path of a commit; ``mode`` as Git writes it (100644, 120000, 160000), size in bytes."""

    path: str
    mode: str
    oid: str
    size: int


Tree = Mapping[str, TreeEntry]


@dataclass(frozen=True, slots=True)
class EnvFile:
    """A file of values for Compose; ``oid`` is the Git object (of the ciphertext, if secret)."""

    path: str
    oid: str
    secret: bool


@dataclass(frozen=True, slots=True)
class Fault:
    """Something wrong in the repository: what, where (``file:line``), what to do.

    ``rule`` is the kind of fault for ``commitd check``.
    """

    message: str
    where: str
    hint: str | None = None
    rule: str = field(default="layout", compare=False)

    def __str__(self) -> str:
        return f"{self.where}: {self.message}" + (f" ({self.hint})" if self.hint else "")


@dataclass(frozen=True, slots=True)
class Stack:
    """A declared stack that can be read. ``digest`` names the whole of its inputs.

    ``services`` are those that its own file names, those of inactive profiles included; it has
    ``more`` when it includes other files, which may name others. ``build`` is whether the policy
    lets Compose build its images, ``pins`` what of images without a digest (require, warn);
    ``images`` is where its files name those, by service; ``variables`` are names of files that
    only Compose can finish. ``sealed`` are the secrets that are files and no variables,
    ``env_files`` the secret files that ``env_file:`` names, and whether with ``format: raw``.
    ``modes`` are those of inputs that are no plain files (100755, 120000), by path. ``called`` is
    what its file calls it, where that is something else; ``notes`` say what in it has no effect.
    """

    name: str
    compose: str
    environment: tuple[EnvFile, ...]
    inputs: tuple[tuple[str, str], ...]
    digest: str
    services: frozenset[str] = frozenset()
    more: bool = False
    build: bool = False
    pins: str = "require"
    settings: Settings = field(default_factory=Settings)
    images: Mapping[str, Mention] = field(default_factory=dict)
    variables: tuple[Variable, ...] = ()
    sealed: tuple[tuple[str, str], ...] = ()
    env_files: frozenset[tuple[str, bool]] = frozenset()
    modes: Mapping[str, str] = field(default_factory=dict)
    called: str | None = None
    notes: tuple[Fault, ...] = ()

    @property
    def versions(self) -> tuple[tuple[str, str], ...]:
        """The inputs, each with all that a container can see of it change: object and mode."""
        return with_modes(self.inputs, self.modes)

    @property
    def secrets(self) -> dict[str, str]:
        """All that is decrypted for it: paths to Git objects."""
        values = {file.path: file.oid for file in self.environment if file.secret}
        return {**values, **dict(self.sealed)}

    def owns(self, path: str) -> bool:
        """Whether the file is in its own directory."""
        return path.startswith(f"stacks/{self.name}/")

    def owner(self, secret: str) -> tuple[int, int] | None:
        """Whom the plaintext of a secret file shall belong to (user, group); None: to the agent."""
        place = f"stacks/{self.name}/"
        own = secret.startswith(place)
        return self.settings.owner(secret.removeprefix(place)) if own else None


def with_modes(
    files: Iterable[tuple[str, str]], modes: Mapping[str, str]
) -> tuple[tuple[str, str], ...]:
    """Paths and Git objects, with the mode behind the object where it is no plain file's."""
    return tuple((path, f"{oid} {modes[path]}" if path in modes else oid) for path, oid in files)


@dataclass(frozen=True, slots=True)
class DesiredState:
    """What one commit declares for one host.

    ``broken`` are stacks that are declared but cannot be read: what runs of them is protected.
    ``list_faults`` mean that the list itself, or what is allowed beside it, is in doubt: nothing
    may be removed. ``rolled_back`` are stacks whose release of this commit was not healthy, and
    why: in ``stacks`` they are as they were before. ``allow`` lets containers be that
    no stack declares.
    """

    revision: Revision
    host: str
    stacks: tuple[Stack, ...]
    broken: Mapping[str, Fault] = field(default_factory=dict)
    list_faults: tuple[Fault, ...] = ()
    rolled_back: Mapping[str, str] = field(default_factory=dict)
    allow: tuple[AllowRule, ...] = ()

    @property
    def names(self) -> frozenset[str]:
        """All declared stacks, readable or not."""
        return frozenset(stack.name for stack in self.stacks) | frozenset(self.broken)


@dataclass(frozen=True, slots=True)
class Service:
    """One service of a release as it was observed once it ran.

    ``scale`` containers with the label config hash ``config_hash``; ``finishes`` when its nature
    is to end (no restart policy), so that an end with 0 is success and not drift.
    ``container_name`` is what the file says, None where Compose makes the names. ``files`` are the
    repository's files that are mounted into it, as in ``Stack.versions``; None: not known. It
    ``joins`` when it runs in namespaces of another container. ``hooks`` are the images of its
    hooks, as far as they are not its own. ``settings`` are those that can be changed while it runs;
    None: not known.
    """

    name: str
    image: str
    scale: int
    config_hash: str
    finishes: bool
    container_name: str | None = None
    files: tuple[tuple[str, str], ...] | None = None
    joins: bool = False
    hooks: tuple[str, ...] = ()
    settings: adjustable.Settings | None = None


@dataclass(frozen=True, slots=True)
class Release:
    """What was last applied of one stack, and was well: its inputs and what they led to.

    ``after`` are the stacks it needs: they are taken down after it. It is ``disturbed`` when its
    containers were touched since, and nobody saw them well again.
    """

    stack: str
    digest: str
    revision: str
    inputs: tuple[tuple[str, str], ...]
    services: tuple[Service, ...]
    at: str
    after: tuple[str, ...] = ()
    disturbed: bool = False


@dataclass(frozen=True, slots=True)
class Attempt:
    """Failures in a row of one stack for one digest. ``next_at`` is in seconds since the epoch."""

    stack: str
    digest: str
    count: int
    next_at: float
    permanent: bool
    error: str


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


@dataclass(frozen=True, slots=True)
class Deploy:
    """Bring one stack to its declared state."""

    stack: Stack
    reason: Reason
    causes: tuple[Cause, ...] = ()


@dataclass(frozen=True, slots=True)
class RemoveStack:
    """Take a whole project down; its volumes stay.

    The stack ``after`` must be up before; ``first``: it makes room for what is deployed.
    """

    project: str
    reason: Reason
    causes: tuple[Cause, ...] = ()
    after: str | None = None
    first: bool = False


@dataclass(frozen=True, slots=True)
class Evict:
    """End one container that nobody declared."""

    container: Container
    reason: Reason


@dataclass(frozen=True, slots=True)
class Spare:
    """A running container that nobody declared, and the rule that lets it be."""

    container: Container
    rule: str


@dataclass(frozen=True, slots=True)
class Hold:
    """Something that is not done, and what it waits for.

    ``needs_person`` when only a decision on the host or a commit that answers it ends the hold.
    """

    subject: str
    reason: Reason
    detail: str
    needs_person: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """All that the next cycle will do, in a fixed order, and all that it will not."""

    deploys: tuple[Deploy, ...] = ()
    removals: tuple[RemoveStack, ...] = ()
    evictions: tuple[Evict, ...] = ()
    holds: tuple[Hold, ...] = ()
    spared: tuple[Spare, ...] = ()

    @property
    def empty(self) -> bool:
        """Nothing to do (there may be holds)."""
        return not (self.deploys or self.removals or self.evictions)


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


@dataclass(frozen=True, slots=True)
class Protected:
    """What must not be evicted: applied, desired and in flight, together.

    ``services`` maps a project to its services, or to None where any service may belong to it.
    ``allow`` are the rules of ``revision``, the commit that all this follows from. While ``doubt``
    is set, nothing at all may be removed, for the reason it gives; unless ``enrolled``, nothing
    that was here first.
    """

    services: Mapping[str, frozenset[str] | None]
    doubt: str | None = None
    allow: tuple[AllowRule, ...] = ()
    revision: str | None = None
    enrolled: bool = False
