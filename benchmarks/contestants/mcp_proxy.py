"""mcp-proxy of PyPI: offers a server on stdio over HTTP."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks import environments
from benchmarks.contestants.contestant import Contestant, Ground
from benchmarks.loads.door import Door
from benchmarks.machine.process import Program, free_port
from benchmarks.upstreams import echo


def _missing() -> str | None:
    return None if _program().exists() else "it could not be installed (benchmarks/requirements.txt)"


@contextmanager
def _run(ground: Ground) -> Iterator[Door]:
    port = free_port()
    server = [sys.executable, str(echo.__file__)]
    flags = ["--stateless", "--port", str(port), "--host", "127.0.0.1", "--log-level", "ERROR"]
    with Program(ground.folder, [str(_program()), *flags, "--", *server]) as program:
        program.answers_at(port)
        yield Door(port, "/mcp/", processes={"mcp-proxy": program.pid})


_program = environments.mcp_proxy
MCP_PROXY = Contestant("mcp-proxy", _missing, _run)
