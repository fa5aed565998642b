from __future__ import annotations

import json

import pytest

from benchmarks.loads import wrk
from benchmarks.loads.door import LEGACY, MODERN, Door, call
from benchmarks.machine.process import Failed
from benchmarks.upstreams.answers import answer


def test_what_wrk_prints_is_read_in_milliseconds_and_seconds() -> None:
    heard = wrk.parse("Running 1s test\nRESULT 2000 6000000 2000000 250 1500 4000 3\n")

    assert heard == wrk.Heard(2000, 6_000_000, 2.0, p50=0.25, p95=1.5, p99=4.0, failed=3)
    assert heard.per_second == 1000
    assert heard.megabytes_per_second == 3


def test_a_wrk_that_does_not_finish_is_an_error_with_its_words() -> None:
    with pytest.raises(Failed, match="unable to connect"):
        wrk.parse("unable to connect to 127.0.0.1:1 Connection refused\n")


def test_a_script_holds_the_whole_request_and_changes_only_its_id() -> None:
    door = Door(1, headers={"authorization": "Bearer key"}, era=MODERN)

    said = wrk.script(door, wrk.Load(16, 1, size=64, pause_ms=2), 5_000_000_000)

    assert "wrk.headers[ [==[authorization]==] ] = [==[Bearer key]==]" in said
    assert "wrk.headers[ [==[mcp-name]==] ] = [==[work]==]" in said
    assert f"wrk.body = [==[{call(MODERN, 5_000_000_000, 64)}]==]" in said
    assert call(MODERN, 5_000_000_000, 64).count('"id":5000000000') == 1
    assert "function delay() return 2 end" in said


@pytest.mark.parametrize("era", [LEGACY, MODERN])
def test_the_fast_server_answers_a_call_with_its_id_and_the_size_that_was_asked_for(era: str) -> None:
    said = json.loads(b"".join(answer(call(era, 7, 100).encode())))

    assert said["id"] == 7
    assert said["result"]["content"] == [{"type": "text", "text": "x" * 100}]


def test_the_fast_server_answers_each_id_as_it_came_and_notifications_not_at_all() -> None:
    asked = {"jsonrpc": "2.0", "id": "a-1", "method": "tools/call", "params": {"name": "work", "arguments": {}}}

    assert json.loads(b"".join(answer(json.dumps(asked).encode())))["id"] == "a-1"
    assert answer(b'{"jsonrpc":"2.0","method":"notifications/initialized"}') == ()
    assert json.loads(answer(b'{"jsonrpc":"2.0","id":1,"method":"no/such"}')[0])["error"]["code"] == -32601
