"""Whoever asks by a time that was shown finds what it was shown with, though times are shown rounded."""

from __future__ import annotations

from pathlib import Path

from arrowslit.clock import SystemClock
from tests.official.ground import bash, is_waiting
from tests.official.inside import relay


class RoundedUp(SystemClock):
    """What happens by this clock is shown a little later than it was."""

    def now(self) -> float:
        """Unix time in seconds."""
        return round(super().now(), 3) + 0.0006


async def test_agents_sessions_and_events_are_found_by_the_times_that_they_show(tmp_path: Path) -> None:
    async with relay(tmp_path, RoundedUp()) as ground, ground.stage() as stage:
        known = await stage.session(bash("true"), agent="cautious")
        first, *_ = await stage.until(known, is_waiting)
        beta = ground.app.beta
        session, agent = await beta.sessions.retrieve(known), await beta.agents.retrieve(ground.agents["cautious"])

        at = agent.created_at
        assert [each.id async for each in beta.agents.list(created_at_gte=at, created_at_lte=at)] == [agent.id]
        at = session.created_at
        assert [each.id async for each in beta.sessions.list(created_at_gte=at, created_at_lte=at)] == [known]
        assert [each.id async for each in beta.sessions.list(created_at_gt=at)] == []
        assert [each.id async for each in beta.sessions.list(created_at_lt=at)] == []
        since = [each async for each in beta.sessions.events.list(known, created_at_gte=first.processed_at)]
        after = [each async for each in beta.sessions.events.list(known, created_at_gt=first.processed_at)]
        assert first.id in [each.id for each in since]
        assert first.id not in [each.id for each in after]
