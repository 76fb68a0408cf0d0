"""All that a plan depends on, read once, and what follows from it about whose is what."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct, field

from agent.domain.container import WORKING_DIR, Container
from agent.domain.outcome import Reason
from agent.domain.reconcile.actions import ProtectionSet
from agent.domain.reconcile.exemptions import Exemptions
from agent.domain.release import drift, identity
from agent.domain.release.release import Attempt, Release
from agent.domain.repository.desired import DesiredState

LONGEST_WAIT_S = 600.0
"""Longer than any backoff, in seconds."""


class LeftData(Struct, frozen=True, kw_only=True):
    """Data on this host that a stack made under its ``old`` name, and would not find any more.

    ``paths`` are from the top of the checkout, ``volumes`` are names. The volumes in ``shared`` are
    those that the new name uses as well.
    """

    old: str
    paths: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    shared: tuple[str, ...] = ()


class HostState(Struct, frozen=True, kw_only=True):
    """All that a plan depends on, read once.

    ``desired`` is the state of the checked-out commit. ``doubt`` says why what is declared is
    not fully known; then nothing is removed. ``locked`` maps stacks that must not be deployed now
    to the reason and the detail (a secret that does not decrypt). ``cliff`` are the stacks whose
    removal was held as a cliff the last time. ``stopped`` are the IDs of containers that somebody
    was seen to stop. ``started`` are the stacks that failed for good, but only after all of their
    containers were there. ``begun_anew`` says what became of a journal that could not be read: what
    the new one does not know is unknown, and nothing is removed. ``now`` is in seconds since the
    epoch, ``stacks_dir`` the absolute path of the checkout's ``stacks``. ``left`` is the data of
    new stacks that had another name before. ``approved`` are commits that a person accepted, those
    ``without_data`` also with what of them starts without its data. In a ``swarm`` each service has
    a name of its own, so that nothing is of a stack but what was deployed.
    """

    desired: DesiredState
    containers: tuple[Container, ...]
    releases: Mapping[str, Release]
    now: float
    stacks_dir: str
    enrolled: bool = False
    doubt: str | None = None
    locked: Mapping[str, tuple[Reason, str]] = field(default_factory=dict)
    attempts: Mapping[str, Attempt] = field(default_factory=dict)
    approved: frozenset[str] = frozenset()
    without_data: frozenset[str] = frozenset()
    cliff: frozenset[str] = frozenset()
    teardown_limit: float = 0.5
    report_only: bool = False
    exemptions: Exemptions = field(default_factory=Exemptions)
    stopped: frozenset[str] = frozenset()
    started: frozenset[str] = frozenset()
    left: Mapping[str, LeftData] = field(default_factory=dict)
    begun_anew: str | None = None
    swarm: bool = False


def protected(situation: HostState) -> ProtectionSet:
    """Applied ∪ desired ∪ leaving: what no eviction may touch. Published before any start.

    Stacks that leave go down as a whole, or wait as a whole for a person. A service list narrows
    a project only while what was applied is what is declared, and stands; else it is about to be
    deployed, and any service may be about to belong to it. Once its containers are known by ID, the
    list is of their services: of one that no deploy starts (an inactive profile, ``scale: 0``)
    there is no ID to tell its containers from others with that name.
    """
    desired = {stack.name: stack for stack in situation.desired.stacks}
    services: dict[str, frozenset[str] | None] = dict.fromkeys(
        situation.desired.names | applied(situation) | labelled(situation)
    )
    by_project: dict[str | None, list[Container]] = {}
    for container in situation.containers:
        by_project.setdefault(container.project, []).append(container)
    rivals: set[str] = set()
    for name, release in situation.releases.items():
        stack = desired.get(name)
        mine = by_project.get(name, [])
        rivals |= {container.id for container in identity.rivals(release.own, mine)}
        if stack is None or (stack.more and release.own is None and not situation.swarm):
            continue
        stands = stack.digest == release.digest and not release.dirty
        if stands and not drift.compare(release, mine, situation.stopped):
            known = stack.services
            if release.own is not None:
                known = frozenset(service for service, _ in release.own)
            elif situation.swarm:
                known = frozenset()
            services[name] = known | {service.name for service in release.services}
    return ProtectionSet(
        services=services,
        doubt=doubt_about(situation),
        allow=situation.desired.allow,
        revision=situation.desired.revision.sha,
        enrolled=situation.enrolled,
        begun_anew=situation.begun_anew is not None,
        rivals=frozenset(rivals),
    )


def doubt_about(situation: HostState) -> str | None:
    """Why nothing may be removed, or None."""
    if situation.doubt:
        return situation.doubt
    if situation.desired.list_faults:
        return str(situation.desired.list_faults[0])
    return None


def waits(attempt: Attempt, now: float) -> bool:
    """Whether its next try is still ahead; what seems further than any backoff is a wrong clock."""
    return 0 < attempt.next_at - now <= LONGEST_WAIT_S


def applied(situation: HostState) -> frozenset[str]:
    """Stacks that the agent brought up here, or of which a failed try left containers.

    A try that failed before it made anything says nothing about containers of the same name: a
    person may have started those.
    """
    tried = frozenset(situation.attempts) & _from_here(situation)
    return frozenset(situation.releases) | tried


def never_healthy(situation: HostState) -> frozenset[str]:
    """Stacks of which tries have failed, nothing was ever healthy, and nothing at all runs.

    What they left behind, containers that never ran and networks, goes with them. While something
    runs under their name that is not theirs, nothing is touched.
    """
    up = {container.project for container in situation.containers if container.alive}
    return frozenset(situation.attempts) - applied(situation) - up


def _from_here(situation: HostState) -> frozenset[str]:
    """Projects of running containers that were made from this checkout."""
    return frozenset(
        project
        for c in situation.containers
        if c.alive
        and (project := c.project)
        and c.labels.get(WORKING_DIR) == f"{situation.stacks_dir}/{project}"
    )


def labelled(situation: HostState) -> frozenset[str]:
    """Running stacks of this checkout that neither the commit nor the journal knows."""
    if not situation.enrolled or situation.report_only:
        return frozenset()
    return _from_here(situation) - (situation.desired.names | applied(situation))
