from __future__ import annotations

import pytest

from tests.conformance import __main__ as conformance
from tests.conformance.checks import Allowed, Check
from tests.conformance.legs import DIRECT, HTTP, STDIO

PING = Check("ping", "ping-answers", "Ping", 1)
LIMIT = Allowed("2025-11-25", "ping", "ping-answers", "SUCCESS", "INFO", "a pipe cannot do it")


def test_the_official_suite_sees_no_difference_through_the_tunnel(capsys: pytest.CaptureFixture[str]) -> None:
    status = conformance.main([])

    said = capsys.readouterr().out
    assert status == 0, said
    assert len(said.splitlines()) == 10, "three ways for servers and two for clients, in two versions"


@pytest.mark.parametrize(
    ("direct", "http", "stdio", "wrong"),
    [
        ("SUCCESS", "SUCCESS", "INFO", []),
        ("SUCCESS", "SUCCESS", "SUCCESS", ["    no longer differs, so do not list it: ping: ping-answers"]),
        (
            "SUCCESS",
            "INFO",
            "INFO",
            ["    differs: ping: ping-answers (Ping): SUCCESS directly, INFO through the tunnel"],
        ),
        (
            "FAILURE",
            "FAILURE",
            "INFO",
            [
                "    failed: ping: ping-answers (Ping)",
                "    at least 1 should pass",
                "    differs: ping: ping-answers (Ping): FAILURE directly, INFO through the tunnel",
                "    no longer differs, so do not list it: ping: ping-answers",
            ],
        ),
    ],
)
def test_a_line_for_each_leg_and_below_it_what_is_wrong(direct: str, http: str, stdio: str, wrong: list[str]) -> None:
    ways = {DIRECT: direct, HTTP: http, STDIO: stdio}
    found = {name: {"2025-11-25": {PING: status}} for name, status in ways.items()}

    lines = conformance.judge("server", found, [LIMIT], {"2025-11-25": 1})

    assert [line.partition(":")[0] for line in lines if not line.startswith(" ")] == [
        f"2025-11-25 server {name}" for name in ways
    ]
    assert [line for line in lines if line.startswith(" ")] == wrong
