"""A model of a host, a repository, people and the agent, for the machine that plays with them.

What is decided comes from the agent's real code. Only effects are modelled here, one at a time and
in the order of the real ones, so that the agent can be killed between any two. What may be ended
is judged a second time, by rules of this file, at the moment when it is decided.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Generator, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from agent.adapters.state.evictions import Evicted
from agent.control.undeclared.evict import _KEPT_NAME, _irreversible, kept_name
from agent.domain.container import (
    CONFIG_HASH,
    KEPT_PREFIX,
    NUMBER,
    ONEOFF,
    PROJECT,
    REPLACE,
    SERVICE,
    WORKING_DIR,
    Container,
)
from agent.domain.finding import Fault
from agent.domain.outcome import CauseKind, EvictionAction, Reason
from agent.domain.reconcile import host_state, ownership, plan
from agent.domain.reconcile.actions import Deploy, Plan, ProtectionSet, RemoveStack
from agent.domain.reconcile.exemptions import Exemptions, Suspension
from agent.domain.reconcile.host_state import HostState
from agent.domain.release import drift, identity
from agent.domain.release.identity import Known
from agent.domain.release.release import Attempt, Release, Service
from agent.domain.repository.allow_rules import AllowRule, Pattern
from agent.domain.repository.desired import DesiredState, Stack
from agent.domain.revision import Revision
from tests.unit.builders import STACKS_DIR
from tests.values import replace

HOST = "media"
KEEP_S = 500.0
BACKOFF_S = 60.0
ANONYMOUS = "f" * 64
SERVICES: Mapping[str, tuple[str, ...]] = {"d1": ("web",), "d2": ("web", "db"), "d3": ("db",)}
CI = AllowRule("global/commitd.yaml:2", (Pattern(name="ci-*"),))


@dataclass(frozen=True)
class Commit:
    """``stacks`` maps a name to its digest: the version of its services and of its files."""

    sha: str
    stacks: Mapping[str, str] = field(default_factory=dict)
    broken: frozenset[str] = frozenset()
    faulty: bool = False
    allow: bool = False
    trailer: bool = False

    def desired(self) -> DesiredState:
        """What the agent reads of it."""
        trailers = (("Commitd-Approve", "removals"),) if self.trailer else ()
        return DesiredState(
            revision=Revision(
                sha=self.sha, author="Ada", committed_at="t", subject="s", trailers=trailers
            ),
            host=HOST,
            stacks=tuple(
                stack(name, digest)
                for name, digest in sorted(self.stacks.items())
                if name not in self.broken
            ),
            broken={name: Fault("is wrong", f"stacks/{name}") for name in self.broken},
            list_faults=(Fault("is no name", f"host/{HOST}/stacks.yaml:1"),) if self.faulty else (),
            allow=(CI,) if self.allow else (),
        )


def stack(name: str, digest: str) -> Stack:
    """A stack whose services and files follow from its digest (``d1-x``)."""
    compose = f"stacks/{name}/compose.yaml"
    services = frozenset(SERVICES[digest[:2]])
    return Stack(
        name=name,
        compose=compose,
        environment=(),
        inputs=((compose, digest),),
        digest=digest,
        services=services,
    )


@dataclass
class Host:
    """The engine: containers in the order of their making, and volumes."""

    containers: dict[str, Container] = field(default_factory=dict)
    volumes: set[str] = field(default_factory=set)
    fragile: set[str] = field(default_factory=set)
    """Containers with --rm and an anonymous volume: both go when they stop."""
    made: int = 0

    def create(self, name: str, labels: Mapping[str, str], *, restart: str = "always") -> str:
        """A container that does not run yet; its volume is there from now on."""
        self.made += 1
        found = f"{self.made:012x}" + "0" * 52
        self.containers[found] = Container(
            id=found, name=name, image="img", state="created", labels=dict(labels), restart=restart
        )
        if labels.get(PROJECT):
            self.volumes.add(f"{labels[PROJECT]}_{labels.get(SERVICE)}")
        return found

    def change(self, found: str, **changes: Any) -> None:
        """What is gone stays gone."""
        if found in self.containers:
            self.containers[found] = replace(self.containers[found], **changes)

    def stop(self, found: str) -> None:
        """The engine itself deletes what ran with --rm."""
        self.change(found, state="exited", exit_code=137)
        if found in self.fragile:
            self.containers.pop(found, None)
            self.volumes.discard(f"{ANONYMOUS[:-12]}{found[:12]}")

    def remove(self, found: str) -> None:
        """The container, not its volumes."""
        self.containers.pop(found, None)

    def of(self, project: str) -> list[Container]:
        """All of a project, running or not."""
        return [c for c in self.containers.values() if c.project == project]

    def called(self, name: str) -> bool:
        """Whether the name is taken."""
        return any(c.name == name for c in self.containers.values())

    def raw(self, found: str) -> dict[str, Any]:
        """The part of an inspect that tells what a stop would delete."""
        mine = f"{ANONYMOUS[:-12]}{found[:12]}"
        mounts = [{"Type": "volume", "Name": mine}] if found in self.fragile else []
        return {"Mounts": mounts, "HostConfig": {"AutoRemove": found in self.fragile}}


@dataclass
class Journal:
    """What is still known after the agent was killed."""

    releases: dict[str, Release] = field(default_factory=dict)
    made: dict[str, Known] = field(default_factory=dict)
    attempts: dict[str, Attempt] = field(default_factory=dict)
    approved: set[str] = field(default_factory=set)
    kept: dict[str, tuple[Evicted, str]] = field(default_factory=dict)
    suspensions: dict[str | None, Suspension] = field(default_factory=dict)
    granted: dict[str, float] = field(default_factory=dict)
    cliff: frozenset[str] = frozenset()
    enrolled: bool = False

    def known_releases(self) -> dict[str, Release]:
        """With their containers, unless Compose works on them or was cut short."""
        own = {name: known.own for name, known in self.made.items() if known.before is None}
        return {name: replace(each, own=own.get(name)) for name, each in self.releases.items()}

    def exemptions(self, now: float) -> Exemptions:
        """What people take out of the agent's hands at this moment."""
        return Exemptions(
            granted=frozenset(c for c, until in self.granted.items() if until > now),
            suspensions=tuple(
                s for s in self.suspensions.values() if s.until is None or s.until > now
            ),
        )


@dataclass
class World:
    """All there is. ``head`` is what the remotes show, ``checkout`` what was reset to."""

    head: Commit
    checkout: Commit | None = None
    host: Host = field(default_factory=Host)
    journal: Journal = field(default_factory=Journal)
    now: float = 1000.0
    trouble: bool = False
    failing: set[str] = field(default_factory=set)
    """Stacks whose images cannot be pulled now."""
    ours: set[str] = field(default_factory=set)
    """Every container that the agent has had made, or has taken over; it is not told of this."""

    def up(
        self, item: Stack, directory: str = STACKS_DIR, anew: Collection[str] = ()
    ) -> Iterator[str]:
        """What Compose does for one stack, a step each; the started containers come out.

        It believes labels, and keeps the one with the lowest number. Services in ``anew`` it
        recreates in any case.
        """
        for service in sorted(item.services):
            labels = {
                PROJECT: item.name,
                SERVICE: service,
                CONFIG_HASH: f"{item.digest}/{service}",
                NUMBER: "1",
                ONEOFF: "False",
                WORKING_DIR: f"{directory}/{item.name}",
            }
            name = f"{item.name}-{service}-1"
            mine = [c for c in self.host.of(item.name) if c.service == service and not c.one_off]
            mine = sorted((c for c in mine if c.counted), key=lambda c: int(c.labels[NUMBER]))
            good = [c for c in mine if c.labels.get(CONFIG_HASH) == labels[CONFIG_HASH]]
            if service in anew:
                good = []
            if mine:
                labels[NUMBER] = (good or mine)[0].labels[NUMBER]
                name = f"{item.name}-{service}-{labels[NUMBER]}"
            keep = good[0].id if good else None
            if keep is None and mine:
                old = mine[0]
                temporary = {**labels, REPLACE: old.name}
                keep = self.host.create(f"{old.id[:12]}_{name}", temporary)
                yield ""
            elif keep is None:
                keep = self.host.create(name, labels)
                yield ""
            for other in mine:
                if other.id != keep:
                    self.host.remove(other.id)
                    yield ""
            found = self.host.containers.get(keep)
            if found and not found.name.startswith(KEPT_PREFIX) and found.name != name:
                self.host.change(keep, name=name)
                yield ""
            if found and found.state != "running":
                self.host.change(keep, state="running", exit_code=None)
                yield keep

    def runs(self) -> set[tuple[str | None, str | None]]:
        """Project and service of what runs, but not of what may be let be at the end."""
        return {
            (c.project, c.service)
            for c in self.host.containers.values()
            if c.alive
            and c.id not in self.host.fragile
            and not (self.head.allow and c.name.startswith("ci-"))
            and not (c.project in self.head.stacks and c.labels.get(ONEOFF) == "True")
        }

    def situation(self, commit: Commit, doubt: str | None) -> HostState:
        """As the agent reads it."""
        journal = self.journal
        return HostState(
            desired=commit.desired(),
            containers=tuple(self.host.containers.values()),
            releases=journal.known_releases(),
            now=self.now,
            stacks_dir=STACKS_DIR,
            enrolled=journal.enrolled,
            doubt=doubt,
            attempts=dict(journal.attempts),
            approved=frozenset(journal.approved),
            cliff=journal.cliff,
            exemptions=journal.exemptions(self.now),
        )


class Agent:
    """One run of the agent. To kill it, drop it: the world stays as it is."""

    def __init__(self, world: World, dice: random.Random) -> None:
        self._w = world
        self._dice = dice
        self.protection: ProtectionSet | None = None
        self._followed: Commit | None = None
        self._cycle: Iterator[None] | None = None
        self._busy: dict[str, Iterator[None]] = {}
        self._forgotten: frozenset[str] = frozenset()
        self._sure = False
        self.last = Plan()
        for name, known in world.journal.made.items():
            if known.before is not None:  # the agent before was killed while Compose worked
                there = [c for c in world.host.of(name) if not c.kept]
                world.journal.made[name] = Known(identity.own_now(known, there))
                world.ours |= {found for _, found in world.journal.made[name].own}

    # --- what drives it ---

    def step(self) -> None:
        """One effect: of the cycle, or of an eviction that an event began."""
        self._cycle = self._cycle or self._one_cycle()
        choices: list[str | None] = [None, *self._busy]
        chosen = self._dice.choice(choices)
        work = self._busy[chosen] if chosen else self._cycle
        if next(work, self) is not self:
            return
        if chosen:
            del self._busy[chosen]
        else:
            self._cycle = None

    def cycle(self) -> None:
        """A whole cycle from its beginning, and all that events began."""
        self._cycle = self._cycle or self._one_cycle()
        for _ in self._cycle:
            pass
        self._cycle = None
        for found in list(self._busy):
            for _ in self._busy.pop(found):
                pass

    def hears(self, found: str) -> None:
        """The event of a start."""
        container = self._w.host.containers.get(found)
        if self.protection is None or container is None or found in self._busy:
            return
        unseen = replace(container, network=None)
        owner = ownership.classify(unseen, self.protection, Exemptions())
        if isinstance(owner, ownership.Undeclared) or self._unknown(container):
            self._busy[found] = self._evict(found)

    def _unknown(self, container: Container) -> bool:
        known = self._w.journal.made.get(container.project or "")
        if known is None or known.before is not None:
            return False
        return any(pair not in known.own for pair, _ in identity.claims([container]))

    # --- one cycle ---

    def _one_cycle(self) -> Iterator[None]:
        w = self._w
        journal = w.journal
        exempted = journal.exemptions(w.now)
        doubt = None
        if exempted.host:
            self._followed = self._followed or w.checkout
        elif w.trouble:
            doubt = "no commit can be fetched"
        else:
            w.checkout = self._followed = w.head
        commit = self._followed
        if commit is None:
            return
        self._learn()
        situation = replace(w.situation(commit, doubt), exemptions=exempted)
        self.protection = host_state.protected(situation)
        self._forgotten = _forgotten(situation)
        self._sure = not commit.faulty and doubt is None
        yield
        todo = self.last = plan.plan(situation)
        journal.cliff = frozenset(h.subject for h in todo.holds if h.reason is Reason.CLIFF)
        yield
        self._judge_removals(situation, todo)
        unsure = host_state.doubt_about(situation) is not None
        up: set[str] = set()
        work = [self._evict_once(action.container.id) for action in todo.evictions]
        work += [self._deploy(action, commit, up, doubt=unsure) for action in todo.deploys]
        while work:
            chosen = self._dice.choice(work)
            if next(chosen, self) is self:
                work.remove(chosen)
            else:
                yield
        for action in todo.removals:
            if action.after is None or action.after in up:
                yield from self._remove(action)
        if up or todo.removals or todo.deploys:
            releases, now = journal.known_releases(), tuple(w.host.containers.values())
            again = replace(situation, releases=releases, containers=now)
            self.protection = host_state.protected(again)
            yield
        if not exempted.host:
            yield from self._tend(situation.containers)

    def _deploy(
        self, action: Deploy, commit: Commit, up: set[str], *, doubt: bool
    ) -> Iterator[None]:
        w, item = self._w, action.stack
        before = w.journal.attempts.get(item.name)
        yield
        if w.journal.exemptions(w.now).suspension(item.name):
            return
        stays = False
        if item.name not in w.failing:
            for container in w.host.of(item.name):
                if container.state == "paused" and not container.one_off:
                    w.host.change(container.id, state="running")
                    yield
            stays = yield from self._make(item, doubt=doubt)
            release = w.journal.releases.get(item.name)
            left = {s.name for s in release.services} - item.services if release else set()
            for container in w.host.of(item.name):
                if not doubt and container.service in left and not container.one_off:
                    w.host.remove(container.id)
                    yield
        made = Release(
            stack=item.name,
            digest=item.digest,
            revision=commit.sha,
            inputs=item.inputs,
            services=tuple(
                Service(
                    name=name,
                    image="img",
                    scale=1,
                    config_hash=f"{item.digest}/{name}",
                    one_shot=False,
                )
                for name in sorted(item.services)
            ),
            at="t",
        )
        known = w.journal.made.get(item.name)
        own = known.own if known else None
        wrong = [
            c
            for c in drift.compare(replace(made, own=own), w.host.of(item.name))
            if c.kind is not CauseKind.CONTAINER_NAME
        ]
        failed = bool(wrong) or item.name in w.failing or stays
        if not failed:
            w.journal.releases[item.name] = made
            w.journal.attempts.pop(item.name, None)
            up.add(item.name)
            yield
        if failed or action.reason is Reason.DRIFTED:
            same = before is not None and before.digest == item.digest
            count = before.count + 1 if before and same else 1
            w.journal.attempts[item.name] = Attempt(
                stack=item.name,
                digest=item.digest,
                count=count,
                next_at=w.now + BACKOFF_S,
                permanent=False,
                error="why",
            )
            yield

    def _remove(self, action: RemoveStack) -> Iterator[None]:
        w, project = self._w, action.project
        yield
        if w.journal.exemptions(w.now).suspension(project):
            return
        self._judge_removal(action)
        for container in w.host.of(project):
            w.host.remove(container.id)
        yield
        w.journal.releases.pop(project, None)
        w.journal.attempts.pop(project, None)
        w.journal.made.pop(project, None)
        yield

    def _learn(self) -> None:
        """The containers of releases of which what was noted around Compose was cut short."""
        w, made = self._w, self._w.journal.made
        for name, release in w.journal.known_releases().items():
            mine = [c for c in w.host.of(name) if not c.kept]
            if release.own is None and not drift.compare(release, mine):
                made[name] = Known(identity.own_now(None, mine))
                w.ours |= {found for _, found in made[name].own}

    def _make(self, item: Stack, *, doubt: bool) -> Generator[None, None, bool]:
        """Compose between two notes of what there is. True: a rival stays, nothing is done."""
        w, made = self._w, self._w.journal.made
        while rivals := self._rivals(item):
            for rival in rivals:
                yield from self._evict_once(rival.id, rival=True)
                now = w.host.containers.get(rival.id)
                if now is None:
                    continue
                unsure = doubt and rival.id not in self._rivals_before()
                if now.alive or rival.id in self._busy or unsure:
                    return True
                if rival.id in w.journal.exemptions(w.now).granted:
                    return True
                assert rival.id not in w.ours, "it was deployed"
                w.host.remove(rival.id)
                yield
        evicted = self._rivals_before()
        there = w.host.of(item.name)
        others = [c for c in there if c.id not in evicted]
        own = identity.own_now(made.get(item.name), others)
        anew = {c.service or "" for c in identity.substitutes(own, others)}
        made[item.name] = Known(own, frozenset(c.id for c in there))
        w.ours |= {found for _, found in own}
        yield
        for started in w.up(item, anew=anew & item.services):
            new = {c.id for c in w.host.of(item.name) if c.counted}
            w.ours |= new - (made[item.name].before or set())
            self.hears(started)
            yield
        there = w.host.of(item.name)
        pairs = identity.own_after(made[item.name], there, item.services)
        pairs = frozenset(pair for pair in pairs if pair[0] in item.services)
        made[item.name] = Known(pairs)
        w.ours |= {found for _, found in pairs}
        yield
        return False

    def _rivals(self, item: Stack) -> list[Container]:
        there, evicted = self._w.host.of(item.name), self._rivals_before()
        others = [c for c in there if c.id not in evicted]
        own = identity.own_now(self._w.journal.made.get(item.name), others)
        found = [c for _, c in identity.claims(there) if c.id in evicted]
        found += identity.rivals(own, others)
        return [c for c in found if c.counted and c.service in item.services]

    def _rivals_before(self) -> set[str]:
        kept = self._w.journal.kept.values()
        return {record.id for record, _ in kept if record.reason is Reason.UNKNOWN_CONTAINER}

    # --- one container ---

    def _evict_once(self, found: str, *, rival: bool = False) -> Iterator[None]:
        if found not in self._busy:
            self._busy[found] = iter(())
            yield from self._evict(found, rival=rival)
            self._busy.pop(found, None)

    def _evict(self, found: str, *, rival: bool = False) -> Iterator[None]:
        w, journal = self._w, self._w.journal
        yield
        container = w.host.containers.get(found)
        if container is None or not container.alive or self.protection is None:
            return
        own = journal.made.get(container.project or "")
        known = own.own if own and own.before is None else None
        rivals = identity.rivals(known, w.host.of(container.project)) if container.project else []
        ids = {found} if rival else {c.id for c in rivals}
        protection = replace(self.protection, rivals=frozenset(ids))
        owner = ownership.classify(container, protection, journal.exemptions(w.now))
        if not isinstance(owner, ownership.Undeclared):
            return
        refused = plan.refusal(container, protection, owner.reason, report_only=False)
        if refused or _irreversible(container, w.host.raw(found)):
            return
        self._judge_eviction(container)
        kept = _KEPT_NAME.fullmatch(container.name)
        name = kept[1] if kept else container.name
        remove_at = w.now + KEEP_S
        record = Evicted(
            id=found,
            name=name,
            image="img",
            action=EvictionAction.REMOVED,
            reason=owner.reason,
            at="t",
            remove_at=remove_at,
        )
        journal.kept[found] = record, container.restart or "no"
        yield
        w.host.change(found, restart="no")
        yield
        w.host.stop(found)
        yield
        w.host.change(found, name=kept_name(record))
        yield

    def _tend(self, listed: tuple[Container, ...]) -> Iterator[None]:
        w, journal = self._w, self._w.journal
        before = {c.id: c for c in listed}
        for found, (record, restart) in list(journal.kept.items()):
            was, due = before.get(found), (record.remove_at or 0) <= w.now
            rests = was and not was.alive and was.name.startswith(KEPT_PREFIX) and not due
            if rests or found in self._busy or self.protection is None:
                continue
            container = w.host.containers.get(found)
            if container is None:
                journal.kept.pop(found, None)
                continue
            owner = ownership.classify(container, self.protection, journal.exemptions(w.now))
            rival = record.reason is Reason.UNKNOWN_CONTAINER
            if isinstance(owner, ownership.Declared) and not rival:
                yield from restore_kept(w, record, restart)
            elif isinstance(owner, ownership.Exempt) or container.alive or self.protection.doubt:
                continue
            elif not container.name.startswith(KEPT_PREFIX):
                w.host.change(found, name=kept_name(record))
                yield
            elif due:
                self._judge_eviction(container)
                w.host.remove(found)
                yield
                journal.kept.pop(found, None)
                yield

    # --- what may be ended, judged by other means than the agent's ---

    def _judge_eviction(self, container: Container) -> None:
        w, journal = self._w, self._w.journal
        commit = self._followed
        assert commit is not None, "nothing is known yet"
        assert container.id not in w.ours or not self._in_place(container), "it was deployed"
        rival = self._is_rival(container)
        assert journal.enrolled or rival, "nobody agreed"
        assert self._sure, "it is in doubt what is declared"
        assert container.id not in [c for c, until in journal.granted.items() if until > w.now]
        for name, suspension in journal.suspensions.items():
            over = suspension.until is not None and suspension.until <= w.now
            assert over or name not in {None, container.project}, "it is suspended"
        allowed = commit.allow and container.name.startswith("ci-")
        assert rival or not allowed, "it is allowed"
        assert container.id not in w.host.fragile, "its volumes would go"
        project = container.project
        if not project:
            return
        if rival:
            return
        assert project not in commit.broken, "it is declared, if not readable"
        if project in commit.stacks:
            assert container.labels.get(ONEOFF) != "True", "a one-off of a declared stack"
            assert container.service not in stack(project, commit.stacks[project]).services
            # What the last release had is ended by the deploy that drops it, not one by one.
            release = journal.releases.get(project)
            assert release, "not settled yet"
            assert release.digest == commit.stacks[project], "not settled yet"
        else:
            assert project not in journal.releases, "it was applied and has not left yet"
            assert project not in self._forgotten, "it goes as a whole, or waits as a whole"

    def _in_place(self, container: Container) -> bool:
        """Whether the stack and the service it says it is of are declared."""
        digest = (self._followed or Commit("")).stacks.get(container.project or "")
        return digest is not None and container.service in SERVICES[digest[:2]]

    def _is_rival(self, container: Container) -> bool:
        """Whether the agent did not make it, and it is in nobody's place, or was evicted before."""
        mine = [c for c in self._w.host.of(container.project or "") if c.id in self._w.ours]
        beside = any(c.service == container.service for c in mine)
        return container.id not in self._w.ours and (beside or container.kept)

    def _judge_removals(self, situation: HostState, todo: Plan) -> None:
        """How many go at once, from what the host was a moment ago."""
        revision = situation.desired.revision
        if revision.trailers or revision.sha in situation.approved:
            return
        running = {c.project for c in situation.containers if c.alive and c.project}
        there = set(situation.releases) | (set(situation.attempts) & running)
        gone = {r.project for r in todo.removals if r.after is None}
        there |= gone
        assert len({r.after for r in todo.removals if r.after}) == len(todo.removals) - len(gone)
        gone &= {*situation.releases, *running}  # what never was up takes nothing down
        assert not gone or (gone < there and len(gone) <= max(1, len(there) / 2)), "a cliff"

    def _judge_removal(self, action: RemoveStack) -> None:
        w, journal, project = self._w, self._w.journal, action.project
        commit = self._followed
        assert commit is not None
        assert self._sure, "it is in doubt what is declared"
        assert project not in commit.stacks, "it is declared"
        if action.after:
            release = journal.releases[action.after]
            assert release.digest == commit.stacks[action.after], "its new name is not up"
        for name, suspension in journal.suspensions.items():
            over = suspension.until is not None and suspension.until <= w.now
            assert over or name not in {None, project}, "it is suspended"
        if not journal.enrolled:
            assert project in journal.releases or project in journal.attempts, "nobody agreed"


def _forgotten(situation: HostState) -> frozenset[str]:
    """Projects that were made from the checkout once and that nothing else speaks for."""
    found = {
        c.project
        for c in situation.containers
        if c.project and c.alive and c.labels.get(WORKING_DIR, "").startswith(STACKS_DIR)
    }
    known = {*situation.releases, *situation.desired.names}
    return frozenset(found - known) if situation.enrolled else frozenset()


def restore_kept(world: World, record: Evicted, restart: str) -> Iterator[None]:
    """A kept container as it was, running or not."""
    container = world.host.containers[record.id]
    world.host.change(record.id, restart=restart)
    yield
    if container.name.startswith(KEPT_PREFIX):
        if world.host.called(record.name):
            return
        world.host.change(record.id, name=record.name)
        yield
    world.journal.kept.pop(record.id, None)
    yield
