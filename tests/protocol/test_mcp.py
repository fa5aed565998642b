"""What a gateway knows of MCP: which message asks for what, and whose facts a server sees."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcp.shared.inbound import InboundLadderRejection, InboundModernRoute, classify_inbound_request, encode_header_value

from arrowslit.errors import CODES
from arrowslit.protocol.jsonrpc import Kind, Refused, read, write
from arrowslit.protocol.mcp import Asked, Era, peek, routing_headers, stamp

VERSION = "io.modelcontextprotocol/protocolVersion"
CAPABILITIES = "io.modelcontextprotocol/clientCapabilities"
SESSION = {"mcp-session-id": "92ffbfcf", "mcp-protocol-version": "2025-11-25"}
FACTS = {"tenant": "acme", "call-id": "call_1"}
ALIASES = {"tenant": "tenant"}

Sent = dict[str, str]


def ask(body: bytes | dict[str, Any], headers: Sent | None = None) -> Asked:
    return peek(read(body if isinstance(body, bytes) else json.dumps(body).encode()), list((headers or {}).items()))


def call(name: object = "check_stock", **params: object) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 3, "method": "tools/call", "params": {"name": name} | params}


def modern(body: dict[str, Any], version: object = "2026-07-28") -> dict[str, Any]:
    meta = body.get("params", {}).get("_meta", {}) | {VERSION: version, CAPABILITIES: {}}
    return body | {"params": body.get("params", {}) | {"_meta": meta}}


MIRRORS = {"mcp-protocol-version": "2026-07-28", "mcp-method": "tools/call", "mcp-name": "check_stock"}


def refusal(body: bytes | dict[str, Any], headers: Sent | None = None) -> str:
    with pytest.raises(Refused) as refused:
        ask(body, headers)
    assert refused.value.code in CODES
    return refused.value.code


# ---------------------------------------------------------------- what is asked


@pytest.mark.parametrize(
    ("client", "body", "headers", "expected"),
    [
        (
            "mcp 1.30",
            (
                b'{"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},'
                b'"clientInfo":{"name":"mcp","version":"0.1.0"}},"jsonrpc":"2.0","id":0}'
            ),
            {},
            (Era.LEGACY, "initialize", None, None),
        ),
        (
            "mcp 1.30",
            b'{"method":"notifications/initialized","jsonrpc":"2.0"}',
            SESSION,
            (Era.LEGACY, "notifications/initialized", None, None),
        ),
        (
            "mcp 1.30",
            b'{"method":"tools/list","params":{"cursor":"x"},"jsonrpc":"2.0","id":3}',
            SESSION,
            (Era.LEGACY, "tools/list", None, None),
        ),
        (
            "mcp 1.30",
            '{"method":"tools/call","params":{"name":"prög","arguments":{},"_meta":{"progressToken":4}},'
            '"jsonrpc":"2.0","id":4}'.encode(),
            SESSION,
            (Era.LEGACY, "tools/call", "prög", 4),
        ),
        (
            "mcp 2.3 legacy",
            b'{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"echo"}}',
            SESSION,
            (Era.LEGACY, "tools/call", "echo", None),
        ),
        (
            "mcp 2.3 legacy",
            b'{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":5,"reason":"timed out"}}',
            SESSION,
            (Era.LEGACY, "notifications/cancelled", None, None),
        ),
        (
            "mcp 2.3",
            (
                b'{"jsonrpc":"2.0","id":1,"method":"server/discover","params":{"_meta":{"io.modelcontextprotocol/'
                b'protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"mcp","version":"0.1.0"},'
                b'"io.modelcontextprotocol/clientCapabilities":{}}}}'
            ),
            {"mcp-protocol-version": "2026-07-28", "mcp-method": "server/discover"},
            (Era.MODERN, "server/discover", None, None),
        ),
        (
            "fastmcp 4",
            '{"jsonrpc":"2.0","id":4,"method":"tools/call","params":{"name":"prög","arguments":{},"_meta":{"io.model'
            'contextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"mcp",'
            '"version":"0.1.0"},"io.modelcontextprotocol/clientCapabilities":{},"io.modelcontextprotocol/logLevel":'
            '"debug","progressToken":4}}}'.encode(),
            {"mcp-protocol-version": "2026-07-28", "mcp-method": "tools/call", "mcp-name": "=?base64?cHLDtmc=?="},
            (Era.MODERN, "tools/call", "prög", 4),
        ),
    ],
)
def test_what_real_clients_send_is_understood(
    client: str, body: bytes, headers: Sent, expected: tuple[Era, str, str | None, int | None]
) -> None:
    asked = ask(body, headers)
    assert (asked.era, asked.method, asked.tool, asked.progress_token) == expected, client


@pytest.mark.promise("P6")
@pytest.mark.parametrize(
    ("case", "body", "code"),
    [
        ("AZ-09", {"jsonrpc": "2.0", "method": "tools/call", "params": {"name": "safe"}}, "id_required"),
        ("AZ-09 list", {"jsonrpc": "2.0", "method": "tools/list"}, "id_required"),
        ("AZ-09 unknown", {"jsonrpc": "2.0", "method": "unknown/x"}, "id_required"),
        ("AZ-08", {"jsonrpc": "2.0", "id": 1, "result": {}}, "unexpected_response"),
        ("AZ-08 error", {"jsonrpc": "2.0", "id": 1, "error": {"code": 1, "message": ""}}, "unexpected_response"),
        ("notification with an id", {"jsonrpc": "2.0", "id": 1, "method": "notifications/progress"}, "invalid_request"),
        ("AZ-12 list", call(["safe"]), "arguments_invalid"),
        ("AZ-12 object", call({"x": 1}), "arguments_invalid"),
        ("AZ-12 number", call(5), "arguments_invalid"),
        ("AZ-12 null", call(None), "arguments_invalid"),
        ("AZ-12 no name", {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {}}, "arguments_invalid"),
        ("AZ-12 no params", {"jsonrpc": "2.0", "id": 1, "method": "tools/call"}, "arguments_invalid"),
        ("arguments as null", call(arguments=None), "arguments_invalid"),
        ("arguments as a list", call(arguments=[]), "arguments_invalid"),
        ("arguments as text", call(arguments="{}"), "arguments_invalid"),
    ],
)
def test_what_is_no_proper_question_is_refused(case: str, body: dict[str, Any], code: str) -> None:
    assert refusal(body) == code, case


@pytest.mark.parametrize(
    "name", ["safe ", " safe", "safe\n", "safe\u200b", "ѕafe", "ｓａｆｅ", "safe\0danger", "SAFE", ""]
)
@pytest.mark.promise("P6")
def test_the_name_of_a_tool_is_never_normalised(name: str) -> None:
    assert ask(call(name)).tool == name  # AZ-11: policy compares exactly this


def test_a_response_belongs_to_a_session_of_the_legacy_era() -> None:
    answer = {"jsonrpc": "2.0", "id": "server-1", "result": {"roots": []}}
    asked = ask(answer, SESSION)
    assert (asked.method, asked.era, asked.message.kind) == (None, Era.LEGACY, Kind.RESPONSE)
    assert refusal(answer, SESSION | {"mcp-protocol-version": "2026-07-28"}) == "unexpected_response"


@pytest.mark.parametrize(
    ("token", "expected"), [(7, 7), ("7", "7"), (7.0, None), (True, None), (None, None), ([1], None)]
)
def test_a_progress_token_is_a_number_or_text(token: object, expected: object) -> None:
    assert ask(call(_meta={"progressToken": token})).progress_token == expected


# ---------------------------------------------------------------- deadlines


@pytest.mark.promise("P2")
def test_a_deadline_comes_from_the_body_or_else_from_the_header() -> None:
    assert ask(call()).deadline_ms is None
    assert ask(call(), {"arrowslit-deadline-ms": "1500"}).deadline_ms == 1500
    asked = ask(call(_meta={"dev.arrowslit/deadline-ms": 2500}), {"arrowslit-deadline-ms": "1500"})
    assert asked.deadline_ms == 2500


@pytest.mark.parametrize("value", [0, -1, 3_600_001, 1.0, "1000", True, None, [], 2**63])
def test_what_is_no_deadline_in_the_body_is_refused(value: object) -> None:
    assert refusal(call(_meta={"dev.arrowslit/deadline-ms": value})) == "deadline_invalid"


@pytest.mark.parametrize("value", ["0", "-1", "", "1.0", "1e3", "3600001", "0x10", "１０", " 5", "9" * 5000])
def test_what_is_no_deadline_in_the_header_is_refused(value: str) -> None:
    assert refusal(call(), {"arrowslit-deadline-ms": value}) == "deadline_invalid"


# ---------------------------------------------------------------- headers that repeat the body


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (modern(call()), MIRRORS | {"mcp-name": "danger"}),
        (modern(call()), MIRRORS | {"mcp-method": "tools/list"}),
        (modern(call()), MIRRORS | {"mcp-method": "Tools/Call"}),
        (modern(call()), MIRRORS | {"mcp-protocol-version": "2025-11-25"}),
        (modern(call(), "2026-07-29"), MIRRORS),
        (modern(call(), 20260728), MIRRORS),
        (modern(call()), {"mcp-protocol-version": "2026-07-28", "mcp-method": "tools/call"}),
        (modern(call()), {"mcp-protocol-version": "2026-07-28", "mcp-name": "check_stock"}),
        (modern(call()), {"mcp-method": "tools/call", "mcp-name": "check_stock"}),
        (modern(call()), MIRRORS | {"mcp-name": "=?base64?%?="}),
        (modern(call()), MIRRORS | {"mcp-name": "=?base64?Y2hlY2tfc3RvY2t=?="}),
        (modern(call("é")), MIRRORS | {"mcp-name": "é"} | {"mcp-name": "=?base64?6Q==?="}),
        (call(), SESSION | {"mcp-name": "danger"}),
        (call(), SESSION | {"mcp-method": "tools/list"}),
        (call(), {"mcp-name": "danger"}),
    ],
)
def test_a_header_that_says_another_thing_than_the_body_is_refused(body: dict[str, Any], headers: Sent) -> None:
    assert refusal(body, headers) == "header_mismatch"


@pytest.mark.parametrize("name", ["check_stock", "prög", " edge ", "=?base64?eA==?=", "a\tb", "日本"])
def test_a_name_that_no_header_can_hold_is_compared_unwrapped(name: str) -> None:
    assert ask(modern(call(name)), MIRRORS | {"mcp-name": encode_header_value(name)}).tool == name
    wrapped = base64.b64encode(name.encode()).decode()
    assert ask(modern(call(name)), MIRRORS | {"mcp-name": f"=?base64?{wrapped}?="}).tool == name


@pytest.mark.parametrize("name", ["mcp-name", "mcp-method", "mcp-session-id", "mcp-param-x", "arrowslit-deadline-ms"])
def test_a_header_that_stands_twice_is_refused_in_every_era(name: str) -> None:
    headers = [*SESSION.items(), (name, "1"), (name, "1")]
    for attempt in (lambda: peek(read(json.dumps(call()).encode()), headers), lambda: routing_headers(headers)):
        with pytest.raises(Refused) as refused:
            attempt()
        assert refused.value.code == "header_ambiguous"


@pytest.mark.parametrize(
    ("headers", "era"),
    [
        ({}, Era.LEGACY),
        ({"mcp-protocol-version": "2025-11-25"}, Era.LEGACY),
        ({"mcp-protocol-version": "2024-11-05"}, Era.LEGACY),
        ({"mcp-protocol-version": "v999.0.0"}, Era.LEGACY),
        ({"mcp-protocol-version": "DRAFT-2026-v1"}, Era.LEGACY),
        ({"mcp-protocol-version": "2026-07-28"}, Era.MODERN),
        ({"mcp-protocol-version": "2027-01-01"}, Era.MODERN),
    ],
)
def test_without_a_version_in_the_body_the_header_says_the_era(headers: Sent, era: Era) -> None:
    assert ask(call(), headers).era is era


@pytest.mark.parametrize(
    "version", ["", "1999-01-01", "2024-11-04", '["2025-06-18"]', "2025-06-18, 2025-11-25", "2026 07"]
)
def test_what_can_be_no_version_is_refused(version: str) -> None:
    assert refusal(call(), {"mcp-protocol-version": version}) == "unsupported_protocol_version"


def test_a_modern_notification_needs_no_header_and_contradicts_none() -> None:
    notification = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"_meta": {VERSION: "2026-07-28"}}}
    assert ask(notification).era is Era.MODERN
    assert refusal(notification, {"mcp-protocol-version": "2025-11-25"}) == "header_mismatch"
    assert refusal(notification, {"mcp-method": "tools/call"}) == "header_mismatch"


versions = st.sampled_from(["2026-07-28", "2025-11-25", "2026-07-29", 7, None])
names = st.sampled_from(["check_stock", "prög", "=?base64?eA==?=", "", "tools/call"])
sent = st.fixed_dictionaries(
    {},
    optional={
        "mcp-protocol-version": st.sampled_from(["2026-07-28", "2025-11-25", ""]),
        "mcp-method": st.sampled_from(["tools/call", "tools/list", "prompts/get", "ping", "TOOLS/CALL", ""]),
        "mcp-name": names.map(encode_header_value) | st.sampled_from(["x", "=?base64?!?=", ""]),
    },
)


@given(st.sampled_from(["tools/call", "tools/list", "prompts/get", "ping"]), names, versions, sent)
def test_a_modern_request_is_judged_as_a_server_of_the_sdk_judges_it(
    method: str, name: str, version: object, headers: Sent
) -> None:
    body = modern({"jsonrpc": "2.0", "id": 1, "method": method, "params": {"name": name}}, version)
    verdict = classify_inbound_request(body, headers=headers)
    try:
        asked = ask(body, headers)
    except Refused as refused:
        assert refused.code == "header_mismatch"
        assert isinstance(verdict, InboundLadderRejection)
        assert verdict.code == -32020
    else:
        assert asked.era is Era.MODERN
        assert isinstance(verdict, InboundModernRoute) or verdict.code != -32020


# ---------------------------------------------------------------- whose facts the server sees

SPELLINGS = [
    "tenant",
    "TENANT",
    "Tenant",
    "tenant\u200b",
    "\ufefftenant",
    "ten\u00adant",
    "ｔｅｎａｎｔ",
    " tenant",
    "dev.arrowslit/tenant",
    "Dev.Arrowslit/Tenant",
    "dev.arrowſlit/tenant",
    "dev.arrowslit／tenant",
    "dev.arrowslit/ten\u2060ant",
    "dev.arrowslit/call-id",
    "dev.arrowslit/deadline-ms",
    "dev.arrowslit/anything",
    "dev.arrowslit/",
]


@pytest.mark.promise("P7")
@pytest.mark.parametrize("key", SPELLINGS)
@pytest.mark.parametrize("escaped", [False, True])
def test_no_spelling_of_a_tenant_in_meta_has_an_effect(key: str, escaped: bool) -> None:  # TEN-01
    spelled = "".join(f"\\u{ord(character):04x}" for character in key) if escaped else key
    meta = f'{{"{spelled}": 1000, "com.example/own": {{"tenant": "kept"}}}}'
    message = read(b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"_meta":' + meta.encode() + b"}}")
    seen = json.loads(write(stamp(message, FACTS, ALIASES)))["params"]["_meta"]
    assert seen == {
        "com.example/own": {"tenant": "kept"},
        "dev.arrowslit/tenant": "acme",
        "dev.arrowslit/call-id": "call_1",
        "tenant": "acme",
    }
    without = json.loads(write(stamp(message, {"call-id": "call_1"}, ALIASES)))["params"]["_meta"]
    assert without == {"com.example/own": {"tenant": "kept"}, "dev.arrowslit/call-id": "call_1"}


@pytest.mark.promise("P7")
def test_a_tenant_in_arguments_is_data_without_authority() -> None:
    message = read(json.dumps(call(arguments={"tenant": "evil", "tenant_id": "evil"})).encode())
    seen = json.loads(write(stamp(message, FACTS, ALIASES)))["params"]
    assert seen["_meta"]["tenant"] == seen["_meta"]["dev.arrowslit/tenant"] == "acme"
    assert seen["arguments"] == {"tenant": "evil", "tenant_id": "evil"}


@pytest.mark.promise("P7")
def test_without_an_alias_the_bare_key_is_the_clients_own() -> None:
    message = read(json.dumps(call(_meta={"tenant": "mine"})).encode())
    seen = json.loads(write(stamp(message, FACTS, {})))["params"]["_meta"]
    assert seen == {"tenant": "mine", "dev.arrowslit/tenant": "acme", "dev.arrowslit/call-id": "call_1"}


@pytest.mark.promise("P7")
def test_an_alias_is_stripped_in_every_spelling_however_it_was_configured() -> None:
    message = read(json.dumps(call(_meta={"ORG": "evil", "Org": "evil", "org": "evil"})).encode())
    seen = json.loads(write(stamp(message, FACTS, {"Org": "tenant"})))["params"]["_meta"]
    assert seen == {"Org": "acme", "dev.arrowslit/tenant": "acme", "dev.arrowslit/call-id": "call_1"}


def test_a_request_without_params_gets_the_facts_as_well() -> None:
    stamped = stamp(read(b'{"jsonrpc":"2.0","id":1,"method":"tools/list"}'), FACTS, ALIASES)
    assert json.loads(write(stamped))["params"]["_meta"]["dev.arrowslit/tenant"] == "acme"
    assert read(write(stamped)) == stamped


@pytest.mark.promise("P7")
def test_a_notification_loses_what_is_ours_and_gets_nothing() -> None:
    notification = read(
        b'{"jsonrpc":"2.0","method":"notifications/progress","params":{"progress":1,"_meta":{"Tenant":"x","a/b":1}}}'
    )
    assert json.loads(write(stamp(notification, FACTS, ALIASES)))["params"] == {"progress": 1, "_meta": {"a/b": 1}}
    bare = read(b'{"jsonrpc":"2.0","method":"notifications/initialized"}')
    assert stamp(bare, FACTS, ALIASES) is bare


def test_a_response_passes_as_it_came() -> None:
    response = read(b'{"jsonrpc":"2.0","id":1,"result":{"_meta":{"tenant":"evil"}}}')
    assert stamp(response, FACTS, ALIASES) is response


@pytest.mark.promise("P7")
def test_every_tenant_that_a_server_could_read_is_told() -> None:
    asked = ask(call(_meta={"dev.arrowslit/tenant": "acme", "Tenant": "evil", "tenant": 5, "tenants": "x"}))
    assert asked.tenants == ["acme", "evil", None]
    assert ask(call()).tenants == []
