from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from agent.domain.compose import policy
from agent.domain.outcome import Pins
from agent.domain.repository.compose_paths import PathKind, Variable, climbing
from agent.domain.repository.fleet_policy import Policy
from agent.domain.repository.image_refs_yaml import ImageMention
from tests.unit.builders import stack

ROOT = "/var/lib/commitd/repo"
DIGEST = "sha256:" + "0123456789abcdef" * 4
IMAGE = f"nginx:1.27@{DIGEST}"


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ({}, []),
        ({"services": None}, []),
        ({"services": {"a": {"image": IMAGE}}}, []),
        ({"services": {"a": {"provider": {"type": "x"}}}}, ["a: provider: would run a program"]),
        ({"services": {"a": {"build": {"context": ROOT}}}}, ["a: build: is not allowed"]),
        ({"configs": {"c": {"file": f"{ROOT}/stacks/web/c"}}}, []),
        ({"configs": {"c": {"content": "x"}}, "secrets": {"s": {"environment": "X"}}}, []),
        ({"configs": {"c": {"file": "/etc/shadow"}}}, ["configs: c: '/etc/shadow' is not in"]),
        (
            {"secrets": {"s": {"file": f"{ROOT}/../age.key"}}},
            ["secrets: s: '/var/lib/commitd/repo/"],
        ),
        ({"secrets": {"s": {"file": f"{ROOT}-2/x"}}}, ["secrets: s: '/var/lib/commitd/repo-2/x'"]),
    ],
)
def test_what_variables_led_to_is_judged_too(model: dict[str, Any], said: list[str]) -> None:
    found = [each.message for each in policy.judge(stack("web"), model, ROOT)]
    assert len(found) == len(said)
    assert all(text.startswith(start) for text, start in zip(found, said, strict=True))


@pytest.mark.parametrize(
    ("build", "refused"),
    [
        ({"context": f"{ROOT}/stacks/web"}, False),
        ({"context": ROOT, "additional_contexts": {"b": "docker-image://alpine"}}, False),
        ({"context": "https://github.com/a/b.git"}, True),
        ({"context": "/srv"}, True),
        ({"context": ROOT, "additional_contexts": {"b": "/etc"}}, True),
    ],
)
def test_where_building_is_allowed_it_is_from_the_repository(
    build: dict[str, Any], refused: bool
) -> None:
    model = {"services": {"a": {"build": build}}}
    allowed = replace(stack("web"), policy=Policy(build="allow"))
    assert bool(policy.judge(allowed, model, ROOT)) is refused


def _noted(services: dict[str, dict[str, Any]]) -> list[str]:
    found = policy.judge(stack("web"), {"services": services}, ROOT)
    return [each.message for each in found if each.effect is policy.Effect.NOTED]


def test_what_reaches_the_host_is_listed() -> None:
    services: dict[str, dict[str, Any]] = {
        "b": {"privileged": True, "use_api_socket": True, "network_mode": "host", "pid": "host"},
        "a": {
            "ipc": "host", "userns_mode": "host", "cap_add": ["SYS_ADMIN", "NET_ADMIN"],
            "devices": ["/dev/a", {"source": "/dev/b", "target": "/dev/c"}],
            "volumes": [
                {"type": "bind", "source": "/var/run/docker.sock"},
                {"type": "volume", "source": "docker.sock"},
            ],
        },
        "c": {"network_mode": "service:a", "privileged": False, "cap_add": None, "devices": []},
    }  # fmt: skip
    assert _noted(services) == [
        "a: mounts the engine's socket /var/run/docker.sock",
        "a: ipc: host",
        "a: userns_mode: host",
        "a: cap_add NET_ADMIN",
        "a: cap_add SYS_ADMIN",
        "a: device /dev/a",
        "a: device /dev/b",
        "b: privileged",
        "b: use_api_socket, the engine's socket and credentials",
        "b: network_mode: host",
        "b: pid: host",
    ]


@pytest.mark.parametrize(
    ("within", "name", "fine"),
    [
        ("stacks/web", "a.env", True),
        ("stacks/web", "conf/../a.env", True),
        ("stacks/web", "../website/a.env", False),
        ("stacks/web", "../../global/a.env", False),
        ("global", "../../global/x/a.env", True),
        ("", "../../a.env", True),
        ("", "../../../a.env", False),
        ("", "../../..", False),
        ("", "/etc/passwd", False),
        ("stacks/web", "~/a.env", False),
    ],
)
def test_a_finished_name_stays_where_it_counts_as_read(within: str, name: str, fine: bool) -> None:
    variable = Variable(
        kind=PathKind.ENV_FILE,
        name="${V}",
        base="stacks/web",
        within=within,
        where="stacks/web/compose.yaml:3",
    )
    said = climbing([variable], [name])
    place = within or "the repository"
    refusal = (
        f"stacks/web/compose.yaml:3: env_file: '${{V}}' leads out of {place}; "
        "write the directory before the variable"
    )
    assert said == ([] if fine else [(variable, refusal)])


def test_images_that_are_not_pinned_are_refused_or_only_told_of_and_say_what_to_do() -> None:
    services: dict[str, dict[str, Any]] = {
        "web": {"image": "nginx:1.27"},
        "built": {"build": {"context": ROOT}},
        "none": {"image": None},
        "good": {"image": IMAGE},
        "both": {"image": "mine:1", "build": {"context": ROOT}},
        "app": {"image": f"nginx@{DIGEST}"},
    }
    mentions = {
        "app": ImageMention("nginx:${TAG}", "c.yaml:7"),
        "web": ImageMention("nginx:1.27", "b.yaml:3"),
    }
    said = (
        f"c.yaml:7: app: nginx@{DIGEST} is not pinned by tag and digest; "
        "b.yaml:3: web: nginx:1.27 is not pinned by tag and digest "
        "(write the reference itself here, name:tag, where Renovate sees it too; then commitd pin; "
        "commitd pin site)"
    )
    for pins, effect in ((Pins.REQUIRE, policy.Effect.REFUSED), (Pins.WARN, policy.Effect.WARNED)):
        site = replace(stack("site"), images=mentions, policy=Policy(build="allow", pins=pins))
        found = policy.judge(site, {"services": services}, ROOT)
        assert {each.effect for each in found} == {effect}
        assert policy.summary(found, effect) == said
