"""New commits, from what the remotes show to one that may be checked out. Touches nothing.

    heads ─▶ fetched, if not here ─▶ decide ─▶ its signature ─▶ its tree ─▶ its list of stacks
                                                                                  │
    Examined: what to do, and why not ◀───────────────────────────────────────────┘

A remote that cannot deliver counts as down. Whatever else goes wrong with a commit is a hold for
that commit, never a doubt about the applied one; only a list that cannot be read is, for it may
declare what runs. A commit that was refused is looked at again after a while: the longer the more
often it was, and never for more than a twentieth of the time.
"""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from functools import partial

import anyio
from msgspec import Struct
from msgspec.structs import replace

from agent.adapters.git import git
from agent.adapters.git.commits import Line
from agent.adapters.git.incoming import FETCH_TIMEOUT_S
from agent.adapters.git.repository import Repository
from agent.adapters.git.signatures import Verifier
from agent.adapters.lru import Lru
from agent.adapters.probes.base import Probe
from agent.adapters.tasks import task_group
from agent.domain.backoff import Backoff
from agent.domain.config import Config, Remote
from agent.domain.errors import CommitdError, PermanentError, TransientError, UnreachableError
from agent.domain.finding import Fault
from agent.domain.outcome import Reason
from agent.domain.reconcile.actions import Hold
from agent.domain.repository import swarm_mode
from agent.domain.repository.desired import DesiredState
from agent.domain.revision import Revision
from agent.domain.source import decide
from agent.domain.source.decide import Answer, Decision, Head, Relation

log = logging.getLogger("commitd.follower")

_PATIENCE = Backoff(first_s=20.0, longest_s=FETCH_TIMEOUT_S)
"""For a fetch of a commit that another remote shows too, by the number of the try."""
GIVE_WAY_S = 2.0
"""A first try that lasts longer ends once another remote shows the commit: this may be silent."""
_GIVE_WAY_LOOK_S = 0.25
_REFETCH = Backoff(first_s=1.0, longest_s=300.0)
"""Between two tries to fetch the same commit."""
_LOOK_AGAIN = Backoff(first_s=1.0, longest_s=30.0)
"""Between two looks at the same commit, if they are quick."""
_SHARE = 20
"""A look that took a second is repeated after this many, at the earliest."""
_REMEMBERED = 1000
"""Pairs of commits, and commits that could not be fetched."""


class Judged(Struct, frozen=True, kw_only=True):
    """What was found in one commit: ``desired``, or why it is not followed.

    ``tries`` are the looks at it so far; until ``again_at`` (monotonic) there is no other.
    """

    revision: Revision | None = None
    desired: DesiredState | None = None
    holds: tuple[Hold, ...] = ()
    doubt: str | None = None
    tries: int = 0
    again_at: float = 0.0


class Examined(Struct, frozen=True, kw_only=True):
    """What to do about ``heads`` as they turned out, and what is to be said of them.

    ``missing`` are holds for commits that no remote delivers; ``complete``: no fetch has failed.
    """

    decision: Decision
    heads: tuple[Head, ...]
    complete: bool
    missing: tuple[Hold, ...]
    judged: Judged | None


class Examiner:
    """Examines commits; of two examinations the first is at its end before the next begins."""

    def __init__(
        self,
        config: Config,
        repository: Repository,
        verifier: Verifier,
        probes: Mapping[str, Probe],
        shown_now: Callable[[], Sequence[Head]],
    ) -> None:
        """What ``probes`` are connected to is fetched over the same connections.

        ``shown_now`` is what the remotes show while one of them is fetched from.
        """
        self._config = config
        self._probes = probes
        self._shown_now = shown_now
        self._incoming = repository.incoming
        self._commits = repository.incoming.commits
        self._stop_tidying = repository.tidying.stop
        self._verifier = verifier
        self._by_name: Mapping[str, Remote] = {r.name: r for r in config.remotes}
        self._lines: Lru[tuple[str, str], Line] = Lru(_REMEMBERED)
        self._failed: Lru[tuple[str, str], tuple[int, float]] = Lru(_REMEMBERED)
        self._refused: Lru[tuple[str, str | None], Judged] = Lru(_REMEMBERED)

    async def examine(
        self, shown: list[Head], applied: str | None, approved: frozenset[str]
    ) -> Examined:
        """What follows from the heads that are ``shown``. Raises :class:`CommitdError`."""
        await self._incoming.keep({head.sha for head in shown if head.sha})
        heads, complete, missing = await self._fetch_unknown(shown, shared=applied is not None)
        ancestry = await self._ancestry(await self._known(heads, applied), applied)
        follow = self._config.history == "follow"
        decision = decide.decide(heads, ancestry, applied, follow=follow, approved=approved)
        judged = None
        if isinstance(decision, decide.Accept):
            judged = await self._judge(decision.sha, applied)
        return Examined(
            decision=decision,
            heads=tuple(heads),
            complete=complete,
            missing=tuple(missing),
            judged=judged,
        )

    async def fetch(self, shown: list[Head]) -> Examined:
        """Bring in what is ``shown``, and decide nothing yet."""
        heads, complete, missing = await self._fetch_unknown(shown, shared=False)
        decision = decide.Stay("nothing is decided yet")
        return Examined(
            decision=decision,
            heads=tuple(heads),
            complete=complete,
            missing=tuple(missing),
            judged=None,
        )

    async def _fetch_unknown(
        self, heads: list[Head], *, shared: bool
    ) -> tuple[list[Head], bool, list[Hold]]:
        """Bring in the commits that are not here, each from the first remote that delivers it.

        A remote that cannot deliver counts as down; a commit that none delivers is a hold, and
        asked for again with a backoff. The flag says whether nothing is missing.

        ``shared``: the first try goes over the connection of the probe. Not a whole history: its
        bytes pass through the event loop, which would have time for nothing else.
        """
        found: list[Head] = []
        failures: dict[str, str] = {}
        for head in heads:
            if head.sha is None or await self._commits.knows(head.sha):
                found.append(head)
                continue
            tries, next_at = self._failed.get((head.remote, head.sha)) or (0, 0.0)
            try:
                if time.monotonic() < next_at:
                    raise UnreachableError(f"{head.remote}: waits before it fetches again")
                alone = sum(other.sha == head.sha for other in heads) == 1
                patience_s = FETCH_TIMEOUT_S if alone else _PATIENCE.wait_s(tries + 1)
                await self._stop_tidying()
                remote = self._by_name[head.remote]
                first = shared and not tries
                async with self._channel(head.remote, shared=first) as channel:
                    fetch = partial(self._incoming.fetch, remote, head.sha, channel)
                    fetch = partial(fetch, timeout_s=patience_s)
                    await (self._unless_silent(remote, head.sha, fetch) if first else fetch())
            except CommitdError as err:
                if time.monotonic() >= next_at:
                    log.warning("%s", err)
                    next_at = time.monotonic() + _REFETCH.wait_s(tries + 1)
                    self._failed.put((head.remote, head.sha), (tries + 1, next_at))
                failures[head.sha] = f"{head.remote} shows {head.sha[:7]}: {err}"
                found.append(replace(head, answer=Answer.DOWN, sha=None, error=str(err)))
            else:
                self._failed.clear()
                found.append(head)
        holds = [
            Hold(self._config.host, Reason.FETCH, detail)
            for sha, detail in failures.items()
            if not await self._commits.knows(sha)
        ]
        return found, not failures, holds

    async def _unless_silent(
        self, remote: Remote, sha: str, fetch: Callable[[], Awaitable[None]]
    ) -> None:
        """Fetch, or raise :class:`UnreachableError` when it takes long and another one shows it."""

        async def give_way() -> None:
            await anyio.sleep(GIVE_WAY_S)
            while not self._another_shows(remote.name, sha):  # noqa: ASYNC110  no event tells of an answer
                await anyio.sleep(_GIVE_WAY_LOOK_S)
            fetching.cancel()

        async with task_group() as group:
            group.start_soon(give_way)
            with anyio.CancelScope() as fetching:
                await fetch()
            group.cancel_scope.cancel()
        if fetching.cancelled_caught:
            raise UnreachableError(
                f"{remote.name}: it has not delivered {sha[:7]} within {GIVE_WAY_S:g} s, "
                "and another remote has it"
            )

    def _another_shows(self, remote: str, sha: str) -> bool:
        """Whether one does from which it was not tried to fetch it."""
        return any(
            head.remote != remote
            and head.sha == sha
            and self._failed.get((head.remote, sha)) is None
            for head in self._shown_now()
        )

    def _channel(
        self, remote: str, *, shared: bool
    ) -> AbstractAsyncContextManager[git.Channel | None]:
        probe = self._probes.get(remote) if shared else None
        return probe.channel() if probe else nullcontext()

    async def _known(self, heads: Iterable[Head], applied: str | None) -> set[str]:
        """All commits that a decision is about: shown now, shown before and here, applied."""
        shas = {sha for sha in (applied, *(head.sha for head in heads)) if sha}
        for head in heads:
            if head.last and head.last not in shas and await self._commits.knows(head.last):
                shas.add(head.last)
        return shas

    async def _ancestry(self, shas: set[str], applied: str | None) -> decide.Ancestry:
        """Who descends from whom; asked once for each pair, for the answer never changes."""
        ordered = sorted(shas, key=lambda sha: (sha != applied, sha))
        found: set[tuple[str, str]] = set()
        for older, newer in itertools.combinations(ordered, 2):
            line = await self._line(older, newer)
            if line.ahead:
                found.add((older, newer))
            if line.behind:
                found.add((newer, older))
        return decide.Ancestry(frozenset(found))

    async def _line(self, older: str, newer: str) -> Line:
        line = self._lines.get((older, newer))
        if line is None:
            line = await self._commits.line(older, newer)
            self._lines.put((older, newer), line)
        return line

    async def standing(self, sha: str | None, applied: str | None) -> tuple[Relation, int | None]:
        """How a commit that a remote shows stands to the applied one, and by how much it lags."""
        if not (applied and sha) or (sha != applied and not await self._commits.knows(sha)):
            return Relation.UNKNOWN, None
        if sha == applied:
            return Relation.SAME, 0
        try:
            # That way round as it was asked before the applied one was.
            line = await self._line(sha, applied)
            lag = await self._commits.count(sha, applied) if line.lag is None else line.lag
        except TransientError:  # it is not worth more than a word in status
            return Relation.UNKNOWN, None
        pairs = {(sha, applied)} if line.ahead else {(applied, sha)} if line.behind else set()
        return decide.Ancestry(frozenset(pairs)).relation(sha, applied), lag

    async def _judge(self, sha: str, applied: str | None) -> Judged:
        before = self._refused.get((sha, applied)) or Judged()
        began = time.monotonic()
        if began < before.again_at:
            return before
        found = await self._look(sha, applied)
        if not found.holds:
            return found  # not remembered: whom the host trusts may change before it is applied
        tries, took_s = before.tries + 1, time.monotonic() - began
        wait_s = max(_LOOK_AGAIN.wait_s(tries), _SHARE * took_s)
        found = replace(found, tries=tries, again_at=time.monotonic() + wait_s)
        self._refused.put((sha, applied), found)
        return found

    async def _look(self, sha: str, applied: str | None) -> Judged:
        """Its author's word, its tree, its list; in this order, for the first costs least."""
        host, commits = self._config.host, self._commits
        revision: Revision | None = None
        try:
            revision = await commits.revision(sha)
            if unsigned := await self._verifier.refusal(applied, sha):
                hold = Hold(host, Reason.SIGNATURE, unsigned, needs_person=True)
                return Judged(revision=revision, holds=(hold,))
            tree = await commits.tree(sha)
            if faults := await commits.faults(tree):
                return Judged(revision=revision, holds=unsafe(sha, faults))
        except CommitdError as err:
            hold = Hold(host, Reason.TREE, f"{sha[:7]}: {err}")
            return Judged(revision=revision, holds=(hold,))
        try:
            desired, _ = await commits.declared(sha, host, tree)
            swarm_mode.agree(desired, swarm=self._config.docker.mode == "swarm")
        except PermanentError as err:
            # Without a readable list it is unknown what is declared: the last good commit stays.
            hold = Hold(host, Reason.LIST_IN_DOUBT, f"{sha[:7]}: {err}")
            return Judged(revision=revision, holds=(hold,), doubt=hold.detail)
        except CommitdError as err:
            hold = Hold(host, Reason.TREE, f"{sha[:7]}: {err}")
            return Judged(revision=revision, holds=(hold,))
        return Judged(revision=revision, desired=desired)


def unsafe(sha: str, faults: Iterable[Fault]) -> tuple[Hold, ...]:
    """Why ``sha`` is not checked out."""
    return tuple(Hold(fault.where, Reason.TREE, f"{sha[:7]}: {fault}") for fault in faults)
