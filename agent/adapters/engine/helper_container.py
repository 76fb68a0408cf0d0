"""Throw-away containers of the agent's own."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import anyio

from agent.adapters.engine.engine import CALL_TIMEOUT_S, AbsentError, Engine
from agent.domain.errors import CommitdError

HELPER_LABEL = "io.commitd.helper"
"""For people who look at the engine. The agent knows its helpers by ID."""
_MEMORY = 512 * 1024 * 1024


async def run_helper(
    engine: Engine,
    image: str,
    argv: list[str],
    *,
    stdin: bytes,
    timeout_s: float,
    env: Mapping[str, str] | None = None,
) -> tuple[int, bytes]:
    """Run a throw-away container with nothing but pipes; its exit code and standard output.

    No network, no capabilities, read-only root with a tmpfs, not root, no log driver. Its ID
    is in ``helpers`` before it starts, so that nobody takes it for undeclared.
    """
    config: dict[str, Any] = {
        "Image": image,
        "Entrypoint": argv[:1],
        "Cmd": argv[1:],
        "Env": [f"{name}={value}" for name, value in (env or {}).items()],
        "User": "65534:65534",
        "Labels": {HELPER_LABEL: "sops"},
        "OpenStdin": True,
        "StdinOnce": True,
        "AttachStdin": True,
        "AttachStdout": True,
        "AttachStderr": True,
        "HostConfig": {
            "NetworkMode": "none",
            "ReadonlyRootfs": True,
            "CapDrop": ["ALL"],
            "SecurityOpt": ["no-new-privileges"],
            "LogConfig": {"Type": "none"},
            "PidsLimit": 64,
            "Memory": _MEMORY,
            "MemorySwap": _MEMORY,  # no more with swap than without: a tmpfs stays off the disk
            "Ulimits": [{"Name": "core", "Soft": 0, "Hard": 0}],
            "Tmpfs": {"/tmp": "rw,noexec,nosuid,nodev,size=64m,mode=1777"},  # noqa: S108
        },
    }
    name = f"commitd-sops-{secrets.token_hex(4)}"
    async with engine.asking("create the helper") as docker:
        created = await docker.post("containers/create", config, name=name)
    container_id = str(created["Id"])
    try:
        await engine.helpers.add(container_id)
        async with engine.asking("run the helper", timeout_s) as docker:
            async with docker.attached(container_id) as streams:
                await docker.post(f"containers/{container_id}/start")
                await streams.write(stdin)
                out = await streams.output()
            ended = await docker.post(f"containers/{container_id}/wait")
        return int(ended["StatusCode"]), out
    finally:
        with anyio.move_on_after(CALL_TIMEOUT_S, shield=True), suppress(CommitdError):
            async with engine.asking("remove the helper") as docker:
                await docker.delete(f"containers/{container_id}", force="1")
        with anyio.CancelScope(shield=True):
            await engine.helpers.discard(container_id)


async def remove_helper(engine: Engine, container_id: str) -> None:
    """Remove a helper that a killed agent left behind."""
    with suppress(AbsentError):
        async with engine.asking("remove a helper") as docker:
            await docker.delete(f"containers/{container_id}", force="1")
