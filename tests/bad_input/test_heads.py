"""Heads that two readers could read differently, that are not meant for this listener, or that are too much."""

from __future__ import annotations

import json

import pytest

from tests.bad_input.scene import Scene
from tests.support.inprocess import ENDPOINT, JSON, bearer
from tests.support.wire import request

pytestmark = pytest.mark.asyncio(loop_scope="package")

GOOD = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":{}}}'
UNKNOWN = "asl_sk_" + "0" * 43 + "1OAEwg"

HEADERS = [  # case, header lines beside the good ones, status, code
    ("AUTHN-07 a second Authorization", (bearer(UNKNOWN),), 400, "header_ambiguous"),
    ("AUTHN-07 the same Authorization again", (bearer("{key}"),), 400, "header_ambiguous"),
    ("AUTHN-08 x-api-key as well", (f"X-Api-Key: {UNKNOWN}",), 400, "header_ambiguous"),
    ("AUTHN-08 the same in x-api-key", ("x-api-key: {key}",), 400, "header_ambiguous"),
    ("PROTO-22 a second Host", ("Host: localhost",), 400, "header_ambiguous"),
    ("PROTO-22 another Host", ("Host: evil.example",), 400, "header_ambiguous"),
    ("PROTO-07 a second content type", ("Content-Type: application/json",), 400, "header_ambiguous"),
    ("a second session", ("Mcp-Session-Id: a", "Mcp-Session-Id: b"), 400, "header_ambiguous"),
    ("a second version", ("MCP-Protocol-Version: a", "mcp-protocol-version: b"), 400, "header_ambiguous"),
    ("a second name", ("Mcp-Name: echo", "Mcp-Name: forbidden"), 400, "header_ambiguous"),
    ("a second deadline", ("Arrowslit-Deadline-Ms: 5", "Arrowslit-Deadline-Ms: 6"), 400, "header_ambiguous"),
    ("a second origin", ("Origin: http://localhost", "Origin: http://localhost"), 400, "header_ambiguous"),
    ("a name that the body does not say", ("Mcp-Name: forbidden",), 400, "header_mismatch"),
    ("a method that the body does not say", ("Mcp-Method: tools/list",), 400, "header_mismatch"),
    ("a name in broken base64", ("Mcp-Name: =?base64?e?=",), 400, "header_mismatch"),
    ("a deadline that is none", ("Arrowslit-Deadline-Ms: soon",), 400, "deadline_invalid"),
    ("a deadline of a day", ("Arrowslit-Deadline-Ms: 86400000",), 400, "deadline_invalid"),
    *(
        (f"PROTO-08 {encoding}", (f"Content-Encoding: {encoding}",), 415, "encoding_not_supported")
        for encoding in ("gzip", "br", "deflate", "gzip,gzip", "identity", "")
    ),
    *(
        (f"WEB-01 {origin}", (f"Origin: {origin}",), 403, "origin_not_allowed")
        for origin in (
            "https://evil.example",
            "null",
            "http://localhost:9",
            "http://localhost.evil.example",
            "file://",
            "",
        )
    ),
    ("DOS-12 65 fields", tuple(f"X-{number}: 1" for number in range(60)), 431, "header_too_large"),
    ("DOS-12 a field of 16 KiB", ("X-Padding: " + "x" * 16 * 1024,), 431, "header_too_large"),
    (
        "DOS-12 many fields of 1 KiB",
        tuple(f"X-{number}: " + "x" * 1024 for number in range(17)),
        431,
        "header_too_large",
    ),
    ("PROTO-21 a name with a space", ("X Y: 1",), 400, "bad_http"),
    ("PROTO-21 a space before the colon", ("X-Y : 1",), 400, "bad_http"),
    ("PROTO-21 a folded line", ("X-Y: 1\r\n 2",), 400, "bad_http"),
    ("PROTO-21 a line of spaces", ("X-Y: 1\r\n ",), 400, "bad_http"),
    ("PROTO-21 no colon", ("just a line",), 400, "bad_http"),
    ("PROTO-21 a NUL", ("X-Y: a\0b",), 400, "bad_http"),
    ("PROTO-21 a lone CR", ("X-Y: a\rX-Z: b",), 400, "bad_http"),
    ("PROTO-21 a lone LF", ("X-Y: a\nX-Z: b",), 400, "bad_http"),
    ("PROTO-21 a field that goes on in the next line", ("Transfer-Encoding:\r\n chunked",), 400, "bad_http"),
    ("PROTO-21 a name that is empty", (": x",), 400, "bad_http"),
    ("PROTO-21 a name beyond ASCII", ("X\x85: x",), 400, "bad_http"),
    ("PROTO-21 an underscore in the length", ("Content_Length: 5",), 400, "header_ambiguous"),
    ("PROTO-21 an underscore in the coding", ("Transfer_Encoding: chunked",), 400, "header_ambiguous"),
    ("AUTHN-08 x_api_key", (f"X_Api_Key: {UNKNOWN}",), 400, "header_ambiguous"),
    ("AUTHN-08 x.api.key", (f"X.Api.Key: {UNKNOWN}",), 400, "header_ambiguous"),
    ("PROTO-17 another way to name a session", ("Mcp-Session_Id: of-another",), 400, "header_ambiguous"),
    ("another way to name a tool", ("Mcp_Name: forbidden",), 400, "header_ambiguous"),
    ("PROTO-09 a page", ("Accept: text/html",), 406, "not_acceptable"),
    ("PROTO-10 no date", ('MCP-Protocol-Version: ["2025-06-18"]',), 400, "unsupported_protocol_version"),
    ("PROTO-10 two dates", ("MCP-Protocol-Version: 2025-06-18, 2025-11-25",), 400, "unsupported_protocol_version"),
    ("PROTO-10 before there was MCP", ("MCP-Protocol-Version: 1999-01-01",), 400, "unsupported_protocol_version"),
    ("PROTO-10 nothing", ("MCP-Protocol-Version: ",), 400, "unsupported_protocol_version"),
    ("PROTO-10 a line end in it", ("MCP-Protocol-Version: 2026-07-28\rX: 1",), 400, "bad_http"),
    ("PROTO-21 a second length", ("Content-Length: 5",), 400, "bad_http"),
    ("PROTO-21 chunks as well", ("Transfer-Encoding: chunked",), 400, "bad_http"),
]


@pytest.mark.parametrize(("lines", "status", "code"), [row[1:] for row in HEADERS], ids=[row[0] for row in HEADERS])
async def test_a_header_that_is_wrong_is_refused(scene: Scene, lines: tuple[str, ...], status: int, code: str) -> None:
    extra = [line.replace("{key}", scene.house.key) for line in lines]
    said = scene.message(GOOD, *extra)
    if code == "not_acceptable":
        said = said.replace(b"Accept: application/json, text/event-stream\r\n", b"")
    await scene.refused(said, status, code)


TYPES = [
    "text/plain",
    "multipart/form-data; boundary=x",
    "application/x-www-form-urlencoded",
    "application/jsonx",
    "application/json-seq",
    "application/json; charset=utf-16",
    "application/json, text/plain",
    "text/event-stream",
    "",
]


@pytest.mark.parametrize("kind", [*TYPES, None], ids=[f"PROTO-07 {kind}" for kind in [*TYPES, None]])
async def test_another_kind_of_body_is_refused(scene: Scene, kind: str | None) -> None:
    lines = [bearer(scene.house.key), *([f"Content-Type: {kind}"] if kind is not None else [])]
    said = request("POST", ENDPOINT, GOOD, headers=tuple(lines))
    await scene.refused(said, 415, "media_type_unsupported")


async def test_json_may_say_that_it_is_utf_8(scene: Scene) -> None:
    for kind in ("application/json", "Application/JSON; charset=utf-8", "application/json;charset=UTF-8"):
        said = request("POST", ENDPOINT, GOOD, headers=(bearer(scene.house.key), f"Content-Type: {kind}"))
        assert b'"result"' in await scene.said(said)


HOSTS = [  # what a page has its name rebound to, and what a reader of URLs could stumble over
    ("WEB-06 a name of somebody else", "evil.example", 421, "host_not_allowed"),
    ("WEB-06 a name that ends like ours", "localhost.evil.example", 421, "host_not_allowed"),
    ("WEB-06 an address of the network", "192.168.0.1:8420", 421, "host_not_allowed"),
    ("WEB-06 any address", "0.0.0.0", 421, "host_not_allowed"),
    ("PROTO-22 with a path", "localhost/admin?", 421, "host_not_allowed"),
    ("PROTO-22 with a space", "local host", 421, "host_not_allowed"),
    ("PROTO-22 with a user", "user@localhost", 421, "host_not_allowed"),
    ("PROTO-22 a port that is none", "localhost:65536", 421, "host_not_allowed"),
    ("PROTO-22 a port with letters", "localhost:80a", 421, "host_not_allowed"),
    ("PROTO-22 two names", "localhost, evil.example", 421, "host_not_allowed"),
    ("PROTO-22 nothing", "", 421, "host_not_allowed"),
    ("PROTO-22 a dot at the end", "localhost.", 421, "host_not_allowed"),
    ("PROTO-22 an empty label", "x..tunnel.localhost", 421, "host_not_allowed"),
    ("PROTO-22 another spelling of loopback", "127.1", 421, "host_not_allowed"),
    ("PROTO-22 a number", "2130706433", 421, "host_not_allowed"),
    ("PROTO-22 an address with a zone", "[::1%25lo]", 421, "host_not_allowed"),
    ("PROTO-22 loopback within IPv6", "[::ffff:127.0.0.1]", 421, "host_not_allowed"),
    ("PROTO-22 something invisible behind it", "localhost\x85", 421, "host_not_allowed"),
    ("PROTO-22 no port behind the colon", "localhost:", 421, "host_not_allowed"),
    ("PROTO-22 none", None, 400, "bad_http"),
]


@pytest.mark.parametrize("path", [ENDPOINT, "/v1/tunnels", "/healthz", "/connect"])
@pytest.mark.parametrize(("host", "status", "code"), [row[1:] for row in HOSTS], ids=[row[0] for row in HOSTS])
async def test_a_listener_on_loopback_answers_to_its_own_names_only(
    scene: Scene, path: str, host: str | None, status: int, code: str
) -> None:
    said = request("GET", path, host=host, headers=(*JSON, bearer(scene.house.admin)))
    answer = await scene.refused(said, status, code)
    assert b"evil" not in answer.body


async def test_its_own_names_are_these(scene: Scene) -> None:
    for host in ("localhost", f"127.0.0.1:{scene.house.port}", "[::1]", "inventory.tunnel.localhost", "LOCALHOST:1"):
        said = request(
            "POST", ENDPOINT, GOOD, host=host, headers=(*JSON, bearer(scene.house.key), f"Origin: http://{host}")
        )
        assert b'"result"' in await scene.said(said), host


TARGETS = [
    ("PROTO-23 dots", "/mcp/stock/../../v1/keys", 400, "bad_http"),
    ("PROTO-23 dots at the end", "/mcp/stock/inventory/..", 400, "bad_http"),
    ("PROTO-23 one dot", "/mcp/./stock/inventory", 400, "bad_http"),
    ("PROTO-23 escaped dots", "/mcp/stock/%2e%2e/%2E./v1/keys", 400, "bad_http"),
    ("PROTO-23 an escaped slash", "/mcp/stock%2finventory", 400, "bad_http"),
    ("PROTO-23 an escaped slash, in capitals", "/mcp/stock%2Finventory", 400, "bad_http"),
    ("PROTO-23 an escaped backslash", "/mcp/stock%5cinventory", 400, "bad_http"),
    ("PROTO-23 a backslash", "/mcp\\stock\\inventory", 400, "bad_http"),
    ("PROTO-23 an escaped NUL", "/mcp/stock/inventory%00", 400, "bad_http"),
    ("PROTO-23 two slashes", "//mcp/stock/inventory", 400, "bad_http"),
    ("PROTO-23 two slashes before a host", "//evil.example/v1/keys", 400, "bad_http"),
    ("PROTO-23 an escaped line end", "/mcp/stock/inventory%0d%0aX:1", 400, "bad_http"),
    ("PROTO-23 an escaped escape", "/mcp/stock/inventory%7F", 400, "bad_http"),
    ("PROTO-23 escaped twice", "/mcp/stock/%252e%252e/inventory", 404, "not_found"),
    ("PROTO-23 overlong dots", "/mcp/stock/%c0%ae%c0%ae/inventory", 404, "not_found"),
    ("PROTO-23 a byte beyond ASCII", "/mcp/stock/inventory\x85", 400, "bad_http"),
    ("PROTO-23 a fragment", "/mcp/stock/inventory#x", 400, "bad_http"),
    ("PROTO-22 an absolute target", "http://localhost/mcp/stock/inventory", 400, "bad_http"),
    ("PROTO-22 an authority", "localhost:80", 400, "bad_http"),
    ("PROTO-22 an asterisk", "*", 400, "bad_http"),
    ("PROTO-23 two slashes inside", "/mcp//stock/inventory", 404, "not_found"),
    ("PROTO-23 a slash at the end", "/mcp/stock/inventory/", 404, "not_found"),
    ("PROTO-23 a parameter", "/mcp/stock;x=1/inventory", 404, "not_found"),
    ("PROTO-23 an escaped letter", "/mcp/%73tock/inventory", 404, "not_found"),
    ("PROTO-23 more behind it", "/mcp/stock/inventory/tools", 404, "not_found"),
    ("PROTO-23 less of it", "/mcp/stock", 404, "not_found"),
    ("PROTO-23 none of it", "/mcp/", 404, "not_found"),
    ("PROTO-23 a long name", "/mcp/stock/" + "x" * 129, 404, "not_found"),
    ("PROTO-23 capitals", "/mcp/STOCK/inventory", 404, "agent_not_found"),
    ("PROTO-23 an escaped letter before", "/%6dcp/stock/inventory", 404, "not_found"),
    ("PROTO-23 capitals before", "/MCP/stock/inventory", 404, "not_found"),
    ("PROTO-23 capitals of the API", "/V1/tunnels", 404, "not_found"),
    ("nothing there", "/nope", 404, "not_found"),
    ("the root", "/", 404, "not_found"),
    ("DOS-12 a target of 17 KiB", "/mcp/" + "x" * 17 * 1024, 431, "header_too_large"),
]


@pytest.mark.parametrize(("target", "status", "code"), [row[1:] for row in TARGETS], ids=[row[0] for row in TARGETS])
async def test_a_path_leads_to_its_own_place_or_nowhere(scene: Scene, target: str, status: int, code: str) -> None:
    said = scene.message(GOOD).replace(ENDPOINT.encode(), target.encode(), 1)
    await scene.refused(said, status, code)


FRAMES = [  # how a body of GOOD is announced, how it is sent, status, code
    ("PROTO-21 another coding first", "Transfer-Encoding: gzip, chunked", b"%x\r\n%b\r\n0\r\n\r\n"),
    ("PROTO-21 another coding last", "Transfer-Encoding: chunked, identity", b"%x\r\n%b\r\n0\r\n\r\n"),
    ("PROTO-21 chunked twice", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", b"%x\r\n%b\r\n0\r\n\r\n"),
    ("PROTO-21 something like chunked", "Transfer-Encoding: xchunked", b"%x\r\n%b\r\n0\r\n\r\n"),
    ("PROTO-21 a tab of another kind", "Transfer-Encoding:\x0bchunked", b"%x\r\n%b\r\n0\r\n\r\n"),
    ("PROTO-21 a coding that is empty", "Transfer-Encoding: ", b"%x\r\n%b\r\n0\r\n\r\n"),
    ("PROTO-21 a size with a prefix", "Transfer-Encoding: chunked", b"0x%x\r\n%b\r\n0\r\n\r\n"),
    ("PROTO-21 a size with a sign", "Transfer-Encoding: chunked", b"+%x\r\n%b\r\n0\r\n\r\n"),
    ("PROTO-21 a size with a blank", "Transfer-Encoding: chunked", b"%x \r\n%b\r\n0\r\n\r\n"),
    ("PROTO-21 a size beyond 64 bits", "Transfer-Encoding: chunked", b"1000000000000000%x\r\n%b\r\n0\r\n\r\n"),
    ("PROTO-21 chunks with bare line ends", "Transfer-Encoding: chunked", b"%x\n%b\n0\n\n"),
    ("PROTO-21 more than was announced", "Transfer-Encoding: chunked", b"%x\r\n%bXX\r\n0\r\n\r\n"),
    ("PROTO-21 a line end within an extension", "Transfer-Encoding: chunked", b'%x;a="\r\n"\r\n%b\r\n0\r\n\r\n'),
    ("PROTO-21 a length with a sign", "Content-Length: +%d", b""),
    ("PROTO-21 a negative length", "Content-Length: -%d", b""),
    ("PROTO-21 a length twice in one field", "Content-Length: %d, %d", b""),
    ("PROTO-21 a length of nothing", "Content-Length: ", b""),
    ("PROTO-21 a hexadecimal length", "Content-Length: 0x10", b""),
    ("PROTO-21 a length in other digits", "Content-Length: \xb2", b""),
    ("PROTO-21 a length beyond 64 bits", "Content-Length: 99999999999999999999", b""),
]


@pytest.mark.parametrize(("line", "body"), [row[1:] for row in FRAMES], ids=[row[0] for row in FRAMES])
@pytest.mark.parametrize("path", [ENDPOINT, "/v1/tunnels"])
async def test_where_a_body_ends_is_said_in_one_way(scene: Scene, path: str, line: str, body: bytes) -> None:
    """Else what one reader takes for a body is the next request to another."""
    head = request("GET", path, headers=(*JSON, bearer(scene.house.key), line.replace("%d", str(len(GOOD)))))
    smuggled = scene.message(GOOD)
    said = head.replace(b"GET", b"POST", 1).decode().encode("latin-1")
    await scene.refused(said + (body % (len(GOOD), GOOD) if body else GOOD) + smuggled, 400, "bad_http")


async def test_http_1_0_has_no_chunks(scene: Scene) -> None:
    said = scene.message(GOOD).replace(b"Content-Length: %d" % len(GOOD), b"Transfer-Encoding: chunked")
    await scene.refused(said.replace(b"HTTP/1.1", b"HTTP/1.0"), 400, "bad_http")


async def test_a_page_does_not_get_in_with_http_1_0_either(scene: Scene) -> None:
    said = request("POST", ENDPOINT, GOOD, host=None, headers=(*JSON, bearer(scene.house.key), "Origin: https://x"))
    await scene.refused(said.replace(b"HTTP/1.1", b"HTTP/1.0"), 403, "origin_not_allowed")


METHODS = [
    *(
        (f"{method} at an endpoint", method, ENDPOINT, 405, "method_not_supported")
        for method in ("PUT", "PATCH", "OPTIONS", "TRACE")
    ),
    ("DELETE of all tunnels", "DELETE", "/v1/tunnels", 405, "method_not_supported"),
    ("POST for a sign of life", "POST", "/healthz", 405, "method_not_supported"),
    ("GET to connect", "GET", "/connect", 400, "bad_http"),
    ("POST to connect", "POST", "/connect", 400, "bad_http"),
    ("a proxy's method", "CONNECT", ENDPOINT, 400, "bad_http"),
    ("a method of another protocol", "NOTIFY", ENDPOINT, 405, "method_not_supported"),
    ("a method that nobody knows", "FROBNICATE", ENDPOINT, 400, "bad_http"),
    ("a method in small letters", "post", ENDPOINT, 400, "bad_http"),
]


@pytest.mark.parametrize(
    ("method", "path", "status", "code"), [row[1:] for row in METHODS], ids=[row[0] for row in METHODS]
)
async def test_a_method_that_is_not_there_is_refused(
    scene: Scene, method: str, path: str, status: int, code: str
) -> None:
    await scene.refused(request(method, path, headers=(*JSON, bearer(scene.house.admin))), status, code)


IN_A_URL = ["api_key=x", "apikey=x", "access_token=x", "token=x", "key=x", "Authorization=Bearer%20x", "password=x",
            "a=b;token={key}", "a=b;q={key}", "a=b;key=x", "q=x.{key}.x", "q=%61sl{key_}", "q=%2561sl{key_}",
            "a%3Bq%3D{key}", "q={key}", "q=1&q={key}", "{key}=1", "x={token}", "secret="]  # fmt: skip


@pytest.mark.parametrize("query", IN_A_URL, ids=[f"AUTHN-06 {query}" for query in IN_A_URL])
@pytest.mark.parametrize("path", [ENDPOINT, "/v1/tunnels", "/connect"])
async def test_a_credential_does_not_belong_into_a_url(scene: Scene, path: str, query: str) -> None:
    filled = (
        query.replace("{key}", scene.house.key)
        .replace("{key_}", scene.house.key[3:])
        .replace("{token}", scene.house.token)
    )
    handshake = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13")
    lines = {
        ENDPOINT: (*JSON, bearer(scene.house.key)),
        "/v1/tunnels": (*JSON, bearer(scene.house.admin)),
        "/connect": (*handshake, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", bearer(scene.house.token)),
    }[path]
    method = "POST" if path == ENDPOINT else "GET"
    said = request(method, f"{path}?{filled}", GOOD if method == "POST" else b"", headers=lines)
    answer = await scene.refused(said, 400, "credential_in_url")
    assert scene.house.key not in json.dumps(answer.json)
