"""supergateway of npm: offers a server on stdio over HTTP; with sessions, for without it starts a server for each
request.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks import environments
from benchmarks.contestants.contestant import Contestant, Ground
from benchmarks.loads.door import Door
from benchmarks.machine.process import Program, free_port
from benchmarks.upstreams import echo
from requirements import node

LOOPBACK = environments.NPM / "loopback.cjs"


def _missing() -> str | None:
    there = node.node().exists() and environments.supergateway().exists()
    return None if there else "it could not be installed (benchmarks/npm)"


@contextmanager
def _run(ground: Ground) -> Iterator[Door]:
    port = free_port()
    server = shlex.join([sys.executable, str(echo.__file__)])
    flags = ["--outputTransport", "streamableHttp", "--stateful", "--logLevel", "none", "--port", str(port)]
    command = [str(node.node()), "--require", str(LOOPBACK), str(environments.supergateway())]
    with Program(ground.folder, [*command, "--stdio", server, *flags]) as program:
        program.answers_at(port)
        yield Door(port, processes={"supergateway": program.pid})


SUPERGATEWAY = Contestant("supergateway", _missing, _run)
