"""The smoke sequence of the Managed Agents API, with the unmodified SDK and its own worker."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import anthropic
import pytest

from tests.harness import PATIENCE
from tests.official.certificates import authority
from tests.official.place import Place, kinds, place, text, use, words, worker

TURNS = [
    [use("list_issues", q=1)],
    [use("bash", command="echo hello-from-worker && pwd")],
    [text("all done")],
]
TOOLS: list[Any] = [
    {
        "type": "agent_toolset_20260401",
        "default_config": {"enabled": False},
        "configs": [{"name": "bash", "enabled": True}],
    },
    {
        "type": "mcp_toolset",
        "mcp_server_name": "srv",
        "default_config": {"enabled": False},
        "configs": [{"name": "list_issues", "enabled": True, "permission_policy": {"type": "always_allow"}}],
    },
]


async def test_the_smoke_sequence(tmp_path: Path) -> None:
    with place(tmp_path, TURNS) as there:
        async with there.asynchronous() as client:
            await wrong_key(there)
            server = await tunnels(client)
            agent = await agents(client, server)
            environment, key = await environments(client, agent, there)
            await a_session(client, there, agent, environment, key, tmp_path / "work")


async def wrong_key(there: Place) -> None:
    async with there.asynchronous("not-a-key") as stranger:
        with pytest.raises(anthropic.AuthenticationError) as refused:
            await stranger.beta.agents.create(model="claude-opus-5-5", name="t")

    assert refused.value.type == "authentication_error"
    assert refused.value.request_id


async def tunnels(client: anthropic.AsyncAnthropic) -> str:
    """Makes another tunnel and a certificate for it; returns the URL of a server behind the one that is served."""
    made = await client.beta.tunnels.create(display_name="smoke")
    token = await client.beta.tunnels.reveal_token(made.id)
    certificate = await client.beta.tunnels.certificates.create(made.id, ca_certificate_pem=authority())

    assert made.id.startswith("tnl_")
    assert made.type == "tunnel"
    assert made.domain.endswith(".tunnel.localhost")
    assert token.tunnel_token
    assert certificate.tunnel_id == made.id
    served = await client.beta.tunnels.retrieve("tnl_srv")
    return f"https://srv.{served.domain}/mcp"


async def agents(client: anthropic.AsyncAnthropic, server: str) -> Any:
    agent = await client.beta.agents.create(
        model="claude-opus-5-5",
        name="smoke",
        system="s",
        mcp_servers=[{"type": "url", "name": "srv", "url": server}],
        tools=TOOLS,
    )
    (toolset,) = [each for each in agent.tools if each.type == "mcp_toolset"]

    assert agent.version == 1
    assert toolset.default_config.enabled is False
    assert toolset.default_config.permission_policy.type == "always_ask"
    assert [(each.name, each.enabled, each.permission_policy.type) for each in toolset.configs] == [
        ("list_issues", True, "always_allow")
    ]
    return agent


async def environments(client: anthropic.AsyncAnthropic, agent: Any, there: Place) -> tuple[str, str]:
    environment = await client.beta.environments.create(name="smoke", config={"type": "self_hosted"})
    made: Any = await client.post(f"/v1/environments/{environment.id}/keys", cast_to=object, body={})

    assert environment.config.type == "self_hosted"
    async with there.asynchronous(made["environment_key"]) as stranger:
        with pytest.raises((anthropic.AuthenticationError, anthropic.PermissionDeniedError)):
            await stranger.beta.agents.create(model="claude-opus-5-5", name="t")
    return environment.id, made["environment_key"]


async def a_session(
    client: anthropic.AsyncAnthropic, there: Place, agent: Any, environment: str, key: str, workdir: Path
) -> None:
    chosen: Any = {"type": "agent", "id": agent.id, "version": agent.version}
    session = await client.beta.sessions.create(agent=chosen, environment_id=environment)
    assert session.status == "idle"
    assert session.resources == []

    async with worker(there, environment, key, workdir, max_idle=0.5):
        seen = await ask(client, session.id, "go")
        assert {
            "session.status_running",
            "agent.mcp_tool_use",
            "agent.mcp_tool_result",
            "agent.tool_use",
            "session.status_idle",
            "user.tool_result",
            "agent.message",
        } <= set(kinds(seen))
        await what_the_list_says(client, session.id)
        await the_queue_is_empty(there, environment, key)

    assert (await client.beta.sessions.retrieve(session.id)).status == "idle"
    assert (await client.beta.sessions.archive(session.id)).status == "terminated"
    assert (await client.beta.sessions.delete(session.id)).type == "session_deleted"
    with pytest.raises(anthropic.NotFoundError):
        await client.beta.sessions.retrieve(session.id)


async def ask(client: anthropic.AsyncAnthropic, session_id: str, question: str) -> list[Any]:
    """The events of one turn."""
    seen: list[Any] = []
    async with asyncio.timeout(30):
        async with await client.beta.sessions.events.stream(session_id) as events:
            sent: Any = {"type": "user.message", "content": [{"type": "text", "text": question}]}
            echo = await client.beta.sessions.events.send(session_id, events=[sent])
            assert echo.data is not None
            assert echo.data[0].id
            async for event in events:
                seen.append(event)
                if event.type == "session.status_idle" and event.stop_reason.type == "end_turn":
                    return seen
    raise AssertionError(f"the stream ended after {kinds(seen)}")


async def what_the_list_says(client: anthropic.AsyncAnthropic, session_id: str) -> None:
    events = [event async for event in client.beta.sessions.events.list(session_id, limit=3)]  # all pages
    (used,) = [each for each in events if each.type == "agent.tool_use"]
    (result,) = [each for each in events if each.type == "user.tool_result"]

    assert len({each.id for each in events}) == len(events)
    assert result.tool_use_id == used.id
    assert "hello-from-worker" in words(result)
    assert used.evaluated_permission == "allow"


async def the_queue_is_empty(there: Place, environment: str, key: str) -> None:
    """Once the worker has seen that the turn is over."""
    async with anthropic.AsyncAnthropic(base_url=there.relay.url, auth_token=key) as client, asyncio.timeout(PATIENCE):
        while True:
            (item,) = [each async for each in client.beta.environments.work.list(environment)]
            if item.state == "stopped":
                break
            await asyncio.sleep(0.05)
        assert item.secret is None
        assert (await client.beta.environments.work.stats(environment)).depth == 0
