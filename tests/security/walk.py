"""Every method that the API says it serves, with ids filled in: of a caller, of somebody else, of nobody."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.harness import until
from tests.official.certificates import authority
from tests.security.world import World, of_kind

MESSAGE = {"type": "user.message", "content": [{"type": "text", "text": "hello"}]}
ZEROS = "0" * 64
RECORD = {"seq": 1, "prev": ZEROS, "ts": "2026-11-22T10:00:00.000Z", "kind": "exec_start", "hash": ZEROS}
BYTES = "application/octet-stream"
BODIES: Mapping[str, object] = {  # what is otherwise right, where an empty object is not
    "/v1/work/{work_id}/records": {"records": [RECORD]},
    "/v1/sessions/{session_id}/events": {"events": [MESSAGE]},
    "/v1/tunnels/{tunnel_id}/certificates": {"ca_certificate_pem": authority()},
}


@dataclass(frozen=True, slots=True)
class Way:
    """One method of one path. `open_to` are scopes and kinds of workers' tokens, `query` names of parameters."""

    method: str
    path: str
    open_to: Sequence[str]
    query: Sequence[str]
    kind: str = "application/json"
    fields: Sequence[str] = ()

    def __str__(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def names(self) -> list[str]:
        """The names of the ids in its path."""
        return re.findall(r"{(\w+)}", self.path)

    @property
    def body(self) -> object:
        """A body that is right; None for a method that has none."""
        return BODIES.get(self.path, {}) if self.method == "POST" else None

    def filled(self, ids: Mapping[str, str]) -> str:
        """The path with these ids, and with what else has to be there."""
        path = re.sub(r"{(\w+)}", lambda found: ids[self.known_as(found[1])], self.path)
        return f"{path}?filename=a.txt" if "filename" in self.query else path

    def known_as(self, name: str) -> str:
        """Under which name the id of a parameter is kept."""
        return "worker_key_id" if name == "key_id" and "environments" in self.path else name


def ways(here: World) -> Iterator[Way]:
    """All of them."""
    document = here.ok("GET", "/v1/openapi.json")
    for path, methods in document["paths"].items():
        for method, said in methods.items():
            query = [each["name"] for each in said["parameters"] if each["in"] == "query"]
            taken = said.get("requestBody", {}).get("content", {"application/json": {}})
            (kind,) = taken
            shape = taken[kind].get("schema", {}).get("$ref", "").rpartition("/")[2]
            fields = list(document["components"]["schemas"][shape]["properties"]) if shape else []
            yield Way(method.upper(), path, said["x-open-to"], query, kind, fields)


@dataclass(frozen=True, slots=True)
class Things:
    """One of everything that a tenant can have, by the names of parameters, and who may speak of it."""

    ids: Mapping[str, str]
    keys: Mapping[str, str]
    """By what `open_to` says; the first that fits is to be used."""
    delivered: str
    """What the worker's token came in."""

    def key_for(self, way: Way) -> str:
        """A credential that may come in there."""
        return next(self.keys[each] for each in self.keys if each in way.open_to)


def furnish(here: World, tenant: str) -> Things:
    """Make one of everything for the tenant. Its session holds a call of the sandbox, which a worker was handed."""
    key = here.keys[tenant]
    environment = here.ok("POST", "/v1/environments", {"name": f"of-{tenant}", "config": {"type": "self_hosted"}})["id"]
    worker = here.ok("POST", f"/v1/environments/{environment}/keys", {"name": tenant})
    tunnel = here.ok("POST", "/v1/tunnels", {"display_name": f"of {tenant}"})["id"]
    pem = here.ok("POST", f"/v1/tunnels/{tunnel}/certificates", {"ca_certificate_pem": authority()})["id"]
    minted = here.mint(tenant)["id"]
    demand = 'call look with {"canary": 1} call bash with {"command": "true"}'
    session = here.session(tenant, demand, environment_id=environment)

    def called() -> list[dict[str, Any]]:
        return of_kind("agent.mcp_tool_result", here.events(tenant, session))

    (result,) = until(called, f"the agent of {tenant} has called\n{here.relay.log}")
    polled = f"/v1/environments/{environment}/work/poll"
    work = until(lambda: here.ok("GET", polled, key=worker["environment_key"]), "the sandbox call waits for a worker")
    token = json.loads(base64.urlsafe_b64decode(work["secret"] + "=="))["sessions_token"]
    files = f"/v1/sessions/{session}/files?filename={tenant}.txt"
    file = here.ask("POST", files, key=key, content=tenant.encode(), kind=BYTES).json()["id"]
    ids = {
        "file_id": file,
        "tunnel_id": tunnel,
        "certificate_id": pem,
        "environment_id": environment,
        "worker_key_id": worker["id"],
        "agent_id": here.agents[tenant],
        "key_id": minted,
        "session_id": session,
        "work_id": work["id"],
        "call_id": result["call_id"],
    }
    keys = {"invoke": key, "mint": key, "admin": here.relay.admin_key, "environment key": worker["environment_key"]}
    return Things(ids, {**keys, "sessions token": token}, work["secret"])


def nobodys(text: str) -> str:
    """An id of the same form and length that nothing has."""
    prefix, _, rest = text.partition("_")
    return f"{prefix}_{'0' * len(rest)}"


@dataclass(frozen=True, slots=True)
class Said:
    """An answer but for what differs each time."""

    status: int
    headers: list[tuple[str, str]]
    body: str
    code: str | None = field(compare=False)


def said(here: World, way: Way, path: str, key: str, **more: Any) -> Said:
    """What is answered there."""
    response = here.ask(way.method, path, way.body, key=key, kind=way.kind, **more)
    request_id = response.headers.get("request-id", "-")
    headers = [(name, value) for name, value in response.headers.items() if name not in ("request-id", "date")]
    code = None if response.is_success else response.json()["error"]["details"]["error_code"]
    return Said(response.status_code, sorted(headers), response.text.replace(request_id, "req"), code)
