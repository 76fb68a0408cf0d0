"""That a commit and the configuration of a host agree on whether it is a Docker Swarm.

``check`` sees only the repository, and judges by what that says; the agent acts by its own
configuration, which no commit changes. Each alone could be a slip that ends every stack of a host,
or starts all of them a second time.
"""

from __future__ import annotations

from agent.domain.errors import PermanentError
from agent.domain.repository import fleet_policy
from agent.domain.repository.desired import DesiredState


def agree(desired: DesiredState, *, swarm: bool) -> None:
    """Raise :class:`PermanentError` unless ``desired`` is for what the configuration says.

    ``swarm``: the configuration has ``docker: {mode: swarm}``.
    """
    if fault := differs(desired.host, declared=desired.swarm, swarm=swarm):
        raise fault


def differs(host: str, *, declared: bool, swarm: bool) -> PermanentError | None:
    """What is wrong where one side alone, the repository or the configuration, says Swarm."""
    if declared is swarm:
        return None
    path = fleet_policy.path_for(host)
    if swarm:
        message = f"does not say that {host} is a Swarm, and this host's configuration does"
        hint = "commit the line mode: swarm there: check judges the stacks by it"
    else:
        message = f"says that {host} is a Swarm, and this host's configuration does not"
        hint = (
            "set docker: {mode: swarm} in /etc/commitd/config.yaml on each manager, or take mode: "
            "swarm out of commitd.yaml"
        )
    return PermanentError(message, where=path, hint=hint)
