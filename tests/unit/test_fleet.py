from __future__ import annotations

from collections.abc import Mapping

import pytest

from agent.domain.errors import PermanentError
from agent.domain.reconcile.host_state import HostState, protected
from agent.domain.reconcile.plan import plan
from agent.domain.repository import fleet_policy, layout
from agent.domain.repository.allow_rules import PRESETS, AllowRule, Pattern
from agent.domain.repository.desired import DesiredState
from tests.unit.builders import (
    NOW,
    STACKS_DIR,
    container,
    release,
    revision,
    running,
    tree,
)

PATH = "global/commitd.yaml"


def rules(text: str) -> tuple[AllowRule, ...]:
    return fleet_policy.read(text.encode(), PATH).allow


@pytest.mark.parametrize("text", ["", "# nothing yet\n", "allow:\n", "allow: []\n", "{}", "---\n"])
def test_a_file_that_allows_nothing_is_good(text: str) -> None:
    assert rules(text) == ()


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_each_preset_is_known_by_its_name(name: str) -> None:
    assert rules(f"allow:\n- preset: {name}\n") == (AllowRule(f"{PATH}:2", PRESETS[name]),)


@pytest.mark.parametrize(
    ("rule", "pattern"),
    [
        ("name: ci-*", Pattern(name="ci-*")),
        ("image: r.example/runner:*", Pattern(image="r.example/runner:*")),
        ("label: com.example.job", Pattern(label=("com.example.job", "*"))),
        ("label: com.example.*=yes", Pattern(label=("com.example.*", "yes"))),
        ("label: a=b=c", Pattern(label=("a", "b=c"))),
        ("label: a=", Pattern(label=("a", ""))),
        ("{name: a, image: b, label: c=d}", Pattern("a", "b", ("c", "d"))),
        ("name: '8080'", Pattern(name="8080")),
    ],
)
def test_a_rule_is_read_as_it_is_meant(rule: str, pattern: Pattern) -> None:
    assert rules(f"\nallow:\n- {rule}\n") == (AllowRule(f"{PATH}:3", (pattern,)),)


def test_rules_keep_their_order_and_know_their_lines() -> None:
    found = rules("allow:\n- name: a\n\n- image: b\n  label: c\n- {preset: buildx}\n")
    assert [rule.where for rule in found] == [f"{PATH}:{line}" for line in (2, 4, 6)]


@pytest.mark.parametrize(
    ("text", "line", "message", "hint"),
    [
        ("alow: []", 1, "unknown key 'alow'", "did you mean 'allow'?"),
        ("allow: []\nzzz: 1", 2, "unknown key 'zzz'", "there are agent, allow"),
        ("7: []", 1, "unknown key '7'", "there are agent, allow"),
        ("- preset: buildx", 1, "expected settings", "write allow: and a list of rules"),
        ("allow", 1, "expected settings", "write allow:"),
        ("8080", 1, "expected settings", "write allow:"),
        ("allow: ci-runners", 1, "must be a list of rules", "write '- preset: ci-runners'"),
        ("\nallow:\n  preset: buildx", 2, "must be a list of rules", "write '- preset:"),
        ("allow: 3", 1, "must be a list of rules", "write '- preset:"),
        ("allow: true", 1, "must be a list of rules", "write '- preset:"),
        ("allow:\n- name: a\n- ci-runners", 3, "a rule must be a mapping", "write '- preset:"),
        ("allow:\n- name: a\n- {}", 3, "a rule must be a mapping", "write '- preset:"),
        ("allow:\n- name: a\n-\n", 3, "a rule must be a mapping", "write '- preset:"),
        ("allow:\n- [name, a]", 2, "a rule must be a mapping", "write '- preset:"),
        ("allow:\n- name: a\n- nmae: a", 3, "unknown key 'nmae'", "did you mean 'name'?"),
        ("allow:\n- name: a\n  imgae: b", 3, "unknown key 'imgae'", "did you mean 'image'?"),
        ("allow:\n- network: a", 2, "unknown key 'network'", "there are image, label, name, pres"),
        ("allow:\n- 1: a", 2, "unknown key '1'", "there are image, label, name, preset"),
        ("allow:\n- preset: ci-runer", 2, "no preset 'ci-runer'", "did you mean 'ci-runners'?"),
        ("allow:\n- preset: all", 2, "no preset 'all'", "there are buildx, ci-runners, devc"),
        ("allow:\n- preset: Buildx", 2, "no preset 'Buildx'", "did you mean 'buildx'?"),
        ("allow:\n- preset: buildx\n  name: a", 2, "a preset stands alone", "make two rules"),
        ("allow:\n- preset: [buildx]", 2, "preset: must be a word", "quote it"),
        ("allow:\n- name: 8080", 2, "name: must be a word or a glob", "quote it"),
        ("allow:\n- name: yes", 2, "name: must be a word or a glob", "quote it"),
        ("allow:\n- name:", 2, "name: must be a word or a glob", "quote it"),
        ("allow:\n- image: a\n  name: ''", 3, "name: must be a word or a glob", "quote it"),
        ("allow:\n- name: ' '", 2, "name: must be a word or a glob", "quote it"),
        ("allow:\n- label: {a: b}", 2, "label: must be a word or a glob", "quote it"),
        ("allow:\n- image: 2026-01-02", 2, "image: must be a word or a glob", "quote it"),
        ("allow:\n- name: *", 2, "not valid YAML", ""),
        ("allow:\n\t- name: a", 2, "not valid YAML", "not tabs"),
        ("allow: []\nallow: []", 2, "second time", "keep one"),
        ("allow: []\n---\nallow: []", 2, "second document", "remove the line"),
    ],
)
def test_what_is_wrong_is_said_with_its_line_and_what_to_do(
    text: str, line: int, message: str, hint: str
) -> None:
    with pytest.raises(PermanentError) as caught:
        rules(text)
    assert caught.value.where == f"{PATH}:{line}"
    assert message in caught.value.message
    assert hint in (caught.value.hint or "")


# --- in a repository ---

HOST_PATH = "host/media/commitd.yaml"
COMPOSE = "services:\n  web:\n    image: a:1@sha256:0\n"
REPOSITORY = {
    "host/media/stacks.yaml": "- web\n",
    "host/other/stacks.yaml": "[]\n",
    "stacks/web/compose.yaml": COMPOSE,
}


def read(files: Mapping[str, str], modes: Mapping[str, str] | None = None) -> DesiredState:
    """Read as the agent does: only the wanted files are at hand."""
    entries = tree({**REPOSITORY, **files}, modes)
    wanted = layout.wanted(entries, "media")
    contents = {p: c.encode() for p, c in {**REPOSITORY, **files}.items() if p in wanted}
    return layout.read(entries, contents, revision(), "media")


def allow(name: str) -> str:
    return f"allow:\n- name: {name}\n"


def test_the_rules_of_the_fleet_and_of_this_host_count_and_no_others() -> None:
    state = read(
        {
            PATH: allow("everywhere"),
            HOST_PATH: allow("here"),
            "host/other/commitd.yaml": allow("there"),
            "commitd.yaml": allow("nowhere"),
            "stacks/web/commitd.yaml": allow("nowhere"),
        }
    )
    assert state.allow == (
        AllowRule(f"{PATH}:2", (Pattern(name="everywhere"),)),
        AllowRule(f"{HOST_PATH}:2", (Pattern(name="here"),)),
    )
    assert state.list_faults == ()
    assert read({}).allow == ()


def test_what_another_host_may_do_is_not_even_read() -> None:
    state = read({"host/other/commitd.yaml": "alow: ["})
    assert (state.allow, state.list_faults) == ((), ())


@pytest.mark.parametrize(
    ("content", "mode", "where", "message"),
    [
        ("alow: []", "100644", ":1", "unknown key 'alow'"),
        ("allow: [", "100644", ":1", "not valid YAML"),
        ("x" * (1024 * 1024 + 1), "100644", "", "bytes long"),
        # What it says is the path that it leads to.
        ("../other/commitd.yaml", "120000", "", "not a regular file"),
        (allow("*"), "120000", "", "not a regular file"),
        ("", "160000", "", "not a regular file"),
    ],
)
@pytest.mark.parametrize("broken", [PATH, HOST_PATH])
def test_while_what_is_allowed_cannot_be_read_nothing_is_removed_and_stacks_still_run(
    broken: str, content: str, mode: str, where: str, message: str
) -> None:
    good = HOST_PATH if broken == PATH else PATH
    state = read({broken: content, good: allow("good")}, {broken: mode})
    (fault,) = state.list_faults
    assert fault.where == broken + where
    assert message in fault.message
    assert [item.name for item in state.stacks] == ["web"]
    assert [rule.where for rule in state.allow] == [f"{good}:2"]

    gone = release("gone")
    now = HostState(
        desired=state,
        containers=(*running(gone), container("rogue"), container("good")),
        releases={"gone": gone, "kept": release("kept")},
        now=NOW,
        stacks_dir=STACKS_DIR,
        enrolled=True,
    )
    todo = plan(now)
    assert [deploy.stack.name for deploy in todo.deploys] == ["web"]
    assert (todo.removals, todo.evictions) == ((), ())
    assert protected(now).doubt == str(fault)


def test_an_executable_policy_is_a_file_like_any_other() -> None:
    state = read({PATH: allow("a")}, {PATH: "100755"})
    assert (len(state.allow), state.list_faults) == (1, ())


def test_both_files_say_what_is_wrong_with_them() -> None:
    faults = read({PATH: "alow: []", HOST_PATH: "a: 1"}).list_faults
    assert [fault.where for fault in faults] == [f"{PATH}:1", f"{HOST_PATH}:1"]
