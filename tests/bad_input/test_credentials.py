"""Who may not come in hears the same, byte for byte, whatever the reason; what is not yours is as if it were not
there.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable

import pytest

from arrowslit.errors import CODES
from tests.bad_input.scene import UNKNOWN_KEY, Scene
from tests.support.inprocess import ENDPOINT, JSON, bearer
from tests.support.wire import request

pytestmark = pytest.mark.asyncio(loop_scope="package")

GOOD = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":{}}}'


def jwt(algorithm: str) -> str:
    """A token that says of itself how it is to be believed."""
    parts = ({"alg": algorithm, "typ": "JWT"}, {"sub": "admin", "exp": 9999999999})
    return ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts) + "."


WRONG: list[tuple[str, Callable[[Scene], str]]] = [
    ("AUTHN-02 unknown", lambda scene: UNKNOWN_KEY),
    ("AUTHN-02 made up", lambda scene: "sk-x1234567890"),
    ("AUTHN-03 revoked", lambda scene: scene.revoked),
    ("AUTHN-04 expired", lambda scene: scene.expired),
    ("AUTHN-09 shorter", lambda scene: scene.house.key[:-1]),
    ("AUTHN-09 longer", lambda scene: scene.house.key + "A"),
    ("AUTHN-09 in capitals", lambda scene: scene.house.key.upper()),
    ("AUTHN-09 with something invisible", lambda scene: scene.house.key + "\u200b"),
    ("AUTHN-09 with NEL behind it", lambda scene: scene.house.key + "\x85"),
    ("AUTHN-09 with NBSP behind it", lambda scene: scene.house.key + "\xa0"),
    ("AUTHN-09 with NBSP before it", lambda scene: "\xa0" + scene.house.key),
    ("AUTHN-09 twice", lambda scene: f"{scene.house.key}, {scene.house.key}"),
    ("AUTHN-10 a JWT of algorithm none", lambda scene: jwt("none")),
    ("AUTHN-10 a JWT of algorithm nOnE", lambda scene: jwt("nOnE")),
    ("a tunnel token", lambda scene: scene.house.token),
    ("a registration token", lambda scene: scene.registration),
    ("nothing", lambda scene: ""),
]
DOORS = {
    "an endpoint": ("POST", ENDPOINT, GOOD),
    "an event stream": ("GET", ENDPOINT, b""),
    "the API": ("GET", "/v1/tunnels", b""),
    "the API, to make a key": ("POST", "/v1/keys", b'{"agents": ["stock"]}'),
    "a path of the API that is not there": ("GET", "/v1/nothing", b""),
}


@pytest.mark.promise("P11")
@pytest.mark.parametrize("door", DOORS)
async def test_whatever_is_wrong_with_a_key_the_answer_is_the_same(scene: Scene, door: str) -> None:
    method, path, body = DOORS[door]
    answers = {}
    before = len(scene.house.target.requests)
    for case, credential in WRONG:
        for line in (bearer(credential(scene)), f"x-api-key: {credential(scene)}"):
            said = request(method, path, body, headers=(*JSON, line)).decode().encode("latin-1", "xmlcharrefreplace")
            answers[case, line[:9]] = _without_request_id(await scene.said(said))
    answers["AUTHN-01 none", ""] = _without_request_id(await scene.said(request(method, path, body, headers=JSON)))
    basic = request(method, path, body, headers=(*JSON, f"Authorization: Basic {scene.house.key}"))
    answers["another scheme", ""] = _without_request_id(await scene.said(basic))

    assert len(set(answers.values())) == 1, answers
    (answer,) = set(answers.values())
    assert answer.startswith(b"HTTP/1.1 401 Unauthorized\r\n")
    assert b"www-authenticate: Bearer\r\n" in answer
    assert b'"unauthenticated"' in answer
    assert CODES["unauthenticated"].mcp == 401
    assert len(scene.house.target.requests) == before
    await scene.good_call()


def _without_request_id(answer: bytes) -> bytes:
    """The answer without what names this one request, which is random."""
    head, _, body = answer.partition(b"\r\n\r\n")
    said = json.loads(body)
    request_id = said.pop("request_id", None)
    return head.replace(str(request_id).encode(), b"") + b"\r\n\r\n" + json.dumps(said).encode()


HANDSHAKE = (
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)
WRONG_TOKENS: list[tuple[str, Callable[[Scene], str]]] = [
    ("CONN-01 garbage", lambda scene: "garbage"),
    ("CONN-01 unknown", lambda scene: "asl_tun_" + UNKNOWN_KEY.removeprefix("asl_sk_")),
    ("CONN-01 revoked", lambda scene: scene.old_token),
    ("CONN-01 of a tunnel that is archived", lambda scene: scene.archived_token),
    ("CONN-01 shorter", lambda scene: scene.house.token[:-1]),
    ("CONN-01 in capitals", lambda scene: scene.house.token.upper()),
    ("CONN-01 with NEL behind it", lambda scene: scene.house.token + "\x85"),
    ("CONN-01 named twice", lambda scene: "Bearer " + scene.house.token),
    ("an API key", lambda scene: scene.house.key),
    ("an administrator's key", lambda scene: scene.house.admin),
]


@pytest.mark.promise("P11")
async def test_whatever_is_wrong_with_a_token_the_answer_is_the_same(scene: Scene) -> None:
    answers = {}
    for case, token in WRONG_TOKENS:
        said = request("GET", "/connect", headers=(*HANDSHAKE, bearer(token(scene))))
        answers[case] = await scene.said(said.decode().encode("latin-1"))
    answers["CONN-01 none"] = await scene.said(request("GET", "/connect", headers=HANDSHAKE))
    basic = f"Authorization: Basic {scene.house.token}"
    answers["another scheme"] = await scene.said(request("GET", "/connect", headers=(*HANDSHAKE, basic)))
    bare = f"Authorization: {scene.house.token}"
    answers["no scheme"] = await scene.said(request("GET", "/connect", headers=(*HANDSHAKE, bare)))
    in_another_header = f"x-api-key: {scene.house.token}"
    answers["another header"] = await scene.said(request("GET", "/connect", headers=(*HANDSHAKE, in_another_header)))

    assert len(set(answers.values())) == 1, answers
    (answer,) = set(answers.values())
    assert answer.startswith(b"HTTP/1.1 401 Unauthorized\r\n")
    assert b'"connector_unauthenticated"' in answer
    assert scene.house.connected
    await scene.good_call()


# ---------------------------------------------------------------- what is not theirs


async def test_an_agent_that_is_not_yours_is_like_one_that_is_not_there(scene: Scene) -> None:
    """AZ-20: unknown, archived, or another caller's, by name and by id."""
    secret, gone = scene.agents["secret"], scene.agents["gone"]
    names = ["nobody", "secret", "gone", secret, gone, "agent_" + "0" * 24, "stock2", "Stock", ".", "-"]
    answers = {name: await scene.said(_elsewhere(scene, f"/mcp/{name}/inventory")) for name in names if name != "."}
    answers |= {f"{name}, vault": await scene.said(_elsewhere(scene, f"/mcp/{name}/vault")) for name in names[:6]}
    assert len(set(answers.values())) == 1, answers
    await scene.refused(_elsewhere(scene, "/mcp/secret/vault"), 404, "agent_not_found")


async def test_a_server_that_the_agent_does_not_have_is_like_one_that_is_not_there(scene: Scene) -> None:
    names = ["nothing", "vault", "tnl_inventory", "tnl_vault", "Inventory", "archived"]
    answers = {name: await scene.said(_elsewhere(scene, f"/mcp/stock/{name}")) for name in names}
    assert len(set(answers.values())) == 1, answers
    await scene.refused(_elsewhere(scene, "/mcp/stock/vault"), 404, "server_not_found")


def _elsewhere(scene: Scene, path: str) -> bytes:
    return scene.message(GOOD).replace(ENDPOINT.encode(), path.encode(), 1)


@pytest.mark.promise("P5")
async def test_the_session_of_another_is_like_one_that_never_was(scene: Scene) -> None:
    """PROTO-17: tenant B with tenant A's session id, whatever it does with it."""
    session = await scene.house.session()
    parts = session.split(".")
    theirs = await scene.house.session(key=scene.globex)
    tried = {
        "a random one": "0123456789abcdef.0123456789ab.AAAAAAAAAAAAAAAAAAAAAAAA",
        "tenant A's": session,
        "its own, with A's seal": ".".join([*theirs.split(".")[:-1], parts[-1]]),
        "A's, with its own seal": ".".join([*parts[:-1], theirs.split(".")[-1]]),
        "the target's own": parts[0],
        "without a seal": ".".join(parts[:-1]) + ".",
        "cut": session[:-1],
        "empty": "",
        "dots": "..",
        "long": "x" * 2000,
        "not ASCII": "sé\xa0ssion.a.b",
    }
    before = len(scene.house.target.requests)
    for method, more in (("POST", ()), ("GET", ("Last-Event-ID: 1",)), ("GET", ()), ("DELETE", ())):
        answers = {}
        for case, text in tried.items():
            lines = (*JSON, bearer(scene.globex), f"Mcp-Session-Id: {text}", *more)
            said = request(method, ENDPOINT, GOOD if method == "POST" else b"", headers=lines)
            answers[case] = await scene.said(said)
        assert len(set(answers.values())) == 1, (method, answers)
        (answer,) = set(answers.values())
        assert answer.startswith(b"HTTP/1.1 404 Not Found\r\n")
        assert b'"session_not_found"' in answer
    assert len(scene.house.target.requests) == before

    for key, its in ((scene.house.key, session), (scene.globex, theirs)):
        said = scene.house.post(GOOD, f"Mcp-Session-Id: {its}", key=key)
        assert b'"result"' in await scene.said(said), "its own still works"


@pytest.mark.promise("P5")
async def test_a_session_is_bound_to_the_key_and_the_agent_too(scene: Scene) -> None:
    session = await scene.house.session()
    same_tenant = await scene.house.make_key("acme")
    said = scene.house.post(GOOD, f"Mcp-Session-Id: {session}", key=same_tenant)
    await scene.refused(said, 404, "session_not_found")
