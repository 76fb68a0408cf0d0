"""One service of a running stack, in the words of a stack's file.

The opposite of what ``docker stack deploy`` does, key by key, so that the same spec comes of it
again: who has the same spec keeps its tasks. What no key says is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from agent.domain.adopt import deploy_words
from agent.domain.adopt.deploy_words import duration
from agent.domain.adopt.remainder import Remainder
from agent.domain.adopt.running_stack import RunningStack
from agent.domain.errors import PermanentError
from agent.domain.repository import image_reference as references
from agent.domain.swarm.model import STACK, Kind, SwarmService

Section = dict[str, Any]

_READABLE = 0o444
_USES: Mapping[Kind, tuple[str, str, str]] = {
    "configs": ("Configs", "ConfigID", "ConfigName"),
    "secrets": ("Secrets", "SecretID", "SecretName"),
}
_TEXTS = {
    "hostname": "Hostname",
    "user": "User",
    "working_dir": "Dir",
    "stop_signal": "StopSignal",
    "command": "Args",
    "entrypoint": "Command",
    "cap_add": "CapabilityAdd",
    "cap_drop": "CapabilityDrop",
    "sysctls": "Sysctls",
    "init": "Init",
    "tty": "TTY",
    "stdin_open": "OpenStdin",
    "read_only": "ReadOnly",
}
_IGNORED = (
    ("Name",),
    ("TaskTemplate", "ForceUpdate"),
    ("TaskTemplate", "Runtime"),
    ("TaskTemplate", "Placement", "Platforms"),
)
"""The name is made of the stack's; the others are of the engine's own making."""


class ServiceInWords:
    """``section`` is what the file says; ``moved`` why its first deploy replaces its tasks.

    ``uses`` and ``volumes`` are what of the stack it names, by their keys there. Raises
    :class:`PermanentError` for what a stack's file cannot say.
    """

    def __init__(self, stack: RunningStack, service: SwarmService) -> None:
        self._stack, self._service = stack, service
        self._spec = Remainder(service.spec)
        self.name = service.short_name
        self.section: Section = {}
        self.moved: list[str] = []
        self.networks: dict[str, str] = {}
        self.objects: dict[Kind, dict[str, tuple[str, str]]] = {"configs": {}, "secrets": {}}
        self.volumes: dict[str, Section] = {}
        if service.is_job:
            raise self._refused("it is a job, which its first deploy would run once more")
        if service.kept:
            raise self._refused("it was evicted: commitd undo brings it back")
        self._image()
        self._container()
        self._mounts()
        self._networks()
        self._ports()
        for kind in _USES:
            self._uses(kind)
        self.section["deploy"] = deploy_words.written(self._spec)
        for path in _IGNORED:
            self._spec.take(*path)
        if left := self._spec.left():
            raise self._refused(f"a stack's file has no word for {', '.join(left)}")

    def _refused(self, message: str) -> PermanentError:
        hint = "change it by docker service update, or add the stack by hand"
        return PermanentError(f"{self._service.name}: {message}", hint=hint)

    def _of_container(self, *path: str) -> Any:
        return self._spec.take("TaskTemplate", "ContainerSpec", *path)

    # --- its container ---

    def _image(self) -> None:
        said = str(self._of_container("Image") or "")
        pinned = said
        if not references.pinned(said):
            reference = references.parse(said)
            if reference.digest:
                pinned = reference.at(reference.digest)
            elif said in self._stack.pins:
                pinned = self._stack.pins[said]
            else:
                raise PermanentError(
                    f"{self._service.name}: nobody here knows the digest of {said}",
                    hint="docker service update --image with a digest first",
                )
            self.moved.append("its image is named by tag and digest")
        self.section["image"] = pinned

    def _container(self) -> None:
        found = self.section
        for key, name in _TEXTS.items():
            value = self._of_container(name)
            if value or (value is False and key == "init"):
                found[key] = value
            if key.startswith("cap_"):
                self._sorted("capabilities", value or ())
        if environment := self._environment():
            found["environment"] = environment
        labels = dict(self._of_container("Labels") or {})
        if labels.pop(STACK, None) != self._stack.name:
            self.moved.append("its containers get the label of the stack")
        if labels:
            found["labels"] = labels
        grace = self._of_container("StopGracePeriod")
        if grace is not None:
            found["stop_grace_period"] = duration(grace)
        self._names()
        self._limits()
        self._health()
        self._logging()

    def _names(self) -> None:
        """How it finds others."""
        if hosts := self._of_container("Hosts"):
            self.section["extra_hosts"] = [self._host(each) for each in hosts]
        for key, name in (("dns", "Nameservers"), ("dns_search", "Search")):
            if value := self._of_container("DNSConfig", name):
                self.section[key] = value

    def _limits(self) -> None:
        found = self.section
        if limits := self._of_container("Ulimits"):
            self._sorted("ulimits", [each["Name"] for each in limits])
            found["ulimits"] = {
                each["Name"]: {"soft": each.get("Soft", 0), "hard": each.get("Hard", 0)}
                for each in limits
            }
        isolation = self._of_container("Isolation")
        if isolation not in {None, "", "default"}:
            found["isolation"] = isolation

    def _logging(self) -> None:
        driver = self._spec.take("TaskTemplate", "LogDriver", "Name")
        options = self._spec.take("TaskTemplate", "LogDriver", "Options")
        if driver or options:
            logging = {"driver": driver, "options": options}
            self.section["logging"] = {key: value for key, value in logging.items() if value}

    def _environment(self) -> dict[str, str | None]:
        pairs = [str(each) for each in self._of_container("Env") or ()]
        split = [pair.partition("=") for pair in pairs]
        found = {key: value if sign else None for key, sign, value in split}
        if len(found) < len(pairs):
            raise self._refused("a variable is set twice")
        self._sorted("variables", pairs)
        return found

    def _sorted(self, what: str, names: Sequence[str]) -> None:
        """That Docker's command line writes them in order, whatever the order is now."""
        if [*names] != sorted(names):
            self.moved.append(f"its {what} come in the order of their names")

    def _host(self, said: str) -> str:
        words = said.split()
        if len(words) != 2:  # noqa: PLR2004  an address and a name
            raise self._refused("Hosts has several names of one address")
        return f"{words[1]}:{words[0]}"

    def _health(self) -> None:
        test = self._of_container("Healthcheck", "Test")
        if test == ["NONE"]:
            self.section["healthcheck"] = {"disable": True}
            return
        found: Section = {"test": test} if test else {}
        for key, name in (
            ("interval", "Interval"), ("timeout", "Timeout"), ("start_period", "StartPeriod"),
        ):  # fmt: skip
            if value := self._of_container("Healthcheck", name):
                found[key] = duration(value)
        if retries := self._of_container("Healthcheck", "Retries"):
            found["retries"] = retries
        if found:
            self.section["healthcheck"] = found

    # --- what it uses ---

    def _mounts(self) -> None:
        found = [self._mount(each) for each in self._of_container("Mounts") or ()]
        if found:
            self.section["volumes"] = found

    def _mount(self, raw: Mapping[str, Any]) -> Section:
        rest = Remainder(raw)
        kind, source = rest.take("Type"), rest.take("Source")
        found: Section = {"type": kind, "target": rest.take("Target")}
        if rest.take("ReadOnly"):
            found["read_only"] = True
        match kind:
            case "bind":
                found["source"] = source
                if how := rest.take("BindOptions", "Propagation"):
                    found["bind"] = {"propagation": how}
            case "volume":
                if rest.take("VolumeOptions", "NoCopy"):
                    found["volume"] = {"nocopy": True}
                if source:
                    found["source"] = self._volume(source, rest)
            case "tmpfs":
                if size := rest.take("TmpfsOptions", "SizeBytes"):
                    found["tmpfs"] = {"size": size}
            case _:
                pass
        if (left := rest.left()) or kind not in {"bind", "volume", "tmpfs"}:
            raise self._refused(f"a mount has {', '.join(left) or f'the type {kind}'}")
        return found

    def _volume(self, name: str, rest: Remainder) -> str:
        """Its key in the file."""
        labels = dict(rest.some("VolumeOptions", "Labels"))
        if not self._stack.made(name, labels):
            if labels:
                raise self._refused(f"the volume {name} gets labels, and is not the stack's")
            self.volumes[name] = {"external": True, "name": name}
            return name
        key = self._stack.short(name)
        del labels[STACK]
        driver = rest.take("VolumeOptions", "DriverConfig", "Name")
        options = rest.take("VolumeOptions", "DriverConfig", "Options")
        said = {"driver": driver, "driver_opts": options, "labels": labels}
        self.volumes[key] = {each: value for each, value in said.items() if value}
        return key

    def _networks(self) -> None:
        found: dict[str, Any] = {}
        for raw in self._spec.take("TaskTemplate", "Networks") or ():
            rest = Remainder(raw)
            target, aliases = rest.take("Target"), list(rest.take("Aliases") or ())
            network = self._stack.networks.get(target)
            if network is None or rest.left():
                raise self._refused("it is in a network that is not there, or with options")
            made = self._stack.made(network.name, network.labels)
            key = self._stack.short(network.name) if made else network.name
            self.networks[key] = target
            if network.driver == "overlay":
                if aliases[-1:] == [self.name]:
                    aliases.pop()
                else:
                    self.moved.append(f"it gets its name in the network {network.name}")
            found[key] = {"aliases": aliases} if aliases else None
        if found != {"default": None}:
            self.section["networks"] = found
        if not found:
            raise self._refused("it is in no network, and would come into one")

    def _ports(self) -> None:
        found = []
        for raw in self._spec.take("EndpointSpec", "Ports") or ():
            port = {
                "target": raw.get("TargetPort"),
                "published": raw.get("PublishedPort"),
                "protocol": raw.get("Protocol"),
                "mode": raw.get("PublishMode"),
            }
            found.append({key: value for key, value in port.items() if value})
        if found:
            self.section["ports"] = found

    def _uses(self, kind: Kind) -> None:
        field, identifier, name = _USES[kind]
        found = []
        for raw in self._of_container(field) or ():
            rest = Remainder(raw)
            whole, at = str(rest.take(name)), rest.take("File", "Name")
            uid, gid, mode = (rest.take("File", key) for key in ("UID", "GID", "Mode"))
            key = self._stack.short(whole)
            self.objects[kind][key] = (str(rest.take(identifier)), whole)
            use: Section = {"source": key, "target": at}
            use |= {k: v for k, v in (("uid", uid), ("gid", gid)) if v not in {None, "", "0"}}
            use |= {"mode": mode} if mode not in {None, _READABLE} else {}
            if rest.left() or not at:
                raise self._refused(f"it uses the {kind[:-1]} {whole} as no file")
            found.append(use)
        if found:
            self.section[kind] = found
            self._sorted(kind, [whole for _, whole in self.objects[kind].values()])
