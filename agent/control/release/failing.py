"""What it means that a start failed in passing: by the release, or by somebody who undid it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from contextlib import contextmanager

from agent.adapters.compose.compose import StillWaitingError
from agent.control.health.activity import Activity
from agent.domain.errors import InterferenceError, TransientError, UnreachableError

_GONE = re.compile(
    r"No such container|marked for removal|is already in progress|is already in use by container"
)
"""The engine's words for a container that does not exist or is being removed: somebody else has
removed it."""
_NOT_STARTED = "is marked for removal and cannot be started"
"""Without an ID: nothing is started but the containers of the stack."""
_ID = re.compile(r"[0-9a-f]{64}")


class StartError(TransientError):
    """It could not be brought up, and Compose may have stopped what ran before."""


def lost(said: str, own: AbstractSet[str]) -> bool:
    """Whether a container of the stack's ``own`` is missed, not one that its files name."""
    ids = _ID.findall(said)
    if not ids:
        return _NOT_STARTED in said
    return bool(_GONE.search(said)) and not own.isdisjoint(ids)


@contextmanager
def failing(there: AbstractSet[str], activity: Activity) -> Iterator[None]:
    """What fails in passing in the block, by whose fault it is.

    ``there`` are the IDs of the containers that were there before it.
    """
    try:
        yield
    except (UnreachableError, StillWaitingError):
        raise
    except TransientError as err:
        if activity.undone or lost(err.message, there | activity.made):
            message = f"undone from outside while it was started: {err.message}"
            raise InterferenceError(message, where=err.where, hint=err.hint) from None
        raise StartError(err.message, where=err.where, hint=err.hint) from None
