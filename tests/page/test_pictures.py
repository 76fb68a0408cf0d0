"""The pictures of the documentation: a host with some stacks and a bad release, beside others.

`make page` leaves them in `.sandbox/page/pictures`; `make page-doc` takes those for the how-to.
"""

from __future__ import annotations

import base64
import json
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from playwright.sync_api import Browser, Page, expect

from agent.adapters.state.database import utcnow
from agent.domain.outcome import Reason
from agent.domain.status import report
from tests.page.conftest import ADDRESS, TOOLS, Open
from tests.page.test_page import axe
from tests.sandbox.process import wait_until
from tests.unit.builders import release
from tests.unit.judged import GITEA, LOOKED, facts, hold
from tests.unit.test_page_peers import Answer, peer, saying

if TYPE_CHECKING:
    from tests.sandbox.host import Host
    from tests.system.conftest import Fleet

PICTURES = TOOLS / "pictures"
LARGEST = 100_000
"""Bytes of one, which everybody who reads the documentation loads."""
_STACKS = {
    "traefik": ["proxy"], "gitea": ["server", "database"], "immich": ["server", "database"],
    "jellyfin": ["server"], "paperless": ["web"], "grafana": ["web"],
}  # fmt: skip
_BAD = "    command: [sh, -c, \"echo 'migration 0042 failed: database is locked'; exit 1\"]\n"
_AS_WEBP = """async ([png, quality]) => {
  const picture = new Image();
  picture.src = `data:image/png;base64,${png}`;
  await picture.decode();
  const canvas = Object.assign(document.createElement("canvas"), {
    width: picture.naturalWidth, height: picture.naturalHeight});
  canvas.getContext("2d").drawImage(picture, 0, 0);
  return canvas.toDataURL("image/webp", quality).split(",")[1];
}"""


def _compose(fleet: Fleet, name: str, version: str, more: str = "") -> str:
    image = fleet.box.images.build(name, version)
    services = [
        f"  {each}:\n    image: {image}\n    network_mode: none\n" for each in _STACKS[name]
    ]
    return "services:\n" + "".join(services) + more


def _other(name: str, stacks: list[str], **given: Any) -> Answer:
    """What a host says of itself that has only this to say."""
    releases = [release(each) for each in stacks]
    found = facts(releases, stacks={each.stack: each.digest for each in releases}, **given)
    told = {**report.status(found, changed_at=LOOKED), "host": name}
    told["revision"] |= {
        "subject": "Move the backups to the attic",
        "author": "Ada <a@example.org>",
    }

    def answer(handler: Any) -> None:
        saying(json.dumps(told).replace(LOOKED, utcnow()).encode())(handler)

    return answer


def test_pictures_of_all_hosts_and_of_one(fleet: Fleet, look: Open) -> None:
    files: dict[str, Any] = {
        f"stacks/{name}/compose.yaml": _compose(fleet, name, "1.0") for name in _STACKS
    }
    files["host/media/stacks.yaml"] = "".join(f"- {name}\n" for name in _STACKS)
    fleet.commit("Run six stacks on media", files)
    host = fleet.host(listen=ADDRESS)
    waits = [hold("old-wiki", Reason.CLIFF, "2 of 4 stacks would go", person=True)]
    behind = {**GITEA, "name": "github", "head": "d" * 40, "relation": "behind", "lag": 2}
    with ExitStack() as others:
        urls = {
            name: others.enter_context(peer(_other(name, stacks, **given)))[0]
            for name, stacks, given in (
                ("nas", ["nextcloud", "samba", "syncthing"], {"remotes": [GITEA, behind]}),
                ("vpn", ["wireguard", "dns", "old-wiki", "wiki"], {"holds": waits}),
            )
        }
        attic = others.enter_context(ExitStack())
        urls["attic"] = attic.enter_context(peer(_other("attic", ["backups"])))[0]
        host.config["peers"] = [{"name": name, "url": url} for name, url in urls.items()]
        host.constants = {"agent.control.outside.peers.FRESH_S": 0.0}
        host.write_config()
        with host.running() as agent:
            agent.says("in sync with")
            page = look("/")
            expect(page.locator("#hosts")).to_contain_text("attic")
            page.context.close()
            attic.close()
            _spoil(fleet, host)
            for scheme in ("light", "dark"):
                for name, path, height in (
                    ("fleet", "/", 1020), ("host", "/hosts/media", 1280),
                    ("stack", "/hosts/media/stacks/paperless", 1400), ("history", "/history", 1000),
                ):  # fmt: skip
                    shown: dict[str, Any] = {"color_scheme": scheme, "device_scale_factor": 1.5}
                    page = look(path, viewport={"width": 1100, "height": height}, **shown)
                    expect(page.locator("h1")).to_be_visible()
                    assert axe(page) == [], name
                    _keep(page, f"{name}-{scheme}")
                    page.context.close()
            page = look(
                "/hosts/media", viewport={"width": 360, "height": 760}, color_scheme="dark",
                device_scale_factor=1.5,
            )  # fmt: skip
            _keep(page, "phone-dark")
            page.context.close()


def _spoil(fleet: Fleet, host: Host) -> None:
    """A good release, one that fails and goes back, and a container that nobody declared."""
    fleet.commit(
        "Update jellyfin to 1.1",
        {"stacks/jellyfin/compose.yaml": _compose(fleet, "jellyfin", "1.1")},
    )
    wait_until(lambda: host.json("status")["state"] == "in-sync", what="the good release")
    fleet.commit(
        "Update paperless to 2.0",
        {"stacks/paperless/compose.yaml": _compose(fleet, "paperless", "2.0", _BAD)},
    )
    wait_until(
        lambda: any(each["rolled_back_to"] for each in host.json("status")["stacks"]),
        what="paperless to go back",
    )
    fleet.box.engine.run("run", "--detach", "--name", "try-this", fleet.idle)
    wait_until(lambda: "try-this" not in fleet.running(), what="the container to be ended")
    wait_until(lambda: not host.json("status")["working"], what="the agent to be done")


def _keep(page: Page, name: str) -> None:
    """As WebP, which the browser makes: there is nothing else here that can."""
    png = base64.b64encode(page.screenshot()).decode()
    browser = page.context.browser
    assert isinstance(browser, Browser)
    blank = browser.new_page()
    made = (
        base64.b64decode(blank.evaluate(_AS_WEBP, [png, quality]))
        for quality in (0.85, 0.75, 0.65, 0.5)
    )
    content = next(each for each in made if len(each) < LARGEST)
    blank.close()
    PICTURES.mkdir(exist_ok=True)
    (PICTURES / f"{name}.webp").write_bytes(content)
    (PICTURES / f"{name}.png").write_bytes(base64.b64decode(png))
