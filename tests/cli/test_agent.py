from __future__ import annotations

from typing import Any

import pytest

from tests.cli.conftest import Scene
from tests.cli.kit import at, invoke
from tests.harness import Relay, Tunnel


@pytest.fixture(scope="module")
def tunnel(relay: Relay) -> Tunnel:
    return relay.tunnel("for-agents")


def tools(agent: dict[str, Any]) -> dict[str, bool]:
    """The rules of its only server."""
    (toolset,) = agent["tools"]
    return {rule["name"]: rule["enabled"] for rule in toolset["configs"]}


def test_an_agent_may_use_what_was_listed(relay: Relay, tunnel: Tunnel) -> None:
    words = ["agent", "create", "lister", "--tunnel", tunnel.name, "--allow", "look", "--allow", "count"]

    made = invoke(*words, "--json", **at(relay)).ok().json

    assert (made["type"], made["version"]) == ("agent", 1)
    assert tools(made) == {"look": True, "count": True}
    assert made["mcp_servers"][0]["name"] == tunnel.name
    text = invoke("agent", "show", "lister", **at(relay)).ok().out
    assert text.startswith(f"lister ({made['id']}), version 1\n")
    assert "    look\n    count\n" in text


def test_an_agent_without_tools_is_told_how_to_get_one(relay: Relay, tunnel: Tunnel) -> None:
    done = invoke("agent", "create", "empty", "--tunnel", tunnel.id, **at(relay)).ok()

    assert "    no tool\n" in done.out
    assert f"arrowslit agent allow empty {tunnel.name} TOOL" in done.err


def test_allow_and_deny_make_versions(relay: Relay, tunnel: Tunnel) -> None:
    relay.agent("versioned", tunnel, ["look"])

    allowed = invoke("agent", "allow", "versioned", tunnel.name, "count", "adjust", "--json", **at(relay)).ok().json
    denied = invoke("agent", "deny", "versioned", tunnel.name, "look", "adjust", "--json", **at(relay)).ok().json
    back = invoke("agent", "allow", "versioned", tunnel.name, "look", "--json", **at(relay)).ok().json

    assert (allowed["version"], tools(allowed)) == (2, {"look": True, "count": True, "adjust": True})
    assert (denied["version"], tools(denied)) == (3, {"look": False, "count": True, "adjust": False})
    assert (back["version"], tools(back)) == (4, {"look": True, "count": True, "adjust": False})
    second = invoke("agent", "show", "versioned", "--version", "2", "--json", **at(relay)).ok().json
    assert tools(second) == tools(allowed)
    assert "versioned  " in invoke("agent", "list", **at(relay)).ok().out
    assert f"v4       {tunnel.name}: look, count\n" in invoke("agent", "list", **at(relay)).ok().out


def test_what_was_allowed_already_makes_no_version(relay: Relay, tunnel: Tunnel) -> None:
    relay.agent("same", tunnel, ["look"])

    done = invoke("agent", "allow", "same", tunnel.name, "look", **at(relay)).ok()

    assert "version 1" in done.out
    assert "nothing changed" in done.err


def test_denying_what_was_never_allowed_is_said(relay: Relay, tunnel: Tunnel) -> None:
    relay.agent("typo", tunnel, ["look"])

    done = invoke("agent", "deny", "typo", tunnel.name, "lok", **at(relay)).ok()

    assert "not among the allowed tools anyway: lok" in done.err
    assert "version 1" in done.out


def test_a_declared_effect_outlives_deny_and_allow(relay: Relay, tunnel: Tunnel) -> None:
    agent = relay.agent("declared", tunnel, [])
    rule = {"name": "look", "enabled": True, "effect": "read_only", "permission_policy": {"type": "always_allow"}}
    toolset = {"type": "mcp_toolset", "mcp_server_name": tunnel.name, "configs": [rule]}
    with relay.client() as client:
        client.post("agents", agent, body={"tools": [toolset]})

    invoke("agent", "deny", "declared", tunnel.name, "look", **at(relay)).ok()
    text = invoke("agent", "allow", "declared", tunnel.name, "look", **at(relay)).ok().out

    assert "    look  (read_only)\n" in text


def test_resources_and_prompts_are_allowed_and_denied_by_name(relay: Relay, tunnel: Tunnel) -> None:
    words = ["agent", "create", "reader", "--tunnel", tunnel.name, "--resource", "stock://{sku}", "--prompt", "report"]

    made = invoke(*words, **at(relay)).ok()
    more = invoke("agent", "allow", "reader", tunnel.name, "look", "--resource", "stock://all", **at(relay)).ok()
    less = invoke("agent", "deny", "reader", tunnel.name, "--resource", "stock://all", "--prompt", "rep", **at(relay))

    assert "    no tool\n    resource stock://{sku}\n    prompt report\n" in made.out
    assert not made.err
    assert "    look\n    resource stock://{sku}\n    resource stock://all\n    prompt report\n" in more.out
    assert "stock://all" not in less.ok().out
    assert "not among the allowed tools anyway: rep" in less.err
    assert "look, stock://{sku}, report" in invoke("agent", "list", **at(relay)).ok().out


@pytest.mark.parametrize("words", [["--tunnel", "for-agents"], []])
def test_a_server_is_granted_whole_and_every_listing_warns(relay: Relay, tunnel: Tunnel, words: list[str]) -> None:
    name = f"trial{len(words)}"
    made = invoke("agent", "create", name, *words, "--allow-everything", tunnel.name, **at(relay)).ok()

    for done in (made, invoke("agent", "show", name, **at(relay)), invoke("agent", "list", **at(relay))):
        assert "every tool of for-agents is allowed" in done.ok().out
    said = invoke("agent", "list", "--json", **at(relay)).ok().json
    assert [each["warnings"] for each in said["data"] if each["name"] == name] == [
        ["every tool of for-agents is allowed, also those that it grows later; so are its resources and prompts"]
    ]


@pytest.mark.parametrize(
    "words",
    [
        ["create", "a", "--tunnel", "for-agents", "--allow-everything", "elsewhere"],
        ["create", "a", "--resource", "stock://all"],
        ["allow", "a", "for-agents"],
        ["deny", "a", "for-agents"],
    ],
)
def test_what_names_nothing_that_is_there_is_wrong_usage(relay: Relay, tunnel: Tunnel, words: list[str]) -> None:
    assert invoke("agent", *words, **at(relay)).status == 2


def test_a_tool_cannot_be_denied_where_everything_is_allowed(relay: Relay, tunnel: Tunnel) -> None:
    agent = relay.agent("whole", tunnel, [])
    toolset = {"type": "mcp_toolset", "mcp_server_name": tunnel.name, "allow_everything": True}
    with relay.client() as client:
        client.post("agents", agent, body={"tools": [toolset]})

    done = invoke("agent", "deny", "whole", tunnel.name, "look", **at(relay))

    assert done.status == 1
    assert "list the tools instead" in done.err
    assert "warning: every tool of for-agents is allowed" in invoke("agent", "show", "whole", **at(relay)).ok().out


def test_two_agents_of_one_name_are_told_apart_by_their_ids(relay: Relay, tunnel: Tunnel) -> None:
    first, second = relay.agent("twin", tunnel, []), relay.agent("twin", tunnel, [])

    done = invoke("agent", "show", "twin", **at(relay))

    assert done.status == 1
    assert "2 agents have the name 'twin'" in done.err
    assert second in invoke("agent", "show", second, **at(relay)).ok().out
    invoke("agent", "archive", first, **at(relay)).ok()
    assert second in invoke("agent", "show", "twin", **at(relay)).ok().out


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["create", "a", "--tunnel", "nowhere"], "tunnel_not_found"),
        (["create", "a", "--tunnel", "inventory", "--allow", "*"], "wildcard_not_allowed"),
        (["show", "nobody"], "agent_not_found"),
        (["show", "stock", "--version", "99"], "agent_not_found"),
        (["allow", "stock", "elsewhere", "echo"], "server_not_found"),
        (["allow", "stock", "inventory", "not a tool"], "validation_error"),
        (["archive", "agent_0"], "agent_not_found"),
    ],
)
def test_a_refusal_keeps_its_code(words: list[str], code: str, scene: Scene) -> None:
    done = invoke("agent", *words, "--json", **at(scene.relay))

    assert (done.status, done.err) == (1, "")
    assert done.json["error"]["code"] == code
