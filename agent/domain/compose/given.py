"""The model that Compose is given: the one that was judged, with nothing left to look up.

    export ──config──▶ model ──placed──▶ with the mounts of the checkout ──judge──▶ text ──▶ up

Compose reads it from standard input. A model has its values with every ``$`` doubled, as Compose
prints them and reads them back; its keys are as they are. The config hash of a service is that of
the files, because it is made of what the model says and of nothing else: what must not be changed
here without need is every word of a service.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from agent.domain.documents import Path

Model = Mapping[str, Any]

_OFF = {"image": "none", "profiles": ["commitd-is-never-on"]}
"""A service that is not run: Compose wants those to be declared that others may come after."""
_INLINE = ("configs", "secrets")
_SECCOMP = "seccomp"
_NO_FILES = ("unconfined", "builtin")


def placed(model: Model, root: str, checkout: str) -> dict[str, Any]:
    """``model`` as if its files had been read in ``checkout`` and not in ``root``.

    All paths move but those that images are built from: that is done with what was judged.
    """
    old, new = (path.replace("$", "$$") for path in (root, checkout))

    def moved(value: Any, at: Path) -> Any:
        if isinstance(value, str):
            return new + value[len(old) :] if f"{value}/".startswith(f"{old}/") else value
        if isinstance(value, Mapping):
            return {
                key: each if _is_build((*at, key)) else moved(each, (*at, key))
                for key, each in value.items()
            }
        return [moved(each, (*at, i)) for i, each in enumerate(value)] if _many(value) else value

    found: dict[str, Any] = moved(model, ())
    return found


def _is_build(at: Path) -> bool:
    return len(at) == len(("services", "name", "build")) and (at[0], at[2]) == ("services", "build")


def _many(value: Any) -> bool:
    return isinstance(value, list | tuple)


def printed(output: bytes) -> dict[str, Any]:
    """The model that ``config`` has printed. Raises ValueError.

    Compose doubles the ``$`` of keys too, and would not halve them again, because nothing is put
    into keys. What label files say is among the labels already.
    """
    model: dict[str, Any] = _plain_keys(json.loads(output))
    for service in (model.get("services") or {}).values():
        service.pop("label_file", None)
    return model


def _plain_keys(value: Any) -> Any:
    if isinstance(value, dict):
        return {key.replace("$$", "$"): _plain_keys(each) for key, each in value.items()}
    return [_plain_keys(each) for each in value] if isinstance(value, list) else value


def text(model: Model) -> bytes:
    """What Compose reads."""
    services: Mapping[str, Any] = model.get("services") or {}
    named = {name for service in services.values() for name in _comes_after(service)}
    off = dict.fromkeys(sorted(named - services.keys()), _OFF)
    return json.dumps({**model, "services": {**off, **services}}).encode()


def _comes_after(service: Mapping[str, Any]) -> Iterator[str]:
    """What a service comes after if that is there."""
    needed = service.get("depends_on")
    for name, how in needed.items() if isinstance(needed, Mapping) else ():
        if not (how or {}).get("required", True):
            yield name


def variables(model: Model) -> dict[str, Path]:
    """The variables whose values are no part of the model, and where it first names each.

    Compose looks them up when it writes a config or a secret into a container, or builds with it.
    """
    services = (model.get("services") or {}).values()
    found: dict[str, Path] = {}
    for kind in _INLINE:
        used = {
            use["source"]
            for service in services
            for user in (service, service.get("build") or {})
            for use in user.get(kind) or ()
            if isinstance(use, Mapping)
        }
        for name, value in sorted((model.get(kind) or {}).items()):
            if name in used and (variable := (value or {}).get("environment")):
                found.setdefault(str(variable), (kind, name, "environment"))
    return found


def seccomp(model: Model) -> Iterator[tuple[Path, str]]:
    """Where services name files with seccomp profiles, and those names."""
    for service, raw in sorted((model.get("services") or {}).items()):
        for i, option in enumerate(raw.get("security_opt") or ()):
            if name := _profile(str(option)):
                yield ("services", service, "security_opt", i), name.replace("$$", "$")


def with_seccomp(model: Model, names: Mapping[str, str]) -> dict[str, Any]:
    """``model`` with other names of these files; ``names`` has all of them."""

    def other(option: str) -> str:
        if not (name := _profile(option)):
            return option
        return f"{_SECCOMP}={names[name.replace('$$', '$')]}".replace("$", "$$")

    services = dict(model.get("services") or {})
    for service, raw in services.items():
        if options := raw.get("security_opt"):
            services[service] = {**raw, "security_opt": [other(str(each)) for each in options]}
    return {**model, "services": services} if services else dict(model)


def _profile(option: str) -> str:
    """The file that an option of ``security_opt`` names, or nothing. As Compose takes it apart."""
    separator = "=" if "=" in option else ":"
    kind, _, name = option.partition(separator)
    return name if kind == _SECCOMP and name not in _NO_FILES else ""
