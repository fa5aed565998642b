"""A stock server on the MCP SDK 1.x, as many stand in companies today; runs in the environment `mcp1`.

It holds two tenants' stock in memory: `acme` has A100 (12 pieces), `globex` has G200 (none, restocked on 2027-01-15).
"""

from __future__ import annotations

from typing import Any

import serving
from mcp.server.fastmcp import Context, FastMCP

STOCK: dict[tuple[str, str], tuple[int, str | None]] = {
    ("acme", "A100"): (12, None),
    ("globex", "G200"): (0, "2027-01-15"),
}
server = FastMCP("stock", log_level="WARNING")


@server.tool()
async def check_stock(sku: str, ctx: Context[Any, Any, Any]) -> dict[str, Any]:
    """How many pieces of `sku` the caller's tenant has."""
    meta = ctx.request_context.meta
    tenant = ((meta.model_extra or {}) if meta else {}).get("dev.arrowslit/tenant")
    if tenant is None:
        raise ValueError("this call names no tenant")
    if (tenant, sku) not in STOCK:
        return {"sku": sku, "found": False}
    quantity, restock_date = STOCK[tenant, sku]
    return {"sku": sku, "found": True, "quantity": quantity, "restock_date": restock_date}


if __name__ == "__main__":
    serving.main(server)
