"""`commitd diff` between real commits, with the real Compose and SOPS and no engine to be found."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tests import schemas
from tests.example import GOOD, IMAGE
from tests.sandbox.process import run
from tests.system.clones import Clone

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.sandbox import Sandbox

WEB = "stacks/web/compose.yaml"
NOTHING: dict[str, list[str]] = {"added": [], "removed": [], "changed": []}


def changes(clone: Clone, base: str = "HEAD~1", head: str = "HEAD") -> dict[tuple[str, str], Any]:
    """What happens to each stack of each host."""
    found = json.loads(clone.run("diff", base, head, "--json"))
    return {(h["name"], s["name"]): s for h in found["hosts"] for s in h["stacks"]}


def committed(box: Sandbox, *steps: Mapping[str, str | bytes]) -> Clone:
    clone = Clone(box, GOOD)
    clone.commit("first")
    for step in steps:
        clone.write(step)
        clone.commit("next")
    return clone


def test_a_service_says_what_of_it_differs(box: Sandbox) -> None:
    compose = GOOD[WEB].replace("app:1.0", "app:1.1").replace("127.0.0.2:9000:", "9001:")
    compose = compose.replace("LEVEL: '${LEVEL:-info}'", "MORE: much")
    compose = compose.replace("data:/data", "data:/data:ro").replace("command", "entrypoint")
    clone = committed(box, {WEB: compose})
    change = changes(clone)["media", "web"]
    assert change == changes(clone)["nas", "web"]
    assert change["inputs"] == [WEB]
    (service,) = change["services"]
    assert service == {
        "name": "web",
        "action": "recreate",
        "message": "its image changes",
        "image": {"from": IMAGE, "to": IMAGE.replace("1.0", "1.1")},
        "environment": {"added": ["MORE"], "removed": ["LEVEL"], "changed": []},
        "ports": {
            "added": ["9001:9000/tcp"],
            "removed": ["127.0.0.2:9000:9000/tcp"],
            "changed": [],
        },
        "volumes": {"added": ["data:/data:ro"], "removed": ["data:/data"], "changed": []},
        "other": ["command", "entrypoint"],
        "files": [],
        "follows": None,
    }
    assert service.keys() == set(schemas.schema("plan")["$defs"]["service"]["required"])
    assert ("media", "proxy") not in changes(clone)


def test_a_value_shows_by_its_name_alone(box: Sandbox) -> None:
    clone = committed(box, {"host/nas/host.env": "DOMAIN=very-new.example.com\n"})
    found = changes(clone)
    assert set(found) == {("nas", "proxy"), ("nas", "web")}
    (service,) = found["nas", "web"]["services"]
    assert service["environment"] == {**NOTHING, "changed": ["DOMAIN"]}
    assert found["nas", "proxy"]["services"] == []
    for form in ("text", "markdown", "json"):
        said = clone.run("diff", "HEAD~1", "HEAD", "--format", form)
        assert "DOMAIN" in said
        assert "example.com\n" not in said
        assert "very-new" not in said


def test_of_a_secret_file_only_the_service_whose_value_changed_is_touched(box: Sandbox) -> None:
    services = "".join(
        f"  {name}:\n    image: {IMAGE}\n    environment: {{PASSWORD: '${{{name}}}'}}\n"
        for name in ("one", "two")
    )
    secret = box.encrypt("one=1\ntwo=2\n", [box.age.recipient])
    clone = committed(box, {WEB: f"services:\n{services}", "stacks/web/a.secret.env": secret})
    file = clone.path / "stacks/web/a.secret.env"
    kind: list[str | Path] = ["--input-type", "dotenv", "--output-type", "dotenv"]
    key = {"SOPS_AGE_KEY_FILE": str(box.age.private)}
    run([box.sops, "set", *kind, file, '["two"]', '"3"'], env=key)
    clone.commit("another password")
    (service,) = changes(clone)["media", "web"]["services"]
    assert (service["name"], service["environment"]["changed"]) == ("two", ["PASSWORD"])


def test_a_mounted_file_shows_what_on_change_says(box: Sandbox) -> None:
    reloads = {"a": "restart", "b": "signal:HUP", "c": "none", "d": "recreate", "e": "signal:HUP"}
    settings = ", ".join(f"{name}: '{reload}'" for name, reload in reloads.items())
    compose = f"x-commitd: {{on_change: {{{settings}}}}}\nservices:\n" + "".join(
        f"  {name}:\n    image: {IMAGE}\n    volumes: [./{mounted}:/x:ro]\n"
        for name, mounted in [*((name, "etc") for name in "abcd"), ("e", "etc/web.conf")]
    )
    stays = {"stacks/web/etc/other.conf": "x\n", "stacks/web/etc/web.conf": "listen 80\n"}
    clone = committed(box, {WEB: compose, **stays}, {"stacks/web/etc/web.conf": "listen 9090\n"})
    services = changes(clone)["media", "web"]["services"]
    # Of a new file in the place of the one it mounts itself a signal would show it nothing.
    acts = {**reloads, "e": "restart"}
    assert {service["name"]: service["action"] for service in services} == acts
    assert {tuple(service["files"]) for service in services} == {("stacks/web/etc/web.conf",)}


def test_stacks_and_services_come_go_and_move(box: Sandbox) -> None:
    two = GOOD["stacks/proxy/compose.yaml"].replace("  proxy:", "  front:")
    clone = committed(
        box,
        {
            "stacks/blog/compose.yaml": f"services:\n  blog:\n    image: {IMAGE}\n",
            "host/media/stacks.yaml": "- proxy\n- web\n- blog\n",
        },
        {
            "host/media/stacks.yaml": "- proxy\n- web\n",
            "host/nas/stacks.yaml": "- proxy\n- web\n- blog\n",
            "stacks/proxy/compose.yaml": two,
        },
    )
    new = changes(clone, "HEAD~2", "HEAD~1")
    assert [s["action"] for s in new["media", "blog"]["services"]] == ["start"]
    found = changes(clone)
    assert found["media", "blog"]["action"] == "remove"
    assert "moved to nas" in found["media", "blog"]["message"]
    assert "moved from media" in found["nas", "blog"]["message"]
    acts = {s["name"]: s["action"] for s in found["nas", "proxy"]["services"]}
    assert acts == {"front": "start", "proxy": "remove"}


def test_what_would_wait_for_a_person_is_said(box: Sandbox) -> None:
    clone = committed(
        box,
        {"host/media/stacks.yaml": "[]\n", WEB: "services:\n"},
    )
    found = changes(clone)
    assert {stack["action"] for stack in found.values()} == {"hold"}
    assert "commitd approve" in found["media", "web"]["message"]
    assert f"{WEB}:1: declares no services" in found["nas", "web"]["message"]
    clone.write({WEB: GOOD[WEB]})
    clone.commit("mended")
    mended = changes(clone)
    assert set(mended) == {("nas", "web")}
    assert mended["nas", "web"]["message"] == "it could not be read before"


def test_a_comment_is_short_and_equal_hosts_share_a_line(box: Sandbox) -> None:
    compose = GOOD[WEB].replace("app:1.0", "app:1.1")
    clone = committed(box, {WEB: compose, "stacks/web/README.md": "x\n"})
    said = clone.run("diff", "HEAD~1", "HEAD", "--format", "markdown")
    assert said == clone.run("diff", "HEAD~1", "HEAD", "--format", "markdown")
    table, _, details = said.partition("<details>")
    assert table.splitlines()[0] == "### commitd: 2 of 2 hosts would change"
    assert table.splitlines()[-2] == (
        "| `web` | media, nas | recreate web (example.com/app:1.0\\@sha256:000000000000 → "
        "example.com/app:1.1\\@sha256:000000000000) |"
    )
    assert "stacks/web/README.md" in details
    nothing = clone.run("diff", "HEAD", "HEAD", "--format", "markdown")
    assert nothing.startswith("### commitd: nothing changes on any host\n")


def test_without_compose_the_files_alone_are_compared(box: Sandbox) -> None:
    clone = committed(box, {"stacks/web/web.conf": "x"})
    clone.programs = ["/usr/bin", "/bin"]
    change = changes(clone)["media", "web"]
    assert change["inputs"] == ["stacks/web/web.conf"]
    assert change["unknown"]
    assert "Docker Compose is not on this machine" in clone.run("diff", "HEAD~1", "HEAD")


def test_a_commit_that_is_not_here_is_a_usage_error(box: Sandbox) -> None:
    clone = committed(box)
    clone.run("diff", "no-such", "HEAD", code=2, says="fetch-depth: 0")
    clone.run("diff", "--output=/tmp/x", "HEAD", code=2, says="No such option")
    clone.run("diff", "--", "--output=/tmp/x", "HEAD", code=2, says="there is no commit")
