"""What a killed agent has left half done on the engine is put in order first."""

from __future__ import annotations

from agent.adapters.engine.helper_container import remove_helper
from agent.control.parts import Parts


async def finish(parts: Parts) -> None:
    """Remove its helper containers, and note what its Compose has made.

    Raises :class:`CommitdError`.
    """
    for container_id in await parts.journal.helpers():  # by ID: a label could be anyone's
        await remove_helper(parts.engine, container_id)
        await parts.journal.forget_helper(container_id)
    await parts.ledger.settle()
