"""The virtual environments of third-party MCP clients and servers, which cannot live in one: where each is, how made.

`make` runs it with the names of some, or none for all; `tests/conftest.py` asks it for their interpreters. Standard
library only.
"""

from __future__ import annotations

import hashlib
import platform
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
CLIENTS = ("mcp1", "mcp2", "fastmcp4")
SERVERS = (
    "servers_official",
    "servers_sqlite",
    "servers_alchemy",
)  # the first needs mcp 2, the second does not bear it


def folder(client: str) -> Path:
    """Where the environment of `client` is, or of a server: another for every content of its hashed file and every
    Python.
    """
    contents = hashlib.sha256((HERE / f"{client}.txt").read_bytes()).hexdigest()
    return ROOT / ".cache" / "clients" / f"{client}-{contents[:12]}-{platform.python_version()}"


def interpreter(client: str) -> Path:
    """The interpreter to start `speak.py` with; it exists after `make`."""
    return folder(client) / "bin" / "python"


def main(clients: list[str]) -> int:
    """Make the environments of `clients`, all and those of the servers when none is named; returns the exit status."""
    for client in clients or CLIENTS + SERVERS:
        install = [sys.executable, str(ROOT / "requirements" / "install.py"), "--into", str(folder(client))]
        done = subprocess.run([*install, str(HERE / f"{client}.txt")], check=False)
        if done.returncode != 0:
            return done.returncode
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
