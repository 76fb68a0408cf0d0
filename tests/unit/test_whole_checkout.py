"""A service that mounts the whole checkout, as `../..` from the directory of its stack."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from agent.adapters.compose.invocation import Invocation
from agent.control.stack.ready import Ready, mounts
from agent.domain.reconcile import effects
from agent.domain.reconcile.effects import Side
from agent.domain.release.health import Expected
from agent.domain.repository.desired import Stack
from agent.domain.repository.tree import Snapshot
from agent.domain.review import repository_scan
from agent.domain.review.checks import stacks
from agent.domain.review.checks.places import Places
from tests.unit.builders import revision, tree

COMPOSE = """
x-commitd: {on_change: {app: restart}}
services: {app: {image: x, volumes: ['../..:/all']}}
"""


def declared(readme: str) -> tuple[Snapshot, Stack]:
    text = {"stacks/web/compose.yaml": COMPOSE, "README.md": readme}
    taken = repository_scan.take(tree(text), {p: t.encode() for p, t in text.items()}, revision())
    (stack,) = taken.unused
    return taken.files, stack


def resolved(root: str, *, read_only: bool = False) -> dict[str, Any]:
    mount = {"type": "bind", "source": root, "target": "/all", "read_only": read_only}
    return {"services": {"app": {"volumes": [mount]}}}


def test_what_changes_is_the_file_and_not_where_it_was_laid_out() -> None:
    def at(root: str, readme: str) -> Side:
        _, stack = declared(readme)
        return Ready.of(Invocation(stack=stack, root=Path(root)), resolved(root)).side()

    (same,) = effects.changed(at("/tmp/a", "x"), at("/tmp/b", "x"))
    assert not same
    (change,) = effects.changed(at("/tmp/a", "x"), at("/tmp/b", "y"))
    assert (change.action, change.files) == ("restart", ("README.md",))
    assert not change.volumes


def test_a_host_knows_that_every_file_is_mounted() -> None:
    _, stack = declared("x")
    invocation = Invocation(stack=stack, root=Path("/srv/repo"))

    def mounted(source: str) -> list[str]:
        expected = Expected(image="x", scale=1, one_shot=False, mounts=(source,))
        services = {"app": expected}
        ready = Ready(
            invocation=invocation, services=services, mounted=mounts(invocation, services)
        )
        return [path for path, _ in ready.files("app")]

    assert mounted("/srv/repo") == ["README.md", "stacks/web/compose.yaml"]
    assert mounted("/srv/repo/stacks") == ["stacks/web/compose.yaml"]
    assert mounted("/srv/repo2") == mounted("/srv/repo/stack") == []


def test_one_that_may_write_to_it_is_found() -> None:
    for read_only, rules in ((False, ["writable-checkout"]), (True, [])):
        files, stack = declared("x")
        model = resolved("/srv/repo", read_only=read_only)
        judged = stacks.judge(stack, model, "/srv/repo", Places(files, stack))
        assert [f.rule for f in judged if f.rule != "pins"] == rules
