"""The version of the agent that is on trial on this host, for who shows it."""

from __future__ import annotations

from agent.adapters.host import programs
from agent.domain.status import on_trial
from agent.domain.status.on_trial import OnTrial
from agent.domain.upgrade import gate


def now() -> OnTrial | None:
    """The trial that goes on, if one does. Blocks."""
    beside = programs.here()
    found = beside.trial() if beside else None
    if found is None:
        return None
    return OnTrial(
        version=found.candidate,
        previous=found.previous,
        until=on_trial.until(found.ready, gate.TRIAL_S),
    )
