"""What a version of the agent on trial may do, by what the version before it had recorded.

    what that one recorded ─┐
    the plan of this one ───┴▶ unasked: would it do what neither a commit nor a person called for?
    its verdict ────────────▶ unexcused: is something wrong that was right before?

The plan may come from the very mistake that is looked for: so all this follows from plain facts,
files by their Git objects and containers by their IDs, and from none of its comparisons.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping

from msgspec import Struct, field

from agent.domain.container import CONFIG_HASH, Container
from agent.domain.outcome import CauseKind, Reason
from agent.domain.reconcile.actions import Deploy, Plan
from agent.domain.reconcile.host_state import HostState
from agent.domain.repository.desired import Stack
from agent.domain.repository.tree import Inputs
from agent.domain.status.verdict import HostTrouble, State, Verdict, VerdictKind

TRIAL_S = 600.0
"""How long a version on trial may take until one cycle is clean, of the time in which the engine
and a remote answer and nothing is being deployed."""

_SEEN_BY_EYE = {CauseKind.NAMESPACE, CauseKind.CONTAINER_NAME}
"""What no record tells: namespaces end without their container, and a name is no new container."""
_WORKS = {"running", "restarting"}
_LASTING = {Reason.ALLOWED, Reason.SWARM, Reason.ONE_OFF}
"""Exemptions that do not end by themselves."""
_OF_A_COMMIT = {Reason.TREE, Reason.LIST_IN_DOUBT}
"""Why a commit is refused; the detail then names it."""


class Recorded(Struct, frozen=True, kw_only=True):
    """A healthy release, as the version before has written it down.

    ``hashes`` are the label of Compose on the containers of each service, ``scales`` how many each
    has, ``one_shot`` are those whose nature is to end. ``networks`` are those that the containers
    of a service are connected to, as far as that is known. ``own`` are the IDs of its containers;
    None: not known.
    """

    digest: str
    inputs: Inputs
    hashes: Mapping[str, str]
    scales: Mapping[str, int]
    one_shot: frozenset[str]
    networks: Mapping[str, frozenset[str]] = field(default_factory=dict)
    dirty: bool = False
    own: frozenset[str] | None = None


class Before(Struct, frozen=True, kw_only=True):
    """What the journal of the version before says: ``revision`` is the applied commit, if any.

    ``digests`` are of the stacks that it declares here. ``troubled`` are stacks that were not
    right, ``held`` what else was not, each with the code of the reason. ``exempt`` are the IDs of
    containers that a lasting rule exempted, ``heads`` the commits that the remotes showed,
    ``silent`` the names of the remotes that did not answer.
    """

    revision: str | None = None
    digests: Mapping[str, str] = field(default_factory=dict)
    releases: Mapping[str, Recorded] = field(default_factory=dict)
    troubled: frozenset[str] = frozenset()
    held: frozenset[tuple[str, str]] = frozenset()
    exempt: frozenset[str] = frozenset()
    heads: frozenset[str] = frozenset()
    silent: frozenset[str] = frozenset()


def lasting(reason: str) -> bool:
    """Whether an exemption for that reason goes on until somebody ends it."""
    return reason in _LASTING


def unasked(before: Before, plan: Plan, situation: HostState) -> list[str]:
    """What ``plan`` would do that nothing recorded calls for, for people; empty: it may be done."""
    by_project: dict[str, list[Container]] = {}
    for container in situation.containers:
        by_project.setdefault(container.project or "", []).append(container)
    found = [
        f"deploy {each.stack.name} ({each.reason.text})"
        for each in plan.deploys
        if not deploy_is_called_for(before, each, by_project.get(each.stack.name, []), situation)
    ]
    if situation.desired.revision.sha != before.revision:
        return found
    found += [f"remove {r.project}" for r in plan.removals if r.project in before.digests]
    own = {
        identifier
        for name, release in before.releases.items()
        if name in before.digests
        for identifier in release.own or ()
    }
    found += [
        f"evict {each.container.name} ({each.reason.text})"
        for each in plan.evictions
        if each.container.id in own | before.exempt
    ]
    return found


def deploy_is_called_for(
    before: Before, deploy: Deploy, containers: Iterable[Container], situation: HostState
) -> bool:
    """Whether a commit, a person or what became of the containers calls for it."""
    release = before.releases.get(deploy.stack.name)
    if release is None or release.dirty:
        return True
    if changed(before, deploy.stack, situation.desired.revision.sha):
        return True
    if deploy.reason is not Reason.DRIFTED:
        return False
    if not _unchanged(release, list(containers), situation.stopped):
        return True
    return bool(deploy.causes) and {cause.kind for cause in deploy.causes} <= _SEEN_BY_EYE


def changed(before: Before, stack: Stack, revision: str) -> bool:
    """Whether a commit has changed the files of a stack since its recorded release.

    At the commit of ``before`` only if that was not deployed yet: of the same files another
    version may read more.
    """
    release = before.releases.get(stack.name)
    if release is None:
        return True
    new = revision != before.revision or before.digests.get(stack.name) != release.digest
    return new and dict(stack.versions) != dict(release.inputs)


def _unchanged(
    release: Recorded, containers: Collection[Container], stopped: Collection[str]
) -> bool:
    """Whether all containers of the release are there and do what they did."""
    counts = dict.fromkeys(release.hashes, 0)
    for container in containers:
        service = container.service or ""
        if container.one_off or service not in release.hashes:
            continue
        if release.own is not None and container.id not in release.own:
            continue
        ended = (
            service in release.one_shot and container.exit_code == 0 and container.id not in stopped
        )
        works = container.state in _WORKS and _connected(release, container)
        if not (works or ended) or container.labels.get(CONFIG_HASH) != release.hashes[service]:
            return False
        counts[service] += 1
    return counts == dict(release.scales)


def _connected(release: Recorded, container: Container) -> bool:
    """Whether it is in the networks that it was in, as far as a listing tells."""
    there, recorded = container.networks, release.networks.get(container.service or "")
    if container.state != "running" or there is None:
        return True
    return container.lost_network is None if recorded is None else recorded == there


def unexcused(
    verdict: Verdict,
    before: Before,
    situation: HostState | None,
    shown: Collection[str] = (),
) -> list[str]:
    """What keeps a cycle from being clean, for people; empty: it is.

    What was wrong before may be, and so may what a commit has changed since, or one of those that
    the remotes have ``shown`` since and that is refused. A version may ask a person about something
    that none did before; but not about a stack that was right, unless a newer commit has it wait.
    """
    if verdict.state is State.STANDBY:
        return []  # it follows the remotes, and is to do nothing else
    if verdict.state in {State.UNKNOWN, State.WORKING} or verdict.broken_off or situation is None:
        return [verdict.line]
    revision = situation.desired.revision.sha
    excused = set(before.troubled)
    excused |= {s.name for s in situation.desired.stacks if changed(before, s, revision)}
    moved = revision != before.revision
    wrong = [each for each in verdict.troubles if not _refuses(each, set(shown) - before.heads)]
    found = list(_left(wrong, excused, before, moved=moved))
    if verdict.state is State.FAILED and not verdict.troubles:
        found.append(verdict.line)
    return found


def _refuses(trouble: HostTrouble, commits: Iterable[str]) -> bool:
    """Whether it is that one of these commits is not taken over; what was applied stays."""
    return trouble.reason in _OF_A_COMMIT and any(
        f"{sha[:7]}: " in trouble.detail for sha in commits
    )


def _left(
    troubles: Iterable[HostTrouble], excused: Collection[str], before: Before, *, moved: bool
) -> Iterator[str]:
    for trouble in troubles:
        if trouble.kind is VerdictKind.DEGRADED:
            continue  # of containers that nothing was done to: ``unasked`` sees to that
        was = trouble.subject in excused or (trouble.subject, trouble.reason) in before.held
        waits = trouble.kind is VerdictKind.WAITING and (
            moved or trouble.subject not in before.digests
        )
        if not (was or waits):
            yield f"{trouble.subject}: {trouble.detail or trouble.kind}"
