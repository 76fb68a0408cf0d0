"""Fifty changed secrets at once, both ways of running SOPS, against one `sops decrypt` for each.

By hand is the bare binary by `xargs`, as many at a time as there are cores. The agent's time is
that of the part of it that decrypts: reading the key, SOPS, writing each file durably, and the
list of what was written. All three take turns on the same files, of which every turn has new ones.
"""

from __future__ import annotations

import os
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import anyio

from agent.adapters.engine.engine import Engine
from agent.adapters.secrets.plaintext_store import PlaintextStore
from agent.adapters.secrets.sops import BinarySops, ContainerSops, Decryptor
from agent.adapters.state.async_journal import AsyncJournal
from agent.adapters.state.journal import Journal
from agent.control.secrets.decrypt import SecretKeeper
from agent.domain.repository.desired import DesiredState, EnvFile, Stack
from agent.domain.revision import Revision
from tests.bench.by_hand import events
from tests.bench.figures import Figure
from tests.sandbox import Sandbox
from tests.sandbox.process import run
from tests.values import replace

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

SECRETS = 50
ROUNDS = 3
GOAL = 1.3


def main() -> list[Figure]:
    with Sandbox() as box:
        image = box.images.sops
        box.engine.pull(image)
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            turns = [
                list(pool.map(box.encrypt, [f"A=value-{turn}-{n}\n" for n in range(SECRETS)]))
                for turn in range(ROUNDS)
            ]
        times, starts = anyio.run(_measure, box, image, turns)
    hand, binary, container = (statistics.median(each) for each in times)
    against = f"sops decrypt by xargs -P{os.cpu_count()}: median {hand:.2f} s"
    return [
        Figure(
            what=f"{SECRETS} changed secrets, SOPS as a binary",
            measured=f"median {binary:.2f} s, worst {max(times[1]):.2f} s, n {ROUNDS}",
            against=against,
            ratio=f"{binary / hand:.2f}",
            goal=f"{GOAL:g}",
            met=binary / hand <= GOAL,
        ),
        Figure(
            what="  SOPS as a container",
            measured=f"median {container:.2f} s, worst {max(times[2]):.2f} s, n {ROUNDS}",
            against=against,
            ratio=f"{container / hand:.2f}",
        ),
        Figure(
            what="  containers that were started for them",
            measured=f"{starts} in {ROUNDS} batches",
            goal="1 a batch",
            met=starts == ROUNDS,
        ),
    ]


async def _measure(
    box: Sandbox, image: str, turns: list[list[bytes]]
) -> tuple[tuple[list[float], list[float], list[float]], int]:
    times: tuple[list[float], list[float], list[float]] = [], [], []
    starts = 0
    async with Engine(box.engine.host) as engine:
        ways: dict[str, Decryptor] = {
            "binary": BinarySops(box.sops, box.sops_sha256),
            "container": ContainerSops(image, engine),
        }
        keepers = {name: Quarantine(box, box.root / name, way) for name, way in ways.items()}
        for number, sealed in enumerate(turns):
            times[0].append(await anyio.to_thread.run_sync(_by_hand, box, number, sealed))
            times[1].append(await keepers["binary"].decrypt(number, sealed))
            began = time.time()
            times[2].append(await keepers["container"].decrypt(number, sealed))
            starts += len(await anyio.to_thread.run_sync(events, box.engine, began, "start"))
    return times, starts


def _by_hand(box: Sandbox, turn: int, sealed: list[bytes]) -> float:
    place = box.root / f"by-hand-{turn}"
    (place / "out").mkdir(parents=True)
    for n, content in enumerate(sealed):
        (place / f"{n}.secret.env").write_bytes(content)
    words = ["xargs", "-P", str(os.cpu_count()), "-I", "{}", str(box.sops), "decrypt"]
    words += ["--output", f"{place}/out/{{}}", f"{place}/{{}}"]
    names = "".join(f"{n}.secret.env\n" for n in range(SECRETS))
    began = time.monotonic()
    run(words, stdin=names.encode(), env={"SOPS_AGE_KEY_FILE": str(box.age.private)})
    took = time.monotonic() - began
    if len(list((place / "out").iterdir())) != SECRETS:
        raise AssertionError("not all were decrypted by hand")
    return took


class Quarantine:
    """The agent's own, for stacks with a secret each, that are read from memory."""

    def __init__(self, box: Sandbox, root: Path, way: Decryptor) -> None:
        for n in range(SECRETS):
            (root / f"repo/stacks/s{n}").mkdir(parents=True)
        self._sealed: list[bytes] = []
        self._quarantine = SecretKeeper(
            PlaintextStore(root / "repo", root / "run", state=root),
            AsyncJournal(Journal(root / "journal.db")),
            way,
            box.age.private.read_bytes,
            self._contents,
        )

    async def decrypt(self, turn: int, sealed: list[bytes]) -> float:
        """All of them; seconds."""
        self._sealed = sealed
        stacks = [
            replace(
                Stack(
                    name=f"s{n}",
                    compose=f"stacks/s{n}/compose.yaml",
                    environment=(),
                    inputs=(),
                    digest=str(turn),
                ),
                environment=(EnvFile(f"stacks/s{n}/a.secret.env", f"{turn}-{n}", secret=True),),
            )
            for n in range(SECRETS)
        ]
        desired = DesiredState(
            revision=Revision(sha="0" * 40, author="", committed_at="", subject=""),
            host="media",
            stacks=tuple(stacks),
        )
        began = time.monotonic()
        locked = await self._quarantine.refresh(desired, frozenset())
        took = time.monotonic() - began
        if locked:
            raise AssertionError(f"not all were decrypted: {locked}")
        return took

    async def _contents(self, oids: Mapping[str, str]) -> dict[str, bytes]:
        return {path: self._sealed[int(oid.partition("-")[2])] for path, oid in oids.items()}
