"""Environment: where an agent's code runs, a queue that sandbox workers serve, and the keys of those; port
Environments.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Environment:
    """A work queue that your own workers serve. It belongs to the organisation. Names may repeat. Unix seconds."""

    id: str
    name: str
    created_at: float
    updated_at: float
    description: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    archived_at: float | None = None


@dataclass(frozen=True, slots=True)
class EnvironmentKey:
    """What is known of a worker's key, without the key."""

    id: str
    environment_id: str
    created_at: float
    name: str | None = None
    last_four: str = ""
    revoked_at: float | None = None


class Environments(Protocol):
    """All environments and the keys of their workers. Raises Error `environment_not_found`, `environment_archived`.

    Look-ups are in memory; a change is on disk and seen by every look-up when it returns.
    """

    async def create(
        self, name: str, *, description: str | None = None, metadata: Mapping[str, str] | None = None
    ) -> Environment:
        """A new environment."""
        ...

    def read(self, environment_id: str) -> Environment:
        """The environment, archived or not. A deleted one is not found."""
        ...

    def named(self, text: str) -> Environment:
        """The environment of that id, or the only one of that name that is not archived; `sbx_team_default` is read as
        the name `team-default`.
        """
        ...

    def every(self) -> Sequence[Environment]:
        """All, archived ones too, newest first."""
        ...

    async def update(self, environment_id: str, revise: Callable[[Environment], Environment]) -> Environment:
        """As `revise` makes it of what is there now. An archived one takes no change."""
        ...

    async def archive(self, environment_id: str) -> Environment:
        """No new sessions from now on. Again: the same answer."""
        ...

    async def delete(self, environment_id: str) -> None:
        """Forget it; its keys are revoked. Raises Error `environment_in_use` while it has a session that can go on."""
        ...

    async def create_key(self, environment_id: str, name: str | None = None) -> tuple[EnvironmentKey, str]:
        """A new worker's key and its text, which is shown this once."""
        ...

    def keys(self, environment_id: str) -> Sequence[EnvironmentKey]:
        """Its keys, revoked ones too, newest first."""
        ...

    async def revoke_key(self, environment_id: str, key_id: str) -> EnvironmentKey:
        """End a key now. Again: the same answer. Raises Error `key_not_found`."""
        ...
