"""Errors that help: a code for programs, a sentence for people, a hint for the next step; and the registry of codes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from arrowslit.outcome import Outcome

PARSE_ERROR = -32700  # JSON-RPC 2.0, section 5.1
INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
HEADER_MISMATCH = -32020  # MCP 2026-07-28, Streamable HTTP
UNSUPPORTED_VERSION = -32022  # the same


@dataclass(frozen=True, slots=True)
class Code:
    """One row of the registry: what a code says at every door.

    `outcome` is None where the request never became a call. `jsonrpc` is the code of the JSON-RPC error, `mcp` and `v1`
    are HTTP statuses at those doors, `exit` is the exit status of the command line.
    """

    outcome: Outcome | None
    jsonrpc: int
    mcp: int
    v1: int
    exit: int = 1
    retryable: bool = False


def _refused(jsonrpc: int, status: int, *, retryable: bool = False) -> Code:
    """A request that never became a call."""
    return Code(None, jsonrpc, status, status, retryable=retryable)


_DENIED, _NOT_DELIVERED = Outcome.DENIED, Outcome.NOT_DELIVERED

CODES: Mapping[str, Code] = MappingProxyType(
    {
        # calls that ended without an answer (tunnel.md, "What ends a call")
        "tool_not_allowed": Code(_DENIED, INVALID_PARAMS, 200, 404),
        "method_not_allowed": Code(_DENIED, METHOD_NOT_FOUND, 200, 403),
        "resource_not_allowed": Code(_DENIED, INVALID_PARAMS, 200, 404),
        "prompt_not_allowed": Code(_DENIED, INVALID_PARAMS, 200, 404),
        "denied_by_ceiling": Code(_DENIED, 5010, 200, 403),
        "tenant_required": Code(_DENIED, 5011, 200, 403),
        "definition_changed": Code(_DENIED, 5012, 200, 403),
        "definition_refused": Code(_DENIED, 5013, 200, 403),
        "ledger_unavailable": Code(_NOT_DELIVERED, 5001, 200, 503, retryable=True),
        "no_connector": Code(_NOT_DELIVERED, 5001, 200, 503, retryable=True),
        "not_started": Code(_NOT_DELIVERED, 5001, 200, 503, retryable=True),
        "outcome_unknown": Code(Outcome.OUTCOME_UNKNOWN, 5002, 200, 504, exit=3),
        "timeout": Code(Outcome.TIMEOUT, 5003, 200, 504, retryable=True),
        "result_too_large": Code(Outcome.RESULT, 5004, 200, 502),
        "redirect_refused": Code(Outcome.RESULT, 5005, 200, 502),
        "list_unreadable": Code(Outcome.RESULT, 5005, 200, 502),
        "answer_unreadable": Code(Outcome.RESULT, 5005, 200, 502),
        # messages that could be read in more than one way, or in none
        "parse_error": _refused(PARSE_ERROR, 400),
        "encoding_invalid": _refused(PARSE_ERROR, 400),
        "duplicate_key": _refused(PARSE_ERROR, 400),
        "number_out_of_range": _refused(PARSE_ERROR, 400),
        "depth_exceeded": _refused(PARSE_ERROR, 400),
        "string_too_long": _refused(PARSE_ERROR, 400),
        "batch_not_supported": _refused(INVALID_REQUEST, 400),
        "unknown_member": _refused(INVALID_REQUEST, 400),
        "invalid_request": _refused(INVALID_REQUEST, 400),
        "id_invalid": _refused(INVALID_REQUEST, 400),
        "id_required": _refused(INVALID_REQUEST, 400),
        "unexpected_response": _refused(INVALID_REQUEST, 400),
        "arguments_invalid": _refused(INVALID_PARAMS, 400),
        "deadline_invalid": _refused(INVALID_PARAMS, 400),
        "header_mismatch": _refused(HEADER_MISMATCH, 400),
        "unsupported_protocol_version": _refused(UNSUPPORTED_VERSION, 400),
        # HTTP
        "bad_http": _refused(INVALID_REQUEST, 400),
        "header_ambiguous": _refused(INVALID_REQUEST, 400),
        "host_not_allowed": _refused(INVALID_REQUEST, 421),
        "origin_not_allowed": _refused(INVALID_REQUEST, 403),
        "media_type_unsupported": _refused(INVALID_REQUEST, 415),
        "encoding_not_supported": _refused(INVALID_REQUEST, 415),
        "not_acceptable": _refused(INVALID_REQUEST, 406),
        "payload_too_large": _refused(INVALID_REQUEST, 413),
        "header_too_large": _refused(INVALID_REQUEST, 431),
        "request_timeout": _refused(INVALID_REQUEST, 408, retryable=True),
        "method_not_supported": _refused(INVALID_REQUEST, 405),
        "not_found": _refused(INVALID_REQUEST, 404),
        "internal_error": Code(None, -32603, 500, 500),
        # who is calling
        "unauthenticated": _refused(INVALID_REQUEST, 401),
        "credential_in_url": _refused(INVALID_REQUEST, 400),
        "forbidden": _refused(INVALID_REQUEST, 403),
        "rate_limited": _refused(INVALID_REQUEST, 429, retryable=True),
        "idp_unavailable": _refused(INVALID_REQUEST, 503, retryable=True),
        # things that are named
        "agent_not_found": _refused(INVALID_REQUEST, 404),
        "server_not_found": _refused(INVALID_REQUEST, 404),
        "server_ambiguous": _refused(INVALID_REQUEST, 400),
        "agent_ambiguous": _refused(INVALID_REQUEST, 400),
        "session_not_found": _refused(INVALID_REQUEST, 404),
        "tunnel_not_found": _refused(INVALID_REQUEST, 404),
        "key_not_found": _refused(INVALID_REQUEST, 404),
        "environment_not_found": _refused(INVALID_REQUEST, 404),
        "work_not_found": _refused(INVALID_REQUEST, 404),
        "call_not_found": _refused(INVALID_REQUEST, 404),
        "certificate_not_found": _refused(INVALID_REQUEST, 404),
        "file_not_found": _refused(INVALID_REQUEST, 404),
        "definition_not_found": _refused(INVALID_REQUEST, 404),
        "name_taken": _refused(INVALID_REQUEST, 409),
        "version_conflict": _refused(INVALID_REQUEST, 409),
        "cursor_invalid": _refused(INVALID_REQUEST, 400),
        "environment_archived": _refused(INVALID_REQUEST, 400),
        "environment_in_use": _refused(INVALID_REQUEST, 400),
        "invalid_config_type_change": _refused(INVALID_REQUEST, 400),
        "heartbeat_precondition_failed": _refused(INVALID_REQUEST, 412),
        "session_running": _refused(INVALID_REQUEST, 400),
        "session_terminated": _refused(INVALID_REQUEST, 400),
        "tool_use_not_found": _refused(INVALID_REQUEST, 400),
        "quota_exceeded": _refused(INVALID_REQUEST, 400),
        "records_broken": _refused(INVALID_REQUEST, 400),
        "archived": _refused(INVALID_REQUEST, 400),
        "validation_error": _refused(INVALID_REQUEST, 400),
        "unknown_field": _refused(INVALID_REQUEST, 400),
        "not_supported": _refused(INVALID_REQUEST, 400),
        "wildcard_not_allowed": _refused(INVALID_REQUEST, 400),
        "url_not_tunnelled": _refused(INVALID_REQUEST, 400),
        "not_granted": _refused(INVALID_REQUEST, 400),
        # a connector at the relay's door; WebSocket close codes are in link/pipe.py
        "connector_unauthenticated": _refused(INVALID_REQUEST, 401),
        "key_mismatch": _refused(INVALID_REQUEST, 403),
        "proof_invalid": _refused(INVALID_REQUEST, 403),
        "certificate_mismatch": _refused(INVALID_REQUEST, 403),
        "registration_refused": _refused(INVALID_REQUEST, 403),
        "version_unsupported": _refused(INVALID_REQUEST, 426),
        "handshake_timeout": _refused(INVALID_REQUEST, 408, retryable=True),
        "protocol_error": _refused(INVALID_REQUEST, 400),
        # on the machine where the command runs
        "usage": Code(None, INVALID_REQUEST, 400, 400, exit=2),
        "relay_unreachable": _refused(INVALID_REQUEST, 503, retryable=True),
        "relay_not_trusted": _refused(INVALID_REQUEST, 403),
        "insecure_listen": _refused(INVALID_REQUEST, 400),
        "insecure_relay": _refused(INVALID_REQUEST, 400),
        "insecure_model": _refused(INVALID_REQUEST, 400),
        "listen_failed": _refused(INVALID_REQUEST, 503),
        "state_unusable": _refused(INVALID_REQUEST, 500),
        "certificate_unusable": _refused(INVALID_REQUEST, 500),
        "ceiling_invalid": _refused(INVALID_REQUEST, 400),
        "oidc_invalid": _refused(INVALID_REQUEST, 400),
        "config_invalid": _refused(INVALID_REQUEST, 400),
        "target_invalid": _refused(INVALID_REQUEST, 400),
        "target_failed": _refused(INVALID_REQUEST, 502),
        "sandbox_unavailable": Code(None, INVALID_REQUEST, 503, 503, exit=125),
        "sandbox_ended": _refused(INVALID_REQUEST, 503, retryable=True),
        "sandbox_egress_denied": _refused(INVALID_REQUEST, 403),
        "egress_invalid": _refused(INVALID_REQUEST, 400),
        "ledger_broken": _refused(INVALID_REQUEST, 500),
        "postgres_failed": _refused(INVALID_REQUEST, 500),
        "demo_failed": _refused(INVALID_REQUEST, 500),
    }
)


HINTS: Mapping[str, str] = MappingProxyType(
    {
        "parse_error": "send one JSON object, as RFC 8259 has it",
        "encoding_invalid": "send UTF-8, without a byte order mark, NUL or half of a surrogate pair",
        "duplicate_key": "name each key of an object once, however it is spelled",
        "number_out_of_range": "send integers of 64 bits and finite numbers; write longer ones as strings",
        "depth_exceeded": "nest objects and arrays at most 32 deep",
        "string_too_long": "a string has at most 1 MiB; hand large data over in another way",
        "batch_not_supported": "send each message in a request of its own",
        "unknown_member": "an envelope has jsonrpc, id, method and params; what is yours belongs into params._meta",
        "invalid_request": "send a JSON-RPC 2.0 request, notification or response",
        "id_invalid": "use a short string, or an integer within 2^53, as the id",
        "id_required": "only notifications have no id: give this request one",
        "unexpected_response": "answer what the server asked in a session, with that session's id",
        "arguments_invalid": "tools/call has a name, which is a string, and arguments, which are an object",
        "deadline_invalid": "a deadline is a whole number of milliseconds, from 1 to 3600000",
        "header_mismatch": "let the Mcp headers repeat what the body says",
        "unsupported_protocol_version": "send the version that initialize agreed on, such as 2025-11-25, or 2026-07-28",
        "header_ambiguous": "send each header once",
        "header_too_large": "send fewer or shorter headers",
        "payload_too_large": "send less in one request, or hand large data over in another way",
        "method_not_supported": "see the header Allow for the methods of this path",
        "validation_error": "see the message for what is expected there",
        "not_found": "see docs/architecture.md for the paths of a relay",
        "answer_unreadable": "let the server and any proxy before it send JSON or events in UTF-8, compression off",
        "result_too_large": "ask the server for less at once: a page, or fewer columns",
    }
)
"""The next step for codes whose message differs from case to case and whose hint does not."""


class Error(Exception):
    """An expected failure, said in full.

    `code` is a key of CODES (anything else is a defect and raises KeyError at once), `message` one sentence for a
    person, `hint` the next step (without one, that of HINTS). `details` are further facts for programs, safe to show to
    the caller.
    """

    def __init__(self, code: str, message: str, *, hint: str | None = None, **details: object) -> None:
        super().__init__(message)
        self.code = code
        self.row = CODES[code]
        self.message = message
        self.hint = hint or HINTS.get(code)
        self.details = details

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"
