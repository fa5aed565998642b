"""Fields that travel say nothing of the caller, and nothing for a whole origin."""

from __future__ import annotations

import pytest

from arrowslit.protocol.fields import forward, returnable


@pytest.mark.promise("P7")
def test_nothing_that_names_a_caller_travels_to_the_target() -> None:  # TEN-02
    headers = [
        ("host", "relay"),
        ("authorization", "Bearer x"),
        ("cookie", "a=b"),
        ("x-api-key", "x"),
        ("x-tenant-id", "evil"),
        ("x_tenant_id", "evil"),
        ("forwarded", "for=evil"),
        ("arrowslit-tenant", "evil"),
        ("mcp_session_id", "evil"),
        ("user-agent", "x"),
        ("origin", "http://evil"),
        ("proxy-authorization", "x"),
    ]
    kept = [
        ("accept", "application/json, text/event-stream"),
        ("content-type", "application/json"),
        ("last-event-id", "7"),
        ("mcp-session-id", "s"),
        ("mcp-param-region", "=?base64?w7w=?="),
        ("traceparent", "00-1"),
        ("tracestate", "a=1"),
        ("baggage", "a=1"),
    ]
    assert forward([*headers, *kept]) == kept


def test_a_target_speaks_for_itself_and_for_nobody_else() -> None:
    dropped = [
        ("connection", "keep-alive, X-Hop"),
        ("keep-alive", "timeout=5"),
        ("x-hop", "1"),
        ("transfer-encoding", "chunked"),
        ("content-length", "5"),
        ("date", "now"),
        ("server", "uvicorn"),
        ("set-cookie", "a=b"),
        ("arrowslit-outcome", "denied"),
        ("access-control-allow-origin", "*"),
        ("strict-transport-security", "max-age=1"),
        ("alt-svc", "h3"),
    ]
    kept = [
        ("content-type", "text/event-stream"),
        ("cache-control", "no-cache, no-transform"),
        ("mcp-session-id", "s"),
        ("www-authenticate", "Bearer"),
        ("retry-after", "1"),
        ("x-accel-buffering", "no"),
    ]
    assert returnable([*dropped, *kept]) == kept
