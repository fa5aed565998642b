"""PURE: what a server says that does no work, as cheaply as Python can.

A call is answered without reading its JSON: its id and the `size` of its result are looked up in the bytes. Everything
else, which comes once, is read properly.
"""

from __future__ import annotations

import json
import re
from functools import lru_cache
from typing import Any

CALL = b'"tools/call"'
_ID = re.compile(rb'"id"\s*:\s*(\d+|"[^"\\]*")')
_SIZE = re.compile(rb'"size"\s*:\s*(\d+)')


def answer(message: bytes) -> tuple[bytes, ...]:
    """The answer in pieces, of which long ones are shared by all answers of that size; empty to a notification."""
    if CALL in message and (found := _ID.search(message)):
        size = _SIZE.search(message)
        return (b'{"jsonrpc":"2.0","id":%b,' % found[1], _result(int(size[1]) if size else 0))
    asked = json.loads(message)
    if "id" not in asked:
        return ()
    return (json.dumps({"jsonrpc": "2.0", "id": asked["id"], **_said(asked)}).encode(),)


@lru_cache(maxsize=8)
def _result(size: int) -> bytes:
    text = b"x" * size or b"done"
    return b'"result":{"content":[{"type":"text","text":"%b"}]}}' % text


def _said(asked: dict[str, Any]) -> dict[str, Any]:
    match asked["method"]:
        case "initialize":
            version = asked["params"]["protocolVersion"]
            server = {"name": "benchmarks", "version": "1"}
            return {"result": {"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": server}}
        case "ping":
            return {"result": {}}
        case "tools/list":
            schema = {"type": "object", "properties": {"size": {"type": "integer"}}}
            return {"result": {"tools": [{"name": "work", "description": "Nothing.", "inputSchema": schema}]}}
        case _:
            return {"error": {"code": -32601, "message": "Method not found"}}
