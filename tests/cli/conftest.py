"""One relay with a tunnel that a connector serves, for all tests that only look or call."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.harness import Connector, Relay, Tunnel


@dataclass(frozen=True, slots=True)
class Scene:
    """The tunnel `inventory` leads to the canary server; the agent `stock` may use its tool `echo`, as `key` may."""

    relay: Relay
    tunnel: Tunnel
    connector: Connector
    agent: str
    key: str


@pytest.fixture(scope="session")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Relay]:
    """A relay of its own for the tests here. Each uses names that no other uses."""
    with Relay(tmp_path_factory.mktemp("cli")) as relay:
        yield relay


@pytest.fixture(scope="session")
def scene(relay: Relay, canary: str) -> Iterator[Scene]:
    tunnel = relay.tunnel("inventory")
    agent = relay.agent("stock", tunnel, ["echo"])
    with Connector(relay, tunnel, canary) as connector:
        yield Scene(relay, tunnel, connector, agent, relay.key(agent, "acme"))
