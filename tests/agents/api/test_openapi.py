"""The document is true: what it says of shapes and statuses is what a relay answers to requests made up from it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx2
import pytest
import schemathesis
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from starlette.applications import Starlette
from starlette.routing import Route

from arrowslit.agents.api.resource import Resource
from tests.agents.kit import Caller
from tests.harness import Relay
from tests.security.cases import case

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
EXAMPLES = 4  # of each operation, in either mode; forty find nothing more, and this is one of many tests
NEVER_ANSWERED = {("/v1/sessions/{session_id}/resources", "POST")}  # refused by name, like all that has no methods


def references(value: object) -> Iterator[str]:
    """Every schema that is referred to."""
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for each in value.values():
            yield from references(each)
    elif isinstance(value, list):
        for each in value:
            yield from references(each)


def served(app: Starlette) -> Iterator[tuple[str, str]]:
    """Every path and method, but for the paths that are refused by name: only those have every method."""
    for route in app.routes:
        if isinstance(route, Route) and isinstance(route.app, Resource) and "PATCH" not in route.app.methods:
            yield from ((route.path, name) for name in route.app.methods if "{rest:path}" not in route.path)


async def test_the_document_tells_of_every_method_and_defines_what_it_refers_to(app: Starlette, admin: Caller) -> None:
    document = await admin.ok("GET", "/v1/openapi.json")

    told = {(path, name.upper()) for path, methods in document["paths"].items() for name in methods}
    assert told == set(served(app)) - NEVER_ANSWERED
    schemas = document["components"]["schemas"]
    assert {name.rpartition("/")[2] for name in references(document)} <= schemas.keys()
    assert document["info"]["version"]


async def test_the_document_says_whom_a_method_is_for_and_how_it_refuses(admin: Caller) -> None:
    agent = (await admin.ok("GET", "/v1/openapi.json"))["paths"]["/v1/agents/{agent_id}"]

    assert agent["get"]["x-open-to"] == ["invoke"]
    assert agent["post"]["x-open-to"] == ["admin"]
    assert "agent_not_found" in agent["get"]["responses"]["404"]["description"]
    assert "version_conflict" in agent["post"]["responses"]["409"]["description"]
    assert agent["get"]["parameters"][1] == {
        "name": "version",
        "in": "query",
        "required": False,
        "schema": {"type": "integer", "minimum": 1, "maximum": 999_999_999},
    }


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Relay]:
    """A relay that only this file asks."""
    with Relay(tmp_path_factory.mktemp("openapi")) as relay:
        yield relay


@dataclass(frozen=True, slots=True)
class Furniture:
    """Something for every parameter of a path, by its name, and a key of each kind."""

    parameters: Mapping[str, str]
    admin: str
    worker: str

    def headers(self, operation: Any) -> dict[str, str]:
        """The credential of somebody whom an operation is for."""
        for_workers = {"environment key", "sessions token"}
        alone = set(operation.definition.raw["x-open-to"]) <= for_workers
        return {"authorization": f"Bearer {self.worker if alone else self.admin}"}


def furnish(relay: Relay) -> Furniture:
    """A relay with one of everything."""
    with relay.client() as client:
        tunnel = client.post("tunnels", body={"name": "fuzzed"})["id"]
        environment = client.post("environments", body={"name": "fuzzed", "config": {"type": "self_hosted"}})["id"]
        agent = client.post("agents", body={"name": "fuzzed", "sandbox": {"type": "self_hosted", "id": environment}})
        key = client.post("keys", body={"agents": [agent["id"]], "tenant": "acme"})["id"]
        worker = client.post("environments", environment, "keys")["environment_key"]
        work = client.post("environments", environment, "healthcheck")["id"]
        session = client.post("sessions", body={"agent": agent["id"], "environment_id": environment})["id"]
    files = f"{relay.url}/v1/sessions/{session}/files?filename=data/stock.csv"
    file = httpx2.post(files, content=b"sku,quantity", headers={"x-api-key": relay.admin_key}).json()["id"]
    parameters = {
        "tunnel_id": tunnel,
        "environment_id": environment,
        "agent_id": agent["id"],
        "key_id": key,
        "work_id": work,
        "session_id": session,
        "file_id": file,
    }
    return Furniture(parameters, relay.admin_key, worker)


def operations(relay: Relay) -> list[Any]:
    """All that the document of a relay tells of but event streams, which do not end."""
    headers = {"authorization": f"Bearer {relay.admin_key}"}
    schema = schemathesis.openapi.from_url(f"{relay.url}/v1/openapi.json", headers=headers)
    found: list[Any] = [result.ok() for result in schema.get_all_operations() if isinstance(result, Ok)]
    return [each for each in found if "text/event-stream" not in str(each.definition.raw["responses"]["200"])]


@case("PROTO-26", "modes", {"as it should be and otherwise": (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)})
def test_a_relay_answers_as_the_document_says(relay: Relay, modes: Sequence[GenerationMode]) -> None:
    furniture = furnish(relay)
    known = furniture.parameters
    tried = set()

    def answers_as_told(case: Case[Any], real: bool) -> None:
        if real:
            case.path_parameters |= {name: known[name] for name in case.path_parameters if name in known}
        case.query.pop("block_ms", None)  # nobody waits here for work that does not come
        response = case.call(headers=furniture.headers(case.operation))
        case.validate_response(response, checks=CHECKS)
        tried.add((case.operation.label, response.status_code))

    for operation in operations(relay):
        for mode in modes:
            cases = operation.as_strategy(generation_mode=mode)
            rules = settings(
                max_examples=EXAMPLES,
                database=None,
                deadline=None,
                suppress_health_check=list(HealthCheck),
            )
            seed(3)(rules(given(case=cases, real=st.booleans())(answers_as_told)))()

    assert len({label for label, _ in tried}) == len(operations(relay))
    assert {200, 400, 404} <= {status for _, status in tried}
