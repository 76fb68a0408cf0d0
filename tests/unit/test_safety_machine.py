"""People, a repository and an agent that is killed at any moment, played against each other."""

from __future__ import annotations

import copy
import random

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from agent.domain.container import KEPT_PREFIX, NUMBER, ONEOFF, PROJECT, SERVICE, WORKING_DIR
from agent.domain.outcome import Reason
from agent.domain.reconcile.exemptions import Suspension
from tests.unit.builders import STACKS_DIR
from tests.unit.worlds import ANONYMOUS, Agent, Commit, World, restore_kept, stack
from tests.values import replace

LETTERS = "abcde"
NAMES = st.sampled_from(LETTERS)
DIGESTS = st.sampled_from(["d1-x", "d1-y", "d2-x", "d3-x"])
SELDOM = st.sampled_from([False, False, True])
SPANS = st.sampled_from([30.0, 100.0, 600.0])
LONG_S = 5000.0
CYCLES = 6


class Machine(RuleBasedStateMachine):
    """``world`` outlives every agent; ``volumes`` are those that were there a step ago."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World(Commit("0"))
        self.dice = random.Random(0)  # noqa: S311
        self.agent = Agent(self.world, self.dice)
        self.commits = 0
        self.started = 0
        self.volumes: set[str] = set()

    @initialize(
        stacks=st.dictionaries(NAMES, DIGESTS, min_size=2, max_size=4),
        enrolled=st.sampled_from([True, True, False]),
        seed=st.integers(0, 2**16),
        settled=st.sampled_from([True, True, False]),
    )
    def begins(self, stacks: dict[str, str], enrolled: bool, seed: int, settled: bool) -> None:
        self.dice.seed(seed)
        self.world.journal.enrolled = enrolled
        self.world.head = replace(self.world.head, stacks=stacks)
        if settled:
            self.agent.cycle()

    # --- the repository ---

    def commit(self, **changes: object) -> None:
        self.commits += 1
        sha = str(self.commits)
        good = replace(self.world.head, sha=sha, trailer=False, faulty=False)
        self.world.head = replace(good, **changes)

    @rule(name=NAMES, digest=DIGESTS, broken=SELDOM)
    def someone_adds_or_changes_a_stack(self, name: str, digest: str, broken: bool) -> None:
        head = self.world.head
        unread = head.broken | {name} if broken else head.broken - {name}
        self.commit(stacks={**head.stacks, name: digest}, broken=unread)

    @rule(names=st.sets(NAMES, min_size=1, max_size=3), trailer=SELDOM)
    def someone_takes_stacks_off_the_list(self, names: set[str], trailer: bool) -> None:
        head = self.world.head
        stacks = {name: digest for name, digest in head.stacks.items() if name not in names}
        self.commit(stacks=stacks, broken=head.broken - names)
        self.world.head = replace(self.world.head, trailer=trailer)

    @precondition(lambda self: self.world.head.stacks)
    @rule(number=st.integers(0, 4), new=NAMES, digest=st.none() | DIGESTS, broken=SELDOM)
    def someone_renames_a_stack(
        self, number: int, new: str, digest: str | None, broken: bool
    ) -> None:
        stacks = dict(self.world.head.stacks)
        old = sorted(stacks)[number % len(stacks)]
        before = stacks.pop(old)
        stacks[new] = digest or before
        rest = self.world.head.broken - {old, new}
        self.commit(stacks=stacks, broken=rest | {new} if broken else rest)

    @rule(broken=SELDOM, faulty=SELDOM, allow=st.booleans(), number=st.integers(0, 4))
    def someone_writes_what_cannot_be_read(
        self, broken: bool, faulty: bool, allow: bool, number: int
    ) -> None:
        names = sorted(self.world.head.stacks)
        unread = {names[number % len(names)]} if broken and names else set()
        self.commit(broken=frozenset(unread), faulty=faulty, allow=allow)

    # --- people on the host ---

    @rule(
        project=st.sampled_from([None, "other", *LETTERS]),
        service=st.sampled_from([None, "web", "db", "miner"]),
        kind=st.sampled_from(["", "", "", "one-off", "allowed", "of this checkout", "--rm"]),
    )
    def someone_starts_a_container(
        self, project: str | None, service: str | None, kind: str
    ) -> None:
        self.started += 1
        labels = {PROJECT: project, SERVICE: service} if project else {}
        if kind == "one-off":
            labels[ONEOFF] = "True"
        if kind == "of this checkout" and project:
            labels[WORKING_DIR] = f"{STACKS_DIR}/{project}"
        host = self.world.host
        name = f"{'ci' if kind == 'allowed' else 'rogue'}-{self.started}"
        found = host.create(name, {k: v for k, v in labels.items() if v is not None})
        if kind == "--rm":
            host.fragile.add(found)
            host.volumes.add(f"{ANONYMOUS[:-12]}{found[:12]}")
        self.starts(found)

    def starts(self, found: str) -> None:
        self.world.host.change(found, state="running", exit_code=None)
        self.agent.hears(found)

    @precondition(lambda self: self.world.host.containers)
    @rule(
        number=st.integers(0, 30),
        act=st.sampled_from(
            ["stop", "pause", "remove", "rename", "scale", "forge", "start", "start"]
        ),
    )
    def someone_handles_a_container(self, number: int, act: str) -> None:
        host = self.world.host
        found = list(host.containers.values())[number % len(host.containers)]
        if found.id in host.fragile:
            return
        self.started += 1
        match act:
            case "stop":
                host.stop(found.id)
            case "pause" if found.state == "running":
                host.change(found.id, state="paused")
            case "remove":
                host.remove(found.id)
            case "rename":
                host.change(found.id, name=f"renamed-{self.started}")
            case "start" if not found.alive:
                self.starts(found.id)
            case "scale" if found.service:
                name = f"{found.project}-{found.service}-{self.started}"
                self.starts(host.create(name, found.labels))
            case "forge" if found.service:
                # Compose prefers it to the one whose labels it has.
                self.starts(host.create(f"forged-{self.started}", {**found.labels, NUMBER: "0"}))
            case _:
                pass

    @precondition(lambda self: self.world.head.stacks)
    @rule(number=st.integers(0, 4), here=st.booleans())
    def someone_brings_a_stack_up_by_hand(self, number: int, here: bool) -> None:
        name, digest = sorted(self.world.head.stacks.items())[number % len(self.world.head.stacks)]
        for started in self.world.up(stack(name, digest), STACKS_DIR if here else "/root"):
            self.agent.hears(started)

    @rule(
        order=st.sampled_from(["suspend", "suspend", "resume", "approve", "enroll"]),
        name=st.sampled_from([*LETTERS, None]),
        span=st.sampled_from([None, 30.0, 100.0, 600.0]),
    )
    def someone_orders(self, order: str, name: str | None, span: float | None) -> None:
        journal = self.world.journal
        match order:
            case "suspend":
                until = None if span is None else self.world.now + span
                journal.suspensions[name] = Suspension(name, until, "", "t")
            case "resume":
                journal.suspensions.clear()
            case "approve":
                journal.approved.add(self.world.head.sha)
            case _:
                journal.enrolled = True

    @precondition(lambda self: self.world.journal.kept)
    @rule(number=st.integers(0, 9), span=SPANS)
    def someone_brings_a_container_back(self, number: int, span: float) -> None:
        journal = self.world.journal
        record, restart = list(journal.kept.values())[number % len(journal.kept)]
        if record.id not in self.world.host.containers:
            return
        journal.granted[record.id] = self.world.now + span
        for _ in restore_kept(self.world, record, restart):
            pass
        self.starts(record.id)

    # --- the rest of the world ---

    @rule(span=SPANS, failing=st.none() | NAMES)
    def time_passes_and_images_go_or_come_back(self, span: float, failing: str | None) -> None:
        self.world.now += span
        self.world.failing = {failing} if failing else set()

    @rule()
    def remotes_cannot_be_followed_or_can_again(self) -> None:
        self.world.trouble = not self.world.trouble

    # --- the agent ---

    @rule(effects=st.integers(1, 25))
    def the_agent_works(self, effects: int) -> None:
        for _ in range(effects):
            self.agent.step()

    @rule(span=st.sampled_from([1.0, 100.0, 600.0]))
    def the_agent_finishes_a_cycle(self, span: float) -> None:
        self.world.now += span
        self.agent.cycle()

    @rule(cycles=st.integers(2, 3))
    def the_agent_is_left_alone(self, cycles: int) -> None:
        self.world.trouble = False
        self.world.failing.clear()
        for _ in range(cycles):
            self.world.now += 100.0
            self.agent.cycle()

    @rule(effects=st.integers(0, 15))
    def the_agent_is_killed_at_work(self, effects: int) -> None:
        for _ in range(effects):
            self.agent.step()
        self.agent = Agent(self.world, self.dice)

    # --- what must hold ---

    @invariant()
    def no_volume_disappears(self) -> None:
        assert self.volumes <= self.world.host.volumes
        self.volumes = set(self.world.host.volumes)

    def teardown(self) -> None:
        """Left alone, a new agent brings the host where one that was never killed would."""
        fresh = copy.deepcopy(self.world)
        fresh.journal = type(fresh.journal)()
        kept = self.world.journal.kept
        rivals = {i for i, (each, _) in kept.items() if each.reason is Reason.UNKNOWN_CONTAINER}
        fresh.host.containers = {
            # As if none was ever evicted.
            c.id: replace(
                c,
                state="running",
                restart="always",
                name=kept[c.id][0].name if c.id in kept else c.name,
            )
            for c in fresh.host.containers.values()
            if c.id not in rivals and (c.alive or (c.id in kept and not c.one_off))
        }
        assert settles(self.world, self.dice) == settles(fresh, self.dice)


def settles(world: World, dice: random.Random) -> set[tuple[str | None, str | None]]:
    """Repaired, agreed to and left alone: what runs in the end."""
    commit = replace(world.head, sha="last", broken=frozenset(), faulty=False)
    world.head, world.trouble = commit, False
    world.failing.clear()
    world.journal.enrolled = True
    world.journal.approved.add("last")
    world.journal.suspensions.clear()
    agent = Agent(world, dice)
    todo = agent.last
    for _ in range(CYCLES):
        world.now += LONG_S
        agent.cycle()
        todo = agent.last
        stays = [e for e in todo.evictions if e.container.id not in world.host.fragile]
        if not (todo.deploys or todo.removals or stays):
            break
    else:
        raise AssertionError(f"not settled after {CYCLES} cycles: {todo}")
    found = world.runs()
    declared = {(n, s) for n, d in commit.stacks.items() for s in stack(n, d).services}
    assert found == declared
    ours = [c for c in world.host.containers.values() if c.alive and c.project in commit.stacks]
    spared = world.host.fragile | {c.id for c in ours if commit.allow and c.name.startswith("ci-")}
    made = [c for c in ours if c.id not in spared and not c.one_off]
    assert all(c.id in world.ours for c in made), "labels were believed"
    assert len({(c.project, c.service) for c in made}) == len(made), "one is there twice"
    assert all(c.restart == "always" and not c.name.startswith(KEPT_PREFIX) for c in ours)
    return found


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=200, stateful_step_count=40, derandomize=True)
