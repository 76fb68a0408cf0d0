"""No volume is ever recreated: what is in it is not the repository's."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.system.conftest import Fleet

LIST = {"host/media/stacks.yaml": "- one\n"}


def _stack(fleet: Fleet, value: str = "1") -> dict[str, str | bytes | None]:
    volumes = f"volumes: {{data: {{labels: {{value: '{value}'}}}}}}\n"
    return {
        **LIST,
        "stacks/one/compose.yaml": fleet.compose(more=f"    volumes: [data:/data]\n{volumes}"),
    }


def test_a_volume_that_another_version_of_compose_has_made_keeps_its_data(fleet: Fleet) -> None:
    """Compose compares hashes, and offers to recreate it, empty; nobody says yes."""
    engine = fleet.box.engine
    own = {"project": "one", "volume": "data", "config-hash": "of another version"}
    labels = {f"com.docker.compose.{key}": text for key, text in own.items()} | {"value": "1"}
    engine.api("POST", "/volumes/create", {"Name": "one_data", "Labels": labels})
    engine.pull(fleet.idle)
    write = ["sh", "-c", "echo precious > /data/db"]
    engine.run("run", "--rm", "--volume", "one_data:/data", fleet.idle, *write)
    host = fleet.synced(_stack(fleet))
    assert engine.run("exec", "one-app-1", "cat", "/data/db") == "precious\n"
    assert host.once().returncode == 0


def test_a_volume_whose_definition_changed_keeps_its_data(fleet: Fleet) -> None:
    host = fleet.synced(_stack(fleet))
    fleet.box.engine.run("exec", "one-app-1", "sh", "-c", "echo precious > /data/db")
    fleet.commit("another definition", _stack(fleet, "2"))
    result = host.once()
    assert result.returncode == 1
    assert "labels of the volume one_data cannot be changed" in result.stdout
    assert fleet.box.engine.run("exec", "one-app-1", "cat", "/data/db") == "precious\n"
