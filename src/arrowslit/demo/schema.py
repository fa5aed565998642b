"""The demo's data: a database, a role for the stock server, and the stock of two tenants."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import NamedTuple

import asyncpg

from arrowslit.demo.postgres import SUPERUSER, Postgres

DATABASE = "inventory"
APP_ROLE = "inventory_app"
SCHEMA = Path(__file__).with_name("schema.sql").read_text()


class Row(NamedTuple):
    """What one tenant has of one thing."""

    tenant: str
    sku: str
    quantity: int
    restock_date: date | None = None


ROWS = (
    Row("acme", "BOLT8", 340),
    Row("globex", "BOLT8", 55),
    Row("acme", "GEAR12", 0, date(2027, 1, 15)),
    Row("globex", "GEAR12", 18),
    Row("acme", "ANVIL1", 3),  # which globex does not have
    Row("globex", "LASER9", 7),  # which acme does not have
)

_PUT = "insert into stock.inventory (tenant, sku, quantity, restock_date) values ($1, $2, $3, $4)"


async def prepare(server: Postgres) -> str:
    """Make what is missing of database, roles and table, and let the table hold ROWS and nothing else.

    Returns the DSN of the stock server's role: what INTERNAL_DB_DSN is to be. It is the same each time, but for the
    port. Raises what asyncpg raises.
    """
    await _make_database(server)
    password = server.secret(APP_ROLE)
    connection = await asyncpg.connect(server.dsn(SUPERUSER, server.secret(SUPERUSER), DATABASE))
    try:
        async with connection.transaction():
            await connection.execute(SCHEMA)
            quoted = await connection.fetchval("select quote_literal($1::text)", password)
            await connection.execute(f"alter role {APP_ROLE} password {quoted}")  # takes no bound parameter
            await connection.execute("delete from stock.inventory")
            await connection.executemany(_PUT, ROWS)
    finally:
        await connection.close()
    return server.dsn(APP_ROLE, password, DATABASE)


async def _make_database(server: Postgres) -> None:
    connection = await asyncpg.connect(server.admin_dsn)
    try:
        if not await connection.fetchval("select exists (select from pg_database where datname = $1)", DATABASE):
            await connection.execute(f"create database {DATABASE}")
    finally:
        await connection.close()
