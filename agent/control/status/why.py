"""Finding out why something runs here, from the journal, the clone and a look at the engine."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any

import anyio.to_thread
from msgspec import Struct
from msgspec.structs import replace

from agent.adapters.git.blame import Blame
from agent.adapters.git.repository import Repository
from agent.adapters.host import api_socket
from agent.adapters.state.actions import JournalEntry
from agent.adapters.state.database import iso
from agent.adapters.state.evictions import Evicted
from agent.adapters.state.journal import Journal, open_journal
from agent.control.reconcile import observe
from agent.control.status import status
from agent.domain.config import Config
from agent.domain.container import SWARM_TASK, Container
from agent.domain.errors import CommitdError, ConfigError
from agent.domain.outcome import Action, CauseKind, EvictionAction
from agent.domain.reconcile import host_state, ownership, plan
from agent.domain.reconcile.exemptions import Exemptions
from agent.domain.release.release import Release
from agent.domain.repository.desired import DesiredState
from agent.domain.repository.tree import Snapshot
from agent.domain.status import why
from agent.domain.status.why import Explanation, Provenance

_TOUCHED = 5
"""Causes of the newest action whose commits are looked for."""


Words = Callable[[str], Mapping[str, str] | None]
"""What a container of the stack has said last (``text``), and when (``at``)."""


class DeclaredAt(Struct, frozen=True):
    """What the applied commit says; empty where it cannot be read (any more)."""

    desired: DesiredState | None = None
    files: Snapshot | None = None


async def document(config: Config, word: str, words: Words | None = None) -> dict[str, Any]:
    """The document of ``why --json``: why the stack or container ``word`` runs, or does not.

    ``words`` is who knows what a container of a stack has said last; None: the agent, if it runs.
    Raises :class:`CommitdError`; for what is not known here :class:`ConfigError`.
    """
    journal, repository = open_journal(config), Repository.to_read(config)
    declared = await _read(config, journal, repository)
    answer = await Explainer(config, journal, repository, declared).explain(word)
    if answer.stack:
        said = await anyio.to_thread.run_sync(words or partial(_ask_agent, config), answer.stack)
        answer = replace(answer, words=said)
    return answer.as_json()


def _ask_agent(config: Config, stack: str) -> Mapping[str, str] | None:
    found = api_socket.ask(config.runtime_dir, "GET", f"/v1/words/{stack}")
    return found.document if found and found.code == api_socket.OK else None


async def _read(config: Config, journal: Journal, repository: Repository) -> DeclaredAt:
    """The applied commit, read anew."""
    known = (journal.get("declared") or {}).get("revision")
    try:
        if known is None:
            return DeclaredAt()
        desired, files = await repository.declared(known["sha"], config.host)
        return DeclaredAt(desired, files)
    except (CommitdError, OSError):  # a clone that is gone or broken: the journal goes on answering
        return DeclaredAt()


class Explainer:
    """Answers for one host. All that it looks at is read only."""

    def __init__(
        self, config: Config, journal: Journal, repository: Repository, declared: DeclaredAt
    ) -> None:
        self._config = config
        self._journal = journal
        desired, self._declared = declared.desired, declared
        self._blame = Blame(repository.git, desired.revision.sha) if desired else None
        self._containers = status.list_containers(config, journal)
        stacks = status.status(config, journal)["stacks"]
        self._stacks: dict[str, Mapping[str, Any]] = {str(each["name"]): each for each in stacks}
        self._releases = journal.releases()

    async def explain(self, word: str) -> Explanation:
        """Why the stack or container ``word`` runs, or does not.

        Raises :class:`ConfigError` for what is not known here, with the nearest names.
        """
        if word in self._stacks:
            return await self._stack(word)
        if container := why.find(word, self._containers or ()):
            return await self._container(container, word)
        evicted = self._journal.remembered(word)
        if evicted:
            return await self._gone(evicted[0], word)
        if self._containers is None and (owner := self._owner_by_name(word)):
            answer = await self._service(
                Explanation(name=word, kind="container", because=""), *owner
            )
            said = f"{word} is of the service {owner[1]} of {owner[0]}; the engine does not answer"
            return replace(answer, because=said)
        if word in self._journal.subjects():
            return await self._left(word)
        raise self._unknown(word)

    def names(self) -> list[str]:
        """All stacks and containers that can be asked for."""
        return sorted(
            {
                *self._stacks,
                *(c.name for c in self._containers or ()),
                *(e.name for e in self._journal.evicted()),
                *self._journal.subjects(),
            }
        )

    def _unknown(self, word: str) -> ConfigError:
        listed = self._containers or ()
        if several := [c.name for c in listed if word and c.id.startswith(word)][:3]:
            return ConfigError(
                f"{word!r} is too little of an ID to tell which container is meant",
                hint=f"did you mean {' or '.join(map(repr, several))}?",
            )
        near = difflib.get_close_matches(word, self.names(), 3)
        hint = f"did you mean {' or '.join(map(repr, near))}?" if near else ""
        silent = "; the engine does not answer" if self._containers is None else ""
        return ConfigError(
            f"no stack, service or container here is called {word!r}{silent}",
            hint=hint or "commitd status lists what there is",
        )

    # --- stacks ---

    async def _stack(self, name: str) -> Explanation:
        state = self._stacks[name]
        answer = Explanation(name=name, kind="stack", because="", stack=name, state=state)
        answer = await self._declaration(answer, name)
        answer = replace(answer, services=await self._services(name))
        answer = await self._with_last(answer, name)
        if answer.declared:
            because = f"{name} is declared by {answer.declared.where}"
        elif name in self._known_as_declared():
            because = f"{name} is declared for this host, by a commit that cannot be read here"
        else:
            because = f"{name} is not declared any more"
        if working := state["working"]:
            because += f"; {Action(working['action']).text} since {working['since']}"
        elif back := state["rolled_back_to"]:
            because += f"; it was rolled back to {back[:7]}"
        elif state["sync"] == "failed" and state["message"]:
            return replace(answer, because=f"{because}; {state['message']}")
        elif state["message"]:
            because += f"; it is {state['sync']}"
        because += f": {state['message']}" if state["message"] else ""
        return replace(answer, because=because)

    def _known_as_declared(self) -> set[str]:
        declared = self._journal.get("declared") or {}
        return {*declared.get("stacks", {}), *declared.get("broken", {})}

    async def _declaration(self, answer: Explanation, name: str) -> Explanation:
        desired = self._declared.desired
        if desired and (where := desired.listed.get(name)):
            return replace(answer, declared=await self._at(where))
        if desired is None or not self._blame:
            return answer
        path = f"host/{self._config.host}/stacks.yaml"
        commit = await self._blame.dropped(name, path)
        return replace(answer, left=Provenance(path, commit)) if commit else answer

    async def _services(self, name: str, only: str | None = None) -> tuple[why.ServiceFacts, ...]:
        desired = self._declared.desired
        found = why.services(name, desired, self._releases.get(name), self._containers or ())
        stack = next((s for s in desired.stacks if s.name == name), None) if desired else None
        files = self._declared.files
        places = why.places(stack, files) if stack and files else {}
        return tuple(
            [
                why.ServiceFacts(
                    service,
                    image,
                    await self._at(places[service]) if service in places else None,
                    containers,
                )
                for service, (image, containers) in found.items()
                if only in {None, service}
            ]
        )

    async def _service(self, answer: Explanation, stack: str, service: str) -> Explanation:
        answer = replace(answer, stack=stack, state=self._stacks.get(stack))
        answer = await self._declaration(answer, stack)
        answer = replace(answer, services=await self._services(stack, service))
        return await self._with_last(answer, stack)

    async def _left(self, name: str) -> Explanation:
        """Something that was here once: a stack that left, or a container that was dropped."""
        answer = await self._with_last(Explanation(name=name, kind="stack", because=""), name)
        action = answer.last["action"] if answer.last else None
        if action in {Action.EVICT, Action.RESTART}:
            return replace(answer, kind="container", because=f"{name} is not here any more")
        answer = await self._declaration(replace(answer, stack=name), name)
        because = f"{name} is not declared any more"
        if self._containers is None:
            because += "; whether it runs is not known: the engine does not answer"
        elif left := [c.name for c in self._containers if c.project == name and c.alive]:
            because += f"; of its project still run {', '.join(left)}"
        else:
            because += ", and does not run"
        return replace(answer, because=because)

    # --- containers ---

    async def _container(self, container: Container, word: str) -> Explanation:
        answer = Explanation(name=word, kind="container", because="", container=container)
        records = [e for e in self._journal.remembered(container.id) if e.id == container.id]
        if self._declared.desired:
            exempted = observe.exemptions(self._journal, self._journal.helpers())
            now = observe.situation(
                self._journal,
                self._config,
                self._declared.desired,
                self._containers or (),
                exempted,
            )
            protection = host_state.protected(now)
            owner = ownership.classify(container, protection, exempted)
            if isinstance(owner, ownership.Declared):
                return await self._of_stack(answer, container)
            if isinstance(owner, ownership.Exempt):
                return await self._exempt_answer(answer, container, owner, exempted)
            because = f"nobody declared {container.name}: {owner.reason.text}"
            report_only = self._config.undeclared.mode == "report"
            hold = plan.refusal(container, protection, owner.reason, report_only=report_only)
            if container.alive and hold:
                because += f"; it is left running: {hold.message}"
            elif container.alive:
                because += "; the agent evicts it in its next cycle"
        elif container.project in self._stacks:
            return await self._of_stack(answer, container)
        else:
            because = f"what is declared cannot be read, so {container.name} is left alone"
        if records:
            return await self._ended(replace(answer, because=because), records[0])
        return await self._with_last(replace(answer, because=because), container.name)

    async def _of_stack(self, answer: Explanation, container: Container) -> Explanation:
        stack, service = container.project or "", container.service or ""
        answer = await self._service(answer, stack, service)
        where = f", which {answer.declared.where} declares" if answer.declared else ""
        because = f"{container.name} is of the service {service} of {stack}{where}"
        return replace(answer, because=because)

    async def _exempt_answer(
        self,
        answer: Explanation,
        container: Container,
        owner: ownership.Exempt,
        exempted: Exemptions,
    ) -> Explanation:
        said = owner.reason.message(owner.where)
        because = f"no stack declares {container.name}; it is left alone: {said}"
        if paused := exempted.suspension(container.project):
            because += f" {plan.suspended(paused, self._config.host).detail}"
        rule = await self._at(owner.where) if owner.where else None
        granted = self._journal.granted(self._journal.now()).get(container.id)
        if granted and SWARM_TASK not in container.labels:
            because += f", until {iso(datetime.fromtimestamp(granted, UTC))}"
        records = [e for e in self._journal.remembered(container.id) if e.id == container.id]
        answer = replace(answer, because=because, exempt=owner.reason, rule=rule)
        if records and records[0].action is not EvictionAction.REPORTED:
            return await self._ended(answer, records[0])
        return await self._with_last(answer, container.name)

    async def _ended(self, answer: Explanation, record: Evicted) -> Explanation:
        ended = why.Ended(
            id=record.id,
            action=record.action,
            reason=record.reason,
            message=record.message,
            at=record.at,
            kept_until=None if record.remove_at is None else self._journal.shown(record.remove_at),
            undoable=record.id in {each.id for each in self._journal.kept()},
        )
        return await self._with_last(replace(answer, ended=ended), record.name)

    async def _gone(self, record: Evicted, word: str) -> Explanation:
        """One that the journal alone remembers, or that has another name while it is kept."""
        kept = next((c for c in self._containers or () if c.id == record.id), None)
        because = f"nobody declared {record.name}: {record.message}"
        answer = Explanation(name=word, kind="container", because=because, container=kept)
        if kept and kept.alive:
            return await self._container(kept, word)
        return await self._ended(answer, record)

    def _owner_by_name(self, word: str) -> tuple[str, str] | None:
        """Whose a container with this name must be, while nobody can be asked."""
        for name, release in self._releases.items():
            for service in release.services:
                if word == service.container_name or _numbered(word, release, service.name):
                    return name, service.name
        return None

    # --- what both need ---

    async def _at(self, where: str) -> Provenance:
        return Provenance(where, await self._blame.line(where) if self._blame else None)

    async def _with_last(self, answer: Explanation, subject: str) -> Explanation:
        entries = self._journal.history(subject=subject, limit=10)
        last = next((e for e in entries if e.action is not Action.HOLD), None) or next(
            iter(entries), None
        )
        if last is None:
            return answer
        touched = {}
        for path in _paths(last):
            if self._blame and (commit := await self._blame.file(path)):
                touched[path] = commit
        return replace(answer, last=last.as_json(), touched=touched)


def _paths(entry: JournalEntry) -> Iterable[str]:
    """The files among the causes of an action."""
    return [c.name for c in entry.cause if c.kind is CauseKind.FILE and c.name][:_TOUCHED]


def _numbered(word: str, release: Release, service: str) -> bool:
    number = word.removeprefix(f"{release.stack}-{service}-")
    return number != word and number.isdigit()
