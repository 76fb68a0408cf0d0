"""From what the remotes say to a checkout.

    heads ─▶ Examiner, beside the cycles ─┬▶ under way: a hold that says so
                                          ├▶ Stay: as it was
                                          ├▶ Wait, or the commit was refused: a hold
        checked out ◀─ no data in the way └▶ Accept ─▶ into the clone ─┐
                           └───────────────────────────────────────────┘

A new commit is fetched and judged beside the cycles, which go on enforcing the applied one.
Whatever it fails at is a hold; only a list that cannot be read is a doubt as well, in which nothing
is removed.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from functools import partial

from msgspec import Struct
from msgspec.structs import asdict, replace

from agent.adapters.git.repository import Repository
from agent.adapters.git.work_tree import Signature
from agent.adapters.state.async_journal import AsyncJournal
from agent.adapters.state.database import utcnow
from agent.control.source.beside import Beside
from agent.control.source.examine import Examined, Examiner, Judged, unsafe
from agent.control.source.pinned_releases import applicable, kept_files
from agent.control.source.remote_status import Remotes
from agent.domain.config import Config
from agent.domain.errors import CommitdError, PermanentError, UnreachableError
from agent.domain.finding import Fault
from agent.domain.outcome import Action, Cause, CauseKind, Reason
from agent.domain.reconcile.actions import Hold
from agent.domain.repository import swarm_mode
from agent.domain.repository.desired import DesiredState
from agent.domain.shortened import some_of
from agent.domain.source import decide
from agent.domain.source.decide import Answer, Head

log = logging.getLogger("commitd.follower")

_NAMED = 5
"""Files that one line names."""


class Followed(Struct, frozen=True):
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
        *,
        examiner: Examiner,
        beside: Beside[Examined],
    ) -> None:
        self._config = config
        self._repository = repository
        self._remotes = remotes
        self._journal = journal
        self._examiner = examiner
        self._beside = beside
        self._seen: object = None
        self._current = Followed(None, None)
        self._signature: Signature = {}

    async def follow(self) -> Followed:
        """Move to the commit to follow, if there is a new one. Raises :class:`CommitdError`."""
        await self._repository.settle()
        shown = self._remotes.heads()
        approved = await self._journal.approved()
        question = (tuple((h.remote, h.answer, h.sha) for h in shown), approved)
        if question != self._seen or self._current.desired is None:
            self._seen = None
            # What could not be fetched, or is held, may have been mended meanwhile: look again.
            if await self._move_on(shown, approved, question) and not self._current.holds:
                self._seen = question
        await self._remotes.save()
        in_the_way = await self._discard_edits()
        absent = decide.absent(shown, self._config.branch)
        return replace(
            self._current,
            holds=(*self._current.holds, *in_the_way, *self._absences(absent)),
            doubt=self._current.doubt or _doubt(absent, shown),
        )

    async def _move_on(self, shown: list[Head], approved: frozenset[str], question: object) -> bool:
        """Take over what the remotes show now, as far as it may be; whether nothing is missing."""
        applied = await self._applied() or await self._lost(shown)
        if applied:
            await self._load(applied)
        examine = partial(self._examiner.examine, shown, applied, approved)
        try:
            examined = await self._beside.ask((question, applied), examine)
        except CommitdError as err:  # about new commits: what is declared is known all the same
            hold = Hold(self._config.host, Reason.UNJUDGED, str(err))
            self._current = replace(self._current, holds=(hold,))
            return False
        if examined is None:
            new = [f"{h.remote} shows {h.sha[:7]}" for h in shown if h.sha and h.sha != applied]
            hold = Hold(self._config.host, Reason.UNJUDGED, ", ".join(new) or "the remotes answer")
            self._current = replace(self._current, holds=(hold,))
            return False
        self._current = await self._decide(examined, applied)
        self._current = replace(self._current, holds=(*self._current.holds, *examined.missing))
        await self._relate(examined.heads)
        return examined.complete

    def _absences(self, absent: Iterable[tuple[str, str]]) -> list[Hold]:
        """Remotes without the branch, which follow from the answers alone and end with them."""
        how = "push it, or name another as branch: in the host's configuration"
        return [
            Hold(remote, Reason.BRANCH, f"{detail}; {how}", needs_person=True)
            for remote, detail in absent
        ]

    def look_again(self) -> None:
        """The journal may know of a newer commit than the one that is checked out."""
        self._seen = None

    async def stay(self) -> Followed:
        """What is checked out, whatever the remotes say and whoever edited it."""
        if applied := await self._applied():
            await self._load(applied)
        return self._current

    async def _decide(self, examined: Examined, applied: str | None) -> Followed:
        match examined.decision:
            case decide.Accept(sha=sha, remote=remote):
                return await self._advance(sha, remote, applied, examined.judged or Judged())
            case decide.Wait(detail=detail, remote=remote):
                hold = Hold(remote, Reason.HISTORY, detail, needs_person=True)
                return replace(self._current, holds=(hold,), doubt=None)
            case decide.Stay(remote=remote, detail=detail):
                silent = all(head.answer is Answer.DOWN for head in examined.heads)
                shown = any(head.sha for head in examined.heads)
                confirmed = remote or (detail if shown else "no remote answers" if silent else None)
                return replace(self._current, confirmed=confirmed, holds=(), doubt=None)

    async def _applied(self) -> str | None:
        """The commit that is checked out, unless the clone is older than what the host had.

        So it is after a restore, and after a while with an agent of before, which keeps its clone
        elsewhere. The journal is written after each move: what an agent has moved to that was
        killed in between is newer, or is what was tried last.
        """
        applied = await self._repository.applied()
        declared = await self._journal.get("declared")
        if not (applied and declared) or declared["revision"]["sha"] == applied:
            return applied
        attempted = await self._journal.get("attempted")
        if attempted and attempted.get("sha") == applied:
            return applied
        sha, repository = str(declared["revision"]["sha"]), self._repository
        if await repository.knows(sha) and await repository.descends(applied, sha):
            return applied
        return None

    async def _lost(self, shown: list[Head]) -> str | None:
        """The applied commit of a clone that was rebuilt or is older, which the journal remembers.

        None on a host that has applied none yet.
        """
        declared = await self._journal.get("declared")
        if not declared:
            return None
        repository, known = self._repository, str(declared["revision"]["sha"])
        if not await repository.incoming.commits.knows(known):
            question = ("lost", known, tuple((head.remote, head.sha) for head in shown))
            if await self._beside.ask(question, partial(self._examiner.fetch, shown)) is None:
                raise UnreachableError(f"the applied commit {known[:7]} is being fetched anew")
            if not await repository.incoming.commits.knows(known):
                raise PermanentError(
                    f"the applied commit {known[:7]} is missing locally and on all remotes",
                    hint="push it again; until then all containers stay as they are",
                )
        await repository.take_over(known)
        overlays = await self._overlays(known, await self._read(known))
        if faults := await self._in_the_way(known, overlays):
            raise PermanentError(str(faults[0]))
        await repository.reset(known, overlays)
        return known

    async def _relate(self, heads: Iterable[Head]) -> None:
        applied = self._current.desired.revision.sha if self._current.desired else None
        for head in heads:
            last = head.sha or head.last
            gone = head.answer in {Answer.EMPTY, Answer.NO_BRANCH}
            relation, lag = await self._examiner.standing(None if gone else last, applied)
            self._remotes.relate(head.remote, last, relation, lag)

    async def _advance(
        self, sha: str, remote: str, applied: str | None, judged: Judged
    ) -> Followed:
        """Make a commit that was judged the checkout; in doubt keep what is there."""
        repository, host, revision = self._repository, self._config.host, judged.revision
        attempted = {**asdict(revision), "remote": remote} if revision else {}
        if revision:
            await self._journal.put("attempted", attempted)
        if judged.desired is None or revision is None:
            return replace(self._current, holds=judged.holds, doubt=judged.doubt)
        desired = judged.desired
        cause = Cause(
            kind=CauseKind.COMMIT,
            name=f"{remote}/{self._config.branch}",
            before=applied,
            after=sha,
            commit=sha,
        )
        said = f"{revision.subject} by {revision.author} from {remote}"
        try:
            await repository.take_over(sha)
            overlays = await self._overlays(sha, desired)
            if faults := await self._in_the_way(sha, overlays):
                return replace(self._current, holds=unsafe(sha, faults), doubt=None)
            async with self._journal.recording(
                Action.ACCEPT, host, Reason.NEW_HEAD, detail=said, causes=[cause], revision=sha
            ):
                # Before: cut short, it is asked for again rather than used twice.
                await self._journal.end_approvals(sha)
                await self._journal.put("attempted", {**attempted, "at": utcnow()})
                await repository.reset(sha, overlays)
        except CommitdError as err:
            if repository.unsettled:  # between two commits
                raise
            hold = Hold(err.where or host, Reason.TREE, f"{sha[:7]}: {err}")
            return replace(self._current, holds=(hold,), doubt=None)
        await self._take(desired)
        return Followed(desired, remote)

    async def _load(self, applied: str) -> None:
        """Read the checked-out commit, if that was not done before."""
        desired = self._current.desired
        if desired is None or desired.revision.sha != applied:
            await self._take(await self._read(applied))

    async def _read(self, sha: str) -> DesiredState:
        desired, _ = await self._repository.declared(sha, self._config.host)
        swarm_mode.agree(desired, swarm=self._config.docker.mode == "swarm")
        return desired

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
            kept = tuple(f"stacks/{name}/" for name in overlays)
            whole = await repository.checked_out() == sha
            if whole and all(path.startswith(kept) for path in edits):
                # A clone that was made anew does not know yet of files that stacks keep.
                await repository.reset(sha, overlays)
                log.info("the files of older releases are known again: %s", ", ".join(overlays))
                return await self._discard_edits()
            async with self._journal.recording(
                Action.ACCEPT,
                self._config.host,
                Reason.LOCAL_EDIT,
                detail=some_of(edits, _NAMED),
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
        **({"agent": asdict(desired.agent)} if desired.agent else {}),
    }
