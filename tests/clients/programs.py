"""The MCP servers that tests use as targets: where they are, and how to start one over HTTP."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import environments

SERVERS = Path(__file__).resolve().parent / "servers"


def command(name: str) -> list[str]:
    """The command that runs the server `name` ("canary", "append" or "stock_v1") over stdio."""
    python = environments.interpreter("mcp1") if name == "stock_v1" else Path(sys.executable)
    return [str(python), str(SERVERS / f"{name}.py"), "stdio"]


@contextmanager
def over_http(name: str, env: Mapping[str, str] | None = None) -> Iterator[str]:
    """Run the server `name` on a free port of the loopback interface; gives its URL and kills it afterwards.

    Waits, without an event loop, until the server listens: a second or two.
    """
    started = [*command(name)[:-1], "http"]
    with subprocess.Popen(started, stdout=subprocess.PIPE, text=True, env=os.environ | dict(env or {})) as process:
        try:
            assert process.stdout
            url = process.stdout.readline().strip()
            assert url, f"{name} ended before it listened"
            yield url
        finally:
            process.kill()
