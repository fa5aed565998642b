"""The bad input that issue 3 names beside the cases, through the API of a relay that runs."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import Any

import pytest

from tests.security.walk import MESSAGE
from tests.security.world import JSON, World, of_kind

LOOKS = {"type": "text", "text": "ok"}


OURS, OTHER = 7301, 7302
"""Canaries of the call that waits for a person: as it was asked, and as somebody would have it. No other test's."""


def reached(here: World) -> list[JSON]:
    """The calls with one of those canaries that came to the private server; other tests share it."""
    asked = [each.message["params"] for each in here.log.calls]
    return [each for each in asked if each.get("arguments", {}).get("canary") in (OURS, OTHER)]


@dataclass(frozen=True, slots=True)
class Held:
    """A session with a call of the sandbox, and the token of the worker that holds it."""

    session: str
    token: str
    call: str

    @property
    def path(self) -> str:
        """Where its events are."""
        return f"/v1/sessions/{self.session}/events"


def held(here: World, tenant: str, demand: str) -> Held:
    """Have a worker take a session of its own."""
    environment = here.ok("POST", "/v1/environments", {"name": "of a worker", "config": {"type": "self_hosted"}})["id"]
    key = here.ok("POST", f"/v1/environments/{environment}/keys", {})["environment_key"]
    session = here.session(tenant, demand, environment_id=environment)
    uses = of_kind("agent.tool_use", here.rested(tenant, session))
    delivered = here.ok("GET", f"/v1/environments/{environment}/work/poll?block_ms=999", key=key)
    token = json.loads(base64.urlsafe_b64decode(delivered["secret"] + "=="))["sessions_token"]
    here.ok("POST", f"/v1/environments/{environment}/work/{delivered['id']}/ack", {}, key=key)
    return Held(session, token, uses[0]["id"])


@pytest.fixture(scope="module")
def acme(here: World) -> Held:
    """Its sandbox call is allowed; its call of the tool `change` waits for a person."""
    return held(here, "acme", f'call bash with {{"command": "true"}} call change with {{"canary": {OURS}}}')


@pytest.fixture(scope="module")
def evil(here: World) -> Held:
    return held(here, "evil", 'call bash with {"command": "true"}')


def asking(here: World, tenant: str, session: str) -> str:
    """The id of the call that waits for a person."""
    uses = of_kind("agent.mcp_tool_use", here.events(tenant, session))
    (found,) = [each["id"] for each in uses if each["evaluated_permission"] == "ask"]
    return str(found)


def test_a_worker_does_not_confirm_its_own_calls(here: World, acme: Held) -> None:
    before = here.events("acme", acme.session)
    for call in (acme.call, asking(here, "acme", acme.session)):
        confirmation = {"type": "user.tool_confirmation", "tool_use_id": call, "result": "allow"}
        assert here.refused("POST", acme.path, {"events": [confirmation]}, key=acme.token) == (403, "forbidden")

    assert here.events("acme", acme.session) == before
    assert not reached(here)


@pytest.mark.parametrize(
    "event",
    [
        MESSAGE,
        {"type": "user.interrupt"},
        {"type": "system.message", "content": [LOOKS]},
        {"type": "agent.message", "content": [LOOKS]},
    ],
    ids=lambda event: event["type"],
)
def test_a_worker_says_nothing_but_results(here: World, acme: Held, event: JSON) -> None:
    before = here.events("acme", acme.session)
    status, _ = here.refused("POST", acme.path, {"events": [event]}, key=acme.token)

    assert status == (400 if event["type"] == "agent.message" else 403)
    assert here.events("acme", acme.session) == before


def test_a_worker_answers_no_call_that_it_does_not_hold(here: World, acme: Held, evil: Held) -> None:
    """Not those of another session, of another kind, or of nobody; a list with one such is refused whole."""
    before = [here.events("acme", acme.session), here.events("evil", evil.session)]
    strangers = [acme.call, asking(here, "acme", acme.session), "sevt_" + "0" * 24, acme.session]
    for call in strangers:
        sent = [{"type": "user.tool_result", "tool_use_id": each, "content": [LOOKS]} for each in (evil.call, call)]
        assert here.refused("POST", evil.path, {"events": sent[1:]}, key=evil.token) == (400, "tool_use_not_found")
        assert here.refused("POST", evil.path, {"events": sent}, key=evil.token) == (400, "tool_use_not_found")
    custom = {"type": "user.custom_tool_result", "custom_tool_use_id": evil.call, "content": [LOOKS]}
    assert here.refused("POST", evil.path, {"events": [custom]}, key=evil.token) == (400, "tool_use_not_found")
    assert here.refused("POST", acme.path, {"events": [MESSAGE]}, key=evil.token) == (404, "session_not_found")

    assert [here.events("acme", acme.session), here.events("evil", evil.session)] == before


def test_a_call_is_confirmed_by_its_own_tenant_only_and_as_it_was_asked(here: World, acme: Held) -> None:
    confirmation: JSON = {"type": "user.tool_confirmation", "result": "allow"}
    confirmation["tool_use_id"] = asking(here, "acme", acme.session)
    body = {"events": [confirmation]}
    scopes = {"agents": [here.agents["acme"]], "tenant": "acme", "scopes": ["invoke"]}
    invoker = here.ok("POST", "/v1/keys", scopes)["key"]

    assert here.refused("POST", acme.path, body, key=here.keys["evil"]) == (404, "session_not_found")
    assert here.refused("POST", acme.path, body, key=here.neighbour) == (404, "session_not_found")
    assert here.refused("POST", acme.path, body, key=here.relay.admin_key) == (404, "session_not_found")
    assert here.refused("POST", acme.path, body, key=invoker) == (403, "forbidden")
    others: list[JSON] = [{"input": {"canary": OTHER}}, {"arguments": {}}, {"name": "look"}]
    for more in others:
        wrong = {"events": [{**confirmation, **more}]}
        assert here.refused("POST", acme.path, wrong, key=here.keys["acme"]) == (400, "unknown_field")
    assert not reached(here)


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.example/mcp",
        "http://127.0.0.1:8420/mcp",
        "http://169.254.169.254/latest/meta-data",
        "https://notes.tunnel.localhost.evil.example/mcp",
        "https://evil.example/notes.tunnel.localhost/mcp",
        "https://notes.tunnel.localhost@evil.example/mcp",
        "https://evil.example#.notes.tunnel.localhost/mcp",
        "https://evil.example\\.notes.tunnel.localhost/mcp",
        "https://nobody.tunnel.localhost/mcp",
        "https://notestunnel.localhost/mcp",
        "https://tunnel.localhost/mcp",
        "https://notes.tunnel.localhost:22/mcp",
        "https://user:word@notes.tunnel.localhost/mcp",
        "ftp://notes.tunnel.localhost/mcp",
        "file:///etc/passwd",
    ],
)
def test_a_server_outside_every_tunnel_is_refused(here: World, url: str) -> None:
    tools: list[Any] = [{"type": "mcp_toolset", "mcp_server_name": "far", "configs": [{"name": "x", "enabled": True}]}]
    body = {"name": "far", "model": "none", "mcp_servers": [{"type": "url", "name": "far", "url": url}], "tools": tools}
    before = here.ok("GET", "/v1/agents?limit=100")["data"]

    status, code = here.refused("POST", "/v1/agents", body)

    assert (status, code) == (400, "url_not_tunnelled")
    assert here.ok("GET", "/v1/agents?limit=100")["data"] == before


def test_a_session_brings_no_server_of_its_own(here: World) -> None:
    server = {"type": "url", "name": "far", "url": "https://evil.example/mcp"}
    agent = {"type": "agent_with_overrides", "id": here.agents["acme"], "mcp_servers": [server]}
    before = len(here.ok("GET", "/v1/sessions?limit=100", key=here.keys["acme"])["data"])

    status, code = here.refused("POST", "/v1/sessions", {"agent": agent}, key=here.keys["acme"])

    assert (status, code) in [(400, "url_not_tunnelled"), (400, "not_granted")]
    assert len(here.ok("GET", "/v1/sessions?limit=100", key=here.keys["acme"])["data"]) == before
