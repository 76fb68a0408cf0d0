"""What was judged in Git is what runs, whatever a container writes into the checkout meanwhile."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.sandbox.host import Host
    from tests.system.conftest import Fleet

MAIN = "stacks/web/compose.yaml"
PART = "stacks/web/part/part.yaml"


def _stack(fleet: Fleet, **files: str) -> dict[str, str | bytes | None]:
    part = f"services:\n  part:\n    image: {fleet.idle}\n    network_mode: none\n"
    return {
        "host/media/stacks.yaml": "- web\n",
        MAIN: f"include: [part/part.yaml]\n{fleet.compose()}",
        PART: f"{part}    volumes: ['${{DATA:-./data}}:/data']\n",
        **{path.replace("__", "/"): content for path, content in files.items()},
    }


def _meddle(host: Host, word: str, script: str) -> None:
    """Run the shell `script` right before each run of Compose with `word` as its command."""
    directory = host.root / f"meddling-{word}"
    directory.mkdir()
    wrapper = directory / "docker-compose"
    wrapper.write_text(
        f'#!/bin/sh\nPATH=/usr/bin:/bin\ncase " $* " in *" {word} "*) {script};; esac\n'
        f'unset PATH\nexec {shlex.quote(str(host.box.compose))} "$@"\n'
    )
    wrapper.chmod(0o755)
    host.path.insert(0, str(directory))


@pytest.mark.parametrize("word", ["up"])
def test_a_file_that_is_rewritten_between_the_look_and_the_start_changes_nothing(
    fleet: Fleet, word: str
) -> None:
    host = fleet.synced(_stack(fleet))
    evil = host.root / "evil.yaml"
    evil.write_text(fleet.compose(service="evil", more="    volumes: ['/:/host']\n"))
    _meddle(host, word, f"cp {evil} {host.repo / MAIN}; cp {evil} {host.repo / PART}")
    fleet.commit("second", {MAIN: f"include: [part/part.yaml]\n{fleet.compose(fleet.web)}"})
    result = host.once()
    assert result.returncode == 0, result.stdout + result.stderr
    assert fleet.running().keys() == {"web-app-1", "web-part-1"}
    assert fleet.box.engine.inspect("web-app-1")["Config"]["Image"] == fleet.web
    services = host.json("status")["stacks"][0]["services"]
    assert {service["name"] for service in services} == {"app", "part"}


@pytest.mark.parametrize("word", ["up"])
def test_nobody_waits_for_a_fifo_in_the_place_of_a_file(fleet: Fleet, word: str) -> None:
    more = "    env_file: app.env\n    secrets: [s]\n"
    secret = "secrets: {s: {environment: TOKEN}}\n"
    files = _stack(fleet, **{"stacks__web__app.env": "A=1\n", "stacks__web__more.env": "TOKEN=t\n"})
    files[MAIN] = f"include: [part/part.yaml]\n{fleet.compose(more=more)}{secret}"
    host = fleet.synced(files)
    places = [host.repo / "stacks/web" / name for name in ("app.env", "more.env", "part/.env")]
    script = "; ".join(f"rm -f {place}; mkfifo {place}" for place in places)
    _meddle(host, word, script)
    fleet.commit("second", {"stacks/web/app.env": "A=2\n"})
    result = host.commitd("once", timeout_s=50)
    assert result.returncode == 0, result.stdout + result.stderr
    assert fleet.environment("web-app-1")["A"] == "2"
