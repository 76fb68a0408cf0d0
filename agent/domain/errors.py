"""What can go wrong, by what to do about it.

    CommitdError
    ├── TransientError      the same thing may work in a moment; retried with backoff
    │   ├── UnreachableError   nothing answered: a remote, the engine, a registry
    │   │   └── BusyError      the server asks for patience
    │   └── InterferenceError  somebody else undoes what was done; never the input's fault
    ├── PermanentError      waits for a change of the input
    │   └── ConfigError     the host's own file; the agent does not start
    │       └── DeniedError    this user may not; root may
    ├── UnplacedError       the nodes of a Swarm lack something: tried again later, not at once
    ├── HeldError           waits for a person: suspended, or not agreed to
    ├── AgentUnhealthyError  this version of the agent; the one before is started again
    └── CancelledError      not wanted any more: no failure; the next cycle decides anew
        └── SupersededError    for a newer commit

Every error says what happened, where (``file:line`` or the name of a thing) and what to do.
None of them ever carries the output of a tool that has seen a secret.
"""

from __future__ import annotations

from collections.abc import Iterable


class CommitdError(Exception):
    """Root of all errors that the agent raises on purpose."""

    words = ""
    """What a container has said that was given secrets: for root alone, and in no message."""
    code = ""
    """That of a ``Reason`` which says more exactly what is wrong; empty: there is none."""

    def __init__(self, message: str, *, where: str | None = None, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.where = where
        self.hint = hint

    @property
    def fact(self) -> str:
        """What happened and where, without what to do."""
        return f"{self.where}: {self.message}" if self.where else self.message

    def __str__(self) -> str:
        return f"{self.fact} ({self.hint})" if self.hint else self.fact


class TransientError(CommitdError):
    """Worth another try without any change."""


class UnreachableError(TransientError):
    """The other side did not answer."""


class BusyError(UnreachableError):
    """The server asks to be left alone for ``retry_after_s`` seconds; None: it names no time."""

    def __init__(self, message: str, *, retry_after_s: float | None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class InterferenceError(TransientError):
    """Somebody outside removed or stopped what was started: no fault of what was deployed."""


class PermanentError(CommitdError):
    """Will fail again until something is changed."""


class ConfigError(PermanentError):
    """The host's own configuration is wrong."""


class MissingError(ConfigError):
    """A program that the agent works with is not on this machine, perhaps just now."""


class DeniedError(ConfigError):
    """This user may not do it; root may, and the command line says how."""


class UnplacedError(CommitdError):
    """No node of a Swarm can run it, or get its image: no fault of the files, and it may pass."""


class HeldError(CommitdError):
    """Nothing is broken; a person has to decide."""


class AgentUnhealthyError(CommitdError):
    """This version of the agent, which is on trial, is not healthy."""


class CancelledError(CommitdError):
    """Nothing is broken; it is not wanted any more, or not now: the agent stops."""


class SupersededError(CancelledError):
    """A newer commit takes its place."""


def did_you_mean(word: str, known: Iterable[str], otherwise: str) -> str:
    """A hint on a mistyped ``word``: the nearest of ``known``, or what stands in for it."""
    import difflib  # noqa: PLC0415  for those who mistype alone

    near = difflib.get_close_matches(word, list(known), 1)
    return f"did you mean {near[0]!r}?" if near else otherwise
