"""A Swarm, by one of its managers: what runs in it, and what a person does by hand there.

A stack of `stack_file` settles in a second: its services share the network of their node, as making
an overlay takes three, and what the engine waits for by default is cut short.
"""

from __future__ import annotations

import contextlib
import http
from typing import TYPE_CHECKING, Any, Literal

import yaml

from tests.sandbox.engine import EngineError
from tests.sandbox.process import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tests.sandbox.engine import Engine

PORT = 2377
_QUICK: Mapping[str, Mapping[str, Any]] = {
    "restart_policy": {"delay": "200ms"},
    "update_config": {"monitor": "500ms"},
    "rollback_config": {"monitor": "500ms"},
}
_STACK = "com.docker.stack.namespace"


def stack_file(services: Mapping[str, Mapping[str, Any]], **top: Any) -> str:
    """A Compose file for a Swarm; `top` are its other sections.

    Services that name no `networks` are in that of their node, and `deploy` is completed, section
    by section, by what makes a test fast.
    """
    done: dict[str, Any] = {}
    for name, service in services.items():
        deploy = dict(service.get("deploy") or {})
        is_job = str(deploy.get("mode", "")).endswith("-job")  # which has none of these
        for section, values in ({} if is_job else _QUICK).items():
            deploy[section] = {**values, **deploy.get(section, {})}
        done[name] = {"networks": ["host"], **service, "deploy": deploy}
    if any("host" in service["networks"] for service in done.values()):
        networks = {"host": {"external": True, "name": "host"}, **top.get("networks", {})}
        top = {**top, "networks": networks}
    return yaml.safe_dump({**top, "services": done}, sort_keys=False)


class Swarm:
    """The Swarm of which this engine is a manager, once it was made."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.active = False

    def init(self, address: str = "127.0.0.1") -> None:
        """Make one, of this engine alone, which others reach at this address; unless it is."""
        if not self.active:
            wanted = {"ListenAddr": f"{address}:{PORT}", "AdvertiseAddr": address}
            self.engine.api("POST", "/swarm/init", wanted)
            self.active = True

    def leave(self) -> None:
        """Have a plain engine again, if it is none; a Swarm of which it was the only manager ends.

        What runs there as a service ends with it.
        """
        if self.active:
            self.clear()
            self.engine.api("POST", "/swarm/leave?force=1")
            self.active = False

    def clear(self) -> None:
        """Remove all services, configs, secrets, and networks but those that each Swarm has.

        The tasks of removed services are listed for some seconds more.
        """
        for kind in ("services", "configs", "secrets"):
            for found in self._list(kind):
                self._remove(kind, found["ID"])
        self.engine.remove_containers()  # the engine itself would take three seconds to stop them

        def removed() -> bool:
            for network in self.networks():
                with contextlib.suppress(EngineError):  # a task still has it
                    self._remove("networks", network["Id"])
            return not self.networks()

        wait_until(removed, what="the networks of the Swarm to be removed")

    # --- looking ---

    def services(self, stack: str | None = None) -> dict[str, dict[str, Any]]:
        """What the API says of all services, or those of one stack, by their names."""
        found = {service["Spec"]["Name"]: service for service in self._list("services")}
        if stack is None:
            return found
        of = ((name, service["Spec"].get("Labels") or {}) for name, service in found.items())
        return {name: found[name] for name, labels in of if labels.get(_STACK) == stack}

    def service(self, name: str) -> dict[str, Any]:
        """What the API says of one; EngineError 404 when there is none."""
        found: dict[str, Any] = self.engine.api("GET", f"/services/{name}")
        return found

    def tasks(self, service: str, *, running: bool = True) -> list[dict[str, Any]]:
        """The tasks of one service, oldest first: those that run and are to, or all."""
        identifier = self.service(service)["ID"]
        tasks = [task for task in self._list("tasks") if task["ServiceID"] == identifier]
        tasks.sort(key=lambda task: str(task["CreatedAt"]))
        return [task for task in tasks if not running or _runs(task)]

    def task_ids(self, stack: str | None = None) -> dict[str, frozenset[str]]:
        """The IDs of the tasks that run, by the names of their services."""
        tasks = [task for task in self._list("tasks") if _runs(task)]
        return {
            name: frozenset(task["ID"] for task in tasks if task["ServiceID"] == service["ID"])
            for name, service in self.services(stack).items()
        }

    def images(self, stack: str | None = None) -> dict[str, set[str]]:
        """The images of the tasks that run, by the names of their services."""
        tasks = [task for task in self._list("tasks") if _runs(task)]
        return {
            name: {
                task["Spec"]["ContainerSpec"]["Image"]
                for task in tasks
                if task["ServiceID"] == service["ID"]
            }
            for name, service in self.services(stack).items()
        }

    def names(self, kind: Literal["configs", "secrets"]) -> set[str]:
        """The names of all objects of this kind."""
        return {found["Spec"]["Name"] for found in self._list(kind)}

    def networks(self) -> list[dict[str, Any]]:
        """What the API says of the networks that somebody has made."""
        networks = self._list("networks")
        return [n for n in networks if n["Scope"] == "swarm" and not n.get("Ingress")]

    def nodes(self) -> dict[str, dict[str, Any]]:
        """What the API says of the nodes, by their host names."""
        return {node["Description"]["Hostname"]: node for node in self._list("nodes")}

    def leader(self) -> str | None:
        """The host name of the manager that leads; None if it is not known, or not told to this."""
        with contextlib.suppress(EngineError, OSError):
            for name, node in self.nodes().items():
                if (node.get("ManagerStatus") or {}).get("Leader"):
                    return name
        return None

    def wait_for(self, running: Mapping[str, int], *, seconds: float = 60) -> None:
        """Wait until these services, and no others, have so many tasks that run."""

        def as_wanted() -> bool:
            return {name: len(ids) for name, ids in self.task_ids().items()} == dict(running)

        wait_until(as_wanted, what=f"the tasks of {dict(running)}", seconds=seconds)

    # --- what a person does by hand ---

    def create(self, name: str, image: str, *, replicas: int = 1, **spec: Any) -> str:
        """Start a service that belongs to no stack unless `spec` has its label; return its ID."""
        wanted = {
            "Name": name,
            "Mode": {"Replicated": {"Replicas": replicas}},
            "TaskTemplate": {
                "ContainerSpec": {"Image": image},
                "Networks": [{"Target": "host"}],
                "RestartPolicy": {"Delay": 200_000_000},
            },
            **spec,
        }
        return str(self.engine.api("POST", "/services/create", wanted)["ID"])

    def update(self, name: str, change: Callable[[dict[str, Any]], None]) -> None:
        """Change the specification of a service, as `docker service update` does."""

        def updated() -> bool:
            service = self.service(name)
            change(service["Spec"])
            version = service["Version"]["Index"]
            path = f"/services/{service['ID']}/update?version={version}"
            try:
                self.engine.api("POST", path, service["Spec"])
            except EngineError as err:
                if "out of sequence" in str(err):  # the Swarm has changed it itself meanwhile
                    return False
                raise
            return True

        wait_until(updated, what=f"an update of {name} that nothing crosses")

    def scale(self, name: str, replicas: int) -> None:
        """As `docker service scale` does."""

        def scaled(spec: dict[str, Any]) -> None:
            spec["Mode"] = {"Replicated": {"Replicas": replicas}}

        self.update(name, scaled)

    def deploy(self, stack: str, file: str) -> None:
        """As `docker stack deploy` does: make a stack by hand, or change it.

        The file is one that has no `version`, which that wants and Compose does not.
        """
        words = ["stack", "deploy", "--resolve-image", "never", "--compose-file", "-", stack]
        self.engine.run(*words, stdin=f'version: "3.9"\n{file}')

    def _list(self, kind: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.engine.api("GET", f"/{kind}")
        return found

    def _remove(self, kind: str, identifier: str) -> None:
        try:
            self.engine.api("DELETE", f"/{kind}/{identifier}")
        except EngineError as error:
            if error.status != http.HTTPStatus.NOT_FOUND:  # gone meanwhile
                raise


def _runs(task: Mapping[str, Any]) -> bool:
    return bool(task["Status"]["State"] == "running" and task["DesiredState"] == "running")
