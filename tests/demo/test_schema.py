from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from arrowslit.demo.postgres import SUPERUSER, Postgres
from arrowslit.demo.schema import APP_ROLE, DATABASE, ROWS, prepare

EVERYTHING = "select tenant, sku, quantity, restock_date from inventory"
ACME = {tuple(row) for row in ROWS if row.tenant == "acme"}


@pytest_asyncio.fixture
async def app(stock_dsn: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection like the stock server's."""
    connection = await asyncpg.connect(stock_dsn)
    yield connection
    await connection.close()


@pytest_asyncio.fixture
async def admin(postgres: Postgres, stock_dsn: str) -> AsyncIterator[asyncpg.Connection]:
    """The superuser, in a transaction that leaves nothing."""
    connection = await asyncpg.connect(postgres.dsn(SUPERUSER, postgres.secret(SUPERUSER), DATABASE))
    transaction = connection.transaction()
    await transaction.start()
    yield connection
    await transaction.rollback()
    await connection.close()


async def rows_for(connection: asyncpg.Connection, tenant: str | None, query: str = EVERYTHING) -> set[tuple[Any, ...]]:
    """What a query shows in a transaction of that tenant."""
    async with connection.transaction():
        if tenant is not None:
            await connection.execute("select set_config('app.tenant', $1, true)", tenant)
        return {tuple(row) for row in await connection.fetch(query)}


async def test_a_query_that_forgets_its_where_sees_one_tenant(app: asyncpg.Connection) -> None:
    assert await rows_for(app, "acme") == ACME
    assert await rows_for(app, "acme", f"{EVERYTHING} where tenant = 'globex' or true") == ACME


@pytest.mark.parametrize("tenant", [None, "", "nobody", "ACME", "acme ", "acme,globex", "%"])
async def test_without_a_tenant_of_the_table_there_are_no_rows(app: asyncpg.Connection, tenant: str | None) -> None:
    assert await rows_for(app, tenant) == set()


async def test_the_tenant_is_gone_when_its_transaction_ends(app: asyncpg.Connection) -> None:
    assert await rows_for(app, "acme") == ACME

    assert await app.fetchval("select current_setting('app.tenant', true)") == ""
    assert await rows_for(app, None) == set()


async def test_another_tenants_rows_cannot_be_changed(app: asyncpg.Connection, admin: asyncpg.Connection) -> None:
    async with app.transaction():
        await app.execute("select set_config('app.tenant', 'acme', true)")
        assert await app.execute("update inventory set quantity = 1 where tenant = 'globex'") == "UPDATE 0"
        assert await app.execute("update inventory set quantity = 1") == f"UPDATE {len(ACME)}"

    untouched = {tuple(row) for row in await admin.fetch("select * from stock.inventory where tenant = 'globex'")}
    assert untouched == {tuple(row) for row in ROWS if row.tenant == "globex"}


async def test_row_level_security_holds_for_the_tables_owner_too(admin: asyncpg.Connection) -> None:
    await admin.execute("set local role inventory_owner")
    assert await admin.fetch("select * from stock.inventory") == []

    await admin.execute("set local app.tenant = 'acme'")
    await admin.execute("insert into stock.inventory values ('acme', 'NEW1', 1)")
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
        await admin.execute("insert into stock.inventory values ('globex', 'NEW1', 1)")


@pytest.mark.parametrize(
    "statement",
    [
        "insert into inventory values ('acme', 'NEW1', 1)",
        "insert into inventory values ('globex', 'NEW1', 1)",
        "update inventory set tenant = 'globex'",
        "update inventory set restock_date = now()",
        "delete from inventory",
        "truncate inventory",
        "drop table inventory",
        "alter table inventory disable row level security",
        "create policy mine on inventory using (true)",
        "create table stock.shadow (tenant text)",
        "create table public.shadow (tenant text)",
        "create temporary table inventory (tenant text)",
        "create view stock.everything as select * from inventory",
        "create schema mine",
        "create database mine",
        "create role mine",
        "create function stock.f() returns int language sql as 'select 1'",
        "do $$ begin perform 1; end $$",
        "select * from elsewhere.secret",
        "set role inventory_owner",
        "set role postgres",
        "set session authorization postgres",
        "alter role inventory_app bypassrls",
        "set row_security = off; select * from inventory",
        "select pg_read_file('/etc/hostname')",
        "copy inventory to '/tmp/stolen'",
        "copy (select 1) to program 'true'",
    ],
)
async def test_the_app_role_may_do_nothing_else(postgres: Postgres, app: asyncpg.Connection, statement: str) -> None:
    admin = await asyncpg.connect(postgres.dsn(SUPERUSER, postgres.secret(SUPERUSER), DATABASE))
    await admin.execute(
        "create schema if not exists elsewhere; create table if not exists elsewhere.secret (word text)"
    )
    await admin.close()

    await app.execute("select set_config('app.tenant', 'acme', false)")  # so that it is not for want of a tenant
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await app.execute(statement)


@pytest.mark.parametrize("database", ["postgres", "template1"])
async def test_the_app_role_may_not_connect_elsewhere(postgres: Postgres, stock_dsn: str, database: str) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await asyncpg.connect(postgres.dsn(APP_ROLE, postgres.secret(APP_ROLE), database))


async def test_the_roles_have_no_powers_and_the_app_owns_nothing(admin: asyncpg.Connection) -> None:
    powers = "rolsuper or rolbypassrls or rolcreatedb or rolcreaterole or rolreplication or rolinherit"
    roles = await admin.fetch(
        f"select rolname, rolcanlogin, {powers} from pg_roles where rolname like 'inventory%' order by rolname"
    )
    assert [tuple(role) for role in roles] == [("inventory_app", True, False), ("inventory_owner", False, False)]
    assert await admin.fetchval("select tableowner from pg_tables where tablename = 'inventory'") == "inventory_owner"
    assert not await admin.fetchval(
        "select exists (select from pg_auth_members where member::regrole::text = $1)", APP_ROLE
    )


async def test_the_app_role_cannot_wait_for_ever(app: asyncpg.Connection) -> None:
    assert await app.fetchval("show statement_timeout") == "5s"
    assert await app.fetchval("show idle_in_transaction_session_timeout") == "10s"
    assert await app.fetchval("show search_path") == "stock, pg_temp"


async def test_preparing_again_puts_the_rows_back_and_disturbs_nobody(
    postgres: Postgres, stock_dsn: str, app: asyncpg.Connection
) -> None:
    async with app.transaction():
        await app.execute("select set_config('app.tenant', 'acme', true)")
        await app.execute("update inventory set quantity = 99")

    assert await prepare(postgres) == stock_dsn
    assert await rows_for(app, "acme") == ACME
