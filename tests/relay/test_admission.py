from __future__ import annotations

import asyncio

import pytest

from arrowslit.errors import Error
from arrowslit.principal import Tenant
from arrowslit.relay.admission import Admission, Bounds
from arrowslit.testing.loop import run

ACME, GLOBEX = Tenant("acme"), Tenant("globex")


@pytest.mark.promise("P15")
def test_one_tenant_at_its_bound_does_not_keep_another_out() -> None:
    async def story() -> list[str]:
        admission, entered = Admission(Bounds(per_tenant=2, per_tunnel=10, waiting=5)), list[str]()

        async def call(tenant: Tenant, name: str) -> None:
            await admission.enter(tenant, "tnl")
            entered.append(name)
            await asyncio.sleep(1)
            admission.leave(tenant, "tnl")

        async with asyncio.TaskGroup() as group:
            for number in range(4):
                group.create_task(call(ACME, f"a{number}"))
            await asyncio.sleep(0.1)
            group.create_task(call(GLOBEX, "g"))
        return entered

    entered = run(1, story, shuffle=False)
    assert entered == ["a0", "a1", "g", "a2", "a3"]


@pytest.mark.promise("P15")
def test_tenants_take_turns_where_all_wait_for_the_same_tunnel() -> None:
    async def story() -> list[str]:
        admission, entered = Admission(Bounds(per_tenant=9, per_tunnel=1, waiting=9)), list[str]()

        async def call(tenant: Tenant, name: str) -> None:
            await admission.enter(tenant, "tnl")
            entered.append(name)
            await asyncio.sleep(1)
            admission.leave(tenant, "tnl")

        async with asyncio.TaskGroup() as group:
            for tenant, name in ((ACME, "a0"), (ACME, "a1"), (ACME, "a2"), (GLOBEX, "g0"), (GLOBEX, "g1")):
                group.create_task(call(tenant, name))
        return entered

    assert run(1, story, shuffle=False) == ["a0", "a1", "g0", "a2", "g1"]


@pytest.mark.promise("P15")
def test_where_too_many_wait_the_longest_line_gives_way() -> None:
    async def story() -> list[str]:
        admission, said = Admission(Bounds(per_tenant=9, per_tunnel=1, waiting=3)), list[str]()

        async def call(tenant: Tenant, name: str) -> None:
            try:
                await admission.enter(tenant, "tnl")
            except Error as error:
                said.append(f"{name} {error.code}")
                return
            said.append(name)
            await asyncio.sleep(1)
            admission.leave(tenant, "tnl")

        async with asyncio.TaskGroup() as group:
            for tenant, name in (
                *((ACME, f"a{number}") for number in range(5)),
                *((GLOBEX, f"g{number}") for number in range(2)),
            ):
                group.create_task(call(tenant, name))
        return said

    said = run(1, story, shuffle=False)
    assert sorted(said) == ["a0", "a1", "a2", "a3 rate_limited", "a4 rate_limited", "g0", "g1 rate_limited"]


def test_too_many_who_wait_are_told_when_to_come_again() -> None:
    async def story() -> Error:
        admission = Admission(Bounds(per_tenant=1, per_tunnel=1, waiting=1))
        await admission.enter(ACME, "tnl")
        waiting = asyncio.ensure_future(admission.enter(ACME, "tnl"))
        await asyncio.sleep(0)
        with pytest.raises(Error) as caught:
            await admission.enter(ACME, "tnl")
        admission.leave(ACME, "tnl")
        await waiting
        return caught.value

    error = run(1, story, shuffle=False)
    assert error.code == "rate_limited"
    assert error.details["retry_after"] == 1


@pytest.mark.parametrize("when", ["while it waits", "when its turn has come"])
def test_a_caller_who_left_while_waiting_leaves_no_place_taken(when: str) -> None:
    async def story() -> None:
        admission = Admission(Bounds(per_tenant=1, per_tunnel=1, waiting=5))
        await admission.enter(ACME, "tnl")
        waiting = asyncio.ensure_future(admission.enter(ACME, "tnl"))
        await asyncio.sleep(0)
        if when == "when its turn has come":
            admission.leave(ACME, "tnl")
            waiting.cancel()
        else:
            waiting.cancel()
            await asyncio.wait({waiting})
            admission.leave(ACME, "tnl")
        await asyncio.wait({waiting})
        async with asyncio.timeout(1):
            await admission.enter(ACME, "tnl")

    run(1, story, shuffle=False)


@pytest.mark.promise("P2")
def test_nobody_waits_past_the_own_time_and_who_gave_up_has_no_place() -> None:
    async def story() -> float:
        admission, loop = Admission(Bounds(per_tenant=1, per_tunnel=1, waiting=5)), asyncio.get_running_loop()
        await admission.enter(ACME, "tnl", loop.time() + 1)  # who need not wait is not put off
        began = loop.time()
        with pytest.raises(TimeoutError):
            await admission.enter(ACME, "tnl", began + 1)
        waited = loop.time() - began
        admission.leave(ACME, "tnl")
        async with asyncio.timeout(1):
            await admission.enter(ACME, "tnl", loop.time() + 10)
        await asyncio.sleep(20)
        return waited

    assert run(1, story, shuffle=False) == pytest.approx(1.0, abs=0.1)


@pytest.mark.promise("P15")
def test_a_tenant_with_many_calls_takes_turns_with_one_that_has_few() -> None:
    async def story() -> list[str]:
        admission, entered = Admission(Bounds(a_turn=2, a_shared_turn=2)), list[str]()

        async def call(tenant: Tenant) -> None:
            await admission.enter(tenant, "tnl")
            entered.append(tenant)

        async with asyncio.TaskGroup() as group:
            for _ in range(100):
                group.create_task(call(ACME))
            await asyncio.sleep(0)
            for _ in range(4):
                group.create_task(call(GLOBEX))
        return entered

    entered = run(1, story, shuffle=False)
    assert len(entered) == 104
    assert entered.index("globex") < 6
    assert [each for each in entered[:14] if each == "globex"] == ["globex"] * 4


def test_calls_at_once_for_which_there_is_room_are_not_turned_away() -> None:
    async def story() -> int:
        admission = Admission(Bounds(per_tenant=64, waiting=4, a_turn=2))
        said = await asyncio.gather(*(admission.enter(ACME, "tnl") for _ in range(64)), return_exceptions=True)
        return said.count(None)

    assert run(1, story, shuffle=False) == 64
