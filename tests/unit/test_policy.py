from __future__ import annotations

from typing import Any

import pytest

from agent.domain.compose import policy
from agent.domain.compose.host_mounts import AgentPlaces
from agent.domain.compose.policy import Effect, Violation
from agent.domain.outcome import Pins
from agent.domain.repository.compose_paths import NamedMount, PathKind, Variable, climbing
from agent.domain.repository.desired import Stack
from agent.domain.repository.fleet_policy import Policy
from agent.domain.repository.image_refs_yaml import ImageMention
from tests.unit.builders import stack
from tests.values import replace

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
        ({"context": ROOT, "additional_contexts": {"b": f"docker-image://{IMAGE}"}}, False),
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


def test_what_is_mounted_or_built_from_is_pinned_like_what_runs() -> None:
    volume = {"type": "image", "source": "data:1", "target": "/data"}
    services: dict[str, dict[str, Any]] = {
        "web": {"image": IMAGE, "volumes": [volume, {**volume, "source": IMAGE}]},
        "job": {"image": IMAGE, "pre_start": [{"image": IMAGE, "volumes": [volume]}]},
        "own": {
            "image": "mine:1",
            "build": {
                "context": ROOT,
                "additional_contexts": {"base": "docker-image://base:1", "b": "service:web"},
            },
        },
    }
    model = {"services": services}
    site = replace(stack("site"), policy=Policy(build="allow"))
    assert [each.message.partition(" is not")[0] for each in policy.pins(site, model)] == [
        "job: pre_start[0]: image volume /data: data:1",
        "own: build: additional_contexts: base: base:1",
        "web: image volume /data: data:1",
    ]
    where = {"web: image volume /data": ImageMention("data:1", "c.yaml:9")}
    said = policy.summary(policy.pins(replace(site, images=where), model), policy.Effect.REFUSED)
    assert "c.yaml:9: web: image volume /data: data:1 is not pinned" in said


@pytest.mark.parametrize(
    ("image", "pinned"),
    [
        (IMAGE, True),
        ("nginx", False),
        ("nginx:1.27", False),
        (f"nginx@{DIGEST}", False),
        (f"nginx:1.27@{DIGEST[:-1]}", False),
    ],
)
def test_an_image_without_a_digest_is_refused_unless_the_policy_only_warns(
    image: str, pinned: bool
) -> None:
    hooks = {"pre_start": [{"image": image, "command": ["x"]}]}
    for service, names in (({"image": image}, ["a"]), ({"image": IMAGE, **hooks}, ["a"])):
        model = {"services": {"a": service}}
        for pins, effect in (
            (Pins.REQUIRE, policy.Effect.REFUSED),
            (Pins.WARN, policy.Effect.WARNED),
        ):
            declared = replace(stack("web"), policy=Policy(pins=pins))
            found = [each for each in policy.judge(declared, model, ROOT) if each.rule == "pins"]
            assert [each.effect for each in found] == ([] if pinned else [effect] * len(names))


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


# --- mounts of the checkout ---

TRACKED = sorted(
    [
        "README.md",
        "common/conf/a",
        "common/conf/b",
        "stacks/web/a$b.conf",
        "stacks/web/compose.yaml",
        "stacks/web/config/app.yaml",
        "stacks/web/cache/.gitkeep",
        "stacks/web/key.secret.pem",
        "stacks/web/link",
        "stacks/web/nginx.conf",
        "stacks/web/web.env",
    ]
)


def _site(**more: Any) -> Stack:
    return replace(stack("web"), tracked=TRACKED, **more)


def _mounted(source: str, target: str = "/x", **more: Any) -> dict[str, Any]:
    mount = {"type": "bind", "source": source, "target": target, **more}
    return {"services": {"app": {"volumes": [mount]}}}


def _refusals(model: dict[str, Any], site: Stack | None = None) -> list[Violation]:
    found = policy.judge(site or _site(), model, ROOT)
    return [each for each in found if each.rule == policy.WRITABLE]


_WEB = f"{ROOT}/stacks/web"


@pytest.mark.parametrize(
    ("source", "said", "hint"),
    [
        (
            f"{_WEB}/nginx.conf",
            "stacks/web/nginx.conf, which is a file of Git",
            "with :ro, or keep",
        ),
        (
            f"{_WEB}/config",
            "stacks/web/config, where Git has app.yaml",
            "and mount each tracked file with :ro",
        ),
        (
            f"{ROOT}/common/conf/",
            "common/conf, where Git has a and 1 more",
            "keep its data in a volume",
        ),
        (_WEB, "stacks/web, where Git has compose.yaml and 7 more", "mount it with :ro, or"),
        (ROOT, "the whole repository, where Git has stacks/web/compose.yaml and 10 more", ":ro"),
        (f"{_WEB}/../..", "the whole repository, where", ":ro"),
        (f"{_WEB}/cache", "stacks/web/cache, where Git has .gitkeep", "git rm stacks/web/cache/.g"),
        (f"{_WEB}/a$$b.conf", "stacks/web/a$b.conf, which is a file of Git", ":ro"),
        (f"{_WEB}/link", "stacks/web/link, which is a file of Git", ":ro"),
        (f"{_WEB}/link/data", "stacks/web/link/data, which is behind the link stacks/web/l", ":ro"),
        (
            f"{_WEB}/.decrypted.key.secret.pem",
            "stacks/web/.decrypted.key.secret.pem, which is the plaintext of stacks/web/key.sec",
            ":ro",
        ),
        ("/var/lib/commitd/repo/stacks/web/web.env", "stacks/web/web.env, which is a file", ":ro"),
        ("/var/lib/commitd/export/common", "common, where Git has conf/a and 1 more", ":ro"),
        (f"{_WEB}/data", None, None),
        (f"{_WEB}/config2", None, None),
        (f"{_WEB}/conf", None, None),
        ("/srv/data", None, None),
        ("/var/lib/commitd/repository", None, None),
    ],
)
def test_a_container_that_can_write_to_files_of_git_is_refused_and_told_which_and_what_to_do(
    source: str, said: str | None, hint: str | None
) -> None:
    found = _refusals(_mounted(source))
    assert _refusals(_mounted(source, read_only=True)) == []
    if said is None or hint is None:
        assert found == []
        return
    (each,) = found
    assert each.effect is Effect.REFUSED
    assert each.message.startswith(f"app: /x: the container can write to {said}")
    assert hint in (each.hint or "")
    permitted = "; writable_checkout: {allow: [web]} in commitd.yaml permits it"
    assert (each.hint or "").endswith(permitted)


@pytest.mark.parametrize(
    ("source", "whose"),
    [
        ("/etc/commitd", "the agent's configuration and keys"),
        ("/etc/commitd/age.key", "the agent's configuration and keys"),
        ("/var/lib/commitd", "the agent's journal, clone and secrets"),
        ("/var/lib/commitd/journal.db", "the agent's journal, clone and secrets"),
        ("/var/lib/commitd/git/config", "Git's directory"),
        ("/run/commitd/commitd.sock", "the agent's socket and secrets"),
        (f"{ROOT}/.git", "Git's directory"),
        ("/etc", "which contains the agent's configuration (/etc/commitd)"),
        ("/var/lib", "which contains the agent's state (/var/lib/commitd)"),
        (
            "/",
            (
                "which contains the agent's state (/var/lib/commitd), configuration (/etc/commitd) "
                "and socket (/run/commitd)"
            ),
        ),
        ("/var/run", "which contains the agent's socket (/run/commitd)"),
        ("/etc/commitd2", None),
        ("/srv", None),
        (f"{ROOT}/stacks/web/data", None),
    ],
)
@pytest.mark.parametrize("read_only", [True, False])
def test_mounts_of_what_is_the_agents_own_are_named(
    source: str, whose: str | None, read_only: bool
) -> None:
    site = _site(policy=Policy(writable_checkout="allow", pins=Pins.WARN))
    found = policy.judge(site, _mounted(source, read_only=read_only), ROOT)
    noted = [each.message for each in found if each.rule == "privileges"]
    if source == "/" and read_only:
        whose = "where it can read the agent's keys and secrets"
    assert noted == ([f"app: mounts {source}, {whose}"] if whose else [])


def _binds(**services: list[tuple[str, str]]) -> dict[str, Any]:
    """Services with mounts of a source (``:ro`` at its end) at a target."""
    found: dict[str, Any] = {}
    for name, mounts in services.items():
        found[name] = {"image": IMAGE, "volumes": [_bind(*mount) for mount in mounts]}
    return {"services": found}


def _bind(source: str, target: str) -> dict[str, Any]:
    path = source.removesuffix(":ro")
    return {"type": "bind", "source": path, "target": target, "read_only": path != source}


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (
            _binds(a=[("/srv/d", "/d"), ("/srv/d/c", "/c")]),
            "a: mounts /srv/d/c below /srv/d, where a can write: a could replace /srv/d/c by",
        ),
        (_binds(a=[("/srv/d", "/d")], b=[("/srv/d/c:ro", "/c")]), "b: mounts /srv/d/c below"),
        (_binds(a=[("/srv/d", "/d"), ("/srv/d/c", "/d/c")]), None),
        (_binds(a=[("/srv/d", "/d")], b=[("/srv/d/c", "/d/c")]), "b: mounts /srv/d/c below"),
        (_binds(a=[("/srv/d:ro", "/d"), ("/srv/d/c", "/c")]), None),
        (_binds(a=[("/srv/d", "/d")], b=[("/srv/d", "/c"), ("/srv/d2", "/e")]), None),
        (_binds(a=[("/", "/host")], b=[("/srv/d", "/c")]), None),
        (_binds(a=[("/run", "/c")], b=[("/var/run", "/e")]), None),
        (_binds(a=[("/var/run", "/c")], b=[("/run/d", "/e")]), "b: mounts /run/d below "),
    ],
)
def test_a_mount_that_another_container_can_turn_into_a_link_is_named(
    model: dict[str, Any], said: str | None
) -> None:
    noted = [
        each.message for each in policy.judge(_site(), model, ROOT) if each.effect is Effect.ASKED
    ]
    assert [message.startswith(said or "") for message in noted] == ([True] if said else [])


@pytest.mark.parametrize(
    ("top", "effect"),
    [
        (f"{ROOT}/stacks/web/data", Effect.NOTED),
        ("/var/lib/commitd/repo/stacks/web/data", Effect.NOTED),
        ("/var/lib/commitd/plaintext", Effect.NOTED),
        ("/srv/media", Effect.ASKED),
    ],
)
def test_data_of_the_host_that_services_share_is_no_warning(top: str, effect: Effect) -> None:
    """A library that one service fills and another shows: only diff and plan name it."""
    model = _binds(sonarr=[(top, "/data")], jellyfin=[(f"{top}/tv:ro", "/tv")])
    found = policy.judge(_site(), model, ROOT)
    assert [each.effect for each in found if "by a link" in each.message] == [effect]


def test_the_agents_directories_are_those_of_the_host_that_runs_the_stack() -> None:
    agent = AgentPlaces(state="/data/commitd", runtime="/tmp/run")
    for source, noted, refused in (
        ("/data/commitd/git", True, False),
        ("/data", True, False),
        ("/data/commitd/repo/stacks/web", False, True),
        ("/var/lib/commitd", False, False),
    ):
        found = policy.judge(_site(), _mounted(source), "/elsewhere", agent=agent)
        rules = {each.rule for each in found}
        assert ("privileges" in rules, policy.WRITABLE in rules) == (noted, refused), source


def test_they_are_known_by_their_other_names() -> None:
    real = AgentPlaces(state="/mnt/d/commitd", config="/mnt/etc")
    agent = AgentPlaces(state="/data/commitd", runtime="/var/run/commitd", real=real)
    for source, noted, refused in (
        ("/mnt/d/commitd/export/stacks/web", False, True),
        ("/mnt/d/commitd/repo/stacks/web/compose.yaml", False, True),
        ("/data/commitd/export/stacks/web", False, True),
        ("/mnt/d/commitd/journal.db", True, False),
        ("/mnt/d", True, False),
        ("/mnt/etc/age.key", True, False),
        ("/data", True, False),
        ("/run", True, False),
        ("/var/run", True, False),
        ("/run/commitd/commitd.sock", True, False),
        ("/var/running", False, False),
    ):
        found = policy.judge(_site(), _mounted(source), "/elsewhere", agent=agent)
        rules = {each.rule for each in found}
        assert ("privileges" in rules, policy.WRITABLE in rules) == (noted, refused), source


def test_a_file_of_a_secret_is_in_the_checkout_or_where_images_are_built_from() -> None:
    for file, fine in ((f"{ROOT}/a", True), ("/export/a", True), ("/export2/a", False)):
        found = policy.judge(_site(), {"secrets": {"s": {"file": file}}}, ROOT, built="/export")
        assert (not found) is fine


def test_hooks_and_volumes_that_are_mounts_are_judged_as_well() -> None:
    device = {"driver": "local", "driver_opts": {"type": "none", "o": "bind", "device": _WEB}}
    volume = {"type": "volume", "source": "v", "target": "/x"}
    nfs = {"driver_opts": {"type": "nfs", "o": "addr=10.0.0.1", "device": f":{_WEB}"}}
    for own, mount, refused in (
        (device, volume, True),
        (device, {**volume, "read_only": True}, False),
        (device, {**volume, "volume": {"subpath": "data"}}, False),
        (device, {**volume, "volume": {"subpath": "config"}}, True),
        ({"driver_opts": {**device["driver_opts"], "o": "bind,ro"}}, volume, False),  # type: ignore[dict-item]
        ({"driver_opts": device["driver_opts"]}, volume, True),
        ({**device, "driver": "other"}, volume, False),
        (nfs, volume, False),
        ({}, volume, False),
    ):
        model = {"services": {"app": {"volumes": [mount]}}, "volumes": {"v": own}}
        assert bool(_refusals(model)) is refused, (own, mount)
    hook = {"pre_start": [{"volumes": [{"type": "bind", "source": _WEB, "target": "/x"}]}]}
    (found,) = _refusals({"services": {"app": hook}})
    assert found.message.startswith("app: pre_start[0]: /x: the container can write to stacks/web")


def test_a_refused_mount_is_named_by_its_line_also_where_a_variable_decides_on_it() -> None:
    named = (
        NamedMount(service="app", path="stacks/web/conf", target="/conf/", where="c.yaml:4"),
        NamedMount(service="app", path=None, target="/x", where="c.yaml:5"),
        NamedMount(service="", path="stacks/web", target="", where="c.yaml:9"),
    )
    site = _site(mounts=named)
    for model, line in (
        (_mounted(f"{_WEB}/config"), "c.yaml:5"),
        (_mounted(_WEB, "/y"), "c.yaml:9"),
        (_mounted(f"{_WEB}/config", "/conf"), "c.yaml:4"),
        (_mounted(f"{_WEB}/config", "/z"), None),
    ):
        (found,) = _refusals(model, site)
        assert found.where == line


def test_the_policy_allows_it_and_that_is_told() -> None:
    allowed = _site(policy=Policy(writable_checkout="allow"))
    (found,) = _refusals(_mounted(_WEB), allowed)
    assert (found.effect, found.hint) == (Effect.NOTED, None)
    refused = _site(policy=Policy(build="allow", writable_checkout="refuse"))
    assert [each.effect for each in _refusals(_mounted(_WEB), refused)] == [Effect.REFUSED]


def test_what_ran_already_is_repaired_and_restored_although_its_mount_is_refused_now() -> None:
    model = {**_mounted(_WEB), "configs": {"c": {"file": "/etc/shadow"}}}
    model["services"]["app"]["image"] = IMAGE
    model["services"]["app"]["volumes"].append({"type": "image", "source": "data:1"})
    found = policy.of_release(policy.judge(_site(), model, ROOT))
    assert [(each.rule, each.effect) for each in found] == [
        ("policy", Effect.REFUSED),
        (policy.PINS, Effect.WARNED),
        (policy.WRITABLE, Effect.WARNED),
    ]
