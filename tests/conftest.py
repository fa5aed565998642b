"""What every test may ask for: third-party client libraries and servers, each in a process of its own."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import programs
import pytest
from speaker import Speaker

from arrowslit.app import config
from tests.support import leaks
from tests.support.ports import free_port

pytest_plugins = ["tests.fixtures_postgres"]  # one PostgreSQL for everybody


def pytest_addoption(parser: pytest.Parser) -> None:
    """One flag: pages that tests compare with what they saw are written instead."""
    parser.addoption("--write-docs", action="store_true", help="write docs/compatibility.md anew")


def pytest_configure() -> None:
    """Watch all tests for secrets in what they log and start, and let what they start be interrupted.

    A shell lets what it starts in the background ignore SIGINT, and so would all that is started from there.
    """
    leaks.watch()
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What looks at what all the others left behind comes last."""
    items.sort(key=lambda item: item.name == "test_nothing_that_the_suite_left_behind_holds_a_secret")


@pytest.fixture
def unused_tcp_port() -> int:
    """A port where nobody listens, and nobody will."""
    return free_port()


@pytest.fixture(scope="session")
def mcp1() -> Iterator[Speaker]:
    """The MCP SDK 1.30: `ClientSession`, handshake era."""
    with Speaker("mcp1") as speaker:
        yield speaker


@pytest.fixture(scope="session")
def mcp2() -> Iterator[Speaker]:
    """The MCP SDK 2.3: `Client`, auto, legacy or modern."""
    with Speaker("mcp2") as speaker:
        yield speaker


@pytest.fixture(scope="session")
def fastmcp4() -> Iterator[Speaker]:
    """FastMCP 4.1: `Client`, auto, legacy or modern."""
    with Speaker("fastmcp4") as speaker:
        yield speaker


@pytest.fixture(scope="session")
def sdk1() -> Iterator[Speaker]:
    """The TypeScript SDK 1.32: handshake era."""
    with Speaker("sdk1") as speaker:
        yield speaker


@pytest.fixture(scope="session")
def client2() -> Iterator[Speaker]:
    """The TypeScript client 2.4: auto, legacy or modern."""
    with Speaker("client2") as speaker:
        yield speaker


@pytest.fixture(scope="session")
def canary() -> Iterator[str]:
    """The URL of `servers/canary.py`; it keeps nothing between calls."""
    with programs.over_http("canary") as url:
        yield url


@pytest.fixture(scope="session")
def stock_v1() -> Iterator[str]:
    """The URL of `servers/stock_v1.py`, a server on the MCP SDK 1.30; it keeps nothing between calls."""
    with programs.over_http("stock_v1") as url:
        yield url


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The default state folder, elsewhere than where a real relay of this machine keeps its own."""
    monkeypatch.setattr(config, "default_state", lambda: tmp_path / "home")
    return tmp_path / "home"
