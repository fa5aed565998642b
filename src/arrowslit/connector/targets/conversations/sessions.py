"""Sessions: all MCP sessions of one target: made by `initialize`, found by their id, put to rest, forgotten."""

from __future__ import annotations

from arrowslit.connector.targets.conversations.house import House
from arrowslit.connector.targets.conversations.manner import Manner
from arrowslit.connector.targets.conversations.message import Posted
from arrowslit.connector.targets.conversations.saved import TOO_OLD, TOUCH_EVERY, SavedSession, SavedSessions
from arrowslit.connector.targets.conversations.session import Session
from arrowslit.connector.targets.conversations.slot import Backoff
from arrowslit.connector.targets.processes.crowd import TooMany
from arrowslit.connector.targets.target import Lost, NotStarted, Reply

IDLE = 30 * 60.0
"""Seconds without a request in flight or an open stream after which a session's process is stopped (tunnel.md)."""

MOST_SESSIONS = 4096
"""Sessions remembered, with a process or without; then the one that was used least recently is forgotten."""


class Sessions:
    """Every session has a random id, a process while it is used, and a file from which it can come back."""

    def __init__(self, house: House, saved: SavedSessions) -> None:
        self._house = house
        self._clock = house.clock
        self._health = house.health
        self._saved = saved
        self._sessions: dict[str, Session] = {}
        self._touched: dict[str, float] = {}
        self._backoff = Backoff()

    def __len__(self) -> int:
        return len(self._sessions)

    @property
    def wait(self) -> float:
        """Seconds until a new session may be tried, since the last ones died before they began."""
        return self._backoff.wait(self._clock.monotonic())

    def restore(self) -> None:
        """Know the sessions of an earlier run again. Raises Error `state_unusable`."""
        now, monotonic = self._clock.now(), self._clock.monotonic()
        for saved in self._saved.load(now):
            session = self._new(saved.session_id, saved.params)
            session.established = True
            session.used = monotonic - max(0.0, now - saved.used_at)
            self._sessions[session.id] = session

    def get(self, session_id: str) -> Session | None:
        """The session of that id; noted as used."""
        session = self._sessions.get(session_id)
        if session is not None:
            self._touch(session)
        return session

    async def initialize(self, posted: Posted, reply: Reply, manner: Manner) -> None:
        """Answer an `initialize` with a new session, known once the server agreed. Raises as `Target.exchange` does."""
        if self.wait > 0:
            raise NotStarted(f"{self._health.last_error}; the next session is tried in {self.wait:.0f} s")
        session = self._new(self._house.random(16).hex(), bytes(posted.members.get("params", b"{}")))
        try:
            await session.initialize(posted, reply, manner, lambda: self._add(session))
        except TooMany:
            raise
        except (NotStarted, Lost) as error:
            lived = self._clock.monotonic() - session.used
            self._health.last_error = str(error)
            self._backoff = self._backoff.after_death(lived, self._clock.monotonic())
            raise
        finally:
            if not session.established:
                session.end()

    def end(self, session: Session) -> None:
        """Forget a session and stop its process."""
        session.end()
        self._sessions.pop(session.id, None)
        self._touched.pop(session.id, None)
        self._saved.remove(session.id)

    def close_streams(self) -> None:
        """End all GET streams, as the target is left. Sessions stay, for the next run."""
        for session in self._sessions.values():
            session.close_stream()

    async def keep_house(self) -> None:
        """Stop what is idle and forget what is too old, for as long as the target lives."""
        while True:
            await self._clock.sleep(TOUCH_EVERY)
            now = self._clock.monotonic()
            for session in list(self._sessions.values()):
                if session.busy:
                    session.used = now
                    self._touch(session)
                elif now - session.used >= TOO_OLD:
                    self.end(session)
                elif now - session.used >= IDLE:
                    session.rest()

    def _touch(self, session: Session) -> None:
        """Note on disk that a session is used, now and then."""
        now = self._clock.monotonic()
        if now - self._touched.get(session.id, -TOUCH_EVERY) >= TOUCH_EVERY:
            self._touched[session.id] = now
            self._saved.touch(session.id, self._clock.now())

    def _new(self, session_id: str, params: bytes) -> Session:
        return Session(session_id, params, self._house)

    def _add(self, session: Session) -> None:
        """A server agreed to a session: from here on it is kept."""
        self._backoff = Backoff()
        if len(self._sessions) >= MOST_SESSIONS:
            self.end(min(self._sessions.values(), key=lambda known: (known.running, known.used)))
        self._sessions[session.id] = session
        self._saved.save(SavedSession(session.id, session.params, self._clock.now()))
