"""Several machines that are one Swarm, each with an engine and a network of its own.

    switch   a network namespace with a bridge, and nothing else
    node1    10.99.0.1: network, host name and mounts of its own; dockerd; agents
    node2    10.99.0.2: the same, with another engine laid over its /usr, if there is one
    …

On each node the Git servers and the registry of the sandbox are where they are for everybody else,
on 127.0.0.1: a proxy takes connections there, which ends when the machine does.
"""

from __future__ import annotations

import contextlib
import copy
import os
import shutil
import signal
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Self

from tests.sandbox import world
from tests.sandbox.engine import Engine, EngineError
from tests.sandbox.forkserver import ROOT, ForkServer
from tests.sandbox.process import Daemon, SandboxError, run, wait_until
from tests.sandbox.proxy import Proxy
from tests.sandbox.swarm import PORT, Swarm

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.sandbox import Sandbox

_SWITCH = """
ip link add swarm type bridge
ip link set swarm up
: >"$0"
exec sleep infinity
"""
_MACHINE = """
hostname "$1"
ip link set lo up
mkdir -p "$2/cgroup" /run/docker /run/containerd
mount --rbind /sys/fs/cgroup "$2/cgroup"
mount -t sysfs sysfs /sys
mount --rbind "$2/cgroup" /sys/fs/cgroup
umount --lazy --recursive "$2/cgroup"
for directory in /run/docker /run/containerd; do mount -t tmpfs tmpfs $directory; done
if [ "$3" ]; then mount -t overlay engine -o "lowerdir=$3/usr:/usr" /usr; fi
: >"$0"
exec sleep infinity
"""
_SERVERS = {"gitea": 2222, "github": 8443, "registry": 5000}


class Node:
    """One machine of a Swarm, in which nothing runs before `power_on`.

    `box` is the sandbox as this machine sees it: with its engine, and agents that work in it.
    `swarm` is what it says of the Swarm, if it is a manager.
    """

    def __init__(self, box: Sandbox, root: Path, number: int, switch: int, layer: str) -> None:
        self.name = f"node{number}"
        self.address = f"10.99.0.{number}"
        self._root = root / self.name
        self._root.mkdir()
        command = ["unshare", "--net", "--uts", "--mount"]
        self._machine = _holder(self._root, self.name, command, _MACHINE, layer)
        self._machine.start()
        self._pid = _pid(self._machine)
        self._network = Path(f"/proc/{self._pid}/ns/net").readlink()
        self._connect(number, switch)
        self._cgroup = f"{world.data_directory().name}/{root.name}/{self.name}"
        self.engine = Engine(
            self._root / "engine",
            socket_path=self._root / "docker.sock",
            cgroup_parent=f"/{self._cgroup}",
            entry=self.entry,
        )
        self.swarm = Swarm(self.engine)
        self.box = copy.copy(box)
        self.box.root = self._root
        self.box.engine, self.box.swarm = self.engine, self.swarm
        self.box.forkserver = self._forkserver = ForkServer(self.entry)
        self.proxies = {
            name: Proxy(port, port, network=self._pid) for name, port in _SERVERS.items()
        }
        """Between this machine and the servers; `registry` and the names of the Git servers."""

    @property
    def entry(self) -> list[str]:
        """The words before a command that is to run on this machine."""
        words = ["nsenter", f"--target={self._pid}", "--net", "--uts", "--mount"]
        return [*words, f"--wdns={ROOT}"]

    @property
    def swarm_id(self) -> str:
        """What the Swarm calls it."""
        return str(self.engine.api("GET", "/info")["Swarm"]["NodeID"])

    @property
    def up(self) -> bool:
        """Whether its engine runs."""
        return self.engine.pid is not None

    def power_on(self) -> None:
        """Start its engine, which goes on as what it was in the Swarm."""
        for proxy in self.proxies.values():
            proxy.mode("pass")
        self.plug()
        self.engine.start()

    def power_off(self) -> None:
        """End all that runs on it, agents too, as a power cut does."""
        for proxy in self.proxies.values():
            proxy.mode("cut")

        def ended() -> bool:
            found = [*self._processes()]
            for pid in found:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self.engine.kill()  # it is a child of this process, which has to ask how it ended
            return not found

        wait_until(ended, what=f"{self.name} to be off")

    def plug(self) -> None:
        """Connect it with the others."""
        run([*self.entry, "ip", "link", "set", "eth0", "up"])

    def unplug(self) -> None:
        """Take it from the network of the Swarm: the others cannot reach it, nor it them."""
        run([*self.entry, "ip", "link", "set", "eth0", "down"])

    def put_away(self) -> None:
        """End it for good."""
        self.power_off()
        self._forkserver.stop()
        self._machine.stop()
        world.remove_cgroups(self._cgroup)

    def _connect(self, number: int, switch: int) -> None:
        there = ["nsenter", f"--target={switch}", "--net", "ip", "link"]
        port = f"port{number}"
        words = ["add", port, "type", "veth", "peer", "name", "eth0", "netns", str(self._pid)]
        run([*there, *words])
        run([*there, "set", port, "master", "swarm", "up"])
        run([*self.entry, "ip", "address", "add", f"{self.address}/24", "dev", "eth0"])

    def _processes(self) -> Iterator[int]:
        """All that belongs to it but what makes it a machine."""
        for base in world.cgroup_hierarchies():
            for file in Path(base, self._cgroup).rglob("cgroup.procs"):
                with contextlib.suppress(OSError):
                    yield from map(int, file.read_text().split())
        for process in Path("/proc").glob("[0-9]*"):
            pid = int(process.name)
            with contextlib.suppress(OSError):
                if (process / "ns/net").readlink() == self._network and pid not in {
                    self._pid,
                    self._forkserver.pid,
                }:
                    yield pid


class Cluster:
    """A Swarm of as many machines as there are `engines`, for the time of a `with` block.

    Each of `engines` is whether that machine has the other engine (`--beside`). The first
    `managers` of them are managers, and `nodes[0]` leads at first.
    """

    def __init__(self, box: Sandbox, *, engines: Sequence[bool], managers: int) -> None:
        self._managers = managers
        other = os.environ.get(world.BESIDE, "")
        if any(engines) and not other:
            raise SandboxError("run this as: python -m tests.sandbox exec --beside ENGINE -- …")
        self._root = Path(tempfile.mkdtemp(prefix="swarm-", dir=box.root))
        (directory := self._root / "switch").mkdir()
        self._switch = _holder(directory, "switch", ["unshare", "--net"], _SWITCH, "")
        self._switch.start()
        switch = _pid(self._switch)
        self.nodes = [
            Node(box, self._root, number, switch, other if has_other else "")
            for number, has_other in enumerate(engines, 1)
        ]

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._put_away()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._put_away()

    @property
    def managers(self) -> list[Node]:
        """Those that are managers, running or not."""
        return self.nodes[: self._managers]

    def leader(self, among: Sequence[Node] = ()) -> Node:
        """The manager that leads, once all that run say the same, and it runs too.

        `among` are those that are managers meanwhile, if not those of the beginning.
        """
        found: list[Node] = []

        def agreed() -> bool:
            managers = [node for node in among or self.managers if node.up]
            said = {node.swarm.leader() for node in managers}
            found[:] = [node for node in managers if said == {node.name}]
            return bool(found)

        wait_until(agreed, what="the managers to agree upon a leader", seconds=120)
        return found[0]

    def _start(self) -> None:
        for node in self.nodes:
            node.power_on()
        first = self.nodes[0]
        first.swarm.init(first.address)
        tokens = first.engine.api("GET", "/swarm")["JoinTokens"]
        for number, node in enumerate(self.nodes[1:], 1):
            wanted = {
                "ListenAddr": f"{node.address}:{PORT}",
                "AdvertiseAddr": node.address,
                "RemoteAddrs": [f"{first.address}:{PORT}"],
                "JoinToken": tokens["Manager" if number < self._managers else "Worker"],
            }
            node.engine.api("POST", "/swarm/join", wanted)
            node.swarm.active = True
        self.ready()

    def ready(self) -> None:
        """Wait until the Swarm calls all its nodes ready."""
        wait_until(self._all_ready, what="all nodes to be ready", seconds=120)

    def _all_ready(self) -> bool:
        with contextlib.suppress(EngineError):
            nodes = self.leader().swarm.nodes()
            return len(nodes) == len(self.nodes) and all(
                node["Status"]["State"] == "ready" for node in nodes.values()
            )
        return False

    def _put_away(self) -> None:
        for node in self.nodes:
            node.put_away()
        self._switch.stop()
        shutil.rmtree(self._root)


def _holder(root: Path, name: str, command: list[str], script: str, layer: str) -> Daemon:
    """What keeps namespaces while nothing else is in them."""
    ready = root / "ready"
    words: list[str | Path] = [*command, "sh", "-ec", script, ready, name, root, layer]
    return Daemon(name, words, log=root / "machine.log", ready=ready.exists)


def _pid(daemon: Daemon) -> int:
    if (pid := daemon.pid) is None:
        raise SandboxError(f"{daemon.name} has ended:\n{daemon.log_tail()}")
    return pid
