from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest

from arrowslit.agent import Builtin, CustomTool, Definition, Permission, ToolRule, Toolset
from arrowslit.agents.api.definitions import snapshot
from arrowslit.agents.api.narrowing import narrowed
from arrowslit.agents.api.schema import NarrowerBody
from arrowslit.errors import Error
from arrowslit.outcome import Effect
from arrowslit.tunnel import Server

ALLOW, ASK, AUTO = Permission.ALWAYS_ALLOW, Permission.ALWAYS_ASK, Permission.AUTO
SCHEMA: dict[str, object] = {"type": "object", "properties": {"sku": {"type": "string"}}}
REORDER = {"type": "custom", "name": "reorder", "description": "Orders more.", "input_schema": SCHEMA}
STOCK = Toolset(
    Server("stock", "tnl_stock"),
    "https://stock.tunnel.localhost/mcp",
    (
        ToolRule("check_stock", True, ALLOW, Effect.READ_ONLY),
        ToolRule("adjust_stock", True, ASK),
        ToolRule("drop_stock", False, ASK),
    ),
    deadline=5.0,
)
WIKI = Toolset(Server("wiki", "tnl_wiki"), "https://wiki.tunnel.localhost/mcp", everything=True)
AGENT = Definition(
    "assistant",
    {"id": "claude-opus-5-5", "speed": "standard"},
    system="Be brief.",
    toolsets=(STOCK, WIKI),
    builtin=Builtin(rules=(ToolRule("bash", True, ASK), ToolRule("write", False))),
    custom=(CustomTool("reorder", "Orders more.", SCHEMA),),
)


def body(**fields: object) -> NarrowerBody:
    return msgspec.convert(fields, NarrowerBody)


def stock(**fields: object) -> dict[str, object]:
    return {"type": "mcp_toolset", "mcp_server_name": "stock", **fields}


def wiki(**fields: object) -> dict[str, object]:
    return {"type": "mcp_toolset", "mcp_server_name": "wiki", **fields}


def tool(name: str, policy: str = "always_ask", **fields: object) -> dict[str, object]:
    return {"name": name, "enabled": True, "permission_policy": {"type": policy}, **fields}


def sandbox(**fields: object) -> dict[str, object]:
    return {"type": "agent_toolset_20260401", **fields}


def test_a_session_that_says_nothing_has_what_its_agent_has() -> None:
    assert narrowed(AGENT, body()) == AGENT


def test_a_session_may_rephrase_its_agent() -> None:
    session = narrowed(AGENT, body(system="Be kind.", model="claude-haiku"))

    assert (session.system, session.model["id"]) == ("Be kind.", "claude-haiku")
    assert session.toolsets == AGENT.toolsets
    assert narrowed(AGENT, body(system=None)).system is None


def test_the_tools_that_an_agent_shows_are_what_it_was_granted() -> None:
    shown = snapshot(AGENT, "agent_1", 1)

    assert narrowed(AGENT, body(tools=shown["tools"], mcp_servers=shown["mcp_servers"])) == AGENT


def test_a_session_may_use_less_and_ask_more() -> None:
    session = narrowed(
        AGENT,
        body(
            tools=[
                stock(configs=[tool("check_stock")], deadline_ms=1000),
                sandbox(default_config={"enabled": False}, configs=[tool("bash")]),
            ]
        ),
    )

    assert session.toolsets == (
        replace(STOCK, rules=(ToolRule("check_stock", True, ASK, Effect.READ_ONLY),), deadline=1.0),
    )
    assert session.builtin is not None
    assert session.builtin.tools() == {"bash": ASK}
    assert session.custom == ()


def test_a_session_may_leave_out_a_server_by_name() -> None:
    session = narrowed(AGENT, body(mcp_servers=[{"type": "url", "name": "stock", "url": STOCK.url + "/"}]))

    assert session.toolsets == (STOCK,)
    assert session.builtin == AGENT.builtin


def test_of_a_whole_server_a_session_may_name_some_tools() -> None:
    session = narrowed(AGENT, body(tools=[wiki(configs=[tool("search"), {"name": "edit"}])]))

    assert [(rule.name, rule.enabled) for rule in session.toolsets[0].rules] == [("search", True), ("edit", False)]
    assert not session.toolsets[0].everything


def test_a_session_with_the_whole_server_asks_at_least_what_the_agent_asks() -> None:
    granted = replace(AGENT, toolsets=(replace(WIKI, permission=ALLOW, rules=(ToolRule("edit", True, ASK),)),))

    session = narrowed(granted, body(tools=[wiki(allow_everything=True, configs=[tool("search", "always_allow")])]))

    assert [(rule.name, rule.permission) for rule in session.toolsets[0].rules] == [("search", ALLOW), ("edit", ASK)]


def test_a_session_that_was_narrowed_may_go_back_to_what_its_agent_has() -> None:
    less = narrowed(AGENT, body(system="Be kind.", tools=[stock(configs=[tool("check_stock")])]))

    more = narrowed(AGENT, body(tools=[stock(configs=[tool("adjust_stock")])]), less)

    assert more.system == "Be kind."
    assert [rule.name for rule in more.toolsets[0].rules] == ["adjust_stock"]


@pytest.mark.promise("P6")
@pytest.mark.parametrize(
    "fields",
    [
        {"mcp_servers": [{"type": "url", "name": "other", "url": STOCK.url}]},
        {"mcp_servers": [{"type": "url", "name": "stock", "url": WIKI.url}]},
        {"tools": [stock(mcp_server_name="other")]},
        {"tools": [stock(configs=[tool("grow_stock")])]},
        {"tools": [stock(configs=[tool("drop_stock")])]},
        {"tools": [stock(configs=[tool("adjust_stock", "always_allow")])]},
        {"tools": [stock(configs=[tool("adjust_stock", "auto")])]},
        {"tools": [stock(configs=[tool("adjust_stock", effect="idempotent")])]},
        {"tools": [stock(allow_everything=True)]},
        {"tools": [stock(resources=["stock://all"])]},
        {"tools": [stock(prompts=["report"])]},
        {"tools": [stock(deadline_ms=5001)]},
        {"tools": [wiki(configs=[tool("search", "always_allow")])]},
        {"tools": [wiki(allow_everything=True, default_config={"permission_policy": {"type": "always_allow"}})]},
        {"tools": [sandbox()]},  # bash without asking, and write
        {"tools": [sandbox(configs=[tool("bash"), tool("write")])]},
        {"tools": [{**REORDER, "name": "transfer"}]},
        {"tools": [{**REORDER, "input_schema": {"type": "object"}}]},
    ],
)
def test_a_session_gets_no_more_than_its_agent(fields: dict[str, object]) -> None:
    with pytest.raises(Error) as refused:
        narrowed(AGENT, body(**fields))

    assert refused.value.code == "not_granted"


def test_an_agent_without_a_sandbox_gives_its_sessions_none() -> None:
    with pytest.raises(Error, match="not_granted"):
        narrowed(replace(AGENT, builtin=None), body(tools=[sandbox(configs=[tool("bash")])]))


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"skills": [{"type": "custom"}]}, "not_supported"),
        ({"tools": [stock(default_config={"enabled": True})]}, "wildcard_not_allowed"),
        ({"tools": [stock(), stock()]}, "validation_error"),
        ({"mcp_servers": [{"type": "url", "name": "stock", "url": STOCK.url}] * 2}, "validation_error"),
    ],
)
def test_a_session_that_makes_no_sense_is_refused(fields: dict[str, object], code: str) -> None:
    with pytest.raises(Error) as refused:
        narrowed(AGENT, body(**fields))

    assert refused.value.code == code
