"""The regression scenarios of the Managed Agents API with our worker in the place of the SDK's, on one relay."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from typing import Any

import pytest
import pytest_asyncio

from arrowslit.errors import Error
from arrowslit.record import Fields
from tests.official.ground import HELLO, ONCE, POLL, SESSION, STOP, Ground, answers, bash
from tests.official.message import Message, said
from tests.official.proxy import WAIT, Does, Fault
from tests.official.test_scenarios import AT_ONCE, LONGEST, SCENARIOS
from tests.sandbox.worker.ours import Book, our_ground

pytestmark = pytest.mark.asyncio(loop_scope="module")

RECORDS = "POST /v1/work/[^/]+/records"

NOT_A_WORKERS = {"handle", "poller", "stream", "allcalls", "emptyhist", "custom", "unknowntool"}
"""Those that play the SDK's client without a worker, or with other tools than the sandbox's."""

DEATHS = {"p204", "p204json", "poll-empty200", "poll-obj", "p404", "poll401"}
"""Those whose end is an exception of the SDK's; with our worker they are told below."""

OURS = [name for name in SCENARIOS if name not in NOT_A_WORKERS | DEATHS]

Playing = Mapping[str, asyncio.Task[None]]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def there(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Ground]:
    """One relay for all."""
    async with our_ground(tmp_path_factory.mktemp("ours")) as found:
        yield found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def playing(request: pytest.FixtureRequest, there: Ground) -> AsyncIterator[Playing]:
    """The scenarios that are asked for, all begun."""
    places = asyncio.Semaphore(AT_ONCE)
    here = [each for each in request.session.items if each.path == request.path]
    asked = [each.callspec.params["name"] for each in here if "name" in getattr(each, "callspec", Nothing).params]  # type: ignore[attr-defined]

    async def play(name: str) -> None:
        async with places, asyncio.timeout(LONGEST):
            await SCENARIOS[name][1](there)

    tasks = {name: asyncio.create_task(play(name)) for name in asked}
    yield tasks
    for task in tasks.values():
        task.cancel()
    if tasks:
        await asyncio.wait(tasks.values())


class Nothing:
    """A test without parameters."""

    params: Mapping[str, object] = {}


@pytest.mark.parametrize("name", OURS)
async def test_our_worker_and_our_server(playing: Playing, name: str) -> None:
    await playing[name]


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b"not JSON"])
async def test_a_senseless_answer_to_a_poll_is_outlived(there: Ground, body: bytes) -> None:
    async with there.stage(Fault(POLL, Does(answer=said(200, body)), last=1)) as stage, stage.worker():
        session = await stage.session(bash(ONCE))
        assert answers(await stage.over(session)) == HELLO


async def test_a_poll_without_content_is_outlived(there: Ground) -> None:
    async with there.stage(Fault(POLL, Does(answer=said(204, b"", "")), last=1)) as stage, stage.worker():
        session = await stage.session(bash(ONCE))
        assert answers(await stage.over(session)) == HELLO


async def test_an_environment_that_is_gone_ends_the_worker(there: Ground) -> None:
    async with there.stage() as stage:
        await stage.app.beta.environments.delete(stage.environment)

        async with asyncio.timeout(WAIT):
            with pytest.raises(Error) as ended:
                await stage.work()
        assert ended.value.code in ("unauthenticated", "environment_not_found")


async def test_a_key_that_was_revoked_ends_the_worker(there: Ground) -> None:
    async with there.stage() as stage:
        path = f"/v1/environments/{stage.environment}/keys"
        keys: Any = await stage.app.get(path, cast_to=object)
        await stage.app.delete(f"{path}/{keys['data'][0]['id']}", cast_to=object)

        async with asyncio.timeout(WAIT):
            with pytest.raises(Error) as ended:
                await stage.work()
        assert ended.value.code == "unauthenticated"


async def test_a_server_without_records_is_named_once_and_they_stay_here(
    there: Ground, caplog: pytest.LogCaptureFixture
) -> None:
    book = Book()
    async with there.stage(Fault(RECORDS, Does(answer=said(404)))) as stage, stage.worker(book=book):
        for count in (1, 2):
            session = await stage.session(bash("echo x"))
            assert answers(await stage.over(session)) == [("x", False)]
            await stage.proxy.until(STOP, count, status=200)
        await stage.proxy.until(RECORDS, status=404)

    assert caplog.text.count("takes no records") == 1
    assert [kind for kind, _ in book.records] == ["execution"] * 2
    assert len(stage.proxy.of(RECORDS)) == 1


async def test_records_outlast_trouble_of_the_server(there: Ground) -> None:
    async with there.stage(Fault(RECORDS, Does(answer=said(503)), last=1)) as stage, stage.worker():
        await stage.over(await stage.session(bash("echo x")))
        await stage.proxy.until(RECORDS, status=200, says=b'"stored":1')


async def test_what_cannot_be_recorded_is_not_answered(there: Ground) -> None:
    async with there.stage() as stage, stage.worker(book=Full()):
        events = await stage.over(await stage.session(bash(ONCE)))

    ((text, failed),) = answers(events)
    assert failed
    assert "could not be recorded" in text
    assert "hello" not in text


class Full(Book):
    """A ledger that takes nothing."""

    async def append(self, kind: str, fields: Fields) -> int:
        """See Ledger."""
        raise Error("ledger_unavailable", "the disk is full")


async def test_nothing_that_a_session_names_is_downloaded(there: Ground) -> None:
    """Not its skills, and no memory store."""

    def tempting(answer: Message) -> Message:
        session = answer.json
        session["agent"]["skills"] = [{"type": "custom", "skill_id": "skill_1", "version": "1"}]
        session["resources"] = [{"type": "memory_store", "memory_store_id": "memstore_1", "access": "read_write"}]
        return replace(answer, body=json.dumps(session).encode())

    async with there.stage(Fault(SESSION, Does(change=tempting))) as stage:
        stage.finished(await stage.served(bash(ONCE)))

        asked = {each.asked.line.rpartition("/")[2] for each in stage.proxy.exchanges}
        session = (await stage.item()).data.id
        assert asked == {"poll", "ack", "heartbeat", "stop", "events", "stream", "records", "files", session}
        assert sorted(each.name for each in stage.workdir.iterdir()) == ["ran.txt"]
