"""A small repository, and servers for it that do what no honest one does. No root, no sandbox."""

from __future__ import annotations

import contextlib
import datetime as dt
import functools
import hashlib
import http.server
import ipaddress
import os
import ssl
import subprocess
import threading
from collections.abc import Callable, Container, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import asyncssh
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from agent.adapters.tasks import task_group

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

_IDENTITY = {
    "GIT_AUTHOR_NAME": "Ada",
    "GIT_AUTHOR_EMAIL": "ada@example.org",
    "GIT_COMMITTER_NAME": "Ada",
    "GIT_COMMITTER_EMAIL": "ada@example.org",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_NOSYSTEM": "1",
}
_HIDDEN_HEADER = 20
"""Bytes of the checksum at a pack's end."""


class Origin:
    """A bare repository with a branch ``main``, changed by Git's plumbing alone."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.url = f"file://{path}"
        subprocess.run(["git", "init", "-q", "--bare", "-b", "main", path], check=True)

    def git(self, *words: str, stdin: bytes = b"", env: Mapping[str, str] | None = None) -> str:
        return self.raw(*words, stdin=stdin, env=env).decode().strip()

    def raw(self, *words: str, stdin: bytes = b"", env: Mapping[str, str] | None = None) -> bytes:
        return subprocess.run(
            ["git", "--git-dir", self.path, *words],
            input=stdin,
            env={**os.environ, **_IDENTITY, **(env or {})},
            capture_output=True,
            check=True,
        ).stdout

    def tree(self, files: Mapping[str, str | bytes], links: Container[str] = ()) -> str:
        """A tree with these files, of which those in ``links`` are links to what they hold."""
        lines = [
            f"{120000 if path in links else 100644} {self.object('blob', text)}\t{path}\n"
            for path, text in files.items()
        ]
        index = {"GIT_INDEX_FILE": str(self.path / "made.index")}
        self.git("read-tree", "--empty", env=index)
        self.git("update-index", "--add", "--index-info", stdin="".join(lines).encode(), env=index)
        return self.git("write-tree", env=index)

    def object(self, kind: str, content: str | bytes) -> str:
        """Write an object as it is, sound or not."""
        raw = content.encode() if isinstance(content, str) else content
        return self.git("hash-object", "-t", kind, "-w", "--literally", "--stdin", stdin=raw)

    def commit(
        self,
        files: Mapping[str, str | bytes] | None = None,
        *,
        tree: str | None = None,
        parents: Iterable[str] | None = None,
        links: Container[str] = (),
        signer: Path | None = None,
    ) -> str:
        """Commit these files, or ``tree``, on top of ``main`` or of ``parents``.

        ``signer`` is a private key of SSH.
        """
        older = self.head() if parents is None else list(parents)
        words = [word for parent in older for word in ("-p", parent)]
        signing = ["-c", "gpg.format=ssh", "-c", f"user.signingKey={signer}"] if signer else []
        sign = ["-S"] if signer else []
        tree = tree or self.tree(files or {}, links)
        made = self.git(*signing, "commit-tree", tree, "-m", "x", *words, *sign)
        self.point(made)
        return made

    def head(self) -> list[str]:
        """The commit that ``main`` names, if there is one."""
        return self.git("for-each-ref", "--format=%(objectname)", "refs/heads/main").split()

    def point(self, sha: str) -> None:
        """Have ``main`` name this object."""
        self.git("update-ref", "refs/heads/main", sha)

    def pack(self) -> bytes:
        """All of it in one pack."""
        return self.raw("pack-objects", "--stdout", "--all", "--revs", "-q", stdin=b"")


def resealed(pack: bytes) -> bytes:
    """The pack with the checksum that belongs to what it holds now."""
    body = pack[:-_HIDDEN_HEADER]
    return body + hashlib.sha1(body, usedforsecurity=False).digest()


def endless() -> Iterator[bytes]:
    """A pack of a thousand objects whose first never ends."""
    yield b"PACK" + (2).to_bytes(4, "big") + (1000).to_bytes(4, "big")
    size = 1 << 40
    header = [0b1011_0000 | (size & 0b1111)]
    size >>= 4
    while size:
        header.append(0b1000_0000 | (size & 0b0111_1111))
        size >>= 7
    header[-1] &= 0b0111_1111
    yield bytes(header) + b"\x78\x01"
    stored = b"\x00\xff\xff\x00\x00" + bytes(65535)
    while True:
        yield stored


# --- HTTPS ---


class Web:
    """What an HTTPS server was asked (method, path, Authorization), and how much it has sent."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, str | None]] = []
        self.sent = 0
        self.url = ""
        self.ca_file = Path()


Answer = Callable[[http.server.BaseHTTPRequestHandler, Web], None]


class _Quiet(http.server.ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        """Of clients that refuse the certificate, or have heard enough."""


@contextlib.contextmanager
def https(place: Path, answer: Answer, *, days: int = 1) -> Iterator[Web]:
    """A server on a free port of 127.0.0.1; its certificate is good for ``days`` from yesterday."""
    place.mkdir()
    web = Web()
    web.ca_file = certificate(place, days=days)

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            web.asked.append((self.command, self.path, self.headers["Authorization"]))
            with contextlib.suppress(OSError):
                answer(self, web)

        do_GET = do_POST = _answer  # noqa: N815  what the library calls

        def log_message(self, *_: object) -> None:
            pass

    with _Quiet(("127.0.0.1", 0), Handler) as server:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(web.ca_file, place / "key.pem")
        server.socket = context.wrap_socket(
            server.socket, server_side=True, do_handshake_on_connect=False
        )
        web.url = f"https://127.0.0.1:{server.server_port}/fleet.git"
        thread = threading.Thread(target=functools.partial(server.serve_forever, 0.05))
        thread.start()
        try:
            yield web
        finally:
            server.shutdown()
            thread.join()


def certificate(place: Path, *, days: int) -> Path:
    """A certificate for 127.0.0.1 that is its own authority, beside its ``key.pem``."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    yesterday = dt.datetime.now(dt.UTC) - dt.timedelta(days=1)
    start = min(yesterday, yesterday + dt.timedelta(days=days - 1))
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    usage = x509.KeyUsage(
        digital_signature=True, key_cert_sign=True, crl_sign=False, content_commitment=False,
        key_encipherment=False, data_encipherment=False, key_agreement=False,
        encipher_only=False, decipher_only=False,
    )  # fmt: skip
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + dt.timedelta(days=abs(days) + 0.5 if days > 0 else 0.5))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(
        pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (place / "key.pem").write_bytes(private)
    (place / "certificate.pem").write_bytes(made.public_bytes(pem))
    return place / "certificate.pem"


def files(origin: Origin) -> Answer:
    """Serve the repository's files as any web server does: Git calls that the dumb protocol."""
    origin.git("update-server-info")

    def answer(to: http.server.BaseHTTPRequestHandler, _: Web) -> None:
        path = origin.path / to.path.partition("?")[0].removeprefix("/fleet.git/")
        there = path.is_file()
        _whole(to, 200 if there else 404, path.read_bytes() if there else b"")

    return answer


def elsewhere(url: str) -> Answer:
    """Send everybody to the same path below another URL."""

    def answer(to: http.server.BaseHTTPRequestHandler, _: Web) -> None:
        _whole(to, 302, b"", Location=url + to.path.removeprefix("/fleet.git"))

    return answer


def packs(sha: str, pack: Callable[[], Iterable[bytes]], *, most: int = 1 << 28) -> Answer:
    """Say that ``main`` is at ``sha``, and send this pack to whoever fetches; ``most`` bytes."""

    def answer(to: http.server.BaseHTTPRequestHandler, web: Web) -> None:
        kind = "advertisement" if to.command == "GET" else "result"
        headers = {"Content-Type": f"application/x-git-upload-pack-{kind}"}
        if to.command == "GET":
            can = "side-band-64k ofs-delta agent=git/2"
            shown = _line(f"{sha} HEAD\0{can}\n".encode()) + _line(
                f"{sha} refs/heads/main\n".encode()
            )
            body = _line(b"# service=git-upload-pack\n") + b"0000" + shown + b"0000"
            _whole(to, 200, body, **headers)
            return
        to.rfile.read(int(to.headers["Content-Length"]))
        _head(to, 200, headers | {"Transfer-Encoding": "chunked"})
        _chunk(to, _line(b"NAK\n"))
        for part in pack():
            for at in range(0, len(part), 65000):
                _chunk(to, _line(b"\1" + part[at : at + 65000]))
            web.sent += len(part)
            if web.sent > most:
                to.close_connection = True
                return
        _chunk(to, b"0000")
        _chunk(to, b"")

    return answer


def _whole(
    to: http.server.BaseHTTPRequestHandler, status: int, body: bytes, **headers: str
) -> None:
    _head(to, status, headers | {"Content-Length": str(len(body))})
    to.wfile.write(body)


def _head(to: http.server.BaseHTTPRequestHandler, status: int, headers: Mapping[str, str]) -> None:
    to.send_response(status)
    for name, value in headers.items():
        to.send_header(name, value)
    to.end_headers()


def _chunk(to: http.server.BaseHTTPRequestHandler, content: bytes) -> None:
    to.wfile.write(f"{len(content):x}\r\n".encode() + content + b"\r\n")


def _line(content: bytes) -> bytes:
    return f"{len(content) + 4:04x}".encode() + content


# --- SSH ---


class Sshd:
    """An SSH server whose host key is ``key``; ``tried`` are the users that went on to log in."""

    def __init__(self) -> None:
        self.key = asyncssh.generate_private_key("ssh-ed25519")
        self.tried: list[str] = []
        self.port = 0

    def known(self, key: asyncssh.SSHKey | None = None) -> str:
        """The line that vouches for the server, or for another key in its place."""
        public = (key or self.key).export_public_key().decode()
        return f"[127.0.0.1]:{self.port} {public}"


@contextlib.asynccontextmanager
async def ssh(client: Path) -> AsyncIterator[Sshd]:
    """A server that runs ``git upload-pack`` for who has the private key in the file ``client``."""
    server = Sshd()

    class Users(asyncssh.SSHServer):
        def begin_auth(self, username: str) -> bool:
            server.tried.append(username)
            return True

    async def serve(process: asyncssh.SSHServerProcess[bytes]) -> None:
        words = (process.command or "").split(" ", 1)
        child = await anyio.open_process(["git", "upload-pack", words[-1].strip("'")])
        given, said = child.stdin, child.stdout
        assert given
        assert said

        async def feed() -> None:
            with contextlib.suppress(asyncssh.Error, anyio.BrokenResourceError):
                while data := await process.stdin.read(65536):
                    await given.send(data)
                await given.aclose()

        async with child, task_group() as group:
            group.start_soon(feed)
            async for data in said:
                process.stdout.write(data)
            process.exit(await child.wait())
            group.cancel_scope.cancel()

    own = asyncssh.read_private_key(client)
    listener = await asyncssh.listen(
        "127.0.0.1",
        0,
        server_factory=Users,
        server_host_keys=[server.key],
        authorized_client_keys=asyncssh.import_authorized_keys(own.export_public_key().decode()),
        process_factory=serve,
        encoding=None,
    )
    server.port = listener.get_port()
    try:
        yield server
    finally:
        listener.close()
        await listener.wait_closed()
