"""Offer: one target of this connector with the ceiling over it, as it is told to the relay and found by its name."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from arrowslit.connector.targets.target import NotStarted, Target
from arrowslit.policy.ceiling import Ceiling, Source
from arrowslit.protocol import hello

MAX_CALLS = 1024  # at once; the relay keeps to half of it


@dataclass(slots=True, eq=False)
class Offer:
    """A target and what its owner lets through to it. `name` is None for one that has no other beside it.

    At most `most` calls run at once, `calls` are those that do; streams that only listen are not among them.
    """

    target: Target
    ceiling: Ceiling
    name: str | None = None
    most: int = MAX_CALLS
    calls: int = field(default=0, init=False)
    _idle: asyncio.Event | None = field(default=None, init=False)  # there while somebody waits for it

    def enter(self, *, listens: bool) -> None:
        """An exchange with the target begins."""
        self.calls += not listens

    def leave(self, *, listens: bool) -> None:
        """It is over."""
        self.calls -= not listens
        if self._idle is not None and not self.calls:
            self._idle.set()

    async def idle(self) -> None:
        """Wait until no call runs."""
        while self.calls:
            if self._idle is None or self._idle.is_set():
                self._idle = asyncio.Event()
            await self._idle.wait()


@dataclass(frozen=True, slots=True)
class Announced:
    """The part of a Hello that says what is offered. `ceiling` is the word for `status`, `none` if one target has
    none.
    """

    read_only: list[str]
    idempotent: list[str]
    targets: list[hello.Offered]
    ceiling: str


class Offers:
    """What a connector offers at this moment, by name."""

    def __init__(self, offers: Iterable[Offer]) -> None:
        self._by_name: Mapping[str | None, Offer] = {each.name: each for each in offers}

    def all(self) -> list[Offer]:
        """Every one, in the order of the configuration."""
        return list(self._by_name.values())

    def announced(self) -> Announced:
        """What the relay is told of them: names, and nothing about where they are or what runs."""
        alone = self._by_name.get(None)
        return Announced(
            read_only=[] if alone is None else sorted(alone.ceiling.read_only),
            idempotent=[] if alone is None else sorted(alone.ceiling.idempotent),
            targets=[_offered(name, each.ceiling) for name, each in self._by_name.items() if name is not None],
            ceiling=_weakest(each.ceiling for each in self._by_name.values()),
        )

    def find(self, name: str | None) -> Offer:
        """The one that the relay asks for; without a name the only one that there is.

        Raises NotStarted: nothing that the relay says leads to another target than those.
        """
        found = self._by_name.get(name)
        if found is not None:
            return found
        if name is None and len(self._by_name) == 1:
            return next(iter(self._by_name.values()))
        raise NotStarted("this connector does not offer that server" if name else "this connector offers several")


def _offered(name: str, ceiling: Ceiling) -> hello.Offered:
    return hello.Offered(
        name=name,
        read_only=sorted(ceiling.read_only),
        idempotent=sorted(ceiling.idempotent),
        ceiling=ceiling.source.value,
    )


def _weakest(ceilings: Iterable[Ceiling]) -> str:
    sources = [each.source for each in ceilings]
    return (Source.NONE if Source.NONE in sources else sources[0]).value
