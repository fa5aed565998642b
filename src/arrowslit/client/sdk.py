"""Client and AsyncClient: the official SDK at a relay, which also takes the short form of an agent, and a session
without an environment.

Everything else is the SDK's own. Where nothing is said the relay and the key are found as the command line finds them.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import httpx2
from anthropic import Anthropic, AsyncAnthropic, omit
from anthropic.resources.beta import AsyncBeta, Beta
from anthropic.resources.beta.agents import Agents, AsyncAgents
from anthropic.resources.beta.sessions import AsyncSessions, Sessions
from anthropic.types.beta import BetaManagedAgentsAgent, BetaManagedAgentsSession

from arrowslit.client.reach import reach

OURS = frozenset(
    {"instructions", "sandbox", "on_unknown", "cannot_confirm", "default_environment", "limits"}
)  # fields of an agent that the SDK does not know


class Client(Anthropic):
    """`anthropic.Anthropic` at a relay. Raises Error if neither the arguments nor the environment name one."""

    def __init__(self, *, base_url: str | httpx2.URL | None = None, api_key: str | None = None, **options: Any) -> None:
        base_url, api_key = _found(base_url, api_key)
        super().__init__(base_url=base_url, api_key=api_key, **options)

    @cached_property
    def beta(self) -> _Beta:
        """Agents, environments, sessions, tunnels."""
        return _Beta(self)


class AsyncClient(AsyncAnthropic):
    """`anthropic.AsyncAnthropic` at a relay. Raises Error if neither the arguments nor the environment name one."""

    def __init__(self, *, base_url: str | httpx2.URL | None = None, api_key: str | None = None, **options: Any) -> None:
        base_url, api_key = _found(base_url, api_key)
        super().__init__(base_url=base_url, api_key=api_key, **options)

    @cached_property
    def beta(self) -> _AsyncBeta:
        """Agents, environments, sessions, tunnels."""
        return _AsyncBeta(self)


class _Beta(Beta):
    @cached_property
    def agents(self) -> _Agents:
        return _Agents(self._client)

    @cached_property
    def sessions(self) -> _Sessions:
        return _Sessions(self._client)


class _AsyncBeta(AsyncBeta):
    @cached_property
    def agents(self) -> _AsyncAgents:
        return _AsyncAgents(self._client)

    @cached_property
    def sessions(self) -> _AsyncSessions:
        return _AsyncSessions(self._client)


class _Agents(Agents):
    def create(self, **fields: Any) -> BetaManagedAgentsAgent:
        """As officially, or in the short form: `instructions`, servers of the type `tunnel`, `sandbox`."""
        return super().create(**_official(fields))

    def update(self, agent_id: str, **fields: Any) -> BetaManagedAgentsAgent:
        """As officially, with the same further fields as `create`."""
        return super().update(agent_id, **_official(fields))


class _AsyncAgents(AsyncAgents):
    async def create(self, **fields: Any) -> BetaManagedAgentsAgent:
        """As officially, or in the short form: `instructions`, servers of the type `tunnel`, `sandbox`."""
        return await super().create(**_official(fields))

    async def update(self, agent_id: str, **fields: Any) -> BetaManagedAgentsAgent:
        """As officially, with the same further fields as `create`."""
        return await super().update(agent_id, **_official(fields))


class _Sessions(Sessions):
    def create(self, *, agent: Any, environment_id: Any = omit, **fields: Any) -> BetaManagedAgentsSession:
        """As officially; where no environment is named the relay takes the agent's default one."""
        return super().create(agent=agent, environment_id=environment_id, **fields)


class _AsyncSessions(AsyncSessions):
    async def create(self, *, agent: Any, environment_id: Any = omit, **fields: Any) -> BetaManagedAgentsSession:
        """As officially; where no environment is named the relay takes the agent's default one."""
        return await super().create(agent=agent, environment_id=environment_id, **fields)


def _found(base_url: str | httpx2.URL | None, api_key: str | None) -> tuple[str | httpx2.URL, str]:
    if base_url is not None and api_key is not None:
        return base_url, api_key
    found = reach()  # a key from the environment goes to the relay that the environment names, and to no other
    if base_url is not None and httpx2.URL(str(base_url)).copy_with(raw_path=b"/") != httpx2.URL(found.relay.origin):
        raise ValueError("base_url names another relay than the environment does: give api_key too")
    return base_url or found.relay.origin, api_key or found.key


def _official(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The same request with our fields where the SDK lets further ones pass."""
    ours = {name: value for name, value in fields.items() if name in OURS}
    known = {name: value for name, value in fields.items() if name not in OURS}
    return {**known, "extra_body": {**ours, **(known.get("extra_body") or {})}} if ours else known
