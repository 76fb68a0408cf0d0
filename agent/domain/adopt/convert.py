"""A Compose project as a person runs it, rewritten to fit the repository's layout.

Nothing that decides on a container's configuration may change by it but the names of images: data
stays where it is, by its absolute path; values stay what they are, but those that look secret move
into a file that will be encrypted.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from agent.domain import documents
from agent.domain.adopt import bind_paths, residual_secrets
from agent.domain.adopt.running_project import Origin, ProjectValues
from agent.domain.documents import Document, Path
from agent.domain.errors import PermanentError
from agent.domain.repository import compose_paths, dotenv, hooks, interpolation, yaml_edit
from agent.domain.repository.layout import SECRET_SUFFIX, plaintext_path
from agent.domain.sops.heuristics import looks_secret, with_credentials

_VARIABLE = re.compile(r"(?<!\$)(?:\$\$)*\$(?:\{([A-Za-z_]\w*)|([A-Za-z_]\w*))", re.ASCII)
_REFERENCE = re.compile(
    r"(?<!\$)((?:\$\$)*)\$(?:\{[A-Za-z_]\w*(?::?\?[^{}]*)?\}|[A-Za-z_]\w*)", re.ASCII
)
"""A variable and nothing that stands in for it."""
_SIMPLE = re.compile(r"[^\s'\"$#\\`]*")
"""Values that mean the same in every reading of an env file."""
_NO_WORD = re.compile(r"\W+", re.ASCII)
_OWN = "COMPOSE_"
_NOT_ADOPTED = {
    "build": "push the image and name it",
    "label_file": "write labels out",
    **dict.fromkeys(hooks.KEYS, "add this stack by hand"),  # with values and mounts of their own
}


@dataclass(slots=True)
class Converted:
    """What belongs into the repository, by path; ``secrets`` are still to be encrypted.

    ``moved`` names the values that went into secrets, ``notes`` say what a person should look at.
    Never shown as a whole: it holds the secrets.
    """

    files: dict[str, bytes] = field(default_factory=dict, repr=False)
    secrets: dict[str, dict[str, str]] = field(default_factory=dict, repr=False)
    moved: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def plaintext(self, path: str) -> bytes:
        """One secret file as SOPS gets it: a pair a line, verbatim."""
        return "".join(f"{key}={value}\n" for key, value in self.secrets[path].items()).encode()


def env_files(content: bytes, name: str, directory: str) -> dict[str, bool]:
    """The files that ``env_file:`` names, by absolute path, and whether they are read raw."""
    document = documents.load(content, name)
    return {place: mention.raw for mention, place in _env_files(document, directory)}


def convert(origin: Origin) -> Converted:
    """Raises :class:`PermanentError` with a place for what does not fit into the layout."""
    return _Conversion(origin).run()


class _Conversion:
    def __init__(self, origin: Origin) -> None:
        self._o = origin
        self._document = documents.load(origin.content, origin.name)
        self._base = f"stacks/{origin.project}"
        self._wanted = bind_paths.wanted(self._document, origin)
        self._used: set[str] = set()
        self._raw: list[Path] = []
        self._found = Converted()
        self._main = f"{self._base}/{origin.project}{SECRET_SUFFIX}"

    def run(self) -> Converted:
        services = self._document.data.get("services")
        if not isinstance(services, dict):
            raise self._document.error((), "declares no services")
        self._refuse()
        self._used = self._used_for_secrets()
        self._named_values()
        self._interpolated()
        for name, service in services.items():
            if isinstance(service, dict):
                self._image(str(name), service)
                self._literals(str(name))
        content = yaml_edit.rewrite(self._o.content, self._o.name, self._wanted)
        content = self._marked_raw(content)
        self._found.files[f"{self._base}/compose.yaml"] = content
        document = documents.load(content, f"{self._base}/compose.yaml")
        self._found.notes += residual_secrets.notes(
            document, self._found.files, self._found.secrets
        )
        return self._found

    def _refuse(self) -> None:
        """What would need another container, or a place that the layout does not have."""
        for kind in ("configs", "secrets"):
            for name, entry in (self._document.data.get(kind) or {}).items():
                if isinstance(entry, dict) and entry.get("file"):
                    raise self._document.error(
                        (kind, name, "file"),
                        f"{kind}: {name} is a file beside the Compose file",
                        "mount it as a volume, or add this stack by hand",
                    )
        for name, service in self._document.data["services"].items():
            for key, hint in _NOT_ADOPTED.items():
                if isinstance(service, dict) and key in service:
                    raise self._document.error(
                        ("services", name, key), f"{name}: {key}: cannot be adopted", hint
                    )

    def _image(self, name: str, service: Mapping[str, Any]) -> None:
        image = service.get("image")
        if isinstance(image, str) and image in self._o.pins:
            self._wanted["services", name, "image"] = self._o.pins[image]

    # --- values ---

    def _named_values(self) -> None:
        """The files that ``env_file:`` names: beside the Compose file, as a whole."""
        placed: dict[str, str] = {}
        for mention, place in _env_files(self._document, self._o.directory):
            at = mention.at
            values = self._o.env_files.get(place)
            if values is None:
                if mention.required:
                    raise self._document.error(at, f"{place} is not there")
                continue
            if place not in placed:
                placed[place] = self._place(place, values, set(placed.values()))
            if not placed[place].endswith(SECRET_SUFFIX):
                self._wanted[at] = f"./{posixpath.relpath(placed[place], self._base)}"
                continue
            hidden = posixpath.basename(plaintext_path(placed[place]))
            simple = all(_SIMPLE.fullmatch(value) for value in values.values.values())
            if mention.raw or (simple and not self._o.raw):
                self._wanted[at] = hidden
            elif not self._o.raw:
                raise self._document.error(
                    at,
                    "its values would be read in another way once encrypted",
                    "Compose 2.30 or newer reads them as they are (format: raw)",
                )
            elif at[-1] == "path":
                self._wanted[at] = hidden
                self._raw.append(at[:-1])
            else:
                entry = json.dumps({"path": hidden, "format": "raw"})
                self._wanted[at] = f"[{entry}]" if at[-1] == "env_file" else entry

    def _marked_raw(self, content: bytes) -> bytes:
        """The Compose file with the format said of entries that have a mapping of their own."""
        for at in self._raw:
            name = self._o.name
            if documents.value(documents.load(content, name).data, (*at, "format")) == "raw":
                continue  # an alias of one that has it by now
            changed = yaml_edit.insert(content, name, at, "format: raw")
            if changed is None:
                raise self._document.error(at, "its format cannot be set here", "add format: raw")
            content = changed
        return content

    def _place(self, place: str, values: ProjectValues, taken: set[str]) -> str:
        """Where an env file goes; one with secrets becomes a secret as a whole."""
        stem = posixpath.basename(place).removesuffix(".env").strip(".") or "dotenv"
        secret = any(self._is_secret(key, value) for key, value in values.values.items())
        if not secret and place in self._o.interpolation:
            return f"{self._base}/{_interpolation_name(place)}"
        number = ""
        while True:
            path = f"{self._base}/{stem}{number}{SECRET_SUFFIX}"
            if not secret:
                # One level down it is no file for interpolation.
                path = f"{self._base}/env/{stem}{number}.env"
            if path not in taken and path != self._main:
                break
            number = str(int(number or 1) + 1)
        if secret:
            self._hide(path, values.values, place)
        else:
            self._found.files[path] = values.content
        return path

    def _interpolated(self) -> None:
        """The files of ``${…}``: what looks secret moves out, line by line."""
        for place, values in self._o.interpolation.items():
            hidden = {k: v for k, v in values.values.items() if self._is_secret(k, v)}
            known = self._found.secrets.values()
            # Of a file that env_file: names too, they are in place already.
            if not any(all(each.get(k) == v for k, v in hidden.items()) for each in known):
                self._hide(self._main, hidden, place)
            self._keep_plain(place, _without(_text(place, values), hidden))

    def _is_secret(self, key: str, value: str) -> bool:
        return bool(value) and (key in self._used or looks_secret(key, value))

    def _keep_plain(self, place: str, text: str) -> None:
        own = {k for k, _ in dotenv.keys(text) if k.startswith(_OWN)}
        if own:
            self._found.notes.append(
                f"{place}: {', '.join(sorted(own))} steers Compose itself and is left out"
            )
            text = _without(text, own)
        if dotenv.keys(text):
            path = f"{self._base}/{_interpolation_name(place)}"
            if path in self._found.files:
                raise PermanentError("another env file has this name too", where=place)
            self._found.files[path] = text.encode()

    def _used_for_secrets(self) -> set[str]:
        """Variables that secrets are, and that values are made of which look secret."""
        given = self._document.data.get("secrets")
        entries = given.values() if isinstance(given, dict) else ()
        names = (entry.get("environment") for entry in entries if isinstance(entry, dict))
        used = {str(name) for name in names if name}
        for service, key, text, _ in self._environment():
            value = self._o.environment.get(service, {}).get(key) or ""
            if looks_secret(key, value):
                used.update(a or b for a, b in _VARIABLE.findall(text))
        return used

    def _environment(self) -> Iterator[tuple[str, str, str, Path]]:
        """Service, key, text and place of each value of ``environment:``."""
        for name, service in self._document.data["services"].items():
            found = service.get("environment") if isinstance(service, dict) else None
            at: Path = ("services", name, "environment")
            if isinstance(found, dict):
                for key, value in found.items():
                    yield str(name), str(key), "" if value is None else str(value), (*at, key)
            for i, pair in enumerate(found if isinstance(found, list) else ()):
                key, sign, value = str(pair).partition("=")
                if sign:
                    yield str(name), key, value, (*at, i)

    def _literals(self, name: str) -> None:
        """Secrets that are written out in the Compose file."""
        for service, key, text, at in self._environment():
            value = self._o.environment.get(name, {}).get(key)
            if service != name or not value or not looks_secret(key, value):
                continue
            left = _REFERENCE.sub(r"\1", text)
            # Of variables alone, which move; the words around them, or in their place, are a part.
            part = with_credentials(left) if "://" in left else looks_secret(key, left)
            if left != text and not part and not _VARIABLE.search(left):
                continue
            variable = self._variable(name, key, value)
            self._hide(self._main, {variable: value}, f"{self._o.name}:{self._document.line(at)}")
            reference = f"${{{variable}}}"
            self._wanted[at] = f"{key}={reference}" if isinstance(at[-1], int) else reference

    def _variable(self, service: str, key: str, value: str) -> str:
        """A name that means nothing else to this stack."""
        known: dict[str, str] = {}
        for each in self._o.interpolation.values():
            known.update(each.values)
        for hidden in self._found.secrets.values():
            known.update(hidden)
        long = _NO_WORD.sub("_", f"{service}_{key}").upper()
        plain = key if re.fullmatch(r"[A-Za-z_]\w*", key, re.ASCII) else long
        name, number = plain, 1
        while known.get(name, value) != value or interpolation.refused(name):
            name, number = (long, 2) if name == plain != long else (f"{long}_{number}", number + 1)
        return name

    def _hide(self, path: str, values: Mapping[str, str], where: str) -> None:
        for key, value in values.items():
            if "\n" in value or "\r" in value:
                raise PermanentError(
                    f"the value of {key} has line breaks, which an encrypted env file cannot hold",
                    where=where,
                    hint="give it to the service as a file",
                )
            if problem := interpolation.refused(key):
                raise PermanentError(f"{problem}, and it stands among secrets", where=where)
            self._found.secrets.setdefault(path, {})[key] = value
            if key not in self._found.moved:
                self._found.moved.append(key)


def _env_files(
    document: Document, directory: str
) -> Iterator[tuple[compose_paths.PathMention, str]]:
    """Each that a service names, and its absolute path."""
    services = document.data.get("services") if isinstance(document.data, dict) else None
    for name, service in services.items() if isinstance(services, dict) else ():
        if isinstance(service, dict):
            for mention in compose_paths.of_service(service, ("services", name)):
                if mention.kind is compose_paths.PathKind.ENV_FILE:
                    yield mention, posixpath.normpath(posixpath.join(directory, mention.name))


def _interpolation_name(place: str) -> str:
    name = posixpath.basename(place)
    if name == ".env":
        return name
    return f"{name.strip('.').removesuffix('.env')}.env"


def _text(place: str, values: ProjectValues) -> str:
    try:
        return values.content.decode()
    except UnicodeDecodeError:
        raise PermanentError("it is not UTF-8", where=place, hint="write it anew") from None


def _without(text: str, keys: Iterable[str]) -> str:
    """The file without the lines that set ``keys``, whose values are of one line."""
    gone = set(keys)
    lines = {line for key, line in dotenv.keys(text) if key in gone}
    kept = [each for i, each in enumerate(text.split("\n"), 1) if i not in lines]
    return "\n".join(kept)
