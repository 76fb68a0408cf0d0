"""A renamed stack does not start without the data that it had under its old name."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from agent.control.reconcile import left_data
from agent.domain.outcome import Reason
from agent.domain.reconcile import renamed
from agent.domain.reconcile.actions import Plan
from agent.domain.reconcile.host_state import HostState, LeftData
from agent.domain.reconcile.plan import plan
from agent.domain.release.release import Release
from agent.domain.repository.compose_paths import NamedMount
from agent.domain.repository.desired import Stack
from agent.domain.repository.image_refs_yaml import ImageMention
from agent.domain.review import host_diff, repository_scan
from agent.domain.review.checks import renames
from agent.domain.review.repository_scan import RepositoryScan
from agent.domain.status import held
from tests.unit.builders import SHA, reasons, release, revision, service, situation, stacks, tree
from tests.unit.judged import facts, hold
from tests.unit.test_removal import APPROVAL, CONTENT, afters, new, old
from tests.values import replace

DATA = LeftData(old="a", paths=("stacks/a/data",), volumes=("a_db",))
RENAME = situation([new("b"), *stacks("z")], [old("a"), release("z")])


def _left(data: LeftData = DATA, now: HostState = RENAME) -> HostState:
    return replace(now, left={"b": data})


def _detail(todo: Plan, name: str, reason: Reason) -> str:
    (found,) = [each for each in todo.holds if each.subject == name]
    assert (found.reason, found.needs_person) == (reason, True)
    return found.detail


def test_without_data_under_the_old_name_nothing_waits() -> None:
    assert afters(plan(RENAME)) == {"a": "b"}
    assert [deploy.stack.name for deploy in plan(RENAME).deploys] == ["b"]


def test_the_new_name_is_not_started_and_the_old_one_stays_until_the_data_is_there() -> None:
    todo = plan(_left())
    assert (todo.deploys, todo.removals, todo.evictions) == ((), (), ())
    said = _detail(todo, "b", Reason.DATA)
    assert "it seems to be a under a new name, and would start without its data" in said
    assert "stacks/a/data in the checkout (stop a, then mv it to stacks/b)" in said
    assert (
        "the volume a_db (give it its name in the Compose file, volumes: {db: {name: a_db}}, "
        in said
    )
    assert "or copy it to b_db" in said
    assert f"without it: commitd approve {SHA[:7]} --without-data (a goes first then)" in said
    assert "stays until that has its data and is up" in _detail(todo, "a", Reason.RENAMED)


def test_a_volume_that_both_names_use_is_not_given_to_both_at_once() -> None:
    todo = plan(_left(LeftData(old="a", shared=("a_db",))))
    assert (todo.deploys, todo.removals) == ((), ())
    said = _detail(todo, "b", Reason.DATA)
    assert "uses its volume a_db, which both at once may destroy" in said
    assert f"to let a go first, run: commitd approve {SHA[:7]}" in said


def test_an_approved_commit_is_carried_out_as_it_is() -> None:
    todo = plan(replace(_left(), approved=frozenset({SHA}), without_data=frozenset({SHA})))
    assert afters(todo) == {"a": None}
    assert todo.removals[0].first
    assert [deploy.stack.name for deploy in todo.deploys] == ["b"]
    assert todo.holds == ()


def test_who_approves_what_a_commit_removes_lets_no_stack_start_empty() -> None:
    before = [old(name, {"x": name}) for name in "cde"]
    now = situation([new("b"), *stacks("z")], [old("a"), *before, release("z")])
    assert {reasons(plan(_left(now=now)))[name] for name in "cde"} == {Reason.CLIFF}
    todo = plan(replace(_left(now=now), approved=frozenset({SHA})))
    assert afters(todo) == dict.fromkeys("cde")
    assert todo.deploys == ()
    assert reasons(todo) == {"a": Reason.RENAMED, "b": Reason.DATA}


def test_a_volume_of_both_names_needs_no_more_than_the_approval() -> None:
    shared = _left(LeftData(old="a", shared=("a_db",)))
    todo = plan(replace(shared, approved=frozenset({SHA})))
    assert (afters(todo), todo.holds) == ({"a": None}, ())
    assert todo.removals[0].first


def test_who_approves_removals_in_a_commit_says_nothing_about_data() -> None:
    commit = revision(trailers=[APPROVAL])
    todo = plan(replace(_left(), desired=replace(RENAME.desired, revision=commit)))
    assert (todo.deploys, todo.removals) == ((), ())
    assert reasons(todo) == {"a": Reason.RENAMED, "b": Reason.DATA}


def test_with_all_stacks_renamed_no_cliff_hides_the_data() -> None:
    now = situation([new("b")], [old("a"), *(old(name, {"x": name}) for name in "cde")])
    todo = plan(_left(now=now))
    assert reasons(todo)["b"] is Reason.DATA
    assert todo.deploys == ()


def _images(**images: str) -> Stack:
    found = {name: ImageMention(image, "x:1") for name, image in images.items()}
    return replace(new("b", {"compose.yaml": "other"}, images), images=found)


def _ran(**images: str) -> Release:
    services = tuple(replace(service(name), image=image) for name, image in images.items())
    return replace(old("a", {"compose.yaml": "1"}), services=services)


PG = "ghcr.io/x/postgres:16@sha256:" + "0" * 64


@pytest.mark.parametrize(
    ("before", "after", "sure"),
    [
        (old("a"), new("b"), True),
        (old("a"), new("b", {**CONTENT, "compose.yaml": "x"}), True),
        (old("a"), new("b", {"compose.yaml": "x"}), False),
        (_ran(db=PG), _images(db="ghcr.io/x/postgres:17@sha256:" + "1" * 64), True),
        (_ran(db=PG), _images(db="ghcr.io/x/mariadb:17"), False),
        (_ran(db=PG), _images(db="${IMAGE}"), False),
        (_ran(db=PG, app="a:1"), _images(db=PG), False),
        (_ran(db=PG, app="a:1"), _images(db=PG, app="a:2"), True),
    ],
)
def test_it_is_the_same_stack_by_most_of_its_files_or_all_that_it_runs(
    before: Release, after: Stack, sure: bool
) -> None:
    assert renamed.sure(before, after) is sure


def test_once_the_commit_is_approved_nobody_is_waited_for() -> None:
    waits = facts(holds=[hold("b", Reason.DATA, person=True)])
    assert [each.needs_person for each in held.current(waits)] == [True]
    approved = replace(waits, approved=frozenset({SHA}))
    assert [each.needs_person for each in held.current(approved)] == [True]
    (settled,) = held.current(replace(approved, without_data=frozenset({SHA})))
    assert (settled.needs_person, settled.message) == (False, held.APPROVED)


# --- on the host ---


def _mount(path: str | None) -> NamedMount:
    return NamedMount(service="app", path=path, target="/x", where="x:1")


@pytest.mark.parametrize(
    ("mounts", "there", "found"),
    [
        (["stacks/b/data"], ["a/data/x"], ["stacks/a/data"]),
        (["stacks/b/data/deep"], ["a/data/deep/x"], ["stacks/a/data"]),
        (["stacks/b/data"], ["a/data/x", "b/data/x"], []),
        (["stacks/b/data"], ["a/data/x", "b/data/"], ["stacks/a/data"]),
        (["stacks/b/data"], ["a/data/"], []),
        (["stacks/b/data"], ["a/other/x"], []),
        (["stacks/b/data"], [], []),
        ([None], ["a/other/x", "a/.decrypted.a.secret.env"], ["stacks/a/other"]),
        (["stacks/b"], ["a/data/x", "a/file"], ["stacks/a/data", "stacks/a/file"]),
        (["stacks/b/conf"], ["a/conf/tracked", "a/conf/made/x"], ["stacks/a/conf/made"]),
        (["/srv/data", "common/data"], ["a/data/x"], []),
        ([None], ["a/compose.yaml", "a/data/x"], ["stacks/a/data"]),
    ],
)
def test_untracked_data_is_found_that_the_new_name_mounts_and_does_not_have(
    tmp_path: Path, mounts: Iterable[str | None], there: Iterable[str], found: list[str]
) -> None:
    for path in there:
        place = tmp_path / "stacks" / path
        (place if path.endswith("/") else place.parent).mkdir(parents=True, exist_ok=True)
        if not path.endswith("/"):
            place.write_text("x")
    stack = replace(new("b"), mounts=tuple(map(_mount, mounts)), tracked=["stacks/a/conf/tracked"])
    assert list(left_data._paths(tmp_path, "a", stack, ["stacks/a/compose.yaml"])) == found


def test_links_count_and_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "stacks/a/data").mkdir(parents=True)
    (tmp_path / "stacks/a/data/loop").symlink_to(".")
    (tmp_path / "stacks/a/gone").symlink_to("/nonexistent")
    stack = replace(new("b"), mounts=(_mount(None),))
    found = left_data._paths(tmp_path, "a", stack, ())
    assert found == ("stacks/a/data", "stacks/a/gone")


# --- in a review ---

COMPOSE = """services:
  app:
    image: x
    volumes: [db:/db, ./data:/data, ./conf:/conf:ro, '/srv/x:/x']
volumes:
  db:
  cache: {name: cache}
  seen: {name: '${COMPOSE_PROJECT_NAME}_seen'}
  odd: {name: '${ODD}_x'}
  theirs: {external: true}
"""


def _scan(*names: str, compose: str = COMPOSE) -> RepositoryScan:
    files = {"host/media/stacks.yaml": "".join(f"- {name}\n" for name in names) or "[]"}
    for name in names:
        files |= {f"stacks/{name}/compose.yaml": compose, f"stacks/{name}/conf/a": "x"}
    contents = {path: text.encode() for path, text in files.items()}
    return repository_scan.take(tree(files), contents, revision())


def test_a_review_says_what_data_a_new_name_does_not_take_along() -> None:
    (finding,) = renames.left_data(_scan("a", "z"), _scan("z", "b"))
    assert (finding.rule, finding.where) == ("renamed", "host/media/stacks.yaml:2")
    assert (
        "b: it seems to be a under a new name, and would start without its data" in finding.message
    )
    assert "stacks/a/data in the checkout" in finding.message
    assert "the volume a_db, a_seen (give it its name" in finding.message
    before, after = _scan("a", "z").hosts["media"], _scan("z", "b").hosts["media"]
    change = host_diff.of_host(before, after, host_diff.planned(before, after), _Sides(), {})
    assert change is not None
    (waits,) = [each for each in change.stacks if each.action == "hold"]
    assert (waits.name, waits.reason) == ("b", Reason.DATA)
    assert waits.message.endswith("the host waits for it")


class _Sides(dict[str, tuple[None, str]]):
    def __missing__(self, name: str) -> tuple[None, str]:
        return None, "not resolved"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (_scan("a"), _scan("a")),
        (_scan("a"), _scan("a", "b")),
        (_scan("a", "b"), _scan("b")),
        (_scan("a", compose=COMPOSE.partition("    volumes")[0]), _scan("b")),
        (_scan("a"), _scan("b", compose=COMPOSE.partition("    volumes")[0])),
    ],
)
def test_of_other_changes_a_review_says_nothing_of_data(
    before: RepositoryScan, after: RepositoryScan
) -> None:
    assert list(renames.left_data(before, after)) == []


def test_volumes_are_told_apart_by_what_their_names_begin_with() -> None:
    (stack,) = _scan("a").hosts["media"].stacks
    assert (stack.own_volumes, stack.named_volumes) == (
        ("_db", "_seen"),
        ("cache", "theirs"),
    )
