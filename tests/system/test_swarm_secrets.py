"""Secrets and configs of a Swarm's stacks: new content rolls who uses it, and no disk has it."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import subprocess
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.sandbox.swarm import stack_file

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.sandbox import Swarm
    from tests.system.conftest import Fleet

LIST = {"host/prod/stacks.yaml": "- web\n"}
STACK = "stacks/web/compose.yaml"
PASSWORD = "stacks/web/p.secret.env"
KEY = "stacks/web/k.secret.key"
_CANARY = f"canary-{secrets.token_hex(6)}"
"""No other test has left it anywhere."""


def _file(fleet: Fleet) -> str:
    """Each kind of object, where the services of the last line use none."""
    services: dict[str, dict[str, Any]] = {
        "app": {"image": fleet.idle, "secrets": ["key", "password"]},
        "page": {"image": fleet.web, "configs": [{"source": "page", "target": "/www/index.html"}]},
        "filled": {"image": fleet.idle, "configs": ["filled"]},
        "apart": {"image": fleet.idle},
    }
    return stack_file(
        {name: {"stop_signal": "SIGKILL", **service} for name, service in services.items()},
        secrets={"key": {"file": "./.decrypted.k.secret.key"}, "password": {"environment": "P"}},
        configs={"page": {"file": "./page.html"}, "filled": {"content": "password=${P}\n"}},
    )


def _files(fleet: Fleet, password: str, key: str, page: str) -> dict[str, str | bytes | None]:
    return {
        **LIST,
        STACK: _file(fleet),
        "stacks/web/page.html": page,
        PASSWORD: fleet.box.encrypt(f"P={password}\n"),
        KEY: fleet.box.encrypt(key.encode(), kind="binary"),
    }


def _reads(swarm: Swarm, service: str, path: str) -> str:
    (task,) = swarm.tasks(service)
    container = task["Status"]["ContainerStatus"]["ContainerID"]
    return swarm.engine.run("exec", container, "cat", path)


def test_new_content_rolls_the_services_that_use_it_and_no_others(
    fleet: Fleet, swarm: Swarm
) -> None:
    fleet.commit("first", _files(fleet, f"{_CANARY}-1", f"{_CANARY}-key", "one"))
    host = fleet.manager()
    result = host.once()
    assert result.returncode == 0, result.stdout + result.stderr
    assert _reads(swarm, "web_app", "/run/secrets/password") == f"{_CANARY}-1"
    assert _reads(swarm, "web_app", "/run/secrets/key") == f"{_CANARY}-key"
    assert _reads(swarm, "web_page", "/www/index.html") == "one"
    assert _reads(swarm, "web_filled", "/filled") == f"password={_CANARY}-1\n"
    before, secrets, configs = swarm.task_ids(), swarm.names("secrets"), swarm.names("configs")
    assert len(secrets) == 2

    fleet.commit("page", {"stacks/web/page.html": "two"})
    result = host.once()
    assert result.returncode == 0, result.stdout + result.stderr
    assert _reads(swarm, "web_page", "/www/index.html") == "two"
    after = swarm.task_ids()
    assert {name for name in before if after[name] != before[name]} == {"web_page"}
    assert swarm.names("secrets") == secrets
    assert len(swarm.names("configs")) == len(configs) + 1, "the release before may come back"

    fleet.commit("password", {PASSWORD: fleet.box.encrypt(f"P={_CANARY}-2\n")})
    result = host.once()
    assert result.returncode == 0, result.stdout + result.stderr
    assert _reads(swarm, "web_app", "/run/secrets/password") == f"{_CANARY}-2"
    assert _reads(swarm, "web_filled", "/filled") == f"password={_CANARY}-2\n"
    before, after = after, swarm.task_ids()
    assert {name for name in before if after[name] != before[name]} == {"web_app", "web_filled"}

    pages = [name for name in swarm.names("configs") if name.startswith("web_page_")]
    assert len(pages) == 1, "no spec and no release needs the first one any more"
    said = f"{result.stdout}{result.stderr}{host.json('history')}"
    assert _CANARY not in said
    assert _CANARY not in "".join(swarm.names("configs") | swarm.names("secrets"))


@contextlib.contextmanager
def _disk(fleet: Fleet) -> Iterator[tuple[Path, Path]]:
    """A directory on a disk of its own, and all that was ever written to that, once it is done."""
    image, place = fleet.box.root / "disk.img", fleet.box.root / "disk"
    place.mkdir(exist_ok=True)
    image.write_bytes(b"")
    os.truncate(image, 128 * 1024 * 1024)
    subprocess.run(["mkfs.ext4", "-q", "-O", "^has_journal", image], check=True)
    subprocess.run(["mount", "-o", "loop,sync", image, place], check=True)
    try:
        yield place, image
    finally:
        subprocess.run(["umount", place], check=True)
        image.unlink()
        place.rmdir()


def _holding(top: Path, text: bytes) -> list[Path]:
    """The files at and below ``top``, on its own file system, that hold ``text``."""
    words = ["grep", "-rlaF", "--devices=skip", text.decode(), "."]
    # grep follows no link below a directory, but goes on into what is mounted there.
    found = subprocess.run(words, cwd=top, capture_output=True, check=False).stdout.decode()
    device = top.stat().st_dev
    named = (top / name for name in found.splitlines())
    return [path for path in named if path.exists() and path.stat().st_dev == device]


def test_no_plaintext_of_a_secret_has_touched_a_disk(fleet: Fleet, swarm: Swarm) -> None:
    """Also none that was deleted at once: each block that was written to the disk is searched."""
    with _disk(fleet) as (place, image):
        fleet.commit("first", _files(fleet, f"{_CANARY}-1", f"{_CANARY}-key", "plain-control"))
        host = fleet.manager()
        shutil.move(host.state, place / "state")
        host.state = place / "state"
        host.config["state_dir"] = str(host.state)
        host.write_config()
        run = partial(host.commitd, TMPDIR=str(place), HOME=str(place))
        result = run("once")
        assert result.returncode == 0, result.stdout + result.stderr
        assert _reads(swarm, "web_app", "/run/secrets/password") == f"{_CANARY}-1"
        bad = fleet.box.images.build("bad", "1.0", command="exit 3")
        broken = _file(fleet).replace(fleet.web, bad)
        more: dict[str, str | bytes | None] = {
            PASSWORD: fleet.box.encrypt(f"P={_CANARY}-2\n"),
            STACK: broken,
        }
        fleet.commit("broken", more)
        assert run("once").returncode != 0
        assert _reads(swarm, "web_app", "/run/secrets/password") == f"{_CANARY}-1"
        for verb in ("plan", "diff", "status", "history"):
            assert _CANARY not in run(verb).stdout
        os.sync()
        written = image.read_bytes()
        found = [word for word in (b"plain-control", _CANARY.encode()) if word in written]
        assert found == [b"plain-control"], "what is no secret is found there"
    assert _holding(fleet.box.root, _CANARY.encode()) == []


def test_a_runtime_directory_on_a_disk_is_refused(fleet: Fleet, swarm: Swarm) -> None:
    fleet.commit("first", _files(fleet, f"{_CANARY}-1", f"{_CANARY}-key", "one"))
    with _disk(fleet) as (place, _):
        host = fleet.manager(runtime_dir=str(place / "run"))
        result = host.once()
        assert result.returncode == 2
        assert (
            f"{place / 'run'}: it is on ext4, and in Swarm mode secrets are never" in result.stderr
        )
        assert "make runtime_dir a tmpfs" in result.stderr
        assert not swarm.services()
        assert not _holding(place, _CANARY.encode())
