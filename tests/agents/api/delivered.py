"""A session whose work a sandbox worker was handed, and the credentials of all who have to do with it."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, replace

from starlette.applications import Starlette

from arrowslit.agent import Builtin
from arrowslit.principal import Scope, Tenant
from arrowslit.store.open import Store
from tests.agents.kit import Caller
from tests.store.kit import definition


@dataclass(frozen=True, slots=True)
class Delivered:
    """`key` is the tenant's, `worker` the environment key, `token` the sessions token of the first delivery."""

    app: Starlette
    store: Store
    environment: str
    worker_id: str
    session: str
    work: str
    key_id: str
    key: str
    worker: str
    token: str

    @property
    def files(self) -> str:
        return f"/v1/sessions/{self.session}/files"

    @property
    def records(self) -> str:
        return f"/v1/work/{self.work}/records"

    async def again(self) -> str:
        """Hand the same item to another worker: its token. The one before is late from now on."""
        return await _poll(self.app, self.worker, self.environment)


async def deliver(app: Starlette, store: Store, tenant: str = "acme") -> Delivered:
    """A session of that tenant's, and a worker that polled for it."""
    environment = await store.environments.create(f"of-{tenant}")
    worker_key, worker = await store.environments.create_key(environment.id)
    agent = await store.agents.create(replace(definition(f"of-{tenant}"), builtin=Builtin()))
    made, key = await store.keys.create(scopes={Scope.INVOKE}, agents={agent.id}, tenant=Tenant(tenant))
    async with Caller(app, key) as invoker:
        said = {"type": "user.message", "content": [{"type": "text", "text": "Go."}]}
        asked = {"agent": agent.id, "environment_id": environment.id, "initial_events": [said]}
        session = (await invoker.ok("POST", "/v1/sessions", asked))["id"]
    work = await store.work.of_session(session)
    assert work is not None
    token = await _poll(app, worker, environment.id)
    return Delivered(app, store, environment.id, worker_key.id, session, work.id, made.id, key, worker, token)


async def _poll(app: Starlette, worker: str, environment: str) -> str:
    async with Caller(app, worker) as polling:
        item = await polling.ok("GET", f"/v1/environments/{environment}/work/poll?reclaim_older_than_ms=0")
    content = json.loads(base64.urlsafe_b64decode(item["secret"] + "=="))
    return str(content["sessions_token"])
