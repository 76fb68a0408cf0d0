"""Compose that is given a model makes the same of it as of the files: nothing is recreated."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from agent.adapters.compose.compose import Compose
from agent.adapters.compose.invocation import Invocation
from agent.control.stack.ready import Ready, accept
from agent.domain.container import CONFIG_HASH, WORKING_DIR
from agent.domain.errors import PermanentError
from agent.domain.outcome import Pins
from agent.domain.repository.fleet_policy import Policy
from tests.unit import builders
from tests.values import replace

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.system.conftest import Fleet

MAIN = "stacks/web/compose.yaml"
FILES_LABEL = "com.docker.compose.project.config_files"
SINCE = {"raw": (2, 30), "label_file": (2, 33)}
"""Versions of Compose that know a key."""

_SERVICES = """
name: other
x-base: &base {image: IDLE, network_mode: host, init: true}
services:
  app:
    image: IDLE
    restart: unless-stopped
    command: [sh, -c, 'echo $$HOME "$$$$" ${A}; sleep 60']
    environment: {A: "${A}", B: 'a$$b', C: "", D: , PASSED: , DIR: "${PWD}", N: "1.0", T: "true"}
    env_file: [app.env, {path: absent.env, required: false}]
    labels: {"a.b": "x $$ y", "with$$key": v, "${A}": "${A}", empty: ""}
    volumes:
      - ./data:/data
      - ../../common:/common:ro
      - named:/named
      - /anonymous
      - {type: tmpfs, target: /tmp/x, tmpfs: {size: 1m}}
      - {type: bind, source: ./one, target: /one, bind: {create_host_path: false}}
    tmpfs: [/run/x]
    ports: ["8080-8081:80-81", "127.0.0.1:9090:90/udp"]
    expose: [1234]
    networks: {default: {aliases: [alias]}, back: {ipv4_address: 10.123.0.9}}
    extra_hosts: ["a.example:10.0.0.1", "b.example=10.0.0.2"]
    dns: 10.0.0.3
    ulimits: {nofile: {soft: 100, hard: 200}, nproc: 50}
    sysctls: {net.core.somaxconn: 128}
    cap_add: [NET_ADMIN]
    security_opt: ["no-new-privileges:true"]
    logging: {driver: json-file, options: {max-size: 10m}}
    healthcheck: {test: "true", interval: 1m30s, retries: 3, start_period: 5s}
    stop_grace_period: 90s
    shm_size: 16m
    configs: [{source: file, target: /etc/file}, content]
    secrets: [plain, variable, {source: shown, uid: "33", mode: 0440}]
    depends_on:
      db: {condition: service_started}
      off: {condition: service_started, required: false}
    deploy:
      resources: {limits: {pids: 50, cpus: "0.5", memory: 64m}}
      restart_policy: {condition: any}
    x-own: {a: 1}
  db: {<<: *base, env_file: app.env, hostname: "db-${A:-none}", scale: 2, cpus: 0.5, mem_limit: 64m}
  twice: {<<: *base, deploy: {replicas: 2}, stop_signal: SIGINT}
  off: {<<: *base, profiles: [debug]}
  extended:
    extends: {file: ../../common/base.yaml, service: base}
    environment: [OWN=1, A]
  joined: {image: IDLE, network_mode: "service:app", pid: "service:app"}
networks: {back: {ipam: {config: [{subnet: 10.123.0.0/24}]}, labels: {a: b}}}
volumes:
  named: {labels: {a: "$$b"}}
  bound: {driver: local, driver_opts: {o: bind, type: none, device: ./bound}}
configs: {file: {file: ./one}, content: {content: "a=${A} $$b\\n"}}
secrets: {plain: {file: ./one}, variable: {environment: TOKEN}, shown: {environment: A}}
"""
FILES = {
    MAIN: "include: [part/part.yaml]\n" + _SERVICES,
    "stacks/web/part/part.yaml": (
        "services: {part: {image: IDLE, volumes: ['./x:/x'], labels: {w: '${W}'}}}\n"
    ),
    "stacks/web/part/.env": "W=of the include\n",
    "stacks/web/.env": 'A=one\nPASSED=on\nB="two ${A}\nlines"\n',
    "stacks/web/app.env": (
        "FROM_FILE=\"x $A\" # no\na-b=c\nspring.url='$A'\nPASSED\nSAME=${FROM_FILE}\n"
    ),
    "stacks/web/one": "1\n",
    "stacks/web/bound/x": "x\n",
    "stacks/web/data/x": "x\n",
    "stacks/web/part/x/x": "x\n",
    "common/x": "x\n",
    "common/base.yaml": (
        "services: {base: {image: IDLE, network_mode: host, volumes: ['./x:/y']}}\n"
    ),
}  # fmt: skip
JOINED = {"joined"}
"""Its hash is that of the model with the ID of the container that it joins."""
SECRETS = {"TOKEN": "s$e c'r\"et", "DOCKER_CONTENT_TRUST": "0", "SAME": "another"}


class Both:
    """One stack in two trees. By hand Compose reads files of the checkout, as for older agents."""

    def __init__(self, fleet: Fleet, root: Path, files: Mapping[str, str]) -> None:
        self.fleet = fleet
        self.checkout = root / "repo"
        self.hashes: dict[str, str] = {}
        fleet.box.engine.pull(fleet.idle)
        for path, content in files.items():
            place = self.checkout / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(content.replace("IDLE", fleet.idle))
        shutil.copytree(self.checkout, root / "export")
        self.call = Invocation(
            stack=replace(builders.stack("web"), policy=Policy(pins=Pins.WARN)),
            root=root / "export",
            checkout=self.checkout,
            env_files=(root / "export/stacks/web/.env",),
            secrets=SECRETS,
            names=frozenset({"A", "B", "PASSED", *SECRETS}),
        )

    def by_hand(self, *words: str) -> None:
        directory = self.checkout / "stacks/web"
        argv: list[str | Path] = [
            "-p",
            "web",
            "-f",
            directory / "compose.yaml",
            "--project-directory",
            directory,
        ]
        env = {**SECRETS, "DOCKER_HOST": self.fleet.box.engine.host, "PWD": str(directory)}
        subprocess.run(
            [self.fleet.box.compose, *argv, "--env-file", directory / ".env", *words],
            env=env, cwd=directory, check=True, stdin=subprocess.DEVNULL, timeout=120,
        )  # fmt: skip

    def given(self, *, start: bool = False) -> Ready:
        """Let the agent's Compose do what differs."""
        compose = Compose(self.fleet.box.compose, self.fleet.box.engine.host, 120)

        async def create() -> Ready:
            ready = await accept(compose, self.call)
            do = compose.up if start else compose.create
            await do(ready.invocation, ready.model)
            hashes = await compose.hashes(ready.invocation, ready.model)
            self.hashes = {name: each for name, each in hashes.items() if name not in JOINED}
            return ready

        return anyio.run(create)

    def made(self) -> dict[str, str]:
        """The names of the containers with their IDs, and the networks and volumes with theirs."""
        engine = self.fleet.box.engine
        there = {c["Names"][0]: c["Id"] for c in engine.containers()}
        there |= {n["Name"]: n["Id"] for n in engine.api("GET", "/networks")}
        volumes = engine.api("GET", "/volumes")["Volumes"] or ()
        return there | {v["Name"]: v["CreatedAt"] for v in volumes}

    def raws(self, service: str) -> list[dict[str, Any]]:
        engine = self.fleet.box.engine
        raws = [engine.inspect(c["Id"]) for c in engine.containers()]
        wanted = "com.docker.compose.service", service
        found = [raw for raw in raws if raw["Config"]["Labels"][wanted[0]] == wanted[1]]
        return sorted(found, key=lambda raw: raw["Name"])

    def labels(self, service: str) -> dict[str, str]:
        return dict(self.raws(service)[0]["Config"]["Labels"])


@pytest.fixture
def both(fleet: Fleet, tmp_path: Path) -> Both:
    return Both(fleet, tmp_path, FILES)


def test_nothing_is_recreated_that_was_made_from_the_files(both: Both) -> None:
    both.by_hand("up", "--no-start")
    before = both.made()
    both.given()
    assert both.made() == before
    if both.fleet.compose_is_older_than(2, 28):
        return  # what it prints differs from its label where a variable is named without a value
    for name, found in both.hashes.items():
        assert found == both.labels(name)[CONFIG_HASH], name


def test_the_containers_are_those_that_the_files_would_have_made(both: Both) -> None:
    both.given()
    services = ("app", "db", "part", "extended", "twice")
    first = {name: both.raws(name) for name in services}
    before = both.made()
    both.by_hand("up", "--no-start")
    assert both.made() == before
    both.by_hand("up", "--no-start", "--force-recreate")
    for name in services:
        for twin, raw in zip(both.raws(name), first[name], strict=True):
            now, then = _shape(twin), _shape(raw)
            for key in then:
                assert {k: v for k, v in now[key].items() if v != then[key].get(k)} == {}, name
    (app,) = first["app"]
    environment = dict(pair.partition("=")[::2] for pair in app["Config"]["Env"])
    assert environment["spring.url"] == "$A"
    assert environment["PASSED"] == "on"
    assert environment["DIR"] == str(both.checkout / "stacks/web")
    assert environment["FROM_FILE"] == environment["SAME"] == "x one"
    assert app["Config"]["Labels"][WORKING_DIR] == str(both.checkout / "stacks/web")
    assert app["Config"]["Labels"][FILES_LABEL] == "-"


def test_what_variables_give_is_in_the_containers(fleet: Fleet, tmp_path: Path) -> None:
    service = "configs: [content, given]\n    secrets: [secret, shown, DOCKER]\n"
    tops = {
        "configs": '{content: {content: "a=${A} $$b"}, given: {environment: B}}',
        "secrets": "{secret: {environment: TOKEN}, shown: {environment: A}, DOCKER: {environment: "
        "DOCKER_CONTENT_TRUST}}",
    }
    lines = "".join(f"{key}: {value}\n" for key, value in tops.items())
    text = f"services:\n  app:\n    image: IDLE\n    network_mode: host\n    {service}{lines}"
    both = Both(fleet, tmp_path, {MAIN: text, "stacks/web/.env": FILES["stacks/web/.env"]})
    both.given(start=True)
    expected = {
        "/run/secrets/secret": SECRETS["TOKEN"], "/run/secrets/shown": "one",
        "/run/secrets/DOCKER": "0", "/content": "a=one $b", "/given": "two one\nlines",
    }  # fmt: skip
    for path, content in expected.items():
        assert fleet.box.engine.run("exec", "web-app-1", "cat", path) == content


def test_a_variable_that_nothing_sets_is_said_before_anything_is_touched(
    fleet: Fleet, tmp_path: Path
) -> None:
    text = "services: {app: {image: IDLE, secrets: [s]}}\nsecrets: {s: {environment: NOWHERE}}\n"
    both = Both(fleet, tmp_path, {MAIN: text, "stacks/web/.env": ""})
    with pytest.raises(PermanentError, match="secrets: s: nothing sets the variable NOWHERE"):
        both.given()


def _shape(raw: dict[str, Any]) -> dict[str, Any]:
    """What of a container is the same in its twin."""
    labels = {k: v for k, v in raw["Config"]["Labels"].items() if k not in _OTHERS}
    labels[_AFTER] = sorted(labels[_AFTER].split(","))
    left = {"NetworkMode", "PidMode", "Mounts"}  # with IDs; mounts are compared below
    host = {k: _sorted(v) for k, v in raw["HostConfig"].items() if k not in left}
    mounts = sorted(
        (m["Type"], m["Destination"], m["Source"], m["RW"])
        for m in raw["Mounts"]
        if m["Destination"] != "/anonymous"
    )
    networks = raw["NetworkSettings"]["Networks"]
    own = {"Labels": labels, "Env": sorted(raw["Config"]["Env"] or ()), "Hostname": ""}
    return {
        "config": raw["Config"] | own,
        "host": host,
        "mounts": {mount[1]: mount for mount in mounts},
        "networks": {name: network["IPAMConfig"] for name, network in networks.items()},
    }


def _sorted(value: Any) -> Any:
    return sorted(value, key=repr) if isinstance(value, list) else value


_AFTER = "com.docker.compose.depends_on"
_OTHERS = {FILES_LABEL, "com.docker.compose.project.environment_file", "com.docker.compose.replace"}
