"""What a model is offered, and under which names."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arrowslit.agent import SANDBOX_TOOLS, Builtin, CustomTool, Permission, ToolRule
from arrowslit.agents.servers.tool import ToolDefinition
from arrowslit.agents.sessions.state import CallKind
from arrowslit.agents.turns.offer import Offer, meant, offer, shown_name
from arrowslit.agents.turns.sandbox_tools import SANDBOX
from tests.agents.tale import CHECK_STOCK, DEFINITION, DROP_TABLE, ORDER, STOCK

LISTED = {"internal": [CHECK_STOCK, DROP_TABLE, ORDER]}
SAFE = re.compile(r"[a-zA-Z0-9_-]{1,64}")


def names(offered: Offer) -> list[str]:
    return [tool.shown for tool in offered.tools]


def test_what_the_definition_enables_is_offered_with_the_servers_own_description() -> None:
    offered = offer(DEFINITION, LISTED, sandbox=True)

    assert names(offered) == [*SANDBOX_TOOLS, "notify", "internal__check_stock", "internal__order"]
    check = offered.find("internal__check_stock")
    assert check is not None
    assert (check.server, check.name, check.permission) == ("internal", "check_stock", Permission.ALWAYS_ALLOW)
    assert check.definition() == {
        "name": "internal__check_stock",
        "description": "Look stock up.",
        "input_schema": {"type": "object", "properties": {}},
    }


@pytest.mark.promise("P6")
def test_a_tool_that_the_server_grew_or_that_the_session_does_not_enable_is_not_offered() -> None:
    grown = {"internal": [*LISTED["internal"], ToolDefinition("delete_all", "New here.", {"type": "object"})]}

    offered = offer(DEFINITION, grown, sandbox=True)

    assert offered.find("internal__delete_all") is None
    assert offered.find("internal__drop_table") is None


@pytest.mark.promise("P6")
def test_a_rule_alone_offers_nothing_that_the_gate_does_not_list() -> None:
    assert names(offer(replace(DEFINITION, builtin=None, custom=()), {"internal": []}, sandbox=True)) == []


def test_without_an_environment_the_sandbox_is_not_offered() -> None:
    assert not set(names(offer(DEFINITION, LISTED, sandbox=False))) & set(SANDBOX_TOOLS)


def test_a_disabled_sandbox_tool_is_not_offered() -> None:
    builtin = Builtin(rules=(ToolRule("bash", False),))

    offered = offer(replace(DEFINITION, builtin=builtin), LISTED, sandbox=True)

    assert offered.find("bash") is None
    assert offered.find("read") is not None


def test_a_server_granted_whole_is_offered_whole_and_asks_as_its_toolset_says() -> None:
    whole = replace(STOCK, rules=(), everything=True, permission=Permission.ALWAYS_ASK)

    offered = offer(replace(DEFINITION, toolsets=(whole,)), LISTED, sandbox=False)

    drop = offered.find("internal__drop_table")
    assert drop is not None
    assert drop.permission is Permission.ALWAYS_ASK


def test_a_server_that_could_not_be_asked_is_missing() -> None:
    offered = offer(DEFINITION, {}, sandbox=False)

    assert offered.missing == ("internal",)
    assert names(offered) == ["notify"]


def test_a_server_of_which_nothing_is_enabled_is_not_missed() -> None:
    disabled = replace(STOCK, rules=(ToolRule("drop_table", False),))

    assert offer(replace(DEFINITION, toolsets=(disabled,)), {}, sandbox=False).missing == ()


def test_two_tools_of_one_name_are_told_apart() -> None:
    custom = (CustomTool("bash", "Mine.", {"type": "object"}), CustomTool("internal__order", "Mine.", {}))

    offered = offer(replace(DEFINITION, custom=custom), LISTED, sandbox=True)

    found = names(offered)
    assert len(set(found)) == len(found) == len(SANDBOX_TOOLS) + 4
    assert [offered.find(name) for name in found] == list(offered.tools)


@pytest.mark.parametrize(
    ("server", "name"), [("a.b", "x/y"), ("s" * 200, "t" * 100), ("a__b", "c"), ("a_", "b"), ("a", "_b"), ("ü", "")]
)
def test_a_name_that_the_model_api_would_refuse_is_made_safe(server: str, name: str) -> None:
    assert SAFE.fullmatch(shown_name(CallKind.MCP, server, name))


part = st.text(st.sampled_from("ab_.-"), min_size=1, max_size=6)


@given(part, part, part, part)
def test_different_tools_have_different_names(server: str, name: str, other_server: str, other_name: str) -> None:
    if (server, name) != (other_server, other_name):
        assert shown_name(CallKind.MCP, server, name) != shown_name(CallKind.MCP, other_server, other_name)


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        ("internal__drop_table", (CallKind.MCP, "internal", "drop_table")),
        ("elsewhere__drop_table", (CallKind.SANDBOX, None, "elsewhere__drop_table")),
        ("rm", (CallKind.SANDBOX, None, "rm")),
    ],
)
def test_a_name_that_was_not_offered_is_reported_as_what_it_resembles(
    shown: str, expected: tuple[CallKind, str | None, str]
) -> None:
    assert meant(DEFINITION, shown) == expected


def test_every_sandbox_tool_is_described_and_bash_says_how_to_raise_a_dead_shell() -> None:
    assert tuple(SANDBOX) == SANDBOX_TOOLS
    assert '{"restart": true}' in SANDBOX["bash"].description
