"""A package is fetched, or it is said why not, whatever the server does."""

from __future__ import annotations

import contextlib
import hashlib
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import anyio
import pytest

from agent.adapters.outside import download as module
from agent.adapters.outside.download import download
from agent.domain import documents
from agent.domain.errors import CommitdError, PermanentError, TransientError
from agent.domain.repository import agent_version, fleet_policy
from agent.domain.repository.agent_version import AgentVersion, fetchable
from agent.domain.upgrade.request import Answer, decide, is_newer
from tests.unit import git_servers

PACKAGE = b"a package" * 5000
SUM = hashlib.sha256(PACKAGE).hexdigest()


class _Server(ThreadingHTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.daemon_threads = True
        self.over = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        getattr(self, f"_{self.path.strip('/').replace('-', '_')}")()

    def _head(self, status: int, **headers: str | int) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()

    def finish(self) -> None:
        with contextlib.suppress(OSError):
            super().finish()

    def _package(self) -> None:
        self._head(200, Content_Length=len(PACKAGE))
        self.wfile.write(PACKAGE)

    def _cut_off(self) -> None:
        self._head(200, Content_Length=len(PACKAGE))
        self.wfile.write(PACKAGE[:1000])

    def _huge(self) -> None:
        self._head(200)
        try:
            while not self.server.over.is_set():
                self.wfile.write(b"x" * 65536)
        except OSError:
            pass

    def _silent(self) -> None:
        self.server.over.wait(30)

    def _silent_amid(self) -> None:
        self._head(200, Content_Length=len(PACKAGE))
        self.wfile.write(PACKAGE[:1000])
        self.wfile.flush()
        self.server.over.wait(30)

    def _elsewhere(self) -> None:
        self._head(302, Location="/package", Content_Length=0)

    def _in_the_clear(self) -> None:
        self._head(302, Location="http://example.org/package", Content_Length=0)

    def _a_file(self) -> None:
        self._head(302, Location="file:///etc/passwd", Content_Length=0)

    def _circle(self) -> None:
        self._head(302, Location="/circle", Content_Length=0)

    def _missing(self) -> None:
        self._head(404, Content_Length=0)


@pytest.fixture
def server() -> Iterator[_Server]:
    with _Server() as found:
        thread = threading.Thread(target=found.serve_forever)
        thread.start()
        yield found
        found.over.set()
        found.shutdown()
        thread.join()


def _fetch(url: str, target: Path, *, sha256: str = SUM, ca_file: Path | None = None) -> None:
    async def fetch() -> None:
        await download(
            url, target, sha256, most=10**6, within_s=20, may_be=fetchable, ca_file=ca_file
        )

    anyio.run(fetch)


@pytest.mark.parametrize("path", ["package", "elsewhere"])
def test_a_package_is_fetched(server: _Server, tmp_path: Path, path: str) -> None:
    _fetch(f"{server.url}/{path}", tmp_path / "p")
    assert (tmp_path / "p").read_bytes() == PACKAGE


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("cut-off", (TransientError, "the answer ends too soon")),
        ("huge", (PermanentError, "has more than 0 MiB")),
        ("silent", (TransientError, "has said nothing for 0.3 s")),
        ("silent-amid", (TransientError, "has said nothing for 0.3 s")),
        ("in-the-clear", (PermanentError, "nothing is fetched from: http://example.org")),
        ("a-file", (PermanentError, "nothing is fetched from: file://")),
        ("circle", (PermanentError, "from one place to the next")),
        ("missing", (TransientError, "answers 404")),
    ],
)
def test_what_is_no_package_is_said(
    server: _Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    path: str,
    why: tuple[type[CommitdError], str],
) -> None:
    if "silent" in path:
        monkeypatch.setattr(module, "_IDLE_S", 0.3)
    kind, said = why
    with pytest.raises(kind, match=said):
        _fetch(f"{server.url}/{path}", tmp_path / "p")


def test_over_https_only_a_server_that_proves_itself_is_believed(
    server: _Server, tmp_path: Path
) -> None:
    authority = git_servers.certificate(tmp_path, days=2)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority, tmp_path / "key.pem")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    url = f"https://127.0.0.1:{server.server_port}/package"
    with pytest.raises(TransientError, match="certificate"):
        _fetch(url, tmp_path / "p")
    _fetch(url, tmp_path / "p", ca_file=authority)
    assert (tmp_path / "p").read_bytes() == PACKAGE


def test_another_sum_is_another_package(server: _Server, tmp_path: Path) -> None:
    with pytest.raises(PermanentError, match=f"has the sum {SUM}, not {'0' * 64}"):
        _fetch(f"{server.url}/package", tmp_path / "p", sha256="0" * 64)


def test_nobody_listens(tmp_path: Path) -> None:
    with pytest.raises(TransientError, match="Connection refused"):
        _fetch("http://127.0.0.1:1/package", tmp_path / "p")


def test_no_room_for_it_is_said(server: _Server) -> None:
    with pytest.raises(TransientError, match="cannot be written"):
        _fetch(f"{server.url}/package", Path("/dev/full"))


# --- what a commit may ask for --------------------------------------------------------------------

_ENTRY = "agent: {{version: {}, url: '{}', sha256: {}}}\n"
_URL = "https://example.org/commitd.deb"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("agent: 0.3.0\n", "needs version, url and sha256"),
        (f"agent: {{version: '1', url: '{_URL}'}}\n", "needs version, url and sha256"),
        (_ENTRY.format("../1", _URL, SUM), "version: is no version"),
        (_ENTRY.format("'1'", "http://example.org/x", SUM), "url: must begin with https://"),
        (_ENTRY.format("'1'", "https://user:pw@example.org/x", SUM), "must begin with https://"),
        (_ENTRY.format("'1'", "file:///x", SUM), "url: must begin with https://"),
        (_ENTRY.format("'1'", _URL, "'12'"), "sha256: is no sum"),
        (_ENTRY.format("1.0", _URL, SUM), "version: must be text"),
    ],
)
def test_a_wrong_entry_is_named_with_its_line(text: str, said: str) -> None:
    found, errors = fleet_policy.survey(f"build: refuse\n{text}".encode(), "global/commitd.yaml")
    assert found.agent is None
    assert [str(each).startswith("global/commitd.yaml:2: ") for each in errors] == [True]
    assert said in str(errors[0])


def test_the_host_has_the_last_word_on_its_version() -> None:
    fleet = fleet_policy.read(_ENTRY.format("'0.3.0'", _URL, SUM).encode(), "global/commitd.yaml")
    host = fleet_policy.read(_ENTRY.format("'0.4.0'", _URL, SUM).encode(), "host/a/commitd.yaml")
    assert fleet.under(host).agent == AgentVersion(version="0.4.0", url=_URL, sha256=SUM)
    assert fleet.under(fleet_policy.Policy()).agent == fleet.agent
    assert fleet.in_digest == []  # another version of the agent has no stack deployed again


def test_an_entry_is_read_as_it_is_written() -> None:
    document = documents.load(_ENTRY.format("'0.3.0'", _URL, SUM).encode(), "x")
    assert isinstance(document.data, dict)
    assert agent_version.read(document, document.data["agent"]).version == "0.3.0"


@pytest.mark.parametrize(
    ("version", "than", "newer"),
    [
        ("0.3.0", "0.2.9", True),
        ("0.10.0", "0.9.0", True),
        ("1.0", "1.0.0", False),
        ("1.0.1", "1.0", True),
        ("1.0", "1.0rc1", True),
        ("1.0rc2", "1.0rc1", True),
        ("1.0.dev1", "1.0", False),
        ("1.0.post1", "1.0", True),
        ("1.0.1", "1.0.post1", True),
        ("0.2.0", "0.3.0", False),
        ("1.0+local", "0.1", False),
        ("1.2.3.4.5.6.7", "0.1", False),
    ],
)
def test_versions_are_compared_by_their_numbers(version: str, than: str, newer: bool) -> None:
    assert is_newer(version, than) is newer


WANTED = AgentVersion(version="0.4.0", url=_URL, sha256=SUM)


@pytest.mark.parametrize(
    ("wanted", "running", "bad", "approved", "answer"),
    [
        (WANTED, "0.4.0", [], None, Answer.NOTHING),
        (WANTED, "0.3.0", [], None, Answer.INSTALL),
        (WANTED, "0.5.0", [], None, Answer.REFUSE),
        (WANTED, "0.5.0", [], WANTED, Answer.INSTALL),
        (WANTED, "0.3.0", [("0.4.0", SUM, "it hung")], None, Answer.REFUSE),
        (WANTED, "0.3.0", [("0.4.0", SUM, "it hung")], WANTED, Answer.REFUSE),
        (WANTED, "0.3.0", [("0.4.0", None, "by hand")], None, Answer.REFUSE),
        (WANTED, "0.3.0", [("0.4.0", "other", "it hung")], None, Answer.INSTALL),
        (WANTED, "0.3.0", [("0.3.9", SUM, "it hung")], None, Answer.INSTALL),
    ],
)
def test_what_a_commit_asks_for_is_installed_or_it_is_said_why_not(
    wanted: AgentVersion,
    running: str,
    bad: list[tuple[str, str | None, str]],
    approved: AgentVersion | None,
    answer: Answer,
) -> None:
    found = decide(wanted, running=running, on_trial=False, given_up=bad, approved=approved)
    assert found.answer is answer
    assert bool(found.why) is (answer is Answer.REFUSE)
    if answer is Answer.INSTALL:
        waits = decide(wanted, running=running, on_trial=True, given_up=bad, approved=approved)
        assert waits.answer is Answer.WAIT
