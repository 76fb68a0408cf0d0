"""From what the remotes say to a checkout.

    heads ─▶ fetched, if not here ─▶ decide ─┬▶ Stay: as it was
                                             ├▶ Wait: held for a person
        checked out ◀─ its list can be read  └▶ Accept ─▶ its signature is trusted ─┐
                           └───────────────── its tree is safe ◀────────────────────┘

A remote that cannot deliver counts as down. Whatever Accept fails at is a hold; a list that cannot
be read is a doubt as well, in which nothing is removed.
"""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace

from agent.adapters.git.repository import FETCH_TIMEOUT_S, Repository
from agent.adapters.git.signatures import Verifier
from agent.adapters.git.work_tree import Signature
from agent.adapters.state.async_journal import AsyncJournal
from agent.control.lru import Lru
from agent.control.source.pinned_releases import applicable, kept_files
from agent.control.source.remote_status import Remotes
from agent.domain.backoff import Backoff
from agent.domain.config import Config, Remote
from agent.domain.errors import CommitdError, HeldError, PermanentError, UnreachableError
from agent.domain.finding import Fault
from agent.domain.outcome import Action, Cause, CauseKind, Reason
from agent.domain.reconcile.actions import Hold
from agent.domain.repository.desired import DesiredState
from agent.domain.source import decide
from agent.domain.source.decide import Answer, Head, Relation

log = logging.getLogger("commitd.follower")

SHARED_FETCH_S = 20.0
"""For a fetch of a commit that another remote shows too: then that one is next."""
_REFETCH = Backoff(first_s=1.0, longest_s=300.0)
"""Between two tries to fetch the same commit."""
_REMEMBERED = 1000
"""Pairs of commits, and commits that could not be fetched."""


@dataclass(frozen=True, slots=True)
class Followed:
    """What is to be enforced now, which remote confirms it, and why it is not something else.

    ``doubt`` says why what is declared is not known for sure; then nothing may be removed.
    """

    desired: DesiredState | None
    confirmed: str | None
    holds: tuple[Hold, ...] = ()
    doubt: str | None = None


class Follower:
    """Keeps the checkout at the commit that the remotes agree on.

    Without news from the remotes, and with no local edit, it starts no process.
    """

    def __init__(
        self,
        config: Config,
        repository: Repository,
        remotes: Remotes,
        journal: AsyncJournal,
        verifier: Verifier,
    ) -> None:
        self._config = config
        self._repository = repository
        self._remotes = remotes
        self._journal = journal
        self._verifier = verifier
        self._by_name: Mapping[str, Remote] = {r.name: r for r in config.remotes}
        self._seen: object = None
        self._current = Followed(None, None)
        self._pairs: Lru[tuple[str, str], bool] = Lru(_REMEMBERED)
        self._failed: Lru[tuple[str, str], tuple[int, float]] = Lru(_REMEMBERED)
        self._signature: Signature = {}

    async def follow(self) -> Followed:
        """Move to the commit to follow, if there is a new one. Raises :class:`CommitdError`."""
        await self._repository.settle()
        heads = shown = self._remotes.heads()
        approved = await self._journal.approved()
        question = (tuple((h.remote, h.answer, h.sha) for h in heads), approved)
        if question != self._seen or self._current.desired is None:
            heads, complete, missing = await self._fetch_unknown(heads)
            self._current = await self._decide(heads, approved)
            self._current = replace(self._current, holds=(*self._current.holds, *missing))
            # What could not be fetched, or is held, may have been mended meanwhile: look again.
            self._seen = question if complete and not self._current.holds else None
        await self._remotes.save()
        in_the_way = await self._discard_edits()
        absent = decide.absent(shown, self._config.branch)
        return replace(
            self._current,
            holds=(*self._current.holds, *in_the_way, *self._absences(absent)),
            doubt=self._current.doubt or _doubt(absent, shown),
        )

    def _absences(self, absent: Iterable[tuple[str, str]]) -> list[Hold]:
        """Remotes without the branch, which follow from the answers alone and end with them."""
        how = "push it, or name another as branch: in the host's configuration"
        return [
            Hold(remote, Reason.BRANCH, f"{detail}; {how}", needs_person=True)
            for remote, detail in absent
        ]

    async def stay(self) -> Followed:
        """What is checked out, whatever the remotes say and whoever edited it."""
        if applied := await self._repository.applied():
            await self._load(applied)
        return self._current

    async def _fetch_unknown(self, heads: list[Head]) -> tuple[list[Head], bool, list[Hold]]:
        """Bring in the commits that are not here, each from the first remote that delivers it.

        A remote that cannot deliver counts as down; a commit that none delivers is a hold, and
        asked for again with a backoff. The flag says whether nothing is missing.
        """
        found: list[Head] = []
        failures: dict[str, str] = {}
        for head in heads:
            if head.sha is None or await self._repository.knows(head.sha):
                found.append(head)
                continue
            tries, next_at = self._failed.get((head.remote, head.sha)) or (0, 0.0)
            try:
                if time.monotonic() < next_at:
                    raise UnreachableError(f"{head.remote}: waits before it fetches again")
                alone = sum(other.sha == head.sha for other in heads) == 1
                patience_s = FETCH_TIMEOUT_S if alone else SHARED_FETCH_S
                remote = self._by_name[head.remote]
                fetched = await self._repository.fetch(remote, head.sha, timeout_s=patience_s)
            except CommitdError as err:
                if time.monotonic() >= next_at:
                    log.warning("%s", err)
                    next_at = time.monotonic() + _REFETCH.wait_s(tries + 1)
                    self._failed.put((head.remote, head.sha), (tries + 1, next_at))
                failures[head.sha] = f"{head.remote} shows {head.sha[:7]}: {err}"
                found.append(replace(head, answer=Answer.DOWN, sha=None, error=str(err)))
            else:
                self._failed.clear()
                found.append(replace(head, sha=fetched))
        holds = [
            Hold(self._config.host, Reason.FETCH, detail)
            for sha, detail in failures.items()
            if not await self._repository.knows(sha)
        ]
        return found, not failures, holds

    async def _decide(self, heads: list[Head], approved: frozenset[str]) -> Followed:
        applied = await self._applied()
        if applied:
            await self._load(applied)
        ancestry = await self._ancestry(await self._known(heads, applied))
        follow = self._config.history == "follow"
        decision = decide.decide(heads, ancestry, applied, follow=follow, approved=approved)
        match decision:
            case decide.Accept(sha=sha, remote=remote):
                self._current = await self._advance(sha, remote, applied)
            case decide.Wait(detail=detail, remote=remote):
                hold = Hold(remote, Reason.HISTORY, detail, needs_person=True)
                self._current = replace(self._current, holds=(hold,), doubt=None)
            case decide.Stay(remote=remote, detail=detail):
                silent = all(head.answer is Answer.DOWN for head in heads)
                shown = any(head.sha for head in heads)
                confirmed = remote or (detail if shown else "no remote answers" if silent else None)
                self._current = replace(self._current, confirmed=confirmed, holds=(), doubt=None)
        await self._relate(heads)
        return self._current

    async def _known(self, heads: Iterable[Head], applied: str | None) -> set[str]:
        """All commits that a decision is about: shown now, shown before and here, applied."""
        shas = {sha for sha in (applied, *(head.sha for head in heads)) if sha}
        for head in heads:
            if head.last and head.last not in shas and await self._repository.knows(head.last):
                shas.add(head.last)
        return shas

    async def _applied(self) -> str | None:
        """The applied commit; the journal remembers it beyond a clone that was rebuilt."""
        applied = await self._repository.applied()
        if applied is not None:
            return applied
        if declared := await self._journal.get("declared"):
            known: str = declared["revision"]["sha"]
            if await self._repository.knows(known):
                overlays = await self._overlays(known, await self._read(known))
                if faults := await self._in_the_way(known, overlays):
                    raise PermanentError(str(faults[0]))
                await self._repository.reset(known, overlays)
                return known
            raise PermanentError(
                f"the applied commit {known[:7]} is missing locally and on all remotes",
                hint="push it again; until then all containers stay as they are",
            )
        return None

    async def _ancestry(self, shas: set[str]) -> decide.Ancestry:
        """Who descends from whom; asked once for each pair, for the answer never changes."""
        found: set[tuple[str, str]] = set()
        for pair in itertools.permutations(shas, 2):
            older, newer = pair
            descends = self._pairs.get(pair)
            if descends is None:
                descends = await self._repository.descends(newer, older)
                self._pairs.put(pair, descends)
            if descends:
                found.add(pair)
        return decide.Ancestry(frozenset(found))

    async def _relate(self, heads: Iterable[Head]) -> None:
        applied = self._current.desired.revision.sha if self._current.desired else None
        for head in heads:
            last = head.sha or head.last
            gone = head.answer in {Answer.EMPTY, Answer.NO_BRANCH}
            if gone or not (applied and last and await self._repository.knows(last)):
                self._remotes.relate(head.remote, last, Relation.UNKNOWN, None)
                continue
            relation = (await self._ancestry({last, applied})).relation(last, applied)
            lag = await self._repository.count(last, applied) if last != applied else 0
            self._remotes.relate(head.remote, last, relation, lag)

    async def _advance(self, sha: str, remote: str, applied: str | None) -> Followed:
        """Verify and look at the commit, then make it the checkout; in doubt keep what is there."""
        repository, host = self._repository, self._config.host
        revision = await repository.revision(sha)
        await self._journal.put("attempted", {**asdict(revision), "remote": remote})
        if unsigned := await self._verifier.refusal(applied, sha):
            hold = Hold(host, Reason.SIGNATURE, unsigned, needs_person=True)
            return replace(self._current, holds=(hold,), doubt=None)
        if faults := await repository.faults(sha):
            return replace(self._current, holds=_unsafe(sha, faults), doubt=None)
        try:
            desired = await self._read(sha)
        except PermanentError as err:
            # Without a readable list it is unknown what is declared: the last good commit stays.
            hold = Hold(host, Reason.LIST_IN_DOUBT, f"{sha[:7]}: {err}")
            return replace(self._current, holds=(hold,), doubt=hold.detail)
        overlays = await self._overlays(sha, desired)
        if faults := await self._in_the_way(sha, overlays):
            return replace(self._current, holds=_unsafe(sha, faults), doubt=None)
        cause = Cause(
            kind=CauseKind.COMMIT,
            name=f"{remote}/{self._config.branch}",
            before=applied,
            after=sha,
            commit=sha,
        )
        try:
            async with self._journal.recording(
                Action.ACCEPT, host, Reason.NEW_HEAD, causes=[cause], revision=sha
            ):
                # Before: cut short, it is asked for again rather than used twice.
                await self._journal.end_approvals(sha)
                await repository.reset(sha, overlays)
        except HeldError as err:
            hold = Hold(err.where or host, Reason.TREE, f"{sha[:7]}: {err}")
            return replace(self._current, holds=(hold,), doubt=None)
        log.info(
            "%s: accepted %s by %s from %s",
            revision.short,
            revision.subject,
            revision.author,
            remote,
        )
        await self._take(desired)
        return Followed(desired, remote)

    async def _load(self, applied: str) -> None:
        """Read the checked-out commit, if that was not done before."""
        desired = self._current.desired
        if desired is None or desired.revision.sha != applied:
            await self._take(await self._read(applied))

    async def _read(self, sha: str) -> DesiredState:
        return (await self._repository.declared(sha, self._config.host))[0]

    async def _take(self, desired: DesiredState) -> None:
        self._current = replace(self._current, desired=desired)
        tree = await self._repository.tree("HEAD")
        # Edits that were made while no agent ran are not in any signature yet.
        edited = await self._repository.local_edits()
        self._signature = {} if edited else await self._repository.signature(tree)
        await self._journal.put("declared", declared(desired))

    async def _discard_edits(self) -> list[Hold]:
        """The remote is the truth: tracked files that were edited here become the commit's.

        Not where untracked data would go with them; that is returned as holds.
        """
        if self._current.desired is None:
            return []
        repository, desired = self._repository, self._current.desired
        sha = desired.revision.sha
        if self._signature and await repository.signature(self._signature) == self._signature:
            return []
        if edits := await repository.local_edits():
            overlays = await self._overlays(sha, desired)
            if faults := await self._in_the_way(sha, overlays):
                return [Hold(fault.where, Reason.TREE, str(fault)) for fault in faults]
            async with self._journal.recording(
                Action.ACCEPT,
                self._config.host,
                Reason.LOCAL_EDIT,
                causes=[
                    Cause(
                        kind=CauseKind.FILE,
                        name=path,
                        before="edited",
                        after="as committed",
                        commit=sha,
                    )
                    for path in edits
                ],
                revision=sha,
            ):
                await repository.reset(sha, overlays)
            log.warning("local edits were discarded: %s", ", ".join(edits))
        self._signature = await repository.signature(await repository.tree("HEAD"))
        return []

    async def _in_the_way(self, sha: str, overlays: Mapping[str, str]) -> list[Fault]:
        """Data on this host where the commit's files belong, or those of older releases."""
        return await self._repository.collisions(await self._repository.overlaid(sha, overlays))

    async def _overlays(self, sha: str, desired: DesiredState) -> dict[str, str]:
        """Stacks that it made fail or leave, with the older commits whose files they keep.

        Trouble with those is theirs alone.
        """
        older = await self._journal.run(kept_files, desired)
        there, lost = await applicable(self._repository, sha, older)
        for fault in lost.values():
            log.warning("%s", fault)
        return there


def _unsafe(sha: str, faults: Iterable[Fault]) -> tuple[Hold, ...]:
    return tuple(Hold(fault.where, Reason.TREE, f"{sha[:7]}: {fault}") for fault in faults)


def _doubt(absent: list[tuple[str, str]], heads: Iterable[Head]) -> str | None:
    """Why what is declared is not known: a remote answers without the branch, and none with it."""
    if not absent or any(head.sha for head in heads):
        return None
    return "; ".join(f"{remote}: {detail}" for remote, detail in absent)


def declared(desired: DesiredState) -> Mapping[str, object]:
    """What ``status`` needs to know of a commit without reading it again."""
    return {
        "revision": asdict(desired.revision),
        "stacks": {stack.name: stack.digest for stack in desired.stacks},
        "broken": {name: str(fault) for name, fault in desired.broken.items()},
        "notes": {
            stack.name: "; ".join(map(str, stack.notes)) for stack in desired.stacks if stack.notes
        },
    }
