"""One world for all tests here that do not break it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.security.world import World, world


@pytest.fixture(scope="package")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Both tenants are served; what a test makes in it has a name of its own."""
    with world(tmp_path_factory.mktemp("security")) as here:
        yield here
