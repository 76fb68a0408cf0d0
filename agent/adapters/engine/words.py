"""What may be quoted of the engine's words: why a start fails, it says with what it was given.

The user, the command or the path that it does not find may be made of a secret. What is done to a
stack is done in :func:`concealed`; that holds for the task and those that it starts.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from agent.domain.compose import redact
from agent.domain.errors import CommitdError

WITHHELD = (
    "the engine says why, in words that may hold a secret: docker start shows them to root, "
    "or the engine's own log"
)

_SECRETS: ContextVar[tuple[str, ...] | None] = ContextVar("secrets", default=())


@contextmanager
def concealed(secrets: Collection[str] | None) -> Iterator[None]:
    """No error of the engine in the block, and none that leaves it, shows one of ``secrets``.

    None: there are some, and they are not known here. Then no word of the engine is quoted.
    """
    before = _SECRETS.set(None if secrets is None else tuple(secrets))
    try:
        yield
    except CommitdError as err:
        conceal(err, secrets or ())
        raise
    finally:
        _SECRETS.reset(before)


def shown(said: str) -> str:
    """The engine's words as they may be quoted here."""
    secrets = _SECRETS.get()
    if secrets is None:
        return WITHHELD
    return redact.text(said, secrets) if secrets else said


def conceal(error: CommitdError, secrets: Collection[str]) -> None:
    """Mask ``secrets`` in the texts of ``error``: names of the stack's things may be made of them.

    What says where it is stays: paths and lines of files in Git.
    """
    if not secrets:
        return
    error.message = redact.text(error.message, secrets)
    error.hint = error.hint and redact.text(error.hint, secrets)
    error.args = (error.message,)
