"""MCP servers and clients that others wrote, as their users set them up: where each comes from, how it is started."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import environments

from requirements import node

NPM = environments.HERE / "npm"
SCOPE = "@modelcontextprotocol"


@dataclass(frozen=True, slots=True)
class ServerSetup:
    """A server: `package` as PyPI or npm call it, `words` that run it, in which `{…}` stand for the fields of a Place.

    `over` is the transport by which the connector reaches it. Of its tools the agent is granted `tool`; `other` is one
    more that it has. The answer to `tool` holds `answer`.
    """

    name: str
    package: str
    words: Sequence[str]
    tool: str
    answer: str
    other: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    over: str = "stdio"
    home: str = "npm"


def _python(home: str, script: str, *words: str) -> tuple[str, ...]:
    return (str(environments.folder(home) / "bin" / script), *words)


def _npm(package: str, *words: str) -> tuple[str, ...]:
    return (str(node.node()), str(node.packages(NPM) / SCOPE / package / "dist" / "index.js"), *words)


def _everything(name: str, over: str, word: str) -> ServerSetup:
    package = f"{SCOPE}/server-everything"
    words = _npm("server-everything", word)
    return ServerSetup(name, package, words, "echo", "Echo: hi", "get-sum", {"message": "hi"}, over=over)


SERVERS = (
    ServerSetup(
        "time",
        "mcp-server-time",
        _python("servers_official", "mcp-server-time", "--local-timezone", "UTC"),
        "get_current_time",
        "UTC",
        "convert_time",
        {"timezone": "UTC"},
        home="servers_official",
    ),
    ServerSetup(
        "git",
        "mcp-server-git",
        _python("servers_official", "mcp-server-git", "--repository", "{repository}"),
        "git_status",
        "On branch",
        "git_log",
        {"repo_path": "{repository}"},
        home="servers_official",
    ),
    ServerSetup(
        "sqlite",
        "mcp-server-sqlite",
        _python("servers_sqlite", "mcp-server-sqlite", "--db-path", "{database}"),
        "list_tables",
        "parts",
        "write_query",
        home="servers_sqlite",
    ),
    ServerSetup(
        "alchemy",
        "mcp-alchemy",
        _python("servers_alchemy", "mcp-alchemy"),
        "all_table_names",
        "parts",
        "execute_query",
        environment={"DB_URL": "sqlite:///{database}"},
        home="servers_alchemy",
    ),
    ServerSetup(
        "filesystem",
        f"{SCOPE}/server-filesystem",
        _npm("server-filesystem", "{folder}"),
        "list_directory",
        "[FILE] stock.txt",
        "write_file",
        {"path": "{folder}"},
    ),
    ServerSetup(
        "memory",
        f"{SCOPE}/server-memory",
        _npm("server-memory"),
        "read_graph",
        "entities",
        "delete_entities",
        environment={"MEMORY_FILE_PATH": "{folder}/memory.jsonl"},
    ),
    ServerSetup(
        "postgres",
        f"{SCOPE}/server-postgres",
        _npm("server-postgres", "{dsn}"),
        "query",
        '"answer": 42',
        "Query",
        {"sql": "SELECT 6 * 7 AS answer"},
    ),
    _everything("everything-stdio", "stdio", "stdio"),
    _everything("everything-http", "http", "streamableHttp"),
    _everything("everything-sse", "sse", "sse"),
)


@dataclass(frozen=True, slots=True)
class ClientSetup:
    """A client: the fixture of its speaker, the `mode` it is told, and what it agrees on with servers of both eras."""

    title: str
    package: str
    speaker: str
    mode: str
    home: str = "npm"


CLIENTS = (
    ClientSetup("Python SDK 1", "mcp", "mcp1", "legacy", home="mcp1"),
    ClientSetup("Python SDK 2", "mcp", "mcp2", "auto", home="mcp2"),
    ClientSetup("FastMCP 4", "fastmcp", "fastmcp4", "auto", home="fastmcp4"),
    ClientSetup("TypeScript SDK 1", f"{SCOPE}/sdk", "sdk1", "legacy"),
    ClientSetup("TypeScript client 2", f"{SCOPE}/client", "client2", "auto"),
    ClientSetup("Inspector, command line", f"{SCOPE}/inspector", "inspector", "legacy"),
)


def version(setup: ServerSetup | ClientSetup) -> str:
    """The version that is locked."""
    if setup.home == "npm":
        packages = json.loads((NPM / "package-lock.json").read_text())["packages"]
        return str(packages[f"node_modules/{setup.package}"]["version"])
    found = re.search(rf"^{setup.package}==([^ ]+)", (environments.HERE / f"{setup.home}.txt").read_text(), re.M)
    assert found, setup.package
    return found[1]


@dataclass(frozen=True, slots=True)
class Place:
    """What the servers work on."""

    folder: Path
    repository: Path
    database: Path
    dsn: str

    def filled(self, text: str) -> str:
        """`text` with its `{…}` replaced."""
        for name in self.__slots__:
            text = text.replace(f"{{{name}}}", str(getattr(self, name)))
        return text


@contextmanager
def listening(words: Sequence[str]) -> Iterator[int]:
    """Run a server of npm that listens; gives its port on loopback, and kills it afterwards."""
    program, *rest = words
    command = [program, "--require", str(NPM / "loopback.cjs"), *rest]
    quiet = subprocess.DEVNULL
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=quiet, text=True) as process:
        try:
            assert process.stdout
            port = next((int(line) for line in process.stdout if line.strip().isdecimal()), None)
            if port is None:
                raise RuntimeError(f"{command[0]} does not listen: run `make test`, or `make clients`, once")
            yield port
        finally:
            process.kill()


def inspect(url: str, key: str, method: str, *words: str) -> Any:
    """What the inspector's command line prints, read as JSON, or None where it fails."""
    script = node.packages(NPM) / ".bin" / "mcp-inspector"
    command = [str(node.node()), str(script), "--cli", url, "--transport", "http", "--method", method, *words]
    command += ["--header", f"Authorization: Bearer {key}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    return json.loads(done.stdout) if done.returncode == 0 else None
