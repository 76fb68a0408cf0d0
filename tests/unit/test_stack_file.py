"""A stack's file for a Swarm: what is said the same, what another way, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.adapters.swarm import stack_deploy
from agent.adapters.swarm.cluster import service_of
from agent.domain.compose.policy import Effect
from agent.domain.errors import PermanentError
from agent.domain.swarm import service_keys, stack_file, unused
from agent.domain.swarm.model import OURS, SwarmObject
from agent.domain.swarm.service_section import _ELSEWHERE
from agent.domain.swarm.stack_file import ObjectWanted, StackFile

HERE = Path(__file__).parent
SCHEMA = jsonschema_rs.validator_for(
    json.loads((HERE / "stack-schema" / "config_schema_v3.9.json").read_text())
)
ROOT = "/srv/repo"
SALT = "of the cluster"
IMAGE = "nginx:1.27@sha256:" + "0123456789abcdef" * 4


def draft(service: dict[str, Any] | None = None, **top: Any) -> stack_file.Draft:
    model = {"name": "web", "services": {"a": {"image": IMAGE, **(service or {})}}, **top}
    return stack_file.read("web", model, ROOT)


def said(service: dict[str, Any] | None = None, **top: Any) -> list[tuple[Effect, str]]:
    found = draft(service, **top).violations
    return [(each.effect, ".".join(map(str, each.path))) for each in found]


def section(service: dict[str, Any], **top: Any) -> dict[str, Any]:
    """What is written of a service about which nothing is to be said."""
    found = draft(service, **top)
    assert not found.violations
    SCHEMA.validate(dict(found.document))
    written: dict[str, Any] = found.document["services"]["a"]
    return written


def whole(
    service: dict[str, Any], contents: dict[tuple[Any, str], bytes], /, **top: Any
) -> StackFile:
    salt = top.pop("salt", SALT)
    return stack_file.of(draft(service, **top), contents, salt)


@pytest.mark.parametrize(
    ("given", "written"),
    [
        ({"ports": [{"target": 80, "published": "8080", "mode": "host"}]},
         {"ports": [{"target": 80, "published": 8080, "protocol": "tcp", "mode": "host"}]}),
        ({"ports": [{"target": "53", "protocol": "udp", "host_ip": "::"}]},
         {"ports": [{"target": 53, "protocol": "udp", "mode": "ingress"}]}),
        ({"ports": [{"target": 80, "published": 80}, {"target": 80, "published": "80"}]},
         {"ports": [{"target": 80, "published": 80, "protocol": "tcp", "mode": "ingress"}]}),
        ({"environment": {"A": "x$$y", "B": "", "C": None, "N": 5, "T": True, "F": 1.5}},
         {"environment": {"A": "x$$y", "B": "", "C": None, "N": "5", "T": "true", "F": "1.5"}}),
        ({"command": "sh -c 'echo \"$$HOME\"'", "entrypoint": ["/x", "y z"]},
         {"command": ["sh", "-c", 'echo "$$HOME"'], "entrypoint": ["/x", "y z"]}),
        ({"command": None, "entrypoint": None}, {}),
        ({"extra_hosts": ["a=1.2.3.4", "v6:[::1]"]}, {"extra_hosts": ["a:1.2.3.4", "v6:::1"]}),
        ({"extra_hosts": {"a": ["1.2.3.4", "1.2.3.5"]}},
         {"extra_hosts": ["a:1.2.3.4", "a:1.2.3.5"]}),
        ({"sysctls": ["net.x=1"], "dns": "1.1.1.1"},
         {"sysctls": {"net.x": "1"}, "dns": ["1.1.1.1"]}),
        ({"ulimits": {"nproc": 65535, "nofile": {"soft": 1, "hard": "2"}, "memlock": -1}},
         {"ulimits": {"nproc": 65535, "nofile": {"soft": 1, "hard": 2}, "memlock": -1}}),
        ({"labels": {"a": 1, "b": None}, "init": False, "user": 1000},
         {"labels": {"a": "1", "b": ""}, "init": False, "user": "1000"}),
        ({"cap_add": ["A", "A"], "cap_drop": ["ALL"], "read_only": True},
         {"cap_add": ["A"], "cap_drop": ["ALL"], "read_only": True}),
        ({"logging": {"driver": "syslog", "options": {"max-file": 3}}},
         {"logging": {"driver": "syslog", "options": {"max-file": "3"}}}),
        ({"healthcheck": {"test": ["CMD", "x"], "interval": "90s", "retries": 3}},
         {"healthcheck": {"test": ["CMD", "x"], "interval": "90s", "retries": 3}}),
        ({"healthcheck": {"disable": True, "test": ["CMD", "x"]}},
         {"healthcheck": {"disable": True}}),
        ({"tmpfs": ["/run", "/tmp:size=64m,rw"]},
         {"volumes": [{"type": "tmpfs", "target": "/run"},
                      {"type": "tmpfs", "target": "/tmp", "tmpfs": {"size": 64 * 1024 * 1024}}]}),
        ({"stop_grace_period": "1m30s", "stop_signal": "INT", "hostname": "{{.Node.ID}}"},
         {"stop_grace_period": "1m30s", "stop_signal": "INT", "hostname": "{{.Node.ID}}"}),
        ({"pull_policy": "always", "expose": ["80"], "attach": False, "x-own": {"a": 1}}, {}),
        ({"privileged": False, "devices": [], "security_opt": None, "scale": None}, {}),
        ({"networks": {"default": None, "n": {"aliases": ["x"]}}},
         {"networks": {"default": None, "n": {"aliases": ["x"]}}}),
    ],
)  # fmt: skip
def test_what_means_the_same_is_written_as_the_command_line_takes_it(
    given: dict[str, Any], written: dict[str, Any]
) -> None:
    found = section(given)
    found.pop("deploy")
    assert found == {"image": IMAGE, **written}


@pytest.mark.parametrize(
    ("given", "written", "wanted"),
    [
        ({}, {"mode": "replicated", "replicas": 1}, ("replicated", 1)),
        ({"deploy": {"replicas": 0}}, {"mode": "replicated", "replicas": 0}, ("replicated", 0)),
        ({"deploy": {"mode": "global"}}, {"mode": "global"}, ("global", None)),
        ({"deploy": {"mode": "replicated-job", "replicas": 3}},
         {"mode": "replicated-job", "replicas": 3}, ("replicated-job", 3)),
        ({"deploy": {"mode": "global-job", "restart_policy": {"condition": "none"}}},
         {"mode": "global-job", "restart_policy": {"condition": "none"}}, ("global-job", None)),
        ({"deploy": {"endpoint_mode": "dnsrr", "labels": {"x": 1}}},
         {"endpoint_mode": "dnsrr", "labels": {"x": "1"}}, ("replicated", 1)),
        ({"deploy": {"update_config": {"parallelism": 0, "max_failure_ratio": "0.5",
                                       "order": "start-first", "failure_action": "rollback"},
                     "rollback_config": {"parallelism": 2, "delay": "1s", "monitor": "5s"}}},
         {"update_config": {"parallelism": 0, "max_failure_ratio": 0.5,
                            "order": "start-first", "failure_action": "rollback"},
          "rollback_config": {"parallelism": 2, "delay": "1s", "monitor": "5s"}},
         ("replicated", 1)),
        ({"deploy": {"placement": {"constraints": ["node.role == manager"],
                                   "preferences": [{"spread": "node.labels.zone"}],
                                   "max_replicas_per_node": 1}}},
         {"placement": {"constraints": ["node.role == manager"],
                        "preferences": [{"spread": "node.labels.zone"}],
                        "max_replicas_per_node": 1}}, ("replicated", 1)),
        ({"deploy": {"resources": {
            "limits": {"cpus": 0.5, "memory": "50M", "pids": 3},
            "reservations": {"cpus": "0.25", "memory": 20, "generic_resources": [
                {"discrete_resource_spec": {"kind": "gpu", "value": 2}}]}}}},
         {"resources": {
            "limits": {"cpus": "0.5", "memory": "50M", "pids": 3},
            "reservations": {"cpus": "0.25", "memory": "20", "generic_resources": [
                {"discrete_resource_spec": {"kind": "gpu", "value": 2}}]}}}, ("replicated", 1)),
        ({"mem_limit": "1g", "cpus": 1.5, "pids_limit": -1, "mem_reservation": "1m"},
         {"resources": {"limits": {"memory": "1g", "cpus": "1.5"},
                        "reservations": {"memory": "1m"}}}, ("replicated", 1)),
    ],
)  # fmt: skip
def test_deploy_is_written_with_the_label_of_the_agent(
    given: dict[str, Any], written: dict[str, Any], wanted: tuple[str, int | None]
) -> None:
    found = section(given)["deploy"]
    expected = {"mode": "replicated", "replicas": 1, **written}
    if wanted[1] is None:
        del expected["replicas"]
    expected["labels"] = {**written.get("labels", {}), "io.commitd.stack": "web"}
    assert found == expected
    assert (found["mode"], found.get("replicas")) == wanted
    assert section(given)["image"] == IMAGE


@pytest.mark.parametrize(
    ("given", "condition"),
    [
        ("no", {"condition": "none"}),
        ("always", {"condition": "any"}),
        ("unless-stopped", {"condition": "any"}),
        ("on-failure", {"condition": "on-failure"}),
        ("on-failure:3", {"condition": "on-failure", "max_attempts": 3}),
    ],
)
def test_restart_is_taken_as_a_policy_and_told_of(given: str, condition: dict[str, Any]) -> None:
    found = draft({"restart": given})
    assert found.document["services"]["a"]["deploy"]["restart_policy"] == condition
    assert said({"restart": given}) == [(Effect.WARNED, "services.a.restart")]


def test_scale_is_taken_as_replicas_unless_deploy_says_how_many() -> None:
    for count, deploy in ((3, {}), (2, {"deploy": {"replicas": 2}})):
        found = draft({"scale": 3, **deploy}).document["services"]["a"]["deploy"]
        assert found["replicas"] == count
    assert said({"scale": 3}) == [(Effect.WARNED, "services.a.scale")]


@pytest.mark.parametrize(
    ("given", "place"),
    [
        *(({key: ["x"]}, key) for key in sorted(service_keys.REFUSED)),
        ({"of_the_future": "x"}, "of_the_future"),
        ({"entrypoint": []}, "entrypoint"),
        ({"restart": "sometimes"}, "restart"),
        ({"environment": {"HOME": ""}}, "environment.HOME"),
        ({"environment": {"DOCKER_HOST": None}}, "environment.DOCKER_HOST"),
        ({"ports": [{"target": 80, "host_ip": "127.0.0.1"}]}, "ports.0"),
        ({"ports": [{"target": 80, "published": "8000-8001"}]}, "ports.0"),
        ({"ports": [{"target": 80}], "deploy": {"endpoint_mode": "dnsrr"}}, "ports"),
        ({"ports": [{"target": "x"}]}, "ports.0.target"),
        ({"networks": {"default": {"ipv4_address": "10.0.0.2"}}}, "networks.default.ipv4_address"),
        ({"networks": {"default": {"of_the_future": 1}}}, "networks.default.of_the_future"),
        ({"volumes": [{"type": "image", "source": "x", "target": "/x"}]}, "volumes.0"),
        ({"volumes": [{"type": "bind", "source": f"{ROOT}/x", "target": "/x"}]}, "volumes.0"),
        ({"tmpfs": ["/tmp:uid=5"]}, "tmpfs"),
        ({"volumes": [{"type": "tmpfs", "target": "/x", "tmpfs": {"mode": 0o700}}]},
         "volumes.0.tmpfs.mode"),
        ({"deploy": {"mode": "sometimes"}}, "deploy.mode"),
        ({"deploy": {"mode": "global", "replicas": 2}}, "deploy.replicas"),
        ({"deploy": {"mode": "global-job", "update_config": {"delay": "1s"}}},
         "deploy.update_config"),
        ({"deploy": {"of_the_future": 1}}, "deploy.of_the_future"),
        ({"deploy": {"labels": {"io.commitd.evicted": "x"}}}, "deploy.labels"),
        ({"deploy": {"update_config": {"of_the_future": 1}}},
         "deploy.update_config.of_the_future"),
        ({"deploy": {"resources": {"reservations": {"devices": [{"count": 1}]}}}},
         "deploy.resources.reservations.devices"),
        ({"deploy": {"replicas": "many"}}, "deploy.replicas"),
    ],
)  # fmt: skip
def test_what_would_mean_something_else_is_refused(given: dict[str, Any], place: str) -> None:
    assert said(given) == [(Effect.REFUSED, f"services.a.{place}")]
    with pytest.raises(PermanentError, match=r"^a: "):
        whole(given, {})


@pytest.mark.parametrize(
    ("service", "kind"),
    [
        ({"configs": [{"source": "x"}]}, "configs"),
        ({"secrets": [{"source": "x"}]}, "secrets"),
        ({"networks": {"x": None}}, "networks"),
        (
            {
                "volumes": [{"type": "volume", "source": "x", "target": "/x"}],
                "deploy": {"mode": "global"},
            },
            "volumes",
        ),
    ],
)
def test_labels_by_which_managers_know_their_own_are_refused(
    service: dict[str, Any], kind: str
) -> None:
    top: dict[str, Any] = {"labels": {"io.commitd.record": "{}"}}
    top |= {"file": f"{ROOT}/x"} if kind in {"configs", "secrets"} else {}
    assert said(service, **{kind: {"x": top}}) == [(Effect.REFUSED, f"{kind}.x.labels")]


def test_a_record_of_managers_is_no_config_of_a_service() -> None:
    given = {"configs": [{"source": "x"}]}
    top = {"x": {"external": True, "name": "commitd-cluster"}}
    assert said(given, configs=top) == [(Effect.REFUSED, "configs.x.name")]
    assert not said(given, configs={"x": {"external": True, "name": "shared"}})


def test_no_service_gets_a_value_that_is_the_command_lines_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It puts what it has itself into variables of a service that are empty."""
    monkeypatch.setenv("DOCKER_CONFIG", "/root/.docker")
    names = {**stack_deploy._environment(), **stack_deploy._RUNTIME}
    for name in names:
        refused = [(Effect.REFUSED, f"services.a.environment.{name}")]
        assert said({"environment": {name: ""}}) == refused
        assert said({"environment": {name: "own"}}) == []


@pytest.mark.parametrize(
    ("networks", "place"),
    [
        ({"driver": "bridge"}, "driver"),
        ({"driver": "macvlan"}, "driver"),
        ({"enable_ipv6": True}, "enable_ipv6"),
        ({"ipam": {"config": [{"subnet": "10.0.0.0/24", "gateway": "10.0.0.1"}]}},
         "ipam.config.0.gateway"),
        ({"ipam": {"options": {"a": "b"}}}, "ipam.options"),
        ({"of_the_future": {"a": ["b"]}}, "of_the_future"),
    ],
)  # fmt: skip
def test_networks_that_cannot_be_said_are_refused(networks: dict[str, Any], place: str) -> None:
    found = said({"networks": {"n": None}}, networks={"n": networks})
    assert found == [(Effect.REFUSED, f"networks.n.{place}")]


def test_networks_and_volumes_are_written_as_far_as_services_use_them() -> None:
    mount = {"type": "volume", "source": "data", "target": "/data", "volume": {"nocopy": True}}
    found = draft(
        {
            "networks": {"n": None, "out": None},
            "volumes": [mount],
            "deploy": {"placement": {"constraints": ["node.hostname == one"]}},
        },
        networks={
            "n": {"name": "web_n", "driver": "overlay", "driver_opts": {"encrypted": ""},
                  "attachable": True, "internal": True, "labels": ["a=b"], "enable_ipv4": True,
                  "ipam": {"driver": "default", "config": [{"subnet": "10.0.0.0/24"}]}},
            "out": {"name": "shared", "external": True},
            "default": {"name": "web_default", "ipam": {}},
        },
        volumes={"data": {"name": "web_data", "driver": "local", "labels": {"a": "b"}},
                 "other": {"name": "web_other"}},
    )  # fmt: skip
    assert not found.violations
    SCHEMA.validate(dict(found.document))
    assert found.document["networks"] == {
        "n": {"name": "web_n", "driver": "overlay", "driver_opts": {"encrypted": ""},
              "attachable": True, "internal": True,
              "labels": {"a": "b", "io.commitd.stack": "web"},
              "ipam": {"driver": "default", "config": [{"subnet": "10.0.0.0/24"}]}},
        "out": {"name": "shared", "external": True},
    }  # fmt: skip
    data = {"name": "web_data", "driver": "local", "labels": {"a": "b"}}
    assert found.document["volumes"] == {"data": data}


@pytest.mark.parametrize(
    ("mount", "deploy", "warned"),
    [
        ({"type": "bind", "source": "/srv/data"}, {}, True),
        ({"type": "bind", "source": "/var/run/docker.sock"}, {}, False),
        ({"type": "bind", "source": "/etc/localtime"}, {}, False),
        ({"type": "bind", "source": "/srv"}, {"placement": {"constraints": ["node.id==x"]}}, False),
        (
            {"type": "bind", "source": "/srv"},
            {"placement": {"constraints": ["node.role==x"]}},
            True,
        ),
        ({"type": "volume", "source": "data"}, {}, True),
        ({"type": "volume", "source": "data"}, {"mode": "global"}, False),
        ({"type": "volume", "source": "nfs"}, {}, False),
        ({"type": "volume", "source": "plugin"}, {}, False),
        ({"type": "volume"}, {}, False),
    ],
)
def test_data_that_stays_on_a_node_is_told_of_unless_its_service_does(
    mount: dict[str, Any], deploy: dict[str, Any], warned: bool
) -> None:
    volumes = {
        "data": {"name": "web_data"},
        "nfs": {"driver_opts": {"type": "nfs", "device": ":/x"}},
        "plugin": {"driver": "rclone"},
    }
    found = said({"volumes": [{**mount, "target": "/x"}], "deploy": deploy}, volumes=volumes)
    assert found == [(Effect.WARNED, "services.a.volumes.0")] * warned


def test_a_volume_that_is_a_directory_of_the_repository_is_refused() -> None:
    options = {"o": "bind", "type": "none", "device": f"{ROOT}/data"}
    mount = {"type": "volume", "source": "data", "target": "/x"}
    found = said({"volumes": [mount]}, volumes={"data": {"driver_opts": options}})
    assert (Effect.REFUSED, "services.a.volumes.0") in found


def test_that_services_do_not_wait_for_each_other_is_told_of() -> None:
    healthy = {"db": {"condition": "service_healthy"}}
    assert said({"depends_on": healthy}) == [(Effect.WARNED, "services.a.depends_on.db")]
    started = {"db": {"condition": "service_started"}}
    assert said({"depends_on": started}) == [(Effect.ASKED, "services.a.depends_on.db")]


SERVICE = {
    "configs": [{"source": "c"}, {"source": "inline", "target": "/etc/i", "mode": "0440"}],
    "secrets": [{"source": "s", "uid": "1", "gid": 2, "mode": 256}, {"source": "out"}],
}
TOP: dict[str, Any] = {
    "configs": {
        "c": {"name": "web_c", "file": f"{ROOT}/stacks/web/c$$.txt"},
        "inline": {"content": "a $$b"},
        "unused": {"file": "/x"},
    },
    "secrets": {
        "s": {"environment": "PASSWORD"},
        "out": {"external": True, "name": "made_by_hand"},
    },
}
CONTENTS = {("configs", "c"): b"one", ("configs", "inline"): b"a $b", ("secrets", "s"): b"hunter2"}


def test_configs_and_secrets_are_objects_named_after_their_content() -> None:
    found = draft(SERVICE, **TOP)
    by_key = {(each.kind, each.key): each for each in found.sources}
    assert by_key.keys() == CONTENTS.keys()
    assert by_key["configs", "c"].file == f"{ROOT}/stacks/web/c$.txt"
    assert by_key["configs", "inline"].content == b"a $b"
    assert by_key["secrets", "s"].environment == "PASSWORD"
    file = whole(SERVICE, CONTENTS, **TOP)
    document = json.loads(file.text)
    SCHEMA.validate(document)
    names = {(each.kind, each.name.rsplit("_", 1)[0]): each for each in file.objects}
    assert names.keys() == {("configs", "web_c"), ("configs", "web_inline"), ("secrets", "web_s")}
    secret = names["secrets", "web_s"]
    assert (secret.content, secret.stack) == (b"hunter2", "web")
    assert document["secrets"] == {
        "s": {"external": True, "name": secret.name},
        "out": {"external": True, "name": "made_by_hand"},
    }
    section = document["services"]["a"]
    assert section["configs"] == [
        {"source": "c", "target": "/c"},
        {"source": "inline", "target": "/etc/i", "mode": 0o440},
    ]
    assert section["secrets"] == [
        {"source": "s", "target": "s", "uid": "1", "gid": "2", "mode": 256},
        {"source": "out", "target": "out"},
    ]


def test_other_content_has_another_name_and_the_rest_keeps_its_own() -> None:
    one = {each.kind + each.name[:6]: each.name for each in whole(SERVICE, CONTENTS, **TOP).objects}
    other = {**CONTENTS, ("secrets", "s"): b"hunter3"}
    two = {each.kind + each.name[:6]: each.name for each in whole(SERVICE, other, **TOP).objects}
    assert one.keys() == two.keys()
    assert {key for key in one if one[key] != two[key]} == {"secretsweb_s_"}
    salted = whole(SERVICE, CONTENTS, **TOP, salt="of another cluster").objects
    assert not {each.name for each in salted} & set(one.values())


def test_a_long_name_is_cut_and_stays_apart_from_another() -> None:
    long = "x" * 80
    names = {
        each.name
        for key in (f"{long}1", f"{long}2")
        for each in whole(
            {"configs": [{"source": key}]},
            {("configs", key): b"one"},
            configs={key: {"file": "/x"}},
        ).objects
    }
    assert len(names) == 2
    assert {len(name) for name in names} == {64}


@pytest.mark.parametrize("content", [b"", b"x" * 500 * 1024])
def test_content_that_no_swarm_keeps_is_refused(content: bytes) -> None:
    with pytest.raises(PermanentError, match="secrets: s: is empty, or larger than 500 KiB"):
        whole(SERVICE, {**CONTENTS, ("secrets", "s"): content}, **TOP)


def test_no_secret_shows_in_what_people_and_logs_see() -> None:
    file = whole({**SERVICE, "environment": {"P": "hunter2"}}, CONTENTS, **TOP)
    shown = f"{file!r} {file.objects!r} {draft(SERVICE, **TOP)!r} {draft(SERVICE, **TOP).sources!r}"
    assert "hunter2" not in shown
    assert "a $b" not in shown
    assert isinstance(file.objects[0], ObjectWanted)
    assert file.services == {"a": "replicated"}


def test_a_secret_that_cannot_be_read_as_a_number_is_not_quoted() -> None:
    found = draft({"ports": [{"target": "hunter2"}]}).violations
    assert not any("hunter2" in f"{each.message}{each.hint}" for each in found)


def test_only_objects_of_the_agent_that_nothing_needs_are_unused() -> None:
    def one(name: str, *, labels: dict[str, str] | None = None) -> SwarmObject:
        own = {OURS: "web"} if labels is None else labels
        return SwarmObject(kind="configs", id=f"id of {name}", name=name, labels=own)

    by_hand = one("by_hand", labels={"com.docker.stack.namespace": "web"})
    found = [one("used"), one("before"), one("kept"), one("old"), by_hand]

    def named(name: str) -> dict[str, Any]:
        used = {"ConfigID": f"id of {name}", "ConfigName": name}
        return {"TaskTemplate": {"ContainerSpec": {"Configs": [used]}}}

    spec = {"Name": "web_app", **named("used")}
    raw = {"ID": "s", "Version": {"Index": 1}, "Spec": spec, "PreviousSpec": named("before")}
    assert unused.unused(found, [service_of(raw)], {"kept"}) == [one("old")]
    assert unused.names(spec) == ("used",)


def test_every_key_of_a_compose_file_is_judged() -> None:
    spec = json.loads((HERE / "compose-spec" / "compose-spec.json").read_text())["$defs"]
    known = {
        *service_keys.PASSED, *service_keys.MEANINGLESS, *service_keys.REFUSED, *_ELSEWHERE,
    }  # fmt: skip
    assert spec["service"]["properties"].keys() - known == set()
    tables = [service_keys.PASSED, service_keys.MEANINGLESS, service_keys.REFUSED, _ELSEWHERE]
    assert sum(map(len, tables)) == len(known), "a key is in two tables"


TEXT = st.text("abc$-_./: \"'\\\x7f\u2028\U0001f600\n", max_size=8).map(
    lambda text: text.replace("$", "$$")
)
NAMES = st.text("abcXYZ.-_09", min_size=1, max_size=6)
NUMBER = st.integers(0, 2**31)
PAIRS = st.dictionaries(NAMES, TEXT, max_size=3)
SCALAR = st.none() | st.booleans() | st.integers(-5, 5) | TEXT
FLAT = SCALAR | st.lists(SCALAR, max_size=3) | st.dictionaries(NAMES, SCALAR, max_size=3)
ANY = FLAT | st.lists(FLAT, max_size=3) | st.dictionaries(NAMES, FLAT, max_size=3)
PROPER = st.fixed_dictionaries(
    {"image": st.just(IMAGE)},
    optional={
        "environment": st.dictionaries(NAMES, TEXT | st.none() | NUMBER | st.booleans()),
        "labels": PAIRS,
        "command": st.lists(TEXT, max_size=3) | st.none(),
        "entrypoint": st.lists(TEXT, min_size=1, max_size=3) | st.none(),
        "cap_add": st.lists(NAMES, max_size=3),
        "dns": st.lists(NAMES, max_size=2),
        "ports": st.lists(
            st.fixed_dictionaries(
                {"target": st.integers(1, 65535)},
                optional={
                    "published": st.integers(0, 65535).map(str),
                    "mode": st.sampled_from(["ingress", "host"]),
                    "protocol": st.sampled_from(["tcp", "udp"]),
                },
            ),
            max_size=3,
        ),
        "configs": st.lists(st.fixed_dictionaries({"source": st.just("c")}), max_size=1),
        "extra_hosts": st.lists(st.builds("{}={}".format, NAMES, NAMES), max_size=3),
        "tmpfs": st.lists(NAMES.map("/{}".format), max_size=2),
        "ulimits": st.dictionaries(st.sampled_from(["nproc", "nofile"]), NUMBER),
        "sysctls": PAIRS,
        "healthcheck": st.fixed_dictionaries({"test": st.lists(TEXT, min_size=1, max_size=3)}),
        "deploy": st.fixed_dictionaries(
            {},
            optional={
                "replicas": st.integers(0, 9),
                "labels": PAIRS,
                "update_config": st.fixed_dictionaries({"parallelism": st.integers(0, 3)}),
            },
        ),
    },
)


@settings(max_examples=300)
@given(PROPER)
def test_whatever_can_be_said_arrives_as_it_was_meant(service: dict[str, Any]) -> None:
    """What the command line reads, with its ``$`` halved, is what Compose would have run."""
    found = draft(service, configs={"c": {"content": "x"}})
    file = stack_file.of(found, {("configs", "c"): b"x"}, SALT)
    document = yaml.safe_load(file.text)
    SCHEMA.validate(document)
    written = document["services"]["a"]
    for key in ("command", "entrypoint", "image"):
        assert (written.get(key) or []) == (service.get(key) or [])
    environment = written.get("environment") or {}
    given_values = service.get("environment") or {}
    assert environment.keys() == given_values.keys()
    for name, value in environment.items():
        if isinstance(given_values[name], str | None):
            assert value == given_values[name]


@settings(max_examples=300)
@given(
    st.dictionaries(
        st.sampled_from(sorted({*service_keys.PASSED, *_ELSEWHERE})) | NAMES, ANY, max_size=4
    )
)
def test_nothing_is_left_out_without_a_word(service: dict[str, Any]) -> None:
    """Whatever a model holds is written in the schema, told of, or stops the deploy."""
    try:
        found = draft(service)
    except (ValueError, TypeError, AttributeError, LookupError):
        return  # no model that Compose would print
    written = found.document["services"]["a"]
    told = {each.path[2] for each in found.violations if len(each.path) > 2}
    for key, value in service.items():
        if value in (None, "", [], {}, False, 0) or key.startswith("x-"):
            continue
        moved = {"tmpfs": "volumes", "mem_limit": "deploy", "cpus": "deploy"}.get(key, key)
        silent = key in service_keys.MEANINGLESS
        assert key in told or moved in written or silent or key.startswith(("pids", "mem_r"))
