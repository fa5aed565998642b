from __future__ import annotations

from pathlib import Path

import pytest

from arrowslit.errors import Error
from arrowslit.principal import ApiKey, Change, KeyRevoked, Principal, Scope, Tenant
from arrowslit.store import keys
from arrowslit.store.open import Store
from tests.store.kit import DAY, HOUR, ManualClock, opened


async def test_a_key_is_its_principal_and_the_same_after_reopening(tmp_path: Path, clock: ManualClock) -> None:
    async with opened(tmp_path, clock) as store:
        key, text = await store.keys.create(
            scopes={Scope.INVOKE}, agents={"agent_a", "agent_b"}, tenant=Tenant("acme"), name="for acme"
        )
        await store.keys.create_registration("edge-*", name="edges")
        before = list(store.keys.every())
        assert text.startswith("asl_sk_")
    async with opened(tmp_path, clock) as store:
        assert list(store.keys.every()) == before
        assert store.grants.principal(text) == Principal(
            key.id, Tenant("acme"), frozenset({Scope.INVOKE}), frozenset({"agent_a", "agent_b"})
        )


async def test_the_database_holds_no_key(tmp_path: Path, store: Store) -> None:
    key, text = await store.keys.create(scopes={Scope.ADMIN})

    written = b"".join(file.read_bytes() for file in tmp_path.iterdir())

    assert key.id.encode() in written
    assert text.encode() not in written
    assert text[7:-10].encode() not in written


@pytest.mark.promise("P11")
async def test_a_revoked_key_is_nobody_at_once_and_for_ever(tmp_path: Path, clock: ManualClock) -> None:
    heard: list[Change] = []
    async with opened(tmp_path, clock) as store:
        key, text = await store.keys.create(scopes={Scope.ADMIN})
        store.on_change(heard.append)
        assert store.grants.principal(text) is not None, "and what was seen is remembered"

        first = await store.keys.revoke(key.id)
        clock.turn(1)
        again = await store.keys.revoke(key.id)

        assert store.grants.principal(text) is None
        assert not store.keys.live(key.id)
        assert heard == [KeyRevoked(key.id)]
        assert first == again
    async with opened(tmp_path, clock) as store:
        assert store.grants.principal(text) is None


@pytest.mark.promise("P11")
async def test_a_key_expires_at_its_moment(store: Store, clock: ManualClock) -> None:
    key, text = await store.keys.create(scopes={Scope.ADMIN}, expires_at=clock.now() + HOUR)

    clock.turn(HOUR - 1)
    assert store.grants.principal(text) is not None
    clock.turn(1)
    assert store.grants.principal(text) is None
    assert not store.keys.live(key.id)


async def minter(store: Store) -> str:
    key, _ = await store.keys.create(scopes={Scope.MINT, Scope.INVOKE}, agents={"agent_a"}, tenant=Tenant("acme"))
    return key.id


async def mint(store: Store, minted_by: str, expires_at: float) -> tuple[ApiKey, str]:
    scopes, agents = {Scope.INVOKE}, {"agent_a"}
    return await store.keys.create(scopes=scopes, agents=agents, expires_at=expires_at, minted_by=minted_by)


@pytest.mark.promise("P11")
async def test_a_key_takes_along_what_it_minted(tmp_path: Path, clock: ManualClock) -> None:
    heard: list[Change] = []
    async with opened(tmp_path, clock) as store:
        first, other = await minter(store), await minter(store)
        (one, one_text), (two, _) = [await mint(store, first, clock.now() + HOUR) for _ in range(2)]
        (early, _), (kept, kept_text) = await mint(store, first, clock.now() + HOUR), await mint(store, other, 2e9)
        await store.keys.revoke(early.id)
        early_end = store.keys.read(early.id)
        store.on_change(heard.append)
    async with opened(tmp_path, clock) as store:  # it is known after a restart too
        store.on_change(heard.append)
        clock.turn(1)

        revoked = await store.keys.revoke(first)

        assert heard == [KeyRevoked(first), KeyRevoked(one.id), KeyRevoked(two.id)]
        assert revoked.revoked_at == clock.now()
        assert store.grants.principal(one_text) is None
        assert store.keys.read(early.id) == early_end
        assert await store.keys.revoke(first) == revoked
        assert len(heard) == 3
    async with opened(tmp_path, clock) as store:
        assert store.grants.principal(one_text) is None
        assert store.keys.read(two.id).revoked_at is not None
        principal = store.grants.principal(kept_text)
        assert principal is not None
        assert (principal.id, principal.expires_at) == (kept.id, 2e9)


async def test_a_key_that_was_revoked_mints_nothing_more(store: Store, clock: ManualClock) -> None:
    first = await minter(store)
    await store.keys.revoke(first)

    with pytest.raises(Error) as refused:
        await mint(store, first, clock.now() + HOUR)

    assert refused.value.code == "unauthenticated"
    assert len(store.keys.every()) == 1


async def test_minted_keys_are_bounded_while_they_are_good(
    store: Store, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "MINTED", 3)
    first = await minter(store)
    made = [(await mint(store, first, clock.now() + HOUR))[0] for _ in range(3)]

    with pytest.raises(Error) as refused:
        await mint(store, first, clock.now() + HOUR)
    assert refused.value.code == "rate_limited"
    await mint(store, await minter(store), clock.now() + HOUR)  # another's do not count

    await store.keys.revoke(made[0].id)
    await mint(store, first, clock.now() + HOUR)
    clock.turn(HOUR)
    await mint(store, first, clock.now() + HOUR)


async def test_minted_keys_are_forgotten_a_week_after_their_end(tmp_path: Path, clock: ManualClock) -> None:
    async with opened(tmp_path, clock) as store:
        first = await minter(store)
        old, text = await mint(store, first, clock.now() + HOUR)
        by_hand, _ = await store.keys.create(scopes={Scope.ADMIN}, expires_at=clock.now() + HOUR)

        clock.turn(HOUR + 7 * DAY)
        newer, _ = await mint(store, first, clock.now() + HOUR)
        assert store.keys.read(old.id) == old
        clock.turn(1)
        await mint(store, first, clock.now() + HOUR)

        with pytest.raises(Error):
            store.keys.read(old.id)
        assert store.grants.principal(text) is None
        assert store.keys.read(newer.id) == newer
        assert store.keys.read(by_hand.id) == by_hand
    async with opened(tmp_path, clock) as store:
        assert old.id not in {key.id for key in store.keys.every()}
        assert len(store.keys.every()) == 4


async def test_a_credential_of_another_kind_is_nobody(store: Store) -> None:
    await store.tunnels.create("a")
    _, tunnel_token = await store.tunnels.reveal_token("tnl_a")
    _, registration_token = await store.keys.create_registration("*")

    assert store.grants.principal(tunnel_token) is None
    assert store.grants.principal(registration_token) is None
    assert store.grants.principal("asl_sk_" + "0" * 49) is None


async def test_a_key_that_is_not_there_is_said_to_be_so(store: Store) -> None:
    with pytest.raises(Error) as refused:
        await store.keys.revoke("key_none")

    assert refused.value.code == "key_not_found"


async def test_the_first_admin_key_is_made_once(store: Store) -> None:
    text = await store.ensure_admin_key(None)

    assert text is not None
    principal = store.grants.principal(text)
    assert principal is not None
    assert principal.scopes == {Scope.ADMIN}
    assert await store.ensure_admin_key(text) is None


async def test_an_admin_key_that_was_never_written_down_is_replaced(store: Store) -> None:
    lost = await store.ensure_admin_key(None)

    text = await store.ensure_admin_key(None)

    assert lost is not None
    assert text not in (None, lost)
    assert store.grants.principal(lost) is None


async def test_no_admin_key_is_made_where_somebody_made_another(store: Store) -> None:
    first = await store.ensure_admin_key(None)
    await store.keys.create(scopes={Scope.ADMIN}, name="mine")
    assert first is not None
    principal = store.grants.principal(first)
    assert principal is not None
    await store.keys.revoke(principal.id)

    assert await store.ensure_admin_key(None) is None
