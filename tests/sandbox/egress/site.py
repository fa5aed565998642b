"""A site for the programs that come through the proxy: an index for pip, a repository for git, a page; and their CA."""

from __future__ import annotations

import base64
import ensurepip
import hashlib
import ssl
import subprocess
import sysconfig
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Site(BaseHTTPRequestHandler):
    """An index for pip with one wheel, a repository for git, a page, and a place to post to."""

    protocol_version = "HTTP/1.1"
    wheel = b""
    repository = Path()

    def do_GET(self) -> None:
        if self.path == "/page":
            self._answer(b"a page\n", "text/plain")
        elif self.path == "/simple/tiny/":
            self._answer(b'<a href="/tiny-1.0-py3-none-any.whl">tiny-1.0-py3-none-any.whl</a>', "text/html")
        elif self.path.endswith(".whl"):
            self._answer(self.wheel, "application/octet-stream")
        elif self.path == "/repository/info/refs?service=git-upload-pack":
            refs = self._upload_pack("--stateless-rpc", "--advertise-refs")
            kind = "application/x-git-upload-pack-advertisement"
            self._answer(b"001e# service=git-upload-pack\n0000" + refs, kind)
        else:
            self.send_error(404)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.path == "/repository/git-upload-pack":
            self._answer(self._upload_pack("--stateless-rpc", body=body), "application/x-git-upload-pack-result")
        else:
            self._answer(hashlib.sha256(body).hexdigest().encode(), "text/plain")

    def _upload_pack(self, *how: str, body: bytes = b"") -> bytes:
        command = ["git", "upload-pack", *how, str(self.repository)]
        return subprocess.run(command, input=body, stdout=subprocess.PIPE, check=True).stdout

    def _answer(self, body: bytes, kind: str) -> None:
        self.send_response(200)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def site(tls: ssl.SSLContext | None) -> Iterator[int]:
    """The port of a Site that listens."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Site)
    server.daemon_threads = True
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def pip_wheel() -> Path:
    """The pip that comes with this Python, or with its distribution."""
    folders = [Path(ensurepip.__file__).parent / "_bundled", Path(sysconfig.get_config_var("WHEEL_PKG_DIR") or "/none")]
    wheels = [found for folder in folders for found in sorted(folder.glob("pip-*.whl"))]
    assert wheels, "this test needs the pip of Python's ensurepip (on Debian and Ubuntu: apt-get install python3-venv)"
    return wheels[-1]


def trusting(path: object) -> dict[str, str]:
    """The variables by which programs are told of another CA, which lies at `path`."""
    return dict.fromkeys(("CURL_CA_BUNDLE", "SSL_CERT_FILE", "GIT_SSL_CAINFO", "PIP_CERT"), str(path))


def wheel(path: Path) -> Path:
    """The smallest wheel that pip takes, at `path`."""
    files = {
        "tiny.py": b"",
        "tiny-1.0.dist-info/METADATA": b"Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n",
        "tiny-1.0.dist-info/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    digests = {
        name: base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=") for name, data in files.items()
    }
    listed = "".join(f"{name},sha256={digests[name].decode()},{len(data)}\n" for name, data in files.items())
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in {**files, "tiny-1.0.dist-info/RECORD": listed.encode()}.items():
            archive.writestr(name, data)
    return path


def repository(path: Path) -> Path:
    """A repository with one commit, at `path`."""
    path.mkdir()
    (path / "file").write_text("content\n")
    who = ("-c", "user.name=a", "-c", "user.email=a@b.test", "-c", "commit.gpgsign=false")
    for command in (("init", "-q"), ("add", "file"), (*who, "commit", "-q", "-m", "first")):
        subprocess.run(["git", "-C", str(path), *command], check=True, capture_output=True)
    return path
