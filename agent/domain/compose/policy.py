"""What a stack may not ask of the host, judged on the model that Compose resolved.

    repository ──layout──▶ Stack, with its policy ┐
    Compose ──config──▶ model ────────────────────┴─judge──▶ Violation … ──▶ deploy, plan, check

``judge`` asks all rules; ``_RULES`` has those that look at one copy of the repository. A rule that
``commitd.yaml`` switches has a key in ``fleet.Policy`` as well, and nothing else. Files that were
refused as they are written never get here (``references``, ``refused_keys``); here variables have
their values.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from agent.domain.compose import build_files, host_mounts
from agent.domain.compose.host_mounts import AgentPlaces, HostMount
from agent.domain.documents import Path
from agent.domain.errors import PermanentError
from agent.domain.repository import artefacts, hooks, image_reference, refused_keys
from agent.domain.repository.artefacts import Artefact, Kind
from agent.domain.repository.desired import Stack

_SOCKETS = ("docker.sock", "podman.sock", "containerd.sock")
_PLACEHOLDERS = frozenset({".gitkeep", ".keep", ".gitignore"})
"""What people commit so that Git has an otherwise empty directory."""
WRITABLE = "writable-checkout"
PINS = "pins"
"""The rule of the same name."""
_HOST_SPACES = ("network_mode", "pid", "ipc", "uts", "userns_mode", "cgroup")

Model = Mapping[str, Any]
"""What ``docker compose config --format json`` prints."""


class Effect(StrEnum):
    """What a violation means for its stack: not deployed, or deployed and told of.

    What is only asked is named once, before the merge: by ``diff`` and ``plan`` where it is new.
    """

    REFUSED = "refused"
    WARNED = "warned"
    NOTED = "noted"
    ASKED = "asked"


class Violation(Struct, frozen=True, kw_only=True):
    """Something that a stack asks of the host, at ``path`` in its model.

    ``where`` is ``file:line`` where that is known without another look at the files.
    """

    effect: Effect
    rule: str
    path: Path
    message: str
    hint: str | None = None
    where: str | None = None

    def __str__(self) -> str:
        return f"{self.where}: {self.message}" if self.where else self.message


def judge(
    stack: Stack,
    model: Model,
    root: str,
    *,
    built: str | None = None,
    agent: AgentPlaces | None = None,
) -> list[Violation]:
    """All that ``model`` asks and ``stack`` may not, or should not.

    ``root`` is the absolute path of the repository in the model, ``built`` that of what images are
    built from, if it is another. ``agent`` are the directories of the agent on the host that is to
    run it, None: where they usually are.
    """
    places = {**dict.fromkeys(_RULES, root), _builds: built or root}
    found = list(_files(model, {root, built or root}))
    found += [each for rule in _RULES for each in rule(stack, model, places[rule])]
    return [*found, *_mounts(stack, model, root, agent or AgentPlaces())]


def of_release(violations: Iterable[Violation]) -> list[Violation]:
    """The same of a release that ran: it is repaired and restored although it is refused by now.

    Its containers can write to the checkout already, or mount an image that is not pinned, and what
    an older version of the agent accepted must not keep what runs from going on.
    """
    return [
        replace(each, effect=Effect.WARNED)
        if each.rule in {WRITABLE, PINS} and each.effect is Effect.REFUSED
        else each
        for each in violations
    ]


def summary(violations: Iterable[Violation], effect: Effect) -> str:
    """Those with this effect in one line, and what to do about them."""
    found = [each for each in violations if each.effect is effect]
    hints = dict.fromkeys(each.hint for each in found if each.hint)
    said = "; ".join(map(str, found))
    return f"{said} ({'; '.join(hints)})" if hints else said


def _programs(_: Stack, model: Model, __: str) -> Iterator[Violation]:
    """Compose runs a provider, and the plugin for models, as a program on the host."""
    if model.get("models"):
        yield _refused(("models",), refused_keys.MODELS)
    for name, service in _services(model):
        if service.get("provider"):
            said = f"{name}: provider: would run a program of the repository on the host"
            yield _refused(("services", name, "provider"), said)


def _builds(stack: Stack, model: Model, root: str) -> Iterator[Violation]:
    """A build runs the repository's instructions with the engine's rights."""
    for name, service in _services(model):
        path = ("services", name, "build")
        if service.get("build") and not stack.policy.builds:
            said = f"{name}: build: is not allowed; push an image and name it by its digest"
            yield _refused(path, said)
        elif service.get("build"):
            for key, place in build_files.read(service["build"]):
                if not _inside(place, root):
                    said = f"{name}: build: {place!r} is not in the repository; "
                    yield _refused((*path, key), f"{said}commit the sources, or push the image")
            for key in build_files.local_caches(service["build"]):
                said = f"{name}: build: {key}: type=local is a directory of the host; "
                yield _refused((*path, key), f"{said}keep the cache in a registry")


def _files(model: Model, roots: Collection[str]) -> Iterator[Violation]:
    """A config or secret is a file of the repository."""
    for kind in ("configs", "secrets"):
        for name, value in sorted((model.get(kind) or {}).items()):
            file = (value or {}).get("file")
            if file and not any(_inside(str(file), root) for root in roots):
                said = (
                    f"{kind}: {name}: {str(file)!r} is not in the repository; commit the file, "
                    "or mount it from the host as a volume"
                )
                yield _refused((kind, name, "file"), said)


def _privileges(_: Stack, model: Model, __: str) -> Iterator[Violation]:
    """What reaches beyond a container's walls is allowed. Of a hook what its service has not."""
    services = dict(_services(model))
    for name, service in services.items():
        own = list(_asks(service))
        found: list[tuple[Path, str]] = [((key,), what) for key, what in own]
        for hook in hooks.of_service(name, service, *hooks.KEYS):
            found += [
                ((hook.key, hook.index, key), f"{hook.key}[{hook.index}]: {what}")
                for key, what in _asks(hook.spec)
                if (key, what) not in own
            ]
        for path, what in found:
            yield Violation(
                effect=Effect.NOTED,
                rule="privileges",
                path=("services", name, *path),
                message=f"{name}: {what}",
            )


def _asks(container: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Keys of one service or hook, and what it gets by them."""
    if container.get("privileged"):
        yield "privileged", "privileged"
    if container.get("use_api_socket"):
        yield "use_api_socket", "use_api_socket, the engine's socket and credentials"
    for mount in container.get("volumes") or []:
        source = str(mount.get("source", "")) if isinstance(mount, Mapping) else ""
        if source.endswith(_SOCKETS) and mount.get("type") == "bind":
            yield "volumes", f"mounts the engine's socket {source}"
    for key in _HOST_SPACES:
        if container.get(key) == "host":
            yield key, f"{key}: host"
    for each in sorted(container.get("cap_add") or []):
        yield "cap_add", f"cap_add {each}"
    for each in container.get("devices") or []:
        yield "devices", f"device {_device(each)}"


def pins(stack: Stack, model: Model, _: str = "") -> Iterator[Violation]:
    """Images are named by tag and digest; those that Compose builds are exempt."""
    found = artefacts.of_model(model)
    built = {name for name, service in _services(model) if service.get("build")}
    if stack.policy.builds:
        found = [a for a in found if a.kind is not Kind.IMAGE or a.service not in built]
    else:  # the build itself is refused
        found = [a for a in found if a.kind is not Kind.CONTEXT]
    yield from unpinned(stack, found)


def unpinned(stack: Stack, named: Iterable[Artefact]) -> Iterator[Violation]:
    """Those that are not named by tag and digest."""
    nodes = ", so that nodes may run different ones" if stack.policy.swarm else ""
    for each in sorted(named, key=lambda each: each.name):
        if image_reference.pinned(each.reference):
            continue
        mention = stack.images.get(each.name)
        try:
            image_reference.question(mention.text if mention else each.reference)
            hint: str | None = f"commitd pin {stack.name}"
        except PermanentError as err:
            hint = err.hint
        yield Violation(
            effect=Effect.REFUSED if stack.policy.requires_pins else Effect.WARNED,
            rule=PINS,
            path=each.path,
            message=f"{each.name}: {each.reference} is not pinned by tag and digest{nodes}",
            hint=hint,
            where=mention.where if mention else None,
        )


def _mounts(stack: Stack, model: Model, root: str, agent: AgentPlaces) -> Iterator[Violation]:
    """What is judged in Git stays as it was judged, and who reaches the agent's own is known."""
    mounts = list(host_mounts.of(model))
    for mount in mounts:
        at = host_mounts.place(mount.source, root, agent)
        if at is not None and not mount.read_only:
            files = host_mounts.covered(stack.tracked, at)
            if files:
                yield _writable(stack, mount, at, files)
        whose = host_mounts.agents(mount.source, agent) if at is None else None
        if at is not None and ".git" in at.split("/"):
            whose = "Git's directory"
        if mount.source == "/" and mount.read_only:
            whose = "where it can read the agent's keys and secrets"
        outer = host_mounts.replaceable(mount, mounts)
        said = [(Effect.NOTED, f"mounts {mount.source}, {whose}")] if whose else []
        if outer:
            # Data of the host's own is often shared like that.
            said.append(
                (
                    Effect.NOTED if whose or at is not None else Effect.ASKED,
                    (
                        f"mounts {mount.source} below {outer.source}, where {outer.name} can write:"
                        f" {outer.name} could replace {mount.source} by a link to any host path"
                    ),
                )
            )
        for effect, text in said:
            yield Violation(
                effect=effect,
                rule="privileges",
                path=mount.path,
                message=f"{mount.name}: {text}",
                where=_where(stack, mount, mount.source if at is None else at),
            )


def _writable(stack: Stack, mount: HostMount, at: str, files: Sequence[str]) -> Violation:
    """A container that can write to ``files`` of Git, which it reaches by what is at ``at``."""
    first = stack.compose if stack.compose in files else files[0]
    more = f" and {len(files) - 1} more" if len(files) > 1 else ""
    instead = "or keep its data in a volume or an untracked directory"
    hint = f"mount it with :ro, {instead}"
    if first == at:
        what = f"{at}, which is a file of Git"
    elif len(files) == 1 and at.startswith(f"{first}/"):
        what = f"{at}, which is behind the link {first} of Git"
    elif len(files) == 1 and not first.startswith(f"{at}/") and at:
        what = f"{at}, which is the plaintext of {first}"
    else:
        what = f"{at or 'the whole repository'}, where Git has {_below(first, at)}{more}"
        hint = f"mount it with :ro, {instead}, and mount each tracked file with :ro"
        if all(path.rpartition("/")[2] in _PLACEHOLDERS for path in files):
            hint = f"git rm {' '.join(files)}: Docker makes the directory, for root"
    allowed, permit = stack.policy.writable, f"writable_checkout: {{allow: [{stack.name}]}}"
    return Violation(
        effect=Effect.NOTED if allowed else Effect.REFUSED,
        rule=WRITABLE,
        path=mount.path,
        message=f"{mount.name}: {mount.target}: the container can write to {what}",
        hint=None if allowed else f"{hint}; {permit} in commitd.yaml permits it",
        where=_where(stack, mount, at),
    )


def _below(path: str, directory: str) -> str:
    return path.removeprefix(f"{directory}/") if directory else path


def _where(stack: Stack, mount: HostMount, path: str) -> str | None:
    """``file:line`` of a mount of ``path``, as far as the files say it without Compose."""
    target = posixpath.normpath(mount.target)
    named = [m for m in stack.mounts if m.service == mount.service and m.target]
    found = [m.where for m in named if posixpath.normpath(m.target) == target]
    found += [m.where for m in stack.mounts if m.path == path]
    return next(iter(found), None)


_RULES: tuple[Callable[[Stack, Model, str], Iterable[Violation]], ...] = (
    _programs,
    _builds,
    pins,
    _privileges,
)


def _services(model: Model) -> list[tuple[str, Mapping[str, Any]]]:
    return sorted((model.get("services") or {}).items())


def _refused(path: Path, said: str) -> Violation:
    return Violation(effect=Effect.REFUSED, rule="policy", path=path, message=said)


def _inside(path: str, root: str) -> bool:
    """Whether ``path``, which Compose made absolute, is at or below ``root``."""
    return f"{posixpath.normpath(path)}/".startswith(f"{posixpath.normpath(root)}/")


def _device(value: object) -> str:
    return str(value.get("source", value)) if isinstance(value, Mapping) else str(value)
