"""arrowslit: `serve` and `connect` as their users start them, and nothing switched off: an API key is checked, the
agent's tools are looked up, each call is recorded.
"""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from arrowslit.client.api import Api
from benchmarks.contestants.contestant import Contestant, Ground, here
from benchmarks.loads.door import TOOL, Door
from benchmarks.machine.process import Program, free_port, python
from benchmarks.upstreams import echo

TENANT = "acme"


class Relay:
    """`arrowslit serve`, at the same port in all of its lives."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.folder = folder
        words = ["serve", "--json", "--listen", f"127.0.0.1:{self.port}", "--state", str(folder / "state")]
        self.program = Program(folder / "relay", python("arrowslit", *words), speaks=True)
        self.said: dict[str, Any] = {}

    def start(self) -> None:
        """Returns once it listens."""
        self.program.start()
        self.said = json.loads(self.program.line())

    def address(self, port: int) -> str:
        """As a connector is told it that reaches the relay at `port`."""
        return f"http://127.0.0.1:{port}#sha256={self.said['fingerprint']}"

    def api(self) -> Api:
        """Its API, as its administrator."""
        key = (self.folder / "state" / "admin.key").read_text().strip()
        return Api(f"http://127.0.0.1:{self.port}", key)

    def tunnel(self, name: str) -> tuple[str, str]:
        """A new tunnel: its id, and the token that opens it."""
        with self.api() as api:
            made = api.post("tunnels", body={"name": name})
            return made["id"], api.post("tunnels", made["id"], "reveal_token")["tunnel_token"]

    def agent(self, name: str, tunnel_id: str) -> str:
        """A new agent that may use the one tool behind a tunnel; returns its id."""
        server = {"type": "tunnel", "tunnel_id": tunnel_id, "tool_allowlist": [TOOL]}
        with self.api() as api:
            return str(api.post("agents", body={"name": name, "model": "none", "mcp_servers": [server]})["id"])

    def key(self, agent_id: str, tenant: str) -> str:
        """A new key for an agent and a tenant."""
        with self.api() as api:
            return str(api.post("keys", body={"agents": [agent_id], "tenant": tenant})["key"])


@contextmanager
def relay(folder: Path) -> Iterator[Relay]:
    """A relay that runs while the block does."""
    running = Relay(folder)
    running.start()
    try:
        yield running
    finally:
        running.program.stop()


@contextmanager
def tenants(ground: Ground, target: str, *names: str) -> Iterator[Mapping[str, Door]]:
    """Relay and connector before `target`; a door for each tenant, all of one agent."""
    with relay(ground.folder) as running:
        tunnel_id, token = running.tunnel("bench")
        agent_id = running.agent("bench", tunnel_id)
        folder = ground.folder / "connector"
        words = ["connect", "--target", target, "--name", "bench", "--state", str(folder / "state")]
        variables = {"ARROWSLIT_RELAY": running.address(ground.far(running.port)), "ARROWSLIT_TUNNEL_TOKEN": token}
        with Program(folder, python("arrowslit", *words), variables, speaks=True) as connector:
            connector.line()
            processes = {"relay": running.program.pid, "connector": connector.pid}
            yield {name: _door(running, agent_id, name, processes, ground.era) for name in names}


def _door(running: Relay, agent_id: str, tenant: str, processes: Mapping[str, int], era: str) -> Door:
    key = {"authorization": f"Bearer {running.key(agent_id, tenant)}"}
    return Door(running.port, f"/mcp/{agent_id}/bench", key, processes, era)


def http_target(ground: Ground) -> str:
    """The server of the ground as `--target` names it."""
    return f"http://127.0.0.1:{ground.upstream}/mcp"


@contextmanager
def _run(ground: Ground) -> Iterator[Door]:
    with tenants(ground, http_target(ground), TENANT) as doors:
        yield doors[TENANT]


@contextmanager
def _run_stdio(ground: Ground) -> Iterator[Door]:
    with tenants(ground, f"stdio:{shlex.join([sys.executable, str(echo.__file__)])}", TENANT) as doors:
        yield doors[TENANT]


OURS = Contestant("arrowslit", here, _run)
OURS_STDIO = Contestant("arrowslit, stdio", here, _run_stdio)
"""Before a server on stdio, as those are that it is compared with."""
