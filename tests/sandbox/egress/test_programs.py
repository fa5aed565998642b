"""curl, pip, git and Python reach an allowed server through the proxy, over HTTP and HTTPS, and say why if they do not.

They are the machine's own; pip is the one that Python brings.
"""

from __future__ import annotations

import base64
import ensurepip
import hashlib
import ssl
import subprocess
import sys
import sysconfig
import threading
import zipfile
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from arrowslit.policy.egress import Refusal
from arrowslit.sandbox.egress.attempt import Verdict
from tests.sandbox.egress.kit import HOST, Authority, Done, Gate, Names, authority, gate, private, run

pytestmark = pytest.mark.promise("P13")


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


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(params=["http", "https"])
async def web(request: pytest.FixtureRequest, ca: Authority) -> AsyncIterator[tuple[str, Gate]]:
    """The URL of a Site under the allowed name, over HTTP and over HTTPS, and the proxy in front of it."""
    with site(ca.server if request.param == "https" else None) as port:
        async with gate(private(port)) as at:
            yield f"{request.param}://{HOST}:{port}", at


@pytest.fixture(scope="module")
def pip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pip that comes with this Python, or with its distribution, as a folder to run."""
    folders = [Path(ensurepip.__file__).parent / "_bundled", Path(sysconfig.get_config_var("WHEEL_PKG_DIR") or "/none")]
    wheels = [found for folder in folders for found in sorted(folder.glob("pip-*.whl"))]
    assert wheels, "this test needs the pip of Python's ensurepip (on Debian and Ubuntu: apt-get install python3-venv)"
    unpacked = tmp_path_factory.mktemp("pip")
    with zipfile.ZipFile(wheels[-1]) as archive:
        archive.extractall(unpacked)
    return unpacked / "pip"


def trusting(ca: Authority) -> dict[str, str]:
    """The variables by which programs are told of another CA."""
    path = str(ca.path)
    return {"CURL_CA_BUNDLE": path, "SSL_CERT_FILE": path, "GIT_SSL_CAINFO": path, "PIP_CERT": path}


async def went_through(at: Gate, done: Done) -> None:
    """The program succeeded, and every one of its attempts was allowed and counted."""
    assert done.status == 0, done
    attempts = [await at.attempt()]
    while not at.attempts.empty():
        attempts.append(at.attempts.get_nowait())
    assert {each.verdict for each in attempts} == {Verdict.ALLOWED}, attempts
    assert {(each.host, each.address) for each in attempts} == {(HOST, "127.0.0.1")}
    assert all(each.bytes_out > 50 and each.bytes_in > 50 for each in attempts)


async def test_curl_gets_a_page(web: tuple[str, Gate], ca: Authority, tmp_path: Path) -> None:
    url, at = web
    done = await run("curl", "-sS", f"{url}/page", at=at, home=tmp_path, **trusting(ca))

    assert done.out == "a page\n"
    await went_through(at, done)


async def test_curl_posts_two_megabytes(web: tuple[str, Gate], ca: Authority, tmp_path: Path) -> None:
    url, at = web
    body = bytes(range(256)) * 8192
    (tmp_path / "body").write_bytes(body)
    done = await run("curl", "-sS", "--data-binary", "@body", f"{url}/post", at=at, home=tmp_path, **trusting(ca))

    assert done.out == hashlib.sha256(body).hexdigest()
    await went_through(at, done)


async def test_python_gets_a_page(web: tuple[str, Gate], ca: Authority, tmp_path: Path) -> None:
    url, at = web
    code = "import sys, urllib.request as u; print(u.urlopen(sys.argv[1], timeout=5).read().decode(), end='')"
    done = await run(sys.executable, "-S", "-c", code, f"{url}/page", at=at, home=tmp_path, **trusting(ca))

    assert done.out == "a page\n"
    await went_through(at, done)


async def test_a_client_that_keeps_its_connections_gets_three_pages(
    web: tuple[str, Gate], ca: Authority, tmp_path: Path
) -> None:
    url, at = web
    code = """
import ssl, sys, httpx2
with httpx2.Client(verify=ssl.create_default_context()) as client:
    print(*[client.get(sys.argv[1]).text for _ in range(3)], sep="", end="")
"""
    done = await run(sys.executable, "-c", code, f"{url}/page", at=at, home=tmp_path, **trusting(ca))

    assert done.out == "a page\n" * 3, done
    await went_through(at, done)


async def test_pip_downloads_a_wheel(
    web: tuple[str, Gate], ca: Authority, pip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, at = web
    monkeypatch.setattr(Site, "wheel", wheel(tmp_path / "tiny-1.0-py3-none-any.whl").read_bytes())
    options = ["--no-deps", "--no-cache-dir", "--index-url", f"{url}/simple", "--trusted-host", HOST]
    download = [str(pip), "download", *(options if url.startswith("http:") else options[:-2]), "-d", "got", "tiny"]
    done = await run(sys.executable, "-I", *download, at=at, home=tmp_path, **trusting(ca))

    assert (tmp_path / "got" / "tiny-1.0-py3-none-any.whl").exists(), done
    await went_through(at, done)


async def test_git_clones_a_repository(
    web: tuple[str, Gate], ca: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, at = web
    monkeypatch.setattr(Site, "repository", await repository(tmp_path / "origin", at))
    done = await run("git", "clone", "-q", f"{url}/repository", "clone", at=at, home=tmp_path, **trusting(ca))

    assert (tmp_path / "clone" / "file").read_text() == "content\n", done
    await went_through(at, done)


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


async def repository(path: Path, at: Gate) -> Path:
    """A repository with one commit, at `path`."""
    path.mkdir()
    (path / "file").write_text("content\n")
    who = ("-c", "user.name=a", "-c", "user.email=a@b.test", "-c", "commit.gpgsign=false")
    for command in (("init", "-q"), ("add", "file"), (*who, "commit", "-q", "-m", "first")):
        done = await run("git", "-C", str(path), *command, at=at, home=path.parent)
        assert done.status == 0, done
    return path


# ---------------------------------------------------------------- what a refusal looks like


async def test_curl_shows_the_reason_of_a_refusal(tmp_path: Path) -> None:
    async with gate([]) as at:
        plain = await run("curl", "-sS", "http://evil.test/", at=at, home=tmp_path)
        tunnel = await run("curl", "-sSv", "https://evil.test/", at=at, home=tmp_path)
        attempts = [await at.attempt(), await at.attempt()]

    said = "sandbox_egress_denied: the host evil.test is not allowed for this sandbox"
    assert plain.out.splitlines()[0] == said
    assert "reason: host_not_allowed" in plain.out
    assert f"HTTP/1.1 403 {said}" in tunnel.err
    assert tunnel.status == 56
    assert {(each.host, each.port) for each in attempts} == {("evil.test", 80), ("evil.test", 443)}


async def test_pip_and_python_show_the_reason_of_a_refusal(pip: Path, tmp_path: Path) -> None:
    code = "import urllib.request as u; u.urlopen('https://evil.test/')"
    async with gate([]) as at:
        tried = await run(sys.executable, "-S", "-c", code, at=at, home=tmp_path)
        options = ("--index-url", "https://evil.test/simple", "tiny")
        asked = await run(sys.executable, "-I", str(pip), "download", *options, at=at, home=tmp_path)

    for said in (tried.err, asked.err):
        assert "403 sandbox_egress_denied: the host evil.test is not allowed for this sandbox" in said


async def test_curl_is_told_of_a_name_that_is_not_asked_for(ca: Authority, tmp_path: Path) -> None:
    with site(ca.server) as port:
        async with gate(private(port)) as at:
            connect_to = ("--connect-to", f"evil.test:{port}:{HOST}:{port}")  # SNI evil.test in a tunnel to HOST
            done = await run("curl", "-sSk", *connect_to, f"https://evil.test:{port}/page", at=at, home=tmp_path)
            attempt = await at.attempt()

    assert "unrecognized name" in done.err
    assert (attempt.host, attempt.code) == (HOST, Refusal.SNI_MISMATCH)


async def test_a_server_that_is_down_is_told_as_502_and_recorded_as_failed() -> None:
    with site(None) as port:
        pass  # nobody listens there any more
    async with gate(private(port)) as at:
        answer = await at.say(f"CONNECT {HOST}:{port} HTTP/1.1\r\n\r\n".encode())
        attempt = await at.attempt()

    assert answer.startswith(b"HTTP/1.1 502 sandbox_egress_failed: no connection to allowed.test")
    assert (attempt.verdict, attempt.code) == (Verdict.FAILED, Refusal.NOT_CONNECTED)


async def test_a_name_that_leads_nowhere_is_told_as_502_and_recorded_as_failed() -> None:
    async with gate(["nowhere.test"]) as at:
        answer = await at.say(b"CONNECT nowhere.test:443 HTTP/1.1\r\n\r\n")
        attempt = await at.attempt()

    assert answer.startswith(b"HTTP/1.1 502 sandbox_egress_failed: the sandbox's machine finds no address")
    assert (attempt.verdict, attempt.code, attempt.address) == (Verdict.FAILED, Refusal.NOT_RESOLVED, None)


async def test_the_second_address_of_a_name_is_tried_when_the_first_does_not_answer() -> None:
    with site(None) as port:
        async with gate(private(port), names=Names({HOST: [["127.0.0.9", "127.0.0.1"]]})) as at:
            answer = await at.say(f"GET http://{HOST}:{port}/page HTTP/1.1\r\nHost: {HOST}:{port}\r\n\r\n".encode())
            attempt = await at.attempt()

    assert answer.endswith(b"a page\n")
    assert attempt.address == "127.0.0.1"
