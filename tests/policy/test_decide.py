"""The one question: nothing passes that nobody granted, and a list shows what a call may reach."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arrowslit.errors import CODES
from arrowslit.outcome import Outcome
from arrowslit.policy.decide import ALLOW, Allow, Deny, decide, may_see
from arrowslit.principal import Grant, Tenant
from arrowslit.protocol.jsonrpc import read
from arrowslit.protocol.lists import filter_lists
from arrowslit.protocol.mcp import Asked, peek
from arrowslit.tunnel import Server, Tunnel

TUNNEL = Tunnel("tnl_t", "t")
ACME = Tenant("acme")


def grant(*tools: str) -> Grant:
    return Grant("agent_1", "stock", 1, Server("inventory", "tnl_t"), frozenset(tools))


def asked(method: str, **params: object) -> Asked:
    body = {"jsonrpc": "2.0", "method": method, "params": params}
    return peek(read(json.dumps(body if method.startswith("notifications/") else body | {"id": 1}).encode()), [])


def denied(verdict: Allow | Deny) -> str:
    assert isinstance(verdict, Deny)
    assert CODES[verdict.code].outcome is Outcome.DENIED
    assert verdict.hint
    return verdict.code


def test_a_tool_that_was_granted_may_be_called() -> None:
    assert decide(grant("safe"), TUNNEL, ACME, asked("tools/call", name="safe")) is ALLOW


@pytest.mark.promise("P6")
def test_without_a_grant_no_tool_may_be_called() -> None:
    assert denied(decide(grant(), TUNNEL, ACME, asked("tools/call", name="safe"))) == "tool_not_allowed"


@pytest.mark.promise("P6")
@pytest.mark.parametrize(
    "name",
    [
        "safe ",
        " safe",
        "safe\n",
        "safe\u200b",
        "ѕafe",
        "ｓａｆｅ",
        "safe\0danger",
        "SAFE",
        "ſafe",
        "*",
        "saf?",
        "safe/*",
        "",
        "danger",
    ],
)
def test_a_name_that_only_looks_granted_is_not(name: str) -> None:  # AZ-11
    assert denied(decide(grant("safe"), TUNNEL, ACME, asked("tools/call", name=name))) == "tool_not_allowed"


@pytest.mark.promise("P6")
@pytest.mark.parametrize("pattern", ["*", "crm.*", "", "saf?"])
def test_a_grant_holds_names_and_no_patterns(pattern: str) -> None:  # AZ-14
    assert isinstance(decide(grant(pattern), TUNNEL, ACME, asked("tools/call", name="crm.read")), Deny)


@pytest.mark.promise("P6")
@pytest.mark.parametrize(
    "method",
    [
        "resources/list",
        "resources/read",
        "resources/subscribe",
        "resources/templates/list",
        "prompts/list",
        "prompts/get",
        "completion/complete",
        "tasks/get",
        "tasks/result",
        "tasks/cancel",
        "tasks/list",
        "sampling/createMessage",
        "elicitation/create",
        "roots/list",
        "unknown/x",
        "Tools/Call",
        "toolſ/call",
        "tools/call ",
        "tools/call\0",
        "tools//call",
        "notifications/unknown",
        "notifications/tools/list_changed",
    ],
)
def test_who_was_granted_tools_may_use_tools_alone(method: str) -> None:  # AZ-05, AZ-17, AZ-18
    verdict = decide(grant("safe"), TUNNEL, ACME, asked(method, name="safe", uri="file:///etc/passwd"))
    assert denied(verdict) == "method_not_allowed"


@pytest.mark.parametrize(
    "method",
    [
        "initialize",
        "ping",
        "logging/setLevel",
        "server/discover",
        "tools/list",
        "subscriptions/listen",
        "notifications/initialized",
        "notifications/cancelled",
        "notifications/progress",
        "notifications/roots/list_changed",
    ],
)
def test_what_a_client_needs_around_its_tools_passes(method: str) -> None:
    assert decide(grant(), TUNNEL, ACME, asked(method)) is ALLOW


LISTS = {f"{kind}ListChanged": True for kind in ("tools", "prompts", "resources")}
WIDER = replace(grant("safe"), resources=frozenset({"doc://one", "doc://by/{id}"}), prompts=frozenset({"report"}))


@pytest.mark.parametrize(
    "question",
    [
        asked("tools/call", name="safe"),
        asked("resources/list"),
        asked("resources/templates/list"),
        asked("prompts/list"),
        asked("resources/read", uri="doc://one"),
        asked("resources/read", uri="doc://by/7"),
        asked("resources/subscribe", uri="doc://by/New%20York"),
        asked("resources/unsubscribe", uri="doc://one"),
        asked("prompts/get", name="report"),
        asked("completion/complete", ref={"type": "ref/resource", "uri": "doc://by/{id}"}),
        asked("completion/complete", ref={"type": "ref/prompt", "name": "report", "title": "Report"}),
        asked("subscriptions/listen", notifications={"resourceSubscriptions": ["doc://one", "doc://by/7"]}),
        asked("subscriptions/listen", notifications=LISTS | {"resourceSubscriptions": ["doc://one"]}),
    ],
    ids=repr,
)
def test_resources_and_prompts_pass_by_name(question: Asked) -> None:
    assert decide(WIDER, TUNNEL, ACME, question) is ALLOW
    assert isinstance(decide(grant("safe"), TUNNEL, ACME, question), Deny) == (question.tool is None)


@pytest.mark.promise("P6")
@pytest.mark.parametrize(
    ("question", "code"),
    [
        (asked("resources/read", uri=uri), "resource_not_allowed")
        for uri in [
            "", "doc://two", "DOC://one", "doc://one ", "doc://one/", "doc://one#x", "doc://one?x", "doc://one\0",
            "doc://by/", "doc://by/a/b", "doc://by/..", "doc://by/.", "doc://by/%2e%2e", "doc://by/a%2Fb",
            "doc://by/%252F", "doc://by/a%5cb", "doc://by/a?b", "doc://by/%00", "doc://by/7/../8", "xdoc://by/7",
            "doc://by/7\n", "doc://by/{+id}", "doc://by/{id}", "doc://by/%c0%af", "doc://by/ｆ", "file:///etc/passwd",
        ]
    ]
    + [
        (asked("resources/read"), "resource_not_allowed"),
        (asked("subscriptions/listen", notifications={"resourceSubscriptions": ["doc://by/{id}"]}),
         "resource_not_allowed"),
        (asked("resources/subscribe", uri=["doc://one"]), "resource_not_allowed"),
        (asked("prompts/get", name="Report"), "prompt_not_allowed"),
        (asked("prompts/get", name="safe"), "prompt_not_allowed"),
        (asked("prompts/get"), "prompt_not_allowed"),
        (asked("tools/call", name="report"), "tool_not_allowed"),
        (asked("completion/complete", ref={"type": "ref/prompt", "name": "safe"}), "prompt_not_allowed"),
        (asked("completion/complete", ref={"type": "ref/resource", "uri": "doc://two"}), "resource_not_allowed"),
        (asked("completion/complete", ref={"type": "ref/prompt", "name": "report", "Name": "x"}), "method_not_allowed"),
        (asked("completion/complete", ref={"type": "ref/tool", "name": "report"}), "method_not_allowed"),
        (asked("completion/complete", ref={"type": "ref/prompt", "uri": "doc://one"}), "method_not_allowed"),
        (asked("completion/complete"), "method_not_allowed"),
        (asked("subscriptions/listen", notifications={"resourceSubscriptions": ["doc://one", "doc://two"]}),
         "resource_not_allowed"),
        (asked("subscriptions/listen", notifications={"taskIds": ["t"]}), "method_not_allowed"),
        (asked("subscriptions/listen", notifications={"toolsListChanged": True, "taskIds": []}), "method_not_allowed"),
        (asked("subscriptions/listen", notifications={"ResourceSubscriptions": ["doc://one"]}), "method_not_allowed"),
        (asked("subscriptions/listen", notifications={"resource_subscriptions": ["x"]}), "method_not_allowed"),
        (asked("subscriptions/listen", notifications={}, taskIds=["t"]), "method_not_allowed"),
        (asked("subscriptions/listen", taskIds=["t"]), "method_not_allowed"),
        (asked("tasks/get", taskId="t"), "method_not_allowed"),
        (asked("tasks/result", taskId="t"), "method_not_allowed"),
        (asked("resources/unknown", uri="doc://one"), "method_not_allowed"),
    ],
    ids=repr,
)  # fmt: skip
def test_what_nobody_named_of_resources_and_prompts_is_refused(question: Asked, code: str) -> None:
    assert denied(decide(WIDER, TUNNEL, ACME, question)) == code


def test_a_server_that_was_granted_whole_answers_whatever_it_is_asked() -> None:
    whole = replace(grant(), everything=True)
    for method in ("tools/call", "resources/read", "prompts/get", "completion/complete", "tasks/get", "vendor/own"):
        assert decide(whole, TUNNEL, ACME, asked(method, name="anything")) is ALLOW
    assert decide(whole, TUNNEL, ACME, asked("subscriptions/listen", notifications={"taskIds": ["t"]})) is ALLOW
    assert denied(decide(whole, TUNNEL, None, asked("ping"))) == "tenant_required"


@pytest.mark.promise("P7")
@pytest.mark.parametrize(
    "question", [asked("tools/call", name="safe"), asked("ping"), asked("notifications/progress"), None]
)
def test_a_caller_without_a_tenant_needs_a_tunnel_that_does_without(question: Asked | None) -> None:
    assert denied(decide(grant("safe"), TUNNEL, None, question)) == "tenant_required"
    assert decide(grant("safe"), Tunnel("tnl_t", "t", tenant_optional=True), None, question) is ALLOW


@pytest.mark.promise("P6")
def test_a_tunnel_without_tenants_grants_no_tool() -> None:
    optional = Tunnel("tnl_t", "t", tenant_optional=True)
    assert denied(decide(grant("safe"), optional, None, asked("tools/call", name="danger"))) == "tool_not_allowed"


def test_a_refusal_sounds_as_if_the_tool_did_not_exist() -> None:
    verdict = decide(grant("safe"), TUNNEL, ACME, asked("tools/call", name="danger"))
    assert isinstance(verdict, Deny)
    assert verdict.message == "Unknown tool: danger"


def test_a_refusal_repeats_a_name_so_that_no_terminal_minds() -> None:
    verdict = decide(grant(), TUNNEL, ACME, asked("tools/call", name="\x1b[2J\u202e\n" + "x" * 500))
    assert isinstance(verdict, Deny)
    assert verdict.message.startswith("Unknown tool: \ufffd[2J\ufffd\ufffdxxx")
    assert verdict.message.isprintable()
    assert len(verdict.message) < 150


tools = st.sampled_from(["safe", "danger", "SAFE", "safe ", "ſafe", "crm.read"]) | st.text(
    st.characters(codec="utf-8"), min_size=1, max_size=6
)


@pytest.mark.promise("P6")
@given(st.frozensets(tools, max_size=4), st.lists(tools, min_size=1, max_size=8))
def test_a_list_shows_exactly_what_a_call_may_reach(granted: frozenset[str], offered: list[str]) -> None:  # AZ-02
    allowed = grant(*granted)
    answer = json.dumps({"jsonrpc": "2.0", "id": 1, "result": {"tools": [{"name": name} for name in offered]}})
    shown = json.loads(filter_lists(answer.encode(), lambda kind, name, _: may_see(allowed, kind, name)))["result"][
        "tools"
    ]
    callable_ = [name for name in offered if decide(allowed, TUNNEL, ACME, asked("tools/call", name=name)) is ALLOW]
    assert [tool["name"] for tool in shown] == callable_
