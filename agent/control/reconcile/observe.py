"""Reading all that a plan depends on, for the cycle and for the commands that only look."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from agent.adapters.host import identity_file
from agent.adapters.state import damage
from agent.adapters.state.database import iso
from agent.adapters.state.journal import CLIFF, Journal
from agent.domain.config import Config
from agent.domain.container import Container
from agent.domain.outcome import EvictionAction, Reason
from agent.domain.reconcile.actions import Plan
from agent.domain.reconcile.exemptions import Exemptions
from agent.domain.reconcile.host_state import HostState
from agent.domain.repository.desired import DesiredState


def exemptions(journal: Journal, helpers: Iterable[str]) -> Exemptions:
    """What is taken out of the agent's hands now. Blocks: commands write it at any time."""
    now = journal.now()
    return Exemptions(frozenset(helpers), frozenset(journal.granted(now)), journal.suspensions(now))


def orders(journal: Journal, helpers: Iterable[str]) -> tuple[list[str | None], Exemptions]:
    """The same at this moment, and what is suspended no more (None: the host). Blocks."""
    journal.note_time()
    over = journal.end_orders(journal.now())
    return over, exemptions(journal, helpers)


def enrolled(journal: Journal, config: Config) -> bool:
    """Whether a person has agreed to removals here. Blocks.

    On a clone the journal may be a copy: that consent is another machine's.
    """
    agreed = journal.get("enrolled") is not None
    return agreed and identity_file.of_another_machine(config) is None


def situation(
    journal: Journal,
    config: Config,
    desired: DesiredState,
    containers: Iterable[Container],
    exempted: Exemptions,
) -> HostState:
    """What the journal knows, beside what is declared and what runs. Blocks."""
    attempts = journal.attempts()
    failed = {name: attempt.digest for name, attempt in attempts.items() if attempt.permanent}
    return HostState(
        desired=desired,
        containers=tuple(containers),
        releases=journal.releases(),
        now=journal.now(),
        stacks_dir=str(config.state_dir / "repo" / "stacks"),
        enrolled=enrolled(journal, config),
        attempts=attempts,
        started=frozenset(n for n, digest in failed.items() if journal.started(n) == digest),
        approved=journal.approved(),
        without_data=journal.approved_without_data(),
        cliff=frozenset(journal.get(CLIFF) or ())  # also what another manager of a Swarm held
        | {hold["subject"] for hold in journal.holds() if hold["reason"] == Reason.CLIFF},
        teardown_limit=config.teardown_limit,
        report_only=config.undeclared.mode == "report",
        exemptions=exempted,
        begun_anew=damage.begun_anew(journal),
        swarm=config.docker.mode == "swarm",
    )


def exempt_ones(todo: Plan) -> list[dict[str, str]]:
    """Containers that run although no stack declares them, as ``status`` shows them."""
    return [
        {
            "id": each.container.id,
            "name": each.container.name,
            "image": each.container.image,
            "action": EvictionAction.EXEMPT,
            "reason": each.reason,
            "message": each.reason.message(each.where),
            "at": iso(datetime.fromtimestamp(each.container.created, UTC)),
        }
        for each in todo.exempt
    ]
