"""The model that Compose is given: the one that was judged, with nothing left to look up.

    export ──config──▶ model ──placed──▶ with the mounts of the checkout ──judge──▶ text ──▶ up

Compose reads it from standard input. A model has its values with every ``$`` doubled, as Compose
prints them and reads them back; its keys are as they are. The config hash of a service is that of
the files, because it is made of what the model says and of nothing else: what must not be changed
here without need is every word of a service.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from agent.domain.compose import host_mounts
from agent.domain.documents import Path
from agent.domain.repository import compose_paths, hooks

Model = Mapping[str, Any]

_OFF = {"image": "none", "profiles": ["commitd-is-never-on"]}
"""A service that is not run: Compose wants those to be declared that others may come after."""
_NO_YAML = re.compile(r"\\\\|\\u(d[89ab][0-9a-f]{2})\\u(d[c-f][0-9a-f]{2})|\x7f")
"""A character in two parts, and one that YAML does not take for text."""
_INLINE = ("configs", "secrets")
_OPTIONS, _SECCOMP = "security_opt", "seccomp"


def placed(model: Model, root: str, checkout: str) -> dict[str, Any]:
    """``model`` as if its files had been read in ``checkout`` and not in ``root``.

    All paths move but those that images are built from, also of secrets that only builds use: that
    is done with what was judged.
    """
    builds = [service.get("build") or {} for service in (model.get("services") or {}).values()]
    mounted = _used("secrets", (raw for _, raw in _containers(model)))
    stay = {("secrets", name) for name in _used("secrets", builds) - mounted}
    old, new = (path.replace("$", "$$") for path in (root, checkout))

    def moved(value: Any, at: Path) -> Any:
        if isinstance(value, str):
            return new + value[len(old) :] if f"{value}/".startswith(f"{old}/") else value
        if isinstance(value, Mapping):
            return {
                key: each
                if _is_build((*at, key)) or (*at, key) in stay
                else moved(each, (*at, key))
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
    return as_yaml({**model, "services": {**off, **services}})


def as_yaml(document: Model) -> bytes:
    """JSON that YAML reads as the same."""
    return _NO_YAML.sub(_yaml, json.dumps(document)).encode()


def _yaml(found: re.Match[str]) -> str:
    """What YAML, as which Compose reads it, has another way of writing for than JSON."""
    if not found[1]:
        return r"\u007f" if found[0] == "\x7f" else found[0]
    return f"\\U{0x10000 + ((int(found[1], 16) & 0x3FF) << 10) + (int(found[2], 16) & 0x3FF):08x}"


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
        used = _used(kind, [u for s in services for u in (s, s.get("build") or {})])
        for name, value in sorted((model.get(kind) or {}).items()):
            if name in used and (variable := (value or {}).get("environment")):
                found.setdefault(str(variable), (kind, name, "environment"))
    return found


def _used(kind: str, users: Iterable[Model]) -> set[str]:
    """The configs or secrets that ``users`` name."""
    return {
        use["source"] for user in users for use in user.get(kind) or () if isinstance(use, Mapping)
    }


def seccomp(model: Model) -> list[str]:
    """The files with seccomp profiles that its containers name, each once."""
    found = (
        compose_paths.seccomp_profile(str(o))
        for _, raw in _containers(model)
        for o in raw.get(_OPTIONS) or ()
    )
    return list(dict.fromkeys(name.replace("$$", "$") for name in found if name))


def with_seccomp(model: Model, names: Mapping[str, str]) -> dict[str, Any]:
    """``model`` with other names of these files; ``names`` has all of them."""
    found = copy.deepcopy(dict(model))
    for _, raw in _containers(found):
        for i, option in enumerate(raw.get(_OPTIONS) or ()):
            if name := compose_paths.seccomp_profile(str(option)):
                other = names[name.replace("$$", "$")].replace("$", "$$")
                raw[_OPTIONS][i] = f"{_SECCOMP}={other}"
    return found


def sources(model: Model) -> Iterator[tuple[str, str]]:
    """What of the host is mounted, with who mounts it: absolute paths."""
    yield from ((mount.name, mount.source) for mount in host_mounts.of(model))
    for kind in _INLINE:
        for name, value in sorted((model.get(kind) or {}).items()):
            if file := (value or {}).get("file"):
                yield f"{kind}: {name}", str(file).replace("$$", "$")


def _containers(model: Model) -> Iterator[tuple[str, Any]]:
    """Services, and hooks that are containers of their own, by their names."""
    services: Mapping[str, Any] = model.get("services") or {}
    for name, raw in sorted(services.items()):
        yield name, raw
        for hook in hooks.of_service(name, raw, hooks.KEY):
            yield hook.name, hook.spec
