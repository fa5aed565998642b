"""The examples run as their first lines say, against a relay with a scripted model and a real PostgreSQL."""

from __future__ import annotations

import ast
import asyncio
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from arrowslit.demo.stage import SERVER
from tests.cli.kit import at, invoke
from tests.harness import Connector, Relay, arrowslit, environment

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
QUESTION = "How many BOLT8 do we have?"


@pytest.fixture
def there(stock_dsn: str, tmp_path: Path) -> Iterator[tuple[Relay, Connector, str]]:
    with Relay(tmp_path, "--model", "scripted") as relay:
        tunnel = relay.tunnel("internal-inventory")
        made = invoke("key", "create", "--scope", "admin", "--tenant", "acme", "--json", **at(relay)).ok().json
        passed = ("--pass-env", "INTERNAL_DB_DSN")
        with Connector(relay, tunnel, f"stdio:{SERVER}", *passed, env={"INTERNAL_DB_DSN": stock_dsn}) as connector:
            yield relay, connector, made["key"]


async def run(name: str, relay: Relay, key: str) -> subprocess.CompletedProcess[str]:
    variables = {"ARROWSLIT_RELAY": str(relay.address), "ARROWSLIT_API_KEY": key}
    command = [sys.executable, str(EXAMPLES / name), QUESTION]
    return await asyncio.to_thread(
        subprocess.run, command, env=environment(**variables), capture_output=True, text=True, timeout=60, check=False
    )


async def test_both_agents_answer_and_neither_guesses(there: tuple[Relay, Connector, str]) -> None:
    relay, connector, key = there
    names = ("inventory_agent.py", "inventory_agent_short.py")

    answered = await asyncio.gather(*(run(name, relay, key) for name in names))
    connector.kill()
    silent = await asyncio.gather(*(run(name, relay, key) for name in names))

    for done in answered:
        assert (done.returncode, re.findall(r"\b340\b", done.stdout)) == (0, ["340"]), done
    for done in silent:
        assert done.returncode == 3, done
        assert "I can't confirm that right now" in done.stdout


def test_the_first_one_needs_nothing_but_the_sdk() -> None:
    tree = ast.parse((EXAMPLES / "inventory_agent.py").read_text())
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}

    assert imported == {"__future__", "anthropic", "os", "sys"}


def test_the_file_of_a_connector_can_be_used() -> None:
    checked = arrowslit("connect", "--config", "examples/connector.toml", "--check", "--json", cwd=ROOT).ok().json

    assert checked["name"] == "internal"
    assert {each["name"]: each["tools"] for each in checked["targets"]} == {
        "hello": ["hello"],
        "wiki": ["read_page", "search"],
    }
