"""Stage: what the story is played on: PostgreSQL, relay, connector and sandbox worker as processes, and the keys of
those who ask.

postgres/       the database, kept from run to run
relay/          the relay's state, new in each run; relay.log is what it says
connector/      the connector's; connector.log is what it says
sandbox/        the sandbox worker's; sandbox.log is what it says
grown           once this file exists, the stock server has one more tool
tampered/       the copy of the ledger in which one character is changed
"""

from __future__ import annotations

import asyncio
import json
import shlex
import shutil
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg

from arrowslit.client.api import Api
from arrowslit.demo.caller import Caller, caller
from arrowslit.demo.child import Child
from arrowslit.demo.postgres import SUPERUSER, Postgres
from arrowslit.demo.sandbox import Sandbox
from arrowslit.demo.schema import DATABASE, prepare
from arrowslit.ids import tunnel_id

SERVER = Path(__file__).with_name("inventory_mcp.py")
PASSED = ("--pass-env", "INTERNAL_DB_DSN", "--pass-env", "INVENTORY_EXTRA_TOOLS")
TUNNEL = "internal-inventory"
ENVIRONMENT = "private-hosts"
AGENT, AUDITOR, ANALYST = "stock", "auditor", "analyst"
KEYS = {  # who asks: as which agent, for which tenant
    "acme": (AGENT, "acme"),
    "globex": (AGENT, "globex"),
    "nobody": (AGENT, None),
    "auditor": (AUDITOR, "acme"),
    "analyst": (ANALYST, "acme"),
}
TOOLS = {
    AGENT: ["check_stock"],
    AUDITOR: ["adjust_stock", "export_inventory"],  # the last one does not exist yet
    ANALYST: ["check_stock"],  # and those of a sandbox
}

BACK_SECONDS = 15.0  # a connector tries again within four
SAID_SECONDS = 10.0  # for a worker's records to have come; a tenth of one is usual
WAIT_SECONDS = 30.0  # for a question to have come as far as the database; one is usual
MODEL_ID = "claude-opus-5-5"  # for whatever speaks the Messages API; the scripted model goes by any name

Tell = Callable[[str, str], None]
"""Hears what was set up: a name, and a sentence about it."""


@dataclass(frozen=True, slots=True)
class Stage:
    """Everything runs. `listen` is the relay's HOST:PORT, `address` the relay as ARROWSLIT_RELAY names it."""

    folder: Path
    listen: str
    address: str
    keys: Mapping[str, str]
    relay: Child
    connector: Child
    sandbox: Sandbox
    database: asyncpg.Connection
    model: str

    async def question(self, who: str, text: str) -> tuple[int, dict[str, Any]]:
        """`arrowslit ask` with the key of one of KEYS: its exit status, and what it says."""
        words = ("ask", KEYS[who][0], text, "--json")
        variables = {"ARROWSLIT_RELAY": self.address, "ARROWSLIT_API_KEY": self.keys[who]}
        status, said = await Child(words, self.folder / "ask.log", variables).run()
        return status, json.loads(said)

    @asynccontextmanager
    async def held_up(self) -> AsyncIterator[None]:
        """The database answers nobody who asks for stock; whoever does waits."""
        async with self.database.transaction():
            await self.database.execute("lock table stock.inventory in access exclusive mode")
            yield

    async def waiting(self) -> None:
        """Return once the stock server has asked the database and waits for it."""
        query = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and usename = 'inventory_app'"
        async with asyncio.timeout(WAIT_SECONDS):
            while not await self.database.fetchval(query):  # noqa: ASYNC110
                await asyncio.sleep(0.02)  # PostgreSQL has no event for it

    def events(self, who: str, session: str) -> list[dict[str, Any]]:
        """All events of a session of one of KEYS, oldest first."""
        with Api(f"http://{self.listen}", self.keys[who]) as api:
            return list(api.every("sessions", session, "events"))

    async def said_by_worker(self, session: str, kind: str, count: int) -> list[dict[str, Any]]:
        """Of what the sandbox worker says of a session, the records of one kind in the relay's ledger, once there are
        so many; or as many as there are after a while.
        """
        found: list[dict[str, Any]] = []
        with suppress(TimeoutError):
            async with asyncio.timeout(SAID_SECONDS):
                while len(found) < count:
                    there = [each["said"] for each in self.records("said_by_worker") if each["session"] == session]
                    found = [each["fields"] for each in there if each["kind"] == kind]
                    await asyncio.sleep(0.02)  # the worker sends them beside its work
        return found

    def records(self, kind: str) -> list[dict[str, Any]]:
        """The records of one kind in the ledger, while the relay runs."""
        lines = [line for segment in self.segments() for line in segment.read_bytes().splitlines(keepends=True)]
        found = [json.loads(line) for line in lines if line.endswith(b"\n")]
        return [each for each in found if each["kind"] == kind]

    def ask(self, who: str, *, greet: bool = True) -> AbstractAsyncContextManager[Caller]:
        """A client with the key of one of KEYS."""
        url = f"http://{self.listen}/mcp/{KEYS[who][0]}/{TUNNEL}"
        return caller(url, self.keys[who], greet=greet)

    async def stock(self, tenant: str, sku: str) -> dict[str, object]:
        """What is in the table, whatever the policies say, in the form in which check_stock has to answer."""
        query = "select quantity, restock_date from stock.inventory where tenant = $1 and sku = $2"
        row = await self.database.fetchrow(query, tenant, sku)
        if row is None:
            return {"sku": sku, "found": False}
        day = row["restock_date"]
        restock = day.isoformat() if day else None
        return {"sku": sku, "found": True, "quantity": row["quantity"], "restock_date": restock}

    async def arrive(self, tenant: str, sku: str, pieces: int) -> None:
        """Goods come in, and nobody uses the tunnel for it."""
        change = "update stock.inventory set quantity = quantity + $3 where tenant = $1 and sku = $2"
        await self.database.execute(change, tenant, sku, pieces)

    def grow(self) -> None:
        """Let the stock server have the tool `export_inventory` from now on."""
        (self.folder / "grown").touch()

    async def resume(self) -> None:
        """Start the relay again where it listened before, and wait until the connector has found it."""
        await self.relay.start("--listen", self.listen)
        with _admin(self.listen, self.folder) as admin, suppress(TimeoutError):
            async with asyncio.timeout(BACK_SECONDS):
                while not admin.get("tunnels", tunnel_id(TUNNEL), "status")["connected"]:  # noqa: ASYNC110
                    await asyncio.sleep(0.1)  # there is no event; a person waits, once

    async def verify(self, state: str = "relay") -> tuple[int, dict[str, Any]]:
        """`arrowslit ledger verify`: its exit status, and what it says."""
        words = ("ledger", "verify", "--state", str(self.folder / state), "--json")
        status, said = await Child(words, self.folder / "verify.log").run()
        return status, json.loads(said)

    def segments(self, state: str = "relay") -> list[Path]:
        """The files of the ledger."""
        return sorted((self.folder / state / "ledger").glob("*.jsonl"))

    def tamper(self, old: bytes, new: bytes) -> None:
        """Make a copy of the ledger in which `old` is `new` where it stands first."""
        copy = self.folder / "tampered"
        shutil.copytree(self.folder / "relay" / "ledger", copy / "ledger")
        for name in ("ledger.head", "ledger.key"):
            shutil.copy(self.folder / "relay" / name, copy)
        first = self.segments("tampered")[0]
        first.write_bytes(first.read_bytes().replace(old, new, 1))


@asynccontextmanager
async def set_up(folder: Path, tell: Tell, model: str = "scripted") -> AsyncIterator[Stage]:
    """Start everything in `folder`, and stop it again. `model` is what `serve --model` takes.

    Raises Error `postgres_failed`, `demo_failed`, `state_unusable` and those of /v1.
    """
    async with AsyncExitStack() as opened:
        postgres = await opened.enter_async_context(Postgres(folder / "postgres"))
        dsn = await prepare(postgres)
        database = await opened.enter_async_context(_connected(postgres))
        tell("PostgreSQL", f"listens on 127.0.0.1:{postgres.port}; in its table is the stock of two tenants")
        _forget_last_run(folder)  # nobody else runs in this folder: PostgreSQL would have refused

        serve = ("serve", "--listen", "127.0.0.1:0", "--state", str(folder / "relay"), "--model", model, "--json")
        relay = Child(serve, folder / "relay.log")
        opened.push_async_callback(relay.stop)
        said = json.loads(await relay.start())
        listen = said["listen"].removeprefix("http://")
        tell("relay", f"listens on {listen}; this is all that a caller can reach")
        thinks = "is scripted: it answers stock questions by rule, and needs no key" if model == "scripted" else model
        tell("model", thinks)

        with _admin(listen, folder) as admin:
            environment, environment_key = _place_for_code(admin)
            token, keys = _cast(admin)
        tell("keys", "acme, globex and one without a tenant, for an agent that may use check_stock and nothing else")

        variables = {
            "ARROWSLIT_TUNNEL_TOKEN": token,
            "ARROWSLIT_RELAY": said["relay"],
            "INTERNAL_DB_DSN": dsn,
            "INVENTORY_EXTRA_TOOLS": str(folder / "grown"),
        }
        target = f"stdio:{shlex.quote(str(SERVER))}"  # the connector splits it as a shell would
        connect = ("connect", "--target", target, "--name", TUNNEL, "--state", str(folder / "connector"), *PASSED)
        connector = Child(connect, folder / "connector.log", variables)
        opened.push_async_callback(connector.stop)
        sandbox = Sandbox(folder, said["relay"], environment, environment_key)
        opened.push_async_callback(sandbox.stop)
        tunnel, isolated = await asyncio.gather(connector.start(), sandbox.start())
        tell("connector", f"runs the stock server, has dialled out, and listens nowhere; {tunnel} is open")
        tell("sandbox", isolated)
        yield Stage(folder, listen, said["relay"], keys, relay, connector, sandbox, database, model)


def _admin(listen: str, folder: Path) -> Api:
    return Api(f"http://{listen}", (folder / "relay" / "admin.key").read_text().strip())


def _cast(admin: Api) -> tuple[str, dict[str, str]]:
    """Make the tunnel, two agents and KEYS; returns the tunnel's token, and the keys."""
    tunnel = admin.post("tunnels", body={"name": TUNNEL})["id"]
    for name, tools in TOOLS.items():
        server = {"type": "tunnel", "tunnel_id": tunnel, "tool_allowlist": tools}
        code = {"sandbox": {"type": "self_hosted", "id": ENVIRONMENT}} if name == ANALYST else {}
        admin.post("agents", body={"name": name, "model": MODEL_ID, "mcp_servers": [server], **code})
    keys = {}
    for who, (agent, tenant) in KEYS.items():
        body = {"name": who, "agents": [agent], **({} if tenant is None else {"tenant": tenant})}
        keys[who] = str(admin.post("keys", body=body)["key"])
    return str(admin.post("tunnels", tunnel, "reveal_token")["tunnel_token"]), keys


def _place_for_code(admin: Api) -> tuple[str, str]:
    """The id of an environment, and a key for its worker."""
    environment = str(admin.post("environments", body={"name": ENVIRONMENT, "config": {"type": "self_hosted"}})["id"])
    return environment, str(admin.post("environments", environment, "keys")["environment_key"])


@asynccontextmanager
async def _connected(postgres: Postgres) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(postgres.dsn(SUPERUSER, postgres.secret(SUPERUSER), DATABASE))
    try:
        yield connection
    finally:
        await connection.close(timeout=5)


def _forget_last_run(folder: Path) -> None:
    for name in ("relay", "connector", "sandbox", "tampered"):
        shutil.rmtree(folder / name, ignore_errors=True)
    for name in ("relay.log", "connector.log", "sandbox.log", "verify.log", "ask.log", "grown"):
        (folder / name).unlink(missing_ok=True)
