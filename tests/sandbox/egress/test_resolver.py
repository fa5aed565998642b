"""The machine's own resolver, as the proxy asks it."""

from __future__ import annotations

import pytest

from arrowslit.sandbox.egress.resolver import SystemResolver


async def test_a_name_leads_to_addresses_each_of_them_once() -> None:
    resolver = SystemResolver()
    found = await resolver("localhost", 80)
    resolver.close()

    assert set(found) & {"127.0.0.1", "::1"}
    assert len(found) == len(set(found))


async def test_a_name_that_can_lead_nowhere_is_an_oserror_and_asks_nobody() -> None:
    resolver = SystemResolver()
    with pytest.raises(OSError, match="no such name"):
        await resolver("a" * 64 + ".test", 80)
    resolver.close()
