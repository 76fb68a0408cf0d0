"""What happened that a person wants to hear of.

    an action that has ended ─▶ done_by ──▶ a Happening, one message
    a judgement on the host ──▶ troubles ─▶ what is wrong now: a message when it begins and ends

Pure: an action comes from the journal, a judgement from the agent, and both with the commit that
was in force.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from msgspec import Struct

from agent.domain.outcome import Action, CauseKind, EvictionAction, Reason, Status
from agent.domain.outside_config import Kind
from agent.domain.shortened import some_of
from agent.domain.status import remedy
from agent.domain.status.facts import Facts
from agent.domain.status.held import Held
from agent.domain.status.stack_state import StackState
from agent.domain.status.verdict import HostTrouble, Verdict, VerdictKind

_UNDECLARED = {
    Reason.NO_PROJECT,
    Reason.UNKNOWN_PROJECT,
    Reason.UNKNOWN_SERVICE,
    Reason.UNKNOWN_CONTAINER,
}
_LOOK = "commitd status"
_SHOWN = 3
_MANY = {
    Reason.RATE: "undeclared containers",
    Reason.NOT_ENROLLED: "undeclared containers",
}
_SAID = {VerdictKind.DEGRADED: "is not healthy", VerdictKind.HELD: "is held"}
HOST = "the host"
"""The key of a trouble of the host as a whole: no stack or container has a space in its name."""
_FAILS = {Action.DEPLOY, Action.RESTART, Action.ROLLBACK, Action.REMOVE_STACK, Action.EVICT}


class Commit(Struct, frozen=True, kw_only=True):
    """A commit as people know it; without its subject where that is not at hand."""

    sha: str
    subject: str = ""
    author: str = ""


class Happening(Struct, frozen=True, kw_only=True):
    """One thing that happened, for people.

    ``said`` is what happened to the subject ("failed", "was rolled back to 1a2b3c4"), ``cause``
    why, ``advice`` what to do: a command or a sentence. ``key`` and ``version`` say which trouble
    it is: of the same thing, and with the same input, it is one message. One that is
    ``passing`` may be over in a moment.
    """

    kind: Kind
    subject: str
    said: str
    cause: str = ""
    commit: Commit | None = None
    advice: str = ""
    key: str = ""
    version: str = ""
    passing: bool = False


class Done(Struct, frozen=True, kw_only=True):
    """An action that has ended, as the journal has it."""

    action: Action
    subject: str
    reason: Reason
    status: str
    message: str
    error: str | None = None
    revision: str | None = None
    after: str | None = None
    """Of an eviction: what became of the container."""
    moved: tuple[str, ...] = ()
    """What moved, so that it was done."""


class Declared(Struct, frozen=True, kw_only=True):
    """The commit in force and the digests of what it declares here, by stack."""

    commit: Commit | None = None
    stacks: Mapping[str, str] = {}

    @classmethod
    def read(cls, kept: Mapping[str, Any] | None) -> Declared:
        """As the journal keeps it."""
        revision = (kept or {}).get("revision") or {}
        if "sha" not in revision:
            return cls()
        commit = Commit(
            sha=revision["sha"],
            subject=revision.get("subject") or "",
            author=revision.get("author") or "",
        )
        return cls(commit=commit, stacks=(kept or {}).get("stacks") or {})

    def of(self, sha: str | None) -> Commit | None:
        """The commit of this SHA, as far as it is known."""
        if sha is None:
            return self.commit
        return self.commit if self.commit and self.commit.sha == sha else Commit(sha=sha)


def done_by(done: Done, declared: Declared) -> Happening | None:
    """What an action that has ended means to a person; None: nothing."""
    good = done.status == Status.SUCCEEDED
    if done.status == Status.FAILED and done.action in _FAILS:
        return _failed(done, declared)
    if not good:
        return None
    name, commit = done.subject, declared.of(done.revision)
    match done.action:
        case Action.DEPLOY:
            return Happening(
                kind=Kind.DEPLOYED, subject=name, said="deployed", cause=_why(done),
                commit=commit, key=name,
            )  # fmt: skip
        case Action.REMOVE_STACK:
            return Happening(
                kind=Kind.DEPLOYED, subject=name, said="removed; its volumes stay",
                cause=done.message, commit=commit, key=name,
            )  # fmt: skip
        case Action.ROLLBACK:
            return Happening(
                kind=Kind.ROLLED_BACK, subject=name,
                said=f"was rolled back to {(done.revision or '')[:7]}", cause=done.message,
                commit=declared.commit, key=name, version=declared.stacks.get(name, ""),
                advice=f"commit a correction, or: commitd retry {name}",
            )  # fmt: skip
        case Action.EVICT if done.reason in _UNDECLARED:
            kept = done.after == EvictionAction.REMOVED
            return Happening(
                kind=Kind.EVICTED, subject=name,
                said=f"was {'removed' if kept else 'stopped'}: nobody declared it",
                cause=done.message, commit=commit,
                advice=f"to bring it back: commitd undo {name}" if kept else "declare or allow it",
            )  # fmt: skip
        case _:
            return None


def _why(done: Done) -> str:
    moved = some_of(done.moved, _SHOWN)
    return f"{done.message}: {moved}" if moved else done.message


def _failed(done: Done, declared: Declared) -> Happening:
    what = {
        Action.ROLLBACK: "could not be rolled back",
        Action.REMOVE_STACK: "could not be removed",
        Action.EVICT: "could not be stopped: nobody declared it",
        Action.RESTART: "could not be repaired",
    }
    commit = declared.commit if done.action is Action.ROLLBACK else declared.of(done.revision)
    stack = done.action is not Action.EVICT
    return Happening(
        kind=Kind.FAILED,
        subject=done.subject,
        said=what.get(done.action, "failed"),
        cause=done.error or done.message,
        commit=commit,
        advice=f"commitd why {done.subject}" if stack else _LOOK,
        key=done.subject,
        version=declared.stacks.get(done.subject, ""),
    )


def held(name: str) -> str:
    """The key of what waits for a person about a stack or another thing."""
    return f"held {name}"


def after_eviction(causes: Iterable[tuple[str, str | None]]) -> str | None:
    """What became of a container, by the kinds and new values of the causes of its eviction."""
    return next((after for kind, after in causes if kind == CauseKind.CONTAINER), None)


def troubles(
    facts: Facts, holds: Iterable[Held], verdict: Verdict, declared: Declared
) -> dict[str, Happening]:
    """What is wrong with the host at the end of a cycle, by key."""
    found: dict[str, Happening] = {}
    by_subject = {hold.subject: hold for hold in reversed(list(holds))}
    for trouble in verdict.troubles:
        hold = by_subject.get(trouble.subject)
        happening = _of_trouble(trouble, hold, facts, declared)
        if happening:
            found.setdefault(happening.key, happening)
    if error := facts.look.error or (verdict.line if facts.containers is None else None):
        found[HOST] = Happening(
            kind=Kind.FAILED, subject=facts.host, said="cannot be kept as declared", cause=error,
            commit=declared.commit, advice=_LOOK, key=HOST, passing=True,
        )  # fmt: skip
    for happening in _remotes(facts):
        found[happening.key] = happening
    return found


def unclear(stacks: Iterable[StackState], verdict: Verdict) -> set[str]:
    """Keys of which nothing follows when they are no trouble: nobody can say that it has passed.

    Of stacks that are suspended, being worked on, or not what was declared.
    """
    names = {stack.name for stack in stacks if stack.sync == "suspended" or stack.working}
    names |= {each.subject for each in verdict.troubles if each.kind is VerdictKind.OFF}
    return names | {held(name) for name in names}


def _of_trouble(
    trouble: HostTrouble, hold: Held | None, facts: Facts, declared: Declared
) -> Happening | None:
    if trouble.kind is VerdictKind.OFF:  # it is about to be worked on
        return None
    name, reason = trouble.subject, hold.reason if hold else Reason.OTHER
    if reason in _MANY:  # one trouble, however many containers it is about
        name = _MANY[reason]
    if trouble.kind is VerdictKind.WAITING:
        return Happening(
            kind=Kind.HELD, subject=name,
            said="wait for a person" if reason in _MANY else "waits for a person",
            cause=trouble.detail,
            commit=declared.commit, key=held(name),
            advice=(hold and remedy.command(hold, facts)) or _LOOK,
        )  # fmt: skip
    return Happening(
        kind=Kind.FAILED, subject=name, said=_SAID.get(trouble.kind, "failed"),
        cause=trouble.detail, commit=declared.commit,
        advice=f"commitd why {name}" if name in declared.stacks else _LOOK,
        key=name, version=declared.stacks.get(name, ""),
        passing=trouble.kind is VerdictKind.DEGRADED,
    )  # fmt: skip


def _remotes(facts: Facts) -> Iterable[Happening]:
    answering = [each["name"] for each in facts.remotes if each["reachable"]]
    for remote in facts.remotes:
        if remote["reachable"] or not remote["down_since"]:
            continue
        name = remote["name"]
        other = f"{answering[0]} is followed" if answering else "no other remote answers"
        yield Happening(
            kind=Kind.REMOTE_DOWN, subject=name, said=f"does not answer; {other}",
            cause=remote["error"] or "", advice=_LOOK, key=f"remote {name}",
            passing=True,
        )  # fmt: skip
