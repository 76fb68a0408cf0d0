"""More registries in front of the sandbox's images: with logins, behind nginx, over TLS."""

from __future__ import annotations

import base64
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from tests.sandbox.process import Daemon, listens, run

if TYPE_CHECKING:
    from pathlib import Path

USER, PASSWORD, IDENTITY = "reader", "secret-pw", "identity-token"
BASIC, BEARER, TOKENS, NGINX = 5100, 5101, 5102, 5103
OUTSIDE = "192.0.2.10"
"""An address that is not this machine for those who ask, though it is."""
_BCRYPT = "$2b$05$abcdefghijklmnopqrstuutaz/SHXsrvqy/ChnunBIcMuq4PCR.gG"


def guarded(root: Path, data: Path, port: int, auth: dict[str, Any]) -> Daemon:
    """A second docker-registry for the files of the first, which wants to know who asks."""
    config = root / f"registry-{port}.yml"
    settings = {
        "version": "0.1",
        "log": {"level": "warn"},
        "storage": {"filesystem": {"rootdirectory": str(data)}},
        "http": {"addr": f"127.0.0.1:{port}"},
        "auth": auth,
    }
    config.write_text(json.dumps(settings))  # which is YAML too
    return Daemon(
        "docker-registry",
        ["docker-registry", "serve", config],
        log=root / f"registry-{port}.log",
        ready=lambda: listens(port),
    )


def with_basic(root: Path, data: Path) -> Daemon:
    """One with names and passwords."""
    users = root / "htpasswd"
    users.write_text(f"{USER}:{_BCRYPT}\n")
    return guarded(root, data, BASIC, {"htpasswd": {"realm": "sandbox", "path": str(users)}})


def with_tokens(root: Path, data: Path, certificate: Path) -> Daemon:
    """One that believes what :class:`TokenServer` has signed."""
    token = {
        "realm": f"http://127.0.0.1:{TOKENS}/token",
        "service": "sandbox",
        "issuer": "sandbox",
        "rootcertbundle": str(certificate),
    }
    return guarded(root, data, BEARER, {"token": token})


def certificate(root: Path, name: str, alternative: str) -> tuple[Path, Path]:
    """A self-signed certificate and its key."""
    paths = root / f"{name}.crt", root / f"{name}.key"
    run(
        [
            "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
            "-subj", f"/CN={name}", "-addext", f"subjectAltName={alternative}",
            "-out", paths[0], "-keyout", paths[1],
        ]
    )  # fmt: skip
    return paths


class TokenServer:
    """Signs what a registry believes, for those with a password or an identity token."""

    def __init__(self, certificate: Path, key: Path) -> None:
        pem = certificate.read_text().splitlines()
        self._chain = ["".join(pem[1:-1])]
        loaded = serialization.load_pem_private_key(key.read_bytes(), None)
        assert isinstance(loaded, rsa.RSAPrivateKey)
        self._key = loaded
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                pair = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
                known = self.headers.get("Authorization") == f"Basic {pair}"
                self._answer(parse_qs(urlsplit(self.path).query), known=known)

            def do_POST(self) -> None:
                form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
                self._answer(form, known=form["refresh_token"] == [IDENTITY])

            def _answer(self, asked: dict[str, list[str]], *, known: bool) -> None:
                body = json.dumps({"token": outer.sign(asked)}).encode() if known else b"{}"
                self.send_response(200 if known else 401)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  its name there
                """Be quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", TOKENS), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def sign(self, asked: dict[str, list[str]]) -> str:
        kind, name, actions = asked["scope"][0].split(":")
        now = int(time.time())
        claims = {
            "iss": "sandbox", "sub": USER, "aud": asked["service"][0], "jti": "1",
            "iat": now, "nbf": now - 5, "exp": now + 60,
            "access": [{"type": kind, "name": name, "actions": actions.split(",")}],
        }  # fmt: skip
        header = {"typ": "JWT", "alg": "RS256", "x5c": self._chain}
        signed = f"{_packed(header)}.{_packed(claims)}"
        signature = self._key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
        return f"{signed}.{_unpadded(signature)}"

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def _packed(value: Any) -> str:
    return _unpadded(json.dumps(value).encode())


def _unpadded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def nginx(root: Path, backend: int, certificate: Path, key: Path) -> Daemon:
    """nginx before the registry, at NGINX in plain text and at OUTSIDE on 443 and 444 over TLS.

    It hides digests. Below ``busy/`` one request in 3 s is answered, ``swamped/`` asks for an
    hour, ``failed/`` fails; over TLS ``moved/`` leads to 444 and ``plain/`` to plain text.
    """
    place = root / "nginx"
    place.mkdir()
    config = root / "nginx.conf"
    tls = f"ssl_certificate {certificate}; ssl_certificate_key {key};"
    config.write_text(
        f"""\
daemon off;
user root;
worker_processes 1;
pid {place}/pid;
events {{ worker_connections 64; }}
http {{
  access_log {root}/access.log;
  client_body_temp_path {place}/body;
  fastcgi_temp_path {place}/fastcgi;
  proxy_temp_path {place}/proxy;
  scgi_temp_path {place}/scgi;
  uwsgi_temp_path {place}/uwsgi;
  limit_req_zone $server_port zone=slow:1m rate=20r/m;
  server {{
    listen 127.0.0.1:{NGINX};
    listen {OUTSIDE}:80;
    location /v2/ {{
      proxy_pass http://127.0.0.1:{backend}/v2/;
      proxy_hide_header Docker-Content-Digest;
    }}
    location /v2/busy/ {{
      limit_req zone=slow;
      limit_req_status 429;
      add_header Retry-After 3 always;
      proxy_pass http://127.0.0.1:{backend}/v2/;
    }}
    location /v2/swamped/ {{ add_header Retry-After 3600 always; return 503; }}
    location /v2/failed/ {{ return 500; }}
  }}
  server {{
    listen {OUTSIDE}:443 ssl;
    {tls}
    location /v2/ {{ proxy_pass http://127.0.0.1:{backend}/v2/; }}
    location /v2/moved/ {{ rewrite ^/v2/moved/(.*)$ https://{OUTSIDE}:444/v2/$1 redirect; }}
    location /v2/plain/ {{ rewrite ^/v2/plain/(.*)$ http://{OUTSIDE}/v2/$1 redirect; }}
  }}
  server {{
    listen {OUTSIDE}:444 ssl;
    {tls}
    location /v2/ {{ proxy_pass http://127.0.0.1:{backend}/v2/; }}
  }}
}}
"""
    )
    log = root / "nginx.log"
    return Daemon(
        "nginx",
        ["nginx", "-p", root, "-e", log, "-c", config],
        log=log,
        ready=lambda: listens(NGINX),
    )
