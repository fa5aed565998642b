"""Where fuzzing begins: for each target what it is for, and some of what it is not for."""

from __future__ import annotations

import json
from itertools import product

from arrowslit.protocol import frames, sse


def _message(method: str, params: object = None, **more: object) -> bytes:
    members = {"jsonrpc": "2.0", "id": 1, "method": method} | more
    return json.dumps(members if params is None else members | {"params": params}, ensure_ascii=False).encode()


ARGUMENTS: list[object] = [
    {},
    {"sku": "A-1"},
    {"sku": "A-1", "amount": 3, "price": 12.5, "gift": True, "note": None},
    {"numbers": [0, -1, 1.5, 1e300, -2.5e-8, 2**53, 2**63 - 1, -(2**63), 2**64 - 1]},
    {"text": 'quotes " and \\ and / and \u0000 and \u001f and \u2028 and é and 😀'},
    {"nested": [[[[{"a": {"b": {"c": [{}]}}}]]]], "": "", " ": " ", "__proto__": {"x": 1}, "constructor": 2},
    {"tenant": "acme", "name": "other", "method": "tools/list", "10": 1, "9": 2},
]
META: list[object] = [
    {"progressToken": 7},
    {"progressToken": "7", "io.modelcontextprotocol/x": {"a": [1]}, "tenant": "b"},
]

CALLS = [
    _message("tools/call", {"name": name, "arguments": arguments}, id=ident)
    for (arguments, name), ident in zip(
        product(ARGUMENTS, ("check_stock", "é😀")), range(10**6, 10**9, 7919), strict=False
    )
]
JSON = [
    *CALLS,
    *(_message("tools/call", {"name": "check_stock", "arguments": {}, "_meta": meta}) for meta in META),
    _message("ping", id="one"),
    _message("tools/list", {"cursor": "abc"}, id=-(2**53) + 1),
    b'{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":5,"reason":"no"}}',
    b'{"jsonrpc":"2.0","id":4,"result":{"content":[{"type":"text","text":"2"}],"isError":false}}',
    b'{"jsonrpc":"2.0","id":"a","error":{"code":-32602,"message":"Unknown tool","data":[1,2.5,{}]}}',
    rb' { "jsonrpc" : "2.0" , "id":1, "method":"tools\/call", "params":{"n\u0061me":"\ud83d\ude00","arguments":{}}} ',
]

FRAME = [
    b"".join(
        frames.encode(kind, stream, payload, flags)
        for kind, stream, payload, flags in (
            (frames.Kind.HELLO, 0, b"{}", 0),
            (frames.Kind.OPEN, 1, b'{"method":"POST"}', frames.Flag.END),
            (frames.Kind.DATA, 2**64 - 1, b"x" * 40, 0),
            (200, 3, b"?", frames.Flag.IGNORABLE),
            (frames.Kind.RESET, 7, b"", 0),
        )
    ),
    frames.HEADER.pack(frames.Kind.DATA, 0, frames.MAX_PAYLOAD + 1, 1) + b"xyz",
    frames.HEADER.pack(99, 0, 0, 1),
]

SSE = [
    sse.encode(b'{"jsonrpc":"2.0"}', event="message", id="7", retry=1500) + b": ping\r\n\r\n" + b"data\rdata: 2\r\r",
    b"\xef\xbb\xbfid: a\0b\nretry: 1x\n\n\n\ndata:" + b"x" * 600,
]

URL = [
    b"http://localhost:8080/mcp?x=1",
    b"HTTPS://[2001:db8::1]:443",
    b"http://127.1/ http://2130706433 http://0x7f.1",
    b"/mcp/a/b?x\nHost: localhost:80\nAuthorization: Bearer x\nMcp-Name: a\nOrigin: http://localhost:80",
    b"/\nHost: localhost\nMcp-\xff: a\nMcp-\xff: b",
    b"//x/../%2e%00\nHost: a.tunnel.localhost\nHost: b",
]

CEILING = [
    b'tools = ["check_stock"]\ntenants = ["*"]\nhosts = ["db.local:8080"]\nread_only = ["check_stock"]\n',
    b'tools = ["*"]\n[tenants]\nx = 1\n',
    b"tools = 1\nidempotent = [[]]\n",
]

SEEDS = {"frame": FRAME, "json": JSON, "sse": SSE, "url": URL, "ceiling": CEILING}
