"""The tokens of one tunnel as a value: which generations are valid, until when, and how they follow each other."""

from __future__ import annotations

from dataclasses import dataclass, replace

from arrowslit.tunnel import TokenState, Tunnel

UNUSED_FOR = 24 * 3600.0  # seconds; a token that was printed and forgotten is not a door left open


@dataclass(frozen=True, slots=True)
class Tokens:
    """The current generation of a tunnel's token, and the one before while its grace lasts. Hashes, not tokens."""

    generation: int
    hash: str
    issued_at: float
    used_at: float | None = None
    previous_hash: str | None = None
    previous_until: float | None = None

    def expires_at(self) -> float | None:
        """When the current token dies if nobody uses it; None once somebody has."""
        return self.issued_at + UNUSED_FOR if self.used_at is None else None

    def expired(self, now: float) -> bool:
        """Whether the current token died unused."""
        expires_at = self.expires_at()
        return expires_at is not None and now >= expires_at

    def valid(self, presented: str, now: float) -> int | None:
        """The generation of the token with that hash, if it opens a link now."""
        if presented == self.hash:
            return None if self.expired(now) else self.generation
        if presented == self.previous_hash and self.previous_until is not None and now < self.previous_until:
            return self.generation - 1
        return None

    def rotated(self, new_hash: str, now: float, grace: float) -> Tokens:
        """The next generation. The one before stays valid for `grace` seconds, but no longer than it was."""
        limits = [now + grace, self.expires_at()]
        until = min(limit for limit in limits if limit is not None)
        return Tokens(self.generation + 1, new_hash, now, None, self.hash, until)

    def used(self, generation: int, now: float) -> Tokens:
        """After a link was opened with that generation."""
        return replace(self, used_at=now) if generation == self.generation and self.used_at is None else self

    def state(self) -> TokenState:
        """What may be shown."""
        return TokenState(self.generation, self.issued_at, self.used_at, self.expires_at(), self.previous_until)


@dataclass(frozen=True, slots=True)
class StoredTunnel:
    """A tunnel with its tokens, and the registration that made it, if one did."""

    tunnel: Tunnel
    tokens: Tokens
    registration_id: str | None = None
