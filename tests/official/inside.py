"""A relay in the test's own loop, by a clock that can be turned, with an obedient model and nobody behind a tunnel."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anthropic

from arrowslit.app.build.relay import open_relay
from arrowslit.app.config import Listen, RelayConfig
from arrowslit.clock import Clock, SystemClock
from tests.official.ground import ALLOWS, ASKS, SANDBOX, Ground, make_agent
from tests.support.front import listening


class TurnedClock(SystemClock):
    """The clock of this machine, turned forward."""

    ahead = 0.0

    def now(self) -> float:
        """Unix time in seconds, and some."""
        return super().now() + self.ahead

    def monotonic(self) -> float:
        """The loop's time, and some."""
        return super().monotonic() + self.ahead

    def turn(self, seconds: float) -> None:
        """Let so many seconds pass at once."""
        self.ahead += seconds


@asynccontextmanager
async def relay(folder: Path, clock: Clock, on_unknown: str = "stop") -> AsyncIterator[Ground]:
    """A relay by that clock, with an agent whose bash is allowed and whose other tools are asked for."""
    state = folder / "relay"
    config = RelayConfig(listen=Listen("127.0.0.1", 0), state=state, model="obedient")
    async with open_relay(config, clock) as opened:
        gate = opened.gate
        async with listening(gate.mcp, gate.admit, opened.app, identify=gate.identify, rules=gate.rules) as front:
            url, key = f"http://127.0.0.1:{front.port}", opened.admin_key_path.read_text().strip()
            async with anthropic.AsyncAnthropic(base_url=url, api_key=key) as app:
                toolset: Any = {
                    "type": SANDBOX,
                    "default_config": {"permission_policy": ASKS},
                    "configs": [{"name": "bash", "permission_policy": ALLOWS}],
                }
                agents = {"cautious": await make_agent(app, toolset, on_unknown=on_unknown)}
                yield Ground(url, key, folder, app, agents)
