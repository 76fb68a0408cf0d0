"""The agent's service: whether it runs and comes back at a boot, and what loosens its unit.

``SHIPPED`` is what the unit of this version says where that bounds the agent (a unit test holds it
to ``systemd/commitd.service``). A file of the unit, or of a drop-in, loosens it where a directive
allows more than that. What only sets limits higher, as ``MemoryMax=``, does not.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from msgspec import Struct

from agent.domain.doctor.finding import Code, Finding, ok, problem, unknown, warning
from agent.domain.status.unit import NAME

SHIPPED: Mapping[str, str] = {
    "Restart": "always",
    "WatchdogSec": "60",
    "ProtectSystem": "strict",
    "ProtectHome": "tmpfs",
    "PrivateTmp": "yes",
    "PrivateMounts": "yes",
    "NoExecPaths": "/tmp /var/tmp",  # noqa: S108
    "UMask": "0077",
    "LimitCORE": "0",
    "MemorySwapMax": "0",
    "NoNewPrivileges": "yes",
    "CapabilityBoundingSet": "CAP_DAC_OVERRIDE CAP_CHOWN",
    "PrivateDevices": "yes",
    "DevicePolicy": "closed",
    "ProtectClock": "yes",
    "ProtectControlGroups": "yes",
    "ProtectHostname": "yes",
    "ProtectKernelLogs": "yes",
    "ProtectKernelModules": "yes",
    "ProtectKernelTunables": "yes",
    "ProtectProc": "invisible",
    "ProcSubset": "pid",
    "RestrictAddressFamilies": "AF_UNIX AF_INET AF_INET6 AF_NETLINK",
    "RestrictNamespaces": "yes",
    "RestrictRealtime": "yes",
    "RestrictSUIDSGID": "yes",
    "LockPersonality": "yes",
    "MemoryDenyWriteExecute": "yes",
    "SystemCallArchitectures": "native",
    "SystemCallFilter": "@system-service ~@privileged ~@resources setpriority setrlimit @chown",
}
_AS_STRICT: Mapping[str, frozenset[str]] = {
    "ProtectHome": frozenset({"tmpfs", "yes"}),
    "DevicePolicy": frozenset({"closed", "strict"}),
    "Restart": frozenset({"always"}),
}
_YES, _NO = frozenset({"yes", "true", "on", "1"}), frozenset({"no", "false", "off", "0"})
_SETS = frozenset({"CapabilityBoundingSet", "RestrictAddressFamilies", "SystemCallFilter"})
_WIDENS = frozenset({"AmbientCapabilities", "DeviceAllow", "ExecPaths", "SupplementaryGroups"})
"""Of these the unit says nothing, and each value allows more."""
_WRITES = frozenset({"ReadWritePaths", "BindPaths"})
_SHOWS = _WRITES | {"BindReadOnlyPaths"}
_LISTS = _SETS | _WIDENS | _WRITES | {"NoExecPaths"}
"""Each line of these adds to the ones before it."""
_AGENT_MIB, _STACK_MIB = 512, 384
_SIZE = re.compile(r"([0-9]+)([KMGT]?)")
_UNITS = {"": 1, "K": 1024, "M": 1024**2, "G": 1024**3, "T": 1024**4}
_VERSIONS = "/var/lib/commitd-agent"
"""Where versions of the agent are beside each other: the shipped unit may write there."""
_HOMES = ("/home", "/root", "/run/user")


class Line(Struct, frozen=True):
    """One directive of the section ``[Service]``, and where it is written (``file:line``)."""

    name: str
    value: str
    where: str


class Service(Struct, frozen=True, kw_only=True):
    """A service as ``systemctl show`` prints it."""

    load: str
    active: str
    enabled: str
    needs_reload: bool = False


def lines(path: str, text: str) -> Iterator[Line]:
    """The directives of ``[Service]`` in a file of a unit; continued lines are one."""
    section, number, held, begun = "", 0, "", 0
    for raw in text.splitlines():
        number += 1
        line = raw.strip()
        if not held:
            begun = number
            if not line or line[0] in "#;":
                continue
            if line[0] == "[":
                section = line.strip("[]")
                continue
        elif line[:1] in {"#", ";"}:  # remarks may be among continued lines
            continue
        held += line.removesuffix("\\")
        if line.endswith("\\"):
            continue
        name, _, value = held.partition("=")
        if section == "Service":
            yield Line(name.strip(), " ".join(value.split()), f"{path}:{begun}")
        held = ""


def loosened(found: Sequence[Line], own: Sequence[str]) -> list[Finding]:
    """What in these files allows more than the unit of this version.

    ``own`` are the directories of the configuration that it may write to.
    """
    return [
        warning(
            Code.UNIT_DROP_IN,
            f"{line.where} loosens the unit: {line.name}={line.value}, {why}",
            f"take the line out of {line.where.rpartition(':')[0]} unless you need it,"
            " then systemctl daemon-reload && systemctl restart commitd",
        )
        for line in _in_force(found)
        if (why := _looser(line, own))
    ]


def _in_force(found: Sequence[Line]) -> list[Line]:
    """Without what a later line takes back: of a directive with one value the last holds, and an
    empty value begins a list anew.
    """
    kept: list[Line] = []
    for line in found:
        if not line.value or line.name not in _LISTS:
            kept = [each for each in kept if each.name != line.name]
        kept.append(line)
    return kept


def beyond_reach(
    found: Sequence[Line], read: Sequence[tuple[str, str]], written: Sequence[tuple[str, str]]
) -> list[Finding]:
    """What the configuration names (setting, path) and the service cannot read, or write to.

    It sees no home directories, and writes to its own directories alone, but for what a drop-in
    gives it.
    """
    last = {line.name: line.value for line in found}
    shown = [path for line in found if line.name in _SHOWS for path in _paths(line.value)]
    writes = [path for line in found if line.name in _WRITES for path in _paths(line.value)]
    for name, root in (("StateDirectory", "/var/lib"), ("RuntimeDirectory", "/run")):
        writes += [f"{root}/{path}" for path in last.get(name, "").split()]
    hidden = last.get("ProtectHome") in _AS_STRICT["ProtectHome"] and last.get(
        "TemporaryFileSystem"
    )
    strict = last.get("ProtectSystem") == SHIPPED["ProtectSystem"]
    return [
        *(
            _out_of_reach(what, path, "does not see it", "BindReadOnlyPaths=")
            for what, path in read
            if hidden and _below(path, _HOMES) and not _below(path, shown)
        ),
        *(
            _out_of_reach(what, path, "may not write there", "ReadWritePaths=")
            for what, path in written
            if strict and not _below(path, writes)
        ),
    ]


def memory(found: Sequence[Line], parallel: int) -> list[Finding]:
    """Whether ``MemoryMax=`` is enough for ``converge.parallel``, see the unit."""
    said = [line for line in found if line.name == "MemoryMax"][-1:]
    needed = _AGENT_MIB + parallel * _STACK_MIB
    if not said or (has := _mebibytes(said[0].value)) is None or has >= needed:
        return []
    return [
        warning(
            Code.UNIT,
            f"{said[0].where}: MemoryMax={said[0].value} is less than converge.parallel:"
            f" {parallel} can take ({needed} MiB)",
            f"systemctl edit commitd: [Service] MemoryMax={needed}M, or a smaller parallel",
        )
    ]


def _mebibytes(value: str) -> float | None:
    """None: no limit, or one that is a share of the machine's."""
    size = _SIZE.fullmatch(value)
    return int(size[1]) * _UNITS[size[2]] / 1024**2 if size else None


def _out_of_reach(what: str, path: str, why: str, directive: str) -> Finding:
    return problem(
        Code.UNIT,
        f"{what}: {path}: the service {why}",
        f"move it, or systemctl edit commitd: [Service] {directive}{path}",
    )


def _below(path: str, places: Sequence[str]) -> bool:
    return any(path == place or path.startswith(f"{place}/") for place in places)


def _looser(line: Line, own: Sequence[str]) -> str | None:
    """In which way it does; None: it does not."""
    name, value = line.name, line.value
    shipped = SHIPPED.get(name)
    if name in _WIDENS and value:
        return "of which the shipped unit has none"
    if name in _WRITES:
        more = [path for path in _paths(value) if path not in {*own, _VERSIONS}]
        return f"which lets it write to {', '.join(more)}" if more else None
    if name == "User" and value not in {"", "root", "0"}:
        return "and the agent needs root's files"
    if shipped is None:
        return None
    if name in _SETS:
        return _more_of(name, value, shipped)
    if name == "NoExecPaths":
        return None if value else f"which takes back {shipped}"
    low = value.lower()
    if shipped == "yes":
        return "shipped as yes" if low in _NO or not low else None
    if name == "WatchdogSec":
        return "without which a hung agent stays" if low in {"0", "infinity", ""} else None
    if low in _AS_STRICT.get(name, frozenset({shipped.lower()})):
        return None
    if name in {"UMask", "LimitCORE", "MemorySwapMax"} and low.lstrip("0") == shipped.lstrip("0"):
        return None
    if low in _YES and "yes" in _AS_STRICT.get(name, ()):
        return None
    return f"shipped as {shipped}"


def _more_of(name: str, value: str, shipped: str) -> str | None:
    if not value:  # begins the list anew
        return None if name == "CapabilityBoundingSet" else "which takes the whole list back"
    if value.startswith("~"):
        return "which allows all others" if name != "SystemCallFilter" else None
    more = [word for word in value.split() if word not in shipped.split()]
    return f"which adds {' '.join(more)}" if more else None


def _paths(value: str) -> Iterator[str]:
    for word in value.split():
        source, _, to = word.lstrip("-+").partition(":")
        yield (to.partition(":")[0] or source).rstrip("/") or "/"


def agent_service(seen: Service | None) -> Iterator[Finding]:
    """The agent's own. None: no systemd runs this machine."""
    if seen is None:
        yield unknown(Code.UNIT, "no systemd runs this machine")
        return
    if seen.load == "not-found":
        yield warning(
            Code.UNIT,
            f"systemd has no {NAME}: the agent does not come back at a boot",
            "install the package, or make install",
        )
        return
    if seen.load != "loaded":
        yield _unusable(Code.UNIT, NAME, seen.load)
        return
    if seen.enabled not in {"enabled", "enabled-runtime", "linked", "alias", "static"}:
        said = f"{NAME} is {seen.enabled or 'not enabled'}: it does not start at a boot"
        yield problem(Code.UNIT, said, "systemctl enable commitd")
    if seen.needs_reload:
        said = f"the files of {NAME} have changed since systemd read them"
        yield warning(Code.UNIT, said, "systemctl daemon-reload && systemctl restart commitd")
    if seen.active == "failed":
        hint = "journalctl -u commitd -n 20; once that is mended: systemctl restart commitd"
        yield problem(Code.UNIT, f"{NAME} has failed", hint)
    elif seen.active not in {"active", "activating", "reloading"}:
        yield problem(Code.UNIT, f"{NAME} is {seen.active}", "systemctl start commitd")
    else:
        yield ok(Code.UNIT, f"{NAME} is {seen.active}, {seen.enabled}")


def _unusable(code: Code, name: str, load: str) -> Finding:
    """A service that is there, and that systemd does not start: ``load`` is its LoadState."""
    if load == "masked":
        return problem(code, f"{name} is masked: nothing can start it", f"systemctl unmask {name}")
    remedy = f"systemctl status {name} says why; then systemctl daemon-reload"
    return problem(code, f"systemd cannot load {name} ({load})", remedy)


def docker_service(seen: Service | None) -> Finding:
    """Docker's. An engine can be started in other ways, too."""
    code, name = Code.DOCKER_SERVICE, "docker.service"
    if seen is None:
        return unknown(code, "no systemd runs this machine")
    if seen.load == "not-found":
        return unknown(code, f"systemd has no {name}: something else has to start Docker at a boot")
    if seen.load != "loaded":
        return _unusable(code, name, seen.load)
    if seen.active == "failed":
        return problem(code, f"{name} has failed", "journalctl -u docker -n 20")
    if seen.enabled not in {"enabled", "enabled-runtime", "static", "indirect", "linked"}:
        said = f"{name} is {seen.enabled or 'not enabled'}: Docker does not start at a boot"
        return warning(code, said, "systemctl enable docker")
    if seen.active != "active":
        return warning(code, f"{name} is {seen.active}", "systemctl start docker")
    return ok(code, f"{name} is active, {seen.enabled}")
