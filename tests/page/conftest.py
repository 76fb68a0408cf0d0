"""A browser, and a host whose page it looks at. Both are real; `make page` fetches the browser."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.page import chromium
from tests.system.conftest import Fleet, box, fleet

if TYPE_CHECKING:
    from tests.sandbox.host import Host

__all__ = ["box", "fleet"]

TOOLS = Path(__file__).resolve().parents[2] / ".sandbox" / "page"
SHOTS = TOOLS / "shots"
ADDRESS = "127.0.0.1:8787"
HERE = f"http://{ADDRESS}"

Open = Callable[..., Page]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    program, environment = chromium.provide()
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(
            executable_path=program,
            env=environment,
            args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"],
        )
        yield found
        found.close()


@pytest.fixture
def look(browser: Browser) -> Iterator[Open]:
    """Opens a path of the page in a window of its own; what a page may not do fails the test."""
    faults: list[str] = []
    with contextlib.ExitStack() as windows:

        def look(path: str = "/", **settings: Any) -> Page:
            context = browser.new_context(base_url=HERE, **settings)
            windows.callback(context.close)
            page = context.new_page()
            page.set_default_timeout(60_000)
            page.on("pageerror", lambda error: faults.append(f"an error of the script: {error}"))
            page.on("dialog", lambda dialog: faults.append(f"a dialog: {dialog.message}"))
            page.on("request", lambda request: _ours(request.url, faults))
            page.on("console", lambda said: _quiet(said.type, said.text, faults))
            page.goto(path)
            return page

        yield look
    assert faults == []


def _ours(url: str, faults: list[str]) -> None:
    if urlsplit(url).netloc != ADDRESS:
        faults.append(f"a request to {url}")


def _quiet(kind: str, text: str, faults: list[str]) -> None:
    if kind in {"error", "warning"} and "status of 401" not in text:  # before the login
        faults.append(f"on the console: {text}")


@pytest.fixture
def host(fleet: Fleet) -> Host:
    """A host with two stacks that has applied two commits, and shows its page."""
    found = fleet.synced(
        {
            "host/media/stacks.yaml": "- one\n- two\n",
            "stacks/one/compose.yaml": fleet.compose(fleet.web),
            "stacks/two/compose.yaml": fleet.compose(),
        }
    )
    found.config["listen"] = ADDRESS
    found.write_config()
    return found
