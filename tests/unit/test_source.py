from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.domain.source import decide
from agent.domain.source.decide import Accept, Ancestry, Answer, Head, Relation, Stay, Wait

# a ── b ── c ── d        the line that is followed
#       └── x ── y        the line somebody rewrote it to
#       └── z             yet another
LINE = Ancestry(
    frozenset(
        (old, new)
        for path in ("abcd", "abxy", "abz")
        for i, new in enumerate(path)
        for old in path[:i]
    )
)


def at(sha: str, remote: str = "gitea", last: str | None = None) -> Head:
    return Head(remote=remote, answer=Answer.HEAD, sha=sha, last=last)


def down(remote: str = "gitea", last: str | None = None) -> Head:
    return Head(remote=remote, answer=Answer.DOWN, error="timed out", last=last)


def kind(decision: decide.Decision) -> tuple[str, str | None]:
    match decision:
        case Accept(sha=sha, rewrite=rewrite):
            return ("rewrite" if rewrite else "accept"), sha
        case Wait(sha=sha):
            return "wait", sha
        case Stay(remote=remote):
            return "stay", remote


@pytest.mark.parametrize(
    ("heads", "applied", "expected"),
    [
        # The usual day.
        ([at("c")], None, ("accept", "c")),
        ([at("c")], "c", ("stay", "gitea")),
        ([at("c")], "b", ("accept", "c")),
        ([at("d")], "a", ("accept", "d")),
        # Stale remotes are never applied.
        ([at("b")], "c", ("stay", None)),
        ([at("b"), at("d", "github")], "c", ("accept", "d")),
        ([at("d"), at("b", "github")], "c", ("accept", "d")),
        ([at("b"), at("c", "github")], "c", ("stay", "github")),
        ([at("b"), at("a", "github")], "c", ("stay", None)),
        ([at("c"), at("d", "github")], "b", ("accept", "d")),
        ([at("b"), at("d", "github")], None, ("accept", "d")),
        # Fallback.
        ([down(), at("c", "github")], "b", ("accept", "c")),
        ([Head(remote="gitea", answer=Answer.EMPTY), at("c", "github")], "b", ("accept", "c")),
        ([Head(remote="gitea", answer=Answer.NO_BRANCH), at("c", "github")], "b", ("accept", "c")),
        ([down(), down("github")], "b", ("stay", None)),
        ([Head(remote="gitea", answer=Answer.EMPTY)], "b", ("stay", None)),
        ([], "b", ("stay", None)),
        ([], None, ("stay", None)),
        # Remotes that disagree.
        ([at("c"), at("x", "github")], "b", ("wait", "x")),
        ([at("c"), at("x", "github")], None, ("wait", "x")),
        ([at("d"), at("x", "github")], "c", ("wait", "x")),
        ([at("x"), at("c", "github")], "c", ("wait", "x")),
        ([at("x"), at("b", "github")], "c", ("wait", "x")),
        # Rewritten history.
        ([at("x")], "c", ("wait", "x")),
        ([at("x"), at("x", "github")], "c", ("rewrite", "x")),
        ([at("x"), at("y", "github")], "c", ("wait", "x")),
        ([at("x"), at("z", "github")], "c", ("wait", "x")),
        ([at("x"), at("x", "github"), down("third")], "c", ("rewrite", "x")),
        ([at("x"), at("x", "github"), down("third", last="y")], "c", ("rewrite", "x")),
        ([at("x"), at("x", "github"), down("third", last="c")], "c", ("wait", "x")),
        ([at("x"), at("x", "github"), down("third", last="b")], "c", ("wait", "x")),
        ([at("x"), at("x", "github"), down("third", last="d")], "c", ("wait", "x")),
        ([at("x"), down("github", last="c")], "c", ("wait", "x")),
        ([at("x"), down("github")], "c", ("wait", "x")),
        ([at("x"), at("x", "github"), at("c", "third")], "c", ("wait", "x")),
    ],
)
def test_a_host_moves_forward_only(
    heads: list[Head], applied: str | None, expected: tuple[str, str | None]
) -> None:
    assert kind(decide.decide(heads, LINE, applied)) == expected


@pytest.mark.parametrize(
    ("heads", "applied", "approved", "expected"),
    [
        ([at("x")], "c", "x", ("rewrite", "x")),
        ([at("c"), at("x", "github")], "c", "x", ("rewrite", "x")),
        ([at("x")], "c", "y", ("wait", "x")),
        ([at("b")], "c", "b", ("stay", None)),
        ([at("d")], "c", "d", ("accept", "d")),
        ([at("c")], "c", "x", ("stay", "gitea")),
    ],
)
def test_a_person_accepts_one_rewritten_commit_and_no_other(
    heads: list[Head], applied: str, approved: str, expected: tuple[str, str | None]
) -> None:
    assert kind(decide.decide(heads, LINE, applied, approved=frozenset({approved}))) == expected


@pytest.mark.parametrize(
    ("heads", "applied", "expected"),
    [
        ([at("x")], "c", ("rewrite", "x")),
        ([at("x"), at("c", "github")], "c", ("rewrite", "x")),
        ([at("c"), at("x", "github")], "c", ("stay", "gitea")),
        ([at("b")], "c", ("stay", None)),
        ([at("d")], "c", ("accept", "d")),
        ([down(), at("x", "github")], "c", ("rewrite", "x")),
    ],
)
def test_a_host_that_follows_any_history_follows_the_preferred_remote(
    heads: list[Head], applied: str, expected: tuple[str, str | None]
) -> None:
    assert kind(decide.decide(heads, LINE, applied, follow=True)) == expected


def test_two_stale_remotes_on_merged_branches_do_not_wait_for_a_person() -> None:
    merged = Ancestry(frozenset({("l", "m"), ("r", "m")}))
    decision = decide.decide([at("l"), at("r", "github")], merged, "m")
    assert decision == Stay("gitea is behind what is applied here")


def test_what_is_not_followed_is_explained() -> None:
    silent = decide.decide([down(), Head(remote="github", answer=Answer.EMPTY)], LINE, "b")
    assert silent == Stay("gitea: timed out; github: empty")
    alone = decide.decide([at("x")], LINE, "c")
    assert isinstance(alone, Wait)
    assert "commitd approve x" in alone.detail


def test_a_remote_without_the_branch_is_named_with_it() -> None:
    heads = [
        at("c"),
        down("one", last="c"),
        Head(remote="two", answer=Answer.NO_BRANCH, last="0123456789"),
        Head(remote="three", answer=Answer.EMPTY),
    ]
    assert decide.absent(heads, "main") == [
        ("two", "there is no branch 'main'; it showed 0123456 before"),
        ("three", "the repository is empty, without a branch 'main'"),
    ]


@pytest.mark.parametrize(
    ("head", "applied", "expected"),
    [("c", "c", Relation.SAME), ("d", "b", Relation.AHEAD), ("a", "c", Relation.BEHIND),
     ("x", "c", Relation.DIVERGED), (None, "c", Relation.UNKNOWN), ("c", None, Relation.UNKNOWN)],
)  # fmt: skip
def test_status_says_how_a_remote_stands(
    head: str | None, applied: str | None, expected: Relation
) -> None:
    assert LINE.relation(head, applied) is expected


@dataclass
class Dag:
    """Commits named by letters; ``before`` are all the ancestors of each."""

    before: dict[str, set[str]]

    @property
    def ancestry(self) -> Ancestry:
        return Ancestry(frozenset((o, n) for n, olds in self.before.items() for o in olds))

    def on_line(self, sha: str, applied: str) -> bool:
        return sha == applied or sha in self.before[applied] or applied in self.before[sha]


@st.composite
def dags(draw: st.DrawFn) -> Dag:
    before: dict[str, set[str]] = {}
    for sha in "abcdefgh"[: draw(st.integers(1, 8))]:
        parents = draw(st.sets(st.sampled_from(sorted(before)), max_size=2)) if before else set()
        before[sha] = parents.union(*(before[parent] for parent in parents))
    return Dag(before)


REMOTES = ("gitea", "github", "third")


@st.composite
def histories(draw: st.DrawFn) -> tuple[Dag, list[list[Head]]]:
    """A repository, and what up to three remotes say over time."""
    dag = draw(dags())
    remotes = REMOTES[: draw(st.integers(1, 3))]
    last: dict[str, str | None] = dict.fromkeys(remotes)
    rounds: list[list[Head]] = []
    for _ in range(draw(st.integers(1, 8))):
        heads: list[Head] = []
        for remote in remotes:
            answer = draw(st.sampled_from([*[Answer.HEAD] * 4, *Answer]))
            sha = draw(st.sampled_from(sorted(dag.before))) if answer is Answer.HEAD else None
            heads.append(Head(remote=remote, answer=answer, sha=sha, last=last[remote]))
            last[remote] = sha or last[remote]
        rounds.append(heads)
    return dag, rounds


def agreed(dag: Dag, heads: list[Head], sha: str, applied: str) -> bool:
    """Whether nobody speaks for the old line any more, and two at least for the new head."""
    shown = [head.sha for head in heads if head.sha]
    silent = [head.last for head in heads if head.sha is None and head.last]
    return (
        len(shown) > 1
        and set(shown) == {sha}
        and not any(dag.on_line(old, applied) for old in silent)
    )


@given(histories())
@settings(max_examples=200)
def test_an_applied_commit_never_loses_an_ancestor(story: tuple[Dag, list[list[Head]]]) -> None:
    dag, rounds = story
    applied: str | None = None
    for heads in rounds:
        decision = decide.decide(heads, dag.ancestry, applied)
        match decision:
            case Accept(sha=sha, remote=remote, rewrite=rewrite):
                assert (sha, remote) in {(head.sha, head.remote) for head in heads}
                if applied is not None:
                    assert sha not in dag.before[applied] | {applied}
                    assert rewrite is not dag.on_line(sha, applied)
                    assert not rewrite or agreed(dag, heads, sha, applied)
                applied = sha
            case Stay(remote=remote):
                confirmed = [head.sha for head in heads if head.remote == remote]
                assert confirmed in ([], [applied])
            case Wait(sha=sha, remote=remote):
                assert (sha, remote) in {(head.sha, head.remote) for head in heads}
                assert len({head.sha for head in heads if head.sha}) > 1 or applied is not None


@given(histories())
def test_a_new_commit_that_nobody_contradicts_is_applied(
    story: tuple[Dag, list[list[Head]]],
) -> None:
    dag, rounds = story
    for heads in rounds:
        shown = {head.sha for head in heads if head.sha}
        for applied in sorted(dag.before):
            if len(shown) == 1 and applied in dag.before[min(shown)]:
                decision = decide.decide(heads, dag.ancestry, applied)
                assert kind(decision) == ("accept", min(shown))


SHAS = st.sampled_from([None, "a", "b", "c", ""])
HEADS = st.builds(
    Head,
    remote=st.sampled_from(REMOTES),
    answer=st.sampled_from(Answer),
    sha=SHAS,
    error=st.none() | st.text(),
    last=SHAS,
)


@given(
    st.lists(HEADS, max_size=4),
    st.frozensets(st.tuples(st.sampled_from("abc"), st.sampled_from("abc"))),
    SHAS,
    st.booleans(),
    st.frozensets(st.sampled_from("abc")),
)
def test_every_combination_of_answers_has_a_decision(
    heads: list[Head],
    pairs: frozenset[tuple[str, str]],
    applied: str | None,
    follow: bool,
    approved: frozenset[str],
) -> None:
    decision = decide.decide(heads, Ancestry(pairs), applied, follow=follow, approved=approved)
    assert isinstance(decision, Accept | Stay | Wait)
    assert decision == decide.decide(
        heads, Ancestry(pairs), applied, follow=follow, approved=approved
    )
