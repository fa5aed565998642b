from __future__ import annotations

from collections.abc import Iterator

import pytest
from speaker import Speaker

from arrowslit.demo import inventory_mcp
from tests.e2e.stage import Stage, served
from tests.harness import Relay


@pytest.fixture
def stock(relay: Relay, stock_dsn: str) -> Iterator[Stage]:
    """The stock server with its PostgreSQL, behind a connector."""
    env = {"INTERNAL_DB_DSN": stock_dsn}
    target = f"stdio:{inventory_mcp.__file__}"
    with served(relay, target, ["check_stock"], "--pass-env", "INTERNAL_DB_DSN", env=env) as stage:
        yield stage


async def test_every_client_library_asks_for_stock_through_the_tunnel(
    stock: Stage, mcp1: Speaker, mcp2: Speaker, fastmcp4: Speaker
) -> None:
    protocols = set()
    for library, mode in [
        (mcp1, "legacy"),
        (mcp2, "auto"),
        (mcp2, "legacy"),
        (fastmcp4, "auto"),
        (fastmcp4, "legacy"),
    ]:
        for tenant, quantity in [("acme", 340), ("globex", 55)]:
            opened = await library.open(stock.url, stock.headers(tenant), mode)
            found = await library.call(opened, "check_stock", {"sku": "BOLT8"})
            missing = await library.call(opened, "check_stock", {"sku": "NOSUCH1"})
            await library.close(opened)

            assert found["structuredContent"] == {
                "sku": "BOLT8",
                "found": True,
                "quantity": quantity,
                "restock_date": None,
            }
            assert missing["structuredContent"] == {"sku": "NOSUCH1", "found": False}
            protocols.add((library.library, mode, opened.protocol))
    assert protocols == {
        ("mcp1", "legacy", "2025-11-25"),
        ("mcp2", "auto", "2026-07-28"),
        ("mcp2", "legacy", "2025-11-25"),
        ("fastmcp4", "auto", "2026-07-28"),
        ("fastmcp4", "legacy", "2025-11-25"),
    }
