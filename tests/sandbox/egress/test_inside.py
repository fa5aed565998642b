"""Out of a real sandbox: programs reach what is allowed, through the proxy, and nothing gets round it (H10, SBX-01 to
SBX-03). Worker as root, and as an ordinary user.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from arrowslit.policy.egress import Refusal
from arrowslit.sandbox.egress.attempt import Verdict
from tests.sandbox.canaries import Canaries
from tests.sandbox.egress.inside import Inside, inside
from tests.sandbox.egress.kit import HOST, LOOPBACK, Authority, Names, Origin, authority, origin, private
from tests.sandbox.egress.site import Site, pip_wheel, repository, site, trusting, wheel
from tests.sandbox.egress.ways import ASKED, INWARDS, PROGRAMS, SILENT, asking, filled
from tests.sandbox.hosts import Host

pytestmark = [pytest.mark.promise("P13"), pytest.mark.asyncio(loop_scope="module")]

CA = "/workspace/ca.pem"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server() -> AsyncIterator[Origin]:
    """A server on this machine's loopback, which only the allowed name may reach."""
    async with origin() as found:
        yield found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def box(worker: Host, server: Origin) -> AsyncIterator[Inside]:
    """A sandbox with a way out to that server, for all ways round."""
    names = Names({**LOOPBACK, INWARDS: [["169.254.169.254"]]})
    rules = [*private(server.port), {"host": INWARDS, "ports": [80]}]
    async with inside(worker, "ways", rules, names) as found:
        yield found


# ---------------------------------------------------------------- programs


@dataclass(frozen=True)
class Web:
    """A site under the allowed name, and a sandbox that may reach it and trusts its CA."""

    url: str
    box: Inside

    async def shell(self, script: str) -> str:
        """What a line prints that ends well, with all its attempts allowed and counted."""
        answer = await self.box.shell(f"set -e; URL={self.url}; {script}", **trusting(CA))
        assert answer.status == 0, answer
        attempts = [await self.box.gate.attempt()]
        while not self.box.gate.attempts.empty():
            attempts.append(self.box.gate.attempts.get_nowait())
        assert {each.verdict for each in attempts} == {Verdict.ALLOWED}, attempts
        assert {(each.host, each.address) for each in attempts} == {(HOST, "127.0.0.1")}
        assert all(each.bytes_out > 50 and each.bytes_in > 50 for each in attempts)
        return answer.stdout


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return authority(tmp_path_factory.mktemp("ca"))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def webs(worker: Host, ca: Authority) -> AsyncIterator[dict[str, Web]]:
    """Over HTTP, and over HTTPS by the test's own CA. Pip is there too."""
    with site(None) as http, site(ca.server) as https:
        async with inside(worker, "web", [*private(http), *private(https)]) as box:
            await box.put(CA, ca.path.read_bytes())
            await box.put("pip.whl", pip_wheel().read_bytes())
            assert (await box.shell("python3 -m zipfile -e pip.whl .")).status == 0
            yield {name: Web(f"{name}://{HOST}:{port}", box) for name, port in (("http", http), ("https", https))}


@pytest.fixture(params=["http", "https"])
def web(request: pytest.FixtureRequest, webs: dict[str, Web]) -> Web:
    """One of them."""
    return webs[request.param]


async def test_curl_gets_a_page(web: Web) -> None:
    assert await web.shell("curl -sS $URL/page") == "a page\n"


async def test_curl_posts_a_megabyte(web: Web) -> None:
    digest = hashlib.sha256(b"x" * (1 << 20)).hexdigest()

    assert await web.shell("head -c 1048576 /dev/zero | tr '\\0' x | curl -sS --data-binary @- $URL/post") == digest


async def test_python_gets_a_page(web: Web) -> None:
    code = "import sys, urllib.request as u; print(u.urlopen(sys.argv[1], timeout=5).read().decode(), end=str())"

    assert await web.shell(f"python3 -c '{code}' $URL/page") == "a page\n"


async def test_pip_installs_a_wheel(web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Site, "wheel", wheel(tmp_path / "tiny-1.0-py3-none-any.whl").read_bytes())
    options = "-q --no-deps --no-compile --no-cache-dir --target got --index-url $URL/simple"
    trusted = f"--trusted-host {HOST}" if web.url.startswith("http:") else ""

    assert await web.shell(f"rm -rf got; python3 pip install {options} {trusted} tiny; ls got") == (
        "tiny-1.0.dist-info\ntiny.py\n"
    )


async def test_git_clones_a_repository(web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Site, "repository", repository(tmp_path / "origin"))

    assert await web.shell("rm -rf clone; git clone -q $URL/repository clone; cat clone/file") == "content\n"


async def test_a_certificate_of_somebody_else_is_refused_by_the_program_itself(web: Web) -> None:
    """The proxy does not open TLS: who is at the other end, the program inside finds out."""
    answer = await web.box.shell(f"curl -sS {web.url}/page")
    attempt = await web.box.gate.attempt()

    assert answer.status == (60 if web.url.startswith("https") else 0)
    assert attempt.host == HOST


# ---------------------------------------------------------------- round it


@pytest.mark.parametrize("name", SILENT)
async def test_a_way_round_the_proxy_leads_nowhere(name: str, box: Inside, server: Origin, canaries: Canaries) -> None:
    answer = await box.python(filled(asking(SILENT[name]), server.port, canaries))

    assert answer.status == 0, answer
    assert "ESCAPED" not in answer.text, answer
    assert answer.stdout.startswith("blocked"), answer
    assert server.received == []
    assert box.gate.attempts.empty()


@pytest.mark.parametrize("name", PROGRAMS)
async def test_a_program_that_goes_round_the_proxy_gets_nowhere(
    name: str, box: Inside, server: Origin, canaries: Canaries
) -> None:
    answer = await box.shell(filled(PROGRAMS[name], server.port, canaries))

    assert answer.why == "exit", answer
    assert answer.status not in (0, 126, 127), answer
    assert server.received == []
    assert box.gate.attempts.empty()


@pytest.mark.parametrize("name", ASKED)
async def test_what_the_proxy_is_asked_for_is_refused_and_recorded(
    name: str, box: Inside, server: Origin, canaries: Canaries
) -> None:
    script, code = ASKED[name]
    answer = await box.python(filled(asking(script), server.port, canaries))
    attempt = await box.gate.attempt()

    assert answer.stdout.startswith("blocked"), answer
    assert (attempt.verdict, attempt.code) == (Verdict.DENIED, code)
    assert (attempt.bytes_out, attempt.bytes_in) == (0, 0)
    assert [bytes(each) for each in server.received] in ([], [b""])
    server.received.clear()
    assert set(box.gate.names.asked) <= {HOST, INWARDS}


async def test_the_way_out_of_another_session_is_another(worker: Host, box: Inside, server: Origin) -> None:
    """At the same address and port each finds its own; and what one may, the other may not."""
    async with inside(worker, "other", [], Names(LOOPBACK)) as other:
        answer = await other.shell(f"curl -s -o /dev/null -w '%{{http_code}}' http://{HOST}:{server.port}/")
        attempt = await other.gate.attempt()

    assert answer.stdout == "403"
    assert (attempt.host, attempt.code) == (HOST, Refusal.HOST_NOT_ALLOWED)
    assert server.received == []
    assert box.gate.attempts.empty()


async def test_without_the_proxy_there_is_no_way_out(worker: Host, server: Origin) -> None:
    async with inside(worker, "gone", private(server.port), Names(LOOPBACK)) as box:
        url = f"http://{HOST}:{server.port}/"
        assert (await box.shell(f"curl -sS {url}")).stdout == "ok"
        assert box.gate.close is not None
        await box.gate.close()
        server.received.clear()

        closed = await box.shell(f"curl -sS -m 5 {url}")
        direct = await box.shell(f"curl -sS -m 5 --noproxy '*' {url}")

    assert (closed.status, direct.status) == (7, 6)
    assert server.received == []
