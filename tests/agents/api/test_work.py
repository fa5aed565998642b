from __future__ import annotations

import asyncio
import base64
import json
import os
from collections.abc import AsyncIterator
from datetime import datetime

import pytest
import pytest_asyncio
from anthropic import APIStatusError, AsyncAnthropic, PermissionDeniedError
from anthropic.types.beta.environments import BetaSelfHostedWork
from starlette.applications import Starlette

from arrowslit.agents.sessions.change import idle
from arrowslit.agents.sessions.log import Log
from arrowslit.agents.work.reaper import Reaper
from arrowslit.principal import Scope
from arrowslit.store.open import Store
from arrowslit.work import WorkState
from tests.agents.servant import Servant, application, sdk, use
from tests.store.kit import ManualClock


@pytest_asyncio.fixture
async def servant(store: Store, clock: ManualClock) -> Servant:
    log = Log(store.sessions, clock, os.urandom)
    environment = await store.environments.create("team-default")
    return Servant(store, clock, log, Reaper(store.work, log, clock, os.urandom), environment)


@pytest.fixture
def app(servant: Servant) -> Starlette:
    return application(servant)


@pytest.fixture
def where(servant: Servant) -> str:
    return servant.environment.id


@pytest_asyncio.fixture
async def worker(servant: Servant, app: Starlette, where: str) -> AsyncIterator[AsyncAnthropic]:
    _, key = await servant.store.environments.create_key(where)
    async with sdk(app, key) as client:
        yield client


@pytest_asyncio.fixture
async def operator(servant: Servant, app: Starlette) -> AsyncIterator[AsyncAnthropic]:
    _, key = await servant.store.keys.create(scopes={Scope.ADMIN})
    async with sdk(app, key) as client:
        yield client


def token_in(item: BetaSelfHostedWork | None) -> str:
    assert item is not None
    assert item.secret is not None
    assert "=" not in item.secret
    content = json.loads(base64.urlsafe_b64decode(item.secret + "=" * (-len(item.secret) % 4)))
    assert list(content) == ["sessions_token"]
    return str(content["sessions_token"])


async def poll(worker: AsyncAnthropic, where: str, **more: int) -> BetaSelfHostedWork:
    item = await worker.beta.environments.work.poll(where, **more)  # type: ignore[arg-type]
    assert item is not None
    return item


async def taken(worker: AsyncAnthropic, app: Starlette, where: str) -> tuple[BetaSelfHostedWork, AsyncAnthropic, str]:
    """An item after its first heartbeat, the client with its token, and what the next beat has to expect."""
    item = await poll(worker, where)
    await worker.beta.environments.work.ack(item.id, environment_id=where)
    holder = sdk(app, token_in(item))
    beat = await holder.beta.environments.work.heartbeat(
        item.id, environment_id=where, expected_last_heartbeat="NO_HEARTBEAT"
    )
    assert (beat.state, beat.lease_extended, beat.ttl_seconds) == ("active", True, 90)
    return item, holder, beat.last_heartbeat


async def test_an_item_goes_its_way_from_the_queue_to_its_end(
    servant: Servant, worker: AsyncAnthropic, operator: AsyncAnthropic, app: Starlette, where: str
) -> None:
    await servant.session()
    work = worker.beta.environments.work

    item = await poll(worker, where)
    assert (item.type, item.environment_id, item.state) == ("work", where, "queued")
    assert (item.data.type, item.data.id) == ("session", "sesn_1")
    assert (await work.ack(item.id, environment_id=where)).state == "starting"
    assert (await work.ack(item.id, environment_id=where)).state == "starting"
    async with sdk(app, token_in(item)) as holder:
        first = await holder.beta.environments.work.heartbeat(
            item.id, environment_id=where, expected_last_heartbeat="NO_HEARTBEAT"
        )
        second = await holder.beta.environments.work.heartbeat(
            item.id, environment_id=where, expected_last_heartbeat=first.last_heartbeat, desired_ttl_seconds=30
        )
        assert second.last_heartbeat != first.last_heartbeat
        assert second.ttl_seconds == 30
        await servant.add(idle("end_turn"))
        stopped = await holder.beta.environments.work.stop(item.id, environment_id=where, force=True)
    assert stopped.state == "stopped"
    assert (await operator.beta.environments.work.stop(item.id, environment_id=where)).state == "stopped"

    seen = await operator.beta.environments.work.retrieve(item.id, environment_id=where)
    assert seen.secret is None
    times = [seen.created_at, seen.acknowledged_at, seen.started_at, seen.latest_heartbeat_at, seen.stopped_at]
    assert all(datetime.fromisoformat(time or "").tzinfo for time in times)
    listed = await work.list(where)
    assert [(each.id, each.state, each.secret) for each in listed.data] == [(item.id, "stopped", None)]


async def test_an_empty_queue_is_null(worker: AsyncAnthropic, where: str) -> None:
    answer = await worker.beta.environments.work.with_raw_response.poll(where)

    assert (answer.status_code, answer.headers["content-type"], await answer.text()) == (
        200,
        "application/json",
        "null",
    )


async def test_a_poll_waits_as_long_as_it_was_asked_to_and_wakes_for_work(
    servant: Servant, worker: AsyncAnthropic, where: str
) -> None:
    loop = asyncio.get_running_loop()
    begun = loop.time()
    assert await worker.beta.environments.work.poll(where, block_ms=50) is None
    assert loop.time() - begun >= 0.05

    waiting = asyncio.create_task(poll(worker, where, block_ms=999))
    done, _ = await asyncio.wait([waiting], timeout=0.05)
    assert not done
    await servant.session()

    assert (await waiting).data.id == "sesn_1"  # at the end of its time it would have said that there is none


@pytest.mark.parametrize("block_ms", [0, 1000, -1])
async def test_a_poll_waits_from_1_to_999_milliseconds(worker: AsyncAnthropic, where: str, block_ms: int) -> None:
    with pytest.raises(APIStatusError) as refused:
        await worker.beta.environments.work.poll(where, block_ms=block_ms)

    assert refused.value.status_code == 400


async def test_two_workers_never_get_one_item(servant: Servant, worker: AsyncAnthropic, where: str) -> None:
    for number in range(3):
        await servant.session(f"sesn_{number}")

    answers = await asyncio.gather(*(worker.beta.environments.work.poll(where) for _ in range(5)))

    sessions = [item.data.id for item in answers if item is not None]
    assert sorted(sessions) == ["sesn_0", "sesn_1", "sesn_2"]


async def test_an_item_that_nobody_acknowledges_comes_back(
    servant: Servant, worker: AsyncAnthropic, app: Starlette, where: str
) -> None:
    await servant.session()
    work = worker.beta.environments.work
    first = await poll(worker, where)
    assert await work.poll(where) is None
    assert (await work.stats(where)).pending == 1
    servant.clock.turn(5)

    second = await poll(worker, where)

    assert second.id == first.id
    await work.ack(second.id, environment_id=where)
    async with sdk(app, token_in(first)) as late:
        with pytest.raises(APIStatusError) as refused:  # the lease is the second one's
            await late.beta.environments.work.heartbeat(
                first.id, environment_id=where, expected_last_heartbeat="NO_HEARTBEAT"
            )
        assert refused.value.status_code == 412
        assert (await late.beta.environments.work.stop(first.id, environment_id=where, force=True)).state == "starting"


async def test_a_beat_on_a_lost_lease_is_refused_as_the_sdk_knows_it(
    servant: Servant, worker: AsyncAnthropic, app: Starlette, where: str
) -> None:
    await servant.session()
    item, holder, last = await taken(worker, app, where)
    with pytest.raises(APIStatusError) as refused:
        await holder.beta.environments.work.heartbeat(
            item.id, environment_id=where, expected_last_heartbeat="2026-01-01T00:00:00.000000Z"
        )

    assert isinstance(refused.value.body, dict)
    details = refused.value.body["error"]["details"]
    assert details["error_code"] == "heartbeat_precondition_failed"
    assert details["current_state"] == {
        "state": "active",
        "ttl_seconds": 90,
        "last_heartbeat": last,
        "lease_extended": False,
    }
    servant.clock.turn(91)
    await servant.reaper.sweep()
    with pytest.raises(APIStatusError) as lost:
        await holder.beta.environments.work.heartbeat(item.id, environment_id=where, expected_last_heartbeat=last)
    assert lost.value.status_code == 412


async def test_a_worker_hears_with_its_beat_that_it_is_to_stop(
    servant: Servant, worker: AsyncAnthropic, operator: AsyncAnthropic, app: Starlette, where: str
) -> None:
    await servant.session()
    item, holder, last = await taken(worker, app, where)

    asked = await operator.beta.environments.work.stop(item.id, environment_id=where)
    beat = await holder.beta.environments.work.heartbeat(item.id, environment_id=where, expected_last_heartbeat="?")

    assert asked.state == "stopping"
    assert (beat.state, beat.lease_extended, beat.last_heartbeat) == ("stopping", False, last)


async def test_a_worker_that_waits_for_a_person_is_sent_home_when_others_wait(
    servant: Servant, worker: AsyncAnthropic, app: Starlette, where: str
) -> None:
    await servant.session("sesn_1")
    item, holder, last = await taken(worker, app, where)
    await servant.calls(use("sevt_a", "ask"))
    servant.clock.turn(11)
    work = holder.beta.environments.work
    beat = await work.heartbeat(item.id, environment_id=where, expected_last_heartbeat=last)
    assert beat.state == "active"

    await servant.session("sesn_2")
    beat = await work.heartbeat(item.id, environment_id=where, expected_last_heartbeat=beat.last_heartbeat)

    assert (beat.state, beat.lease_extended) == ("stopping", False)
    await work.stop(item.id, environment_id=where, force=True)
    assert (await poll(worker, where)).data.id == "sesn_2"
    assert await servant.store.work.of_session("sesn_1") is None  # until the person has said something


async def test_who_may_do_what(
    servant: Servant, worker: AsyncAnthropic, operator: AsyncAnthropic, app: Starlette, where: str
) -> None:
    await servant.session()
    item, holder, _ = await taken(worker, app, where)
    _, key = await servant.store.keys.create(scopes={Scope.INVOKE}, agents={"agent_1"})
    async with sdk(app, key) as stranger:
        for client, path, method in [
            (stranger, f"/v1/environments/{where}/work", "get"),
            (operator, f"/v1/environments/{where}/work/poll", "get"),
            (operator, f"/v1/environments/{where}/work/{item.id}/ack", "post"),
            (operator, f"/v1/environments/{where}/work/{item.id}/heartbeat", "post"),
            (worker, f"/v1/environments/{where}/work/{item.id}", "get"),
            (worker, f"/v1/environments/{where}/work/{item.id}", "post"),
            (worker, f"/v1/environments/{where}/healthcheck", "post"),
            (holder, f"/v1/environments/{where}/work/poll", "get"),
            (holder, f"/v1/environments/{where}/work", "get"),
            (holder, f"/v1/environments/{where}/work/stats", "get"),
        ]:
            with pytest.raises(PermissionDeniedError):
                await (client.get if method == "get" else client.post)(path, cast_to=object)


async def test_another_environments_worker_finds_nothing(
    servant: Servant, worker: AsyncAnthropic, app: Starlette, where: str
) -> None:
    await servant.session("sesn_1")
    await servant.session("sesn_2")
    item, holder, _ = await taken(worker, app, where)
    other = await poll(worker, where)
    elsewhere = await servant.store.environments.create("elsewhere")
    _, key = await servant.store.environments.create_key(elsewhere.id)

    async with sdk(app, key) as stranger:
        for path in (f"/v1/environments/{where}/work", "/v1/environments/env_none/work"):
            with pytest.raises(APIStatusError) as refused:
                await stranger.get(path, cast_to=object)
            assert refused.value.status_code == 404
        with pytest.raises(APIStatusError) as hidden:
            await stranger.beta.environments.work.ack(item.id, environment_id=elsewhere.id)
        assert hidden.value.status_code == 404
    with pytest.raises(APIStatusError) as not_its_own:
        await holder.beta.environments.work.stop(other.id, environment_id=where, force=True)
    assert not_its_own.value.status_code == 404
    assert (await servant.store.work.read(where, other.id)).state is WorkState.QUEUED


async def test_figures_of_the_queue(servant: Servant, worker: AsyncAnthropic, app: Starlette, where: str) -> None:
    for number in range(3):
        await servant.session(f"sesn_{number}")
        servant.clock.turn(1)
    await worker.beta.environments.work.poll(where, anthropic_worker_id="host-1")
    await worker.beta.environments.work.poll(where, anthropic_worker_id="host-2")
    await worker.beta.environments.work.poll(where, anthropic_worker_id="host-1", reclaim_older_than_ms=999_000)

    stats = await worker.beta.environments.work.stats(where)

    assert (stats.depth, stats.pending, stats.workers_polling) == (0, 3, 2)
    assert stats.oldest_queued_at is not None


async def test_a_health_check_shows_that_there_is_a_worker(
    worker: AsyncAnthropic, operator: AsyncAnthropic, app: Starlette, where: str
) -> None:
    made = await operator.post(f"/v1/environments/{where}/healthcheck", cast_to=BetaSelfHostedWork)
    assert made.state == "queued"

    item, holder, _ = await taken(worker, app, where)
    assert item.data.to_dict() == {"type": "healthcheck", "id": made.id}
    await holder.beta.environments.work.stop(item.id, environment_id=where, force=True)

    assert (await operator.beta.environments.work.retrieve(made.id, environment_id=where)).state == "stopped"


async def test_metadata_is_merged_into_what_is_there(servant: Servant, operator: AsyncAnthropic, where: str) -> None:
    await servant.session()
    item = await servant.store.work.of_session("sesn_1")
    assert item is not None
    work = operator.beta.environments.work

    await work.update(item.id, environment_id=where, metadata={"a": "1", "b": "2"})
    after = await work.update(item.id, environment_id=where, metadata={"a": None, "c": "3"})

    assert after.metadata == {"b": "2", "c": "3"}


async def test_a_queue_is_listed_page_by_page(servant: Servant, worker: AsyncAnthropic, where: str) -> None:
    for number in range(5):
        await servant.session(f"sesn_{number}")
        servant.clock.turn(1)

    listed = [item.data.id async for item in worker.beta.environments.work.list(where, limit=2)]

    assert listed == [f"sesn_{number}" for number in (4, 3, 2, 1, 0)]
