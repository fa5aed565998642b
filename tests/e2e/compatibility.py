"""`docs/compatibility.md`: what the tests of compatibility saw, as a page for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import setups

PAGE = Path(__file__).resolve().parents[2] / "docs" / "compatibility.md"
INSPECTOR_AGREES = "it does not say"


@dataclass(frozen=True, slots=True)
class Seen:
    """What came of one set-up: the protocol version that was agreed on, and with which server where there are two."""

    protocol: str
    legacy: str = ""


def page(servers: Mapping[str, Seen], clients: Mapping[str, Seen]) -> str:
    """The whole page; the same set-ups in the same versions make the same page."""
    return "\n".join([*_HEAD, "", *_servers(servers), *_BETWEEN, "", *_clients(clients), *_FOOT])


def _servers(seen: Mapping[str, Seen]) -> list[str]:
    rows = [
        [f"`{each.package}`", setups.version(each), each.over, seen[each.name].protocol, f"`{each.tool}`"]
        for each in setups.SERVERS
    ]
    return _table(["server", "version", "over", "agreed with a client of both eras", "tool that was called"], rows)


def _clients(seen: Mapping[str, Seen]) -> list[str]:
    rows = [
        [each.title, f"`{each.package}`", setups.version(each), seen[each.title].protocol, seen[each.title].legacy]
        for each in setups.CLIENTS
    ]
    return _table(["client", "package", "version", "with a server of both eras", "with one of the first era"], rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]


_HEAD = """\
# What works through the tunnel

Servers and clients that others wrote, as their users set them up, each with an allowlist in force: the client sees the
one tool that was granted, calls it, and is told of another one that the server has as of a tool that does not exist.
`make test` does this with each line of both tables; `tests/e2e/test_compatibility.py` writes this page and fails where
it says something else:

    make test ARGS="tests/e2e/test_compatibility.py --write-docs"

Beside that, `make conformance` compares a server with the same server behind the tunnel, check by check, by the
official conformance suite.

## Servers

Behind one connector, with one [connector.toml](connector.md).
""".splitlines()

_BETWEEN = """
PostgreSQL is one of version 18, which the tests start; the databases of `sqlite` and `alchemy` are files.

## Clients

Each has the URL `…/mcp/AGENT/SERVER` and a key as `Authorization: Bearer`. The server of both eras is
`mcp-server-time`, that of the first is `server-everything` over HTTP.
""".splitlines()

_FOOT = """
A client that speaks nothing but the transport of 2024 (HTTP with SSE) finds no door; as a target that is
`sse+http://…`.
""".splitlines()
