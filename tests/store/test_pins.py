"""Pinned definitions: in memory at once, on disk soon, and there again after a restart."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from arrowslit.agent import Definition
from arrowslit.pin import MOST, Pin, Seen
from tests.store.kit import ManualClock, opened

SEEN = Seen("d" * 64, '{"name":"look"}', 1.5)


async def test_a_pin_is_found_at_once_and_after_a_restart(tmp_path: Path) -> None:
    async with opened(tmp_path, ManualClock()) as store:
        agent = await store.agents.create(Definition("a", {"id": "none"}))
        pin = Pin(agent.id, "inventory", "look", SEEN)
        assert store.pins.put(pin)
        assert store.pins.find(agent.id, "inventory", "look") is pin
        changed = replace(
            pin, offered=replace(SEEN, digest="e" * 64, refused="it holds a character"), meanwhile=(SEEN, SEEN)
        )
        other = replace(pin, tool="count", approved=None, approved_by="key_1")
        store.pins.put(changed)
        store.pins.put(other)
        await store.pins.save(pin)  # what memory holds by then is what is kept
        await store.pins.save(other)
        await store.pins.save(other)

    async with opened(tmp_path, ManualClock()) as store:
        assert store.pins.of(agent.id) == [other, changed]
        assert store.pins.find(agent.id, "inventory", "elsewhere") is None
        assert store.pins.of("agent_0") == []


async def test_an_agent_has_no_more_pins_of_a_server_than_it_can_need(tmp_path: Path) -> None:
    async with opened(tmp_path, ManualClock()) as store:
        for number in range(MOST):
            assert store.pins.put(Pin("agent_1", "s", f"t{number}", SEEN))
        assert not store.pins.put(Pin("agent_1", "s", "one_more", SEEN))
        assert store.pins.put(Pin("agent_1", "s", "t0", SEEN))
        assert store.pins.put(Pin("agent_1", "another", "t", SEEN))
        assert store.pins.put(Pin("agent_2", "s", "t", SEEN))
