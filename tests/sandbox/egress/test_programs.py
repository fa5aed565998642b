"""curl, pip, git and Python reach an allowed server through the proxy, over HTTP and HTTPS, and say why if they do not.

They are the machine's own; pip is the one that Python brings.
"""

from __future__ import annotations

import hashlib
import sys
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from arrowslit.policy.egress import Refusal
from arrowslit.sandbox.egress.attempt import Verdict
from tests.sandbox.egress.kit import HOST, Authority, Done, Gate, Names, authority, gate, private, run
from tests.sandbox.egress.site import Site, pip_wheel, repository, site, trusting, wheel

pytestmark = pytest.mark.promise("P13")


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
    """The pip of this Python as a folder to run."""
    unpacked = tmp_path_factory.mktemp("pip")
    with zipfile.ZipFile(pip_wheel()) as archive:
        archive.extractall(unpacked)
    return unpacked / "pip"


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
    done = await run("curl", "-sS", f"{url}/page", at=at, home=tmp_path, **trusting(ca.path))

    assert done.out == "a page\n"
    await went_through(at, done)


async def test_curl_posts_two_megabytes(web: tuple[str, Gate], ca: Authority, tmp_path: Path) -> None:
    url, at = web
    body = bytes(range(256)) * 8192
    (tmp_path / "body").write_bytes(body)
    done = await run("curl", "-sS", "--data-binary", "@body", f"{url}/post", at=at, home=tmp_path, **trusting(ca.path))

    assert done.out == hashlib.sha256(body).hexdigest()
    await went_through(at, done)


async def test_python_gets_a_page(web: tuple[str, Gate], ca: Authority, tmp_path: Path) -> None:
    url, at = web
    code = "import sys, urllib.request as u; print(u.urlopen(sys.argv[1], timeout=5).read().decode(), end='')"
    done = await run(sys.executable, "-S", "-c", code, f"{url}/page", at=at, home=tmp_path, **trusting(ca.path))

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
    done = await run(sys.executable, "-c", code, f"{url}/page", at=at, home=tmp_path, **trusting(ca.path))

    assert done.out == "a page\n" * 3, done
    await went_through(at, done)


async def test_pip_downloads_a_wheel(
    web: tuple[str, Gate], ca: Authority, pip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, at = web
    monkeypatch.setattr(Site, "wheel", wheel(tmp_path / "tiny-1.0-py3-none-any.whl").read_bytes())
    options = ["--no-deps", "--no-cache-dir", "--index-url", f"{url}/simple", "--trusted-host", HOST]
    download = [str(pip), "download", *(options if url.startswith("http:") else options[:-2]), "-d", "got", "tiny"]
    done = await run(sys.executable, "-I", *download, at=at, home=tmp_path, **trusting(ca.path))

    assert (tmp_path / "got" / "tiny-1.0-py3-none-any.whl").exists(), done
    await went_through(at, done)


async def test_git_clones_a_repository(
    web: tuple[str, Gate], ca: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, at = web
    monkeypatch.setattr(Site, "repository", repository(tmp_path / "origin"))
    done = await run("git", "clone", "-q", f"{url}/repository", "clone", at=at, home=tmp_path, **trusting(ca.path))

    assert (tmp_path / "clone" / "file").read_text() == "content\n", done
    await went_through(at, done)


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
