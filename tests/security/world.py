"""One relay process with two tenants, acme and evil, and everything that an attacker of either might hold or see."""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import httpx2

from arrowslit.client.api import trusted
from arrowslit.clock import rfc3339
from tests.e2e import plain
from tests.e2e.door import LEGACY, MODERN, events
from tests.harness import Connector, Relay, Tunnel, until
from tests.support.lines import records, whole_lines

JSON = dict[str, Any]
MODEL_KEY = "sk-ant-no-key-of-anybody-7f3a91"
SECRET = re.compile(r"asl_[a-z]{2,4}_[A-Za-z0-9_-]{20,}")
_idents = count(1)


@dataclass(slots=True)
class World:
    """`keys` and `agents` are by tenant; each agent may use the tool `look` of the server `notes`, and a sandbox.
    `neighbour` is a key of evil's for the agent of acme.

    `said` is every answer to a request that was refused, `issued` every secret that an answer gave out, and by which
    path.
    """

    relay: Relay
    http: httpx2.Client
    log: plain.Log
    connector: Connector
    environment: str
    worker: str
    agents: Mapping[str, str] = field(default_factory=dict)
    keys: Mapping[str, str] = field(default_factory=dict)
    neighbour: str = ""
    said: list[bytes] = field(default_factory=list)
    issued: dict[str, str] = field(default_factory=dict)

    # ------------------------------------------------------------ /v1

    def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        key: str | None = None,
        headers: Sequence[tuple[str, str]] = (),
        content: bytes | None = None,
        kind: str = "application/json",
    ) -> httpx2.Response:
        """Whatever is answered, with the administrator's key if there is no other. `content` goes as it is."""
        fields = [("authorization", f"Bearer {key or self.relay.admin_key}"), *headers]
        if content is None and body is not None:
            content = json.dumps(body).encode()
        if content is not None:
            fields.append(("content-type", kind))
        response = self.http.request(method, path, content=content, headers=fields)
        if response.is_success:
            self.issued |= dict.fromkeys(SECRET.findall(response.text), path)
        else:
            self.said.append(response.content)
        return response

    def ok(self, method: str, path: str, body: object = None, *, key: str | None = None) -> Any:
        """What is answered with 200."""
        response = self.ask(method, path, body, key=key)
        assert response.status_code == 200, response.text
        return response.json()

    def refused(self, method: str, path: str, body: object = None, *, key: str | None = None) -> tuple[int, str]:
        """Status and code of a refusal."""
        return refusal(self.ask(method, path, body, key=key))

    def mint(self, tenant: str) -> JSON:
        """A key that the tenant's own key makes."""
        body = {"agents": [self.agents[tenant]], "tenant": tenant, "expires_at": rfc3339(time.time() + 3600)}
        return dict(self.ok("POST", "/v1/keys", body, key=self.keys[tenant]))

    # ------------------------------------------------------------ /mcp

    def mcp(
        self,
        tenant: str,
        tool: str,
        arguments: object,
        *,
        meta: Mapping[str, object] | None = None,
        headers: Sequence[tuple[str, str]] = (),
        server: str = "notes",
        version: str = MODERN,
    ) -> httpx2.Response:
        """Call a tool of a server of the tenant's own agent, in either era."""
        fields = [
            ("authorization", f"Bearer {self.keys[tenant]}"),
            ("content-type", "application/json"),
            ("accept", "application/json, text/event-stream"),
            ("mcp-protocol-version", version),
        ]
        about: JSON = dict(meta or {})
        if version == MODERN:
            fields += [("mcp-method", "tools/call"), ("mcp-name", _mirrored(tool))]
            modern = {"protocolVersion": MODERN, "clientInfo": {"name": "x", "version": "1"}, "clientCapabilities": {}}
            about = {f"io.modelcontextprotocol/{name}": value for name, value in modern.items()} | about
        params: JSON = {"name": tool, "arguments": arguments, **({"_meta": about} if about else {})}
        message = {"jsonrpc": "2.0", "id": next(_idents), "method": "tools/call", "params": params}
        url = f"/mcp/{self.agents[tenant]}/{server}"
        return self.http.post(url, content=json.dumps(message).encode(), headers=[*fields, *headers])

    # ------------------------------------------------------------ sessions

    def session(self, tenant: str, *said: str, **more: object) -> str:
        """A session of the tenant's; its agent obeys every word that is said to it."""
        first = [{"type": "user.message", "content": [{"type": "text", "text": each}]} for each in said]
        body = {"agent": self.agents[tenant], "initial_events": first, **more}
        return str(self.ok("POST", "/v1/sessions", body, key=self.keys[tenant])["id"])

    def events(self, tenant: str, session: str) -> list[JSON]:
        """What is in the log of a session by now."""
        path = f"/v1/sessions/{session}/events?limit=1000"
        return list(self.ok("GET", path, key=self.keys[tenant])["data"])

    def rested(self, tenant: str, session: str) -> list[JSON]:
        """The same, once the session waits for somebody."""

        def idle() -> list[JSON] | None:
            found = self.events(tenant, session)
            return found if found and found[-1]["type"] == "session.status_idle" else None

        return until(idle, f"{session} rests\n{self.relay.log}")

    # ------------------------------------------------------------ what is left behind

    def records(self) -> list[JSON]:
        """The ledger."""
        return [json.loads(line) for line in self.lines()]

    def lines(self) -> list[bytes]:
        """The same as it is stored."""
        paths = sorted((self.relay.state / "ledger").glob("*.jsonl"))
        return [line + b"\n" for path in paths for line in whole_lines(path)]

    def model_log(self) -> list[JSON]:
        """What the model was asked."""
        return records([self.relay.state / "scripted-model.jsonl"])


def refusal(response: httpx2.Response) -> tuple[int, str]:
    """Status and code of a refusal at /v1, which is well said."""
    said = response.json()
    assert said["type"] == "error", said
    assert said["request_id"] == response.headers["request-id"]
    return response.status_code, said["error"]["details"]["error_code"]


def answer(response: httpx2.Response) -> JSON:
    """The JSON-RPC answer, from a body or from events."""
    assert response.status_code == 200, response.text
    if response.headers["content-type"].startswith("text/event-stream"):
        (found,) = [each for each in events(response.content) if "id" in each]
        return found
    return dict(response.json())


def result(response: httpx2.Response) -> JSON:
    """The result of a tool."""
    said = answer(response)
    assert "result" in said, said
    return dict(said["result"])


def of_kind(kind: str, events: Sequence[JSON]) -> list[JSON]:
    """The events of one type."""
    return [each for each in events if each["type"] == kind]


def _mirrored(tool: str) -> str:
    """A name as a header says it: in base64 where it fits into none (MCP 2026-07-28, Streamable HTTP)."""
    fits = tool.isascii() and tool.isprintable() and tool == tool.strip()
    return tool if fits else f"=?base64?{base64.b64encode(tool.encode()).decode()}?="


@contextmanager
def world(folder: Path) -> Iterator[World]:
    """The relay with a model that obeys, a server that writes down all it hears, and for each tenant a key."""
    log = plain.Log(folder / "notes.jsonl")
    with (
        plain.over_http(log=log.path) as target,
        Relay(folder, "--model", "obedient", env={"ANTHROPIC_API_KEY": MODEL_KEY}) as relay,
    ):
        tunnel = relay.tunnel("notes")
        with (
            Connector(relay, tunnel, target) as connector,
            httpx2.Client(base_url=relay.url, trust_env=False, verify=trusted(relay.url), timeout=30) as http,
        ):
            here = World(relay, http, log, connector, "", "")
            here.issued[tunnel.token] = "the tunnel notes"
            here.issued[relay.admin_key] = "the first start"
            _furnish(here, tunnel)
            yield here


def _furnish(here: World, tunnel: Tunnel) -> None:
    here.environment = here.ok("POST", "/v1/environments", {"name": "hosts", "config": {"type": "self_hosted"}})["id"]
    here.worker = here.ok("POST", f"/v1/environments/{here.environment}/keys", {})["environment_key"]
    tools = ["look", {"name": "change", "confirm": True}]
    for tenant in ("acme", "evil"):
        body = {
            "name": f"of-{tenant}",
            "model": "none",
            "mcp_servers": [{"type": "tunnel", "tunnel_id": tunnel.id, "tool_allowlist": tools}],
            "tools": [{"type": "agent_toolset_20260401"}],
            "default_environment": here.environment,
        }
        agent = here.ok("POST", "/v1/agents", body)["id"]
        key = {"agents": [agent], "tenant": tenant, "scopes": ["invoke", "confirm", "mint"]}
        here.agents = {**here.agents, tenant: agent}
        here.keys = {**here.keys, tenant: here.ok("POST", "/v1/keys", key)["key"]}
    same_agent = {"agents": [here.agents["acme"]], "tenant": "evil", "scopes": ["invoke", "confirm", "mint"]}
    here.neighbour = here.ok("POST", "/v1/keys", same_agent)["key"]


__all__ = ["LEGACY", "MODEL_KEY", "MODERN", "World", "answer", "of_kind", "refusal", "result", "world"]
