"""`commitd check` in real clones, with the real Compose and no engine to be found."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import pytest

from agent.adapters.compose import confinement
from agent.control.review import check
from agent.domain.finding import Level
from agent.domain.review.checks import RULES
from agent.surface.cli import check_report
from tests.example import GOOD, IMAGE
from tests.sandbox.process import SandboxError
from tests.system.clones import Clone

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.sandbox import Sandbox


_IPAM = "ipam: {config: [{subnet: '%s'}]}"
POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'4d' * 32}\nsize 12345\n"


def test_a_good_repository_gives_nothing(box: Sandbox) -> None:
    clone = Clone(box, GOOD)
    assert clone.check() == "Nothing to complain about: 2 hosts, 2 stacks.\n"
    assert list(clone.path.glob("**/.decrypted*")) == []


FAULTS: Mapping[str, tuple[Mapping[str, str | bytes], set[tuple[str, str]]]] = {
    "the list": (
        {
            "host/media/stacks.yaml": (
                "- proxy\n- web\n- Web\n- web\n- wbe\n- off\n- Blog\n# idle\n"
            ),
            **{
                f"stacks/{name}/compose.yaml": f"services: {{a: {{image: '{IMAGE}'}}}}\n"
                for name in ("off", "blog", "idle")
            },
        },
        {
            ("layout", "host/media/stacks.yaml:3"),
            ("layout", "host/media/stacks.yaml:4"),
            ("layout", "host/media/stacks.yaml:5"),
            ("layout", "host/media/stacks.yaml:6"),
            ("layout", "host/media/stacks.yaml:7"),
            ("unused", "stacks/idle"),
        },
    ),
    "a host without a list": (
        {"host/new/host.env": "A=1\n"},
        {("layout", "host/new/stacks.yaml")},
    ),
    "all of one env file": (
        {"host/nas/bad.env": "COMPOSE_FILE=x\nA=1\nCOMPOSE_PROFILES=y\n"},
        {("env-file", "host/nas/bad.env:1"), ("env-file", "host/nas/bad.env:3")},
    ),
    "dollars in env files": (
        {
            "host/nas/bad.env": "A=1\nHASH=$2y$10$abcdefgh\nFINE='$2y$10$abcdefgh'\nNOTE=a #b\n",
            "stacks/web/app.conf": "TOKEN=x$tail\n",
            "stacks/web/compose.yaml": GOOD["stacks/web/compose.yaml"].replace(
                "    networks", "    env_file: app.conf\n    networks"
            ),
        },
        {
            ("dollar", "host/nas/bad.env:2"),
            ("dollar", "host/nas/bad.env:4"),
            ("dollar", "stacks/web/app.conf:1"),
        },
    ),
    "quotes in env files": (
        {"host/nas/bad.env": "A=1\nhunter2 @x=3\n"},
        {("env-file", "host/nas/bad.env:2")},
    ),
    "settings": (
        {
            "host/nas/commitd.yaml": "pins: maybe\npin: warn\nallow:\n  - {preset: ci-runner}\n",
            "stacks/web/compose.yaml": (
                "x-commitd:\n"
                "  after: [proxy, Proxy]\n"
                "  helth_timeout: 2m\n"
                "  on_change: {wbe: restart, web: reload}\n"
                f"services:\n  web:\n    image: {IMAGE}\n"
            ),
        },
        {
            ("settings", "host/nas/commitd.yaml:1"),
            ("settings", "host/nas/commitd.yaml:2"),
            ("settings", "host/nas/commitd.yaml:4"),
            ("settings", "stacks/web/compose.yaml:2"),
            ("settings", "stacks/web/compose.yaml:3"),
            ("settings", "stacks/web/compose.yaml:4"),
        },
    ),
    "what a stack may not do": (
        {
            "stacks/web/compose.yaml": (
                "services:\n"
                "  web:\n"
                f"    image: {IMAGE}\n"
                "    env_file: /etc/passwd\n"
                "    volumes: [../../../data:/data]\n"
                "  tool:\n"
                "    provider: {type: ./tool}\n"
                "  built:\n"
                "    build: .\n"
                "include: [https://example.com/x.git]\n"
            ),
        },
        {
            ("paths", "stacks/web/compose.yaml:4"),
            ("paths", "stacks/web/compose.yaml:5"),
            ("policy", "stacks/web/compose.yaml:7"),
            ("policy", "stacks/web/compose.yaml:9"),
            ("paths", "stacks/web/compose.yaml:10"),
        },
    ),
    "a variable that climbs": (
        {
            "host/nas/etc.env": "PLACE=../../../../etc\n",
            "host/media/etc.env": "PLACE=web\n",
            "stacks/web/web.env": "A=1\n",
            "stacks/web/compose.yaml": (
                "services:\n"
                "  web:\n"
                f"    image: {IMAGE}\n"
                "    env_file: [{path: './${PLACE}.env', required: false}]\n"
            ),
        },
        {("paths", "stacks/web/compose.yaml:4")},
    ),
    "what only the model shows": (
        {
            "host/nas/etc.env": "PLACE=/etc/passwd\n",
            "host/media/etc.env": "PLACE=./web.conf\n",
            "stacks/web/compose.yaml": (
                "services:\n"
                "  web:\n"
                "    image: nginx\n"
                "    privileged: true\n"
                "    network_mode: host\n"
                "    configs: [c]\n"
                "    volumes:\n"
                "      - /var/run/docker.sock:/s:ro\n"
                "      - ./web.conf:/etc/web.conf\n"
                "      - ./data:/data\n"
                "configs:\n"
                "  c: {file: '${PLACE}'}\n"
            ),
        },
        {
            ("pins", "stacks/web/compose.yaml:3"),
            ("privileges", "stacks/web/compose.yaml:4"),
            ("privileges", "stacks/web/compose.yaml:5"),
            ("privileges", "stacks/web/compose.yaml:7"),
            ("writable-checkout", "stacks/web/compose.yaml:9"),
            ("data-in-tree", "stacks/web/compose.yaml:10"),
            ("policy", "stacks/web/compose.yaml:12"),
        },
    ),
    "variables": (
        {
            "stacks/web/compose.yaml": (
                "services:\n"
                "  web:\n"
                f"    image: {IMAGE}\n"
                "    environment:\n"
                "      # ${NOT_THIS}\n"
                "      A: ${NOBODY}\n"
                "      B: ${NOBODY:-some}\n"
                "      C: pa$word\n"
                "      D: ${TZ}\n"
            ),
        },
        {
            ("variable", "stacks/web/compose.yaml:6"),
            ("variable", "stacks/web/compose.yaml:7"),
            ("variable", "stacks/web/compose.yaml:8"),
        },
    ),
    "dollars in Compose files": (
        {
            "stacks/web/compose.yaml": (
                "services:\n"
                "  web:\n"
                f"    image: {IMAGE}\n"
                "    environment:\n"
                "      A: $2y$10$$abc\n"
                "    command: [sh, -c, 'echo $(date) $$?']\n"
            ),
            "stacks/proxy/compose.yaml": (
                "services:\n"
                "  proxy:\n"
                f"    image: {IMAGE}\n"
                "    environment:\n"
                "      A: ${1}\n"
                "      B: $${fine}\n"
                "      C: ${TZ!UTC}\n"
                "      D: ${TZ:-a${TZ}}\n"
                "    networks: [edge]\n"
                "networks: {edge: {name: edge}}\n"
            ),
        },
        {
            ("dollar", "stacks/web/compose.yaml:5"),
            ("dollar", "stacks/web/compose.yaml:6"),
            ("dollar", "stacks/proxy/compose.yaml:5"),
            ("dollar", "stacks/proxy/compose.yaml:7"),
        },
    ),
    "a required variable": (
        {
            "stacks/web/compose.yaml": (
                "services:\n  web:\n"
                f"    image: {IMAGE}\n    environment:\n      A: ${{NEEDED:?say it}}\n"
            ),
        },
        {("variable", "stacks/web/compose.yaml:5")},
    ),
    "what Compose refuses": (
        {
            "stacks/web/compose.yaml": (
                f"services:\n  web:\n    image: {IMAGE}\n    restrat: always\n"
            ),
            "stacks/proxy/compose.yaml": (
                f"services:\n  proxy:\n    image: {IMAGE}\n    networks: [edge]\n"
            ),
        },
        {("compose", "stacks/web/compose.yaml:4"), ("compose", "stacks/proxy/compose.yaml:4")},
    ),
    "ports and names of one host": (
        {
            "host/media/stacks.yaml": "- proxy\n- web\n- blog\n",
            "stacks/blog/compose.yaml": (
                "services:\n"
                "  blog:\n"
                f"    image: {IMAGE}\n"
                "    container_name: front\n"
                "    ports:\n"
                "      - 8080:8080\n"
                "      - 127.0.0.3:9000:9000\n"
                "      - 79-81:79-81\n"
            ),
            "stacks/web/compose.yaml": (
                "services:\n"
                "  web:\n"
                f"    image: {IMAGE}\n"
                "    container_name: front\n"
                "    ports:\n"
                "      - 53:53/udp\n"
                "      - target: 9000\n"
                "        published: 9000\n"
            ),
        },
        {
            ("container-name", "stacks/web/compose.yaml:4"),
            ("ports", "stacks/proxy/compose.yaml:4"),
            ("ports", "stacks/web/compose.yaml:7"),
        },
    ),
    "subnets of one host": (
        {
            "stacks/proxy/compose.yaml": (
                f"services:\n  proxy:\n    image: {IMAGE}\n    networks: [edge, six, own]\n"
                "networks:\n"
                "  edge: {name: edge}\n"
                "  own: {ipam: {config: [{subnet: 10.8.0.0/16}]}}\n"
                "  six:\n"
                "    enable_ipv6: true\n"
                "    ipam: {config: [{subnet: 'fd00:1::/48'}, {subnet: 10.9.0.0/16}]}\n"
            ),
            "stacks/web/compose.yaml": (
                f"services:\n  web:\n    image: {IMAGE}\n    networks: [edge, mine, six]\n"
                "networks:\n"
                "  edge: {external: true}\n"
                "  six: {name: proxy_six, ipam: {config: [{subnet: 10.9.0.0/16}]}}\n"
                "  mine:\n"
                "    enable_ipv6: true\n"
                "    ipam:\n"
                "      config:\n"
                "        - subnet: 10.8.3.0/24\n"
                "        - subnet: fd00:1:0:7::/64\n"
            ),
        },
        {
            ("shared", "stacks/web/compose.yaml:7"),
            ("subnets", "stacks/web/compose.yaml:12"),
            ("subnets", "stacks/web/compose.yaml:13"),
        },
    ),
    "what two stacks share, and what nobody reads": (
        {
            "stacks/proxy/compose.yaml": (
                f"name: homelab\nservices:\n  proxy:\n    image: {IMAGE}\n"
                "    networks: [edge, back]\n    volumes: ['data:/data']\n"
                "networks:\n  edge: {name: edge}\n  back: {name: back}\n"
                "volumes:\n  data: {name: everybodys}\n"
            ),
            "stacks/web/compose.yaml": (
                f"services:\n  web:\n    image: {IMAGE}\n"
                "    networks: [edge, back]\n    volumes: ['data:/data']\n"
                "networks:\n  edge: {name: edge}\n  back: {name: back, internal: true}\n"
                "volumes:\n  data: {name: everybodys}\n"
            ),
            "stacks/web/docker-compose.override.yml": "services: {web: {ports: [80:80]}}\n",
        },
        {
            ("name", "stacks/proxy/compose.yaml:1"),
            ("shared", "stacks/web/compose.yaml:7"),
            ("shared", "stacks/web/compose.yaml:8"),
            ("shared", "stacks/web/compose.yaml:10"),
            ("override", "stacks/web/docker-compose.override.yml"),
        },
    ),
    "what Git LFS has": (
        {
            ".gitattributes": "*.model filter=lfs diff=lfs merge=lfs -text\n",
            "global/all.env": POINTER,
            "host/media/stacks.yaml": "- proxy\n- web\n- blog\n",
            "stacks/blog/compose.yaml": POINTER,
            "stacks/web/unused.png": POINTER,
            "stacks/web/big.bin": POINTER,
            "stacks/web/data/deep/a.bin": POINTER,
            "stacks/web/a.model": "as it is on a disk with Git LFS",
            "stacks/web/key.secret.yaml": POINTER,
            "stacks/web/compose.yaml": (
                "services:\n"
                "  web:\n"
                f"    image: {IMAGE}\n"
                "    volumes:\n"
                "      - ./big.bin:/big.bin:ro\n"
                "      - ./data:/data:ro\n"
                "      - {type: bind, source: ./a.model, target: /a.model, read_only: true}\n"
                "    configs: [conf]\n"
                "configs:\n"
                "  conf:\n"
                "    file: big.bin\n"
            ),
        },
        {
            ("env-file", "global/all.env"),
            ("syntax", "stacks/blog/compose.yaml:1"),
            ("lfs", "stacks/web/compose.yaml:5"),
            ("lfs", "stacks/web/compose.yaml:6"),
            ("lfs", "stacks/web/compose.yaml:7"),
            ("lfs", "stacks/web/compose.yaml:11"),
            ("plain-secret", "stacks/web/key.secret.yaml"),
            ("host-key", "host/media/age.pub"),
            ("host-key", "host/nas/age.pub"),
        },
    ),
    "what nobody makes": (
        {
            "stacks/web/compose.yaml": (
                "services:\n"
                "  web:\n"
                f"    image: {IMAGE}\n"
                "    networks: [edge, lost]\n"
                "    volumes: [old:/data]\n"
                "networks:\n"
                "  edge: {external: true}\n"
                "  lost: {external: true}\n"
                "volumes:\n"
                "  old: {external: true, name: web_old}\n"
            )
        },
        {("external", "stacks/web/compose.yaml:8"), ("external", "stacks/web/compose.yaml:10")},
    ),
    "the order": (
        {
            "host/media/stacks.yaml": "- web\n",
            "stacks/proxy/compose.yaml": "x-commitd:\n  after: [web]\n"
            + GOOD["stacks/proxy/compose.yaml"],
        },
        {
            ("after", "stacks/web/compose.yaml:1"),
            ("after", "stacks/proxy/compose.yaml:2"),
            ("external", "stacks/web/compose.yaml:10"),
        },
    ),
    "what nobody runs": (
        {
            "stacks/idle/compose.yaml": (
                "services:\n  a:\n    image: nginx\n    environment: ['A=${UNKNOWN}']\n"
            ),
            "stacks/Odd/compose.yaml": f"services:\n  a:\n    image: {IMAGE}\n",
        },
        {
            ("unused", "stacks/idle"),
            ("pins", "stacks/idle/compose.yaml:3"),
            ("layout", "stacks/Odd"),
        },
    ),
    "secrets in the clear": (
        {"stacks/web/a.secret.env": "KEY=hunter2\n", "stacks/proxy/b.secret.yaml": "a: hunter2\n"},
        {
            ("plain-secret", "stacks/web/a.secret.env"),
            ("plain-secret", "stacks/proxy/b.secret.yaml"),
            ("host-key", "host/media/age.pub"),
            ("host-key", "host/nas/age.pub"),
        },
    ),
    "syntax": (
        {"stacks/web/compose.yaml": "services:\n  web:\n\timage: x\n", ".gitmodules": "x"},
        {("syntax", "stacks/web/compose.yaml:3"), ("checkout", ".gitmodules")},
    ),
    "faults of many kinds in one stack": (
        {
            "host/media/bad.env": ("COMMON=1\nCOMPOSE_PROFILES=x\nhunter2 @x=3\nLOST='\n"),
            "stacks/web/a.secret.env": "KEY=hunter2\nCOMPOSE_FILE=x\nexport MORE='hunter2 x'\n",
            "stacks/web/b.env": "B=${A!b}\n",
            "stacks/web/compose.yaml": (
                "x-commitd: {helth_timeout: 2m}\n"
                "services:\n"
                "  web:\n"
                "    image: nginx\n"
                "    privileged: true\n"
                "    restrat: always\n"
                "    env_file: [/etc/passwd, b.env]\n"
                "    environment:\n"
                "      A: ${NOBODY}\n"
                "      B: ${KEY} ${MORE} ${COMMON} ${LOST}\n"
                "      C: ${1}\n"
                "      D: ${NEEDED:?say it}\n"
                "    ports: ['80:80']\n"
                "    networks: [lost]\n"
                "    depends_on: [gone]\n"
                "    mem_limit: much\n"
                "    volumes:\n"
                "      - ../../../data:/data\n"
                "      - ./conf:/conf\n"
                "  tool:\n"
                "    provider: {type: ./tool}\n"
                "    restart: always\n"
                "  other:\n"
                "    extends: {file: none.yaml, service: x}\n"
                "    ports: ['9000:9000']\n"
                "    depnds_on: [web]\n"
            ),
        },
        {
            ("env-file", "host/media/bad.env:2"),
            ("env-file", "host/media/bad.env:3"),
            ("env-file", "host/media/bad.env:4"),
            ("plain-secret", "stacks/web/a.secret.env"),
            ("env-file", "stacks/web/a.secret.env:2"),
            ("host-key", "host/media/age.pub"),
            ("host-key", "host/nas/age.pub"),
            ("env-file", "stacks/web/b.env:1"),
            ("settings", "stacks/web/compose.yaml:1"),
            ("pins", "stacks/web/compose.yaml:4"),
            ("privileges", "stacks/web/compose.yaml:5"),
            ("compose", "stacks/web/compose.yaml:6"),
            ("paths", "stacks/web/compose.yaml:7"),
            ("variable", "stacks/web/compose.yaml:9"),
            ("variable", "stacks/web/compose.yaml:10"),
            ("dollar", "stacks/web/compose.yaml:11"),
            ("variable", "stacks/web/compose.yaml:12"),
            ("ports", "stacks/web/compose.yaml:13"),
            ("compose", "stacks/web/compose.yaml:14"),
            ("compose", "stacks/web/compose.yaml:15"),
            ("compose", "stacks/web/compose.yaml:16"),
            ("paths", "stacks/web/compose.yaml:18"),
            ("data-in-tree", "stacks/web/compose.yaml:19"),
            ("policy", "stacks/web/compose.yaml:21"),
            ("paths", "stacks/web/compose.yaml:24"),
            ("ports", "stacks/web/compose.yaml:25"),
            ("compose", "stacks/web/compose.yaml:26"),
        },
    ),
    "what follows from a fault": (
        {
            # Nobody knows which stacks this host runs, or what the damaged files would set or make.
            "host/media/stacks.yaml": "- web\n- proxy\n- more\n",
            "host/new/stacks.yaml": "proxy\n",
            "host/nas/stacks.yaml": "- web\n- proxy\n- circle\n",
            "stacks/web/a.secret.env": '{"data": "hunter2=", "sops": {}}\n',
            "stacks/web/compose.yaml": GOOD["stacks/web/compose.yaml"].replace("${TZ}", "$NOBODY"),
            "stacks/proxy/compose.yaml": (
                f"include: [more.yaml]\nservices:\n  proxy:\n    image: {IMAGE}\n"
                "    depends_on: [other]\n    ports: [7000-7002:1-3]\n"
            ),
            "stacks/proxy/more.yaml": "services:\n  other:\n\timage: x\n",
            "stacks/more/compose.yaml": (
                "services:\n  a:\n    extends: {service: b, file: ../gone.yaml}\n"
                "    ports: ['7002:80']\n"
            ),
            "stacks/more/docker-compose.yml": "services: {a: {image: nginx}}\n",
            "stacks/circle/compose.yaml": (
                "services:\n  a: {extends: b}\n  b:\n    extends: {service: a}\n"
                "  c: {image: nginx, restart: [1]}\n"
            ),
            "stacks/unknown/compose.yaml": f"services: {{a: {{image: '{IMAGE}'}}}}\n",
        },
        {
            ("layout", "host/new/stacks.yaml:1"),
            ("plain-secret", "stacks/web/a.secret.env"),
            ("host-key", "host/media/age.pub"),
            ("host-key", "host/nas/age.pub"),
            ("syntax", "stacks/proxy/more.yaml:3"),
            ("layout", "stacks/more"),
            ("paths", "stacks/more/compose.yaml:3"),
            ("ports", "stacks/proxy/compose.yaml:6"),
            ("compose", "stacks/circle/compose.yaml:2"),
            ("pins", "stacks/circle/compose.yaml:5"),
            ("compose", "stacks/circle/compose.yaml:5"),
        },
    ),
    "files of the format raw that cannot be read": (
        {
            "stacks/web/env/a.env": "A=1\nB C=hunter2\nexport D=1\n",
            "stacks/web/env/a.secret.env": "export KEY=ENC[x]\nsops_mac=ENC[x]\n",
            "stacks/web/compose.yaml": (
                "services:\n"
                "  web:\n"
                f"    image: {IMAGE}\n"
                "    env_file:\n"
                "      - {path: env/.decrypted.a.secret.env, format: raw}\n"
                "      - {path: env/a.env, format: raw}\n"
            ),
        },
        {
            ("raw", "stacks/web/env/a.env:2"),
            ("raw", "stacks/web/env/a.env:3"),
            ("raw", "stacks/web/env/a.secret.env:1"),
            ("host-key", "host/media/age.pub"),
            ("host-key", "host/nas/age.pub"),
        },
    ),
    "decrypted files that are parsed": (
        {
            "stacks/web/a.secret.env": "KEY=ENC[AES256_GCM,data:x,type:str]\nsops_mac=ENC[x]\n",
            "stacks/web/compose.yaml": (
                "services:\n"
                "  web:\n"
                f"    image: {IMAGE}\n"
                "    environment: {A: '${KEY}'}\n"
                "    env_file:\n"
                "      - .decrypted.a.secret.env\n"
                "      - {path: .decrypted.a.secret.env, format: raw}\n"
            ),
        },
        {
            ("raw", "stacks/web/compose.yaml:6"),
            ("host-key", "host/media/age.pub"),
            ("host-key", "host/nas/age.pub"),
        },
    ),
}


@pytest.mark.parametrize("what", FAULTS)
def test_a_fault_is_found_with_its_line_and_nothing_else_is(
    box: Sandbox, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    files, expected = FAULTS[what]
    clone = Clone(box, {**GOOD, **files})
    monkeypatch.setenv("PATH", os.pathsep.join(clone.programs))
    report = anyio.run(check.check, clone.path)
    assert {(f.rule, f.where) for f in report.findings} == expected
    assert len(set(report.findings)) == len(report.findings)
    for finding in report.findings:
        assert "/tmp" not in finding.message
        assert "hunter2" not in str(finding)
    assert set(RULES) >= {f.rule for f in report.findings}


def test_a_file_that_git_has_whole_is_no_pointer_whatever_the_attributes_say(box: Sandbox) -> None:
    compose = GOOD["stacks/web/compose.yaml"]
    clone = Clone(box, {**GOOD, "stacks/web/web.conf": "listen 8080\n" * 100})
    clone.commit("before LFS")
    clone.write({".gitattributes": "*.conf filter=lfs\n"})
    assert clone.check().startswith("Nothing to complain about")
    other = compose.replace("web.conf:/", "new.conf:/")
    clone.write({"stacks/web/compose.yaml": other, "stacks/web/new.conf": "listen 8080\n" * 100})
    assert clone.rules() == {("lfs", "stacks/web/compose.yaml:8")}


def test_subnets_clash_that_the_engine_does_not_make_side_by_side(box: Sandbox) -> None:
    pairs = (
        ("10.50.0.0/24", "10.50.0.0/24"),
        ("10.51.0.0/16", "10.51.1.0/24"),
        ("10.52.0.0/24", "10.52.1.0/24"),
        ("fd00:1::/48", "fd00:1:0:1::/64"),
        ("fd00:3::/64", "fd00:4::/64"),
    )
    refused: set[int] = set()
    stacks: dict[str, str | bytes] = {"host/media/stacks.yaml": "[a, b]\n"}
    for which in (0, 1):
        lines = [f"  n{n}: {{enable_ipv6: true, {_IPAM % p[which]}}}" for n, p in enumerate(pairs)]
        used = ", ".join(f"n{number}" for number in range(len(pairs)))
        content = f"services: {{a: {{image: '{IMAGE}', networks: [{used}]}}}}\nnetworks:\n"
        stacks[f"stacks/{'ab'[which]}/compose.yaml"] = content + "\n".join([*lines, ""])
        for number, pair in enumerate(pairs):
            six = ["--ipv6"] if ":" in pair[which] else []
            words = (*six, "--subnet", pair[which], f"subnet-{number}-{which}")
            try:
                box.engine.run("network", "create", *words)
            except SandboxError:
                refused.add(number)
    found = Clone(box, stacks).rules()
    assert found == {("subnets", f"stacks/b/compose.yaml:{3 + number}") for number in refused}
    assert refused == {0, 1, 3}


def test_what_is_found_on_some_hosts_alone_names_them(box: Sandbox) -> None:
    clone = Clone(box, {**GOOD, "host/nas/host.env": "OTHER=nas.example.com\n"})
    assert (
        clone.check(code=1)
        .splitlines()[0]
        .startswith(
            "stacks/web/compose.yaml:5: error: nobody sets DOMAIN, so that it is empty (on nas) ("
        )
    )


def test_edits_count_and_what_git_ignores_does_not(box: Sandbox) -> None:
    clone = Clone(box, {**GOOD, ".gitignore": "/stacks/scratch/\n"})
    clone.git("add", "--all")
    clone.write({"stacks/scratch/compose.yaml": "no", "host/nas/stacks.yaml": "- web\n- wbe\n"})
    (clone.path / "stacks/proxy/compose.yaml").unlink()
    assert clone.rules() >= {
        ("layout", "host/nas/stacks.yaml:2"),
        ("layout", "host/media/stacks.yaml:1"),
    }
    assert "scratch" not in clone.check(code=1)
    (clone.path / os.fsdecode(b"stacks/web/\xff")).touch()
    assert ("checkout", "'stacks/web/\ufffd'") in clone.rules()


def test_secrets_count_by_name_and_no_key_is_needed(box: Sandbox) -> None:
    secret = box.encrypt("PASSWORD=hunter2\nPORT=x\n", [box.age.recipient])
    clone = Clone(
        box,
        {
            **GOOD,
            "host/media/age.pub": f"{box.age.recipient}\n",
            "host/nas/stacks.yaml": "[]\n",
            "stacks/web/db.secret.env": secret,
            "stacks/web/compose.yaml": (
                f"services:\n  web:\n    image: {IMAGE}\n    ports: ['${{PORT}}:80']\n"
                "    environment: {PASSWORD: '${PASSWORD}', OTHER: '${PASSWORT:-}'}\n"
                "    env_file: [{path: .decrypted.db.secret.env, format: raw}]\n"
            ),
        },
    )
    assert clone.check().startswith("Nothing to complain about")
    assert list(clone.path.glob("**/.decrypted*")) == []


def test_a_new_repository_gives_nothing(box: Sandbox) -> None:
    clone = Clone(box, {})
    clone.run("init", ".", "--host", "media", "--age", box.age.recipient)
    assert clone.check().startswith("Nothing to complain about")


def test_without_compose_the_files_alone_are_judged(box: Sandbox) -> None:
    compose = GOOD["stacks/web/compose.yaml"].replace(IMAGE, "nginx")
    clone = Clone(box, {**GOOD, "stacks/web/compose.yaml": compose})
    clone.programs = ["/usr/bin", "/bin"]
    assert clone.rules() == {("pins", "stacks/web/compose.yaml:4"), ("no-compose", ".")}


def test_findings_show_beside_a_pull_request(box: Sandbox) -> None:
    clone = Clone(box, {**GOOD, "host/nas/stacks.yaml": "- web\n- a,b: 100%\n"})
    assert clone.check("--format", "github", code=1).splitlines()[0] == (
        "::error file=host/nas/stacks.yaml,line=2,title=commitd layout::"
        "'a,b: 100%25' cannot be the name of a stack (lower-case letters, digits, - and _)"
    )
    (result, *_) = json.loads(clone.check("--format", "sarif", code=1))["runs"][0]["results"]
    assert (result["ruleId"], result["level"]) == ("layout", "error")
    assert result["locations"][0]["physicalLocation"] == {
        "artifactLocation": {"uri": "host/nas/stacks.yaml"},
        "region": {"startLine": 2},
    }


def test_a_directory_that_is_no_repository_of_stacks_is_a_usage_error(box: Sandbox) -> None:
    clone = Clone(box, {"README.md": "x"})
    clone.check(code=2, says="there is no directory stacks/")


@pytest.mark.parametrize("confined", [True, False])
@pytest.mark.parametrize("form", ["text", "github", "json", "sarif"])
def test_no_file_of_the_machine_gets_into_the_log_of_a_pull_request(
    box: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str, confined: bool
) -> None:
    """By the ``.env`` of an included file, which names the values of what that includes."""
    outside = tmp_path / "token"
    outside.write_text("TOKEN=hunter2\n")
    if not confined:
        monkeypatch.setattr(confinement, "possible", lambda: False)
    files = {
        "stacks/web/compose.yaml": "include: [sub/c.yaml]\n" + str(GOOD["stacks/web/compose.yaml"]),
        "stacks/web/sub/c.yaml": "include: [{path: d.yaml, env_file: '${WHERE:-safe.env}'}]\n"
        "services: {part: {image: 'x', env_file: '${WHERE:-safe.env}'}}\n",
        "stacks/web/sub/d.yaml": "services: {leak: {image: 'leak-${TOKEN}:1'}}\n",
        "stacks/web/sub/safe.env": "TOKEN=none\n",
        "stacks/web/sub/.env": f"WHERE={outside}\n",
    }
    clone = Clone(box, {**GOOD, **files})
    monkeypatch.setenv("PATH", os.pathsep.join(clone.programs))
    report = anyio.run(check.check, clone.path)
    assert "hunter2" not in check_report.FORMATS[form](report)
    found = {(f.rule, f.where) for f in report.findings}
    assert {("paths", "stacks/web/sub/c.yaml:1"), ("paths", "stacks/web/sub/c.yaml:2")} <= found
    assert (("no-sandbox", ".") in found) is not confined


def test_where_compose_is_a_script_that_is_said_and_no_finding_is_lost(
    box: Sandbox, tmp_path: Path
) -> None:
    files = {
        **GOOD,
        "host/nas/host.env": "A=1\n",
        "stacks/idle/compose.yaml": "services: {a: {}}\n",
    }
    clone = Clone(box, files)
    before = clone.findings()
    assert {"compose", "variable"} <= {each["rule"] for each in before}
    script = tmp_path / "docker-compose"
    script.write_text(f'#!/bin/sh\nexec {box.compose} "$@"\n')
    script.chmod(0o755)
    clone.programs.insert(0, str(tmp_path))
    clone.programs.remove(str(box.compose.parent))
    new = [each for each in clone.findings() if each not in before]
    assert [(each["rule"], str(script) in each["message"]) for each in new] == [
        ("no-sandbox", True)
    ]
    assert len(clone.findings()) == len(before) + 1


def test_where_the_kernel_cannot_hold_compose_back_that_is_said_once(
    box: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(confinement, "possible", lambda: False)
    clone = Clone(box, GOOD)
    monkeypatch.setenv("PATH", os.pathsep.join(clone.programs))
    (finding,) = anyio.run(check.check, clone.path).findings
    assert finding.level is Level.WARNING
    assert "Compose can read all files of this machine" in finding.message
