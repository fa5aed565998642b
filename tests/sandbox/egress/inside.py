"""Inside: a real sandbox with its way out, served here; and what programs in it are told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from tests.sandbox.egress.kit import Gate, Names, gate
from tests.sandbox.hosts import Answer, Host

PORT = 3128  # as `sandbox/place.py` has it


@dataclass(frozen=True)
class Inside:
    """A sandbox by its name, and the gate that it was given."""

    host: Host
    name: str
    gate: Gate

    async def shell(self, script: str, **more: str) -> Answer:
        """Run a line of bash, with what sends programs to the proxy and `more` in its environment."""
        return await asyncio.to_thread(self.host.shell, script, self.name, env={**self.gate.environment, **more})

    async def python(self, script: str) -> Answer:
        """Run Python, with helpers for system calls."""
        return await asyncio.to_thread(self.host.python, script, self.name, env=dict(self.gate.environment))

    async def put(self, path: str, content: bytes) -> None:
        """Make a file."""
        answer = await asyncio.to_thread(self.host.shell, f"cat > {path}", self.name, stdin=content)
        assert answer.status == 0, answer


@asynccontextmanager
async def inside(host: Host, name: str, rules: object, names: Names | None = None) -> AsyncIterator[Inside]:
    """A new sandbox with these rules. Its listener was handed out by the host, and is served here."""
    listener = await asyncio.to_thread(host.open_with_egress, name, PORT)
    try:
        async with gate(rules, names=names, at=listener) as found:
            yield Inside(host, name, found)
    finally:
        await asyncio.to_thread(host.close, name)
