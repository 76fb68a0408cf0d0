"""A stack that runs in a Swarm, as files of the repository."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from agent.adapters.swarm.cluster import service_of
from agent.domain.adopt import convert_stack, stack_comparison
from agent.domain.adopt.running_stack import RunningConfig, RunningNetwork, RunningStack
from agent.domain.errors import PermanentError
from agent.domain.swarm.model import EVICTED, STACK

_DIGEST = "sha256:" + "a" * 64
_IMAGE = f"nginx:1.27@{_DIGEST}"
_OURS = {STACK: "web"}


def _service(name: str = "app", mode: Any = None, **container: Any) -> dict[str, Any]:
    return {
        "Name": f"web_{name}",
        "Labels": {**_OURS, "com.docker.stack.image": "nginx:1.27"},
        "Mode": mode or {"Replicated": {"Replicas": 2}},
        "TaskTemplate": {
            "ContainerSpec": {"Image": _IMAGE, "Labels": _OURS, **container},
            "Networks": [{"Target": "n1", "Aliases": [name]}],
            "ForceUpdate": 3,
            "Runtime": "container",
        },
        "EndpointSpec": {"Mode": "vip"},
    }


def _stack(*specs: dict[str, Any], **more: Any) -> RunningStack:
    services = [
        service_of({"ID": f"s{i}", "Version": {"Index": 1}, "Spec": spec})
        for i, spec in enumerate(specs)
    ]
    default = RunningNetwork(name="web_default", driver="overlay", labels=_OURS, options={})
    return RunningStack(
        name="web",
        services=tuple(services),
        **{"networks": {"n1": default}, "configs": {}, "pins": {}, **more},
    )


def _written(stack: RunningStack) -> Any:
    return yaml.safe_load(convert_stack.convert(stack).files["stacks/web/compose.yaml"])


def test_a_plain_service_becomes_the_lines_that_somebody_wrote() -> None:
    found = convert_stack.convert(_stack(_service()))
    assert yaml.safe_load(found.files["stacks/web/compose.yaml"]) == {
        "services": {"app": {"image": _IMAGE, "deploy": {"replicas": 2}}}
    }
    assert found.moved_tasks == {}


def test_values_keep_their_dollars_and_secret_ones_leave_the_file() -> None:
    env = ["A=$HOME", "B_PASSWORD=hunter$2", "C="]
    found = convert_stack.convert(
        _stack(_service(Env=env, Args=["echo", "$A"]), _service("side", Env=["B_PASSWORD=other"]))
    )
    services = yaml.safe_load(found.files["stacks/web/compose.yaml"])["services"]
    assert services["app"]["environment"] == {"A": "$$HOME", "B_PASSWORD": "${B_PASSWORD}", "C": ""}
    assert services["app"]["command"] == ["echo", "$$A"]
    assert services["side"]["environment"] == {"B_PASSWORD": "${V_SIDE_B_PASSWORD}"}
    assert found.secrets == {
        "stacks/web/web.secret.env": {"B_PASSWORD": "hunter$2", "V_SIDE_B_PASSWORD": "other"}
    }


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        (_service(Groups=["99"]), "has no word for TaskTemplate.ContainerSpec.Groups"),
        (_service(mode={"ReplicatedJob": {"TotalCompletions": 1}}), "it is a job"),
        (_service(Image="nginx:1.27"), "nobody here knows the digest of nginx:1.27"),
        (_service(Hosts=["10.0.0.1 a b"]), "several names of one address"),
        (_service(Env=["A=1", "A=2"]), "a variable is set twice"),
        (_service(DB_PASSWORD=1), "has no word for TaskTemplate.ContainerSpec.DB_PASSWORD"),
        (_service(Env=["A_PASSWORD=two\nlines"]), "the value of A_PASSWORD has line breaks"),
        (_service(Mounts=[{"Type": "npipe", "Source": "x", "Target": "y"}]), "the type npipe"),
        ({**_service(), "Labels": {**_OURS, EVICTED: "{}"}}, "it was evicted"),
    ],
)
def test_what_a_file_cannot_say_is_refused_and_no_value_is_told(
    spec: dict[str, Any], said: str
) -> None:
    with pytest.raises(PermanentError) as caught:
        convert_stack.convert(_stack(spec))
    assert said in str(caught.value)
    assert "two" not in str(caught.value)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        (_service(Image=f"nginx@{_DIGEST}"), "its image is named by tag and digest"),
        (_service(Env=["B=1", "A=2"]), "its variables come in the order of their names"),
        (_service(Labels={}), "its containers get the label of the stack"),
    ],
)
def test_what_replaces_tasks_is_said(spec: dict[str, Any], said: str) -> None:
    assert convert_stack.convert(_stack(spec)).moved_tasks == {"app": [said]}


def test_configs_come_from_git_unless_they_look_secret_and_secrets_stay() -> None:
    def use(kind: str, name: str) -> dict[str, Any]:
        file = {"Name": f"/{name}", "UID": "0", "GID": "0", "Mode": 0o444}
        return {"File": file, f"{kind}ID": name, f"{kind}Name": f"web_{name}"}

    spec = _service(
        Configs=[use("Config", "conf"), use("Config", "key")], Secrets=[use("Secret", "word")]
    )
    configs = {
        "conf": RunningConfig(name="web_conf", labels=_OURS, content=b"a = 1\n"),
        "key": RunningConfig(name="web_key", labels=_OURS, content=b'{"api_token": "hunter2"}'),
    }
    found = convert_stack.convert(_stack(spec, configs=configs))
    data = yaml.safe_load(found.files["stacks/web/compose.yaml"])
    assert data["configs"] == {
        "conf": {"file": "./configs/conf"},
        "key": {"external": True, "name": "web_key"},
    }
    assert data["secrets"] == {"word": {"external": True, "name": "web_word"}}
    assert found.files["stacks/web/configs/conf"] == b"a = 1\n"
    assert not any(b"hunter2" in content for content in found.files.values())
    assert found.moved_tasks == {"app": ["its config web_conf comes from Git"]}


def test_networks_of_others_are_external_and_chosen_addresses_stay() -> None:
    net = RunningNetwork(
        name="web_net", driver="overlay", labels=_OURS, options={}, subnets=("10.88.0.0/24",)
    )
    other = RunningNetwork(name="shared", driver="overlay", labels={}, options={})
    spec = _service()
    spec["TaskTemplate"]["Networks"] = [
        {"Target": "n1", "Aliases": ["app"]},
        {"Target": "n2", "Aliases": ["db", "app"]},
    ]
    data = _written(_stack(spec, networks={"n1": net, "n2": other}))
    assert data["services"]["app"]["networks"] == {"net": None, "shared": {"aliases": ["db"]}}
    assert data["networks"] == {
        "net": {"ipam": {"config": [{"subnet": "10.88.0.0/24"}]}},
        "shared": {"external": True, "name": "shared"},
    }


def test_another_order_of_hosts_is_a_difference() -> None:
    spec = _service(Hosts=["10.0.0.1 b", "10.0.0.2 a"])
    section = {"image": _IMAGE, "extra_hosts": ["a:10.0.0.2", "b:10.0.0.1"]}
    assert stack_comparison.different(spec, section) == ["extra_hosts"]
    section["extra_hosts"] = ["b:10.0.0.1", "a:10.0.0.2"]
    assert stack_comparison.different(spec, section) == []
