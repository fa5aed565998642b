"""Tenant spoofing where a client speaks: whatever it says of a tenant, the tenant is that of its key (P7)."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from itertools import product
from typing import Any

import pytest

from tests.security.cases import case
from tests.security.world import LEGACY, MODERN, World, answer, refusal, result

VERSIONS = (LEGACY[-1], MODERN)
OURS = "dev.arrowslit/"

# The case wants `reserved_argument` for names that the server declared. Arguments are copied byte for byte (P8), and no
# name in them is reserved: they are the tool's own business, and have no authority.
ARGUMENTS: dict[str, dict[str, Any]] = {
    "tenant_id": {"tenant_id": "evil"},
    "tenant": {"tenant": "evil"},
    "tenantId": {"tenantId": "evil"},
    "org": {"org": "evil"},
    "_tenant": {"_tenant": "evil"},
    "other forms": {"Tenant": "evil", "te\u200bnant": "evil", "ｔｅｎａｎｔ": "evil", " tenant": "evil"},
    "nested": {"context": {"caller": [{"tenant": "evil"}]}},
    "ours": {f"{OURS}tenant": "evil", f"{OURS}call-id": "call_evil"},
    "a _meta in the arguments": {"_meta": {f"{OURS}tenant": "evil", "tenant": "evil"}},
    "a number, a list and an object": {"tenant": 7, "tenant_id": ["evil"], "org": {"id": "evil"}},
    "JSON that would break out": {"tenant": '"},"_meta":{"dev.arrowslit/tenant":"evil"},"x":{"y":"'},
}


@pytest.mark.promise("P7")
@pytest.mark.promise("P8")
@case("TEN-01", "arguments", ARGUMENTS)
def test_a_tenant_in_arguments_is_data_like_any_other(here: World, arguments: dict[str, Any]) -> None:
    for version in VERSIONS:
        before = len(here.log.calls)
        said = result(here.mcp("acme", "look", arguments, version=version))
        (heard,) = here.log.calls[before:]

        assert (said["structuredContent"]["tenant"], said["structuredContent"]["alias"]) == ("acme", "acme")
        assert heard.message["params"]["arguments"] == arguments
        assert "evil" not in json.dumps(heard.meta)
        assert asked(here, heard.meta[f"{OURS}call-id"])["tenant"] == "acme"


METAS = {
    "in _meta, every spelling": ["tenant", "Tenant", "te\u200bnant", "ｔｅｎａｎｔ", f"{OURS}tenant", f"{OURS}Tenant"],
    "in _meta, what else is ours": [f"{OURS}call-id", f"{OURS}tenant-id", OURS, f"{OURS.upper()}TENANT"],
}


@pytest.mark.promise("P7")
@case("TEN-01", "keys", METAS)
def test_what_names_a_tenant_in_meta_never_arrives(here: World, keys: list[str]) -> None:
    for version in VERSIONS:
        before = len(here.log.calls)
        said = result(
            here.mcp("acme", "look", {}, meta=dict.fromkeys(keys, "evil") | {"mine": "kept"}, version=version)
        )
        (heard,) = here.log.calls[before:]

        assert said["structuredContent"]["tenant"] == "acme"
        assert b"evil" not in heard.body
        assert (heard.meta["mine"], heard.meta["tenant"]) == ("kept", "acme")


HEADERS: dict[str, list[tuple[str, str]]] = {
    "X-Tenant-Id": [("X-Tenant-Id", "evil")],
    "X_Tenant_Id": [("X_Tenant_Id", "evil")],
    "X.Tenant.Id": [("X.Tenant.Id", "evil")],
    "x-tenant-id twice": [("x-tenant-id", "acme"), ("x-tenant-id", "evil")],
    "Forwarded": [("Forwarded", "for=evil;host=evil;by=evil"), ("X-Forwarded-User", "evil")],
    "Baggage": [("Baggage", "tenant=evil,tenant_id=evil")],
    "ours": [("Arrowslit-Tenant", "evil"), ("Dev.Arrowslit.Tenant", "evil")],
    "a cookie": [("Cookie", "tenant=evil")],
}


@pytest.mark.promise("P7")
@case("TEN-02", "fields", HEADERS)
def test_a_tenant_in_headers_has_no_effect(here: World, fields: list[tuple[str, str]]) -> None:
    for version in VERSIONS:
        before = len(here.log.calls)
        said = [result(here.mcp("acme", "look", {"canary": 1}, headers=more, version=version)) for more in ([], fields)]
        calm, tried = here.log.calls[before:]

        assert said[0] == said[1]
        assert tried.meta[f"{OURS}tenant"] == "acme"
        assert b"evil" not in tried.body
        # W3C Baggage is trace context, which travels (docs/protocol.md): the server may read it, nobody acts on it.
        seen = {name.lower() for name, value in tried.headers if "evil" in value}
        assert seen <= {"baggage"}
        assert {name for name, _ in tried.headers} - {name for name, _ in calm.headers} <= {"baggage", "Baggage"}


@pytest.mark.promise("P7")
@case("TEN-02", "fields", {f"{name}, at /v1": each for name, each in HEADERS.items()})
def test_a_tenant_in_headers_makes_no_session_another_tenants(here: World, fields: list[tuple[str, str]]) -> None:
    body = {"agent": here.agents["acme"], "metadata": {"tenant": "evil", "tenant_id": "evil"}}
    made = here.ask("POST", "/v1/sessions", body, key=here.keys["acme"], headers=fields)
    session = made.json()["id"]

    assert made.status_code == 200
    here.ok("GET", f"/v1/sessions/{session}", key=here.keys["acme"])
    for more in ([], fields):
        foreign = here.ask("GET", f"/v1/sessions/{session}", key=here.neighbour, headers=more)
        assert refusal(foreign) == (404, "session_not_found")


# ---------------------------------------------------------------- cursors


def _bytes_of(cursor: str) -> bytes:
    return base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))


def _text_of(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def a_bit_of_its_mac(cursor: str) -> str:
    raw = bytearray(_bytes_of(cursor))
    raw[3] ^= 1
    return _text_of(bytes(raw))


def another_place(cursor: str) -> str:
    raw = _bytes_of(cursor)
    place = json.loads(raw[16:])
    return _text_of(raw[:16] + json.dumps([place[0] + 10**9, *place[1:]]).encode())


def another_id(cursor: str) -> str:
    raw = _bytes_of(cursor)
    place = json.loads(raw[16:])
    return _text_of(raw[:16] + json.dumps([place[0], "sesn_evil", *place[2:]]).encode())


def one_byte_more(cursor: str) -> str:
    return _text_of(_bytes_of(cursor) + b" ")


def no_mac(cursor: str) -> str:
    return _text_of(bytes(16) + _bytes_of(cursor)[16:])


TAMPERS = {
    each.__name__.replace("_", " "): each
    for each in (a_bit_of_its_mac, another_place, another_id, one_byte_more, no_mac)
}


@pytest.fixture(scope="module")
def lists(here: World) -> dict[str, str]:
    """A cursor of acme's for each list that a tenant reads, behind its first entry."""
    here.session("acme", "hello")
    session = here.session("acme", "hello")
    here.rested("acme", session)
    here.ok("POST", f"/v1/agents/{here.agents['acme']}", {"description": "of which there are two"})
    paths = [
        "/v1/sessions?",
        "/v1/sessions?order=asc&",
        f"/v1/sessions/{session}/events?",
        f"/v1/agents/{here.agents['acme']}/versions?",
    ]
    return {path: here.ok("GET", f"{path}limit=1", key=here.keys["acme"])["next_page"] for path in paths}


@case("TEN-14", "tamper", TAMPERS)
def test_a_cursor_that_was_tampered_with_leads_nowhere(here: World, lists: dict[str, str], tamper: Any) -> None:
    for path, cursor in lists.items():
        assert here.ok("GET", f"{path}page={cursor}", key=here.keys["acme"])["data"]
        assert here.refused("GET", f"{path}page={tamper(cursor)}", key=here.keys["acme"]) == (400, "cursor_invalid")


@case(
    "TEN-14", "whose", {"of another tenant": "tenant", "of another key of the tenant": "key", "of another list": "list"}
)
def test_a_cursor_is_good_for_whom_it_was_made_and_that_list(here: World, lists: dict[str, str], whose: str) -> None:
    sessions = lists["/v1/sessions?"]
    if whose == "list":
        events = next(path for path in lists if "/events" in path)
        tried = [(f"{events}page={sessions}", "acme"), (f"/v1/sessions?order=asc&page={sessions}", "acme")]
        answers = [here.refused("GET", path, key=here.keys[tenant]) for path, tenant in tried]
    else:
        other = here.neighbour
        if whose == "key":
            body = {"agents": [here.agents["acme"]], "tenant": "acme"}
            other = here.ok("POST", "/v1/keys", body)["key"]
        answers = [here.refused("GET", f"/v1/sessions?page={sessions}", key=other)]

    assert set(answers) == {(400, "cursor_invalid")}


def asked(here: World, call_id: str) -> dict[str, Any]:
    """The record of a call that left."""
    (found,) = [each for each in here.records() if each["kind"] == "asked" and each["call"] == call_id]
    return found


def test_what_is_refused_here_is_refused_by_the_relay_and_not_by_an_accident(here: World) -> None:
    """Else every test above that sees nothing of evil's would say nothing."""
    said = [result(here.mcp(tenant, "look", {}, version=each)) for tenant, each in product(("acme", "evil"), VERSIONS)]
    tenants: Sequence[str] = [each["structuredContent"]["tenant"] for each in said]

    assert tenants == ["acme", "acme", "evil", "evil"]
    assert answer(here.mcp("acme", "hidden", {}))["error"]["data"]["code"] == "tool_not_allowed"
