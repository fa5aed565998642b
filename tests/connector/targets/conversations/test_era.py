from __future__ import annotations

import pytest

from arrowslit.connector.targets.conversations.era import asks_modern, speaks_modern
from arrowslit.connector.targets.conversations.message import read_posted, read_said

VERSION = b"io.modelcontextprotocol/protocolVersion"


@pytest.mark.parametrize(
    ("answer", "modern"),
    [
        (b'"result": {"supportedVersions": ["2026-07-28"], "capabilities": {}}', True),
        (b'"result": {"supportedVersions": ["2025-11-25", "2026-07-28"]}', True),
        (b'"result": {"supportedVersions": ["2025-11-25"]}', False),
        (b'"result": {"supportedVersions": []}', False),
        (b'"result": {"supportedVersions": "2026-07-28"}', False),
        (b'"result": {}', False),
        (b'"result": 1', False),
        (b'"error": {"code": -32022, "message": "", "data": {"supported": ["2027-01-01"]}}', True),
        (b'"error": {"code": -32022, "message": ""}', True),
        (b'"error": {"code": -32022, "message": "", "data": {"supported": ["2025-06-18"]}}', False),
        (b'"error": {"code": -32601, "message": "Method not found"}', False),
        (b'"error": {"code": -32602, "message": "", "data": ""}', False),
        (b'"error": "no"', False),
    ],
)
def test_only_an_answer_of_the_modern_era_shows_a_modern_server(answer: bytes, modern: bool) -> None:
    said = read_said(b'{"jsonrpc": "2.0", "id": 1, ' + answer + b"}")
    assert said is not None
    assert speaks_modern(said) is modern


@pytest.mark.parametrize(
    ("meta", "header", "modern"),
    [
        (b"{}", None, False),
        (b"{}", "2025-11-25", False),
        (b"{}", "2026-07-28", True),
        (b"{}", "2099-01-01", True),
        (b'{"%s": "2026-07-28"}' % VERSION, None, True),
        (b'{"%s": "2026-07-28"}' % VERSION, "2025-11-25", True),
        (b'{"%s": 5}' % VERSION.replace(b"o", b"\\u006f", 1), None, True),
        (b"null", None, False),
    ],
)
def test_a_request_of_the_modern_era_names_its_version(meta: bytes, header: str | None, modern: bool) -> None:
    posted = read_posted(b'{"jsonrpc": "2.0", "id": 1, "method": "ping", "params": {"_meta": %s}}' % meta)
    assert asks_modern(posted, header) is modern
