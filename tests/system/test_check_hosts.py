"""`commitd check` of many hosts: each model is made once, and what is said stays word for word."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio

from agent.adapters import process
from agent.control.review import check
from agent.surface.cli import check_report
from tests.example import GOOD, IMAGE
from tests.system.clones import Clone

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pytest

    from tests.sandbox import Sandbox

HOSTS = 5


def hosts(stacks: str, **values: str) -> dict[str, str]:
    """As many hosts; each `{}` in their values is another word."""
    found: dict[str, str] = {}
    for number in range(HOSTS):
        found[f"host/h{number}/stacks.yaml"] = "".join(f"- {name}\n" for name in stacks.split())
        text = "".join(f"{key}={value.format(number)}\n" for key, value in values.items())
        found[f"host/h{number}/host.env"] = text
    return found


def stack(*lines: str) -> str:
    return "\n".join(
        ["services:", "  app:", f"    image: {IMAGE}", *(f"    {x}" for x in lines), ""]
    )


def runs(clone: Clone, monkeypatch: pytest.MonkeyPatch) -> tuple[check.Report, int]:
    """What is found in the clone, and how often Compose read a stack for that."""
    calls: list[str] = []
    run = process.run

    async def counted(argv: Any, **options: Any) -> process.Result:
        if "config" in argv:
            calls.append(argv[argv.index("--project-name") + 1])
        return await run(argv, **options)

    monkeypatch.setenv("PATH", os.pathsep.join(clone.programs))
    monkeypatch.setattr(process, "run", counted)
    return anyio.run(check.check, clone.path), len(calls)


def test_a_stack_that_sees_no_value_of_its_host_is_resolved_once(
    box: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    clone = Clone(
        box,
        {
            **hosts("one two", DOMAIN="h{}.example.com", DATA="/srv/h{}"),
            "stacks/one/compose.yaml": stack("environment: {TZ: '${TZ:-UTC}'}"),
            "stacks/two/compose.yaml": stack("environment: {A: 'a.${DOMAIN}'}"),
        },
    )
    report, calls = runs(clone, monkeypatch)
    assert not report.findings
    assert calls == 1 + HOSTS


def test_an_error_of_one_host_is_found_although_others_share_the_model(
    box: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    clone = Clone(
        box,
        {
            **hosts("one", DOMAIN="h{}.example.com"),
            "host/h3/more.env": "OTHER=${\n",
            "stacks/one/compose.yaml": stack("environment: {A: x}"),
        },
    )
    report, calls = runs(clone, monkeypatch)
    assert [(f.rule, f.where) for f in report.findings] == [("env-file", "host/h3/more.env:1")]
    assert calls > 1


MANY: Mapping[str, str] = {
    **GOOD,
    **hosts("proxy web quiet asks clash faulty", DOMAIN="h{}.example.com", PORT="70{}0"),
    "host/h1/host.env": "DOMAIN=h1.example.com\nPORT=7000\nNEEDED=x\n",
    "host/h2/host.env": "OTHER=1\nPORT=7001\n",
    "host/h3/more.env": "A='x y'\nB=${A}\nHASH=$2y$10$abcdefgh\n",
    "host/h4/stacks.yaml": "- proxy\n- quiet\n- clash\n- clash\n- Odd\n- gone\n",
    "host/h4/commitd.yaml": "pins: warn\nbuild: allow\n",
    "stacks/quiet/compose.yaml": stack("environment: {A: '${NOBODY}'}", "privileged: true"),
    "stacks/asks/compose.yaml": stack("environment: {A: '${NEEDED:?say it}'}", "restart: always"),
    "stacks/clash/compose.yaml": (
        "services:\n  app:\n    image: nginx\n    build: .\n    container_name: front\n"
        "    ports: ['${PORT}:80', '7001:81']\n    volumes: ['./data:/data', '../../x:/x']\n"
        "  other:\n    extends: {file: more.yaml, service: base}\n"
    ),
    "stacks/clash/more.yaml": f"services: {{base: {{image: '{IMAGE}', user: '${{DOMAIN}}'}}}}\n",
    "stacks/faulty/compose.yaml": stack(
        "restrat: always", "ports: ['${PORT}:80']", "environment: {A: '${1}', B: '${DOMAIN}'}",
        "volumes: ['../../../etc:/etc']", "networks: [lost]",
    ),
    "stacks/idle/compose.yaml": stack("environment: {A: '${DOMAIN}'}"),
}  # fmt: skip


def test_what_is_said_of_many_hosts_stays_word_for_word(
    box: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Written by a check that shared no model; a change here is one of what people read."""
    report, _ = runs(Clone(box, MANY), monkeypatch)
    expected = Path(__file__).with_name("check_of_many_hosts.txt").read_text()
    assert check_report.FORMATS["text"](report) + "\n" == expected
