"""Going back to the previous version of the agent, by hand."""

from __future__ import annotations

from agent.adapters.host.programs import Programs
from agent.adapters.state.database import utcnow
from agent.domain.errors import ConfigError, TransientError

BY_HAND = "by hand, with commitd rollback-agent"


def possible(beside: Programs) -> str:
    """The version to go back to, which runs here. Blocks; raises :class:`ConfigError`."""
    previous = beside.previous
    if previous is None:
        raise ConfigError(
            "there is no previous version to go back to",
            where=str(beside.home),
            hint="install the package of the version that you want",
        )
    if bad := beside.given_up(previous):
        raise ConfigError(
            f"{previous} is no version to go back to: it was given up at {bad.at} ({bad.why})",
            where=str(beside.home),
            hint="dpkg -i of its package tries it once more, on trial; or install another version",
        )
    if not beside.runs(previous):
        raise ConfigError(
            f"{previous} does not run on this host any more",
            where=str(beside.home),
            hint="install the package of the version that you want",
        )
    return previous


def go_back(beside: Programs) -> str:
    """Make it current; which it is. Blocks; raises :class:`TransientError`."""
    try:
        return beside.go_back(utcnow(), BY_HAND)
    except (OSError, LookupError) as err:
        raise TransientError(f"the version stays: {err}", where=str(beside.home)) from None
