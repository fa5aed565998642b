from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from arrowslit.errors import Error
from arrowslit.principal import Change
from arrowslit.store.open import Store
from arrowslit.tunnel import KeyBinding, Registration, TokenRevoked, TunnelArchived, TunnelChanged, fingerprint
from tests.harness import PATIENCE
from tests.store.kit import DAY, HOUR, ManualClock, opened

ID = "tnl_internal_inventory"
KEY, OTHER_KEY = b"k" * 32, b"o" * 32


async def test_a_name_is_never_issued_again(tmp_path: Path, clock: ManualClock) -> None:
    async with opened(tmp_path, clock) as store:
        await store.tunnels.create("internal-inventory")
        await store.tunnels.archive(ID)
    async with opened(tmp_path, clock) as store:
        with pytest.raises(Error) as refused:
            await store.tunnels.create("internal-inventory")

    assert refused.value.code == "name_taken"


async def test_a_tunnel_is_the_same_after_reopening(tmp_path: Path, clock: ManualClock) -> None:
    async with opened(tmp_path, clock) as store:
        await store.tunnels.create("a", display_name="Ä", tenant_optional=True, key_binding=KeyBinding.NONE)
        await store.tunnels.pin("tnl_a", KEY)
        await store.tunnels.remember_refused("tnl_a", OTHER_KEY)
        _, token = await store.tunnels.rotate_token("tnl_a", grace=HOUR)
        before, state = store.tunnels.read("tnl_a"), store.tunnels.token_state("tnl_a")
    async with opened(tmp_path, clock) as store:
        assert store.tunnels.read("tnl_a") == before
        assert store.tunnels.token_state("tnl_a") == state
        assert await store.tunnels.reveal_token("tnl_a") == (2, token)
        assert store.tunnels.tunnel_by_token(token) == before


async def test_the_database_holds_no_token(tmp_path: Path, store: Store) -> None:
    await store.tunnels.create("internal-inventory")
    _, token = await store.tunnels.reveal_token(ID)
    _, key = await store.keys.create_registration("edge-*")

    written = b"".join(file.read_bytes() for file in tmp_path.iterdir())

    assert b"internal-inventory" in written
    assert token.encode() not in written
    assert key.encode() not in written


@pytest.mark.promise("P11")
async def test_an_archived_tunnel_opens_nothing_at_once_and_says_so(store: Store) -> None:
    heard: list[Change] = []
    await store.tunnels.create("internal-inventory")
    _, token = await store.tunnels.reveal_token(ID)
    store.on_change(heard.append)

    first = await store.tunnels.archive(ID)
    again = await store.tunnels.archive(ID)

    assert store.tunnels.tunnel_by_token(token) is None
    assert store.tunnels.get(ID) is None
    assert first == again == store.tunnels.read(ID)
    assert heard == [TunnelArchived(ID)]
    for change in (store.tunnels.rotate_token(ID), store.tunnels.reveal_token(ID), store.tunnels.pin(ID, KEY)):
        with pytest.raises(Error) as refused:
            await change
        assert refused.value.code == "archived"


async def test_rotation_leaves_the_old_token_its_grace_and_open_links_their_life(
    store: Store, clock: ManualClock
) -> None:
    await store.tunnels.create("internal-inventory")
    _, old = await store.tunnels.reveal_token(ID)
    await store.tunnels.mark_used(ID, 1)
    heard: list[Change] = []
    store.on_change(heard.append)

    generation, new = await store.tunnels.rotate_token(ID, grace=HOUR)

    opens = [store.tunnels.tunnel_by_token(token) for token in (old, new)]
    assert [each.generation for each in opens if each] == [1, 2]
    assert generation == 2
    assert heard == [TunnelChanged(ID)]
    clock.turn(HOUR)
    assert store.tunnels.tunnel_by_token(old) is None
    assert store.tunnels.tunnel_by_token(new) is not None


@pytest.mark.promise("P11")
async def test_a_revoked_token_is_dead_at_once_and_its_links_are_named(store: Store) -> None:
    await store.tunnels.create("internal-inventory")
    _, old = await store.tunnels.reveal_token(ID)
    heard: list[Change] = []
    store.on_change(heard.append)

    await store.tunnels.rotate_token(ID, grace=HOUR, revoke=True)

    assert store.tunnels.tunnel_by_token(old) is None
    assert heard == [TunnelChanged(ID), TokenRevoked(ID, 2)]


async def test_a_token_that_expired_unused_is_replaced_when_it_is_asked_for(store: Store, clock: ManualClock) -> None:
    await store.tunnels.create("internal-inventory")
    _, old = await store.tunnels.reveal_token(ID)
    clock.turn(DAY)

    generation, new = await store.tunnels.reveal_token(ID)

    assert store.tunnels.tunnel_by_token(old) is None
    assert generation == 2
    assert store.tunnels.tunnel_by_token(new) is not None


async def test_a_token_in_use_does_not_expire(store: Store, clock: ManualClock) -> None:
    await store.tunnels.create("internal-inventory")
    _, token = await store.tunnels.reveal_token(ID)
    await store.tunnels.mark_used(ID, 1)
    clock.turn(400 * DAY)

    assert store.tunnels.tunnel_by_token(token) is not None
    assert await store.tunnels.reveal_token(ID) == (1, token)


@pytest.mark.parametrize("wrong", ["", "asl_tun_", "nonsense", "asl_tun_" + "0" * 49])
async def test_a_wrong_token_opens_nothing(store: Store, wrong: str) -> None:
    await store.tunnels.create("internal-inventory")
    _, api_key = await store.keys.create(scopes=frozenset())

    assert store.tunnels.tunnel_by_token(wrong) is None
    assert store.tunnels.tunnel_by_token(api_key) is None
    assert store.tunnels.registration(wrong) is None


async def test_the_first_key_is_pinned_and_another_waits_for_approval(store: Store) -> None:
    await store.tunnels.create("internal-inventory")
    await store.tunnels.pin(ID, KEY)

    with pytest.raises(Error) as refused:
        await store.tunnels.pin(ID, OTHER_KEY)
    await store.tunnels.remember_refused(ID, OTHER_KEY)
    with pytest.raises(Error) as not_meant:
        await store.tunnels.approve(ID, fingerprint(KEY))
    tunnel = await store.tunnels.approve(ID, fingerprint(OTHER_KEY))

    assert refused.value.code == "key_mismatch"
    assert not_meant.value.code == "validation_error"
    assert (tunnel.connector_key, tunnel.refused_key) == (OTHER_KEY, None)
    with pytest.raises(Error):
        await store.tunnels.approve(ID)


async def test_a_registration_makes_each_tunnel_once_for_one_key(store: Store, clock: ManualClock) -> None:
    made, text = await store.keys.create_registration("edge-*")
    registration = store.tunnels.registration(text)
    assert registration == made

    tunnel, token = await store.tunnels.register(registration, "edge-berlin", KEY)
    again = await store.tunnels.register(registration, "edge-berlin", KEY)
    second, _ = await store.tunnels.register(registration, "edge-paris", KEY)

    assert tunnel.connector_key == KEY
    assert tunnel.key_binding is KeyBinding.PINNED
    assert again == (tunnel, token)
    assert store.tunnels.tunnel_by_token(token) == tunnel
    assert second.id == "tnl_edge_paris"
    for name, key, code in [
        ("edge-berlin", OTHER_KEY, "name_taken"),
        ("core", KEY, "registration_refused"),
        ("edge-Berlin", KEY, "validation_error"),
    ]:
        with pytest.raises(Error) as refused:
            await store.tunnels.register(registration, name, key)
        assert refused.value.code == code
    clock.turn(2 * DAY)
    assert store.tunnels.tunnel_by_token(token) is not None  # its connector has it, so it counts as used


async def test_a_registration_does_not_take_over_what_others_made(store: Store) -> None:
    await store.tunnels.create("edge-berlin")
    await store.tunnels.pin("tnl_edge_berlin", KEY)
    registration, _ = await store.keys.create_registration("edge-*")

    with pytest.raises(Error) as refused:
        await store.tunnels.register(registration, "edge-berlin", KEY)

    assert refused.value.code == "name_taken"


async def test_ten_connectors_that_register_one_name_at_once_get_one_tunnel(store: Store) -> None:
    registration, _ = await store.keys.create_registration("*")

    answers = await asyncio.gather(*(store.tunnels.register(registration, "edge", KEY) for _ in range(10)))

    assert len({token for _, token in answers}) == 1


@pytest.mark.promise("P11")
async def test_a_registration_ends_with_its_date_or_its_revocation(store: Store, clock: ManualClock) -> None:
    dated, dated_text = await store.keys.create_registration("a", expires_at=clock.now() + HOUR)
    revoked, revoked_text = await store.keys.create_registration("b")
    assert store.tunnels.registration(dated_text) is not None

    clock.turn(HOUR)
    await store.keys.revoke(revoked.id)

    assert store.tunnels.registration(dated_text) is None
    assert store.tunnels.registration(revoked_text) is None
    with pytest.raises(Error) as refused:
        await store.tunnels.register(dated, "a", KEY)
    assert refused.value.code == "registration_refused"


@pytest.mark.parametrize(
    ("pattern", "name", "covered"),
    [
        ("edge-*", "edge-1", True),
        ("edge-*", "edge-", True),
        ("edge-*", "edge", False),
        ("*-prod", "stock-prod", True),
        ("a*a", "a", False),
        ("a*a", "aa", True),
        ("*", "anything", True),
        ("stock", "stock", True),
        ("stock", "stock2", False),
    ],
)
def test_a_star_stands_for_any_characters(pattern: str, name: str, covered: bool) -> None:
    assert Registration("key_1", pattern, 0.0).matches(name) is covered


@pytest.mark.parametrize("pattern", ["", "a**", "*a*", "Edge-*", "edge.*", "-a", "a" * 64, "a?"])
async def test_a_pattern_is_a_name_with_at_most_one_star(store: Store, pattern: str) -> None:
    with pytest.raises(Error) as refused:
        await store.keys.create_registration(pattern)

    assert refused.value.code == "validation_error"


async def test_a_caller_that_leaves_does_not_part_disk_and_memory(tmp_path: Path, clock: ManualClock) -> None:
    heard = asyncio.Event()
    async with opened(tmp_path, clock) as store:
        await store.tunnels.create("internal-inventory")
        store.on_change(lambda _: heard.set())
        archiving = asyncio.create_task(store.tunnels.archive(ID))
        await asyncio.sleep(0)
        archiving.cancel()
        await asyncio.wait([archiving])
        await asyncio.wait_for(heard.wait(), PATIENCE)

        assert archiving.cancelled()
        assert store.tunnels.get(ID) is None
    async with opened(tmp_path, clock) as store:
        assert store.tunnels.get(ID) is None


async def test_a_listener_that_fails_does_not_keep_the_others_from_hearing(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(change: Change) -> None:
        raise RuntimeError("mine")

    heard: list[Change] = []
    store.on_change(fail)
    store.on_change(heard.append)

    tunnel = await store.tunnels.create("internal-inventory")

    assert heard == [TunnelChanged(tunnel.id)]
    assert "a listener failed" in caplog.text


async def test_tunnels_are_listed_newest_first(store: Store, clock: ManualClock) -> None:
    for name in ("a", "b", "c"):
        await store.tunnels.create(name)
        clock.turn(1)

    assert [tunnel.name for tunnel in store.tunnels.every()] == ["c", "b", "a"]


async def test_a_tunnel_that_is_not_there_is_said_to_be_so(store: Store) -> None:
    with pytest.raises(Error) as refused:
        await store.tunnels.archive("tnl_none")

    assert refused.value.code == "tunnel_not_found"
