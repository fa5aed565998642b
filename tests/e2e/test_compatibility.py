"""Servers and clients that others wrote list and call a tool through the tunnel, and see no other tool."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import pytest
import setups
from setups import CLIENTS, SERVERS, ClientSetup, Place, ServerSetup
from speaker import Speaker, SpeakError

from arrowslit.demo.postgres import Postgres
from tests.e2e import compatibility
from tests.e2e.compatibility import Seen
from tests.harness import Connector, Relay

DUAL, LEGACY = "time", "everything-http"


@dataclass(slots=True)
class World:
    """One connector with all the servers, an agent that was granted one tool of each, and what was seen so far."""

    relay: Relay
    place: Place
    agent: str
    key: str
    servers: dict[str, Seen] = field(default_factory=dict)
    clients: dict[str, Seen] = field(default_factory=dict)

    def url(self, server: str) -> str:
        return f"{self.relay.url}/mcp/{self.agent}/{server}"

    async def try_server(self, setup: ServerSetup, client: Speaker, mode: str = "auto") -> str:
        """List and call, and be refused; returns the protocol version that was agreed on."""
        opened = await client.open(self.url(setup.name), {"authorization": f"Bearer {self.key}"}, mode)
        listed = await client.tools(opened)
        arguments = json.loads(self.place.filled(json.dumps(setup.arguments)))
        answer = await client.call(opened, setup.tool, arguments)
        with pytest.raises(SpeakError) as refused:
            await client.call(opened, setup.other, {})
        await client.close(opened)

        assert [tool["name"] for tool in listed] == [setup.tool]
        assert setup.answer in answer["content"][0]["text"]
        assert (refused.value.code, f"Unknown tool: {setup.other}" in refused.value.message) == (-32602, True)
        return opened.protocol

    async def try_inspector(self, setup: ServerSetup) -> None:
        """The same with the inspector's command line, which makes a connection for each question."""
        named = [f"{name}={value}" for name, value in setup.arguments.items()]
        arguments = ["--tool-arg", *named] if named else []
        listed, answer, refused = await asyncio.gather(
            self._inspect(setup, "tools/list"),
            self._inspect(setup, "tools/call", "--tool-name", setup.tool, *arguments),
            self._inspect(setup, "tools/call", "--tool-name", setup.other),
        )

        assert [tool["name"] for tool in listed["tools"]] == [setup.tool]
        assert setup.answer in answer["content"][0]["text"]
        assert refused is None

    async def _inspect(self, setup: ServerSetup, *words: str) -> Any:
        return await asyncio.to_thread(setups.inspect, self.url(setup.name), self.key, *words)

    async def see_server(self, setup: ServerSetup, client: Speaker) -> Seen:
        if setup.name not in self.servers:
            self.servers[setup.name] = Seen(await self.try_server(setup, client))
        return self.servers[setup.name]

    async def see_client(self, setup: ClientSetup, speaker: Speaker | None) -> Seen:
        if setup.title not in self.clients:
            seen = []
            for server in (named(DUAL), named(LEGACY)):
                if speaker is None:
                    await self.try_inspector(server)
                    seen.append(compatibility.INSPECTOR_AGREES)
                else:
                    seen.append(await self.try_server(server, speaker, setup.mode))
            self.clients[setup.title] = Seen(*seen)
        return self.clients[setup.title]


def named(name: str) -> ServerSetup:
    return next(each for each in SERVERS if each.name == name)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, postgres: Postgres) -> Place:
    """A repository, a database and a folder for the servers to work on."""
    folder = tmp_path_factory.mktemp("place").resolve()
    (folder / "stock.txt").write_text("BOLT8 340\n")
    subprocess.run(["git", "init", "--quiet", str(folder / "repository")], check=True)
    with sqlite3.connect(folder / "parts.db") as database:
        database.execute("CREATE TABLE parts (sku TEXT)")
    database.close()
    return Place(folder, folder / "repository", folder / "parts.db", postgres.admin_dsn)


@pytest.fixture(scope="module")
def world(relay: Relay, place: Place, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("compatibility")
    tunnel = relay.tunnel("compatibility")
    with ExitStack() as stack:
        file = folder / "connector.toml"
        file.write_text('name = "compatibility"\n' + "".join(target(each, place, stack) for each in SERVERS))
        grants = [
            {"type": "tunnel", "tunnel_id": tunnel.id, "server": each.name, "tool_allowlist": [each.tool]}
            for each in SERVERS
        ]
        with relay.client() as client:
            body = {"name": "compatibility", "model": "none", "mcp_servers": grants}
            agent = str(client.post("agents", body=body)["id"])
        connector = Connector(relay, tunnel, file=file, folder=folder)
        stack.callback(connector.kill)
        connector.spawn()
        connector.wait_for_out("tnl_", patience=60)  # eight programs start at once
        yield World(relay, place, agent, relay.key(agent, "acme"))


def target(setup: ServerSetup, place: Place, stack: ExitStack) -> str:
    """The target's part of connector.toml. Strings of JSON are strings of TOML."""
    if setup.over == "stdio":
        words = [place.filled(word) for word in setup.words]
        variables = ", ".join(f"{name} = {json.dumps(place.filled(text))}" for name, text in setup.environment.items())
        where = f"command = {json.dumps(words)}\nenvironment = {{ {variables} }}"
    else:
        path = {"http": "http://127.0.0.1:{}/mcp", "sse": "sse+http://127.0.0.1:{}/sse"}[setup.over]
        where = f'url = "{path.format(stack.enter_context(setups.listening(setup.words)))}"'
    return f'\n[[targets]]\nname = "{setup.name}"\n{where}\n'


def speaker(setup: ClientSetup, request: pytest.FixtureRequest) -> Speaker | None:
    """What speaks as that client; None for the inspector, which is a command."""
    if setup.speaker == "inspector":
        return None
    found = request.getfixturevalue(setup.speaker)
    assert isinstance(found, Speaker)
    return found


@pytest.mark.promise("P6")
@pytest.mark.parametrize("setup", SERVERS, ids=lambda setup: setup.name)
async def test_a_server_of_others_lists_and_calls_one_tool_through_the_tunnel(
    setup: ServerSetup, world: World, mcp2: Speaker
) -> None:
    assert (await world.see_server(setup, mcp2)).protocol in ("2024-11-05", "2025-11-25", "2026-07-28")


@pytest.mark.promise("P6")
@pytest.mark.parametrize("setup", CLIENTS, ids=lambda setup: setup.title)
async def test_a_client_of_others_lists_and_calls_one_tool_of_servers_of_both_eras(
    setup: ClientSetup, world: World, request: pytest.FixtureRequest
) -> None:
    seen = await world.see_client(setup, speaker(setup, request))

    assert seen.legacy in ("2025-11-25", compatibility.INSPECTOR_AGREES)


async def test_the_page_says_what_was_seen(world: World, mcp2: Speaker, request: pytest.FixtureRequest) -> None:
    servers = {each.name: await world.see_server(each, mcp2) for each in SERVERS}
    clients = {each.title: await world.see_client(each, speaker(each, request)) for each in CLIENTS}
    page = compatibility.page(servers, clients)
    if request.config.getoption("--write-docs"):
        compatibility.PAGE.write_text(page + "\n")

    assert compatibility.PAGE.read_text() == page + "\n"
