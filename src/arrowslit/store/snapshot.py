"""What a call needs to know, in memory: the ports Grants and Tunnels, and the look-ups of Enrolment, without waiting.

It knows no database: whoever changes something writes it first, and puts the new value here afterwards.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from arrowslit.agent import Agent
from arrowslit.clock import Clock
from arrowslit.credential import CredentialKind, Hasher, kind_of
from arrowslit.errors import Error
from arrowslit.principal import ApiKey, Grant, Principal, Scope
from arrowslit.store.token import StoredTunnel
from arrowslit.tunnel import Registration, Tunnel

MOST_SHOWN = 4096  # keys whose text is remembered; after as many everything is looked up once more


class Snapshot:
    """All tunnels, agents, keys and registrations, found by id and by what callers present. `clock` judges expiry."""

    def __init__(self, clock: Clock, hasher: Hasher) -> None:
        self.tunnels: dict[str, StoredTunnel] = {}
        self.agents: dict[str, Agent] = {}
        self.keys: dict[str, ApiKey] = {}
        self.registrations: dict[str, Registration] = {}
        self._clock = clock
        self._hasher = hasher
        self._tunnel_of: dict[str, str] = {}  # hash of a tunnel token -> tunnel id
        self._key_of: dict[str, str] = {}  # hash of an API key -> its id
        self._principals: dict[str, Principal] = {}  # by the id of the key
        self._shown: dict[str, str] = {}  # right keys that were shown lately -> their ids, which are asked each time
        self._registration_of: dict[str, str] = {}
        self._agents_named: dict[str, frozenset[str]] = {}
        self._grants: dict[str, Mapping[str, Grant]] = {}

    # Grants

    def find(self, principal: Principal, agent: str, server: str) -> Grant:
        """See `Grants.find`. A name that stands for several of the principal's agents stands for none."""
        ids = {agent} if agent in self.agents else self._agents_named.get(agent, frozenset())
        usable = [each for each in ids if self.agents[each].archived_at is None and principal.may_invoke(each)]
        if len(usable) != 1:
            raise Error(
                "agent_not_found",
                "there is no such agent, or this key may not invoke it",
                hint="name it by its id, and look which agents the key names: arrowslit key list",
            )
        grants = self._grants[usable[0]]
        if server not in grants:
            raise Error(
                "server_not_found",
                "the agent has no server of that name",
                hint=f"it has: {', '.join(sorted(grants)) or 'none'}",
            )
        return grants[server]

    def at(self, principal: Principal, name: str) -> Grant:
        """See `Hosts.at`."""
        granted = [grant for agent in self._usable(principal) for grant in self._grants[agent].values()]
        found = [each for each in granted if each.server.name.lower() == name]
        found = found or [each for each in granted if each.server.host == name]
        if len(found) == 1:
            return found[0]
        if not found:
            missing = "there is no server of that name, or this key may not use it"
            raise Error("server_not_found", missing, hint="look at the agents that the key names, and their servers")
        if len({each.agent_id for each in found}) > 1:
            several = "this key may invoke several agents that have this server"
            raise Error("agent_ambiguous", several, hint="use the path /mcp/AGENT/SERVER, or a key for one agent")
        several = "the agent has several servers at this name"
        raise Error("server_ambiguous", several, hint="use the path /mcp/AGENT/SERVER, or the name of the server")

    def _usable(self, principal: Principal) -> Iterable[str]:
        """The ids of the agents that a principal may invoke now."""
        named = self.agents if principal.may(Scope.ADMIN) else principal.agents & self.agents.keys()
        return [each for each in named if self.agents[each].archived_at is None and principal.may_invoke(each)]

    def principal(self, credential: str) -> Principal | None:
        """See `Grants.principal`."""
        key_id = self._shown.get(credential) or self._find_key(credential)
        return self._principals[key_id] if key_id is not None and self.live(key_id) else None

    def _find_key(self, credential: str) -> str | None:
        """The id of the key, remembered for the next time that it is shown."""
        if kind_of(credential) is not CredentialKind.API_KEY:
            return None
        key_id = self._key_of.get(self._hasher(credential))
        if key_id is not None:
            if len(self._shown) >= MOST_SHOWN:
                self._shown.clear()
            self._shown[credential] = key_id
        return key_id

    def live(self, key_id: str) -> bool:
        """Whether the API key of that id opens a door now."""
        key = self.keys.get(key_id)
        return key is not None and key.live(self._clock.now())

    # Tunnels, Enrolment

    def get(self, tunnel_id: str) -> Tunnel | None:
        """See `Tunnels.get`."""
        stored = self.tunnels.get(tunnel_id)
        return stored.tunnel if stored is not None and stored.tunnel.archived_at is None else None

    def tunnel_by_token(self, token: str) -> Tunnel | None:
        """See `Enrolment.tunnel_by_token`."""
        if kind_of(token) is not CredentialKind.TUNNEL_TOKEN:
            return None
        presented = self._hasher(token)
        stored = self.tunnels.get(self._tunnel_of.get(presented, ""))
        if stored is None or stored.tunnel.archived_at is not None:
            return None
        generation = stored.tokens.valid(presented, self._clock.now())
        return None if generation is None else replace(stored.tunnel, generation=generation)

    def registration(self, token: str) -> Registration | None:
        """See `Enrolment.registration`."""
        if kind_of(token) is not CredentialKind.REGISTRATION_TOKEN:
            return None
        found = self.registrations.get(self._registration_of.get(self._hasher(token), ""))
        return found if found is not None and found.live(self._clock.now()) else None

    # after a write

    def put_tunnel(self, stored: StoredTunnel) -> None:
        """The tunnel as it is now."""
        before = self.tunnels.get(stored.tunnel.id)
        if before is not None:
            self._tunnel_of.pop(before.tokens.hash, None)
            self._tunnel_of.pop(before.tokens.previous_hash or "", None)
        self.tunnels[stored.tunnel.id] = stored
        self._tunnel_of[stored.tokens.hash] = stored.tunnel.id
        if stored.tokens.previous_hash is not None:
            self._tunnel_of[stored.tokens.previous_hash] = stored.tunnel.id

    def put_agent(self, agent: Agent) -> None:
        """The current version of the agent."""
        before = self.agents.get(agent.id)
        if before is not None:
            self._agents_named[before.definition.name] -= {agent.id}
        self.agents[agent.id] = agent
        named = self._agents_named.get(agent.definition.name, frozenset())
        self._agents_named[agent.definition.name] = named | {agent.id}
        self._grants[agent.id] = agent.grants()

    def put_key(self, key: ApiKey, key_hash: str | None = None) -> None:
        """The API key as it is now; a new one comes with its hash."""
        self.keys[key.id] = key
        self._principals[key.id] = Principal(key.id, key.tenant, key.scopes, key.agents, key.expires_at)
        if key_hash is not None:
            self._key_of[key_hash] = key.id

    def forget_key(self, key_id: str, key_hash: str) -> None:
        """The API key is not kept any more."""
        self.keys.pop(key_id, None)
        self._principals.pop(key_id, None)
        self._key_of.pop(key_hash, None)
        self._shown.clear()

    def put_registration(self, registration: Registration, token_hash: str | None = None) -> None:
        """The registration as it is now; a new one comes with its token's hash."""
        self.registrations[registration.id] = registration
        if token_hash is not None:
            self._registration_of[token_hash] = registration.id

    def agent_id(self, text: str) -> str | None:
        """The id of the agent of that id or name, None where that names none that is not archived, or several."""
        if text in self.agents:
            return text
        found = self.agents_named(text)
        return found[0].id if len(found) == 1 else None

    def agents_named(self, name: str) -> list[Agent]:
        """The agents of that name that are not archived."""
        found = (self.agents[each] for each in self._agents_named.get(name, frozenset()))
        return [agent for agent in found if agent.archived_at is None]
