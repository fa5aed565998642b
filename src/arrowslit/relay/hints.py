"""The next step for whoever sent a message that was refused: what `protocol/` knows as a code, said to a person."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

HINTS: Mapping[str, str] = MappingProxyType(
    {
        "parse_error": "send one JSON object, as RFC 8259 has it",
        "encoding_invalid": "send UTF-8, without a byte order mark, NUL or half of a surrogate pair",
        "duplicate_key": "name each key of an object once, however it is spelled",
        "number_out_of_range": "send integers of 64 bits and finite numbers; write longer ones as strings",
        "depth_exceeded": "nest objects and arrays at most 32 deep",
        "string_too_long": "a string has at most 1 MiB; hand large data over in another way",
        "payload_too_large": "the arguments of a call have at most 1 MiB; hand large data over in another way",
        "batch_not_supported": "send each message in a request of its own",
        "unknown_member": "an envelope has jsonrpc, id, method and params; what is yours belongs into params._meta",
        "invalid_request": "send a JSON-RPC 2.0 request, notification or response",
        "id_invalid": "use a short string, or an integer within 2^53, as the id",
        "id_required": "only notifications have no id: give this request one",
        "unexpected_response": "answer what the server asked in a session, with that session's id",
        "arguments_invalid": "tools/call has a name, which is a string, and arguments, which are an object",
        "deadline_invalid": "a deadline is a whole number of milliseconds, from 1 to 3600000",
        "header_mismatch": "let the Mcp headers repeat what the body says",
        "header_ambiguous": "send each header once",
    }
)
"""Every code that `protocol.jsonrpc.Refused` carries for a message from outside."""
