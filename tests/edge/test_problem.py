from __future__ import annotations

import json

import pytest

from arrowslit.edge.problem import as_error, mcp_problem, v1_problem
from arrowslit.errors import CODES, Error


@pytest.mark.parametrize("code", sorted(CODES))
def test_every_code_is_said_at_both_doors_as_the_registry_says(code: str) -> None:
    row = CODES[code]
    error = Error(code, "a sentence", hint="a step")

    at_mcp, at_v1 = mcp_problem(error, 7, call_id="call_1"), v1_problem(error, "req_1")

    assert (at_mcp.status, at_v1.status) == (row.mcp, row.v1)
    assert json.loads(at_mcp.body) == {
        "jsonrpc": "2.0",
        "id": 7,
        "error": {
            "code": row.jsonrpc,
            "message": "a sentence",
            "data": {
                "code": code,
                "outcome": row.outcome,
                "call_id": "call_1",
                "retryable": row.retryable,
                "connector_last_seen": None,
                "hint": "a step",
            },
        },
    }
    envelope = json.loads(at_v1.body)
    assert envelope["type"] == "error"
    assert envelope["request_id"] == "req_1"
    assert envelope["error"]["message"] == "a sentence"
    assert envelope["error"]["details"]["error_code"] == code
    assert envelope["error"]["details"]["hint"] == "a step"
    for problem in (at_mcp, at_v1):
        assert dict(problem.headers)["content-type"] == "application/json"


@pytest.mark.parametrize(
    ("code", "type_"),
    [
        ("validation_error", "invalid_request_error"),
        ("unauthenticated", "authentication_error"),
        ("forbidden", "permission_error"),
        ("tunnel_not_found", "not_found_error"),
        ("name_taken", "conflict_error"),
        ("payload_too_large", "invalid_request_error"),
        ("rate_limited", "rate_limit_error"),
        ("internal_error", "api_error"),
        ("no_connector", "overloaded_error"),
    ],
)
def test_v1_errors_have_the_types_that_the_official_sdk_knows(code: str, type_: str) -> None:
    assert json.loads(v1_problem(Error(code, "no")).body)["error"]["type"] == type_


def test_who_was_not_let_in_is_told_how_to_come_in() -> None:
    for problem in (mcp_problem(Error("unauthenticated", "no")), v1_problem(Error("unauthenticated", "no"))):
        assert dict(problem.headers)["www-authenticate"] == "Bearer"


def test_who_came_too_often_is_told_when_to_come_again() -> None:
    error = Error("rate_limited", "no", retry_after=1.2)

    for problem in (mcp_problem(error), v1_problem(error)):
        assert dict(problem.headers)["retry-after"] == "2"


def test_an_outcome_is_said_in_the_head_as_well() -> None:
    unknown, refused = Error("outcome_unknown", "no"), Error("not_found", "no")

    assert dict(mcp_problem(unknown).headers)["arrowslit-outcome"] == "outcome_unknown"
    assert "arrowslit-outcome" not in dict(mcp_problem(refused).headers)
    assert json.loads(v1_problem(unknown).body)["error"]["details"]["outcome"] == "outcome_unknown"


def test_the_facts_of_an_error_reach_the_caller() -> None:
    error = Error("no_connector", "no", connector_last_seen="2026-11-22T10:00:00.000Z", jsonrpc_id="seven")

    said = json.loads(mcp_problem(error).body)

    assert said["id"] == "seven"
    assert said["error"]["data"]["connector_last_seen"] == "2026-11-22T10:00:00.000Z"
    assert json.loads(mcp_problem(Error("parse_error", "no")).body)["id"] is None


def test_a_conflict_is_not_to_be_sent_again() -> None:
    assert dict(v1_problem(Error("name_taken", "no")).headers)["x-should-retry"] == "false"


def test_a_defect_says_nothing_of_itself() -> None:
    error = as_error(ValueError("the password is swordfish"))

    for problem in (mcp_problem(error), v1_problem(error)):
        assert problem.status == 500
        assert b"swordfish" not in problem.body
    assert as_error(expected := Error("archived", "no")) is expected
