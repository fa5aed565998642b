from __future__ import annotations

import json

import pytest

from arrowslit.connector.targets.target import NotStarted, Request
from arrowslit.connector.targets.upstream.address import read_endpoint
from arrowslit.connector.targets.upstream.forwarding import RequestHeads, cancel_notice, end_to_end, redirect_refused
from arrowslit.errors import CODES, Error
from tests.connector.targets.scripted import get, post

ENDPOINT = read_endpoint("http://inventory.internal:8080/mcp?team=a")
CALL = b'{"jsonrpc":"2.0","id":"c-1","method":"tools/call","params":{"name":"slow"}}'


def written(request: Request) -> list[str]:
    """The lines of the head that is sent for `request`."""
    head = RequestHeads(ENDPOINT).write(request).decode()
    assert head.endswith("\r\n\r\n")
    return head.removesuffix("\r\n\r\n").split("\r\n")


def test_the_head_names_the_targets_own_host_and_path() -> None:
    assert written(post(b"{}")) == [
        "POST /mcp?team=a HTTP/1.1",
        "host: inventory.internal:8080",
        "connection: keep-alive",
        "accept-encoding: identity",
        "content-type: application/json",
        "accept: application/json, text/event-stream",
        "content-length: 2",
    ]


@pytest.mark.parametrize(
    ("wished", "sent"),
    [
        (None, "application/json, text/event-stream"),
        ("application/json", "application/json, text/event-stream"),
        ("text/event-stream", "application/json, text/event-stream"),
        ("*/*", "application/json, text/event-stream"),
        ("application/json;q=0.9, text/event-stream", "application/json, text/event-stream"),
        ("text/event-stream, application/json", "text/event-stream, application/json"),
        ("Text/Event-Stream,application/json", "Text/Event-Stream,application/json"),
    ],
)
def test_a_server_sees_that_both_forms_are_welcome_in_the_order_of_whoever_names_both(
    wished: str | None, sent: str
) -> None:
    accept = () if wished is None else (("accept", wished),)
    for request in (post(b"{}", *accept), Request("GET", accept, b"", "call_1")):
        assert [line for line in written(request) if line.startswith("accept:")] == [f"accept: {sent}"]
    assert "accept:" not in "".join(written(Request("DELETE", (("mcp-session-id", "s1"),), b"", "call_1")))


@pytest.mark.promise("P10")
@pytest.mark.parametrize("value", ["a\r\nhost: evil", "a\nb", "a\rb", "a\x00", "a\x7f", "naïve", "a\u2028b", "a\tb"])
def test_a_header_that_is_not_one_line_of_visible_ascii_is_not_sent(value: str) -> None:
    for field in (("mcp-name", value), (f"mcp-{value}", "x")):
        with pytest.raises(NotStarted):
            written(post(b"{}", field))


def test_a_credential_is_one_header() -> None:
    with pytest.raises(Error, match="target_invalid"):
        RequestHeads(ENDPOINT, "Bearer a\r\nx: y")


def test_only_what_is_for_the_one_who_asked_is_passed_on() -> None:
    came = [
        ("content-type", "text/event-stream"),
        ("cache-control", "no-cache, no-transform"),
        ("connection", "keep-alive, X-Hop"),
        ("x-hop", "1"),
        ("keep-alive", "timeout=5"),
        ("transfer-encoding", "chunked"),
        ("trailer", "x-checksum"),
        ("te", "trailers"),
        ("upgrade", "h2c"),
        ("content-length", "5"),
        ("proxy-authenticate", "Basic"),
        ("proxy-connection", "close"),
        ("set-cookie", "a=1"),
        ("set-cookie", "b=2"),
    ]

    assert end_to_end(came) == [came[0], came[1], came[12], came[13]]


def test_a_redirected_call_gets_an_error_with_its_own_id() -> None:
    status, headers, body = redirect_refused(post(CALL))

    assert (status, headers) == (200, [("content-type", "application/json")])
    error = json.loads(body).pop("error")
    assert json.loads(body) == {"jsonrpc": "2.0", "id": "c-1", "error": error}
    assert error["code"] == CODES["redirect_refused"].jsonrpc
    assert error["data"] == {
        "code": "redirect_refused",
        "outcome": "result",
        "call_id": post(CALL).call_id,
        "retryable": False,
        "connector_last_seen": None,
        "hint": "its operator can give the final address as the target",
    }


NO_CALLS = [
    post(b'{"jsonrpc":"2.0","method":"notifications/progress"}', ("mcp-session-id", "s1")),
    post(b'{"jsonrpc":"2.0","id":7,"result":{}}', ("mcp-session-id", "s1")),
    post(b'{"jsonrpc":"2.0","id":null,"method":"tools/call"}', ("mcp-session-id", "s1")),
    post(b"not json", ("mcp-session-id", "s1")),
    post(b"[" * 100_000, ("mcp-session-id", "s1")),
    post(b'{"x":' + b"[" * 100_000, ("mcp-session-id", "s1")),
    get("GET", ("mcp-session-id", "s1")),
    get("DELETE", ("mcp-session-id", "s1")),
]


@pytest.mark.parametrize("request_", NO_CALLS)
def test_what_is_no_call_gets_a_plain_502_and_is_not_cancelled(request_: Request) -> None:
    assert redirect_refused(request_) == (502, [("content-length", "0")], b"")
    assert cancel_notice(request_) is None


@pytest.mark.parametrize("ident", ['"c-1"', "7", "-1", '"\\u00e9"'])
def test_a_cancelled_call_is_named_by_the_id_it_had(ident: str) -> None:
    call = post(CALL.replace(b'"c-1"', ident.encode()), ("mcp-session-id", "s1"))

    notice = cancel_notice(call)

    assert notice is not None
    assert (notice.method, notice.headers) == (call.method, call.headers)
    assert json.loads(notice.body) == {
        "jsonrpc": "2.0",
        "method": "notifications/cancelled",
        "params": {"requestId": json.loads(ident), "reason": "deadline passed"},
    }


def test_a_server_of_the_modern_era_is_not_sent_a_notice() -> None:
    assert cancel_notice(post(CALL, ("mcp-protocol-version", "2026-07-28"))) is None
