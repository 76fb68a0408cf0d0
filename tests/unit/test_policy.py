from __future__ import annotations

from typing import Any

import pytest

from agent.domain.compose import policy
from agent.domain.repository.compose_paths import Kind, Variable

ROOT = "/var/lib/commitd/repo"


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ({}, []),
        ({"services": None}, []),
        ({"services": {"a": {"image": "x"}}}, []),
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
    found = policy.refusals(model, ROOT)
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
    assert bool(policy.refusals(model, ROOT, build=True)) is refused


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
    assert policy.notable(services) == [
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
    variable = Variable(Kind.ENV_FILE, "${V}", "stacks/web", within, "stacks/web/compose.yaml:3")
    said = policy.climbing([variable], [name])
    place = within or "the repository"
    refusal = (
        f"stacks/web/compose.yaml:3: env_file: '${{V}}' leads out of {place}; "
        "write the directory before the variable"
    )
    assert said == ([] if fine else [(variable, refusal)])
