"""One relay for all tests here that neither stop it nor break it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.harness import Relay


@pytest.fixture(scope="session")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Relay]:
    """A relay that runs; each test makes a tunnel of its own."""
    with Relay(tmp_path_factory.mktemp("e2e")) as relay:
        yield relay
