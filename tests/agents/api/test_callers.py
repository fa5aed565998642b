from __future__ import annotations

import os
from collections.abc import AsyncIterator

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import StreamingResponse

from arrowslit.agents.api.resource import (
    ADMINISTRATORS,
    INVOKERS,
    WORKERS,
    Doorkeeper,
    Method,
    OpenTo,
    caller,
    principal,
)
from arrowslit.credential import CredentialKind, encode
from arrowslit.edge.auth import WrongCredentials
from arrowslit.principal import Scope
from arrowslit.store.open import Store
from arrowslit.work import Worker
from tests.agents.kit import Caller, code_of
from tests.store.kit import ManualClock, definition

ENVIRONMENT_KEY = encode(CredentialKind.ENVIRONMENT_KEY, b"e" * 32)
SESSIONS_TOKEN = encode(CredentialKind.SESSIONS_TOKEN, b"s" * 32)
BY_KEY: OpenTo = frozenset({CredentialKind.ENVIRONMENT_KEY})
BY_TOKEN: OpenTo = frozenset({CredentialKind.SESSIONS_TOKEN})


class TwoWorkers:
    """One by its environment's key, one by the token of a delivery."""

    async def worker(self, token: str) -> Worker | None:
        known = {
            ENVIRONMENT_KEY: Worker("ekey_1", "env_1"),
            SESSIONS_TOKEN: Worker("work_1", "env_1", "work_1", "sesn_1", 1),
        }
        return known.get(token)


async def say_who(request: Request) -> object:
    return caller(request).id


async def stream(request: Request) -> StreamingResponse:
    async def pieces() -> AsyncIterator[str]:
        yield "event: ping\n\n"

    return StreamingResponse(pieces(), media_type="text/event-stream")


async def of_a_principal(request: Request) -> object:
    return principal(request).id


@pytest.fixture
def app(store: Store, clock: ManualClock) -> Starlette:
    keeper = Doorkeeper(store.grants, WrongCredentials(clock), TwoWorkers(), os.urandom, b"c" * 32)
    doors = {
        "admin": ADMINISTRATORS,
        "invoke": INVOKERS,
        "mint": frozenset({Scope.MINT}),
        "key": BY_KEY,
        "token": BY_TOKEN,
        "both": INVOKERS | WORKERS,
    }
    return Starlette(
        routes=[
            *(keeper.resource(f"/v1/{name}", get=Method(say_who, open_to)) for name, open_to in doors.items()),
            keeper.resource("/v1/stream", get=Method(stream, INVOKERS, stream=True)),
            keeper.resource("/v1/misdeclared", get=Method(of_a_principal, INVOKERS | WORKERS)),
            keeper.resource("/v1/{rest:path}"),
        ]
    )


@pytest.mark.parametrize(
    ("who", "doors"),
    [
        ("admin", {"admin", "invoke", "mint", "both"}),
        ("invoke", {"invoke", "both"}),
        ("mint", {"mint"}),
        ("environment key", {"key", "both"}),
        ("sessions token", {"token", "both"}),
    ],
)
async def test_each_kind_of_caller_opens_its_own_doors(app: Starlette, store: Store, who: str, doors: set[str]) -> None:
    agent = await store.agents.create(definition())
    credentials = {"environment key": ENVIRONMENT_KEY, "sessions token": SESSIONS_TOKEN}
    for scope in (Scope.ADMIN, Scope.INVOKE, Scope.MINT):
        _, credentials[scope.value] = await store.keys.create(scopes={scope}, agents={agent.id})

    async with Caller(app, credentials[who]) as somebody:
        for door in ("admin", "invoke", "mint", "key", "token", "both"):
            answer = await somebody.get(f"/v1/{door}")
            assert answer.status_code == (200 if door in doors else 403), door
            if door not in doors:
                assert code_of(await somebody.get(f"/v1/{door}")) == (403, "forbidden")
                assert code_of(await somebody.put(f"/v1/{door}")) == (403, "forbidden")
        assert code_of(await somebody.get("/v1/nowhere")) == (404, "not_found")


async def test_a_wrong_key_of_a_worker_is_a_wrong_credential(app: Starlette) -> None:
    async with Caller(app, encode(CredentialKind.ENVIRONMENT_KEY, b"x" * 32)) as stranger:
        assert await stranger.refused("GET", "/v1/both") == (401, "unauthenticated")


async def test_a_handler_for_principals_refuses_a_worker_that_was_let_in(app: Starlette) -> None:
    async with Caller(app, ENVIRONMENT_KEY) as worker:
        assert await worker.refused("GET", "/v1/misdeclared") == (403, "forbidden")


async def test_a_stream_has_a_request_id_too_and_no_head(app: Starlette, store: Store) -> None:
    _, key = await store.keys.create(scopes={Scope.ADMIN})

    async with Caller(app, key) as admin:
        answer = await admin.get("/v1/stream")
        head = await admin.head("/v1/stream")

    assert answer.text == "event: ping\n\n"
    assert answer.headers["request-id"].startswith("req_")
    assert answer.headers["cache-control"] == "no-store"
    assert head.status_code == 405
