"""The same at `/v1`: what it is sent is read strictly, and answered with a code, a sentence and a hint."""

from __future__ import annotations

import pytest

from tests.bad_input.scene import Scene
from tests.support.inprocess import JSON, bearer
from tests.support.wire import dial, request, until

pytestmark = pytest.mark.asyncio(loop_scope="package")

MIB = 1024 * 1024

AGENT = b'{"name":"x","model":"none","mcp_servers":[%b]}'
ANY_TOOL = b'{"type":"tunnel","tunnel_id":"tnl_inventory","tool_allowlist":["*"]}'
ELSEWHERE = b'{"type":"url","name":"x","url":"https://evil.example/mcp"}'
PAST = b'{"agents":["stock"],"expires_at":"2020-01-01T00:00:00Z"}'

BODIES = [  # case, body of POST /v1/tunnels, status, code
    ("PROTO-01 a brace", b"{", 400, "parse_error"),
    ("PROTO-01 more behind it", b'{"name":"a"}x', 400, "parse_error"),
    ("PROTO-01 a NUL", b"\x00", 400, "parse_error"),
    ("PROTO-02 Latin-1", b'{"display_name":"\xe4"}', 400, "encoding_invalid"),
    ("PROTO-02 half a surrogate pair", rb'{"display_name":"\ud800"}', 400, "encoding_invalid"),
    ("PROTO-03 NaN", b'{"name":NaN}', 400, "parse_error"),
    ("PROTO-04 100 deep", b'{"name":' + b"[" * 100 + b"]" * 100 + b"}", 400, "depth_exceeded"),
    ("PROTO-04 100,000 deep", b"[" * 100_000, 400, "depth_exceeded"),
    ("AZ-03 a field twice", b'{"name":"a","name":"b"}', 400, "duplicate_key"),
    ("AZ-04 a field twice, escaped", rb'{"name":"a","n\u0061me":"b"}', 400, "duplicate_key"),
    ("API-01 a field that is not ours to set", b'{"name":"a","archived_at":null}', 400, "unknown_field"),
    ("API-01 another tenant", b'{"name":"a","tenant_id":"evil"}', 400, "unknown_field"),
    ("AZ-05 Name", b'{"Name":"a"}', 400, "unknown_field"),
    ("API-06 an array", b"[]", 400, "validation_error"),
    ("API-06 a string", b'"a"', 400, "validation_error"),
    ("API-06 null", b"null", 400, "validation_error"),
    ("API-06 a name that is a number", b'{"name":1}', 400, "validation_error"),
    ("API-06 a name that is an array", b'{"name":["a"]}', 400, "validation_error"),
    ("API-06 a flag that is a string", b'{"name":"a","tenant_optional":"yes"}', 400, "validation_error"),
    ("a name with a slash", b'{"name":"a/b"}', 400, "validation_error"),
    ("a name that is empty", b'{"name":""}', 400, "validation_error"),
    ("a name that is long", b'{"name":"%b"}' % (b"a" * 64), 400, "validation_error"),
    ("API-11 a name for the terminal", rb'{"display_name":"\u001b[2J"}', 400, "validation_error"),
    ("a name that is taken", b'{"name":"inventory"}', 409, "name_taken"),
    ("DOS-12 more than 1 MiB", b'{"name":"%b"}' % (b"a" * MIB), 413, "payload_too_large"),
    ("DOS-12 more than 32 MiB", b'{"name":"%b"}' % (b"a" * 32 * MIB), 413, "payload_too_large"),
]


@pytest.mark.parametrize(("body", "status", "code"), [row[1:] for row in BODIES], ids=[row[0] for row in BODIES])
async def test_a_body_that_is_wrong_is_refused(scene: Scene, body: bytes, status: int, code: str) -> None:
    before = await _names(scene)
    said = request("POST", "/v1/tunnels", body, headers=(*JSON, bearer(scene.house.admin)))
    await scene.refused(said, status, code)
    assert await _names(scene) == before


async def _names(scene: Scene) -> list[str]:
    return [each["name"] for each in (await scene.house.api("GET", "/v1/tunnels?include_archived=true"))["data"]]


REQUESTS = [  # case, method, path, body, status, code
    ("nothing there", "GET", "/v1/nothing", b"", 404, "not_found"),
    ("the root", "GET", "/v1/", b"", 404, "not_found"),
    ("PROTO-23 two slashes", "GET", "/v1//tunnels", b"", 404, "not_found"),
    ("an unknown tunnel", "GET", "/v1/tunnels/tnl_nothing", b"", 404, "tunnel_not_found"),
    ("an unknown tunnel's token", "POST", "/v1/tunnels/tnl_nothing/reveal_token", b"{}", 404, "tunnel_not_found"),
    ("an unknown agent", "GET", "/v1/agents/nobody", b"", 404, "agent_not_found"),
    ("an unknown key", "DELETE", "/v1/keys/key_nothing", b"", 404, "key_not_found"),
    ("a method that is not there", "PUT", "/v1/tunnels", b"{}", 405, "method_not_supported"),
    ("API-05 a limit of -1", "GET", "/v1/tunnels?limit=-1", b"", 400, "validation_error"),
    ("API-05 a limit of 0", "GET", "/v1/tunnels?limit=0", b"", 400, "validation_error"),
    ("API-05 a limit of 10^9", "GET", "/v1/tunnels?limit=1000000000", b"", 400, "validation_error"),
    ("API-05 another digit", "GET", "/v1/tunnels?limit=%D9%A1", b"", 400, "validation_error"),
    ("TEN-14 a page that is none", "GET", "/v1/tunnels?page=garbage", b"", 400, "validation_error"),
    ("a key for nobody", "POST", "/v1/keys", b'{"agents":[]}', 400, "validation_error"),
    ("a key for an unknown agent", "POST", "/v1/keys", b'{"agents":["nobody"]}', 404, "agent_not_found"),
    ("a key that has expired", "POST", "/v1/keys", PAST, 400, "validation_error"),
    ("a tenant with a line end", "POST", "/v1/keys", rb'{"agents":["stock"],"tenant":"a\nb"}', 400, "validation_error"),
    ("AZ-14 all tools", "POST", "/v1/agents", AGENT % ANY_TOOL, 400, "wildcard_not_allowed"),
    ("an agent with a server elsewhere", "POST", "/v1/agents", AGENT % ELSEWHERE, 400, "url_not_tunnelled"),
]


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"), [row[1:] for row in REQUESTS], ids=[row[0] for row in REQUESTS]
)
async def test_a_request_that_is_wrong_is_refused(
    scene: Scene, method: str, path: str, body: bytes, status: int, code: str
) -> None:
    await scene.refused(request(method, path, body, headers=(*JSON, bearer(scene.house.admin))), status, code)


@pytest.mark.parametrize("path", ["/v1/tunnels", "/v1/keys", "/v1/tunnels/tnl_inventory/reveal_token", "/v1/relay"])
async def test_a_key_for_an_agent_does_not_open_the_api(scene: Scene, path: str) -> None:
    """AZ-23."""
    for method in ("GET", "POST"):
        said = request(method, path, b"{}" if method == "POST" else b"", headers=(*JSON, bearer(scene.house.key)))
        await scene.refused(said, 403, "forbidden")


async def test_a_body_needs_to_say_that_it_is_json(scene: Scene) -> None:
    for kind in ("text/plain", "multipart/form-data; boundary=x", "application/x-www-form-urlencoded"):
        lines = (f"Content-Type: {kind}", bearer(scene.house.admin))
        said = request("POST", "/v1/tunnels", b'{"name":"a"}', headers=lines)
        await scene.refused(said, 415, "media_type_unsupported")


@pytest.mark.parametrize("leave", ["close", "reset"])
async def test_a_client_that_leaves_in_the_middle_of_a_body_is_no_error(scene: Scene, leave: str) -> None:
    whole = request("POST", "/v1/tunnels", b'{"name":"never"}', headers=(*JSON, bearer(scene.house.admin)))
    async with dial(scene.house.port) as wire:
        await wire.send(whole[:-3])
        await until(lambda: scene.house.front.state.tasks)
        if leave == "reset":
            wire.reset()
    await until(lambda: not scene.house.front.state.tasks)
    assert "never" not in await _names(scene)
    await scene.good_call()
