"""Where a connector connects: to the address that its owner wrote, and nowhere else, whatever comes from outside."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
import pytest_asyncio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from arrowslit.clock import SystemClock
from arrowslit.connector.targets.http import HttpTarget
from arrowslit.connector.targets.upstream.address import HostPort, read_endpoint, read_place
from arrowslit.connector.targets.upstream.pool import system_resolve
from arrowslit.errors import Error
from arrowslit.policy import ceiling
from tests.connector.targets.scripted import Script, Seen, Server, always, answer, serving
from tests.security.cases import case
from tests.security.world import World
from tests.support.inprocess import ENDPOINT, JSON, House, bearer, connector, in_process, kept
from tests.support.wire import Answer, dial, request, until

KEY = Ed25519PrivateKey.generate()
in_module = pytest.mark.asyncio(loop_scope="module")

DISGUISED = {
    "two numbers": "127.1",
    "one number": "2130706433",
    "a hexadecimal": "0x7f.1",
    "all hexadecimal": "0x7f000001",
    "an octal": "0177.0.0.1",
    "zero": "0",
    "0.0.0.0": "0.0.0.0",
    "digits in circles": "①②⑦.0.0.1",
    "ideographic stops": "127。0。0。1",
    "full-width digits": "１２７.0.0.1",
    "a dot behind a name": "localhost.",
    "a dot behind an address": "127.0.0.1.",
    "[::]": "[::]",
    "five numbers": "127.0.0.0.1",
    "a number beyond a byte": "256.0.0.1",
    "broadcast": "255.255.255.255",
    "many hosts": "224.0.0.1",
    "a blank": "127.0.0.1%20",
    "no host": "",
}
WRAPPED = {
    "IPv4-mapped": "::ffff:127.0.0.1",
    "IPv4-compatible": "::127.0.0.1",
    "NAT64": "64:ff9b::7f00:1",
    "local NAT64": "64:ff9b:1::7f00:1",
    "6to4": "2002:7f00:1::",
    "Teredo": "2001:0:7f00:1::",
    "site-local": "fec0::1",
    "link-local with a zone": "fe80::1%lo",
    "link-local": "fe80::1",
    "multicast": "ff02::1",
    "unspecified": "::",
    "mapped metadata": "::ffff:a9fe:a9fe",
    "documentation of nobody": "100::1",
}
CONFUSING = {
    "a backslash": "http://127.0.0.1\\@allowed/",
    "a user": "http://allowed@127.0.0.1/",
    "a user and a password": "http://a:b@127.0.0.1/",
    "an empty user": "http://@127.0.0.1/",
    "a fragment and an at": "http://127.0.0.1#@allowed/",
    "a question mark and an at": "http://127.0.0.1:80\t?@allowed/",
    "a tab": "http://127.0.\t0.1/",
    "a CR": "http://127.0.0.1/\rX",
    "an LF": "http://127.0.0.1/\nHost: x",
    "an escaped NUL": "http://127.0.0.1/%00",
    "an escaped line end": "http://127.0.0.1/%0d%0aX:%20y",
    "an escaped host": "http://%31%32%37.0.0.1/",
    "two ports": "http://127.0.0.1:80:81/",
    "a port beyond": "http://127.0.0.1:65536/",
    "port zero": "http://127.0.0.1:0/",
    "a port with a sign": "http://127.0.0.1:+80/",
    "an open bracket": "http://[::1/",
    "an IPv4 address in brackets": "http://[127.0.0.1]/",
    "one slash": "http:/127.0.0.1/",
    "three slashes": "http:///127.0.0.1/",
    "no slash": "http:127.0.0.1/",
    "a blank before it": " http://127.0.0.1/",
    "a right-to-left mark": "http://127.0.0.1\u200f/",
}
SCHEMES = {
    name: f"{name}://127.0.0.1/x"
    for name in ("file", "gopher", "ftp", "http+unix", "ws", "wss", "dict", "ldap", "sftp", "httpx", "unix")
} | {"data": "data:text/plain,x", "javascript": "javascript:alert(1)", "none": "//127.0.0.1/"}


@case("SSRF-01", "host", DISGUISED)
def test_an_address_in_disguise_is_no_target(host: str) -> None:
    refused_as_target(f"http://{host}:8080/mcp")
    refused_in_ceiling(f"{host}:8080")


@case("SSRF-02", "host", WRAPPED)
def test_an_address_within_another_is_no_target(host: str) -> None:
    refused_as_target(f"http://[{host}]:8080/mcp")
    refused_in_ceiling(f"[{host}]:8080")


@case("SSRF-06", "url", CONFUSING)
def test_a_url_that_two_readers_read_differently_is_no_target(url: str) -> None:
    refused_as_target(url)


@case("SSRF-08", "url", SCHEMES)
def test_another_scheme_is_no_target(url: str) -> None:
    refused_as_target(url)


def refused_as_target(url: str) -> None:
    with pytest.raises(Error) as refused:
        read_endpoint(url)
    assert refused.value.code == "target_invalid"
    assert refused.value.hint


def refused_in_ceiling(place: str) -> None:
    """As a further host that the owner lists: when the file is read, or when the connector starts with it."""
    with pytest.raises(Error) as refused:
        for listed in ceiling.parse(f"hosts = [{json.dumps(place)}]").hosts:
            read_place(listed)
    assert refused.value.code in ("ceiling_invalid", "target_invalid")


# ---------------------------------------------------------------- through the door


class Names:
    """A resolver that says something else each time, and the last thing for ever."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers = list(answers)

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    """Without a connector: each test brings its own."""
    async with in_process(tmp_path_factory.mktemp("ssrf"), connected=False) as house:
        yield house


@asynccontextmanager
async def reaching(
    house: House, url: str, *, resolve: Any = system_resolve, allowed: Sequence[HostPort] = (), **more: Any
) -> AsyncIterator[None]:
    """A connector for the tunnel whose target is at `url`."""
    target = HttpTarget(read_endpoint(url), SystemClock(), resolve=resolve, allowed=allowed, **more)
    dialler = connector(f"ws://127.0.0.1:{house.port}/connect", house.token, target, key=KEY)
    async with target, kept(dialler):
        await until(lambda: house.connected)
        yield
    await until(lambda: not house.connected)


def says(result: object) -> Script:
    """A server that answers every call with that."""
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "result": result}).encode()
    return always(answer(body, "200 OK", "content-type: application/json"))


def calls(server: Server) -> list[Seen]:
    """The calls that reached a server; the relay may have asked it for its tools besides."""
    return [each for each in server.requests if b'"tools/call"' in each.body]


async def call(house: House, arguments: object, *headers: str) -> Answer:
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "echo", "arguments": arguments}}
    async with dial(house.port) as wire:
        await wire.send(
            request("POST", ENDPOINT, json.dumps(message).encode(), headers=(*JSON, bearer(house.key), *headers))
        )
        return await wire.answer()


@pytest.mark.promise("P10")
@in_module
@case("SSRF-04", "later", {"loopback": "127.0.0.2", "metadata": "169.254.169.254", "wrapped": "64:ff9b::7f00:1"})
async def test_a_name_that_is_rebound_leads_nowhere_else(house: House, later: str, unused_tcp_port: int) -> None:
    names, listed = Names(["127.0.0.1"], [later]), [HostPort("127.0.0.1", unused_tcp_port)]
    url = f"http://inventory.internal:{unused_tcp_port}/mcp"
    async with serving(says({}), port=unused_tcp_port) as first:
        reached = reaching(house, url, resolve=names, allowed=listed)
        await reached.__aenter__()
        assert (await call(house, {})).json["result"] == {}
    try:
        answer = await call(house, {})
        assert answer.code == "not_started"
        assert answer.json["error"]["data"]["outcome"] == "not_delivered"
        assert len(calls(first)) == 1
        assert later not in answer.body.decode(), "a caller learns no internal address"
    finally:
        await reached.__aexit__(None, None, None)


MOVES = {
    f"{status} {name}": (status, where)
    for status in ("301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent")
    for name, where in {"elsewhere": "http://127.0.0.1:{trap}/mcp", "a file": "file:///etc/passwd"}.items()
} | {"302 without a scheme": ("302 Found", "//127.0.0.1:{trap}/"), "300 with choices": ("300 Choices", "/other")}


@pytest.mark.promise("P10")
@in_module
@case("SSRF-05", "status,where", MOVES)
async def test_a_redirect_is_not_followed(house: House, status: str, where: str) -> None:
    async with serving(says({})) as trap:
        location = f"location: {where.format(trap=trap.port)}"
        async with serving(always(answer(b"", status, location))) as server, reaching(house, server.url):
            said = await call(house, {})
            assert (said.status, said.code) == (200, "redirect_refused")
            data = json.loads(said.body)["error"]["data"]
            assert (data["outcome"], data["retryable"]) == ("result", False)
            assert data["call_id"].startswith("call_")
            assert len(calls(server)) == 1
            assert str(trap.port) not in said.body.decode()
        assert trap.connections == 0


SEGMENTS = {
    "dots": "../../admin",
    "escaped slashes": "..%2f..%2fadmin",
    "a query": "x?admin=1",
    "a fragment": "x#",
    "another host": "//evil/",
    "a line end": "a\r\nX-Role: admin",
    "a URL": "http://169.254.169.254/latest/meta-data",
    "a template": "{host}/${jndi:ldap://127.0.0.1/x}",
}


@pytest.mark.promise("P8")
@in_module
@case("SSRF-07", "text", SEGMENTS)
async def test_an_argument_changes_no_path_and_no_header(house: House, text: str) -> None:
    async with serving(says({})) as server, reaching(house, server.url):
        assert (await call(house, {"id": text})).status == 200
        (seen,) = calls(server)
        assert seen.line == "POST /mcp HTTP/1.1"
        assert seen.headers["host"] == f"127.0.0.1:{server.port}"
        assert "x-role" not in seen.headers
        assert json.loads(seen.body)["params"]["arguments"] == {"id": text}


@in_module
@case(
    "SSRF-10",
    "header",
    {
        "Host": "Host: 127.0.0.1:22",
        "X-Forwarded-Host": "X-Forwarded-Host: 127.0.0.1:5432",
        "X-Forwarded-Port": "X-Forwarded-Port: 22",
        "Forwarded": "Forwarded: host=127.0.0.1:22",
        "Mcp-Host": "Mcp-Host: 127.0.0.1:22",
    },
)
async def test_nothing_a_caller_says_changes_the_port(house: House, header: str) -> None:
    async with serving(says({})) as trap, serving(says({})) as server, reaching(house, server.url):
        line = header.replace("5432", str(trap.port)).replace("22", str(trap.port))
        answer = await call(house, {}, line)
        assert answer.status == (400 if line.startswith("Host") else 200), "two Hosts are refused"
        assert trap.connections == 0


@in_module
@case("SSRF-10", "port", {"ssh": 22, "PostgreSQL": 5432, "another": 1})
async def test_a_listed_host_is_listed_with_its_port(house: House, port: int) -> None:
    async with serving(says({})) as server:
        url = f"http://inventory.internal:{server.port}/mcp"
        with pytest.raises(Error) as refused:
            async with reaching(house, url, resolve=Names(["127.0.0.1"]), allowed=[HostPort("127.0.0.1", port)]):
                raise AssertionError("it led to another port than the listed one")
        assert refused.value.code == "target_invalid"
        assert server.connections == 0


CREDENTIALS = {
    "a cookie": "Cookie: session=of-the-caller",
    "a proxy's": "Proxy-Authorization: Basic of-the-caller",
    "another key": "X-Auth-Token: of-the-caller",
    "a forwarded user": "X-Forwarded-User: of-the-caller",
}


@in_module
@case("SSRF-11", "header", CREDENTIALS)
async def test_the_callers_credentials_stay_here(house: House, header: str) -> None:
    ours = "Bearer of-the-target"
    async with serving(says({})) as server, reaching(house, server.url, authorization=ours):
        assert (await call(house, {}, header)).status == 200
        (seen,) = calls(server)
        assert seen.headers["authorization"] == ours
        assert "of-the-caller" not in repr(seen)
        assert house.key not in repr(seen)


@in_module
@case("SSRF-11", "where", {"of another port": "http://127.0.0.1:{port}/mcp"})
async def test_the_targets_credential_goes_to_the_target_alone(house: House, where: str) -> None:
    async with serving(says({})) as trap:
        moved = always(answer(b"", "307 Moved", f"location: {where.format(port=trap.port)}"))
        async with serving(moved) as server, reaching(house, server.url, authorization="Bearer of-the-target"):
            assert (await call(house, {})).code == "redirect_refused"
        assert trap.connections == 0


FIELDS = (
    "webhook",
    "webhook_url",
    "jwks_uri",
    "jwks_url",
    "issuer",
    "spec_path",
    "logo_uri",
    "callback_url",
    "proxy",
    "target",
)


@case("SSRF-12", "name", {name: name for name in FIELDS})
def test_nobody_sets_a_url_through_the_api(here: World, name: str) -> None:
    url = "http://169.254.169.254/latest/meta-data"
    for path, body in (
        ("/v1/agents", {"name": "x", "model": "none"}),
        ("/v1/tunnels", {"name": "of-a-url"}),
        ("/v1/keys", {"agents": ["of-acme"]}),
        ("/v1/environments", {"name": "x", "config": {"type": "self_hosted"}}),
    ):
        status, code = here.refused("POST", path, {**body, name: url})
        assert (status, code) in [(400, "unknown_field"), (400, "not_supported")], path


SERVERS: dict[str, Callable[[int], str]] = {
    "loopback": lambda port: f"http://127.0.0.1:{port}/mcp",
    "metadata": lambda port: "http://169.254.169.254/latest/meta-data",
    "a file": lambda port: "file:///etc/passwd",
    "a port of the tunnel's domain": lambda port: f"https://notes.tunnel.localhost:{port}/mcp",
    "loopback as the domain's user": lambda port: f"https://notes.tunnel.localhost@127.0.0.1:{port}/mcp",
}


@case("SSRF-12", "url", SERVERS)
async def test_a_server_of_an_agent_is_never_fetched_from_its_url(here: World, url: Callable[[int], str]) -> None:
    async with serving(says({})) as trap:
        server = {"type": "url", "name": "far", "url": url(trap.port)}
        tools = [{"type": "mcp_toolset", "mcp_server_name": "far", "configs": [{"name": "x", "enabled": True}]}]
        body = {"name": "far", "model": "none", "mcp_servers": [server], "tools": tools}
        assert here.refused("POST", "/v1/agents", body) == (400, "url_not_tunnelled")
        assert trap.connections == 0
