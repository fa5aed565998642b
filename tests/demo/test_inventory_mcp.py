from __future__ import annotations

import ast
import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import environments
import pytest
from mcp.client.client import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.client.subscriptions import ToolsListChanged
from mcp.types import CallToolResult, TextContent, ToolListChangedNotification

from arrowslit.demo import inventory_mcp
from arrowslit.demo.postgres import SUPERUSER, Postgres
from arrowslit.demo.schema import DATABASE
from tests.harness import PATIENCE

FILE = Path(inventory_mcp.__file__)
ACME: Any = {"dev.arrowslit/tenant": "acme"}
GLOBEX: Any = {"dev.arrowslit/tenant": "globex"}
NOWHERE = "postgresql://inventory_app:none@127.0.0.1:1/inventory"

both_eras = pytest.mark.parametrize("mode", ["legacy", "auto"])


@asynccontextmanager
async def connected(dsn: str, mode: str = "auto", extra: Path | None = None, **more: Any) -> AsyncIterator[Client]:
    """A client of a stock server of its own, over stdio."""
    env = {"INTERNAL_DB_DSN": dsn} | ({"INVENTORY_EXTRA_TOOLS": str(extra)} if extra else {})
    command = StdioServerParameters(command=sys.executable, args=[str(FILE)], env=env)
    async with asyncio.timeout(PATIENCE), Client(stdio_client(command), mode=mode, **more) as client:
        yield client


@pytest.fixture
def stock(stock_dsn: str, monkeypatch: pytest.MonkeyPatch) -> Client:
    """A client to be opened, with the stock server in this process: what the pipe does not change."""
    monkeypatch.setenv("INTERNAL_DB_DSN", stock_dsn)
    return Client(inventory_mcp.server)


def words(result: CallToolResult) -> str:
    (content,) = result.content
    assert isinstance(content, TextContent)
    return content.text


async def quantity(postgres: Postgres, tenant: str, sku: str) -> int:
    """What the table says, past the server and its row-level security."""
    connection = await asyncpg.connect(postgres.dsn(SUPERUSER, postgres.secret(SUPERUSER), DATABASE))
    found = await connection.fetchval(
        "select quantity from stock.inventory where tenant = $1 and sku = $2", tenant, sku
    )
    await connection.close()
    assert isinstance(found, int)
    return found


async def has_tools(client: Client) -> set[str]:
    return {tool.name for tool in (await client.list_tools()).tools}


@both_eras
async def test_each_question_has_its_answer(stock_dsn: str, mode: str) -> None:
    cases: list[tuple[str, Any, dict[str, Any], dict[str, Any]]] = [
        ("check_stock", ACME, {"sku": "BOLT8"}, {"found": True, "quantity": 340, "restock_date": None}),
        ("check_stock", GLOBEX, {"sku": "BOLT8"}, {"found": True, "quantity": 55, "restock_date": None}),
        ("check_stock", ACME, {"sku": "GEAR12"}, {"found": True, "quantity": 0, "restock_date": "2027-01-15"}),
        ("check_stock", ACME, {"sku": "NOSUCH1"}, {"found": False}),
        ("check_stock", ACME, {"sku": "bolt8"}, {"found": False}),
        ("check_stock", GLOBEX, {"sku": "ANVIL1"}, {"found": False}),  # acme has it
        ("check_stock", {"dev.arrowslit/tenant": "initech"}, {"sku": "BOLT8"}, {"found": False}),
        ("adjust_stock", ACME, {"sku": "BOLT8", "delta": -40}, {"found": True, "quantity": 300, "restock_date": None}),
        ("adjust_stock", ACME, {"sku": "BOLT8", "delta": -300}, {"found": True, "quantity": 0, "restock_date": None}),
        ("adjust_stock", ACME, {"sku": "BOLT8", "delta": 7}, {"found": True, "quantity": 7, "restock_date": None}),
        ("adjust_stock", ACME, {"sku": "LASER9", "delta": 1}, {"found": False}),  # globex has it
        ("check_stock", GLOBEX, {"sku": "BOLT8"}, {"found": True, "quantity": 55, "restock_date": None}),
        ("check_stock", GLOBEX, {"sku": "LASER9"}, {"found": True, "quantity": 7, "restock_date": None}),
    ]
    async with connected(stock_dsn, mode) as client:
        for tool, meta, arguments, answer in cases:
            result = await client.call_tool(tool, arguments, meta=meta)
            assert result.structured_content == {"sku": arguments["sku"], **answer}, (tool, arguments)
            assert json.loads(words(result)) == result.structured_content
            assert not result.is_error


async def test_the_tools_say_what_they_take_and_give(stock: Client) -> None:
    async with stock as client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}

    assert set(tools) == {"check_stock", "adjust_stock"}
    assert tools["check_stock"].input_schema["properties"]["sku"]["pattern"] == "^[A-Za-z0-9]{1,32}$"
    assert set(tools["check_stock"].input_schema["properties"]) == {"sku"}
    for tool in tools.values():
        assert (tool.output_schema or {})["required"] == ["sku", "found"]
    hints = {name: tool.annotations for name, tool in tools.items() if tool.annotations}
    assert hints["check_stock"].read_only_hint
    assert not hints["adjust_stock"].read_only_hint
    assert not hints["adjust_stock"].idempotent_hint


async def test_arguments_that_are_not_what_they_should_be_are_refused(postgres: Postgres, stock: Client) -> None:
    skus = [
        "",
        "A" * 33,
        "BOLT-8",
        "BOLT8 ",
        " BOLT8",
        "BOLT8\n",
        "BOLT8;",
        "' or 1=1 --",
        "BÖLT8",
        "BOLT８",
        "A\0",
        8,
        None,
    ]
    deltas = [10_001, -10_001, "1", 1.5, True, None, [1]]
    cases: list[tuple[str, dict[str, Any]]] = [
        *(("check_stock", {"sku": sku}) for sku in skus),
        *(("adjust_stock", {"sku": sku, "delta": 1}) for sku in skus),
        *(("adjust_stock", {"sku": "BOLT8", "delta": delta}) for delta in deltas),
        ("check_stock", {}),
        ("adjust_stock", {"sku": "BOLT8"}),
    ]
    async with stock as client:
        for tool, arguments in cases:
            result = await client.call_tool(tool, arguments, meta=ACME)
            assert result.is_error, (tool, arguments)
            assert result.structured_content is None

    assert await quantity(postgres, "acme", "BOLT8") == 340


@both_eras
async def test_a_call_without_a_tenant_is_refused_and_does_nothing(
    postgres: Postgres, stock_dsn: str, mode: str
) -> None:
    key = "dev.arrowslit/tenant"
    metas: list[Any] = [None, {}, {"tenant": "acme"}, {"dev.arrowslit/Tenant": "acme"}, {"dev.arrowslit": "acme"}]
    metas += [{key: value} for value in ("", None, 7, True, ["acme"], {"id": "acme"})]
    async with connected(stock_dsn, mode) as client:
        for meta in metas:
            for tool, more in (("check_stock", {}), ("adjust_stock", {"delta": -1})):
                result = await client.call_tool(tool, {"sku": "BOLT8", **more}, meta=meta)
                assert result.is_error, meta
                assert "names no tenant" in words(result)

    assert await quantity(postgres, "acme", "BOLT8") == 340


async def test_more_than_there_is_cannot_be_taken(postgres: Postgres, stock: Client) -> None:
    async with stock as client:
        result = await client.call_tool("adjust_stock", {"sku": "BOLT8", "delta": -341}, meta=ACME)

    assert result.is_error
    assert words(result).endswith("there are 340 of BOLT8, so -341 is not possible; nothing was changed")
    assert await quantity(postgres, "acme", "BOLT8") == 340


async def test_a_tenant_in_the_arguments_has_no_effect(stock: Client) -> None:
    told = {"tenant": "globex", "dev.arrowslit/tenant": "globex", "_meta": GLOBEX, "ctx": GLOBEX}
    async with stock as client:
        mine = await client.call_tool("check_stock", {"sku": "BOLT8", **told}, meta=ACME)
        nobodys = await client.call_tool("check_stock", {"sku": "BOLT8", **told})

    assert mine.structured_content == {"sku": "BOLT8", "found": True, "quantity": 340, "restock_date": None}
    assert nobodys.is_error


async def test_changes_at_the_same_time_are_all_counted(postgres: Postgres, stock: Client) -> None:
    async with stock as client, asyncio.TaskGroup() as tasks:
        for _ in range(40):
            tasks.create_task(client.call_tool("adjust_stock", {"sku": "BOLT8", "delta": -1}, meta=ACME))

    assert await quantity(postgres, "acme", "BOLT8") == 300


@both_eras
async def test_an_unreachable_database_is_said_and_no_stock_is_guessed(mode: str) -> None:
    async with connected(NOWHERE, mode) as client:
        assert await has_tools(client) == {"check_stock", "adjust_stock"}
        for tool, arguments in (("check_stock", {"sku": "BOLT8"}), ("adjust_stock", {"sku": "BOLT8", "delta": 1})):
            result = await client.call_tool(tool, arguments, meta=ACME)
            assert result.is_error
            assert result.structured_content is None
            assert words(result).endswith("cannot reach the inventory database")


async def test_a_connection_that_was_lost_between_calls_is_made_anew(postgres: Postgres, stock: Client) -> None:
    async with stock as client:
        assert not (await client.call_tool("check_stock", {"sku": "BOLT8"}, meta=ACME)).is_error
        await cut_off(postgres)
        result = await client.call_tool("check_stock", {"sku": "BOLT8"}, meta=ACME)

    assert result.structured_content == {"sku": "BOLT8", "found": True, "quantity": 340, "restock_date": None}


async def test_a_connection_that_is_lost_during_a_call_leaves_the_change_in_doubt(
    postgres: Postgres, stock: Client
) -> None:
    admin = await asyncpg.connect(postgres.dsn(SUPERUSER, postgres.secret(SUPERUSER), DATABASE))
    async with stock as client, admin.transaction():
        await admin.execute("select from stock.inventory where sku = 'BOLT8' for update")
        call = asyncio.create_task(client.call_tool("adjust_stock", {"sku": "BOLT8", "delta": -1}, meta=ACME))
        await until_it_waits_for_the_row(postgres)
        await cut_off(postgres)
        result = await call
    await admin.close()

    assert result.is_error
    assert "whether it did anything is unknown" in words(result)


async def cut_off(postgres: Postgres) -> None:
    """End all connections of the stock server, as a restart of the database would."""
    admin = await asyncpg.connect(postgres.admin_dsn)
    await admin.execute("select pg_terminate_backend(pid, 5000) from pg_stat_activity where usename = 'inventory_app'")
    await admin.close()


async def until_it_waits_for_the_row(postgres: Postgres) -> None:
    admin = await asyncpg.connect(postgres.admin_dsn)
    waiting = (
        "select exists (select from pg_stat_activity where usename = 'inventory_app' and wait_event_type = 'Lock')"
    )
    async with asyncio.timeout(PATIENCE):
        while not await admin.fetchval(waiting):  # noqa: ASYNC110 - the database tells nobody
            await asyncio.sleep(0.005)
    await admin.close()


@pytest.mark.parametrize("env", [{}, {"INTERNAL_DB_DSN": ""}])
def test_without_the_variable_it_ends_at_once_and_names_it(env: dict[str, str]) -> None:
    done = subprocess.run([sys.executable, FILE], env=env, capture_output=True, text=True, timeout=10, check=False)

    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert "INTERNAL_DB_DSN" in done.stderr


async def test_it_ends_when_stdin_ends_also_with_an_open_connection(stock_dsn: str) -> None:
    server = await asyncio.create_subprocess_exec(
        sys.executable,
        str(FILE),
        env={"INTERNAL_DB_DSN": stock_dsn},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    greeting = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}
    call = {"name": "check_stock", "arguments": {"sku": "BOLT8"}, "_meta": ACME}
    assert server.stdin
    assert server.stdout
    async with asyncio.timeout(PATIENCE):
        for message in (
            {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": greeting},
            {"jsonrpc": "2.0", "method": "notifications/initialized"},
            {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": call},
        ):
            server.stdin.write(json.dumps(message).encode() + b"\n")
        await server.stdout.readline()
        assert b'"quantity":340' in await server.stdout.readline()
        server.stdin.close()
        assert await server.wait() == 0


async def test_every_process_grows_the_tool_and_an_older_client_is_told(stock_dsn: str, tmp_path: Path) -> None:
    sign = tmp_path / "grow"
    told = asyncio.Event()

    async def hear(message: object) -> None:
        if isinstance(message, ToolListChangedNotification):
            told.set()

    async with (
        connected(stock_dsn, "legacy", extra=sign, message_handler=hear) as first,
        connected(stock_dsn, "legacy", extra=sign) as second,
    ):
        before = [await has_tools(first), await has_tools(second)]
        assert (await first.call_tool("export_inventory", meta=ACME)).is_error
        sign.touch()
        after = [await has_tools(first), await has_tools(second)]
        async with asyncio.timeout(PATIENCE):
            await told.wait()
        result = await second.call_tool("export_inventory", meta=ACME)
        refused = await second.call_tool("export_inventory")

    assert before == [{"check_stock", "adjust_stock"}] * 2
    assert after == [{"check_stock", "adjust_stock", "export_inventory"}] * 2
    assert result.structured_content == {"ANVIL1": 3, "BOLT8": 340, "GEAR12": 0}
    assert refused.is_error


async def test_a_subscriber_is_told_of_the_grown_tool(stock_dsn: str, tmp_path: Path) -> None:
    sign = tmp_path / "grow"
    async with connected(stock_dsn, extra=sign) as client, client.listen(tools_list_changed=True) as changes:
        sign.touch()
        assert "export_inventory" in await has_tools(client)
        async with asyncio.timeout(PATIENCE):
            assert await anext(aiter(changes)) == ToolsListChanged()


def test_it_stands_alone() -> None:
    tree = ast.parse(FILE.read_text())
    imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    imported |= {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}

    assert not [module for module in imported if module and module.startswith("arrowslit")]


# A server on the MCP SDK 1.x with our function in it, and a client beside it.
ON_1X = """
import asyncio, json, sys
from typing import Any
from mcp.server.fastmcp import Context, FastMCP
from mcp.server.fastmcp.exceptions import ToolError
from mcp.shared.memory import create_connected_server_and_client_session as connect

TENANT_KEY = "dev.arrowslit/tenant"
{function}
server = FastMCP("any")

@server.tool()
def whose(ctx: Context) -> str:
    return tenant_of(ctx)

async def main():
    async with connect(server._mcp_server) as client:
        for meta in json.loads(sys.argv[1]):
            result = await client.call_tool("whose", meta=meta)
            print(json.dumps([result.isError, result.content[0].text]))

asyncio.run(main())
"""


def test_the_tenant_is_read_on_the_sdk_1x_as_well() -> None:
    tree = ast.parse(FILE.read_text())
    (function,) = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "tenant_of"]
    program = ON_1X.replace("{function}", ast.unparse(function))
    metas = [ACME, {**GLOBEX, "tenant": "acme", "progressToken": 1}, {"tenant": "acme"}, {}, None]

    python = environments.interpreter("mcp1")
    done = subprocess.run(
        [python, "-c", program, json.dumps(metas)], capture_output=True, text=True, timeout=20, check=False
    )

    assert done.returncode == 0, done.stderr
    acme, globex, *refused = [json.loads(line) for line in done.stdout.splitlines()]
    assert acme == [False, "acme"]
    assert globex == [False, "globex"]
    assert len(refused) == 3
    assert all(is_error and "names no tenant" in text for is_error, text in refused)
