"""One sandbox for the whole session; every test finds it empty, healthy and with a new history."""

from __future__ import annotations

import itertools
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from agent.adapters.state.database import utcnow
from agent.adapters.state.journal import Journal
from tests import event_loop
from tests.sandbox import Sandbox, Swarm, Workspace
from tests.sandbox.forkserver import ForkServer
from tests.sandbox.host import Host
from tests.sandbox.process import run
from tests.system import parts, registries, taking

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--take-from",
        type=Path,
        metavar="FILE",
        help="run the tests that no other process with the same FILE (empty at first) has taken",
    )
    parser.addoption(
        "--part", choices=parts.PARTS, help="run the tests of this part alone, see parts.py"
    )
    parser.addoption(
        "--every-effect",
        action="store_true",
        help="kill the agent before and after every effect, not before one of each kind (minutes)",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not (wanted := config.getoption("--part")):
        return
    others = [item for item in items if parts.of(item) != wanted]
    items[:] = [item for item in items if parts.of(item) == wanted]
    config.hook.pytest_deselected(items=others)


def pytest_runtestloop(session: pytest.Session) -> bool | None:
    """Worlds do not clash, so several can share the tests: each takes the next when it is done."""
    if not (path := session.config.getoption("--take-from")) or session.testsfailed:
        return None
    upcoming = itertools.chain(taking.taken(session.items, path), [None])
    for item, following in itertools.pairwise(upcoming):
        if item is not None:
            session.ihook.pytest_runtest_protocol(item=item, nextitem=following)
        if session.shouldfail:
            raise session.Failed(session.shouldfail)
        if session.shouldstop:
            raise session.Interrupted(session.shouldstop)
    return True


@pytest.fixture(scope="session")
def box() -> Iterator[Sandbox]:
    with Sandbox() as sandbox:
        sandbox.forkserver = ForkServer()
        yield sandbox


class Fleet:
    """An empty engine, an operator's clone with a history of its own, and hosts on demand."""

    def __init__(self, box: Sandbox) -> None:
        self.box = box
        self.workspace = Workspace(box)
        self._pushed = False
        self.web = box.images.build("web", "1.0", files={"www/index.html": "v1"})
        self.web2 = box.images.build("web", "2.0", files={"www/index.html": "v2"})
        self.idle = box.images.build("idle", "1.0")

    def compose(self, image: str | None = None, *, service: str = "app", more: str = "") -> str:
        """A Compose file with one service; `more` are lines of that service, flow style.

        Unless those want a network it has that of the world: to make one of its own, even an empty
        one, is half of what a container costs.
        """
        network = "" if _NETWORK.search(more) else "    network_mode: host\n"
        return f"services:\n  {service}:\n    image: {image or self.idle}\n{network}{more}"

    def commit(self, message: str, files: Mapping[str, str | bytes | None]) -> str:
        """Commit and push to both servers; the host prod is a Swarm (see `manager`)."""
        if "host/prod/stacks.yaml" in files:
            files = {"host/prod/commitd.yaml": "mode: swarm\n", **files}
        self.workspace.write(files)
        sha = self.workspace.commit(message)
        self.push()
        return sha

    def push(self) -> None:
        """Push to both; the first push of a test replaces the history of the one before."""
        self.workspace.push(force=not self._pushed)
        self._pushed = True

    def connected(
        self, *, enrolled: bool = True, box: Sandbox | None = None, **settings: Any
    ) -> Host:
        """A new host called media, with both remotes over the network.

        `box` is the sandbox as another machine sees it.
        """
        host = Host(box or self.box, **settings)
        if enrolled:
            # As `commitd enroll --yes` does, which has tests of its own, without its process.
            host.state.mkdir(mode=0o700)
            journal = Journal(host.state / "journal.db")
            journal.put("enrolled", utcnow())
            journal.close()
        return host

    def host(self, *, enrolled: bool = True, **settings: Any) -> Host:
        """The same with one remote by path, for tests of what is behind the remotes."""
        host = self.connected(enrolled=enrolled, **settings)
        path = self.box.gitea.path
        host.config["remotes"] = [{"name": "gitea", "url": f"file://{path}", "poll": "1s"}]
        host.write_config()
        return host

    def synced(self, files: Mapping[str, str | bytes | None], **settings: Any) -> Host:
        """A `host` that has applied a first commit of these files."""
        self.commit("first", files)
        host = self.host(**settings)
        assert host.once().returncode == 0
        return host

    def manager(self, **settings: Any) -> Host:
        """The agent of the Swarm's only manager, which takes the Swarm for a host called prod."""
        return self.host(**{**self.of_a_swarm(self.box), **settings})

    def of_a_swarm(self, box: Sandbox) -> dict[str, Any]:
        """The settings of a manager's agent."""
        docker = {"socket": box.engine.host, "mode": "swarm"}
        # Decrypted secrets are kept there, in memory and nowhere else.
        runtime = Path(tempfile.mkdtemp(prefix="commitd-", dir="/run"), "run")
        return {"name": "prod", "docker": docker, "runtime_dir": str(runtime)}

    def managed(self, stacks: Mapping[str, str], **settings: Any) -> Host:
        """A `manager` that has deployed these stacks, by their names."""
        files: dict[str, str | bytes | None] = {
            f"stacks/{name}/compose.yaml": text for name, text in stacks.items()
        }
        self.commit("first", {**files, "host/prod/stacks.yaml": yaml.safe_dump([*stacks])})
        host = self.manager(**settings)
        result = host.once()
        assert result.returncode == 0, result.stdout + result.stderr
        return host

    def running(self) -> dict[str, str]:
        """Names of the running containers, to their IDs."""
        return {c["Names"][0].lstrip("/"): c["Id"] for c in self.box.engine.containers(all=False)}

    def compose_is_older_than(self, *wanted: int) -> bool:
        """Whether Compose is of an older version than these numbers (see `make engines`)."""
        return self.box.compose_version < wanted

    def environment(self, container: str) -> dict[str, str]:
        """What the container's configuration gives its process."""
        pairs = self.box.engine.inspect(container)["Config"]["Env"]
        return dict(pair.split("=", 1) for pair in pairs)


_NETWORK = re.compile(r"^\s*(ports|networks|network_mode):", re.MULTILINE)


@pytest.fixture(autouse=True)
def nothing_waits_on_the_loop() -> Iterator[None]:
    """No agent of the test has made everything wait for a disk."""
    event_loop.caught()
    yield
    if found := event_loop.caught():
        pytest.fail(f"not off the event loop:\n{found}", pytrace=False)


@pytest.fixture(autouse=True)
def in_a_swarm_or_not(request: pytest.FixtureRequest) -> None:
    """Tests that ask for no Swarm have a plain engine, whatever those before had."""
    if "box" in request.fixturenames and "swarm" not in request.fixturenames:
        sandbox: Sandbox = request.getfixturevalue("box")
        sandbox.swarm.leave()


@pytest.fixture
def fleet(box: Sandbox) -> Iterator[Fleet]:
    yield Fleet(box)
    for server in (box.gitea, box.github):
        server.start()
        server.proxy.mode("pass")
    box.registry.start()
    box.engine.thaw()
    box.engine.start()
    if box.swarm.active:
        box.swarm.clear()
    box.engine.remove_everything()


@pytest.fixture
def swarm(box: Sandbox) -> Swarm:
    """The engine as the only manager of a Swarm in which nothing runs."""
    box.swarm.init()
    return box.swarm


@pytest.fixture(params=["binary", "container"])
def sops(request: pytest.FixtureRequest, fleet: Fleet) -> dict[str, Any]:
    """The `secrets` section of the configuration, for both ways of running SOPS."""
    key = {"age_key": str(fleet.box.age.private)}
    if request.param == "binary":
        return key | {"sops": {"binary": str(fleet.box.sops), "sha256": fleet.box.sops_sha256}}
    return key | {"sops": {"image": fleet.box.images.sops}}


@pytest.fixture(scope="module")
def place(box: Sandbox) -> Path:
    """For what more registries need."""
    return Path(tempfile.mkdtemp(prefix="registries-", dir=box.root))


@pytest.fixture(scope="module")
def basic(box: Sandbox, place: Path) -> Iterator[None]:
    """The registry once more, for those with a password."""
    daemon = registries.with_basic(place, box.root / "registry" / "data")
    daemon.start()
    yield
    daemon.stop()


@dataclass(frozen=True)
class Nginx:
    """The certificate to trust, and the log of what was asked."""

    certificate: Path
    asked: Path


@pytest.fixture(scope="module")
def nginx(place: Path) -> Iterator[Nginx]:
    """The registry once more, behind nginx."""
    run(["ip", "address", "replace", f"{registries.OUTSIDE}/32", "dev", "lo"])
    certificate, key = registries.certificate(place, "outside", f"IP:{registries.OUTSIDE}")
    daemon = registries.nginx(place, 5001, certificate, key)
    daemon.start()
    yield Nginx(certificate, asked=place / "access.log")
    daemon.stop()
    run(["ip", "address", "del", f"{registries.OUTSIDE}/32", "dev", "lo"])
