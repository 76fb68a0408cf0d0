"""What doctor judges: each judgement over values, the unit's directives, and looks that hang."""

from __future__ import annotations

import json
import re
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from msgspec.structs import replace

from agent.control.doctor.examination import Check, examine, waiting
from agent.domain.config import Config, Remote, Seconds, Share, UndeclaredRules
from agent.domain.doctor import (
    access,
    choices,
    clock,
    disk,
    engine,
    files,
    finding,
    remotes,
    running,
    unit,
    versions,
)
from agent.domain.doctor.disk import Space
from agent.domain.doctor.files import File, Missing
from agent.domain.doctor.finding import Code, Finding, Level
from agent.domain.errors import PermanentError
from agent.domain.outside_config import CommitStatus, Peer

_ROOT = Path(__file__).parents[2]
_PAGE = (_ROOT / "docs/how-to/doctor.md").read_text()
_MIB = 1024**2


def _level(found: Finding) -> str:
    return found.level.value


# --- the contract ---


def test_every_code_is_in_the_table_and_in_the_schema_exactly_once() -> None:
    table = _PAGE.partition("| code |")[2].partition("\n\n")[0]
    rows = re.findall(r"^\| (`[^|]+`) \|", table, re.MULTILINE)
    named = [code for row in rows for code in re.findall(r"`([^`]+)`", row)]
    schema = json.loads((_ROOT / "docs/reference/doctor.schema.json").read_text())
    enum = schema["properties"]["findings"]["items"]["properties"]["code"]["enum"]
    assert sorted(named) == sorted(Code) == sorted(enum)


def test_every_level_is_in_the_table_and_in_the_schema() -> None:
    schema = json.loads((_ROOT / "docs/reference/doctor.schema.json").read_text())
    assert schema["$defs"]["level"]["enum"] == [*Level]
    for level in Level:
        assert f"| `{level}` |" in _PAGE


def test_the_worst_comes_first_and_is_the_level_of_all() -> None:
    found = [
        finding.ok(Code.GIT, "a"),
        finding.unknown(Code.CLOCK, "b"),
        finding.problem(Code.SPACE, "c", "d"),
        finding.warning(Code.SWARM, "e", "f"),
    ]
    document = finding.document(found, host="media", version="1", at="now")
    assert [each["what"] for each in document["findings"]] == ["c", "e", "b", "a"]
    assert document["level"] == "problem"
    assert finding.worst(found[:2]) is Level.UNKNOWN
    assert finding.worst([]) is Level.OK


# --- looks side by side ---


def test_a_look_that_hangs_is_left_behind_and_said_so() -> None:
    ended = threading.Event()
    done = examine(
        [
            Check(code=Code.SPACE, look=lambda: (ended.wait(60), [])[1], limit_s=-2.9),
            Check(code=Code.GIT, look=lambda: [finding.ok(Code.GIT, "here")]),
        ]
    )
    ended.set()
    assert [(f.code, f.level) for f in done] == [
        (Code.SPACE, Level.UNKNOWN),
        (Code.GIT, Level.OK),
    ]


def test_a_look_that_waits_too_long_is_ended() -> None:
    ended = []

    async def hangs() -> list[Finding]:
        try:
            await anyio.sleep_forever()
        finally:
            ended.append(True)
        return []

    (said,) = examine([waiting(Code.REMOTE, hangs, 0.01)])
    assert said.level is Level.UNKNOWN
    assert "no answer within 0.01 s" in said.what
    assert ended


def _raises(error: Exception) -> Any:
    def look() -> list[Finding]:
        raise error

    return look


@pytest.mark.parametrize(
    ("error", "said", "remedy"),
    [
        (PermanentError("it is locked", hint="open"), "not looked at: it is locked", "open"),
        (PermissionError(13, "Permission denied"), "not looked at: Permission denied", ""),
        (RuntimeError("t=1"), "not looked at: unexpected RuntimeError at test_doctor.py:", ""),
    ],
)
def test_what_a_look_raises_is_no_claim_and_shows_nothing_unexpected(
    error: Exception, said: str, remedy: str
) -> None:
    (found,) = examine([Check(code=Code.CLOCK, look=_raises(error))])
    assert found.level is Level.UNKNOWN
    assert re.sub(r":\d+$", ":", found.what) == said
    assert found.remedy == remedy


def test_what_a_look_found_before_it_failed_is_told() -> None:
    def look() -> Iterator[Finding]:
        yield finding.problem(Code.UNIT, "it has failed", "start it")
        raise PermanentError("systemd does not answer")

    found = examine([Check(code=Code.UNIT, look=look)])
    assert [_level(each) for each in found] == ["problem", "unknown"]


def test_looks_are_made_side_by_side() -> None:
    barrier = threading.Barrier(5, timeout=30)

    def look() -> list[Finding]:
        barrier.wait()
        return [finding.ok(Code.GIT, "here")]

    assert len(examine([Check(code=Code.GIT, look=look)] * 5)) == 5


# --- programs ---


@pytest.mark.parametrize(
    ("wanted", "said", "level"),
    [
        (versions.GIT, "2.39.5", "ok"),
        (versions.GIT, "2.38.9", "problem"),
        (versions.GIT, None, "problem"),
        (versions.GIT, "unintelligible", "unknown"),
        (versions.DOCKER, "20.10.24+dfsg1", "ok"),
        (versions.DOCKER, "19.03.1", "problem"),
        (versions.DOCKER, "29.0.0", "warning"),
        (versions.COMPOSE, "v2.40.3", "ok"),
        (versions.COMPOSE, "2.23.3", "problem"),
        (versions.COMPOSE, "6.0.0", "warning"),
        (versions.SOPS, "3.9.4", "problem"),
    ],
)
def test_versions_are_judged_by_what_was_tried(
    wanted: versions.Range, said: str | None, level: str
) -> None:
    assert _level(versions.judge(Code.GIT, wanted, said)) == level


def test_what_was_tried_is_what_the_page_says() -> None:
    page = (_ROOT / "docs/reference/compatibility.md").read_text()
    engines = [int(n) for n in re.findall(r"^\| (\d+)\.\d+\.\d+", page, re.MULTILINE)]
    composes = [
        int(n) for n in re.findall(r"^\|[^|]*\|[^|]*\| (\d+)\.\d+\.\d+ \|", page, re.MULTILINE)
    ]
    assert versions.DOCKER.newest == max(engines)
    assert versions.COMPOSE.newest == max(composes)
    for each in (versions.DOCKER, versions.COMPOSE):
        assert each.need in page


# --- disks, clocks ---


def _space(size: int, free: int, files_: int = 10**6, free_files: int = 10**6) -> Space:
    return Space(size=size * _MIB, free=free * _MIB, files=files_, free_files=free_files)


@pytest.mark.parametrize(
    ("size", "free", "level"),
    [
        (100_000, 50_000, "ok"),
        (100_000, 1_000, "warning"),
        (4_000, 1_000, "ok"),
        (100_000, 200, "problem"),
        (300, 255, "problem"),
    ],
)
def test_space_is_judged_by_what_a_deploy_takes(size: int, free: int, level: str) -> None:
    assert _level(disk.space("state_dir", "/x", _space(size, free))) == level


def test_a_disk_that_takes_no_writes_is_a_problem_however_much_is_free() -> None:
    seen = Space(size=10**12, free=10**12, files=0, free_files=0, read_only=True)
    said = disk.space("state_dir", "/srv", seen)
    assert _level(said) == "problem"
    assert "findmnt -T /srv" in said.remedy


@pytest.mark.parametrize(
    ("total", "free", "level"),
    [(10**6, 10**5, "ok"), (10**6, 10**4, "warning"), (10**6, 999, "problem"), (0, 0, "ok")],
)
def test_inodes_are_judged_where_there_is_a_limit(total: int, free: int, level: str) -> None:
    assert _level(disk.inodes("state_dir", "/x", _space(1, 1, total, free))) == level


@pytest.mark.parametrize(
    ("ahead_s", "level", "words"),
    [
        (0.4, "ok", "the clock is that of gitea"),
        (-45, "warning", "45 s behind gitea"),
        (600, "problem", "10 min ahead of gitea"),
        (-200_000, "problem", "2 d behind gitea"),
    ],
)
def test_the_clock_is_judged_against_a_servers(ahead_s: float, level: str, words: str) -> None:
    said = clock.against("gitea", ahead_s, 1.0)
    assert _level(said) == level
    assert words in said.what


def test_an_answer_that_took_long_proves_no_clock_wrong() -> None:
    assert _level(clock.against("gitea", 35.0, 20.0)) == "ok"


def test_a_commit_shows_only_that_the_clock_is_behind() -> None:
    assert _level(clock.by_commit(-86400.0)) == "unknown"
    assert _level(clock.by_commit(3600.0)) == "warning"


# --- files ---


def _file(mode: int, owner: int = 0, parent_mode: int = 0o700, parent_owner: int = 0) -> File:
    return File(
        path="/etc/commitd/age.key",
        mode=stat.S_IFREG | mode,
        owner=owner,
        parent="/etc/commitd",
        parent_mode=stat.S_IFDIR | parent_mode,
        parent_owner=parent_owner,
    )


@pytest.mark.parametrize(
    ("code", "seen", "level", "remedy"),
    [
        (Code.SECRET_FILE, _file(0o600), "ok", ""),
        (Code.SECRET_FILE, _file(0o400), "ok", ""),
        (Code.SECRET_FILE, _file(0o640), "problem", "chmod 600"),
        (Code.TRUST_FILE, _file(0o644), "ok", ""),
        (Code.TRUST_FILE, _file(0o664), "problem", "chmod 644"),
        (Code.SECRET_FILE, _file(0o600, owner=7), "problem", "chown root:"),
        (Code.SECRET_FILE, _file(0o600, parent_mode=0o777), "problem", "chmod go-w"),
        (Code.SECRET_FILE, _file(0o600, parent_mode=0o1777), "ok", ""),
        (Code.SECRET_FILE, _file(0o600, parent_owner=7), "problem", "chown root: /etc/commitd"),
        (Code.SECRET_FILE, Missing.ABSENT, "problem", "put it there"),
        (Code.SECRET_FILE, Missing.NOT_A_FILE, "problem", "put it there"),
        (Code.SECRET_FILE, Missing.DENIED, "unknown", "sudo"),
    ],
)
def test_files_are_judged_by_who_may_read_or_change_them(
    code: Code, seen: File | Missing, level: str, remedy: str
) -> None:
    said = files.judge(code, "secrets.age_key", "/etc/commitd/age.key", seen)
    assert _level(said) == level
    assert remedy in said.remedy
    assert said.code is code


@pytest.mark.parametrize(
    ("seen", "passable", "level"),
    [
        (_file(0o700), False, "ok"),
        (_file(0o710), True, "ok"),
        (_file(0o710), False, "problem"),
        (_file(0o755), True, "problem"),
        (_file(0o700, owner=7), False, "problem"),
        (Missing.ABSENT, False, "warning"),
        (Missing.NOT_A_FILE, False, "problem"),
        (Missing.DENIED, False, "unknown"),
    ],
)
def test_directories_are_judged_by_who_may_look(
    seen: File | Missing, *, passable: bool, level: str
) -> None:
    assert _level(files.directory("state_dir", "/x", seen, passable=passable)) == level


def test_a_file_that_others_may_only_run_is_not_said_to_be_changed_by_them() -> None:
    said = files.judge(Code.SECRET_FILE, "secrets.age_key", "/etc/x", _file(0o711))
    assert "others may run it" in said.what


def test_plaintext_that_is_to_be_volatile_is_judged_by_where_it_is() -> None:
    assert _level(files.volatile("/run/commitd", "tmpfs", needed=True)) == "ok"
    assert _level(files.volatile("/srv/run", "ext4", needed=False)) == "warning"
    assert _level(files.volatile("/srv/run", "ext4", needed=True)) == "problem"


# --- Docker ---


@pytest.mark.parametrize(
    ("mode", "owner", "level"),
    [
        (stat.S_IFSOCK | 0o660, 0, "ok"),
        (stat.S_IFSOCK | 0o666, 0, "problem"),
        (stat.S_IFSOCK | 0o660, 1000, "warning"),
        (stat.S_IFREG | 0o660, 0, "problem"),
        (None, 0, "problem"),
    ],
)
def test_the_socket_is_judged_by_who_may_use_it(mode: int | None, owner: int, level: str) -> None:
    assert _level(engine.socket("/run/docker.sock", mode, owner, group="docker")) == level


def test_an_engine_of_a_swarm_is_told_of_and_a_plain_one_said_to_be() -> None:
    assert _level(engine.swarm("inactive", control=False)) == "ok"
    assert "a manager of a Swarm" in engine.swarm("active", control=True).what
    assert "a worker of a Swarm" in engine.swarm("active", control=False).what
    assert _level(engine.swarm("active", control=False)) == "warning"


def test_an_engine_that_denies_is_not_called_down() -> None:
    assert _level(engine.unreachable(Code.DOCKER, "no", denied=True)) == "unknown"
    assert _level(engine.unreachable(Code.DOCKER, "no", denied=False)) == "problem"


# --- the unit ---


def test_the_unit_that_is_compared_with_is_the_shipped_one() -> None:
    text = (_ROOT / "systemd/commitd.service").read_text()
    written: dict[str, str] = {}
    for line in unit.lines("commitd.service", text):
        written[line.name] = f"{written.get(line.name, '')} {line.value}".strip()
    assert {name: written.get(name) for name in unit.SHIPPED} == dict(unit.SHIPPED)


def test_the_shipped_unit_loosens_nothing() -> None:
    text = (_ROOT / "systemd/commitd.service").read_text()
    assert unit.loosened([*unit.lines("commitd.service", text)], ["/var/lib/commitd"]) == []


@pytest.mark.parametrize(
    "line",
    [
        "ProtectSystem=full",
        "ProtectHome=no",
        "ProtectHome=read-only",
        "NoNewPrivileges=false",
        "PrivateTmp=",
        "CapabilityBoundingSet=CAP_SYS_ADMIN",
        "CapabilityBoundingSet=~CAP_NET_RAW",
        "AmbientCapabilities=CAP_NET_ADMIN",
        "SystemCallFilter=",
        "SystemCallFilter=@mount",
        "SystemCallFilter=@resources",
        "RestrictAddressFamilies=AF_PACKET",
        "DevicePolicy=auto",
        "DeviceAllow=/dev/sda rw",
        "ReadWritePaths=/etc",
        "BindPaths=/root/.aws",
        "NoExecPaths=",
        "ProtectProc=default",
        "UMask=0022",
        "MemorySwapMax=infinity",
        "LimitCORE=infinity",
        "WatchdogSec=0",
        "Restart=on-failure",
        "User=ada",
    ],
)
def test_a_directive_that_allows_more_is_named_with_its_file_and_line(line: str) -> None:
    text = f"[Unit]\nDescription=x\n\n[Service]\n# why\n{line}\n"
    (said,) = unit.loosened([*unit.lines("/etc/x.d/a.conf", text)], ["/var/lib/commitd"])
    assert "/etc/x.d/a.conf:6" in said.what
    assert line in said.what
    assert (said.code, said.level) == (Code.UNIT_DROP_IN, Level.WARNING)


@pytest.mark.parametrize(
    "line",
    [
        "MemoryMax=8G",
        "ProtectHome=yes",
        "DevicePolicy=strict",
        "NoNewPrivileges=true",
        "CapabilityBoundingSet=",
        "CapabilityBoundingSet=CAP_CHOWN",
        "SystemCallFilter=~@obsolete",
        "LoadCredential=age.key:/etc/commitd/age.key",
        "BindReadOnlyPaths=/root/.aws",
        "ReadWritePaths=/srv/commitd",
        "ReadWritePaths=-/srv/commitd/",
        "UMask=77",
        "Environment=HTTPS_PROXY=http://proxy",
        "WatchdogSec=120",
        "IPAddressDeny=link-local",
        "User=root",
    ],
)
def test_a_directive_that_allows_no_more_is_not_told(line: str) -> None:
    found = [*unit.lines("a.conf", f"[Service]\n{line}\n")]
    assert unit.loosened(found, ["/srv/commitd"]) == []


def test_what_a_later_line_takes_back_loosens_nothing() -> None:
    text = (
        "[Service]\nProtectSystem=no\nReadWritePaths=/etc\nReadWritePaths=\nProtectSystem=strict\n"
    )
    assert unit.loosened([*unit.lines("a.conf", text)], []) == []


def test_a_masked_service_is_told_how_to_unmask_it() -> None:
    (said,) = unit.agent_service(_service(load="masked", enabled="masked"))
    assert said.remedy == "systemctl unmask commitd.service"


def test_continued_lines_and_other_sections_are_read_as_systemd_does() -> None:
    text = (
        "[Service]\nCapabilityBoundingSet=CAP_CHOWN \\\n# no\n  CAP_SYS_PTRACE\n[Install]\nUser=x\n"
    )
    (line,) = unit.lines("a", text)
    assert (line.name, line.value, line.where) == (
        "CapabilityBoundingSet",
        "CAP_CHOWN CAP_SYS_PTRACE",
        "a:2",
    )


def _reach(drop_in: str, read: str = "/etc/x", written: str = "/var/lib/commitd") -> list[Finding]:
    shipped = (_ROOT / "systemd/commitd.service").read_text()
    lines = [
        *unit.lines("commitd.service", shipped),
        *unit.lines("a.conf", f"[Service]\n{drop_in}"),
    ]
    return unit.beyond_reach(lines, [("secrets.age_key", read)], [("state_dir", written)])


@pytest.mark.parametrize(
    ("drop_in", "read", "written"),
    [
        ("", "/etc/commitd/age.key", "/var/lib/commitd"),
        ("", "/root/.docker/key", "/run/commitd"),
        ("BindReadOnlyPaths=/home/ada/keys", "/home/ada/keys/age.key", "/var/lib/commitd"),
        ("ReadWritePaths=/srv/commitd", "/etc/x", "/srv/commitd"),
        ("ProtectSystem=full", "/etc/x", "/srv/commitd"),
        ("StateDirectory=other", "/etc/x", "/var/lib/other"),
        ("TemporaryFileSystem=\nProtectHome=no", "/root/age.key", "/var/lib/commitd"),
    ],
)
def test_what_the_service_can_reach_is_no_trouble(drop_in: str, read: str, written: str) -> None:
    assert _reach(drop_in, read, written) == []


@pytest.mark.parametrize(
    ("parallel", "drop_in", "levels"),
    [
        (4, "", []),
        (5, "", ["warning"]),
        (5, "MemoryMax=2432M", []),
        (5, "MemoryMax=3G", []),
        (50, "MemoryMax=infinity", []),
        (50, "MemoryMax=50%", []),
    ],
)
def test_more_at_a_time_needs_more_memory(parallel: int, drop_in: str, levels: list[str]) -> None:
    shipped = (_ROOT / "systemd/commitd.service").read_text()
    lines = [*unit.lines("a", shipped), *unit.lines("b", f"[Service]\n{drop_in}")]
    assert [_level(each) for each in unit.memory(lines, parallel)] == levels


@pytest.mark.parametrize(
    ("read", "written", "remedy"),
    [
        ("/root/age.key", "/var/lib/commitd", "BindReadOnlyPaths=/root/age.key"),
        ("/home/ada/age.key", "/var/lib/commitd", "BindReadOnlyPaths=/home/ada/age.key"),
        ("/etc/x", "/srv/commitd", "ReadWritePaths=/srv/commitd"),
        ("/etc/x", "/var/lib/commitd2", "ReadWritePaths=/var/lib/commitd2"),
    ],
)
def test_what_the_service_cannot_reach_is_a_problem_with_its_directive(
    read: str, written: str, remedy: str
) -> None:
    (said,) = _reach("", read, written)
    assert (said.level, remedy in said.remedy) == (Level.PROBLEM, True)


def _service(**changed: Any) -> unit.Service:
    plain = unit.Service(load="loaded", active="active", enabled="enabled")
    return replace(plain, **changed)


@pytest.mark.parametrize(
    ("seen", "levels"),
    [
        (None, ["unknown"]),
        (_service(), ["ok"]),
        (_service(load="not-found"), ["warning"]),
        (_service(load="masked", enabled="masked"), ["problem"]),
        (_service(load="bad-setting"), ["problem"]),
        (_service(enabled="disabled"), ["problem", "ok"]),
        (_service(active="failed"), ["problem"]),
        (_service(active="inactive"), ["problem"]),
        (_service(needs_reload=True), ["warning", "ok"]),
    ],
)
def test_the_service_is_judged_by_whether_it_runs_and_comes_back(
    seen: unit.Service | None, levels: list[str]
) -> None:
    assert [_level(each) for each in unit.agent_service(seen)] == levels


@pytest.mark.parametrize(
    ("seen", "level"),
    [
        (None, "unknown"),
        (_service(), "ok"),
        (_service(load="not-found"), "unknown"),
        (_service(load="masked", enabled="masked"), "problem"),
        (_service(enabled="disabled"), "warning"),
        (_service(active="failed"), "problem"),
        (_service(active="inactive"), "warning"),
    ],
)
def test_dockers_service_is_judged_as_one_of_several_ways(
    seen: unit.Service | None, level: str
) -> None:
    assert _level(unit.docker_service(seen)) == level


# --- the configuration ---


def _config(**changed: Any) -> Config:
    remote = Remote(name="gitea", url="https://gitea.lan/ops/homelab.git")
    return replace(Config(host="media", remotes=(remote,)), **changed)


def test_the_defaults_take_no_risk_that_would_have_to_be_told() -> None:
    assert [_level(each) for each in choices.judge(_config())] == ["ok"]


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"history": "follow"}, "history: follow"),
        ({"undeclared": UndeclaredRules(mode="report")}, "undeclared.mode: report"),
        ({"undeclared": UndeclaredRules(keep=Seconds(1))}, "commitd undo"),
        ({"teardown_limit": Share(1.0)}, "teardown_limit: 100%"),
        (
            {"remotes": (Remote(name="x", url="http://x/y.git", plain_http=True),)},
            "over plain http",
        ),
        ({"remotes": (Remote(name="x", url="https://x/y", poll=Seconds(3600)),)}, "60 min"),
        (
            {"peers": (Peer(name="nas", url="http://nas:1", token_file=Path("/t")),)},
            "peer nas",
        ),
        (
            {
                "commit_status": CommitStatus(
                    forge="gitea",
                    url="http://x",
                    repository="a/b",
                    token_file=Path("/t"),
                    plain_http=True,
                )
            },
            "commit_status",
        ),
    ],
)
def test_a_risk_is_told_with_a_way_out(changed: dict[str, Any], words: str) -> None:
    (said,) = choices.judge(_config(**changed))
    assert words in said.what
    assert said.level is Level.WARNING
    assert said.remedy


# --- remotes, the running agent, access ---


def test_a_host_key_is_judged_by_what_is_pinned() -> None:
    def judged(pinned: list[str], shown: list[str]) -> Finding:
        return remotes.host_key("gitea", "/etc/commitd/known_hosts", pinned, shown)

    assert _level(judged(["a"], ["b", "a"])) == "ok"
    changed = judged(["SHA256:a"], ["SHA256:b"])
    assert (changed.level, "SHA256:a" in changed.what, "SHA256:b" in changed.what) == (
        Level.PROBLEM,
        True,
        True,
    )
    assert "pins it" in judged([], ["SHA256:b"]).remedy


@pytest.mark.parametrize(
    ("listed", "age", "own", "level"),
    [
        (True, ["age1x"], ["age1x"], "ok"),
        (True, ["age1y"], ["age1x"], "problem"),
        (True, None, ["age1x"], "warning"),
        (True, None, None, "ok"),
        (False, None, None, "problem"),
    ],
)
def test_a_repository_is_judged_by_what_it_has_of_this_host(
    *, listed: bool, age: list[str] | None, own: list[str] | None, level: str
) -> None:
    assert _level(remotes.repository("media", "gitea", listed=listed, age=age, own=own)) == level


@pytest.mark.parametrize(
    ("process", "answers", "may_ask", "level"),
    [
        (7, True, True, "ok"),
        (None, True, True, "ok"),
        (None, False, True, "problem"),
        (7, False, True, "problem"),
        (7, False, False, "unknown"),
    ],
)
def test_an_agent_is_judged_by_its_answer(
    process: int | None, *, answers: bool, may_ask: bool, level: str
) -> None:
    assert _level(running.agent(process, answers=answers, may_ask=may_ask, start="x")) == level


def test_an_agent_of_before_the_installation_is_told() -> None:
    now = time.time()
    assert _level(running.version("0.3.0", began=None, changed=now)) == "unknown"
    assert _level(running.version("0.3.0", began=now, changed=now - 1)) == "ok"
    assert _level(running.version("0.3.0", began=now, changed=now + 2)) == "warning"


def test_secrets_that_fail_are_told_by_name_and_by_number() -> None:
    failures = {f"stacks/web/{n}.secret.env": access.Unusable("no") for n in range(12)}
    said = [*access.secrets(failures, 20, "tried")]
    assert [_level(each) for each in said] == ["problem"] * 11
    assert "2 more" in said[-1].what
    assert [_level(each) for each in access.secrets({}, 3, "tried")] == ["ok"]


@pytest.mark.parametrize(
    ("forge", "scopes", "may_push", "level"),
    [
        ("github", ["repo:status"], True, "ok"),
        ("github", ["repo"], True, "warning"),
        ("github", ["read:org"], True, "problem"),
        ("github", [], True, "problem"),
        ("github", None, True, "unknown"),
        ("gitea", None, True, "unknown"),
        ("gitea", None, False, "problem"),
        ("gitea", None, None, "unknown"),
    ],
)
def test_a_token_is_judged_by_what_its_forge_tells(
    forge: str, scopes: list[str] | None, *, may_push: bool | None, level: str
) -> None:
    said = access.forge_token(forge, "ops/homelab", scopes=scopes, may_push=may_push)
    assert _level(said) == level


def test_a_registry_that_refuses_is_told_with_the_login_to_make() -> None:
    assert _level(access.registry("ghcr.io", None, login="/x", images=2)) == "ok"
    refused = access.registry("ghcr.io", "denied", login=None, images=2)
    assert (refused.level, "docker login ghcr.io" in refused.remedy) == (Level.PROBLEM, True)
