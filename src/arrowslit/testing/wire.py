"""A network in memory: pairs of pipes that delay, and lose what is under way when they are cut."""

from __future__ import annotations

import asyncio
import random

from arrowslit.link.pipe import CloseCode, PipeListener


class WirePipe:
    """One end of a wire. Messages arrive in their order, each after a delay of its own; fulfils `link.pipe.Pipe`."""

    def __init__(self, chance: random.Random, delay: float) -> None:
        self.other: WirePipe | None = None
        self.open = True
        self._chance = chance
        self._delay = delay
        self._listener: PipeListener | None = None
        self._early: list[bytes] = []
        self._arrives = 0.0
        self._gone: str | None = None

    def attach(self, listener: PipeListener) -> None:
        """See Pipe."""
        self._listener = listener
        early, self._early = self._early, []
        for message in early:
            listener.message(message)
        if self._gone is not None:
            listener.closed(self._gone)

    def send(self, message: bytes) -> bool:
        """See Pipe."""
        if not self.open:
            return False
        assert self.other is not None
        self._later(self.other, message)
        return True

    def close(self, code: CloseCode, reason: str = "") -> None:
        """See Pipe: what was sent before still arrives at the other end, then the end of the pipe."""
        if self.open:
            self.open = False
            assert self.other is not None
            self._later(self.other, None, f"closed with {int(code)} {reason}".strip())

    def lose(self, reason: str) -> None:
        """This end is gone, and what was under way to it."""
        if self._gone is None:
            self.open = False
            self._gone = reason
            if self._listener is not None:
                self._listener.closed(reason)

    def _later(self, other: WirePipe, message: bytes | None, reason: str = "") -> None:
        loop = asyncio.get_running_loop()
        self._arrives = max(self._arrives, loop.time() + self._chance.random() * self._delay) + 1e-6
        loop.call_at(self._arrives, other._arrive, message, reason)

    def _arrive(self, message: bytes | None, reason: str) -> None:
        if self._gone is not None:
            return
        if message is None:
            self.lose(reason)
        elif self._listener is None:
            self._early.append(message)
        else:
            self._listener.message(message)


class Wire:
    """Two pipe ends and what is between them."""

    def __init__(self, chance: random.Random, delay: float = 0.01) -> None:
        self.relay_end = WirePipe(chance, delay)
        self.connector_end = WirePipe(chance, delay)
        self.relay_end.other, self.connector_end.other = self.connector_end, self.relay_end

    def cut(self) -> None:
        """Both ends lose it at once; everything under way is lost."""
        self.relay_end.lose("cut")
        self.connector_end.lose("cut")
