"""The client that the conformance suite examines: the MCP SDK 2.x, told by the scenario what to do.

The suite starts it with the URL of a server of its own. With CONFORMANCE_THROUGH (JSON, see `Through`) it puts a
connector in front of that server, and asks the relay instead.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx2
from mcp import Client
from mcp.client import ClientRequestContext
from mcp.client.streamable_http import streamable_http_client
from mcp_types import ElicitRequestFormParams, ElicitRequestParams, ElicitResult

sys.path.append(str(Path(__file__).resolve().parents[2]))

from tests.conformance.suite import LEGACY
from tests.harness import Program

Call = tuple[str, dict[str, Any]]

CALLS: Mapping[str, Sequence[Call]] = {
    "tools_call": [("add_numbers", {"a": 5, "b": 3})],
    "sse-retry": [("test_reconnection", {})],
    "elicitation-sep1034-client-defaults": [("test_client_elicitation_defaults", {})],
    "http-standard-headers": [("test_headers", {}), ("my-hyphenated-tool", {})],
    "sep-2322-client-request-state": [
        ("test_mrtr_echo_state", {}),
        ("test_mrtr_unrelated", {}),
        ("test_mrtr_no_state", {}),
        ("test_mrtr_no_result_type", {}),
    ],
}


@dataclass(frozen=True, slots=True)
class Through:
    """A tunnel that nothing serves yet, the way in, and a folder for the connector."""

    relay: str
    name: str
    token: str
    url: str
    key: str
    folder: str

    def to_environment(self) -> dict[str, str]:
        """The variable that `from_environment` reads."""
        return {"CONFORMANCE_THROUGH": json.dumps(asdict(self))}

    @classmethod
    def from_environment(cls) -> Through | None:
        """What the variable says; None where it is not set."""
        said = os.environ.get("CONFORMANCE_THROUGH")
        return None if said is None else cls(**json.loads(said))

    @contextmanager
    def serving(self, target: str) -> Iterator[None]:
        """A connector in front of `target`."""
        use = {"ARROWSLIT_RELAY": self.relay, "ARROWSLIT_TUNNEL_TOKEN": self.token}
        words = ["connect", "--target", target, "--name", self.name, "--state", str(Path(self.folder) / "state")]
        with Program(Path(self.folder), words, use) as connector:
            connector.wait_for_out("tnl_", patience=60)
            yield


async def accept(context: ClientRequestContext, params: ElicitRequestParams) -> ElicitResult:
    """A user who leaves every field as it was suggested, and confirms what has to be confirmed."""
    fields = params.requested_schema.get("properties", {}) if isinstance(params, ElicitRequestFormParams) else {}
    given = {name: field["default"] for name, field in fields.items() if "default" in field}
    return ElicitResult(action="accept", content=given or {"confirmed": True})


async def use(client: Client, scenario: str) -> None:
    """Do what the scenario wants to see."""
    tools = {tool.name: tool for tool in (await client.list_tools()).tools}
    calls = [*CALLS.get(scenario, ())]
    if scenario == "json-schema-2020-12-preservation":
        (echo,) = [name for name, tool in tools.items() if "schema" in tool.input_schema.get("properties", {})]
        calls += [(echo, {"schema": tools["json_schema_2020_12_tool"].input_schema})]
    if scenario == "http-standard-headers":
        for resource in (await client.list_resources()).resources:
            await client.read_resource(resource.uri)
        for prompt in (await client.list_prompts()).prompts:
            await client.get_prompt(prompt.name)
    context = json.loads(os.environ.get("MCP_CONFORMANCE_CONTEXT", "{}"))
    calls += [(call["name"], call["arguments"]) for call in context.get("toolCalls", [])]
    for name, arguments in calls:
        await client.call_tool(name, arguments)


async def main(url: str, headers: Mapping[str, str]) -> None:
    """Connect, do it, leave."""
    legacy = os.environ.get("MCP_CONFORMANCE_PROTOCOL_VERSION", LEGACY) == LEGACY
    async with (
        httpx2.AsyncClient(headers=headers, timeout=httpx2.Timeout(30), trust_env=False) as http,
        Client(
            streamable_http_client(url, http_client=http),
            mode="legacy" if legacy else "auto",
            elicitation_callback=accept,
        ) as client,
    ):
        await use(client, os.environ["MCP_CONFORMANCE_SCENARIO"])


if __name__ == "__main__":
    if (through := Through.from_environment()) is None:
        asyncio.run(main(sys.argv[1], {}))
    else:
        with through.serving(sys.argv[1]):
            asyncio.run(main(through.url, {"authorization": f"Bearer {through.key}"}))
