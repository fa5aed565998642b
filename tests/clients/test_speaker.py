"""The third-party clients and the sample servers do what the tests that use them take for granted."""

from __future__ import annotations

from pathlib import Path

import programs
import pytest
from speaker import Caller, Speaker, SpeakError

LIBRARIES = ["mcp1", "mcp2", "fastmcp4"]


@pytest.fixture(params=LIBRARIES)
def client(request: pytest.FixtureRequest) -> Speaker:
    found = request.getfixturevalue(request.param)
    assert isinstance(found, Speaker)
    return found


async def test_every_library_lists_and_calls_and_sends_its_own_meta(client: Speaker, canary: str) -> None:
    opened = await client.open(canary)
    listed = await client.tools(opened)
    result = await client.call(opened, "echo", {"canary": "tweet"}, meta={"dev.arrowslit/tenant": "acme"})
    await client.close(opened)

    assert [tool["name"] for tool in listed] == ["echo"]
    assert result["structuredContent"] == {"canary": "tweet", "tenant": "acme"}


@pytest.mark.parametrize(
    ("library", "mode", "protocol"),
    [
        ("mcp1", "auto", "2025-11-25"),
        ("mcp2", "auto", "2026-07-28"),
        ("mcp2", "legacy", "2025-11-25"),
        ("fastmcp4", "auto", "2026-07-28"),
        ("fastmcp4", "legacy", "2025-11-25"),
    ],
)
async def test_the_mode_chooses_the_era(
    library: str, mode: str, protocol: str, canary: str, request: pytest.FixtureRequest
) -> None:
    client: Speaker = request.getfixturevalue(library)
    opened = await client.open(canary, mode=mode)
    await client.close(opened)

    assert opened.protocol == protocol


async def test_what_a_library_raises_is_told_with_its_type(client: Speaker, canary: str) -> None:
    with pytest.raises(SpeakError) as raised:
        await client.open(canary.replace("/mcp", "/nowhere"))

    assert raised.value.type in ("McpError", "MCPError")
    assert raised.value.code is not None


async def test_many_clients_count_the_answers_that_are_not_theirs(mcp2: Speaker, canary: str) -> None:
    told_nothing, misled = Caller({}, {"tenant": None}), Caller({}, {"tenant": "acme"})
    counted = await mcp2.many(canary, [told_nothing, told_nothing, misled], calls=3)

    assert (counted.calls, counted.mismatches, counted.errors) == (9, 3, 0)
    assert counted.first_mismatch is not None


async def test_the_log_of_append_holds_what_was_executed_although_nobody_got_the_answer(
    mcp2: Speaker, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    with programs.over_http("append", {"APPEND_LOG": str(log)}) as url:
        opened = await mcp2.open(url)
        with pytest.raises(SpeakError):
            await mcp2.call(opened, "append", {"text": "one", "delay_ms": 60_000}, timeout=0.5)
        await mcp2.close(opened)

    assert log.read_text() == "one\n"


async def test_the_stock_server_of_sdk_1_reads_the_tenant(client: Speaker, stock_v1: str) -> None:
    opened = await client.open(stock_v1)
    ours = await client.call(opened, "check_stock", {"sku": "A100"}, meta={"dev.arrowslit/tenant": "acme"})
    theirs = await client.call(opened, "check_stock", {"sku": "A100"}, meta={"dev.arrowslit/tenant": "globex"})
    nobodys = await client.call(opened, "check_stock", {"sku": "A100"})
    await client.close(opened)

    assert ours["structuredContent"] == {"sku": "A100", "found": True, "quantity": 12, "restock_date": None}
    assert theirs["structuredContent"] == {"sku": "A100", "found": False}
    assert nobodys["isError"]
