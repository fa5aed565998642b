"""A small HTTP proxy: CONNECT with basic authentication. It knows one name, which no resolver does."""

from __future__ import annotations

import base64
import contextlib
import socket
import threading
from collections.abc import Iterator
from types import TracebackType
from typing import Self


class Proxy:
    """Listens on a free port of loopback while it is entered, and leads `name` to 127.0.0.1, to any port.

    `asked` holds what was asked of it: target and credentials of each CONNECT.
    """

    def __init__(self, name: str, user: str, password: str) -> None:
        self.asked: list[tuple[str, str]] = []
        self._name = name
        self._credentials = f"{user}:{password}"
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: set[socket.socket] = set()

    @property
    def url(self) -> str:
        """For HTTPS_PROXY, without credentials."""
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def url_with(self, credentials: str) -> str:
        """For HTTPS_PROXY, with these."""
        return self.url.replace("http://", f"http://{credentials}@")

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for each in (self._listener, *list(self._open)):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=[client], daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with self._kept(client), contextlib.suppress(OSError):
            head = b""
            while b"\r\n\r\n" not in head:
                head += client.recv(4096)
            line, *fields = head.decode().split("\r\n")
            given = dict(field.lower().split(": ", 1) for field in fields if field)
            raw = next((field.split(" ")[-1] for field in fields if field.lower().startswith("proxy-auth")), "")
            credentials = base64.b64decode(raw).decode() if "proxy-authorization" in given else ""
            target = line.split(" ")[1]
            self.asked.append((target, credentials))
            if credentials != self._credentials:
                client.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n")
                return
            name, _, port = target.rpartition(":")
            assert name == self._name
            with self._kept(socket.create_connection(("127.0.0.1", int(port)))) as server:
                client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                back = threading.Thread(target=_pump, args=[server, client], daemon=True)
                back.start()
                _pump(client, server)
                back.join()

    @contextlib.contextmanager
    def _kept(self, opened: socket.socket) -> Iterator[socket.socket]:
        self._open.add(opened)
        try:
            yield opened
        finally:
            opened.close()
            self._open.discard(opened)


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    for each in (source, sink):
        with contextlib.suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
