"""A connector with several targets, and agents with several servers, behind one tunnel and behind two."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import programs
import pytest
from speaker import Speaker

from tests.e2e.door import MODERN, Said, door
from tests.harness import Connector, Relay, Tunnel, until
from tests.support.processes import below

CANARY = programs.command("canary")


def target(name: str, more: str = "", *, where: str = f"command = {json.dumps(CANARY)}") -> str:
    return f'[[targets]]\nname = "{name}"\n{where}\n{more}\n'


@dataclass(frozen=True, slots=True)
class Private:
    """A connector with a file."""

    relay: Relay
    tunnel: Tunnel
    path: Path
    connector: Connector

    def write(self, *targets: str) -> None:
        self.path.write_text(f'name = "{self.tunnel.name}"\n' + "".join(targets))

    def reload(self, said: str) -> str:
        """SIGHUP, and the line that follows it."""
        before = len(self.connector.err)
        self.connector.signal(signal.SIGHUP)
        until(lambda: said in self.connector.err[before:], f"it said {said!r}\n{self.connector.err[before:]}")
        return self.connector.err[before:]

    def offered(self) -> list[str]:
        with self.relay.client() as client:
            found = client.get("tunnels", self.tunnel.id, "status")["connectors"]
        return [each["name"] for each in found[-1]["targets"]] if found else []

    def agent(self, *servers: Mapping[str, Any]) -> str:
        body = [{"type": "tunnel", "tunnel_id": self.tunnel.id, "tool_allowlist": ["echo"], **each} for each in servers]
        with self.relay.client() as client:
            return str(client.post("agents", body={"name": "a", "model": "none", "mcp_servers": body})["id"])

    async def call(self, agent: str, server: str, tool: str = "echo", **arguments: object) -> Said:
        """One call, in the modern era, which has no session to begin."""
        async with door(f"{self.relay.url}/mcp/{agent}/{server}", self.relay.key(agent, "acme"), MODERN) as client:
            return await client.call(tool, arguments or {"canary": "tweet"})


@pytest.fixture(scope="module")
def running(relay: Relay, canary: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Private]:
    """One connector for all tests here."""
    folder = tmp_path_factory.mktemp("several")
    tunnel = relay.tunnel("several")
    path = folder / "connector.toml"
    private = Private(relay, tunnel, path, Connector(relay, tunnel, file=path, folder=folder))
    private.write(target("near"), target("far", where=f'url = "{canary}"'))
    with private.connector:
        yield private


@pytest.fixture
def private(running: Private, canary: str) -> Private:
    """It, with two targets: `near`, which it runs, and `far`, which it reaches over HTTP."""
    before = running.path.read_text()
    running.write(target("near"), target("far", where=f'url = "{canary}"'))
    if running.path.read_text() != before:
        running.reload("is in use: near, far")
    until(lambda: running.offered() == ["near", "far"], "both are offered")
    return running


async def test_an_agent_reaches_the_server_that_it_names_and_no_other(private: Private) -> None:
    private.write(target("near"), target("far", '[targets.ceiling]\ntools = ["other"]\ntenants = ["*"]'))
    private.reload("is in use: near, far")
    agent = private.agent({"server": "near"}, {"server": "far", "name": "other"})

    near, other = await private.call(agent, "near"), await private.call(agent, "other")

    assert near.content["canary"] == "tweet"
    assert other.code == "denied_by_ceiling"


async def test_each_server_of_an_agent_has_sessions_of_its_own(private: Private, mcp2: Speaker) -> None:
    agent = private.agent({"server": "near"}, {"server": "far"})
    headers = {"authorization": f"Bearer {private.relay.key(agent, 'acme')}"}
    urls = [f"{private.relay.url}/mcp/{agent}/{name}" for name in ("near", "far")]

    opened = [await mcp2.open(url, headers, mode) for url in urls for mode in ("legacy", "auto")]
    said = await asyncio.gather(*(mcp2.call(each, "echo", {"canary": str(n)}) for n, each in enumerate(opened)))
    for each in opened:
        await mcp2.close(each)

    assert [each["structuredContent"]["canary"] for each in said] == ["0", "1", "2", "3"]


async def test_a_client_library_finds_each_server_at_its_host_name(private: Private, mcp1: Speaker) -> None:
    agent = private.agent({"server": "near"}, {"server": "far"})
    key = private.relay.key(agent, "acme")

    for name in ("near", "far", "near.several"):
        headers = {"authorization": f"Bearer {key}", "host": f"{name}.tunnel.localhost"}
        opened = await mcp1.open(f"{private.relay.url}/mcp", headers)
        said = await mcp1.call(opened, "echo", {"canary": name})
        await mcp1.close(opened)
        assert said["structuredContent"] == {"canary": name, "tenant": "acme"}


def test_an_agent_that_does_not_say_which_server_is_told_to(private: Private) -> None:
    tunnel = {"type": "tunnel", "tunnel_id": private.tunnel.id, "tool_allowlist": ["echo"]}
    body = json.dumps({"name": "vague", "model": "none", "mcp_servers": [tunnel]})
    path = private.path.with_name("agent.json")
    path.write_text(body)

    refused = private.relay.run("agent", "create", "--file", str(path), "--json")

    assert refused.status == 1
    assert refused.json["error"]["code"] == "server_ambiguous"
    assert "far, near" in refused.json["error"]["message"]
    told = private.relay.run("agent", "create", "c", "--tunnel", private.tunnel.name)
    assert "hint: say which one it may use: --server NAME" in told.err
    made = private.relay.run("agent", "create", "c", "--tunnel", private.tunnel.name, "--server", "far", "--json").ok()
    assert made.json["mcp_servers"][0]["name"] == "far"


async def test_an_agent_from_before_there_were_several_is_told_at_its_next_call(private: Private) -> None:
    private.write(target("near"))
    private.reload("is in use: near")
    until(lambda: private.offered() == ["near"], "one is offered")
    agent = private.agent({"name": "only"})
    assert (await private.call(agent, "only")).outcome == "result"

    private.write(target("near"), target("far"))
    private.reload("is in use: near, far")
    until(lambda: private.offered() == ["near", "far"], "both are offered")

    assert (await private.call(agent, "only")).code == "server_ambiguous"


async def test_a_new_file_is_applied_without_cutting_a_call(private: Private, tmp_path: Path) -> None:
    log = tmp_path / "appended"
    append = f"command = {json.dumps(programs.command('append'))}\nenvironment = {{ APPEND_LOG = '{log}' }}"
    private.write(target("near"), target("old", where=append))
    private.reload("is in use: near, old")
    until(lambda: private.offered() == ["near", "old"], "the old one is offered")
    agent = private.agent({"server": "old", "tool_allowlist": ["append"]}, {"server": "new"}, {"server": "near"})
    assert (await private.call(agent, "new")).outcome == "not_delivered"
    call = asyncio.create_task(private.call(agent, "old", "append", text="long", delay_ms=2000))
    await asyncio.to_thread(until, log.exists, "the call runs")

    private.write(target("new"), target("near"))
    await asyncio.to_thread(private.reload, "is in use: new, near")
    await asyncio.to_thread(until, lambda: private.offered() == ["new", "near"], "the new one is offered")

    assert (await private.call(agent, "new")).outcome == "result"
    assert (await private.call(agent, "near")).outcome == "result"
    assert (await private.call(agent, "old", "append", text="late")).outcome == "not_delivered"
    assert (await call).content == {"text": "long"}
    assert log.read_text() == "long\n"


async def test_a_new_ceiling_is_in_force_from_the_next_call_on_and_restarts_nothing(private: Private) -> None:
    agent = private.agent({"server": "near"})
    assert (await private.call(agent, "near")).outcome == "result"
    before = programs_of(private.connector)

    private.write(target("near", '[targets.ceiling]\ntools = ["other"]\ntenants = ["*"]'))
    private.reload("is in use: near")

    assert (await private.call(agent, "near")).code == "denied_by_ceiling"
    after = programs_of(private.connector)
    assert after
    assert after <= before, "none is new; one of a target that an earlier file had may have ended meanwhile"


def programs_of(connector: Connector) -> set[int]:
    """The process ids of the stdio servers of a connector."""
    return {each.pid for each in below(connector.pid, "canary.py")}


@pytest.mark.parametrize(
    ("targets", "said"),
    [
        ((target("near", "colour = 1"),), "line 5, targets[0].colour: unknown key colour"),
        ((target("near"), target("dead", where='command = "false"')), "target dead:"),
        ((target("near").replace("[[", "[["), "name = ["), "this is not TOML"),
    ],
)
async def test_a_file_that_is_wrong_changes_nothing(private: Private, targets: Sequence[str], said: str) -> None:
    agent = private.agent({"server": "near"}, {"server": "far"})

    private.write(*targets)
    log = private.reload("what was offered before is offered still")

    until(lambda: said in private.connector.err, f"{said}\n{log}")
    assert (await private.call(agent, "near")).outcome == "result"
    assert (await private.call(agent, "far")).outcome == "result"
    assert private.offered() == ["near", "far"]


def test_another_tunnel_is_not_taken_from_a_file_while_it_runs(private: Private) -> None:
    private.path.write_text(private.path.read_text().replace('name = "several"', 'name = "elsewhere"', 1))

    private.reload("cannot change while a connector runs")
    assert private.connector.running


async def test_an_agent_may_have_servers_behind_several_tunnels(private: Private, canary: str, tmp_path: Path) -> None:
    second = private.relay.tunnel(f"{private.tunnel.name}-second")
    with Connector(private.relay, second, canary, folder=tmp_path / "second"):
        agent = private.agent({"server": "near"}, {"tunnel_id": second.id, "name": "beyond"})

        assert (await private.call(agent, "near", canary="one")).content["canary"] == "one"
        assert (await private.call(agent, "beyond", canary="two")).content["canary"] == "two"


def test_a_file_is_checked_without_starting_or_reaching_anything(private: Private) -> None:
    good = private.relay.run("connect", "--config", str(private.path), "--check", "--json").ok()
    private.write(target("near", "colour = 1"), target("near"))
    bad = private.relay.run("connect", "--config", str(private.path), "--check", "--json")

    assert [(each["name"], each["ceiling"]) for each in good.json["targets"]] == [("near", "none"), ("far", "none")]
    assert bad.status == 1
    assert [(each["line"], each["key"]) for each in bad.json["error"]["problems"]] == [
        (5, "targets[0].colour"),
        (7, "targets[1].name"),
    ]
