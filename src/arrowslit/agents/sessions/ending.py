"""Ending: a change that closes calls which somebody may be making right now. First nobody can, then it is decided."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from arrowslit.agents.sessions.change import Change
from arrowslit.agents.sessions.closing import begun
from arrowslit.agents.sessions.log import Changed, Log
from arrowslit.agents.sessions.state import State
from arrowslit.session import LeaseLost, Session

DecideEnd = Callable[[Session, State, Mapping[str, str]], Change | None]
"""Like `Decide`; the third is what may have left of the open calls: event id -> the call id it left under; of
sandbox calls, those that a worker may have begun, as `begun` has them."""


async def end_calls(log: Log, session_id: str, decide: DecideEnd) -> Changed:
    """`Log.change` for a decision that needs to know which calls have left: from that look to the append none does.

    Where the relay has the next step, it is taken out of the hands of whoever does it. Raises as `Log.change`, except
    LeaseLost.
    """
    while True:
        lease = await log.hold(session_id)
        try:
            _, state = await log.read(session_id)
            at_servers = await log.sessions.dispatched(session_id, [call.id for call in state.open])

            def decided(session: Session, now: State) -> Change | None:
                if lease is None and session.runnable:  # noqa: B023 : asked before the next round only
                    raise _Begun
                left = {**at_servers, **begun(now, log.seen_by_worker(session_id))}  # noqa: B023
                return decide(session, now, left)

            return await log.change(session_id, decided, lease=lease)
        except (_Begun, LeaseLost):
            continue  # somebody let calls leave, or may have, since we looked
        finally:
            if lease is not None:
                await log.sessions.release(lease)


class _Begun(Exception):
    """The relay has the next step again."""
