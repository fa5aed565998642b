"""The official MCP conformance suite, run with Node as its users run it."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from requirements import node
from tests.conformance.checks import Found, read_results

HERE = Path(__file__).resolve().parent
NPM = HERE / "npm"
LEGACY, MODERN = "2025-11-25", "2026-07-28"
CLIENT_SCENARIOS = (
    ("initialize", LEGACY),
    ("tools_call", LEGACY),
    ("tools_call", MODERN),
    ("sse-retry", LEGACY),
    ("elicitation-sep1034-client-defaults", LEGACY),
    ("json-schema-2020-12-preservation", LEGACY),
    ("json-schema-2020-12-preservation", MODERN),
    ("request-metadata", MODERN),
    ("sep-2322-client-request-state", MODERN),
    ("http-standard-headers", MODERN),
    ("http-custom-headers", MODERN),
)
PATIENCE = 300  # seconds for all scenarios of one leg, which take six where nothing else runs
LONG = "120000"  # milliseconds for one of them


def run_server(url: str, version: str, folder: Path, *, bearer: str | None = None) -> Found:
    """Every scenario for servers of this version against the server at `url`; each request carries `bearer`."""
    words = ["server", "--url", url, "--suite", "all", "--spec-version", version, "--timeout", LONG]
    return _run(words, folder, {} if bearer is None else {"CONFORMANCE_BEARER": bearer})


def run_client(python: Sequence[str], scenario: str, version: str, folder: Path, more: Mapping[str, str]) -> Found:
    """One scenario for clients, with `client.py`, which the command `python` runs and whose environment gets `more`."""
    command = shlex.join([*python, str(HERE / "client.py")])
    words = ["client", "--command", command, "--scenario", scenario, "--spec-version", version, "--timeout", LONG]
    return _run(words, folder, more)


def _run(words: Sequence[str], folder: Path, more: Mapping[str, str]) -> Found:
    """Run the suite's command line to its end. Its exit status says whether all passed, as the files do."""
    script = node.packages(NPM) / "@modelcontextprotocol" / "conformance" / "dist" / "index.js"
    command = [str(node.node()), "--import", str(HERE / "bearer.mjs"), str(script), *words, "--output-dir", str(folder)]
    mine = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    done = subprocess.run(command, env=mine | dict(more), capture_output=True, text=True, check=False, timeout=PATIENCE)
    found = read_results(folder)
    assert found, f"the suite found nothing, and said:\n{(done.stdout + done.stderr)[-2000:]}"
    return found
