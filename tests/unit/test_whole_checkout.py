"""A service that mounts the whole checkout, as `../..` from the directory of its stack."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from agent.adapters.compose.invocation import Invocation
from agent.control.stack.ready import Ready
from agent.domain.release.health import Expected
from agent.domain.review import repository_scan, service_diff
from agent.domain.review.checks import stacks
from agent.domain.review.checks.places import Places
from agent.domain.review.service_diff import Side
from tests.unit.builders import revision, tree

COMPOSE = """
x-commitd: {on_change: {app: restart}}
services: {app: {image: x, volumes: ['../..:/all']}}
"""


def side(root: str, readme: str, *, read_only: bool = False) -> Side:
    text = {"stacks/web/compose.yaml": COMPOSE, "README.md": readme}
    taken = repository_scan.take(tree(text), {p: t.encode() for p, t in text.items()}, revision())
    (stack,) = taken.unused
    mount: dict[str, Any] = {"type": "bind", "source": root, "target": "/all"}
    model = {"services": {"app": {"volumes": [{**mount, "read_only": read_only}]}}}
    return Side(stack, model, root, taken.files)


def test_what_changes_is_the_file_and_not_where_it_was_laid_out() -> None:
    assert service_diff.services(side("/tmp/a", "x"), side("/tmp/b", "x")) == ()
    (change,) = service_diff.services(side("/tmp/a", "x"), side("/tmp/b", "y"))
    assert (change.action, change.files) == ("restart", ("README.md",))
    assert not change.volumes


def test_a_host_knows_that_every_file_is_mounted() -> None:
    found = side("/srv/repo", "x")
    invocation = Invocation("web", Path(), (), {}, Path("/srv/repo"))

    def mounted(source: str) -> list[str]:
        expected = Expected("x", 1, finishes=False, mounts=(source,))
        return [path for path, _ in Ready(found.stack, invocation, {"app": expected}).files("app")]

    assert mounted("/srv/repo") == ["README.md", "stacks/web/compose.yaml"]
    assert mounted("/srv/repo/stacks") == ["stacks/web/compose.yaml"]
    assert mounted("/srv/repo2") == mounted("/srv/repo/stack") == []


def test_one_that_may_write_to_it_is_found() -> None:
    for read_only, rules in ((False, ["data-in-tree"]), (True, [])):
        found = side("/srv/repo", "x", read_only=read_only)
        judged = stacks.judge(
            found.stack, found.model, found.root, Places(found.files, found.stack)
        )
        assert [f.rule for f in judged if f.rule != "pins"] == rules
