"""Story of all calls: every method of the SDK's five resources, what it says on the wire, and what we answer."""

from __future__ import annotations

import inspect
import re
from collections.abc import Awaitable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import anthropic

from tests.official.certificates import authority
from tests.official.ground import Ground, Stage, bash, call, is_waiting

UNSUPPORTED, ABSENT = "not_supported", "not_found"

WIRE: Mapping[str, str] = {
    "tunnels.create": "POST /v1/tunnels",
    "tunnels.retrieve": "GET /v1/tunnels/{}",
    "tunnels.list": "GET /v1/tunnels",
    "tunnels.archive": "POST /v1/tunnels/{}/archive",
    "tunnels.reveal_token": "POST /v1/tunnels/{}/reveal_token",
    "tunnels.rotate_token": "POST /v1/tunnels/{}/rotate_token",
    "tunnels.certificates.create": "POST /v1/tunnels/{}/certificates",
    "tunnels.certificates.retrieve": "GET /v1/tunnels/{}/certificates/{}",
    "tunnels.certificates.list": "GET /v1/tunnels/{}/certificates",
    "tunnels.certificates.archive": "POST /v1/tunnels/{}/certificates/{}/archive",
    "agents.create": "POST /v1/agents",
    "agents.retrieve": "GET /v1/agents/{}",
    "agents.update": "POST /v1/agents/{}",
    "agents.list": "GET /v1/agents",
    "agents.archive": "POST /v1/agents/{}/archive",
    "agents.versions.list": "GET /v1/agents/{}/versions",
    "environments.create": "POST /v1/environments",
    "environments.retrieve": "GET /v1/environments/{}",
    "environments.update": "POST /v1/environments/{}",
    "environments.list": "GET /v1/environments",
    "environments.archive": "POST /v1/environments/{}/archive",
    "environments.delete": "DELETE /v1/environments/{}",
    "environments.work.poll": "GET /v1/environments/{}/work/poll",
    "environments.work.ack": "POST /v1/environments/{}/work/{}/ack",
    "environments.work.heartbeat": "POST /v1/environments/{}/work/{}/heartbeat",
    "environments.work.stop": "POST /v1/environments/{}/work/{}/stop",
    "environments.work.list": "GET /v1/environments/{}/work",
    "environments.work.stats": "GET /v1/environments/{}/work/stats",
    "environments.work.retrieve": "GET /v1/environments/{}/work/{}",
    "environments.work.update": "POST /v1/environments/{}/work/{}",
    "sessions.create": "POST /v1/sessions",
    "sessions.retrieve": "GET /v1/sessions/{}",
    "sessions.update": "POST /v1/sessions/{}",
    "sessions.list": "GET /v1/sessions",
    "sessions.archive": "POST /v1/sessions/{}/archive",
    "sessions.delete": "DELETE /v1/sessions/{}",
    "sessions.events.list": "GET /v1/sessions/{}/events",
    "sessions.events.send": "POST /v1/sessions/{}/events",
    "sessions.events.stream": "GET /v1/sessions/{}/events/stream",
    "sessions.resources.add": "POST /v1/sessions/{}/resources",
    "sessions.resources.retrieve": "GET /v1/sessions/{}/resources/{}",
    "sessions.resources.update": "POST /v1/sessions/{}/resources/{}",
    "sessions.resources.list": "GET /v1/sessions/{}/resources",
    "sessions.resources.delete": "DELETE /v1/sessions/{}/resources/{}",
    "sessions.threads.retrieve": "GET /v1/sessions/{}/threads/{}",
    "sessions.threads.list": "GET /v1/sessions/{}/threads",
    "sessions.threads.archive": "POST /v1/sessions/{}/threads/{}/archive",
    "sessions.threads.events.list": "GET /v1/sessions/{}/threads/{}/events",
    "sessions.threads.events.stream": "GET /v1/sessions/{}/threads/{}/stream",
    "vaults.create": "POST /v1/vaults",
    "vaults.retrieve": "GET /v1/vaults/{}",
    "vaults.update": "POST /v1/vaults/{}",
    "vaults.list": "GET /v1/vaults",
    "vaults.archive": "POST /v1/vaults/{}/archive",
    "vaults.delete": "DELETE /v1/vaults/{}",
    "vaults.credentials.create": "POST /v1/vaults/{}/credentials",
    "vaults.credentials.retrieve": "GET /v1/vaults/{}/credentials/{}",
    "vaults.credentials.update": "POST /v1/vaults/{}/credentials/{}",
    "vaults.credentials.list": "GET /v1/vaults/{}/credentials",
    "vaults.credentials.archive": "POST /v1/vaults/{}/credentials/{}/archive",
    "vaults.credentials.delete": "DELETE /v1/vaults/{}/credentials/{}",
    "vaults.credentials.mcp_oauth_validate": "POST /v1/vaults/{}/credentials/{}/mcp_oauth_validate",
}
"""Method and path of each, ids left out."""

HELPERS = ("environments.work.poller", "environments.work.worker", "sessions.events.tool_runner")
"""What is made of others and says nothing of its own; other scenarios use them."""

_ID = re.compile(r"\b(?:tnl|tcrt|agent|env|work|sesn|sthr|sesrsc|vlt|vcrd)_\w+")


def methods(resource: object, path: str = "") -> Iterator[str]:
    """The names of all methods of an SDK's resource, and of those below it."""
    for name in dir(type(resource)):
        found = inspect.getattr_static(type(resource), name)
        if name.startswith(("_", "with_")):
            continue
        if inspect.isfunction(found):
            yield f"{path}.{name}"
        else:
            yield from methods(getattr(resource, name), f"{path}.{name}")


@dataclass(slots=True)
class Teller:
    """Makes calls by their names, and compares what they say with WIRE."""

    stage: Stage
    client: anthropic.AsyncAnthropic
    told: set[str]

    async def __call__(self, name: str, /, *words: Any, refused: str | None = None, **more: Any) -> Any:
        """What the call returns; its refusal's code is `refused`, if one is expected."""
        method: Any = self.client.beta
        for part in name.split("."):
            method = getattr(method, part)
        self.told.add(name)
        try:
            answer = method(*words, **more)
            answer = await answer if isinstance(answer, Awaitable) else answer
        except anthropic.APIStatusError as error:
            body: Any = error.body
            assert body["error"]["details"]["error_code"] == refused, body
            assert error.request_id
            answer = None
        else:
            assert refused is None
        line = self.stage.proxy.exchanges[-1].asked.line
        assert _ID.sub("{}", line) == WIRE[name]
        return answer

    @property
    def query(self) -> Mapping[str, list[str]]:
        """Of the last call."""
        return self.stage.proxy.exchanges[-1].asked.query

    @property
    def body(self) -> Any:
        """Of the last call."""
        return self.stage.proxy.exchanges[-1].asked.json


async def allcalls(ground: Ground) -> None:
    async with ground.stage() as stage:
        told = set[str]()
        async with anthropic.AsyncAnthropic(base_url=stage.proxy.url, api_key=ground.key) as client:
            tell = Teller(stage, client, told)
            everything = {
                name.removeprefix(".")
                for resource in ("tunnels", "agents", "environments", "sessions", "vaults")
                for name in methods(getattr(client.beta, resource), f".{resource}")
            }
            async with anthropic.AsyncAnthropic(base_url=stage.proxy.url, auth_token=stage.key) as worker:
                await _work(tell, Teller(stage, worker, told))
            await _tunnels(tell)
            await _environments(tell)
            agent = await _agents(tell)
            session = await _sessions(tell, agent)
            await _parts(tell, session)
            await _end(tell, agent, session)
            await _vaults(tell)

        assert told == set(WIRE) == everything - set(HELPERS)


async def _tunnels(tell: Teller) -> None:
    tunnel = await tell("tunnels.create", display_name="all calls")
    assert tell.body == {"display_name": "all calls"}
    assert (await tell("tunnels.retrieve", tunnel.id)).id == tunnel.id
    assert (await tell("tunnels.list", include_archived=True, limit=1)).next_page
    assert tell.query == {"include_archived": ["true"], "limit": ["1"]}
    first = await tell("tunnels.reveal_token", tunnel.id)
    second = await tell("tunnels.rotate_token", tunnel.id, reason="to see")
    assert first.tunnel_token != second.tunnel_token
    made = await tell("tunnels.certificates.create", tunnel.id, ca_certificate_pem=authority())
    assert (await tell("tunnels.certificates.retrieve", made.id, tunnel_id=tunnel.id)).fingerprint == made.fingerprint
    assert [each.id for each in (await tell("tunnels.certificates.list", tunnel.id)).data] == [made.id]
    assert (await tell("tunnels.certificates.archive", made.id, tunnel_id=tunnel.id)).archived_at
    assert (await tell("tunnels.archive", tunnel.id)).archived_at


async def _agents(tell: Teller) -> str:
    tools = [{"type": "agent_toolset_20260401"}]
    agent = await tell("agents.create", model="m", name="all calls", tools=tools, metadata={"a": "1"})
    assert tell.body == {"model": "m", "name": "all calls", "tools": tools, "metadata": {"a": "1"}}
    updated = await tell("agents.update", agent.id, version=1, description="all of them", metadata={"a": None})
    assert tell.body == {"version": 1, "description": "all of them", "metadata": {"a": None}}
    assert (updated.version, updated.metadata) == (2, {})
    assert (await tell("agents.retrieve", agent.id, version=1)).metadata == {"a": "1"}
    assert [each.version for each in (await tell("agents.versions.list", agent.id)).data] == [2, 1]
    listed = await tell("agents.list", created_at_gte=agent.created_at, created_at_lte=agent.created_at)
    assert set(tell.query) == {"created_at[gte]", "created_at[lte]"}
    assert agent.id in [each.id for each in listed.data]
    return str(agent.id)


async def _sessions(tell: Teller, agent: str) -> str:
    first = [{"type": "user.message", "content": [{"type": "text", "text": bash("true")}]}]
    session = await tell(
        "sessions.create", agent=agent, environment_id=tell.stage.environment, initial_events=first, title="all calls"
    )
    assert (session.agent.version, session.title) == (2, "all calls")
    await tell.stage.until(session.id, is_waiting)
    assert (await tell("sessions.retrieve", session.id)).status == "idle"
    assert (await tell("sessions.update", session.id, title="more", metadata={"b": "2"})).metadata == {"b": "2"}
    await tell("sessions.list", agent_id=agent, agent_version=2, statuses=["idle"], order="asc")
    assert tell.query == {"agent_id": [agent], "agent_version": ["2"], "statuses[]": ["idle"], "order": ["asc"]}
    listed = await tell("sessions.events.list", session.id, types=["user.message", "agent.message"], order="desc")
    assert tell.query == {"types[]": ["user.message", "agent.message"], "order": ["desc"]}
    assert [each.type for each in listed.data] == ["user.message"]
    stream = await tell("sessions.events.stream", session.id, event_deltas=["agent.message"])
    await stream.close()
    sent = await tell("sessions.events.send", session.id, events=[{"type": "user.interrupt"}])
    assert tell.body == {"events": [{"type": "user.interrupt"}]}
    assert sent.data[0].id
    return str(session.id)


async def _parts(tell: Teller, session: str) -> None:
    """A session has no threads and no resources."""
    assert (await tell("sessions.threads.list", session)).data == []
    thread = {"thread_id": "sthr_1", "session_id": session}
    await tell("sessions.threads.retrieve", **thread, refused=ABSENT)
    await tell("sessions.threads.archive", **thread, refused=ABSENT)
    await tell("sessions.threads.events.list", **thread, refused=ABSENT)
    await tell("sessions.threads.events.stream", **thread, refused=ABSENT)
    assert (await tell("sessions.resources.list", session)).data == []
    resource = {"resource_id": "sesrsc_1", "session_id": session}
    await tell("sessions.resources.add", session, type="file", file_id="file_1", refused=UNSUPPORTED)
    await tell("sessions.resources.retrieve", **resource, refused=ABSENT)
    await tell("sessions.resources.update", **resource, authorization_token="t", refused=ABSENT)
    await tell("sessions.resources.delete", **resource, refused=ABSENT)


async def _end(tell: Teller, agent: str, session: str) -> None:
    assert (await tell("agents.archive", agent)).archived_at
    assert (await tell("sessions.archive", session)).status == "terminated"
    assert (await tell("sessions.delete", session)).type == "session_deleted"


async def _vaults(tell: Teller) -> None:
    """There are none, and each call says so."""
    auth = {"type": "static_bearer", "token": "t", "mcp_server_url": "https://x.example/mcp"}
    one = {"credential_id": "vcrd_1", "vault_id": "vlt_1"}
    await tell("vaults.create", display_name="v", refused=UNSUPPORTED)
    await tell("vaults.retrieve", "vlt_1", refused=UNSUPPORTED)
    await tell("vaults.update", "vlt_1", display_name="w", refused=UNSUPPORTED)
    await tell("vaults.list", refused=UNSUPPORTED)
    await tell("vaults.archive", "vlt_1", refused=UNSUPPORTED)
    await tell("vaults.delete", "vlt_1", refused=UNSUPPORTED)
    await tell("vaults.credentials.create", "vlt_1", auth=auth, refused=UNSUPPORTED)
    await tell("vaults.credentials.list", "vlt_1", refused=UNSUPPORTED)
    for name in ("retrieve", "update", "archive", "delete", "mcp_oauth_validate"):
        await tell(f"vaults.credentials.{name}", **one, refused=UNSUPPORTED)


async def _work(operator: Teller, worker: Teller) -> None:
    environment = operator.stage.environment
    await operator.stage.session(call("bash", command="true"))
    item = await worker("environments.work.poll", environment, block_ms=999, reclaim_older_than_ms=10)
    assert worker.query == {"block_ms": ["999"], "reclaim_older_than_ms": ["10"]}
    at = {"environment_id": environment}
    assert (await worker("environments.work.ack", item.id, **at)).state == "starting"
    beat = await worker("environments.work.heartbeat", item.id, **at, desired_ttl_seconds=30)
    assert (beat.state, beat.ttl_seconds) == ("active", 30)
    assert [each.id for each in (await worker("environments.work.list", environment)).data] == [item.id]
    assert (await operator("environments.work.stats", environment)).depth == 0
    assert (await operator("environments.work.retrieve", item.id, **at)).secret is None
    assert (await operator("environments.work.update", item.id, **at, metadata={"c": "3"})).metadata == {"c": "3"}
    assert (await operator("environments.work.stop", item.id, **at, force=True)).state == "stopped"
    assert operator.body == {"force": True}


async def _environments(tell: Teller) -> None:
    made = await tell("environments.create", name="another", config={"type": "self_hosted"}, metadata={"d": "4"})
    assert made.config.type == "self_hosted"
    assert (await tell("environments.retrieve", made.id)).name == "another"
    assert (await tell("environments.update", made.id, metadata={"d": ""})).metadata == {}
    await tell("environments.list", include_archived=True, limit=1)
    assert tell.query == {"include_archived": ["true"], "limit": ["1"]}
    assert (await tell("environments.archive", made.id)).archived_at
    assert (await tell("environments.delete", made.id)).type == "environment_deleted"
