"""A relay with a scripted model, a tunnel that is served, and the official SDK at it, unmodified."""

from __future__ import annotations

import asyncio
import json
import shlex
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anthropic

from tests.harness import Connector, Relay, Tunnel
from tests.support.lines import records

ISSUES = Path(__file__).with_name("issues_mcp.py")

Turns = Sequence[object]
"""What the scripted model says: lists of content blocks, and faults."""


def text(said: str) -> dict[str, Any]:
    """A block of text."""
    return {"type": "text", "text": said}


def use(name: str, **input: object) -> dict[str, Any]:
    """A block that calls a tool."""
    return {"type": "tool_use", "name": name, "input": input}


@dataclass(frozen=True, slots=True)
class Place:
    """Everything that a story with the SDK needs. `key` acts for the tenant acme and may do everything."""

    relay: Relay
    tunnel: Tunnel
    connector: Connector
    key: str

    def client(self, key: str | None = None) -> anthropic.Anthropic:
        """The SDK for applications."""
        return anthropic.Anthropic(base_url=self.relay.url, api_key=key or self.key)

    def asynchronous(self, key: str | None = None) -> anthropic.AsyncAnthropic:
        """The same, asynchronous."""
        return anthropic.AsyncAnthropic(base_url=self.relay.url, api_key=key or self.key)

    def model_log(self) -> list[dict[str, Any]]:
        """What the scripted model was asked, in order."""
        return records([self.relay.state / "scripted-model.jsonl"])


@contextmanager
def place(folder: Path, turns: Turns, target: str | None = None, *options: str) -> Iterator[Place]:
    """A relay whose model plays `turns`, with `target` (the issue server by default) behind a tunnel."""
    folder.mkdir(parents=True, exist_ok=True)
    script = folder / "script.json"
    script.write_text(json.dumps(list(turns)))
    with served(folder, f"scripted:{script}", target, *options) as there:
        yield there


@contextmanager
def served(folder: Path, model: str, target: str | None = None, *options: str) -> Iterator[Place]:
    """The same with another `model`."""
    target = target or f"stdio:{shlex.join([sys.executable, str(ISSUES)])}"
    with Relay(folder, "--model", model, *options) as relay:
        tunnel = relay.tunnel("srv")
        with relay.client() as admin:
            key = admin.post("keys", body={"scopes": ["admin"], "tenant": "acme", "agents": []})["key"]
        with Connector(relay, tunnel, target) as connector:
            yield Place(relay, tunnel, connector, key)


@asynccontextmanager
async def worker(
    place: Place, environment_id: str, environment_key: str, workdir: Path, **options: Any
) -> AsyncIterator[None]:
    """The SDK's own worker serves the environment meanwhile, with the SDK's own tools."""
    from anthropic.lib.tools.agent_toolset import beta_agent_toolset_20260401

    workdir.mkdir(parents=True, exist_ok=True)
    async with anthropic.AsyncAnthropic(base_url=place.relay.url, auth_token=environment_key) as client:
        runs = client.beta.environments.work.worker(
            environment_id=environment_id,
            environment_key=environment_key,
            workdir=workdir,
            tools=beta_agent_toolset_20260401,
            **options,
        )
        task = asyncio.create_task(runs.run())
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


def kinds(events: Sequence[Any]) -> list[str]:
    """The types of events."""
    return [each.type for each in events]


def words(event: Any) -> str:
    """The text of an event's content."""
    return "".join(block.text for block in event.content or [] if block.type == "text")
