"""What one stack asks of the host that runs it, seen on its model."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping
from typing import Any

from agent.domain.compose import policy
from agent.domain.errors import PermanentError
from agent.domain.finding import Finding, Level
from agent.domain.repository import hooks, ignored, image_reference
from agent.domain.repository.desired import Stack
from agent.domain.repository.stack_settings import KEY
from agent.domain.review.checks import health
from agent.domain.review.checks.places import Places

Model = Mapping[str, Any]


def judge(stack: Stack, model: Model, root: str, places: Places) -> Iterator[Finding]:
    """All of it; ``root`` is the absolute path that stands for the repository in ``model``."""
    yield from _refused(stack, model, root, places)
    yield from _privileges(model, places)
    yield from pins(stack, model, places)
    yield from _data(model, root, places)
    yield from _reactions(stack, model, places)
    yield from health.judge(stack, model, places)


def without_effect(stack: Stack) -> Iterator[Finding]:
    """What stands in its files, and Compose is not told of."""
    for note in stack.notes:
        level = Level.ERROR if note.rule == ignored.OVERRIDE else Level.WARNING
        yield Finding(level, note.rule, note.where, note.message, note.hint)


def written(places: Places) -> Model:
    """What can be said of the model without Compose: the images that are written out."""
    services: dict[str, dict[str, Any]] = {}
    for name, service, _ in places.services():
        before = [_image(hook.spec) for hook in hooks.of_service(name, service, hooks.KEY)]
        services[name] = {**services.get(name, {}), **_image(service), hooks.KEY: before}
    return {"services": services}


def _image(container: Mapping[Any, Any]) -> dict[str, str]:
    image = container.get("image")
    return {"image": image} if isinstance(image, str) and "$" not in image else {}


def _refused(stack: Stack, model: Model, root: str, places: Places) -> Iterator[Finding]:
    for message in policy.refusals(model, root, build=stack.build):
        kind, _, rest = message.partition(": ")
        name = rest.partition(": ")[0]
        top = kind in {"configs", "secrets"} and places.has(kind, name)
        where = places.of(kind, name, "file") if top else places.of("services", kind, name)
        yield Finding(Level.ERROR, "policy", where, message.replace(f"{root}/", ""))


def _privileges(model: Model, places: Places) -> Iterator[Finding]:
    for ask in policy.asks(model.get("services") or {}):
        where = places.of("services", ask.service, *ask.path)
        yield Finding(Level.WARNING, "privileges", where, f"{ask.service}: {ask.what}")


def pins(stack: Stack, model: Model, places: Places) -> Iterator[Finding]:
    """Images that are not named by tag and digest; those that Compose builds are let be."""
    services: Mapping[str, Model] = model.get("services") or {}
    for name, path, container in _containers(model):
        image = str(container.get("image") or "")
        if not image or image_reference.pinned(image) or (stack.build and container.get("build")):
            continue
        if container is not services[str(path[0])] and image == services[str(path[0])].get("image"):
            continue  # it is said of its service
        level = Level.ERROR if stack.pins == "require" else Level.WARNING
        where = places.of("services", *path, "image")
        message = f"{name}: {image} is not pinned by tag and digest"
        mention = stack.images.get(name)
        try:
            image_reference.question(mention.text if mention else image)
            hint: str | None = f"commitd pin {stack.name}"
        except PermanentError as err:
            hint = err.hint
        yield Finding(level, "pins", where, message, hint)


def _data(model: Model, root: str, places: Places) -> Iterator[Finding]:
    for name, path, container in _containers(model):
        for mount in container.get("volumes") or []:
            source = str(mount.get("source") or "")
            within = f"{source}/".startswith(f"{root}/")
            inside = posixpath.relpath(source, root) if within else None
            if mount.get("type") == "bind" and inside and not mount.get("read_only"):
                yield Finding(
                    Level.WARNING,
                    "data-in-tree",
                    mount_place(path, str(mount.get("target")), places),
                    f"{name}: can write to {inside}, "
                    f"{'the whole' if inside == '.' else 'inside the'} checkout",
                    "mount files of the repository with :ro; keep data in a volume, or at an "
                    "absolute path",
                )


def _containers(model: Model) -> Iterator[tuple[str, tuple[str | int, ...], Model]]:
    """Services and their hooks: the name, the path below ``services``, and the definition."""
    services: Mapping[str, Model] = model.get("services") or {}
    for name, service in sorted(services.items()):
        yield name, (name,), service
    for hook in hooks.containers(services):
        yield hook.name, (hook.service, hook.key, hook.index), hook.spec


def mount_place(path: tuple[str | int, ...], target: str, places: Places) -> str:
    """``file:line`` of the mount at ``target`` of what is at ``path`` below ``services``."""
    for document in places.documents:
        mounts = _below(document.data, ("services", *path, "volumes"))
        for i, mount in enumerate(mounts if isinstance(mounts, list) else []):
            written = mount.get("target") if isinstance(mount, dict) else mount
            if isinstance(written, str) and target in written.split(":"):
                return f"{document.name}:{document.line(('services', *path, 'volumes', i))}"
    return places.of("services", *path, "volumes")


def _below(data: Any, path: tuple[str | int, ...]) -> Any:
    """What a file has at ``path``, or None."""
    for step in path:
        if isinstance(data, dict):
            data = data.get(step)
        else:
            there = isinstance(data, list) and isinstance(step, int) and step < len(data)
            data = data[step] if there else None
    return data


def _reactions(stack: Stack, model: Model, places: Places) -> Iterator[Finding]:
    """``on_change:`` of stacks that include others, whose services only Compose knows."""
    known = {*(model.get("services") or {}), *(name for name, _, _ in places.services())}
    for service in sorted(set(stack.settings.on_change) - known):
        yield Finding(
            Level.ERROR,
            "settings",
            places.of(KEY, "on_change", service),
            f"there is no service {service!r}",
            f"there are {', '.join(sorted(known))}",
        )
