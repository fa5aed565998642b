"""A tunnel that is served: relay, connector, an agent with its tools, and a key for each tenant."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from tests.e2e.door import LEGACY, Door, door
from tests.harness import Connector, Relay, Tunnel, until
from tests.support.lines import records

_numbers = count(1)


@dataclass(frozen=True, slots=True)
class Stage:
    """Everything that a call needs. `keys` are by tenant."""

    relay: Relay
    tunnel: Tunnel
    connector: Connector
    agent: str
    keys: Mapping[str, str]

    @property
    def url(self) -> str:
        """The MCP endpoint."""
        return f"{self.relay.url}/mcp/{self.agent}/{self.tunnel.name}"

    def door(self, tenant: str = "acme", version: str = LEGACY[-1]) -> AbstractAsyncContextManager[Door]:
        """A client that writes by hand."""
        return door(self.url, self.keys[tenant], version)

    def headers(self, tenant: str = "acme") -> dict[str, str]:
        """What a client library is to send."""
        return {"authorization": f"Bearer {self.keys[tenant]}"}

    def records(self, kind: str | None = None) -> list[dict[str, Any]]:
        """The records in the relay's ledger."""
        found = records(sorted((self.relay.state / "ledger").glob("*.jsonl")))
        return [each for each in found if kind in (None, each["kind"])]

    def outcomes(self, tool: str) -> list[str | None]:
        """How each call of a tool through this tunnel ended, in the order they were asked. Waits until all have: the
        record is written as soon as the answer has left.
        """
        return until(lambda: found if None not in (found := self.outcomes_now(tool)) else None, "all have ended")

    def outcomes_now(self, tool: str) -> list[str | None]:
        """The same at once, with None for a call that is open. Fails if one has ended twice."""
        ended = [(each["call"], each["outcome"]) for each in self.records("outcome")]
        assert len(dict(ended)) == len(ended)
        ours = [each for each in self.records("asked") if each["tunnel"] == self.tunnel.id and each["tool"] == tool]
        return [dict(ended).get(each["call"]) for each in ours]


@contextmanager
def served(
    relay: Relay,
    target: str,
    tools: Sequence[str] | None,
    *options: str,
    tenants: Sequence[str] = ("acme", "globex"),
    folder: Path | None = None,
    env: Mapping[str, str] | None = None,
    tunnel: Mapping[str, object] | None = None,
) -> Iterator[Stage]:
    """Serve `target` through a new tunnel of `relay`; `tunnel` are fields of it, `options` are the connector's.

    Without `tools` the agent may use everything there is.
    """
    made = relay.tunnel(f"stage{next(_numbers)}", **(tunnel or {}))
    agent = relay.whole(made.name, made) if tools is None else relay.agent(made.name, made, tools)
    keys = {tenant: relay.key(agent, tenant) for tenant in tenants}
    with Connector(relay, made, target, *options, folder=folder, env=env) as connector:
        yield Stage(relay, made, connector, agent, keys)
