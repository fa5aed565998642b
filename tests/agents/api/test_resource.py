from __future__ import annotations

import asyncio

import pytest
from starlette.applications import Starlette
from starlette.routing import Route

from arrowslit.principal import Scope
from arrowslit.store.open import Store
from tests.agents.kit import Caller, code_of
from tests.store.kit import ManualClock, definition

JSON = {"content-type": "application/json"}


def paths(app: Starlette) -> list[str]:
    """Every path there is, with something in place of its parameters, and one there is not."""
    found = [route.path for route in app.routes if isinstance(route, Route)]
    filled = [path.replace("{rest:path}", "nowhere") for path in found]
    return [path.replace("{tunnel_id}", "x").replace("{agent_id}", "x").replace("{key_id}", "x") for path in filled]


async def test_every_path_asks_who_is_there_and_answers_strangers_alike(
    app: Starlette, store: Store, clock: ManualClock
) -> None:
    await store.tunnels.create("a")
    _, tunnel_token = await store.tunnels.reveal_token("tnl_a")
    answers = set()

    for credential in (None, "x", "asl_sk_" + "0" * 49, tunnel_token):
        clock.turn(60)  # an address may show a thousand wrong ones a minute
        async with Caller(app, credential) as stranger:
            for path in [*paths(app), "/v1/tunnels/tnl_a"]:
                for method in ("GET", "POST", "DELETE", "PATCH", "OPTIONS"):
                    response = await stranger.request(method, path)
                    request_id = response.headers.pop("request-id")
                    body = response.text.replace(request_id, "req")
                    answers.add((response.status_code, body, str(sorted(response.headers.items()))))

    assert len(answers) == 1
    status, body, headers = answers.pop()
    assert status == 401
    assert "asl_sk_" in body
    assert "www-authenticate" in headers


async def test_a_key_that_only_invokes_administers_nothing(app: Starlette, store: Store) -> None:
    agent = await store.agents.create(definition("a"))
    _, key = await store.keys.create(scopes={Scope.INVOKE}, agents={agent.id})

    async with Caller(app, key) as caller:
        for path in ["/v1/tunnels", "/v1/tunnels/x", "/v1/tunnels/x/status", "/v1/keys", "/v1/keys/x", "/v1/relay"]:
            assert await caller.refused("GET", path) == (403, "forbidden")
            assert await caller.refused("PATCH", path) == (403, "forbidden")


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("GET", "/v1/tunnels/tnl_none", "tunnel_not_found"),
        ("POST", "/v1/tunnels/tnl_none/archive", "tunnel_not_found"),
        ("POST", "/v1/tunnels/tnl_none/reveal_token", "tunnel_not_found"),
        ("POST", "/v1/tunnels/tnl_none/rotate_token", "tunnel_not_found"),
        ("POST", "/v1/tunnels/tnl_none/approve", "tunnel_not_found"),
        ("GET", "/v1/tunnels/tnl_none/status", "tunnel_not_found"),
        ("GET", "/v1/agents/agent_none", "agent_not_found"),
        ("POST", "/v1/agents/agent_none", "agent_not_found"),
        ("POST", "/v1/agents/agent_none/archive", "agent_not_found"),
        ("GET", "/v1/agents/agent_none/versions", "agent_not_found"),
        ("GET", "/v1/keys/key_none", "key_not_found"),
        ("DELETE", "/v1/keys/key_none", "key_not_found"),
        ("GET", "/v1/none", "not_found"),
        ("GET", "/v1/", "not_found"),
    ],
)
async def test_what_is_not_there_is_not_found(admin: Caller, method: str, path: str, code: str) -> None:
    assert await admin.refused(method, path) == (404, code)


async def test_a_method_that_a_path_does_not_have_is_refused_with_those_it_has(admin: Caller) -> None:
    response = await admin.put("/v1/tunnels", json={})

    assert code_of(response) == (405, "method_not_supported")
    assert response.headers["allow"] == "GET, POST"


async def test_two_credentials_and_one_in_the_url_are_refused(admin: Caller, store: Store) -> None:
    assert code_of(await admin.get("/v1/tunnels", headers={"x-api-key": "x"})) == (400, "header_ambiguous")
    assert code_of(await admin.get("/v1/tunnels?api_key=x")) == (400, "credential_in_url")


async def test_the_official_sdk_may_send_its_key_as_x_api_key(app: Starlette, store: Store) -> None:
    _, key = await store.keys.create(scopes={Scope.ADMIN})

    async with Caller(app, None) as caller:
        response = await caller.get("/v1/tunnels", headers={"x-api-key": key, "anthropic-version": "2023-06-01"})

    assert response.status_code == 200


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{", 400, "parse_error"),
        (b"{}{}", 400, "parse_error"),
        (b"{'name': 1}", 400, "parse_error"),
        (b'{"name": NaN}', 400, "parse_error"),
        (b'{"name": ' + b"9" * 5000 + b"}", 400, "parse_error"),
        (b'{"name": "a", "name": "b"}', 400, "duplicate_key"),
        (b'{"name": "a", "n\\u0061me": "b"}', 400, "duplicate_key"),
        (b'{"metadata": {"a": "1", "a": "2"}}', 400, "duplicate_key"),
        (b'{"name": "\xff"}', 400, "encoding_invalid"),
        (b'{"name": "\\ud800"}', 400, "encoding_invalid"),
        (b'{"\\ud800": 1}', 400, "encoding_invalid"),
        (b"\xff\xfe{\x00}\x00", 400, "encoding_invalid"),
        (b"[" * 50 + b"]" * 50, 400, "depth_exceeded"),
        (b"[" * 200_000, 400, "depth_exceeded"),
        (b'{"name": "' + b"x" * 1024 * 1024 + b'"}', 413, "payload_too_large"),
        (b"null", 400, "validation_error"),
    ],
)
async def test_a_body_that_can_be_read_in_two_ways_or_none_is_refused(
    admin: Caller, store: Store, body: bytes, status: int, code: str
) -> None:
    response = await admin.post("/v1/agents", content=body, headers=JSON)

    assert code_of(response) == (status, code)
    assert (await admin.post("/v1/agents", json={"name": "good"})).status_code == 200


async def test_a_form_is_not_json(admin: Caller) -> None:
    response = await admin.post("/v1/tunnels", content=b'{"name": "a"}', headers={"content-type": "text/plain"})

    assert code_of(response) == (415, "media_type_unsupported")


async def test_a_defect_is_logged_here_and_not_told_there(
    admin: Caller, store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """API-12."""

    def fail() -> None:
        raise RuntimeError("the password is swordfish")

    monkeypatch.setattr(store.tunnels, "every", fail)

    response = await admin.get("/v1/tunnels")

    assert code_of(response) == (500, "internal_error")
    assert "swordfish" not in response.text
    assert "swordfish" in caplog.text
    assert response.headers["request-id"] in caplog.text


@pytest.mark.parametrize(
    "path", ["/v1/tunnels/%00", "/v1/tunnels/%1b[2J", "/v1/agents/\u00e9", f"/v1/keys/{'x' * 300}"]
)
async def test_an_id_that_no_store_could_hold_is_nobodys(admin: Caller, path: str) -> None:
    response = await admin.get(path)

    assert response.status_code == 404
    assert response.json()["error"]["details"]["error_code"].endswith("_not_found")


async def test_every_answer_has_an_id_of_its_own_and_is_not_to_be_cached(admin: Caller) -> None:
    answers = await asyncio.gather(*(admin.get("/v1/tunnels") for _ in range(5)))

    assert len({answer.headers["request-id"] for answer in answers}) == 5
    assert {answer.headers["cache-control"] for answer in answers} == {"no-store"}
