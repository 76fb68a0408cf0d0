"""A Swarm of one node from its first commit on, as its owner lives with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.sandbox.process import wait_until
from tests.sandbox.swarm import stack_file

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.sandbox import Swarm
    from tests.sandbox.host import Host, RunningAgent
    from tests.system.conftest import Fleet

LIST = "host/prod/stacks.yaml"
WEB, CONF = "stacks/web/compose.yaml", "stacks/web/web.conf"
DATA, WORD = "stacks/data/compose.yaml", "stacks/data/word.secret.key"


class _Life:
    """Its repository, its agent, and how many tasks each service is to have."""

    def __init__(self, fleet: Fleet, swarm: Swarm, host: Host) -> None:
        self.fleet, self.swarm, self.host = fleet, swarm, host
        self.running = {"web_app": 2, "web_proxy": 1, "data_db": 1, "data_cache": 1}

    def web(self, image: str) -> dict[str, str]:
        """The stack's file with this image."""
        conf = {"source": "conf", "target": "/conf"}
        app = {"image": image, "deploy": {"replicas": 2}}
        proxy = {"image": self.fleet.idle, "configs": [conf]}
        configs = {"conf": {"file": "./web.conf"}}
        return {WEB: stack_file({"app": app, "proxy": proxy}, configs=configs)}

    def data(self) -> dict[str, str]:
        secrets = {"word": {"file": "./.decrypted.word.secret.key"}}
        db = {"image": self.fleet.idle, "secrets": ["word"]}
        return {DATA: stack_file({"db": db, "cache": {"image": self.fleet.idle}}, secrets=secrets)}

    def word(self, text: str) -> dict[str, bytes]:
        return {WORD: self.fleet.box.encrypt(f"{text}\n".encode(), kind="binary")}

    def becomes(self, agent: RunningAgent, files: Mapping[str, str | bytes]) -> None:
        """Commit, and wait until it is so."""
        sha = self.fleet.commit("more", files)
        agent.says(f"in sync with {sha[:7]}", timeout_s=120)
        self.swarm.wait_for(self.running)

    def tasks(self, *but: str) -> dict[str, frozenset[str]]:
        """Of all services but these."""
        return {name: ids for name, ids in self.swarm.task_ids().items() if name not in but}

    def inside(self, service: str, path: str) -> str:
        """A file as the only task of the service sees it."""
        (task,) = self.swarm.tasks(service)
        container = task["Status"]["ContainerStatus"]["ContainerID"]
        return self.swarm.engine.run("exec", container, "cat", path)


def test_a_swarm_is_kept_as_declared_and_says_what_it_did(fleet: Fleet, swarm: Swarm) -> None:
    host = fleet.manager()
    life = _Life(fleet, swarm, host)
    files = {LIST: "- data\n- web\n", CONF: "one\n", **life.web(fleet.idle), **life.data()}
    fleet.commit("begun", {LIST: "[]\n"})  # or the agent would see what the test before has pushed
    fleet.workspace.write(files)
    with host.running() as agent:
        life.becomes(agent, life.word("canary-one"))
        assert life.inside("web_proxy", "/conf") == "one\n"
        assert life.inside("data_db", "/run/secrets/word") == "canary-one\n"
        _new_words(life, agent)
        _a_bad_image(life, agent)
        _by_hand(life)
        _a_stack_leaves(life, agent)
        (stack,) = host.json("status")["stacks"]
        assert (stack["name"], stack["sync"], stack["health"]) == ("web", "synced", "healthy")
        assert "canary" not in agent.log
    actions = {(entry["action"], entry["subject"]) for entry in host.json("history")}
    assert actions >= {
        ("deploy", "web"),
        ("rollback", "web"),
        ("evict", "rogue"),
        ("remove-stack", "data"),
    }
    assert "rogue" in host.commitd("why", "rogue", check=True).stdout


def _new_words(life: _Life, agent: RunningAgent) -> None:
    """Who uses neither the config nor the secret runs on."""
    before = life.tasks("web_proxy", "data_db")
    life.becomes(agent, {CONF: "two\n", **life.word("canary-two")})
    assert life.inside("web_proxy", "/conf") == "two\n"
    assert life.inside("data_db", "/run/secrets/word") == "canary-two\n"
    assert life.tasks("web_proxy", "data_db") == before


def _a_bad_image(life: _Life, agent: RunningAgent) -> None:
    good = life.swarm.images()
    crashing = life.fleet.box.images.build("crashing", "1.0", command="exit 7")
    life.fleet.commit("bad", life.web(crashing))
    agent.says("web rolled back to", timeout_s=120)
    life.swarm.wait_for(life.running)
    assert life.swarm.images() == good


def _by_hand(life: _Life) -> None:
    """What somebody changes is put right, what somebody starts is ended, and can come back."""
    swarm = life.swarm
    swarm.scale("web_app", 1)
    wait_until(lambda: len(swarm.task_ids()["web_app"]) == 2, what="web_app to be put right")
    swarm.create("rogue", life.fleet.idle)

    def replicas() -> int:
        return int(swarm.service("rogue")["Spec"]["Mode"]["Replicated"]["Replicas"])

    wait_until(lambda: replicas() == 0, what="the rogue to be ended")
    life.host.commitd("undo", "rogue", check=True)
    wait_until(lambda: len(swarm.task_ids()["rogue"]) == 1, what="the rogue to be back")
    life.running["rogue"] = 1


def _a_stack_leaves(life: _Life, agent: RunningAgent) -> None:
    """With what was its own alone, while the other one is mended."""
    before = life.tasks("data_db", "data_cache", "web_app")
    del life.running["data_db"], life.running["data_cache"]
    mended = life.fleet.box.images.build("idle", "2.0")
    life.becomes(agent, {LIST: "- web\n", **life.web(mended)})
    assert life.tasks("web_app") == before
    assert life.swarm.images()["web_app"] == {mended}
    assert not life.swarm.names("secrets")
