"""A message goes through apprise in a process of its own, which says no more than a word."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from agent.adapters.outside import delivery
from agent.domain.errors import CommitdError, ConfigError
from tests.receiver import Receiver

TOKEN = "Acafe0c0ffee"


@pytest.fixture
def phone() -> Iterator[Receiver]:
    with Receiver(TOKEN) as receiver:
        yield receiver


def send(url: str) -> str | None:
    """Once; what is said of it when it fails."""
    try:
        anyio.run(delivery.send, url, "media: web failed", "it ended with 1")
    except CommitdError as err:
        return f"{type(err).__name__}: {err}"
    return None


def test_a_message_arrives_as_the_service_documents_it(phone: Receiver) -> None:
    assert send(phone.url) is None
    [message] = phone.messages
    assert (message.title, message.text) == ("media: web failed", "it ended with 1")


@pytest.mark.parametrize("code", [401, 403, 404, 429, 500])
def test_what_is_wrong_is_said_without_the_url(phone: Receiver, code: int) -> None:
    phone.instead = code
    assert send(phone.url) == f"TransientError: the service answers {code}"


def test_a_redirect_is_not_followed(phone: Receiver) -> None:
    phone.instead = 302
    assert send(phone.url) == "TransientError: the service answers 302"
    assert phone.asked == []


def test_a_service_that_is_not_there_and_a_url_of_none_are_told_apart() -> None:
    away = send(f"gotify://127.0.0.1:1/{TOKEN}")
    assert away == "TransientError: the service cannot be reached"
    for url in (f"nonsense://x/{TOKEN}", f"gotify://{TOKEN}@", TOKEN):
        said = send(url)
        assert said is not None
        assert said.startswith("PermanentError: apprise knows no service by this URL")
        assert TOKEN not in said


def test_a_service_that_hangs_ends_with_its_process(
    phone: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "LIMIT_S", 2.0)
    phone.instead = "hang"
    assert send(phone.url) == "TransientError: the service does not answer within 2 s"


def test_without_apprise_the_remedy_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert delivery.is_there()
    monkeypatch.setattr(delivery, "APPRISE", "no_such_module")
    assert not delivery.is_there()
    child = tmp_path / "child.py"
    child.write_text("import os, sys\nos.write(1, b'missing')\n")
    monkeypatch.setattr(delivery, "_CHILD", child)
    with pytest.raises(ConfigError, match="apprise is not installed") as caught:
        anyio.run(delivery.send, "x", "y", "z")
    assert "notify.md" in str(caught.value)


def test_a_child_that_dies_is_no_secret_either(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    child = tmp_path / "child.py"
    child.write_text("import sys\nsys.exit(sys.stdin.read())\n")  # which prints it
    monkeypatch.setattr(delivery, "_CHILD", child)
    said = send(f"gotify://x/{TOKEN}")
    assert said == "TransientError: the child that sends it ended with 1"


def test_the_child_gets_no_variable_of_the_agent(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SECRET", TOKEN)
    monkeypatch.setenv("https_proxy", "http://proxy.lan:3128")
    seen = tmp_path / "seen"
    child = tmp_path / "child.py"
    child.write_text(
        f"import os\nopen({str(seen)!r}, 'w').write(' '.join(sorted(os.environ)))\n"
        "os.write(1, b'sent')\n"
    )
    monkeypatch.setattr(delivery, "_CHILD", child)
    assert send("gotify://x/y") is None
    names = set(seen.read_text().split())
    assert {"LC_ALL", "PATH", "https_proxy"} <= names
    assert not names & {"SECRET", "HOME", "PYTHONPATH"}
    assert os.environ["SECRET"] == TOKEN
