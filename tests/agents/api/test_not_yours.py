"""API-02, TEN-13: what is not yours is answered byte for byte like what does not exist, over every path with an id."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import pytest
import pytest_asyncio
from starlette.applications import Starlette
from starlette.routing import Route

from arrowslit.agent import Builtin
from arrowslit.agents.api.resource import Resource
from arrowslit.ledger.find import CallFinder
from arrowslit.principal import Scope, Tenant
from arrowslit.record import CallRecord
from arrowslit.store.open import Store
from arrowslit.work import Work, WorkKind
from tests.agents.kit import Caller
from tests.store.kit import definition

CALL = "call_" + "c" * 24
BODIES = ("", "{}", '{"nobody": "reads this"}')
Ids = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Place:
    """One of everything. The first of each pair belongs to acme, the second to globex."""

    theirs: Ids
    own: Ids
    keys: Mapping[str, str]


async def furnish(app: Starlette, store: Store, admin: Caller, tenant: str) -> tuple[dict[str, str], dict[str, str]]:
    """Everything that one tenant can have, by the names of parameters, and the credentials that it gives out."""
    tunnel = await store.tunnels.create(f"of-{tenant}")
    environment = await store.environments.create(f"of-{tenant}")
    worker_key, worker = await store.environments.create_key(environment.id)
    agent = await store.agents.create(replace(definition(f"of-{tenant}"), builtin=Builtin()))
    scopes = {Scope.INVOKE, Scope.CONFIRM, Scope.MINT}
    key, text = await store.keys.create(scopes=scopes, agents={agent.id}, tenant=Tenant(tenant))
    async with Caller(app, text) as invoker, Caller(app, worker) as polling:
        said = {"type": "user.message", "content": [{"type": "text", "text": "Go."}]}
        asked = {"agent": agent.id, "environment_id": environment.id, "initial_events": [said]}
        session = (await invoker.ok("POST", "/v1/sessions", asked))["id"]
        file = (await invoker.post(f"/v1/sessions/{session}/files?filename=a.csv", content=b"1,2")).json()["id"]
        work = Work(id=f"work_{tenant}", environment_id=environment.id, kind=WorkKind.SESSION, subject=session)
        work = await store.work.add(work)
        secret = (await polling.ok("GET", f"/v1/environments/{environment.id}/work/poll"))["secret"]
    token = json.loads(base64.urlsafe_b64decode(secret + "=="))["sessions_token"]
    pem = (await store.certificates.create(tunnel.id, "pem", "f" * 64, 0.0)).id
    ids = {
        "tunnel_id": tunnel.id,
        "certificate_id": pem,
        "environment_id": environment.id,
        "agent_id": agent.id,
        "key_id": key.id,
        "session_id": session,
        "work_id": work.id,
        "call_id": CALL,
        "file_id": file,
    }
    return ids | {"worker_key_id": worker_key.id}, {"key": text, "worker": worker, "token": token}


@pytest_asyncio.fixture
async def place(app: Starlette, store: Store, admin: Caller, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Place]:
    theirs, _ = await furnish(app, store, admin, "acme")
    own, keys = await furnish(app, store, admin, "globex")
    _, keys["administrator of another tenant"] = await store.keys.create(scopes={Scope.ADMIN}, tenant=Tenant("globex"))

    async def find(_: CallFinder, call_id: str, visible: Callable[[CallRecord], bool]) -> CallRecord | None:
        call = call_of(theirs["agent_id"])
        return call if call_id == CALL and visible(call) else None

    monkeypatch.setattr(CallFinder, "call", find)
    yield Place(theirs, own, keys)


def call_of(agent: str) -> CallRecord:
    """The call that acme made."""
    return CallRecord(
        id=CALL,
        tenant="acme",
        principal="key_1",
        agent=agent,
        agent_version=1,
        server="stock",
        tunnel="tnl_stock",
        tool="look",
        method="tools/call",
        asked_at="2026-11-22T10:00:00.000Z",
    )


def paths(app: Starlette) -> Iterator[tuple[str, list[str]]]:
    """Every path with an id that is served, and its methods."""
    for route in app.routes:
        known = isinstance(route, Route) and re.findall(r"{(\w+)}", route.path)
        if known and isinstance(route, Route) and isinstance(route.app, Resource):
            yield route.path.replace("{rest:path}", "rest"), list(route.app.methods)


def nobodys(text: str) -> str:
    """An id of the same form and length that nothing has."""
    prefix, _, rest = text.partition("_")
    return f"{prefix}_{'0' * len(rest)}"


def fillings(path: str, place: Place) -> Iterator[tuple[str, str]]:
    """The path with what is theirs and, for each such, with what does not exist; parents that are the caller's too."""
    names = re.findall(r"{(\w+)}", path)
    for foreign in range(len(names)):
        real, none = path, path
        for index, name in enumerate(names):
            known = "worker_key_id" if name == "key_id" and "environments" in path else name
            text = place.own[known] if index < foreign else place.theirs[known]
            real = real.replace(f"{{{name}}}", text)
            none = none.replace(f"{{{name}}}", nobodys(text) if index == foreign else text)
        yield real, none


async def said(caller: Caller, method: str, path: str, body: str) -> tuple[int, str, str]:
    """Status, headers and body of an answer, but for the id of the request."""
    response = await caller.request(method, path, content=body, headers={"content-type": "application/json"})
    request_id = response.headers.pop("request-id")
    return response.status_code, str(sorted(response.headers.items())), response.text.replace(request_id, "req")


# An administrator sees what belongs to the organisation; not so the sessions of a tenant that is not its own.
OF_A_TENANT = ("/v1/sessions/",)


@pytest.mark.parametrize("who", ["key", "worker", "token", "administrator of another tenant"])
async def test_what_is_not_yours_is_answered_like_what_does_not_exist(app: Starlette, place: Place, who: str) -> None:
    tried = 0
    async with Caller(app, place.keys[who]) as caller:
        for path, methods in paths(app):
            if who.startswith("administrator") and not path.startswith(OF_A_TENANT):
                continue
            for method in methods:
                for real, none in fillings(path, place):
                    for body in BODIES:
                        foreign = await said(caller, method, real, body)
                        assert foreign[0] in (400, 403, 404), f"{method} {real}"
                        assert foreign == await said(caller, method, none, body), f"{method} {real}"
                        tried += 1
    assert tried > 5 * len(BODIES)


async def test_what_is_yours_is_there(app: Starlette, place: Place) -> None:
    """Else the test above would say nothing."""
    seen = {
        "key": ["/v1/agents/{agent_id}", "/v1/sessions/{session_id}", "/v1/sessions/{session_id}/events"],
        "worker": ["/v1/environments/{environment_id}/work", "/v1/sessions/{session_id}"],
        "token": ["/v1/sessions/{session_id}", "/v1/sessions/{session_id}/files/{file_id}"],
    }
    served = [path for path, _ in paths(app)]
    for who, wanted in seen.items():
        async with Caller(app, place.keys[who]) as caller:
            for path in wanted:
                assert path in served
                await caller.ok("GET", path.format(**place.own))


async def test_an_agent_of_others_is_not_there_to_make_sessions_with(app: Starlette, place: Place) -> None:
    theirs = place.theirs["agent_id"]
    async with Caller(app, place.keys["key"]) as caller:
        for form in ("{}", '{{"type": "agent", "id": {}}}', '{{"type": "agent_with_overrides", "id": {}}}'):
            bodies = [
                json.dumps({"agent": json.loads(form.format(json.dumps(agent))), "environment_id": "x"})
                for agent in (theirs, nobodys(theirs))
            ]
            answers = [await said(caller, "POST", "/v1/sessions", body) for body in bodies]
            assert answers[0] == answers[1]
            assert answers[0][0] == 404
