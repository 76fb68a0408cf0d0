"""A proxy in front of the engine: it mistreats the event stream and is told of every effect.

It reads just as much of HTTP as it takes to know where a request begins: heads, lengths, chunks.
Everything is forwarded byte by byte as it came.
"""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from collections import deque
from typing import TYPE_CHECKING, Literal, NamedTuple, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from io import BufferedReader
    from pathlib import Path

EventMode = Literal["pass", "cut", "garble", "silent"]

GARBAGE = b"\xff\x00{no JSON\n"

_PIECE = 65536
# What has a verb of change and changes nothing, or nothing that lasts.
_HARMLESS = re.compile(r"/(auth|session|grpc|exec/.*|containers/[^/]+/(wait|attach|resize|exec))")


class Request(NamedTuple):
    """What is asked for: the path is without the API's version and the query."""

    method: str
    path: str
    client: str

    @property
    def kind(self) -> str:
        """The same for all objects: `POST /containers/*/stop`."""
        path = re.sub(r"^(/\w+)/(?!create$|prune$|json$)[^/]+", r"\1/*", self.path)
        return f"{self.method} {path}"

    @property
    def changes(self) -> bool:
        """Whether it has an effect."""
        return self.method not in {"GET", "HEAD"} and not _HARMLESS.fullmatch(self.path)


class EngineProxy:
    """Forwards the Unix socket `path` to the socket `engine` for the time of a `with` block."""

    def __init__(self, engine: Path, path: Path) -> None:
        self.host = f"unix://{path}"
        self._engine = engine
        self._path = path
        self._mode: EventMode = "pass"
        self._garbage = GARBAGE
        self._lock = threading.RLock()  # of the mode, of the links and of what streams are sent
        self._order = threading.Lock()  # one effect at a time is announced and forwarded
        self._before: Callable[[int, Request], None] | None = None
        self._after: Callable[[int, Request], None] | None = None
        self._effects = 0
        self._links: set[_Link] = set()
        self._streams: set[_Link] = set()
        self._listener = socket.socket(socket.AF_UNIX)
        self.requests: list[Request] = []
        """All that came, in order; whoever counts them may clear it."""

    def __enter__(self) -> Self:
        self._listener.bind(str(self._path))
        self._listener.listen(64)
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread in accept()
        self._listener.close()
        with self._lock:
            links = [*self._links]
        for link in links:
            link.drop()
        for link in links:
            link.ended.wait()
        self._path.unlink()

    @property
    def listeners(self) -> int:
        """How many event streams are open."""
        with self._lock:
            return len(self._streams)

    @property
    def waiting(self) -> list[Request]:
        """The requests that the engine has not begun to answer."""
        with self._lock:
            return [asked.request for link in self._links for asked in [*link.asked]]

    def events(self, mode: EventMode, garbage: bytes = GARBAGE) -> None:
        """Treat event streams, those open now and those to come, in this way from now on.

        - `pass`: forward them;
        - `cut`: end them;
        - `garble`: put `garbage` in once, between two events;
        - `silent`: leave them open and swallow what they say.
        """
        with self._lock:
            self._mode, self._garbage = mode, garbage
            for stream in [*self._streams]:
                self._mistreat(stream)

    def on_effect(
        self, call: Callable[[int, Request], None] | None, *, after: bool = False
    ) -> None:
        """Have `call` told of each request with an effect, counted anew from 1.

        That is in order and before the request is forwarded, or `after` its answer was. An OSError
        from it ends the connection: before, the engine never hears of the request.
        """
        with self._order:
            self._before, self._after = (None, call) if after else (call, None)
            self._effects = 0

    def _mistreat(self, stream: _Link) -> None:
        if self._mode == "cut":
            stream.drop()
            self._streams.discard(stream)
        elif self._mode == "garble":
            with contextlib.suppress(OSError):  # its pump will notice too
                chunk = b"%x\r\n%s\r\n" % (len(self._garbage), self._garbage)
                stream.client.sendall(chunk)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:  # the listener has been closed
                return
            link = _Link(client)
            with self._lock:
                self._links.add(link)
            threading.Thread(target=self._serve, args=(link,), daemon=True).start()

    def _serve(self, link: _Link) -> None:
        try:
            link.engine.connect(str(self._engine))
        except OSError:  # the engine is down
            link.drop()
        upload = threading.Thread(target=self._upload, args=(link,), daemon=True)
        upload.start()
        with contextlib.suppress(OSError), link.engine.makefile("rb") as source:
            self._answers(link, source)
        link.drop()
        upload.join()
        with self._lock:
            self._links.discard(link)
            self._streams.discard(link)
        link.close()

    def _upload(self, link: _Link) -> None:
        with contextlib.suppress(OSError), link.client.makefile("rb") as source:
            self._requests(link, source)
        with contextlib.suppress(OSError):
            link.engine.shutdown(socket.SHUT_WR)

    def _requests(self, link: _Link, source: BufferedReader) -> None:
        while head := _head(source):
            method, target, _ = head.decode().split(" ", 2)
            path = re.sub(r"^/v[\d.]+(?=/)", "", target).partition("?")[0]
            fields = _fields(head)
            client = fields.get("user-agent", "").partition("/")[0]
            request = Request(method, path, client)
            raw = "upgrade" in fields
            with self._order:
                self.requests.append(request)
                number = 0
                if request.changes:
                    self._effects += 1
                    number = self._effects
                    if self._before:
                        self._before(number, request)
                link.asked.append(_Asked(request, number, raw))
                link.engine.sendall(head)
            for piece in _body(fields, source, to_end=raw):
                link.engine.sendall(piece)

    def _answers(self, link: _Link, source: BufferedReader) -> None:
        while head := _head(source):
            request, number, raw = link.asked.popleft()
            fields = _fields(head)
            link.client.sendall(head)
            if request.path == "/events":
                self._stream(link, _body(fields, source, to_end=True))
                return
            framed = fields.keys() & {"content-length", "transfer-encoding"}
            if request.method != "HEAD" and head.split()[1] not in {b"204", b"304"}:
                for piece in _body(fields, source, to_end=raw or not framed):
                    link.client.sendall(piece)
            with self._order:
                if number and self._after:
                    self._after(number, request)

    def _stream(self, link: _Link, chunks: Iterator[bytes]) -> None:
        with self._lock:
            self._streams.add(link)
            self._mistreat(link)
        for chunk in chunks:
            with self._lock:
                if self._mode != "silent":
                    link.client.sendall(chunk)


class _Asked(NamedTuple):
    """A request that was forwarded; `number` of its effect, or 0. After a `raw` one HTTP ends."""

    request: Request
    number: int
    raw: bool


class _Link:
    """One connection through the proxy: the client's socket, the engine's, what is not answered."""

    def __init__(self, client: socket.socket) -> None:
        self.client = client
        self.engine = socket.socket(socket.AF_UNIX)
        self.asked: deque[_Asked] = deque()
        self.ended = threading.Event()

    def drop(self) -> None:
        """End both sides; the pumps notice and close them."""
        for side in (self.client, self.engine):
            with contextlib.suppress(OSError):
                side.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.client.close()
        self.engine.close()
        self.ended.set()


def _head(source: BufferedReader) -> bytes:
    """The next request's or answer's head; nothing when the other side has ended."""
    head = b""
    while (line := source.readline()) not in {b"", b"\r\n"}:
        head += line
    return head + line if line else b""


def _fields(head: bytes) -> dict[str, str]:
    lines = head.decode("latin-1").lower().splitlines()[1:]
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def _body(fields: dict[str, str], source: BufferedReader, *, to_end: bool) -> Iterator[bytes]:
    """What follows the head, piece by piece; a chunk is one piece, its frame included."""
    if fields.get("transfer-encoding") == "chunked":
        size = -1
        while size and (line := source.readline()):
            size = int(line.partition(b";")[0], 16)
            yield line + source.read(size + 2)
    elif to_end:
        while piece := source.read1(_PIECE):
            yield piece
    else:
        left = int(fields.get("content-length", 0))
        while left and (piece := source.read1(min(left, _PIECE))):
            yield piece
            left -= len(piece)
