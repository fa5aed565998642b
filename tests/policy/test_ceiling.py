"""The ceiling: the owner of the connector's machine decides, whatever the relay says."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arrowslit.errors import Error
from arrowslit.outcome import Effect
from arrowslit.policy.ceiling import OPEN, Ceiling, of_tools, parse
from arrowslit.policy.decide import ALLOW, Allow, Deny, may_see
from arrowslit.protocol.jsonrpc import read
from arrowslit.protocol.lists import filter_lists
from arrowslit.protocol.mcp import Asked, peek

STOCK = parse('tools = ["check_stock"]\ntenants = ["acme", "globex"]\n')


def asked(method: str = "tools/call", *, meta: dict[str, object] | None = None, **params: object) -> Asked:
    body: dict[str, object] = {"jsonrpc": "2.0", "method": method, "params": params | ({"_meta": meta} if meta else {})}
    return peek(read(json.dumps(body if method.startswith("notifications/") else body | {"id": 1}).encode()), [])


def tenant(name: object) -> dict[str, object]:
    """`_meta` as the relay writes it."""
    return {"dev.arrowslit/tenant": name, "tenant": name}


def denied(verdict: Allow | Deny) -> bool:
    if isinstance(verdict, Deny):
        assert verdict.code == "denied_by_ceiling"
    return isinstance(verdict, Deny)


# ---------------------------------------------------------------- what passes


@pytest.mark.promise("P6")
def test_a_tool_needs_the_ceiling_whatever_the_relay_granted() -> None:
    assert STOCK.decide(asked(name="check_stock", meta=tenant("acme"))) is ALLOW
    assert denied(STOCK.decide(asked(name="adjust_stock", meta=tenant("acme"))))
    assert denied(STOCK.decide(asked(name="Check_Stock", meta=tenant("acme"))))


@pytest.mark.promise("P7")
@pytest.mark.parametrize(
    "meta",
    [
        tenant("initech"),
        tenant("ACME"),
        tenant("acme "),
        tenant(None),
        tenant(1),
        tenant(["acme"]),
        {"x/y": "acme"},
        None,
        {"dev.arrowslit/tenant": "acme", "tenant": "initech"},
        {"dev.arrowslit/tenant": "initech", "tenant": "acme"},
        {"dev.arrowslit/tenant": "acme", "Tenant": "initech"},
        {"dev.arrowslit/tenant": "acme", "dev.arrowslit/tenant\u200b": "initech"},
    ],
)
def test_a_relay_that_was_taken_over_reaches_no_further_tenant(meta: dict[str, object] | None) -> None:
    assert denied(STOCK.decide(asked(name="check_stock", meta=meta)))


@pytest.mark.promise("P6")
@pytest.mark.parametrize(
    "method", ["resources/read", "prompts/get", "completion/complete", "tasks/result", "Tools/Call"]
)
@pytest.mark.parametrize("ceiling", [STOCK, of_tools(["check_stock"]), parse('tools = ["*"]\ntenants = ["*"]')])
def test_with_a_ceiling_only_tools_are_reached(ceiling: Ceiling, method: str) -> None:
    assert denied(ceiling.decide(asked(method, meta=tenant("acme"), name="check_stock")))


@pytest.mark.promise("P6")
def test_resources_and_prompts_pass_by_name() -> None:
    ceiling = parse('resources = ["stock://catalogue", "stock://{sku}"]\nprompts = ["report"]\ntenants = ["*"]')
    for passing in (
        asked("resources/list"),
        asked("resources/read", uri="stock://BOLT8"),
        asked("prompts/get", name="report"),
        asked("completion/complete", ref={"type": "ref/resource", "uri": "stock://{sku}"}),
    ):
        assert ceiling.decide(passing) is ALLOW
    for refused in (
        asked("resources/read", uri="stock://a/b"),
        asked("prompts/get", name="Report"),
        asked("completion/complete", ref={"type": "ref/prompt", "name": "other"}),
        asked("tasks/get", taskId="t"),
        asked(name="check_stock"),
    ):
        assert denied(ceiling.decide(refused))


def test_stars_for_all_that_a_server_offers_let_any_method_through() -> None:
    stars = 'tools = ["*"]\nresources = ["*"]\nprompts = ["*"]\n'
    assert parse(stars + 'tenants = ["*"]').decide(asked("tasks/get")) is ALLOW
    assert denied(parse(stars).decide(asked("tasks/get")))


@pytest.mark.parametrize("method", ["notifications/initialized", "notifications/cancelled"])
def test_a_notification_needs_no_tenant(method: str) -> None:
    assert STOCK.decide(asked(method)) is ALLOW


def test_a_posted_response_passes() -> None:
    message = read(b'{"jsonrpc":"2.0","id":1,"result":{}}')
    assert STOCK.decide(peek(message, [("mcp-session-id", "s")])) is ALLOW


@pytest.mark.promise("P7")
def test_absent_tools_and_tenants_let_none_through() -> None:
    assert denied(parse('tenants = ["*"]').decide(asked(name="check_stock", meta=tenant("acme"))))
    assert denied(parse('tools = ["*"]').decide(asked(name="check_stock", meta=tenant("acme"))))
    assert denied(parse('tools = ["*"]').decide(asked("tools/list", meta=tenant("acme"))))


def test_a_star_lets_any_through_a_caller_without_a_tenant_too() -> None:
    anything = parse('tools = ["*"]\ntenants = ["*"]')
    assert anything.decide(asked(name="adjust_stock", meta=tenant("initech"))) is ALLOW
    assert anything.decide(asked(name="adjust_stock")) is ALLOW
    assert anything.allows("whatever")


def test_allow_limits_tools_and_not_tenants() -> None:
    ceiling = of_tools(["check_stock", "list_stock"])
    assert ceiling.decide(asked(name="list_stock", meta=tenant("anybody"))) is ALLOW
    assert ceiling.decide(asked(name="list_stock")) is ALLOW
    assert denied(ceiling.decide(asked(name="adjust_stock", meta=tenant("anybody"))))


def test_without_a_ceiling_everything_passes_as_the_relay_grants_it() -> None:
    assert not OPEN.limits
    assert OPEN.decide(asked("resources/read", uri="x")) is ALLOW
    assert OPEN.decide(asked(name="adjust_stock")) is ALLOW
    assert OPEN.allows("adjust_stock")
    assert OPEN.summary() == {"ceiling": "none"}


names = st.sampled_from(["check_stock", "adjust_stock", "Check_Stock", "*", "a"])


@pytest.mark.promise("P6")
@given(st.frozensets(names.filter(lambda name: name != "*"), min_size=1), st.lists(names, min_size=1, max_size=6))
def test_a_list_shows_exactly_what_the_ceiling_lets_through(allowed: frozenset[str], offered: list[str]) -> None:
    ceiling = of_tools(allowed)
    answer = json.dumps({"id": 1, "result": {"tools": [{"name": name} for name in offered]}}).encode()
    shown = json.loads(filter_lists(answer, lambda kind, name, _: may_see(ceiling, kind, name)))["result"]["tools"]
    passing = [name for name in offered if ceiling.decide(asked(name=name)) is ALLOW]
    assert [tool["name"] for tool in shown] == passing


# ---------------------------------------------------------------- the file


def test_a_file_says_all_that_can_be_said() -> None:
    ceiling = parse(
        """
        tools = ["check_stock", "adjust_stock"]   # exact names
        tenants = ["acme"]
        resources = ["stock://catalogue"]
        prompts = ["*"]
        hosts = ["db.internal:8443", "[FD00::1]:80"]
        read_only = ["check_stock"]
        idempotent = ["check_stock", "set_stock"]
        """
    )
    assert ceiling.limits
    assert ceiling.summary() == {
        "ceiling": "file",
        "tools": ["adjust_stock", "check_stock"],
        "resources": ["stock://catalogue"],
        "prompts": ["*"],
        "tenants": ["acme"],
        "hosts": ["[fd00::1]:80", "db.internal:8443"],
        "read_only": ["check_stock"],
        "idempotent": ["check_stock", "set_stock"],
    }


def test_a_tool_writes_unless_its_operator_declared_otherwise() -> None:
    ceiling = parse('tools = ["*"]\nread_only = ["a", "b"]\nidempotent = ["b", "c"]')
    effects = {tool: ceiling.effect(tool) for tool in "abcd"}
    assert effects == {"a": Effect.READ_ONLY, "b": Effect.READ_ONLY, "c": Effect.IDEMPOTENT, "d": Effect.WRITE}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "empty"),
        ("\n  # nothing yet\n", "empty"),
        ('tool = ["a"]', "unknown key tool"),
        ('tools = ["a"]\nTools = ["b"]', "unknown key Tools"),
        ('[ceiling]\ntools = ["a"]', "unknown key ceiling"),
        ('tools = "a"', "tools is not a list"),
        ("tools = true", "tools is not a list"),
        ("tenants = {acme = true}", "tenants is not a list"),
        ('tools = ["a", 1]', "not text"),
        ('tools = [["a"]]', "not text"),
        ('tools = ["crm.*"]', "pattern"),
        ('tools = ["*", "a"]', "pattern"),
        ('tools = [""]', "tools"),
        ('tools = ["a b"]', "tools"),
        ('tenants = ["*", "acme"]', "tenants"),
        ('tenants = [" acme"]', "tenants"),
        ('read_only = ["*"]', "pattern"),
        ('resources = ["stock://*"]', "pattern"),
        ('resources = ["catalogue"]', "resources"),
        ('prompts = [" report"]', "prompts"),
        ('hosts = ["*"]', "host:port"),
        ('hosts = ["db.internal"]', "host:port"),
        ('hosts = ["http://db.internal:80"]', "host:port"),
        ('tools = ["a"]\ntools = ["b"]', "not TOML"),
        ('tools = ["a"', "not TOML"),
        ("{}", "not TOML"),
        ("tools = " + "[" * 5000, "not TOML"),
    ],
)
def test_a_file_that_does_not_say_clearly_what_is_meant_starts_nothing(text: str, said: str) -> None:
    with pytest.raises(Error) as error:
        parse(text)
    assert error.value.code == "ceiling_invalid"
    assert said in error.value.message
    assert error.value.hint


@given(st.text())
def test_any_text_is_a_ceiling_or_an_error(text: str) -> None:
    try:
        parse(text)
    except Error as error:
        assert error.code == "ceiling_invalid"


@pytest.mark.parametrize("tools", [[], [""], ["*"], ["a", "b*"], ["a b"]])
def test_allow_takes_names_alone(tools: list[str]) -> None:
    with pytest.raises(Error) as error:
        of_tools(tools)
    assert error.value.code == "ceiling_invalid"
