"""A stack that was deployed to a Swarm by hand, as files of the repository.

Nothing that decides on its tasks may change by it, but where the file says so: a config whose
content comes from Git is another object than the one there, since a Swarm names them anew. What
nobody can read, a secret, stays where it is: the file names it as external.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from agent.domain import documents
from agent.domain.adopt import residual_secrets
from agent.domain.adopt.convert import Converted
from agent.domain.adopt.running_stack import RunningConfig, RunningNetwork, RunningStack
from agent.domain.adopt.service_section import ServiceInWords
from agent.domain.errors import PermanentError
from agent.domain.repository import interpolation
from agent.domain.repository.layout import SECRET_SUFFIX
from agent.domain.sops.heuristics import looks_secret, with_credentials
from agent.domain.swarm.model import STACK

_NO_WORD = re.compile(r"\W+", re.ASCII)
_VARIABLE = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_SETTING = re.compile(
    r"^[\s'\"{,-]*([A-Za-z_][\w.-]*)['\"]?\s*[=:]\s*(.+?)[\s'\",]*$", re.MULTILINE
)
_KEY = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----")
_OWN_OPTION = "com.docker.network.driver.overlay.vxlanid_list"
_POOL = "10.0."
"""How the networks begin for which nobody has chosen addresses."""


@dataclass(slots=True)
class ConvertedStack(Converted):
    """``moved_tasks`` says of services why the first deploy replaces their tasks."""

    moved_tasks: dict[str, list[str]] = field(default_factory=dict)


def convert(origin: RunningStack) -> ConvertedStack:
    """Raises :class:`PermanentError` for what a stack's file cannot say."""
    return _Conversion(origin).run()


class _Conversion:
    def __init__(self, origin: RunningStack) -> None:
        self._o = origin
        self._base = f"stacks/{origin.name}"
        self._main = f"{self._base}/{origin.name}{SECRET_SUFFIX}"
        self._found = ConvertedStack()

    def run(self) -> ConvertedStack:
        services = {each.name: each for each in self._services()}
        document: dict[str, Any] = {
            "services": {name: self._section(each) for name, each in services.items()}
        }
        networks = {key: at for each in services.values() for key, at in each.networks.items()}
        sections = {
            "networks": self._networks(networks),
            "volumes": _escaped(self._volumes(services.values())),
            "configs": self._configs(services),
            "secrets": self._secrets(services),
        }
        document |= {key: value for key, value in sections.items() if value}
        text = yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=1000)
        path = f"{self._base}/compose.yaml"
        self._found.files[path] = text.encode()
        self._found.moved_tasks = {n: each.moved for n, each in services.items() if each.moved}
        self._found.notes += residual_secrets.notes(
            documents.load(text.encode(), path), self._found.files, self._found.secrets
        )
        return self._found

    def _services(self) -> Iterator[ServiceInWords]:
        for service in self._o.services:
            yield ServiceInWords(self._o, service)

    def _section(self, service: ServiceInWords) -> dict[str, Any]:
        section: dict[str, Any] = _escaped(service.section)
        given: Mapping[str, str | None] = service.section.get("environment") or {}
        for key, value in given.items():
            if value and looks_secret(key, value):
                variable = self._variable(service.name, key, value)
                self._hide(variable, value, service.name)
                section["environment"][key] = f"${{{variable}}}"
        return section

    def _variable(self, service: str, key: str, value: str) -> str:
        known = self._found.secrets.get(self._main) or {}
        long = _NO_WORD.sub("_", f"{service}_{key}").upper()
        plain = key if _VARIABLE.fullmatch(key) else f"V_{long}"
        name, number = plain, 1
        while known.get(name, value) != value or interpolation.refused(name):
            name, number = (f"V_{long}", 2) if number == 1 else (f"V_{long}_{number}", number + 1)
        return name

    def _hide(self, variable: str, value: str, service: str) -> None:
        if "\n" in value or "\r" in value:
            raise PermanentError(
                f"{service}: the value of {variable} has line breaks, which an encrypted env file "
                "cannot hold",
                hint="give it to the service as a secret",
            )
        self._found.secrets.setdefault(self._main, {})[variable] = value
        if variable not in self._found.moved:
            self._found.moved.append(variable)

    def _networks(self, used: Mapping[str, str]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, identifier in sorted(used.items()):
            network = self._o.networks[identifier]
            if not self._o.made(network.name, network.labels):
                found[key] = {"external": True, "name": network.name}
            elif said := self._network(network):
                found[key] = said
        for key in used.keys() - found.keys() - {"default"}:
            found[key] = {}
        return _escaped(found)  # type: ignore[no-any-return]

    def _network(self, network: RunningNetwork) -> dict[str, Any]:
        if network.ipv6:
            raise PermanentError(
                f"the network {network.name} has IPv6, which a stack's file cannot say",
                hint="make it with docker network create -d overlay --ipv6, outside of the stack",
            )
        chosen = [subnet for subnet in network.subnets if not subnet.startswith(_POOL)]
        labels = {key: value for key, value in network.labels.items() if key != STACK}
        options = {key: value for key, value in network.options.items() if key != _OWN_OPTION}
        said = {
            "driver": network.driver if network.driver != "overlay" else None,
            "driver_opts": options,
            "attachable": network.attachable,
            "internal": network.internal,
            "labels": labels,
            "ipam": {"config": [{"subnet": each} for each in chosen]} if chosen else None,
        }
        return {key: value for key, value in said.items() if value}

    def _volumes(self, services: Any) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for service in services:
            for key, volume in service.volumes.items():
                if found.setdefault(key, volume) != volume:
                    raise PermanentError(f"services mount the volume {key} in different ways")
        return found

    def _configs(self, services: Mapping[str, ServiceInWords]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for service in services.values():
            for key, (identifier, name) in service.objects["configs"].items():
                config = self._o.configs.get(identifier)
                if config is None:
                    raise PermanentError(f"{service.name}: the config {name} is not there any more")
                if _hidden(config):
                    found[key] = {"external": True, "name": name}
                    note = (
                        f"the config {name}: it looks secret, and stays in the Swarm as it is. "
                        "Encrypt it as a file of the stack, and use secrets:"
                    )
                    self._found.notes += [note] * (note not in self._found.notes)
                    continue
                found[key] = self._config(key, config)
                service.moved.append(f"its config {name} comes from Git")
        return _escaped(found)  # type: ignore[no-any-return]

    def _config(self, key: str, config: RunningConfig) -> dict[str, Any]:
        path = f"configs/{key}"
        self._found.files[f"{self._base}/{path}"] = config.content
        said: dict[str, Any] = {"file": f"./{path}"}
        if config.template:
            said["template_driver"] = config.template
        if labels := {key: value for key, value in config.labels.items() if key != STACK}:
            said["labels"] = labels
        return said

    def _secrets(self, services: Mapping[str, ServiceInWords]) -> dict[str, Any]:
        found = {
            key: {"external": True, "name": name}
            for service in services.values()
            for key, (_, name) in service.objects["secrets"].items()
        }
        self._found.notes += [
            f"the secret {each['name']}: no one can read it out of a Swarm, so it stays there, as "
            "external. Encrypt its content as a file of the stack to have it in Git"
            for _, each in sorted(found.items())
        ]
        return _escaped(found)  # type: ignore[no-any-return]


def _hidden(config: RunningConfig) -> bool:
    """Whether its content is not for Git to see, or not for eyes at all."""
    try:
        text = config.content.decode()
    except UnicodeDecodeError:
        return True
    if _KEY.search(text) or any(with_credentials(line) for line in text.splitlines()):
        return True
    return any(looks_secret(key, value) for key, value in _SETTING.findall(text))


def _escaped(value: Any) -> Any:
    """It, with each ``$`` of a value doubled, so that Compose puts in no variables."""
    if isinstance(value, str):
        return value.replace("$", "$$")
    if isinstance(value, Mapping):
        return {key: _escaped(below) for key, below in value.items()}
    if isinstance(value, list):
        return [_escaped(below) for below in value]
    return value
