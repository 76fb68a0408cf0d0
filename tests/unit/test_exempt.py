from __future__ import annotations

from collections.abc import Mapping

import pytest

from agent.domain.container import PROJECT, Container
from agent.domain.reconcile.exemptions import Exemptions, Suspension
from agent.domain.repository.allow_rules import PRESETS, AllowRule, Pattern
from tests.unit.builders import container
from tests.values import replace

HASH = "0123456789abcdef" * 4


def foreign(
    name: str = "elegant_euler",
    *,
    image: str = "alpine:3",
    network: str | None = "bridge",
    labels: Mapping[str, str] | None = None,
) -> Container:
    """A container as some tool starts it."""
    return replace(container(name, labels=labels), image=image, network=network)


def labelled(key: str, value: str = "x") -> Container:
    return foreign(labels={key: value})


def presets_of(found: Container) -> set[str]:
    return {name for name, patterns in PRESETS.items() if AllowRule("f:1", patterns).matches(found)}


TOOLS = [
    ("ci-runners", foreign("GITEA-ACTIONS-TASK-41_WORKFLOW-ci_JOB-build")),
    ("ci-runners", foreign(network="GITEA-ACTIONS-TASK-41_WORKFLOW-ci_JOB-build-build-network")),
    ("ci-runners", foreign("FORGEJO-ACTIONS-TASK-7_WORKFLOW-test-yaml_JOB-unit")),
    ("ci-runners", foreign(network="FORGEJO-ACTIONS-TASK-7_WORKFLOW-test-yaml_JOB-unit-network")),
    ("ci-runners", foreign(f"act-CI-build-{HASH}")),
    ("ci-runners", foreign(network="github_network_5b3ddf6aa57e4b0e8b4dc2d4e1d3a6a1")),
    ("ci-runners", labelled("com.gitlab.gitlab-runner.job.id", "1042")),
    ("ci-runners", labelled("com.gitlab.gitlab-runner.com.gitlab.gitlab-runner.job.id", "1042")),
    ("ci-runners", labelled("com.gitlab.gitlab-runner.managed", "")),
    ("buildx", foreign("buildx_buildkit_desktop0", image="moby/buildkit:buildx-stable-1")),
    ("devcontainers", labelled("devcontainer.local_folder", "/home/ada/app")),
    ("devcontainers", labelled("vsch.quality", "stable")),
    ("devcontainers", labelled("vsch.local.folder", "/home/ada/app")),
    ("devcontainers", labelled(PROJECT, "app_devcontainer")),
    ("testcontainers", labelled("org.testcontainers", "true")),
    ("testcontainers", labelled("org.testcontainers.lang", "java")),
    ("testcontainers", labelled("org.testcontainers.sessionId", "f3a1")),
    ("testcontainers", foreign("testcontainers-ryuk-f3a1", image="testcontainers/ryuk:0.11.0")),
]


@pytest.mark.parametrize(("preset", "started"), TOOLS)
def test_a_preset_recognises_what_its_tools_start(preset: str, started: Container) -> None:
    assert presets_of(started) == {preset}


@pytest.mark.parametrize(
    "pattern", [(name, pattern) for name, patterns in PRESETS.items() for pattern in patterns]
)
def test_every_pattern_of_a_preset_is_there_for_something(pattern: tuple[str, Pattern]) -> None:
    name, globs = pattern
    assert any(preset == name and globs.matches(started) for preset, started in TOOLS)


@pytest.mark.parametrize(
    "neighbour",
    [
        foreign(),
        foreign(network=None),
        foreign("act-one"),
        foreign("act-CI-build"),
        foreign(f"act-CI-build-{HASH[:-1]}"),
        foreign(f"act-CI-build-{HASH}0x"),
        foreign(f"act-CI-build-{HASH.upper()}"),
        foreign(f"fact-CI-build-{HASH}"),
        foreign(f"act-{HASH}"),
        foreign("gitea-actions-task-41"),
        foreign("MY-GITEA-ACTIONS-TASK-41"),
        foreign("GITEA-ACTIONS-RUNNER-1"),
        foreign("gitea-runner"),
        foreign("github_network_1"),
        foreign(network="my_github_network_1"),
        foreign(network="github-network"),
        labelled("com.gitlab.gitlab-runner", "yes"),
        labelled("com.gitlab.gitlab-runners.job", "1"),
        labelled("x.com.gitlab.gitlab-runner.job.id", "1"),
        labelled("note", "com.gitlab.gitlab-runner.job.id"),
        foreign("my_buildx_buildkit_x"),
        foreign("buildx_buildkit"),
        foreign("buildkitd", image="moby/buildkit:latest"),
        labelled("my.devcontainer.local_folder"),
        labelled("devcontainer.local_folder.old"),
        labelled("vsch", "x"),
        labelled(PROJECT, "app_devcontainer_2"),
        labelled(PROJECT, "app-devcontainer"),
        labelled("project", "app_devcontainer"),
        foreign("app_devcontainer"),
        labelled("com.org.testcontainers", "true"),
        foreign(image="ada/testcontainers/ryuk:1"),
        foreign(image="testcontainers"),
    ],
)
def test_no_preset_recognises_a_neighbour(neighbour: Container) -> None:
    assert presets_of(neighbour) == set()


@pytest.mark.parametrize(
    ("pattern", "matches"),
    [
        (Pattern(name="ci-*"), True),
        (Pattern(name="ci-?"), True),
        (Pattern(name="ci-[0-9]"), True),
        (Pattern(name="ci"), False),
        (Pattern(name="CI-*"), False),
        (Pattern(name="i-7"), False),
        (Pattern(image="runner:*"), True),
        (Pattern(image="runner"), False),
        (Pattern(image="r.example/*"), False),
        (Pattern(network="jobs"), True),
        (Pattern(network="job"), False),
        (Pattern(label=("team", "*")), True),
        (Pattern(label=("team", "core")), True),
        (Pattern(label=("team", "co*")), True),
        (Pattern(label=("team", "cor")), False),
        (Pattern(label=("te*", "core")), True),
        (Pattern(label=("tea", "*")), False),
        (Pattern(label=("core", "*")), False),
        (Pattern(label=("empty", "*")), True),
        (Pattern(label=("empty", "")), True),
        (Pattern(label=("team", "")), False),
        # The key and the value must be of the same label.
        (Pattern(label=("team", "night")), False),
        (Pattern("ci-*", "runner:*"), True),
        (Pattern("ci-*", "runner:*", ("team", "core"), "jobs"), True),
        (Pattern("other", "runner:*", ("team", "core"), "jobs"), False),
        (Pattern("ci-*", "other", ("team", "core"), "jobs"), False),
        (Pattern("ci-*", "runner:*", ("team", "web"), "jobs"), False),
        (Pattern("ci-*", "runner:*", ("team", "core"), "other"), False),
    ],
)
def test_a_glob_is_anchored_and_all_keys_of_a_rule_must_match(
    pattern: Pattern, matches: bool
) -> None:
    job = foreign(
        "ci-7",
        image="runner:1",
        network="jobs",
        labels={"team": "core", "shift": "night", "empty": ""},
    )
    assert pattern.matches(job) is matches


def test_what_tells_no_network_is_on_none() -> None:
    """An event does not tell it."""
    assert not Pattern(network="?*").matches(foreign(network=None))
    assert Pattern(name="elegant*").matches(foreign(network=None))


def test_one_pattern_of_a_rule_is_enough() -> None:
    rule = AllowRule("f:1", (Pattern(name="a"), Pattern(name="b")))
    assert [rule.matches(foreign(name)) for name in "abc"] == [True, True, False]
    assert not AllowRule("f:1", ()).matches(foreign())


WEB = Suspension("web", None, "", "t")
DB = Suspension("db", None, "", "t")
HOST = Suspension(None, None, "", "t")


@pytest.mark.parametrize(
    ("suspensions", "project", "expected"),
    [
        ((), "web", None),
        ((), None, None),
        ((WEB, DB), "web", WEB),
        ((DB, WEB), "web", WEB),
        ((DB,), "web", None),
        ((WEB,), None, None),
        ((WEB,), "", None),
        ((WEB,), "WEB", None),
        ((HOST,), "web", HOST),
        ((HOST,), None, HOST),
        ((WEB, HOST), "web", HOST),
        ((WEB, HOST), "", HOST),
    ],
)
def test_a_suspension_is_of_one_stack_or_of_all_that_runs(
    suspensions: tuple[Suspension, ...], project: str | None, expected: Suspension | None
) -> None:
    assert Exemptions(suspensions=suspensions).suspension(project) is expected


def test_only_a_suspension_without_a_stack_is_of_the_host() -> None:
    assert Exemptions(suspensions=(WEB, HOST)).host is HOST
    assert Exemptions(suspensions=(WEB,)).host is None
