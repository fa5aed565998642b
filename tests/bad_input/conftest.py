from __future__ import annotations

import logging
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.bad_input.scene import Scene
from tests.support.inprocess import in_process


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def scene(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Scene]:
    async with in_process(tmp_path_factory.mktemp("bad-input")) as house:
        scene = Scene(house)
        await scene.furnish()
        logging.getLogger().addHandler(scene.log)
        yield scene
        logging.getLogger().removeHandler(scene.log)
