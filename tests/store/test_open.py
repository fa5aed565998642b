from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from arrowslit.credential import RootKey
from arrowslit.errors import Error
from arrowslit.store.database import STEPS, migrate, newest_step, open_database
from arrowslit.store.open import Store
from arrowslit.store.tables import metadata, root_key
from tests.store.kit import ROOT, ManualClock, opened


def test_the_migrations_make_the_tables(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path / 'state.db'}")
    with engine.begin() as connection:
        migrate(connection)
        context = MigrationContext.configure(connection, opts={"compare_type": True})

        assert compare_metadata(context, metadata) == []
    engine.dispose()


def test_what_the_last_step_is_can_be_told_from_the_names_of_the_files() -> None:
    assert ScriptDirectory(str(STEPS)).get_heads() == [newest_step()]


def test_a_start_with_no_step_to_take_does_not_wait_for_what_would_take_it(tmp_path: Path) -> None:
    story = (
        "import asyncio, sys\n"
        "from arrowslit.store.database import open_database\n"
        "async def start():\n"
        f"    await (await open_database('sqlite:///{tmp_path / 'state.db'}')).close()\n"
        "asyncio.run(start())\n"
        "print('alembic' in sys.modules)\n"
    )
    said = [subprocess.run([sys.executable, "-c", story], check=True, capture_output=True).stdout for _ in range(2)]

    assert said == [b"True\n", b"False\n"]


async def test_the_file_is_its_owners_alone_and_survives_a_loss_of_power(tmp_path: Path, clock: ManualClock) -> None:
    url = f"sqlite:///{tmp_path / 'state.db'}"
    async with Store.open(url, files=tmp_path / "files", root=ROOT, clock=clock, random=os.urandom) as store:
        await store.tunnels.create("a")
        modes = {file.name: file.stat().st_mode & 0o777 for file in tmp_path.iterdir()}
        settings = [
            (await store.tunnels._database.read(text(f"PRAGMA {name}")))[0][0]
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        ]

    assert set(modes.values()) == {0o600}
    assert settings == ["wal", 2, 1, 10_000]


async def test_another_root_key_is_refused_before_it_makes_every_key_unknown(
    tmp_path: Path, clock: ManualClock
) -> None:
    async with opened(tmp_path, clock) as store:
        await store.tunnels.create("a")

    with pytest.raises(Error) as refused:
        async with opened(tmp_path, clock, RootKey(b"x" * 32)):
            pass

    assert refused.value.code == "state_unusable"
    async with opened(tmp_path, clock, ROOT) as store:
        assert store.tunnels.get("tnl_a") is not None


async def test_a_file_that_is_no_database_is_left_alone(tmp_path: Path, clock: ManualClock) -> None:
    (tmp_path / "state.db").write_text("something else, long enough to be looked at" * 100)

    with pytest.raises(Error) as refused:
        async with opened(tmp_path, clock):
            pass

    assert refused.value.code == "state_unusable"
    assert (tmp_path / "state.db").read_text().startswith("something else")


async def test_a_database_of_a_newer_version_is_refused(tmp_path: Path, clock: ManualClock) -> None:
    async with opened(tmp_path, clock):
        pass
    with sqlite3.connect(tmp_path / "state.db") as connection:
        connection.execute("update alembic_version set version_num = '9999'")
    connection.close()

    with pytest.raises(Error) as refused:
        async with opened(tmp_path, clock):
            pass

    assert refused.value.code == "state_unusable"


@pytest.mark.parametrize("url", ["sqlite:////nowhere/at/all/state.db", "nonsense", "oracle://host/db"])
async def test_an_address_that_leads_nowhere_is_refused(tmp_path: Path, clock: ManualClock, url: str) -> None:
    with pytest.raises(Error) as refused:
        async with Store.open(url, files=tmp_path / "files", root=ROOT, clock=clock, random=os.urandom):
            pass

    assert refused.value.code == "state_unusable"


async def test_two_who_write_at_once_wait_for_each_other(tmp_path: Path, clock: ManualClock) -> None:
    async with opened(tmp_path, clock) as one, opened(tmp_path, clock) as two:
        await asyncio.gather(
            *(one.tunnels.create(f"one-{number}") for number in range(15)),
            *(two.tunnels.create(f"two-{number}") for number in range(15)),
        )
    async with opened(tmp_path, clock) as store:
        assert len(store.tunnels.every()) == 30


async def test_who_reads_before_it_writes_is_not_overtaken(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'state.db'}"
    one, two = await open_database(url), await open_database(url)

    async def count(connection: AsyncConnection) -> int:
        before = (await connection.execute(select(root_key.c.id))).scalar_one_or_none()
        if before is None:
            await connection.execute(insert(root_key).values(id=1, check=""))
        else:
            await connection.execute(update(root_key).values(id=before + 1))
        return before or 0

    seen = await asyncio.gather(*(each.write(count, lambda _: None) for each in (one, two) for _ in range(10)))
    await one.close()
    await two.close()

    assert sorted(seen) == list(range(20))


async def test_of_many_who_want_one_name_one_gets_it(tmp_path: Path, clock: ManualClock) -> None:
    async with opened(tmp_path, clock) as one, opened(tmp_path, clock) as two:
        wishes = [store.tunnels.create("wanted") for store in (one, two) for _ in range(5)]
        answers = await asyncio.gather(*wishes, return_exceptions=True)

    codes = [answer.code for answer in answers if isinstance(answer, Error)]
    assert codes == ["name_taken"] * 9
