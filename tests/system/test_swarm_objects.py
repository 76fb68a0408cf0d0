"""Configs, secrets and a stack's file, as a Swarm and Docker's own command line take them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import pytest
import yaml

from agent.adapters.compose.compose import Compose
from agent.adapters.compose.invocation import Invocation
from agent.adapters.engine.engine import Engine
from agent.adapters.swarm import cluster, objects
from agent.adapters.tasks import task_group
from agent.control.swarm import objects as pruning
from agent.domain.errors import PermanentError
from agent.domain.swarm import stack_file, unused
from agent.domain.swarm.stack_file import ObjectWanted
from tests.unit import builders
from tests.values import replace

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from agent.domain.swarm.model import Kind
    from tests.sandbox import Swarm
    from tests.system.conftest import Fleet

SALT = "of the cluster"
CONFIG = ObjectWanted(kind="configs", name="web_page_0123456789ab", content=b"one", stack="web")
SECRET = ObjectWanted(kind="secrets", name="web_key_0123456789ab", content=b"hunter2", stack="web")


def asked(swarm: Swarm, work: Callable[[Engine], Awaitable[Any]]) -> Any:
    async def main() -> Any:
        async with Engine(swarm.engine.host) as engine:
            return await work(engine)

    return anyio.run(main)


def made(swarm: Swarm, kind: Kind) -> dict[str, dict[str, Any]]:
    return {each["Spec"]["Name"]: each for each in swarm.engine.api("GET", f"/{kind}")}


def test_objects_are_made_once_also_by_two_managers_at_a_time(swarm: Swarm, fleet: Fleet) -> None:
    del fleet
    wanted = [CONFIG, replace(SECRET, labels={"own": "x"}), replace(CONFIG, name="web_b_1")]

    async def both(engine: Engine) -> None:
        async with task_group() as tasks:
            for _ in range(4):
                tasks.start_soon(objects.provide, engine, wanted)

    asked(swarm, both)
    config, secret = made(swarm, "configs"), made(swarm, "secrets")
    assert config.keys() == {CONFIG.name, "web_b_1"}
    assert secret.keys() == {SECRET.name}
    ours = {"com.docker.stack.namespace": "web", "io.commitd.stack": "web"}
    assert config[CONFIG.name]["Spec"]["Labels"] == ours
    assert secret[SECRET.name]["Spec"]["Labels"] == {**ours, "own": "x"}
    asked(swarm, lambda engine: objects.provide(engine, wanted))
    assert made(swarm, "configs") == config
    found = asked(swarm, partial(objects.ours, stack="web"))
    assert [(each.kind, each.name) for each in found] == [
        ("configs", "web_b_1"), ("configs", CONFIG.name), ("secrets", SECRET.name),
    ]  # fmt: skip
    assert not asked(swarm, partial(objects.ours, stack="other"))


def test_the_name_of_a_secret_that_somebody_else_has_made_is_refused(
    swarm: Swarm, fleet: Fleet, caplog: pytest.LogCaptureFixture
) -> None:
    del fleet
    spec = {"Name": SECRET.name, "Data": "eA==", "Labels": {}}
    swarm.engine.api("POST", "/secrets/create", spec)
    with pytest.raises(PermanentError, match="commitd has not made it") as err:
        asked(swarm, lambda engine: objects.provide(engine, [SECRET]))
    assert "hunter2" not in f"{err.value!r}{err.getrepr()}{caplog.text}"


def test_what_the_engine_refuses_to_make_quotes_no_content(swarm: Swarm, fleet: Fleet) -> None:
    del fleet
    large = replace(SECRET, content=b"hunter2" * 100_000)
    with pytest.raises(PermanentError) as err:
        asked(swarm, lambda engine: objects.provide(engine, [large]))
    assert "hunter2" not in str(err.value)
    assert "aHVudGVyM" not in str(err.value), "base64 of it"


def test_only_what_the_agent_has_made_and_nothing_uses_is_removed(
    swarm: Swarm, fleet: Fleet
) -> None:
    by_key = {
        key: replace(CONFIG, name=f"web_{key}_1", content=key.encode())
        for key in ("now", "before", "unused", "released")
    }
    other = replace(CONFIG, name="other_page_1", stack="other")
    asked(swarm, lambda engine: objects.provide(engine, [*by_key.values(), SECRET, other]))
    by_hand = {
        "Name": "web_by_hand",
        "Data": "eA==",
        "Labels": {"com.docker.stack.namespace": "web"},
    }
    swarm.engine.api("POST", "/configs/create", by_hand)
    ids = {name: each["ID"] for name, each in made(swarm, "configs").items()}

    def using(spec: dict[str, Any], name: str) -> None:
        file = {"Name": "/x", "UID": "0", "GID": "0", "Mode": 292}
        used = {"ConfigID": ids[name], "ConfigName": name, "File": file}
        spec["TaskTemplate"]["ContainerSpec"]["Configs"] = [used]

    swarm.create("web_app", fleet.idle, replicas=0)
    swarm.update("web_app", lambda spec: using(spec, "web_before_1"))
    swarm.update("web_app", lambda spec: using(spec, "web_now_1"))
    (service,) = asked(swarm, cluster.services)
    assert unused.names(service.spec) == ("web_now_1",)
    gone = asked(swarm, lambda engine: pruning.prune(engine, "web", {"web_released_1"}))
    assert set(gone) == {"web_unused_1", SECRET.name}
    left = {"web_now_1", "web_before_1", "web_released_1", "other_page_1", "web_by_hand"}
    assert made(swarm, "configs").keys() == left
    assert not made(swarm, "secrets")


def test_what_a_service_uses_by_now_is_not_removed(swarm: Swarm, fleet: Fleet) -> None:
    asked(swarm, lambda engine: objects.provide(engine, [SECRET]))
    (found,) = asked(swarm, objects.ours)
    file = {"Name": "x", "UID": "0", "GID": "0", "Mode": 292}
    used = {"SecretID": found.id, "SecretName": found.name, "File": file}
    container = {"Image": fleet.idle, "Secrets": [used]}
    swarm.create("web_app", fleet.idle, replicas=0, TaskTemplate={"ContainerSpec": container})
    assert asked(swarm, lambda engine: objects.remove(engine, found)) is False
    swarm.clear()
    gone = replace(found, id="of-none")
    assert asked(swarm, lambda engine: objects.remove(engine, gone)) is True


RICH = """
services:
  app:
    image: IMAGE
    command: [sleep, "1000", "$$HOME $${X}"]
    environment: {A: "x$$y", EMPTY: "", N: 5, T: true}
    ports: [{target: 80, published: 8080, mode: host}]
    configs: [{source: page, target: /www/index.html, mode: 0440, uid: "1", gid: "2"}, inline]
    secrets: [key, {source: outside, target: other}]
    volumes:
      - {type: bind, source: /etc/localtime, target: /etc/localtime, read_only: true}
      - {type: volume, source: data, target: /data, volume: {nocopy: true}}
      - {type: tmpfs, target: /t, tmpfs: {size: 64m}}
    tmpfs: [/run]
    networks: {back: {aliases: [other]}}
    extra_hosts: ["a:1.2.3.4", "v6=[::1]"]
    sysctls: {net.core.somaxconn: 1024}
    ulimits: {nproc: 65535, nofile: {soft: 20000, hard: 40000}}
    cap_add: [NET_ADMIN]
    cap_drop: [ALL]
    labels: {a: "1"}
    logging: {driver: json-file, options: {max-size: 10m, max-file: "3"}}
    stop_grace_period: 90s
    stop_signal: SIGUSR1
    init: true
    dns: 1.1.1.1
    dns_search: [x.y]
    hostname: "{{.Node.Hostname}}"
    user: "1000"
    read_only: true
    restart: on-failure:3
    healthcheck: {test: "true", interval: 90s, timeout: 1s, retries: 3, start_period: 1m}
    deploy:
      replicas: 0
      labels: {x: 1}
      endpoint_mode: dnsrr
      update_config: {parallelism: 0, delay: 1s, failure_action: rollback, monitor: 5s,
        max_failure_ratio: 0.5, order: start-first}
      rollback_config: {parallelism: 2}
      placement: {constraints: [node.hostname == nowhere], max_replicas_per_node: 1,
        preferences: [{spread: node.labels.zone}]}
      resources:
        limits: {cpus: "0.50", memory: 512m, pids: 300}
        reservations: {memory: 20M,
          generic_resources: [{discrete_resource_spec: {kind: gpu, value: 2}}]}
  each:
    image: IMAGE
    networks: [host]
    deploy: {mode: global, placement: {constraints: [node.hostname == nowhere]}}
networks:
  back: {attachable: true, internal: true, driver_opts: {a: b}, labels: {c: d},
    ipam: {config: [{subnet: 10.91.0.0/24}]}}
  host: {external: true, name: host}
volumes:
  data: {labels: {e: f}}
configs:
  page: {file: ./page.html}
  inline: {content: "hello $$x"}
secrets:
  key: {environment: KEY}
  outside: {external: true, name: made_by_hand}
"""
EXPECTED = """
EndpointSpec:
  Mode: dnsrr
  Ports: [{Protocol: tcp, PublishMode: host, PublishedPort: 8080, TargetPort: 80}]
Labels: {com.docker.stack.image: IMAGE, com.docker.stack.namespace: web,
  io.commitd.stack: web, x: "1"}
Mode: {Replicated: {Replicas: 0}}
Name: web_app
RollbackConfig: {Parallelism: 2}
UpdateConfig: {Delay: 1000000000, FailureAction: rollback, MaxFailureRatio: 0.5,
  Monitor: 5000000000, Order: start-first, Parallelism: 0}
TaskTemplate:
  ContainerSpec:
    Args: [sleep, "1000", "$HOME ${X}"]
    CapabilityAdd: [CAP_NET_ADMIN]
    CapabilityDrop: [ALL]
    Configs:
    - {File: {GID: "0", Mode: 292, Name: /inline, UID: "0"}, Name: web_inline}
    - {File: {GID: "2", Mode: 288, Name: /www/index.html, UID: "1"}, Name: web_page}
    DNSConfig: {Nameservers: [1.1.1.1], Search: [x.y]}
    Env: [A=x$y, EMPTY=, N=5, T=true]
    Healthcheck: {Interval: 90000000000, Retries: 3, StartPeriod: 60000000000, Timeout: 1000000000,
      Test: [CMD-SHELL, "true"]}
    Hostname: "{{.Node.Hostname}}"
    Hosts: [1.2.3.4 a, "::1 v6"]
    Image: IMAGE
    Init: true
    Labels: {a: "1", com.docker.stack.namespace: web}
    Mounts:
    - {ReadOnly: true, Source: /etc/localtime, Target: /etc/localtime, Type: bind}
    - {Source: web_data, Target: /data, Type: volume, VolumeOptions: {NoCopy: true,
        Labels: {com.docker.stack.namespace: web, e: f}}}
    - {Target: /t, TmpfsOptions: {SizeBytes: 67108864}, Type: tmpfs}
    - {Target: /run, Type: tmpfs}
    ReadOnly: true
    Secrets:
    - {File: {GID: "0", Mode: 292, Name: other, UID: "0"}, Name: made_by_hand}
    - {File: {GID: "0", Mode: 292, Name: key, UID: "0"}, Name: web_key}
    StopGracePeriod: 90000000000
    StopSignal: SIGUSR1
    Sysctls: {net.core.somaxconn: "1024"}
    Ulimits: [{Hard: 40000, Name: nofile, Soft: 20000}, {Hard: 65535, Name: nproc, Soft: 65535}]
    User: "1000"
  LogDriver: {Name: json-file, Options: {max-file: "3", max-size: 10m}}
  Networks: [{Aliases: [other, app], Target: web_back}]
  Placement: {Constraints: [node.hostname == nowhere], MaxReplicas: 1,
    Preferences: [{Spread: {SpreadDescriptor: node.labels.zone}}]}
  Resources:
    Limits: {MemoryBytes: 536870912, NanoCPUs: 500000000, Pids: 300}
    Reservations: {MemoryBytes: 20971520,
      GenericResources: [{DiscreteResourceSpec: {Kind: gpu, Value: 2}}]}
  RestartPolicy: {Condition: on-failure, MaxAttempts: 3}
"""
"""What the engine has of it; newer ones have more."""


def _part(expected: Any, found: Any) -> Any:
    """Of what was ``found`` all that the other one names."""
    if isinstance(expected, dict) and isinstance(found, dict):
        return {key: _part(value, found.get(key)) for key, value in expected.items()}
    if isinstance(expected, list) and isinstance(found, list) and len(expected) == len(found):
        return [_part(*pair) for pair in zip(expected, found, strict=True)]
    return found


def test_docker_stack_deploy_makes_of_the_file_what_compose_would_have_meant(
    fleet: Fleet, swarm: Swarm, tmp_path: Path
) -> None:
    swarm.engine.api("POST", "/secrets/create", {"Name": "made_by_hand", "Data": "eA=="})
    place = tmp_path / "stacks/web"
    place.mkdir(parents=True)
    (place / "compose.yaml").write_text(RICH.replace("IMAGE", fleet.idle))
    (place / "page.html").write_text("<html>")
    call = Invocation(stack=builders.stack("web"), root=tmp_path, secrets={"KEY": "hunter2"})
    model = anyio.run(Compose(fleet.box.compose, "unix:///nowhere", 60).resolve, call).model
    draft = stack_file.read("web", model, str(tmp_path))
    assert [each.message.split(":")[1].strip() for each in draft.violations] == ["restart"]
    contents = {("configs", "page"): b"<html>", ("secrets", "key"): b"hunter2"}
    contents |= {("configs", each.key): each.content for each in draft.sources if each.content}
    file = stack_file.of(draft, contents, SALT)  # type: ignore[arg-type]
    asked(swarm, lambda engine: objects.provide(engine, file.objects))
    words = ("stack", "deploy", "--resolve-image", "never", "-c", "-", "web")
    swarm.engine.run(*words, stdin=file.text.decode())
    made_of = {name: service["Spec"] for name, service in swarm.services("web").items()}
    expected = yaml.safe_load(EXPECTED.replace("IMAGE", fleet.idle))
    networks = {n["Id"]: n for n in swarm.engine.api("GET", "/networks")}
    app = made_of["web_app"]
    container = app["TaskTemplate"]["ContainerSpec"]
    for key in ("Configs", "Secrets"):
        for each in container[key]:
            each.pop(f"{key[:-1]}ID")
            name = each.pop(f"{key[:-1]}Name")
            each["Name"] = name.rsplit("_", 1)[0] if name != "made_by_hand" else name
            # Compose 2.24 leaves a secret's target to the engine.
            each["File"]["Name"] = each["File"]["Name"].removeprefix("/run/secrets/")
    for each in app["TaskTemplate"]["Networks"]:
        each["Target"] = networks[each["Target"]]["Name"]
    assert _part(expected, app) == expected
    assert made_of["web_each"]["Mode"] == {"Global": {}}
    back = next(each for each in networks.values() if each["Name"] == "web_back")
    assert back["Driver"] == "overlay"
    assert back["Internal"]
    assert back["Attachable"]
    assert back["Labels"] == {
        "c": "d", "io.commitd.stack": "web", "com.docker.stack.namespace": "web",
    }  # fmt: skip
    before = swarm.services("web")
    swarm.engine.run(*words, stdin=file.text.decode())
    after = swarm.services("web")
    assert {name: s["Spec"] for name, s in after.items()} == {
        n: s["Spec"] for n, s in before.items()
    }
