"""A TCP proxy that stands for the network between the agent and a server, and can misbehave."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import Literal

from tests.sandbox import linux

Mode = Literal["pass", "cut", "blackhole", "drip", "cut_after"]

_CHUNK = 65536
_DRIPS_PER_SECOND = 10


class Proxy:
    """Forwards 127.0.0.1:`port` to 127.0.0.1:`target`, in the way `mode` says.

    A change of mode holds at once, also for connections that are open already. The port is in the
    network of the process `network`, if one is given; the target never.
    """

    def __init__(self, port: int, target: int, *, network: int | None = None) -> None:
        self.port = port
        self._target = target
        self._network = network
        self._mode: Mode = "pass"
        self._amount = 0
        self._changed = threading.Condition()
        self._links: set[_Link] = set()
        self._listener: socket.socket | None = None
        self._listen()

    def mode(self, mode: Mode, amount: int = 0) -> None:
        """Behave in this way from now on.

        - `pass`: forward everything;
        - `cut`: drop all connections, refuse new ones;
        - `blackhole`: accept connections, but forward nothing;
        - `drip`: forward what the server says at `amount` bytes per second per connection;
        - `cut_after`: drop each connection after `amount` more bytes from the server.
        """
        if (mode in {"drip", "cut_after"}) != (amount > 0):
            raise ValueError(f"mode {mode!r} does not go with the amount {amount}")
        with self._changed:
            self._mode, self._amount = mode, amount
            for link in self._links:
                link.budget = amount
            links = [*self._links] if mode == "cut" else []
            self._changed.notify_all()
        if mode == "cut":
            self._refuse()
            for link in links:
                link.drop()
        elif self._listener is None:
            self._listen()

    def _listen(self) -> None:
        def create() -> socket.socket:
            return socket.create_server(("127.0.0.1", self.port), backlog=64)

        network = self._network
        listener = create() if network is None else linux.in_network_of(network, create)
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def _refuse(self) -> None:
        if self._listener is not None:
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread in accept()
            self._listener.close()
            self._listener = None

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:  # the listener has been closed
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection(("127.0.0.1", self._target), timeout=5)
        except OSError:  # the server is down behind a proxy that is not: drop the client too
            client.close()
            return
        server.settimeout(None)
        for side in (client, server):  # or small pieces wait 40 ms for word of those before them
            side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        link = _Link(client, server)
        with self._changed:
            link.budget = self._amount
            self._links.add(link)
            if self._mode == "cut":
                link.drop()
        upload = threading.Thread(target=self._pump, args=(link, client, server), daemon=True)
        upload.start()
        self._pump(link, server, client)
        upload.join()
        with self._changed:
            self._links.discard(link)
        link.close()

    def _pump(self, link: _Link, source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(_CHUNK):
                while data := self._forward(link, data, sink, download=source is link.server):
                    pass
            sink.shutdown(socket.SHUT_WR)
        except OSError:  # either side has hung up, or the mode has become `cut`
            link.drop()

    def _forward(self, link: _Link, data: bytes, sink: socket.socket, *, download: bool) -> bytes:
        """Forward as much of `data` as the mode allows now; return the rest."""
        with self._changed:
            mode, amount = self._mode, self._amount
            if mode == "blackhole" and not link.dropped:
                self._changed.wait()
                return data
            if mode == "drip" and download:
                self._changed.wait(1 / _DRIPS_PER_SECOND)
                allowed = max(1, amount // _DRIPS_PER_SECOND)
            elif mode == "cut_after" and download:
                allowed = link.budget
                link.budget -= min(allowed, len(data))
            else:
                allowed = len(data)
        sink.sendall(data[:allowed])
        if mode == "cut_after" and download and link.budget == 0:
            raise ConnectionResetError
        return data[allowed:]


class _Link:
    """One connection through the proxy: the client's socket and the server's."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.client = client
        self.server = server
        self.budget = 0  # bytes left in mode `cut_after`
        self.dropped = False

    def drop(self) -> None:
        """End both sides; the pumps notice and close them."""
        self.dropped = True
        for side in (self.client, self.server):
            with contextlib.suppress(OSError):
                side.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.client.close()
        self.server.close()
