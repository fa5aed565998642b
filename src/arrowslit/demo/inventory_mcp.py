"""The stock server: an MCP server that looks up and changes stock in PostgreSQL, for the tenant of each call.

Run it with `python inventory_mcp.py`; it speaks MCP on stdin and stdout. INTERNAL_DB_DSN says where the database is.
Whose stock a call may touch stands in the `_meta` of the call, where the gateway writes it from the caller's key, and
nowhere else: not in the arguments, which a model makes up.

To show what a tool allowlist is for, the server can grow a tool while clients are connected: set INVENTORY_EXTRA_TOOLS
to the path of a file that does not exist yet. From the moment it does, every process of this server has the tool
`export_inventory`, and tells its clients that the list has changed when it next hears from one.
"""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, NotRequired, TypedDict

import asyncpg
from asyncpg.pool import PoolConnectionProxy
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.subscriptions import InMemorySubscriptionBus, ToolsListChanged
from mcp.types import ToolAnnotations
from pydantic import Field

DSN = "INTERNAL_DB_DSN"
TENANT_KEY = "dev.arrowslit/tenant"
SECONDS = 5.0  # for a connection, and for each statement
MOST = 1_000_000  # pieces of one sku
DATABASE_ERRORS = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError)

Sku = Annotated[str, Field(pattern="^[A-Za-z0-9]{1,32}$", description="letters and digits, at most 32")]
Delta = Annotated[int, Field(strict=True, ge=-10_000, le=10_000, description="pieces that came in, or (negative) left")]


class Stock(TypedDict):
    """What the tenant has of one sku. Only one that was found has a quantity and a restock_date (ISO 8601, or null)."""

    sku: str
    found: bool
    quantity: NotRequired[int]
    restock_date: NotRequired[str | None]


def stock(sku: str, row: asyncpg.Record | None) -> Stock:
    """A row of the table, or that there is none, as an answer."""
    if row is None:
        return Stock(sku=sku, found=False)
    day = row["restock_date"]
    return Stock(sku=sku, found=True, quantity=row["quantity"], restock_date=day.isoformat() if day else None)


def tenant_of(ctx: Any) -> str:
    """The tenant of this call, as the gateway wrote it into `_meta`; raises ToolError if there is none.

    Works on the MCP SDK 2.x, where `meta` is a dict, and on 1.x, where it is a model that keeps unknown keys aside.
    """
    meta = ctx.request_context.meta or {}
    if not isinstance(meta, dict):
        meta = meta.model_extra or {}
    tenant = meta.get(TENANT_KEY)
    if not isinstance(tenant, str) or not tenant:
        raise ToolError("this call names no tenant, so nothing was done; call through the gateway, which knows yours")
    return tenant


@asynccontextmanager
async def lifespan(server: MCPServer[asyncpg.Pool]) -> AsyncIterator[asyncpg.Pool]:
    """The connections to the database, for as long as the server runs; the first is made when a call needs it."""
    async with asyncpg.create_pool(os.environ[DSN], min_size=0, max_size=4, command_timeout=SECONDS) as pool:
        yield pool


@asynccontextmanager
async def transaction(ctx: Context[asyncpg.Pool], tenant: str) -> AsyncIterator[PoolConnectionProxy]:
    """A transaction that sees the rows of one tenant only; raises ToolError if the database does not do its part."""
    pool = ctx.request_context.lifespan_context
    try:
        connection = await pool.acquire(timeout=SECONDS)
    except DATABASE_ERRORS as error:
        raise ToolError("cannot reach the inventory database") from error
    try:
        async with connection.transaction():
            await connection.execute("select set_config('app.tenant', $1, true)", tenant)  # true: until its end
            yield connection
    except DATABASE_ERRORS as error:
        raise ToolError("lost the inventory database during the call: whether it did anything is unknown") from error
    finally:
        await pool.release(connection)


subscriptions = InMemorySubscriptionBus()
server = MCPServer("inventory", lifespan=lifespan, subscriptions=subscriptions, log_level="WARNING")


@server.tool(annotations=ToolAnnotations(read_only_hint=True, open_world_hint=False))
async def check_stock(sku: Sku, ctx: Context[asyncpg.Pool]) -> Stock:
    """How many pieces of a sku are in stock, and when more will come."""
    tenant = tenant_of(ctx)
    async with transaction(ctx, tenant) as db:
        query = "select quantity, restock_date from inventory where tenant = $1 and sku = $2"
        return stock(sku, await db.fetchrow(query, tenant, sku))


@server.tool(annotations=ToolAnnotations(destructive_hint=True, idempotent_hint=False, open_world_hint=False))
async def adjust_stock(sku: Sku, delta: Delta, ctx: Context[asyncpg.Pool]) -> Stock:
    """Add pieces to the stock of a sku, or take some from it; answers what is there afterwards."""
    tenant = tenant_of(ctx)
    async with transaction(ctx, tenant) as db:
        query = "select quantity from inventory where tenant = $1 and sku = $2 for update"
        have = await db.fetchval(query, tenant, sku)
        if have is None:
            return stock(sku, None)
        if not 0 <= have + delta <= MOST:
            raise ToolError(f"there are {have} of {sku}, so {delta:+} is not possible; nothing was changed")
        change = "update inventory set quantity = $3 where tenant = $1 and sku = $2 returning quantity, restock_date"
        return stock(sku, await db.fetchrow(change, tenant, sku, have + delta))


async def export_inventory(ctx: Context[asyncpg.Pool]) -> dict[str, int]:
    """Everything that is in stock: how many pieces of each sku."""
    tenant = tenant_of(ctx)
    async with transaction(ctx, tenant) as db:
        rows = await db.fetch("select sku, quantity from inventory where tenant = $1 order by sku", tenant)
        return {row["sku"]: row["quantity"] for row in rows}


to_grow = [export_inventory]


async def grow(ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
    """Runs before each message: is it time for the extra tool?"""
    sign = os.environ.get("INVENTORY_EXTRA_TOOLS")
    if to_grow and sign and ctx.method != "initialize" and Path(sign).exists():
        server.add_tool(to_grow.pop())
        await ctx.session.send_tool_list_changed()  # to a client of the handshake era
        await subscriptions.publish(ToolsListChanged())  # to those who subscribed, since 2026-07-28
    return await call_next(ctx)


server.middleware.append(grow)


def main() -> None:
    """Serve until stdin ends; exit at once, with status 1, if nobody said where the database is."""
    if not os.environ.get(DSN):
        sys.exit(f"inventory_mcp: the environment variable {DSN} is not set; it says which database to ask")
    server.run()


if __name__ == "__main__":
    main()
