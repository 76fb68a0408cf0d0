"""What a running service needs so that it sees files which are mounted into it and have changed.

The engine mounts what was there when the container was started, not a name. Git puts a new file in
the place of one that changed, and a new directory in the place of one of which no file stays.

Other services may have to follow it: those that run in namespaces of its container, which end with
its process, and those whose file asks for it (``depends_on: {db: {restart: true}}``).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from msgspec import Struct
from msgspec.structs import replace

from agent.domain.container import CutOff
from agent.domain.outcome import Reason, Reload
from agent.domain.release.health import Need
from agent.domain.repository import dependencies
from agent.domain.repository.tree import Inputs

Files = Iterable[tuple[str, str]]
"""Paths of the repository and what stands for their content, as in ``Stack.versions``."""
Needs = Mapping[str, Need]
"""Services of the same stack, and how they are needed."""


class Step(Struct, frozen=True, kw_only=True):
    """What one service gets (``how``), and why.

    ``owner`` is the service or container that it follows, None where the reason is its own.
    ``healthy`` are the services that must be healthy before.
    """

    service: str
    how: str
    reason: Reason
    owner: str | None = None
    healthy: tuple[str, ...] = ()


class Mounted(Struct, frozen=True):
    """What one service sees of the repository.

    ``paths`` are mounted, files and directories; ``files`` are all at or below them, secrets by
    their ciphertext. An entry of ``written`` stands for what Compose writes into its containers.
    """

    paths: frozenset[str]
    files: Inputs
    written: Inputs = ()

    def reload(self, wanted: str, older: Collection[tuple[str, str]]) -> str:
        """What the service needs where these alone have changed; ``wanted`` by its stack.

        What Compose writes into a container goes only into a new one.
        """
        if set(self.written) - set(older):
            return Reload.RECREATE
        return sufficient(wanted, self.paths, older, self.files)


def files_below(files: Files, paths: Collection[str]) -> Inputs:
    """Those of ``files`` that are at or below ``paths``; the name of the repository is empty."""
    return tuple(
        (path, oid)
        for path, oid in files
        if any(not place or f"{path}/".startswith(f"{place}/") for place in paths)
    )


def sufficient(wanted: str, mounts: Collection[str], older: Files, now: Files) -> str:
    """``wanted``, or ``restart`` where that is a signal which would show the service nothing new.

    ``mounts`` are the paths of the repository that are mounted, files and directories; ``older``
    and ``now`` all files at or below them.
    """
    if Reload.of(wanted) is not Reload.SIGNAL:
        return wanted
    before, after = dict(older), dict(now)
    stay = before.keys() & after.keys()
    lasting = {m for m in mounts if any(path.startswith(f"{m}/") for path in stay)}
    changed = {p for p in before.keys() | after.keys() if before.get(p) != after.get(p)}
    seen = all(
        path not in mounts and any(path.startswith(f"{mount}/") for mount in lasting)
        for path in changed
    )
    return wanted if seen else Reload.RESTART


def sequence(
    own: Iterable[Step], cut_off: Mapping[str, CutOff], needed: Mapping[str, Needs]
) -> list[Step]:
    """All that has to be done, each service once and after those that it needs.

    ``own`` are the steps of services for their own sake, ``cut_off`` those whose namespaces ended
    before, ``needed`` what each service needs.
    """
    wanted = {step.service: step for step in own}
    steps: dict[str, Step] = {}
    for name in dependencies.sorted_by(needed):
        needs = needed[name]
        began = {n: steps[n].how for n in needs if n in steps and steps[n].how in _AFRESH}
        found = [
            Step(service=name, how=how, reason=reason, owner=owner)
            for owner, begun in sorted(began.items())
            if (how := _following(needs[owner], begun))
            for reason in [Reason.NAMESPACE if needs[owner].shares else Reason.FOLLOWS]
        ]
        if name in cut_off:
            cut = cut_off[name]
            # A restart joins the owner's new namespaces; there are none if the owner is gone.
            how = Reload.RECREATE if cut.gone else Reload.RESTART
            found.append(Step(service=name, how=how, reason=Reason.NAMESPACE, owner=cut.owner))
        if name in wanted:
            found.insert(0, wanted[name])
        if found:
            strongest = max(found, key=lambda step: _STRENGTH.index(Reload.of(step.how)))
            healthy = tuple(n for n in sorted(began) if needs[n].healthy)
            steps[name] = replace(strongest, healthy=healthy)
    return list(steps.values())


_STRENGTH = list(Reload)
_AFRESH = frozenset({Reload.RESTART, Reload.RECREATE})


def _following(need: Need, begun: str) -> str | None:
    """What a service gets of which the one that it needs was restarted or recreated."""
    if need.shares:
        return begun
    return Reload.RESTART if need.restart else None
