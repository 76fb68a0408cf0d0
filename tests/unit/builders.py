"""Short ways to write down the values that the decisions take."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

from agent.domain.container import CONFIG_HASH, ONEOFF, PROJECT, SERVICE, Container
from agent.domain.finding import Fault
from agent.domain.outcome import Cause, CauseKind, Reason
from agent.domain.reconcile.actions import Plan
from agent.domain.reconcile.host_state import HostState
from agent.domain.release.release import Attempt, Release, Service
from agent.domain.repository.desired import DesiredState, Stack
from agent.domain.repository.tree import Tree, TreeEntry
from agent.domain.revision import Revision

SHA = "1a2b3c4" + "0" * 33
STACKS_DIR = "/var/lib/commitd/repo/stacks"
NOW = 1000.0


def revision(sha: str = SHA, trailers: Iterable[tuple[str, str]] = ()) -> Revision:
    return Revision(
        sha=sha,
        author="Ada",
        committed_at="2026-01-02T03:04:05+01:00",
        subject="Change things",
        trailers=tuple(trailers),
    )


def oid(content: bytes) -> str:
    return hashlib.sha1(content, usedforsecurity=False).hexdigest()


def tree(files: Mapping[str, str | bytes], modes: Mapping[str, str] | None = None) -> Tree:
    entries: dict[str, TreeEntry] = {}
    for path, content in files.items():
        raw = content.encode() if isinstance(content, str) else content
        mode = (modes or {}).get(path, "100644")
        entries[path] = TreeEntry(path, mode, oid(raw), len(raw))
    return entries


def paths(*names: str, **modes: str) -> Tree:
    """A tree of empty files; keyword arguments are not paths but ``symlink="a/b"``."""
    links = modes.get("symlink", "").split()
    return tree(dict.fromkeys([*names, *links], ""), dict.fromkeys(links, "120000"))


def stack(name: str, digest: str = "d1") -> Stack:
    compose = f"stacks/{name}/compose.yaml"
    return Stack(
        name=name,
        compose=compose,
        environment=(),
        inputs=((compose, f"{digest} of {name}"),),
        digest=digest,
    )


def service(name: str = "web", *, scale: int = 1, one_shot: bool = False) -> Service:
    return Service(
        name=name,
        image="img:1@sha256:0",
        scale=scale,
        config_hash=f"hash-of-{name}",
        one_shot=one_shot,
    )


def release(name: str, digest: str = "d1", services: Iterable[Service] | None = None) -> Release:
    inputs = stack(name, digest).inputs
    found = (service(),) if services is None else tuple(services)
    return Release(
        stack=name,
        digest=digest,
        revision=SHA,
        inputs=inputs,
        services=found,
        at="2026-01-02T03:04:05Z",
    )


def attempt(
    name: str, digest: str = "d1", *, next_at: float = 0.0, permanent: bool = False
) -> Attempt:
    return Attempt(
        stack=name,
        digest=digest,
        count=1,
        next_at=next_at,
        permanent=permanent,
        error="no such image",
    )


def container(
    name: str,
    project: str | None = None,
    service: str | None = None,
    *,
    state: str = "running",
    one_off: bool = False,
    labels: Mapping[str, str] | None = None,
    exit_code: int | None = None,
    health: str | None = None,
) -> Container:
    own = {CONFIG_HASH: f"hash-of-{service}"} if service else {}
    if project is not None:
        own[PROJECT] = project
    if service is not None:
        own[SERVICE] = service
    if one_off:
        own[ONEOFF] = "True"
    return Container(
        id=f"id-{name}",
        name=name,
        image="img",
        state=state,
        labels={**own, **(labels or {})},
        exit_code=exit_code,
        health=health,
    )


def running(released: Release) -> list[Container]:
    """The containers that make ``released`` stand."""
    return [
        container(f"{released.stack}-{s.name}-{i}", released.stack, s.name)
        for s in released.services
        for i in range(s.scale)
    ]


def desired(
    *stacks: Stack,
    broken: Iterable[str] = (),
    list_faults: Iterable[str] = (),
    commit: Revision | None = None,
) -> DesiredState:
    return DesiredState(
        revision=commit or revision(),
        host="media",
        stacks=tuple(sorted(stacks, key=lambda s: s.name)),
        broken={name: Fault("is wrong", f"stacks/{name}") for name in broken},
        list_faults=tuple(Fault(text, "host/media/stacks.yaml:1") for text in list_faults),
    )


def situation(
    stacks: Iterable[Stack] = (),
    releases: Iterable[Release] = (),
    containers: Iterable[Container] | None = None,
    *,
    trailers: Iterable[tuple[str, str]] = (),
    broken: Iterable[str] = (),
    list_faults: Iterable[str] = (),
    enrolled: bool = True,
    doubt: str | None = None,
    attempts: Iterable[Attempt] = (),
    approved: Iterable[str] = (),
    cliff: Iterable[str] = (),
    teardown_limit: float = 0.5,
    report_only: bool = False,
) -> HostState:
    """Without ``containers``, all that was released runs."""
    released = list(releases)
    found = [c for r in released for c in running(r)] if containers is None else containers
    return HostState(
        desired=desired(
            *stacks, broken=broken, list_faults=list_faults, commit=revision(trailers=trailers)
        ),
        containers=tuple(found),
        releases={r.stack: r for r in released},
        now=NOW,
        stacks_dir=STACKS_DIR,
        enrolled=enrolled,
        doubt=doubt,
        attempts={a.stack: a for a in attempts},
        approved=frozenset(approved),
        cliff=frozenset(cliff),
        teardown_limit=teardown_limit,
        report_only=report_only,
    )


def reasons(todo: Plan) -> dict[str, Reason]:
    return {hold.subject: hold.reason for hold in todo.holds}


def stacks(names: str) -> list[Stack]:
    return [stack(name) for name in names]


def releases(names: str) -> list[Release]:
    return [release(name) for name in names]


def file_cause(path: str, before: str | None, after: str | None, commit: str) -> Cause:
    return Cause(kind=CauseKind.FILE, name=path, before=before, after=after, commit=commit)
