from __future__ import annotations

import pytest

from arrowslit.agents.servers import speech
from arrowslit.agents.servers.speech import LEGACY, MODERN, Speech
from arrowslit.protocol import jsonrpc, mcp
from arrowslit.tunnel import Exchange


def peeked(exchange: Exchange) -> mcp.Asked:
    """What the gate reads in it; the gate refuses a header that does not say what the body says."""
    return mcp.peek(jsonrpc.read(exchange.body), exchange.headers)


@pytest.mark.parametrize("spoken", [Speech(MODERN), Speech(LEGACY, "s")])
@pytest.mark.parametrize("tool", ["look", "schön", " look", "=?base64?bG9vaw==?=", "a\nb", ""])
def test_the_gate_reads_what_was_meant_whatever_a_model_names(spoken: Speech, tool: str) -> None:
    exchange = speech.request(spoken, 7, "tools/call", {"name": tool, "arguments": {}}, deadline=1.5)

    asked = peeked(exchange)

    assert (asked.method, asked.tool, asked.message.id) == ("tools/call", tool, 7)
    assert (asked.deadline_ms, asked.progress_token) == (1500, 7)
    assert asked.era is (mcp.Era.MODERN if spoken.modern else mcp.Era.LEGACY)
    assert all(value.isascii() and value.isprintable() for _, value in exchange.headers)


@pytest.mark.parametrize(("deadline", "milliseconds"), [(0, 1), (-5, 1), (0.0001, 1), (90, 90_000), (1e9, 3_600_000)])
def test_a_deadline_is_one_that_the_gate_takes(deadline: float, milliseconds: int) -> None:
    exchange = speech.request(Speech(MODERN), 1, "tools/list", {}, deadline=deadline)

    assert peeked(exchange).deadline_ms == milliseconds


def test_a_handshake_names_no_session_and_what_follows_does() -> None:
    assert not {"mcp-session-id", "mcp-protocol-version"} & dict(speech.initialize(1).headers).keys()
    agreed = Speech("2025-06-18", "s")
    for exchange in (speech.initialized(agreed), speech.response(agreed, "q", {"result": {}}), speech.end(agreed)):
        headers = dict(exchange.headers)
        assert (headers["mcp-session-id"], headers["mcp-protocol-version"]) == ("s", "2025-06-18")


def test_only_a_call_that_was_given_an_id_has_one() -> None:
    assert speech.request(Speech(MODERN), 1, "tools/list", {}).call_id is None
    assert speech.request(Speech(MODERN), 1, "tools/call", {"name": "a"}, call_id="call_x").call_id == "call_x"
