"""A manager passes its logins on only where they get every image of a stack."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from agent.adapters.engine.engine import Engine
from agent.control.swarm.asked_images import AskedImages
from tests.unit.test_engine_client import answer, asked, place, pong

__all__ = ["place"]

DIGEST = "sha256:" + "0123456789abcdef" * 4
PUBLIC = f"public.example/a:1@{DIGEST}"
PRIVATE = f"private.example/b:1@{DIGEST}"


def says(asked: str) -> bytes:
    """As an engine whose one registry gives its image to anybody, and the other one denies it."""
    if asked.endswith("/_ping"):
        return pong("1.41")
    if "private.example" in asked:
        return answer(403, json.dumps({"message": "denied: no basic auth credentials"}).encode())
    return answer(200, b"{}")


def test_what_a_registry_gave_it_is_not_asked_for_again_within_the_hour(
    place: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    now = 0.0

    async def work(engine: Engine) -> None:
        nonlocal now
        images = AskedImages(engine, lambda: now)
        for at in (0.0, 3599.0, 3601.0):  # it is asked first, and last
            now = at
            assert await images.logins_serve("web", {PUBLIC})
        login = base64.b64encode(b"reader:correct-horse").decode()
        auths = {"auths": {"public.example": {"auth": login}}}
        (tmp_path / "config.json").write_text(json.dumps(auths))
        assert await images.logins_serve("web", {PUBLIC})  # with a login that it has not seen yet

    heard = asked(place, says, work).heard
    assert len([each for each in heard if "/distribution/" in each]) == 3


def test_one_image_that_it_does_not_get_keeps_its_logins_from_the_stack(
    place: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))

    async def work(engine: Engine) -> None:
        images = AskedImages(engine)
        assert not await images.logins_serve("web", {PUBLIC, PRIVATE})
        assert await images.logins_serve("api", {PUBLIC})

    asked(place, says, work)
    [said] = caplog.messages
    assert said.startswith("web: its services keep the logins for registries that they have")
    assert "docker login private.example on each manager" in said
