from __future__ import annotations

from typing import Any

import pytest
import pytest_asyncio
from starlette.applications import Starlette

from arrowslit.agent import Permission
from arrowslit.outcome import Effect
from arrowslit.principal import Grant, Principal, Scope
from arrowslit.store.open import Store
from tests.agents.kit import Caller
from tests.store.kit import ManualClock

URL = "https://internal-inventory.tunnel.localhost/mcp"
SERVER = {"type": "url", "name": "stock", "url": URL}
ALLOW, ASK = {"type": "always_allow"}, {"type": "always_ask"}


def toolset(**fields: object) -> dict[str, object]:
    """An mcp_toolset of the server `stock`."""
    return {"type": "mcp_toolset", "mcp_server_name": "stock", **fields}


def enabled(name: str, **fields: object) -> dict[str, object]:
    return {"name": name, "enabled": True, **fields}


BUILTIN = {"type": "agent_toolset_20260401"}
CUSTOM = {
    "type": "custom",
    "name": "reorder",
    "description": "Orders more.",
    "input_schema": {"type": "object", "properties": {"sku": {"type": "string"}}, "required": ["sku"]},
}
MANY = [{**CUSTOM, "name": f"custom_{number}"} for number in range(255)] + [{**CUSTOM, "name": "last"}]
OFFICIAL = {"name": "assistant", "mcp_servers": [SERVER], "tools": [toolset(configs=[enabled("check_stock")])]}
SHORT = {"type": "tunnel", "tunnel_id": "tnl_internal_inventory"}


def grant_of(store: Store, agent: Any, server: str = "stock") -> Grant:
    """What somebody who may invoke the agent would be granted."""
    caller = Principal("key_1", None, frozenset({Scope.INVOKE}), frozenset({agent["id"]}))
    return store.grants.find(caller, agent["id"], server)


@pytest_asyncio.fixture(autouse=True)
async def _tunnels(store: Store) -> None:
    await store.tunnels.create("internal-inventory")
    await store.tunnels.create("old")
    await store.tunnels.archive("tnl_old")


async def test_an_agent_has_the_official_shape_with_every_default_filled_in(admin: Caller) -> None:
    made = await admin.ok(
        "POST",
        "/v1/agents",
        {
            "name": "assistant",
            "model": {"id": "claude-opus-5-5", "effort": "high"},
            "system": "Be brief.",
            "description": "Knows the stock.",
            "metadata": {"team": "supply"},
            "mcp_servers": [SERVER],
            "tools": [
                toolset(
                    default_config={"enabled": False},
                    configs=[enabled("check_stock", permission_policy=ALLOW), {"name": "adjust_stock"}],
                )
            ],
        },
    )

    assert made == {
        "id": made["id"],
        "type": "agent",
        "version": 1,
        "name": "assistant",
        "description": "Knows the stock.",
        "system": "Be brief.",
        "model": {"id": "claude-opus-5-5", "speed": "standard", "effort": {"type": "high"}},
        "tools": [
            {
                "type": "mcp_toolset",
                "mcp_server_name": "stock",
                "default_config": {"enabled": False, "permission_policy": ASK},
                "configs": [
                    {"name": "check_stock", "enabled": True, "permission_policy": ALLOW},
                    {"name": "adjust_stock", "enabled": False, "permission_policy": ASK},
                ],
            }
        ],
        "mcp_servers": [SERVER],
        "skills": [],
        "metadata": {"team": "supply"},
        "multiagent": None,
        "execution_identity": {"type": "service_account"},
        "on_unknown": "stop",
        "cannot_confirm": "I can't confirm that right now: there is no certain answer from {tool} on {server}.",
        "default_environment": None,
        "limits": {"model_requests": 50, "tool_calls": 200, "output_tokens": 200_000, "seconds": 3600.0},
        "created_at": "2026-11-18T11:06:40.000Z",
        "updated_at": "2026-11-18T11:06:40.000Z",
        "archived_at": None,
        "warnings": [],
    }
    assert await admin.ok("GET", f"/v1/agents/{made['id']}") == made


@pytest.mark.promise("P6")
async def test_what_is_listed_is_granted_and_nothing_else(admin: Caller, store: Store) -> None:
    agent = await admin.ok(
        "POST",
        "/v1/agents",
        {
            **OFFICIAL,
            "tools": [
                toolset(
                    deadline_ms=1500,
                    configs=[enabled("check_stock", effect="read_only"), enabled("put"), {"name": "drop"}],
                )
            ],
        },
    )

    grant = grant_of(store, agent)

    assert grant.tools == {"check_stock", "put"}
    assert grant.server.tunnel_id == "tnl_internal_inventory"
    assert [grant.effect(tool) for tool in ("check_stock", "put")] == [Effect.READ_ONLY, Effect.WRITE]
    assert grant.deadline == 1.5
    assert agent["tools"][0]["configs"][0]["effect"] == "read_only"


async def test_the_short_form_is_stored_as_the_official_one(admin: Caller, store: Store) -> None:
    agent = await admin.ok(
        "POST",
        "/v1/agents",
        {
            "name": "assistant",
            "instructions": "Be brief.",
            "mcp_servers": [{**SHORT, "tool_allowlist": ["check_stock", {"name": "adjust_stock", "confirm": True}]}],
        },
    )

    assert agent["system"] == "Be brief."
    assert agent["model"]["id"] == "none"
    assert agent["mcp_servers"] == [{"type": "url", "name": "internal-inventory", "url": URL}]
    assert agent["tools"][0]["default_config"] == {"enabled": False, "permission_policy": ASK}
    assert agent["tools"][0]["configs"] == [
        {"name": "check_stock", "enabled": True, "permission_policy": ALLOW},
        {"name": "adjust_stock", "enabled": True, "permission_policy": ASK},
    ]
    assert grant_of(store, agent, "internal-inventory").tools == {"check_stock", "adjust_stock"}


@pytest.mark.promise("P6")
async def test_an_empty_allowlist_grants_nothing(admin: Caller, store: Store) -> None:
    agent = await admin.ok("POST", "/v1/agents", {"name": "a", "mcp_servers": [{**SHORT, "name": "stock"}]})

    assert grant_of(store, agent).tools == frozenset()
    assert not grant_of(store, agent).allows("check_stock")


async def test_resources_and_prompts_are_granted_beside_tools_in_either_form(admin: Caller, store: Store) -> None:
    granted = {"resources": ["stock://catalogue", "stock://by/{sku}"], "prompts": ["report"]}
    short = await admin.ok("POST", "/v1/agents", {"name": "a", "mcp_servers": [{**SHORT, "name": "stock", **granted}]})
    official = await admin.ok("POST", "/v1/agents", {**OFFICIAL, "tools": [toolset(**granted)]})

    for agent in (short, official):
        grant = grant_of(store, agent)
        assert grant.resources == {"stock://catalogue", "stock://by/{sku}"}
        assert grant.prompts == {"report"}
        assert not grant.everything
        assert {name: agent["tools"][0][name] for name in granted} == granted
        assert await admin.ok("POST", f"/v1/agents/{agent['id']}", {"tools": agent["tools"]}) == agent
    without = await admin.ok("POST", f"/v1/agents/{short['id']}", {"tools": [toolset()]})
    assert without["version"] == 2
    assert not grant_of(store, without).resources


async def test_the_short_form_grants_a_server_whole(admin: Caller, store: Store) -> None:
    server = {**SHORT, "name": "stock", "allow_everything": True}
    agent = await admin.ok("POST", "/v1/agents", {"name": "a", "mcp_servers": [server]})

    assert grant_of(store, agent).everything
    assert agent["warnings"]


async def test_a_whole_server_is_granted_in_so_many_words_and_every_answer_warns(admin: Caller, store: Store) -> None:
    agent = await admin.ok("POST", "/v1/agents", {**OFFICIAL, "tools": [toolset(allow_everything=True)]})

    assert grant_of(store, agent).allows("anything")
    assert agent["warnings"] == [
        "every tool of stock is allowed, also those that it grows later; so are its resources and prompts"
    ]
    assert agent["tools"][0]["default_config"]["enabled"] is True
    listed = (await admin.ok("GET", "/v1/agents"))["data"]
    assert [each["warnings"] for each in listed] == [agent["warnings"]]
    sent_back = await admin.ok("POST", f"/v1/agents/{agent['id']}", {"tools": agent["tools"]})
    assert sent_back == agent


async def test_an_agent_whose_server_has_more_tools_than_can_be_pinned_warns(
    admin: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("arrowslit.agents.api.definitions.MOST", 0)

    agent = await admin.ok("POST", "/v1/agents", {**OFFICIAL, "tools": [toolset(allow_everything=True)]})

    assert "neither listed nor called" in agent["warnings"][1]


async def test_an_update_makes_a_version_and_keeps_what_it_does_not_mention(
    admin: Caller, store: Store, clock: ManualClock
) -> None:
    first = await admin.ok("POST", "/v1/agents", {**OFFICIAL, "system": "x", "metadata": {"a": "1", "b": "2"}})
    clock.turn(60)

    second = await admin.ok(
        "POST",
        f"/v1/agents/{first['id']}",
        {
            "version": 1,
            "system": None,
            "metadata": {"a": None, "c": "3"},
            "tools": [toolset(configs=[enabled("adjust_stock")])],
        },
    )

    assert second["version"] == 2
    assert second["system"] is None
    assert second["metadata"] == {"b": "2", "c": "3"}
    assert second["mcp_servers"] == first["mcp_servers"]
    assert second["created_at"] == first["created_at"]
    assert second["updated_at"] > first["updated_at"]
    assert grant_of(store, first).tools == {"adjust_stock"}
    assert await admin.ok("GET", f"/v1/agents/{first['id']}?version=1") == first
    versions = await admin.ok("GET", f"/v1/agents/{first['id']}/versions?limit=1")
    assert versions["data"] == [second]
    rest = await admin.ok("GET", f"/v1/agents/{first['id']}/versions?limit=1&page={versions['next_page']}")
    assert rest == {"data": [first], "next_page": None}


async def test_an_update_that_changes_nothing_makes_no_version(admin: Caller) -> None:
    made = await admin.ok("POST", "/v1/agents", OFFICIAL)

    assert await admin.ok("POST", f"/v1/agents/{made['id']}", OFFICIAL) == made
    assert await admin.ok("POST", f"/v1/agents/{made['id']}", {}) == made


async def test_an_update_of_what_has_changed_since_is_refused_for_good(admin: Caller) -> None:
    """API-04."""
    made = await admin.ok("POST", "/v1/agents", OFFICIAL)
    await admin.ok("POST", f"/v1/agents/{made['id']}", {"system": "x"})

    response = await admin.post(f"/v1/agents/{made['id']}", json={"system": "y", "version": 1})

    assert response.status_code == 409
    assert response.json()["error"]["details"]["error_code"] == "version_conflict"
    assert response.headers["x-should-retry"] == "false"


async def test_servers_and_tools_are_cleared_together(admin: Caller, store: Store) -> None:
    made = await admin.ok("POST", "/v1/agents", OFFICIAL)

    assert await admin.refused("POST", f"/v1/agents/{made['id']}", {"tools": []}) == (400, "validation_error")
    cleared = await admin.ok("POST", f"/v1/agents/{made['id']}", {"tools": None, "mcp_servers": []})

    assert (cleared["tools"], cleared["mcp_servers"]) == ([], [])


async def test_the_short_form_replaces_the_tools_of_its_server(admin: Caller, store: Store) -> None:
    made = await admin.ok("POST", "/v1/agents", OFFICIAL)

    short = {**SHORT, "name": "stock", "tool_allowlist": ["adjust_stock"]}
    await admin.ok("POST", f"/v1/agents/{made['id']}", {"mcp_servers": [short]})

    assert grant_of(store, made).tools == {"adjust_stock"}


async def test_an_archived_agent_is_kept_and_changed_no_more(admin: Caller) -> None:
    made = await admin.ok("POST", "/v1/agents", OFFICIAL)

    archived = await admin.ok("POST", f"/v1/agents/{made['id']}/archive")

    assert archived["archived_at"] is not None
    assert await admin.ok("POST", f"/v1/agents/{made['id']}/archive") == archived
    assert await admin.refused("POST", f"/v1/agents/{made['id']}", {"system": "x"}) == (400, "archived")
    assert (await admin.ok("GET", "/v1/agents"))["data"] == []
    assert (await admin.ok("GET", "/v1/agents?include_archived=true"))["data"] == [archived]


async def test_agents_are_listed_by_the_time_they_were_made(admin: Caller, clock: ManualClock) -> None:
    for name in ("a", "b", "c"):
        await admin.ok("POST", "/v1/agents", {"name": name})
        clock.turn(60)
    since, until = "2026-11-18T11:07:00Z", "2026-11-18T12:08:00%2B01:00"

    async def names(query: str) -> list[str]:
        return [each["name"] for each in (await admin.ok("GET", f"/v1/agents?{query}"))["data"]]

    assert await names("") == ["c", "b", "a"]
    assert await names(f"created_at%5Bgte%5D={since}") == ["c", "b"]
    assert await names(f"created_at[gte]={since}&created_at[lte]={until}") == ["b"]
    for senseless in ("yesterday", "2026-11-18T11:07:00"):  # the second has no zone
        assert await admin.refused("GET", f"/v1/agents?created_at[gte]={senseless}") == (400, "validation_error")
    assert await admin.refused("GET", "/v1/agents?limit=101") == (400, "validation_error")


async def test_a_version_that_is_not_there_is_not_found(admin: Caller) -> None:
    made = await admin.ok("POST", "/v1/agents", OFFICIAL)

    assert await admin.refused("GET", f"/v1/agents/{made['id']}?version=2") == (404, "agent_not_found")
    assert await admin.refused("GET", f"/v1/agents/{made['id']}?version=x") == (400, "validation_error")


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com/mcp",
        "http://internal-inventory.tunnel.localhost/mcp",
        "https://tunnel.localhost/mcp",
        "https://none.tunnel.localhost/mcp",
        "https://old.tunnel.localhost/mcp",  # archived
        "https://internal-inventory.tunnel.localhost.example.com/mcp",
        "https://internal-inventory.tunnel.localhost@example.com/mcp",
        "https://example.com@internal-inventory.tunnel.localhost/mcp",
        "https://internal-inventory.tunnel.localhost:8443/mcp",
        "https://internal-inventory.tunnel.localhost./mcp",
        "https://internal-inventory.tunnel.localhost/other",
        "https://internal-inventory.tunnel.localhost/mcp?x=1",
        "https://internal-inventory.tunnel.localhost/mcp#x",
        "https://a.b.internal-inventory.tunnel.localhost/mcp",
        "https://-.internal-inventory.tunnel.localhost/mcp",
        "https://[::1]/mcp",
        "https://[/mcp",
        "https://x:port/mcp",
        "",
    ],
)
async def test_a_server_is_behind_a_tunnel_or_nowhere(admin: Caller, store: Store, url: str) -> None:
    body = {**OFFICIAL, "mcp_servers": [{**SERVER, "url": url}]}

    assert await admin.refused("POST", "/v1/agents", body) == (400, "url_not_tunnelled")
    assert not store.agents.every()


async def test_the_first_label_of_a_server_names_its_target(admin: Caller, store: Store) -> None:
    url = "https://wiki.internal-inventory.tunnel.localhost/mcp"

    agent = await admin.ok("POST", "/v1/agents", {**OFFICIAL, "mcp_servers": [{**SERVER, "url": url}]})

    assert agent["mcp_servers"][0]["url"] == url
    assert grant_of(store, agent).server.tunnel_id == "tnl_internal_inventory"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"name": ""}, "validation_error"),
        ({"name": "x" * 257}, "validation_error"),
        ({"name": "a\nb"}, "validation_error"),
        ({"name": None}, "validation_error"),
        ({"model": None}, "validation_error"),
        ({"model": {"id": "m", "temperature": 1}}, "unknown_field"),
        ({"model": {"id": "m", "speed": "ludicrous"}}, "validation_error"),
        ({"system": "a", "instructions": "b"}, "validation_error"),
        ({"system": 5}, "validation_error"),
        ({"metadata": {"k": 5}}, "validation_error"),
        ({"metadata": {"k" * 65: "v"}}, "validation_error"),
        ({"metadata": {str(number): "v" for number in range(17)}}, "validation_error"),
        ({"toolz": []}, "unknown_field"),
        ({"version": 1}, "unknown_field"),
        ({"skills": [{"type": "custom", "skill_id": "s"}]}, "not_supported"),
        ({"multiagent": {"type": "coordinator"}}, "not_supported"),
        ({"multiagent": {}}, "not_supported"),
        ({"multiagent": False}, "not_supported"),
        ({"skills": {}}, "validation_error"),
        ({"vault_ids": ["vlt_1"]}, "unknown_field"),
        ({"sandbox": {"type": "cloud", "id": "env_1"}}, "validation_error"),
        ({"sandbox": "env_1"}, "validation_error"),
        ({"sandbox": None, "default_environment": None}, "validation_error"),
        ({"on_unknown": "guess"}, "validation_error"),
        ({"cannot_confirm": "No {reason}."}, "validation_error"),
        ({"cannot_confirm": "{server.tenant}"}, "validation_error"),
        ({"cannot_confirm": "{tool!r} {}"}, "validation_error"),
        ({"cannot_confirm": "}{"}, "validation_error"),
        ({"cannot_confirm": ""}, "validation_error"),
        ({"cannot_confirm": "x" * 1001}, "validation_error"),
        ({"cannot_confirm": "\u001b[2J"}, "validation_error"),
        ({"limits": {"model_requests": 0}}, "validation_error"),
        ({"limits": {"seconds": 86_401}}, "validation_error"),
        ({"limits": {"money": 1}}, "unknown_field"),
        ({"execution_identity": {"type": "aws_role"}}, "not_supported"),
        ({"tools": [toolset(), {"type": "web_search_20250305"}]}, "not_supported"),
        ({"tools": [toolset(), BUILTIN, BUILTIN]}, "validation_error"),
        ({"tools": [toolset(), {**BUILTIN, "configs": [{"name": "rm"}]}]}, "validation_error"),
        ({"tools": [toolset(), {**BUILTIN, "configs": [{"name": "bash"}, {"name": "bash"}]}]}, "validation_error"),
        ({"tools": [toolset(), {**BUILTIN, "configs": [{"name": "bash", "type": "read"}]}]}, "validation_error"),
        ({"tools": [toolset(), {**BUILTIN, "configs": [enabled("web_fetch")]}]}, "not_supported"),
        (
            {"tools": [toolset(), {**BUILTIN, "configs": [{"name": "web_search", "user_location": {}}]}]},
            "not_supported",
        ),
        ({"tools": [toolset(), {"type": "custom", "name": "x"}]}, "validation_error"),
        ({"tools": [toolset(), {**CUSTOM, "name": "a b"}]}, "validation_error"),
        ({"tools": [toolset(), {**CUSTOM, "name": "x" * 129}]}, "validation_error"),
        ({"tools": [toolset(), {**CUSTOM, "description": ""}]}, "validation_error"),
        ({"tools": [toolset(), {**CUSTOM, "input_schema": {"type": "string"}}]}, "validation_error"),
        ({"tools": [toolset(), {**CUSTOM, "input_schema": {"type": "object", "required": "x"}}]}, "validation_error"),
        ({"tools": [toolset(), {**CUSTOM, "strict": True}]}, "unknown_field"),
        ({"tools": [toolset(), CUSTOM, CUSTOM]}, "validation_error"),
        ({"tools": [toolset(), BUILTIN, {**CUSTOM, "name": "bash"}]}, "validation_error"),
        ({"tools": [toolset(configs=[{"name": "x"}]), *MANY]}, "validation_error"),
        ({"tools": [{"mcp_server_name": "stock"}]}, "validation_error"),
        ({"tools": ["mcp_toolset"]}, "validation_error"),
        ({"tools": []}, "validation_error"),  # the server would be of no use
        ({"mcp_servers": []}, "validation_error"),  # the toolset speaks of nobody
        ({"mcp_servers": [SERVER, SERVER]}, "validation_error"),
        ({"mcp_servers": [{**SERVER, "name": "a/b"}]}, "validation_error"),
        ({"mcp_servers": [{**SERVER, "authorization_token": "x"}]}, "unknown_field"),
        ({"mcp_servers": [{"type": "stdio", "name": "stock"}]}, "validation_error"),
        ({"mcp_servers": [{**SHORT, "name": "stock", "tool_allowlist": ["x"]}]}, "validation_error"),  # and a toolset
        ({"tools": [toolset(), toolset()]}, "validation_error"),
        ({"tools": [toolset(configs=[enabled("x"), enabled("x")])]}, "validation_error"),
        ({"tools": [toolset(configs=[enabled("*")])]}, "wildcard_not_allowed"),
        ({"tools": [toolset(configs=[enabled("stock_*")])]}, "wildcard_not_allowed"),
        ({"tools": [toolset(configs=[enabled("")])]}, "validation_error"),
        ({"tools": [toolset(configs=[enabled("x", effect="harmless")])]}, "validation_error"),
        ({"tools": [toolset(configs=[enabled("x", permission_policy={"type": "never"})])]}, "validation_error"),
        ({"tools": [toolset(default_config={"enabled": True})]}, "wildcard_not_allowed"),
        ({"tools": [toolset(allow_everything=True, configs=[{"name": "x", "enabled": False}])]}, "validation_error"),
        ({"tools": [toolset(deadline_ms=3_600_001)]}, "validation_error"),
        ({"tools": [toolset(deadline_ms=0)]}, "validation_error"),
    ],
)
async def test_an_agent_that_makes_no_sense_is_refused(
    admin: Caller, store: Store, changes: dict[str, object], code: str
) -> None:
    assert await admin.refused("POST", "/v1/agents", {**OFFICIAL, **changes}) == (400, code)
    assert not store.agents.every()


@pytest.mark.parametrize(
    ("short", "status", "code"),
    [
        ({"tunnel_id": "tnl_none"}, 404, "tunnel_not_found"),
        ({"tunnel_id": "tnl_old"}, 400, "archived"),
        ({"tool_allowlist": ["*"]}, 400, "wildcard_not_allowed"),
        ({"tool_allowlist": ["x", {"name": "x"}]}, 400, "validation_error"),
        ({"tool_allowlist": [{"name": "x", "ask": True}]}, 400, "unknown_field"),
        ({"resources": ["stock://*"]}, 400, "wildcard_not_allowed"),
        ({"resources": ["catalogue"]}, 400, "validation_error"),
        ({"prompts": ["*"]}, 400, "wildcard_not_allowed"),
        ({"prompts": [" report"]}, 400, "validation_error"),
    ],
)
async def test_a_short_form_that_makes_no_sense_is_refused(
    admin: Caller, short: dict[str, object], status: int, code: str
) -> None:
    body = {"name": "a", "mcp_servers": [{**SHORT, **short}]}

    assert await admin.refused("POST", "/v1/agents", body) == (status, code)


async def test_the_sandbox_has_its_tools_by_default_and_none_that_fetch_from_the_web(admin: Caller) -> None:
    body = {**BUILTIN, "configs": [{"name": "bash", "permission_policy": ASK}, {"name": "web_fetch", "enabled": False}]}
    made = await admin.ok("POST", "/v1/agents", {"name": "a", "tools": [body]})

    assert made["tools"] == [
        {
            **BUILTIN,
            "default_config": {"enabled": True, "permission_policy": ALLOW},
            "configs": [
                {"type": "bash", "name": "bash", "enabled": True, "permission_policy": ASK},
                {"type": "web_fetch", "name": "web_fetch", "enabled": False, "permission_policy": ALLOW},
                {"type": "web_search", "name": "web_search", "enabled": False, "permission_policy": ALLOW},
            ],
        }
    ]
    assert await admin.ok("POST", f"/v1/agents/{made['id']}", {"tools": made["tools"]}) == made


async def test_whoever_enables_all_tools_of_the_sandbox_is_told_that_those_of_the_web_stay_off(admin: Caller) -> None:
    every, listed = {**BUILTIN, "default_config": {"enabled": True}}, {**BUILTIN, "default_config": {"enabled": False}}
    made = await admin.ok("POST", "/v1/agents", {"name": "a", "tools": [every]})
    other = await admin.ok("POST", "/v1/agents", {"name": "b", "tools": [{**listed, "configs": [enabled("read")]}]})

    (warning,) = made["warnings"]
    assert "web_fetch and web_search do not run here" in warning
    assert other["warnings"] == []


async def test_an_allowlist_of_the_sandbox_enables_what_it_names(admin: Caller, store: Store) -> None:
    body = {**BUILTIN, "default_config": {"enabled": False, "permission_policy": ASK}, "configs": [enabled("read")]}
    made = await admin.ok("POST", "/v1/agents", {"name": "a", "tools": [body]})

    builtin = store.agents.read(made["id"]).definition.builtin

    assert builtin is not None
    assert builtin.tools() == {"read": Permission.ALWAYS_ASK}
    assert made["tools"][0]["configs"] == [
        {"type": "read", "name": "read", "enabled": True, "permission_policy": ASK},
    ]


async def test_a_custom_tool_is_kept_as_it_was_given_beside_the_others(admin: Caller) -> None:
    made = await admin.ok("POST", "/v1/agents", {**OFFICIAL, "tools": [CUSTOM, toolset(), BUILTIN]})

    assert [tool["type"] for tool in made["tools"]] == ["agent_toolset_20260401", "mcp_toolset", "custom"]
    assert made["tools"][2] == CUSTOM
    only_servers = await admin.ok("POST", f"/v1/agents/{made['id']}", {"tools": [toolset()]})
    assert [tool["type"] for tool in only_servers["tools"]] == ["mcp_toolset"]


async def test_an_agent_has_at_most_256_tools(admin: Caller) -> None:
    made = await admin.ok("POST", "/v1/agents", {"name": "a", "tools": MANY})

    assert len(made["tools"]) == 256


async def test_a_sandbox_of_the_short_form_is_where_code_runs(admin: Caller, store: Store) -> None:
    environment = await store.environments.create("team-default")
    sandbox = {"type": "self_hosted", "id": "sbx_team_default"}

    made = await admin.ok("POST", "/v1/agents", {"name": "a", "sandbox": sandbox})

    assert made["default_environment"] == environment.id
    assert [tool["type"] for tool in made["tools"]] == ["agent_toolset_20260401"]
    moved = await admin.ok("POST", f"/v1/agents/{made['id']}", {"sandbox": None})
    assert moved["default_environment"] is None
    assert moved["tools"] == made["tools"]
    again = await admin.ok("POST", f"/v1/agents/{made['id']}", {"default_environment": "team-default", "tools": []})
    assert (again["default_environment"], again["tools"]) == (environment.id, [])


async def test_a_sandbox_that_says_which_tools_it_has_keeps_to_them(admin: Caller, store: Store) -> None:
    environment = await store.environments.create("team-default")
    tools = [{**BUILTIN, "default_config": {"enabled": False}, "configs": [enabled("bash")]}]

    body = {"name": "a", "sandbox": {"type": "self_hosted", "id": environment.id}, "tools": tools}
    made = await admin.ok("POST", "/v1/agents", body)

    assert [each["name"] for each in made["tools"][0]["configs"]] == ["bash"]
    assert made["tools"][0]["default_config"]["enabled"] is False


async def test_a_sandbox_that_is_not_there_is_refused(admin: Caller, store: Store) -> None:
    old = await store.environments.create("old")
    await store.environments.archive(old.id)

    for name, status, code in ((old.id, 400, "environment_archived"), ("none", 404, "environment_not_found")):
        body = {"name": "a", "sandbox": {"type": "self_hosted", "id": name}}
        assert await admin.refused("POST", "/v1/agents", body) == (status, code)
        assert await admin.refused("POST", "/v1/agents", {"name": "a", "default_environment": name}) == (status, code)


async def test_what_an_agent_says_and_where_it_ends_can_be_chosen_and_put_back(admin: Caller) -> None:
    ours = {
        "on_unknown": "tell",
        "cannot_confirm": "Ask again later: {server} is out of reach.",
        "limits": {"model_requests": 5, "tool_calls": 10, "output_tokens": 1000, "seconds": 60},
    }
    made = await admin.ok("POST", "/v1/agents", {"name": "a", **ours})
    assert {name: made[name] for name in ours} == ours

    reset = await admin.ok("POST", f"/v1/agents/{made['id']}", dict.fromkeys(ours))

    assert reset["on_unknown"] == "stop"
    assert "{tool}" in reset["cannot_confirm"]
    assert reset["limits"]["model_requests"] == 50


async def test_an_agent_that_asks_the_automatic_judge_keeps_the_word(admin: Caller) -> None:
    tools = [toolset(configs=[enabled("check_stock", permission_policy={"type": "auto"})])]
    made = await admin.ok("POST", "/v1/agents", {**OFFICIAL, "tools": tools})

    assert made["tools"][0]["configs"][0]["permission_policy"] == {"type": "auto"}


async def test_a_key_reads_the_agents_that_it_may_invoke_and_knows_of_no_others(
    app: Starlette, admin: Caller, store: Store
) -> None:
    own = await admin.ok("POST", "/v1/agents", {"name": "own"})
    other = await admin.ok("POST", "/v1/agents", {"name": "other"})
    _, key = await store.keys.create(scopes={Scope.INVOKE}, agents={own["id"]})

    async with Caller(app, key) as invoker:
        assert await invoker.ok("GET", f"/v1/agents/{own['id']}?version=1") == own
        assert (await invoker.ok("GET", f"/v1/agents/{own['id']}/versions"))["data"] == [own]
        assert (await invoker.ok("GET", "/v1/agents"))["data"] == [own]
        for path in (f"/v1/agents/{other['id']}", f"/v1/agents/{other['id']}/versions", "/v1/agents/agent_none"):
            assert await invoker.refused("GET", path) == (404, "agent_not_found")
        for path in ("/v1/agents", f"/v1/agents/{own['id']}", f"/v1/agents/{own['id']}/archive", "/v1/agents/x"):
            assert await invoker.refused("POST", path, {"name": "x"}) == (403, "forbidden")
