"""How a host is, in one word and one line: the only place where that is decided.

The log line of a cycle, systemd's ``STATUS=``, ``status``, ``once`` and the API say what this says
of the same :class:`Facts`; exit codes follow from it. What is not known is never called in sync:

    the engine away, no agent, one that does not look   unknown, whatever else is known
    a cycle that failed; stacks or containers not right failed
    something goes on, or is about to                   working
    a hold that only a person ends                      waiting
    no remote for too long                              unknown
    the host suspended                                  suspended
    another manager of the Swarm leads                  standby
    else                                                in sync

The first that is true counts. Times in the line are ISO 8601 in UTC.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from enum import StrEnum

from msgspec import Struct, field
from msgspec.structs import replace

from agent.domain.outcome import Action, Reason
from agent.domain.shortened import some_of
from agent.domain.source.decide import Relation
from agent.domain.status import held, stack_state
from agent.domain.status.facts import Facts, Ongoing
from agent.domain.status.held import Held
from agent.domain.status.stack_state import StackState

_SHOWN = 5
"""Things that go on at the same time, or come next, by name."""
_NO_FAILURES = {Reason.SUSPENDED, Reason.REPORT_ONLY}
"""Holds that somebody wants so, in an order or in the configuration."""


class State(StrEnum):
    """How the whole host is."""

    IN_SYNC = "in-sync"
    SUSPENDED = "suspended"
    STANDBY = "standby"
    WORKING = "working"
    FAILED = "failed"
    WAITING = "waiting"
    UNKNOWN = "unknown"


_GOOD = {State.IN_SYNC, State.SUSPENDED, State.STANDBY}
_EXIT = {State.FAILED: 1, State.WORKING: 1, State.WAITING: 3, State.UNKNOWN: 4}


class VerdictKind(StrEnum):
    """What is wrong with one thing; WAITING: nothing, but a person has to decide."""

    FAILED = "failed"
    BACK = "rolled back"
    OFF = "not in sync"
    DEGRADED = "degraded"
    HELD = "held"
    WAITING = "waits for a person"


class HostTrouble(Struct, frozen=True):
    """One stack, container or other thing that is not as it should be, and why."""

    kind: VerdictKind
    subject: str
    detail: str
    reason: Reason | None = None

    def __str__(self) -> str:
        return f"{self.kind}: {self.subject}" + (f": {self.detail}" if self.detail else "")


class Verdict(Struct, frozen=True):
    """The state of a host, the line that says it to people, and all that is not right.

    ``broken_off``: the last cycle ended with an error, and ``troubles`` are those known before it.
    """

    state: State
    line: str
    troubles: tuple[HostTrouble, ...] = field(default=())
    broken_off: bool = False

    @property
    def exit_code(self) -> int:
        """See :func:`exit_code`."""
        return exit_code(self.state)

    def with_errors(self, errors: Mapping[str, str]) -> Verdict:
        """The same, with how each thing ended that a cycle has just tried, by subject."""
        told = {VerdictKind.FAILED, VerdictKind.BACK, VerdictKind.OFF}
        return replace(
            self,
            troubles=tuple(
                replace(each, detail=errors.get(each.subject, each.detail))
                if each.kind in told
                else each
                for each in self.troubles
            ),
        )


def failed(error: str, since: str = "") -> Verdict:
    """The verdict where nothing more is known than why nothing could be done."""
    return Verdict(State.FAILED, f"reconcile failed: {error}{since}", broken_off=True)


def exit_code(state: State) -> int:
    """0 in sync, suspended, standby; 1 failed or not there; 3 a person is needed; 4 not known."""
    return _EXIT.get(state, 0)


def judge(facts: Facts) -> Verdict:
    """The verdict on a host."""
    holds = held.current(facts)
    return judge_states(facts, holds, stack_state.states(facts, holds))


def judge_states(facts: Facts, holds: Sequence[Held], stacks: Sequence[StackState]) -> Verdict:
    """The same for who has the holds and the states of the stacks at hand."""
    known, silence = _known(facts, holds, stacks), _silence(facts)
    unknown = _not_looking(facts)
    if unknown is None and silence and silence.long and known.state in _GOOD:
        unknown, silence = silence.words, None
    line = known.line + (f" ({silence.words})" if silence else "")
    if unknown is None:
        return replace(known, line=line)
    told = facts.containers is not None and facts.applied
    more = f"; as far as is known: {line}" if told else ""
    return Verdict(State.UNKNOWN, f"not known: {unknown}{more}", known.troubles)


def _not_looking(facts: Facts) -> str | None:
    """Why nobody sees to it that the host is as declared, and since when; None: the agent does."""
    since = f"has not looked since {facts.look.at}" if facts.look.at else "has never looked"
    if facts.containers is None:
        return f"{facts.no_manager or Reason.ENGINE_AWAY.text}; the agent {since}"
    if not facts.running:
        return f"the agent {since} (it does not run)"
    age = facts.age(facts.look.at)
    old = age is None or age > facts.patience
    return f"the agent {since}" if old and not (facts.working or facts.look.error) else None


class _Silence(Struct, frozen=True):
    """No remote answers; ``long`` when for longer than an answer is taken for one of now."""

    words: str
    long: bool


def _silence(facts: Facts) -> _Silence | None:
    """That nobody can tell the host anything new; None while one remote can."""
    if not facts.remotes or any(facts.fresh(remote) for remote in facts.remotes):
        return None
    answered = [
        (remote["checked_at"] if remote["reachable"] else remote["down_since"], remote["patience"])
        for remote in facts.remotes
    ]
    newest = max((at for at, _ in answered if at), default=None)
    long = all((facts.age(at) or patience + 1) > patience for at, patience in answered)
    if newest is None:
        return _Silence("no remote has answered yet", long=True)
    if long:
        return _Silence(f"no remote has answered since {newest}", long=True)
    return _Silence(f"no remote answers since {newest}", long=False)


def _known(facts: Facts, holds: Sequence[Held], stacks: Sequence[StackState]) -> Verdict:
    """What can be said of what was applied and of what runs."""
    coming = _coming(facts, stacks)
    troubles = (*_of_stacks(stacks, holds, coming), *_of_holds(stacks, holds))
    if facts.look.error:
        since = f" (it last worked at {facts.look.at})" if facts.look.at else ""
        return replace(failed(facts.look.error, since), troubles=troubles)
    if facts.applied is None:
        said = [hold.detail for hold in holds]
        said = said or [remote["error"] for remote in facts.remotes if remote["error"]]
        line = f"nothing was ever applied here: {'; '.join(said) or 'no commit was ever fetched'}"
        return Verdict(State.FAILED, line, troubles)
    if facts.standby is not None:
        return _standing_by(facts, facts.standby, holds)
    parts = [*_working(facts, stacks), *_next(coming), *_listed(troubles, stacks)]
    host = any(suspension.stack is None for suspension in facts.suspensions)
    paused = [s.name for s in stacks if s.sync == "suspended"]
    reported = [hold.subject for hold in holds if hold.reason == Reason.REPORT_ONLY]
    asides = [f"only reported: {', '.join(reported)}"] if reported else []
    asides += [f"suspended: {', '.join(paused)}"] if paused and not host else []
    where = facts.applied[:7] + _confirmed(facts)
    head = f"suspended at {where}" if host else f"in sync with {where}"
    head = f"at {where}" if parts else head
    asides += ["suspended"] if host and parts else []
    working = bool(facts.working or coming)
    state = _state(troubles, working=working, host=host)
    return Verdict(state, "; ".join([head, *parts, *asides]), troubles)


def _standing_by(facts: Facts, leader: str, holds: Sequence[Held]) -> Verdict:
    """Of a manager that follows the remotes: what runs is the leader's to judge."""
    troubles = tuple(_of_holds((), holds))
    where = f"checked out {(facts.applied or '')[:7]}{_confirmed(facts)}"
    line = "; ".join([f"standby: leader is {leader}", where, *_listed(troubles, ())])
    state = _state(troubles, working=False, host=False)
    return Verdict(State.STANDBY if state is State.IN_SYNC else state, line, troubles)


def _coming(facts: Facts, stacks: Iterable[StackState]) -> list[str]:
    """The stacks whose turn comes in what the agent is at, or begins with just now."""
    if not (facts.working or facts.accepted_lately):
        return []
    return [stack.name for stack in stacks if stack.sync == "pending" and not stack.working]


def _next(coming: Sequence[str]) -> Iterable[str]:
    if coming:
        yield f"next: {some_of(coming, _SHOWN)}"


def _confirmed(facts: Facts) -> str:
    """The first remote that answers with the applied commit, or that they are all behind it."""
    answers = [each for each in facts.remotes if each["reachable"] and not each["error"]]
    for remote in answers:
        if remote["head"] == facts.applied:
            return f" ({remote['name']})"
    behind = [each["name"] for each in answers if each["relation"] == Relation.BEHIND]
    return f" (behind: {', '.join(behind)})" if behind else ""


def _state(troubles: Iterable[HostTrouble], *, working: bool, host: bool) -> State:
    kinds = {trouble.kind for trouble in troubles}
    if kinds - {VerdictKind.WAITING}:
        return State.FAILED
    if working:
        return State.WORKING
    if kinds:
        return State.WAITING
    return State.SUSPENDED if host else State.IN_SYNC


def _of_stacks(
    stacks: Iterable[StackState], holds: Iterable[Held], coming: Collection[str]
) -> Iterable[HostTrouble]:
    """What is wrong with stacks, the worst first; nothing is with those whose turn is ``coming``.

    One that waits for a person is told of there.
    """
    waiting = {hold.subject for hold in holds if hold.needs_person}
    by_subject = {hold.subject: hold.message for hold in reversed(list(holds))}
    found: list[HostTrouble] = []
    for stack in stacks:
        detail = by_subject.get(stack.name) or stack.message or ""
        if stack.rolled_back and stack.name not in waiting:
            found.append(HostTrouble(VerdictKind.BACK, stack.name, detail, stack.reason))
        elif stack.sync in {"failed", "held"} and stack.name not in waiting:
            found.append(HostTrouble(VerdictKind(stack.sync), stack.name, detail, stack.reason))
        elif stack.sync in {"pending", "unknown"} and not (stack.working or stack.name in coming):
            found.append(HostTrouble(VerdictKind.OFF, stack.name, detail, stack.reason))
        elif stack.sync == "synced" and stack.problems:
            found.append(HostTrouble(VerdictKind.DEGRADED, stack.name, ", ".join(stack.problems)))
    order = list(VerdictKind)
    return sorted(found, key=lambda trouble: order.index(trouble.kind))


def _of_holds(stacks: Iterable[StackState], holds: Iterable[Held]) -> Iterable[HostTrouble]:
    """What is held beside the stacks, and all that waits for a person."""
    told = {stack.name for stack in stacks if stack.sync != "synced"}
    for hold in holds:
        if hold.needs_person:
            yield HostTrouble(VerdictKind.WAITING, hold.subject, hold.message, hold.reason)
        elif hold.subject not in told and hold.reason not in _NO_FAILURES:
            kind = VerdictKind.FAILED if hold.reason == Reason.EVICTION else VerdictKind.HELD
            kind = VerdictKind.OFF if hold.settled else kind
            yield HostTrouble(kind, hold.subject, hold.message, hold.reason)


def _listed(troubles: Sequence[HostTrouble], stacks: Iterable[StackState]) -> Iterable[str]:
    back = {stack.name: stack.rolled_back[:7] for stack in stacks if stack.rolled_back}
    for kind in VerdictKind:
        subjects = list(dict.fromkeys(t.subject for t in troubles if t.kind is kind))
        if subjects and kind is VerdictKind.WAITING:
            yield f"{len(subjects)} waiting for a person"
        elif subjects and kind is VerdictKind.BACK:
            yield ", ".join(f"{name} rolled back to {back[name]}" for name in subjects)
        elif subjects:
            yield f"{kind}: {', '.join(subjects)}"


def _working(facts: Facts, stacks: Iterable[StackState]) -> Iterable[str]:
    """What is under way, and for how long: ``deploying web (8 s), db (2 s)``."""
    names = {stack.name for stack in stacks}
    verbs: dict[str, list[str]] = {}
    first: dict[str, Ongoing] = {}  # what goes on as a part of something else is not told
    for each in facts.working:
        first.setdefault(each.subject, each)
    for action in first.values():
        undo = action.action is Action.RESTART and action.subject not in names
        verb = "bringing back" if undo else action.action.text
        seconds = max(0, int(facts.age(action.since) or 0))
        verbs.setdefault(verb, []).append(f"{action.subject} ({seconds} s)")
    for verb, subjects in verbs.items():
        yield f"{verb} {some_of(subjects, _SHOWN)}"
